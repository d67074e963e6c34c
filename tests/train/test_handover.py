"""`--init-from`: vectors of one run as the beginning of another, and what cannot be begun from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import family
import numpy as np
import pytest

from kgkit import pipeline
from kgkit.errors import ConfigError
from kgkit.extract import Extraction, extract
from kgkit.graph import TrainingGraph
from kgkit.handover import vectors_of
from kgkit.pipeline import TrainOptions
from kgkit.queries import TRIPLES
from kgkit.run import Run
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

QUICK = {**family.PLAIN, "epochs": 1, "batch_size": 64, "validate_on": 5}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GraphStore]:
    with open_store(tmp_path / "family.lbug") as opened:
        family.fill(opened)
        yield opened


def graph_in(store: GraphStore) -> TrainingGraph:
    return extract(store, Extraction((TRIPLES,), labels=True))


def train(store: GraphStore, plugin: str, runs: Path, write_back: bool = True, **more: Any) -> Run:
    options = {k: more.pop(k) for k in ("init_from", "triples_query") if k in more}
    asked = TrainOptions(runs=runs, write_back=write_back, **options)
    return pipeline.train(store, plugin, {**QUICK, **more}, asked)


def test_from_the_graph_by_id_and_from_the_folder(store: GraphStore, tmp_path: Path) -> None:
    first = train(store, "transe", tmp_path)
    graph = graph_in(store)
    model = pipeline.restored(store, first)[0]
    written = vectors_of(store, first.id, tmp_path / "no runs here", graph)
    assert set(written) == {"Entity", "Relation"}
    np.testing.assert_allclose(written["Entity"], model.embeddings()["Entity"], rtol=1e-6)
    np.testing.assert_allclose(written["Relation"], model.embeddings()["Relation"], rtol=1e-6)
    # Another run of the plugin takes its place in the graph: then they come from the folder.
    train(store, "transe", tmp_path, seed=5)
    kept = vectors_of(store, first.id, tmp_path, graph)
    np.testing.assert_array_equal(kept["Entity"], model.embeddings()["Entity"])


def test_a_model_begins_where_the_other_ended(store: GraphStore, tmp_path: Path) -> None:
    """At a learning rate of almost nothing, TransR keeps TransE's entities and relations."""
    first = train(store, "transe", tmp_path, write_back=False, unit=True)  # within TransR's ball
    run = train(store, "transr", tmp_path, init_from=first.id, learning_rate=1e-12, optimiser="sgd")
    mine, theirs = (pipeline.restored(store, r)[0].embeddings() for r in (run, first))
    np.testing.assert_allclose(mine["Entity"], theirs["Entity"], atol=1e-6)
    long = np.maximum(np.linalg.norm(theirs["Relation"], axis=1, keepdims=True), 1)
    np.testing.assert_allclose(mine["Relation"], theirs["Relation"] / long, atol=1e-6)


def test_relations_of_another_form_are_left(store: GraphStore, tmp_path: Path) -> None:
    """RotatE of 4 complex numbers takes DistMult's 8 floats an entity, and keeps its own angles, 4 a relation."""
    first = train(store, "distmult", tmp_path)
    settings = {"dim": 4, "learning_rate": 1e-12}
    run, plain = (train(store, "rotate", tmp_path, init_from=i, **settings) for i in (first.id, None))
    begun, own, theirs = (pipeline.restored(store, r)[0].embeddings() for r in (run, plain, first))
    np.testing.assert_allclose(begun["Entity"], theirs["Entity"], atol=1e-6)
    np.testing.assert_allclose(begun["Relation"], own["Relation"], atol=1e-6)


def test_a_reciprocal_run_hands_over_both_vectors_of_a_relation(store: GraphStore, tmp_path: Path) -> None:
    first = train(store, "complex", tmp_path, reciprocal=True)
    run = train(store, "complex", tmp_path, init_from=first.id, reciprocal=True, learning_rate=1e-12)
    mine, theirs = (pipeline.restored(store, r)[0].embeddings() for r in (run, first))
    assert theirs["Relation"].shape == (4, 32)
    np.testing.assert_allclose(mine["Relation"], theirs["Relation"], atol=1e-6)


def test_a_wrong_dimension_is_named(store: GraphStore, tmp_path: Path) -> None:
    first = train(store, "transe", tmp_path, dim=7)
    with pytest.raises(ConfigError, match="52 of 7 dimensions, and distmult has 52 of 8: train with --dim"):
        train(store, "distmult", tmp_path, init_from=first.id)
    with pytest.raises(ConfigError, match="52 of 7 dimensions, and complex has 52 of 8"):
        train(store, "complex", tmp_path, init_from=first.id, dim=4)


def test_entities_without_a_vector_are_counted(store: GraphStore, tmp_path: Path) -> None:
    first = train(
        store,
        "transe",
        tmp_path,
        triples_query="MATCH (a:Entity)-[f:FACT]->(b:Entity) WHERE a.id STARTS WITH 'p0' "
        "RETURN a.id AS head, f.relation AS relation, b.id AS tail",
    )
    with pytest.raises(
        ConfigError, match=r"39 of 52 Entity nodes have no vector of run transe-.* \(the first: p1\)"
    ):
        train(store, "distmult", tmp_path, init_from=first.id)


def test_unknown_and_ambiguous_runs(store: GraphStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run 'transe'"):
        train(store, "distmult", tmp_path, init_from="transe")
    ids = [train(store, "transe", tmp_path, seed=s).id for s in (0, 1)]
    with pytest.raises(ConfigError, match="several runs start with 'transe'") as said:
        train(store, "distmult", tmp_path, init_from="transe")
    assert all(i in str(said.value) for i in ids)


def test_a_checkpoint_of_another_graph_is_refused(store: GraphStore, tmp_path: Path) -> None:
    first = train(store, "transe", tmp_path, write_back=False)
    store.delete_nodes("Entity", ["p000"])
    with pytest.raises(ConfigError, match="was trained on another graph"):
        train(store, "distmult", tmp_path, init_from=first.id)


def test_vectors_in_the_graph_outlive_a_change_of_it(store: GraphStore, tmp_path: Path) -> None:
    """Written back, they go by id: a graph that has lost an entity can begin from them."""
    first = train(store, "transe", tmp_path)
    before = vectors_of(store, first.id, tmp_path, graph_in(store))["Entity"]
    store.delete_nodes("Entity", ["p000"])
    graph = graph_in(store)
    after = vectors_of(store, first.id, tmp_path, graph)["Entity"]
    assert len(after) == 51
    np.testing.assert_array_equal(after, np.delete(before, 2, axis=0))  # p0, p00, p000


def test_vectors_that_a_model_has_no_table_for(store: GraphStore, tmp_path: Path) -> None:
    from kgkit.registry import load_model

    cls = load_model("transe")
    model = cls(cls.Config(device="cpu"))
    model.prepare(*family.family_graph())  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="transe has no table for the vectors of User"):
        model.begin_from({"User": np.zeros((3, 8), np.float32)})  # type: ignore[attr-defined]
