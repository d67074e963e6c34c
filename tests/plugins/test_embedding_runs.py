"""ComplEx, RotatE and TransR from end to end: they learn a family tree from the graph, resume, and write back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import family
import numpy as np
import pytest
import torch

from kgkit import pipeline
from kgkit.missing import SIDES
from kgkit.model import LinkPredictor
from kgkit.nn.similarity import paired
from kgkit.pipeline import TrainOptions
from kgkit.predict import Node, predict, standing_run
from kgkit.run import Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

SETTINGS: dict[str, dict[str, Any]] = {
    "complex": {"dim": 16, "negatives": 10, "learning_rate": 0.05},
    "rotate": {"dim": 16, "negatives": 10, "learning_rate": 0.02, "margin": 6.0},
    "transr": {"dim": 16, "negatives": 5, "learning_rate": 0.02},
}
LOOKS = {**family.PLAIN, "epochs": 60, "validate_every": 20}
WIDTHS = {"complex": (32, 32), "rotate": (32, 16), "transr": (16, 16)}
CHANCE = 0.1  # MRR of random ranks among 50


@pytest.fixture(scope="module")
def family_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphStore]:
    with open_store(tmp_path_factory.mktemp("family") / "family.lbug") as store:
        family.fill(store)
        yield store


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("plugin", SETTINGS)
def test_it_learns_and_writes_back(
    family_store: GraphStore, tmp_path: Path, plugin: str, reciprocal: bool
) -> None:
    settings = {**LOOKS, **SETTINGS[plugin], "reciprocal": reciprocal}
    run = pipeline.train(family_store, plugin, settings, TrainOptions(runs=tmp_path))
    assert run.record["metrics"]["test"]["mrr"] > 3 * CHANCE
    entity, relation = WIDTHS[plugin]
    for label, rows, width in (("Entity", 52, entity), ("Relation", 4, relation * (1 + reciprocal))):
        ids, vectors = family_store.read_vectors(label, f"embedding_{plugin}")
        assert len(ids) == rows and vectors.shape == (rows, width) and np.isfinite(vectors).all()
    assert pipeline.evaluate_again(family_store, Run.open(tmp_path, run.id)) == run.record["metrics"]


@pytest.mark.parametrize("plugin", SETTINGS)
def test_a_resumed_run_ends_with_the_same_metrics(
    family_store: GraphStore, tmp_path: Path, plugin: str
) -> None:
    settings = {**LOOKS, **SETTINGS[plugin], "epochs": 6, "validate_every": 2}
    options = TrainOptions(runs=tmp_path, write_back=False)
    whole = pipeline.train(family_store, plugin, settings, options)

    def stop(event: str, data: Mapping[str, Any]) -> None:
        if event == "epoch" and data["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(family_store, plugin, settings, options, stop)
    resumed = pipeline.resume(family_store, Run.open(tmp_path, list_runs(tmp_path)[-1]["id"]))
    assert resumed.record["metrics"] == whole.record["metrics"]
    assert [t["loss"] for t in resumed.trace()] == [t["loss"] for t in whole.trace()]


@pytest.mark.parametrize("plugin", SETTINGS)
def test_a_fact_is_completed_from_what_the_graph_holds(
    family_store: GraphStore, tmp_path: Path, plugin: str
) -> None:
    """Vectors in the graph answer as the model in the run's folder does."""
    run = pipeline.train(
        family_store, plugin, {**LOOKS, **SETTINGS[plugin], "epochs": 2}, TrainOptions(runs=tmp_path)
    )
    told: list[str] = []
    standing = standing_run(family_store, plugin)
    model, graph, _ = pipeline.restored(family_store, run)
    assert isinstance(model, LinkPredictor)
    e, r = torch.tensor([graph.entities.index("p11")]), torch.tensor([graph.relations.index("child_of")])
    for side in SIDES:
        found = predict(
            family_store, standing, Node("p11"), "child_of", side, top=5, runs=tmp_path, tell=told.append
        )
        query = model.tail_queries(e, r) if side == "tail" else model.head_queries(r, e)
        scores = paired(model.similarity, query, model.candidates(int(r)))
        assert found
        for one in found:
            assert one.score == pytest.approx(float(scores[graph.entities.index(one.node.id)]), abs=1e-4)
    assert told == []
