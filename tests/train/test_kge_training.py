"""Training of knowledge-graph embeddings: every way of it learns a family tree, compiled code equals the readable one,
and odd data are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family import PLAIN, family_graph
from test_missing import graph_of

from kgkit.config import make_config
from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.evaluate.link_prediction import evaluate_links
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import TrainingGraph, Triples
from kgkit.native import triples as native
from kgkit.registry import load_model
from kgkit.run import Run
from kgkit.train.kge_model import KGEModel

CHANCE = 0.1  # MRR of random ranks among 50


def fitted(
    plugin: str, tmp_path: Path, data: tuple[TrainingGraph, TripleSplit] | None = None, **options: Any
) -> KGEModel:
    cls = load_model(plugin)
    settings = {**PLAIN, "epochs": 2, "validate_every": 100, **options}
    model = cls(make_config(cls.Config, settings))
    assert isinstance(model, KGEModel)
    graph, split = data or family_graph()
    model.fit(graph, split, Run.create(tmp_path, plugin, {}))
    return model


def mrr(model: KGEModel) -> float:
    return evaluate_links(model, model.split).metrics["test"]["mrr"]


WAYS: list[dict[str, Any]] = [
    {"loss": "softplus", "negatives": 5},
    {"loss": "cross-entropy", "negatives": 30, "shared": True},
    {"loss": "cross-entropy", "training": "1-vs-all"},
    {"loss": "cross-entropy", "training": "k-vs-all"},
]


@pytest.mark.parametrize(
    ("options", "reciprocal"),
    [*((way, r) for way in WAYS for r in (False, True)), ({"loss": "bce", "training": "k-vs-all"}, False)],
)
def test_every_way_of_training_learns(tmp_path: Path, options: dict[str, Any], reciprocal: bool) -> None:
    model = fitted(
        "complex", tmp_path, epochs=40, dim=16, learning_rate=0.05, reciprocal=reciprocal, **options
    )
    assert mrr(model) > 3 * CHANCE


KINDS = [
    ("transe", {"norm": "l1"}),
    ("transe", {"norm": "l2"}),
    ("distmult", {}),
    ("complex", {}),
    ("rotate", {}),
]


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("plugin", "options"), KINDS, ids=["l1", "l2", "distmult", "complex", "rotate"])
def test_compiled_training_equals_the_readable_one(
    tmp_path: Path, plugin: str, options: dict[str, Any], reciprocal: bool
) -> None:
    if not native.available(8):
        pytest.skip("no C compiler here")
    # Adam would make steps of the same size from gradients that are nothing but rounding.
    options = {**options, "reciprocal": reciprocal, "optimiser": "sgd"}
    fast, slow = (
        fitted(plugin, tmp_path, negatives=3, learning_rate=1.0, fused=fused, **options)
        for fused in (True, False)
    )
    assert fast.steps.fused() and not slow.steps.fused()
    begun = fitted(plugin, tmp_path, learning_rate=1e-30, **options)
    for name, table in fast.parameters.items():
        assert (table - begun.parameters[name]).abs().max() > 1e-4, "it has not moved"
        torch.testing.assert_close(table, slow.parameters[name], atol=2e-5, rtol=1e-4)


def test_dropout_penalties_and_shared_negatives_take_the_readable_road(tmp_path: Path) -> None:
    for options in ({"dropout": 0.1}, {"n3": 0.01}, {"l2": 0.01}, {"shared": True}):
        assert not fitted("complex", tmp_path, epochs=1, **options).steps.fused()


def test_l2_keeps_vectors_short(tmp_path: Path) -> None:
    free, held = (
        fitted("complex", tmp_path, epochs=10, learning_rate=0.1, l2=weight).parameters
        for weight in (0.0, 5.0)
    )
    for name, table in held.items():
        assert table.norm() < free[name].norm() / 2


@pytest.mark.parametrize("plugin", ["transe", "distmult"])
def test_unit_entities_stay_of_length_1(tmp_path: Path, plugin: str) -> None:
    model = fitted(plugin, tmp_path, unit=True, learning_rate=0.1)
    lengths = model.parameters["entity"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize(
    "plugin", ["transe", "transr", "distmult", "complex", "rotate", "conve", "convtranse", "rgcn"]
)
def test_published_settings_are_accepted(plugin: str) -> None:
    model = load_model(plugin)
    assert model.published
    for settings in model.published.values():
        assert vars(make_config(model.Config, settings)).items() >= settings.items()


@pytest.mark.parametrize("plugin", ["transe", "complex"])
def test_negatives_of_reciprocal_relations_are_not_known_facts(tmp_path: Path, plugin: str) -> None:
    """All are in place of tails, and filtered as such; the sampler's choice of ends does not matter."""
    model = fitted(plugin, tmp_path, epochs=1, reciprocal=True, negatives=10, sampler="bernoulli")
    steps, r = model.steps, model.split.relations
    model.epoch_begins(torch.Generator().manual_seed(4))
    batch = steps._draw(torch.arange(steps.facts.shape[1]))
    assert not batch.at_head.any()
    t = model.split.train
    known = set(zip(t.head.tolist(), t.relation.tolist(), t.tail.tolist(), strict=True))
    known |= {(b, q + r, a) for a, q, b in known}
    for h, q, drawn in zip(
        batch.facts[0].tolist(), batch.facts[1].tolist(), batch.negatives.tolist(), strict=True
    ):
        assert not {(h, q, e) for e in drawn} & known


@pytest.mark.parametrize("plugin", ["transe", "distmult", "complex", "rotate", "transr"])
def test_a_seed_gives_the_same_weights_on_any_number_of_threads(tmp_path: Path, plugin: str) -> None:
    before, tables = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tables.append(fitted(plugin, tmp_path, epochs=1).parameters)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(tables[0][name], tables[1][name]) for name in tables[0])


ONCE = [
    ("a", "likes", "b"),
    ("b", "likes", "c"),
    ("c", "likes", "a"),
    ("a", "once", "c"),
    ("d", "likes", "d"),
]


def small(duplicated: bool = False) -> tuple[TrainingGraph, TripleSplit]:
    """A relation with one fact, an entity that names itself, and, duplicated, every fact twice."""
    graph = graph_of(ONCE)
    t = graph.triples
    if duplicated:
        t = Triples(*(np.repeat(a, 2) for a in (t.head, t.relation, t.tail)))
    return graph, TripleSplit(t, graph.triples, graph.triples, len(graph.entities), len(graph.relations))


@pytest.mark.parametrize("duplicated", [False, True])
@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("transe", {}),
        ("transe", {"fused": False}),
        ("rotate", {"negatives": 4}),
        ("transr", {"sampler": "bernoulli"}),
        ("complex", {"training": "1-vs-all"}),
        ("complex", {"training": "k-vs-all", "loss": "bce"}),
        ("complex", {"shared": True, "negatives": 100}),
        ("complex", {"reciprocal": True, "n3": 0.1, "dropout": 0.2}),
    ],
)
def test_small_and_odd_data(tmp_path: Path, plugin: str, options: dict[str, Any], duplicated: bool) -> None:
    """A batch larger than the data, a relation with one fact, a loop, every fact twice, more negatives than entities."""
    model = fitted(plugin, tmp_path, small(duplicated), batch_size=10_000, **options)
    assert all(bool(table.isfinite().all()) for table in model.parameters.values())
    assert 0 < mrr(model) <= 1


def test_a_fact_given_twice_is_one_answer_of_k_vs_all(tmp_path: Path) -> None:
    once, twice = (
        fitted("complex", tmp_path, small(d), training="k-vs-all", loss="bce", learning_rate=0.1)
        for d in (False, True)
    )
    for name, table in once.parameters.items():
        torch.testing.assert_close(table, twice.parameters[name])


def test_no_training_fact(tmp_path: Path) -> None:
    graph, split = small()
    none = Triples(*(np.zeros(0, np.int64) for _ in range(3)))
    with pytest.raises(EmptyExtraction, match="no training fact"):
        fitted("complex", tmp_path, (graph, TripleSplit(none, split.valid, split.test, 4, 2)))


@pytest.mark.parametrize(
    ("plugin", "options", "said"),
    [
        ("complex", {"dim": 0}, "--dim must be >= 1"),
        ("rotate", {"dim": 0}, "--dim must be >= 1"),
        ("transr", {"dim": 0}, "--dim must be >= 1"),
        ("transr", {"relation_dim": -1}, "--relation-dim must be >= 0"),
        (
            "complex",
            {"training": "1-vs-all", "loss": "margin"},
            "--loss margin is not for --training 1-vs-all: use bce",
        ),
        ("rotate", {"training": "k-vs-all"}, "--loss self-adversarial is not for --training k-vs-all"),
        ("rotate", {"loss": "bce"}, "--loss must be one of margin"),
        ("complex", {"loss": "self-adversarial"}, "--loss must be one of"),
        ("transr", {"training": "k-vs-all", "loss": "cross-entropy"}, "cannot score all entities at once"),
        ("transr", {"shared": True}, "cannot share negatives"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, plugin: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fitted(plugin, tmp_path, **options)
