"""Splits of facts: what each way promises, the same for a seed, and what is asked for in vain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kgkit.arrays import Bytes, Ints
from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.evaluate.triple_split import PARTS, TripleSplit, count_unseen, load, save, split_triples
from kgkit.graph import IdMap, Interactions, TrainingGraph, Triples

Row = tuple[int, int, int]


def graph_of(
    rows: list[Row] | Ints, split: list[int] | Bytes | None = None, time: list[int] | Ints | None = None
) -> TrainingGraph:
    """A graph of facts alone, in their order."""
    facts = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
    none = np.zeros(0, dtype=np.int64)
    nothing = IdMap(pa.array([], pa.string()))
    entities, relations = int(facts[:, [0, 2]].max(initial=-1)) + 1, int(facts[:, 1].max(initial=-1)) + 1
    return TrainingGraph(
        users=nothing,
        items=nothing,
        entities=IdMap(pa.array([f"e{i:07}" for i in range(entities)], pa.string())),
        relations=IdMap(pa.array([f"r{i:05}" for i in range(relations)], pa.string())),
        item_entity=none,
        interactions=Interactions(none, none, none, none, np.zeros(0)),
        triples=Triples(
            facts[:, 0].copy(),
            facts[:, 1].copy(),
            facts[:, 2].copy(),
            None if split is None else np.asarray(split, dtype=np.int8),
            None if time is None else np.asarray(time, dtype=np.int64),
        ),
    )


def random_rows(n: int, entities: int, relations: int, seed: int = 0) -> Ints:
    rng = np.random.default_rng(seed)
    sizes = (entities, relations, entities)
    return np.unique(np.stack([rng.integers(0, s, n) for s in sizes], 1), axis=0)


def rows_of(part: Triples) -> list[Row]:
    return list(zip(part.head.tolist(), part.relation.tolist(), part.tail.tolist(), strict=True))


def check_parts(split: TripleSplit, graph: TrainingGraph) -> None:
    """Every fact is in one part, and each part is in the facts' order."""
    found = [rows_of(part) for part in (split.train, split.valid, split.test)]
    assert sorted(row for part in found for row in part) == rows_of(graph.triples)
    assert all(part == sorted(part) for part in found)
    assert (split.entities, split.relations) == (len(graph.entities), len(graph.relations))


@pytest.mark.parametrize("seed", range(5))
def test_random_leaves_every_entity_and_relation_a_training_fact(seed: int) -> None:
    graph = graph_of(random_rows(600, 80, 9, seed))
    split = split_triples(graph, "random", seed=seed)
    check_parts(split, graph)
    n = len(graph.triples)
    assert (len(split.valid), len(split.test)) == (n // 10, n // 10)
    assert set(split.train.relation.tolist()) == set(graph.triples.relation.tolist())
    named = set(graph.triples.head.tolist()) | set(graph.triples.tail.tolist())
    assert set(np.flatnonzero(split.seen).tolist()) == named
    assert count_unseen(split) == {"train": 0, "valid": 0, "test": 0}


def test_random_shrinks_the_parts_where_few_facts_can_be_spared() -> None:
    # A star of 40 leaves, each in one fact only, and a square with both diagonals, of which four facts can go.
    square = [(a, 0, b) for a in range(4) for b in range(4) if a < b] + [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
        (3, 0, 2),
    ]
    graph = graph_of(sorted(square + [(0, 0, leaf) for leaf in range(4, 44)]))
    split = split_triples(graph, "random", (2, 1, 1))
    check_parts(split, graph)
    assert 2 <= len(split.valid) == len(split.test) <= 4  # 12 are asked for each
    assert count_unseen(split)["test"] == 0


def test_random_differs_by_seed_and_by_nothing_else() -> None:
    graph = graph_of(random_rows(300, 40, 4))
    first, again, other = (split_triples(graph, "random", seed=s).fingerprint for s in (1, 1, 2))
    assert first == again != other


def test_random_takes_every_fact_as_often() -> None:
    """Where nothing has to be kept, each of n facts is a test fact with the same chance."""
    complete = graph_of([(a, 0, b) for a in range(6) for b in range(6) if a != b])
    times: dict[Row, int] = dict.fromkeys(rows_of(complete.triples), 0)
    for seed in range(400):
        for row in rows_of(split_triples(complete, "random", seed=seed).test):
            times[row] += 1
    assert sum(times.values()) == 400 * 3
    assert min(times.values()) > 15 and max(times.values()) < 65  # 40 expected, sqrt(40 * 0.9) = 6


def test_by_relation_parts_each_in_the_ratio() -> None:
    rows = [(a, 0, a + 1) for a in range(20)] + [(a, 1, a + 1) for a in range(3)] + [(0, 2, 2), (1, 2, 3)]
    graph = graph_of(sorted(rows))
    split = split_triples(graph, "by-relation", (8, 1, 1))
    check_parts(split, graph)
    counts = [
        np.bincount(part.relation, minlength=3).tolist() for part in (split.train, split.valid, split.test)
    ]
    assert counts == [[16, 1, 2], [2, 1, 0], [2, 1, 0]]
    every = split_triples(graph, "by-relation", (1, 1, 8))  # training keeps one of the three
    assert np.bincount(every.train.relation).tolist() == [2, 1, 2]
    lean = split_triples(graph, "by-relation", (1, 10, 1))
    assert np.bincount(lean.train.relation)[1] == np.bincount(lean.test.relation)[1] == 1


def test_by_time_trains_on_the_past() -> None:
    rows = random_rows(200, 30, 3)
    time = np.random.default_rng(3).permutation(len(rows)) + 1
    time[:50] = 0
    graph = graph_of(rows, time=time)
    split = split_triples(graph, "by-time", (6, 2, 2))
    check_parts(split, graph)
    when = dict(zip(rows_of(graph.triples), time.tolist(), strict=True))
    train, valid, test = ([when[r] for r in rows_of(p)] for p in (split.train, split.valid, split.test))
    assert max(train) < min(valid) and max(valid) < min(test)
    timed = len(rows) - 50
    assert train.count(0) == 50 and (len(valid), len(test)) == (timed // 5, timed // 5)


def test_given_labels_are_followed_and_are_the_default() -> None:
    rows = random_rows(60, 12, 2)
    labels = np.arange(len(rows)) % 4 - 1
    graph = graph_of(rows, split=labels)
    for how in ("given", None):
        split = split_triples(graph, how)
        check_parts(split, graph)
        assert rows_of(split.valid) == [tuple(r) for r in rows[labels == 1].tolist()]
        assert rows_of(split.test) == [tuple(r) for r in rows[labels == 2].tolist()]
    unlabelled = graph_of(rows, split=np.full(len(rows), -1))
    assert split_triples(unlabelled).fingerprint == split_triples(unlabelled, "random").fingerprint


@pytest.mark.parametrize(
    ("graph", "how", "error", "message"),
    [
        (graph_of([(0, 0, 1)]), "at-random", ConfigError, "at-random.*given, random, by-relation, by-time"),
        (graph_of([(0, 0, 1)]), "given", ConfigError, "no fact has a label.*--split train.*--split random"),
        (graph_of([(0, 0, 1)], time=[0]), "by-time", ConfigError, "no fact has a time.*--time-column"),
        (
            graph_of([(0, 0, 1), (1, 0, 0)], split=[0, 1]),
            "given",
            EmptyExtraction,
            "nothing for test of 2 facts.*--split train.*or choose --split random",
        ),
        (graph_of([(0, 0, i) for i in range(1, 30)]), "random", EmptyExtraction, "valid and test.*by-relation"),
        (graph_of([(0, 0, 1), (1, 1, 0)]), "by-relation", EmptyExtraction, "no relation has three"),
        (graph_of([(0, 0, 1), (1, 0, 0)], time=[1, 2]), "by-time", EmptyExtraction, "too few have a time"),
        (graph_of([]), None, EmptyExtraction, "of 0 facts"),
    ],
)  # fmt: skip
def test_what_cannot_be_parted_says_what_to_do(
    graph: TrainingGraph, how: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        split_triples(graph, how)
    assert "\n" not in str(caught.value)


def test_ratios_are_checked() -> None:
    with pytest.raises(ConfigError, match="three positive ratios"):
        split_triples(graph_of([(0, 0, 1)]), "random", (8, 2))


def test_unseen_entities_are_counted_by_part() -> None:
    graph = graph_of([(0, 0, 1), (0, 0, 4), (1, 0, 0), (2, 0, 3), (3, 0, 0)], split=[0, 1, 0, 2, 2])
    assert count_unseen(split_triples(graph)) == {"train": 0, "valid": 1, "test": 2}


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    split = split_triples(graph_of(random_rows(200, 30, 3)), "random")
    with (tmp_path / "split.dat").open("wb") as file:
        save(split, file)
    again = load(tmp_path / "split.dat")
    assert again.fingerprint == split.fingerprint
    assert (again.entities, again.relations) == (split.entities, split.relations)
    assert again.test.head.dtype == np.int64
    with np.load(tmp_path / "split.dat") as data:
        assert {data[name].dtype for name in PARTS} == {np.dtype(np.int32)}


@pytest.mark.parametrize("content", [None, b"", b"no npz", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_split_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "split.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"split\.npz.*train again"):
        load(path)
    np.savez(path, shape=np.array([1, 2]))
    with pytest.raises(ConfigError, match="not a readable split"):
        load(path)
