"""Negatives, splits and leak checks."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from kgkit.errors import ConfigError, EmptyExtraction, LeakError
from kgkit.evaluate.splits import LabelledPairs, Split, check_leaks, sample_negatives, split_pairs
from kgkit.graph import IdMap, Interactions, TrainingGraph, Triples


def bought(user: list[int] | np.ndarray, item: list[int] | np.ndarray) -> Interactions:
    u, v = np.asarray(user, dtype=np.int64), np.asarray(item, dtype=np.int64)
    return Interactions(u, v, np.ones_like(u), np.zeros_like(u), np.full(len(u), np.nan))


def graph_of(interactions: Interactions, users: int, items: int) -> TrainingGraph:
    none = np.empty(0, dtype=np.int64)
    return TrainingGraph(
        users=IdMap(pa.array([f"user-{i:06d}" for i in range(users)])),
        items=IdMap(pa.array([f"item-{i:06d}" for i in range(items)])),
        entities=IdMap(pa.array([f"item-{i:06d}" for i in range(items)])),
        relations=IdMap(pa.array([], pa.string())),
        item_entity=np.arange(items),
        interactions=interactions,
        triples=Triples(none, none, none),
    )


def random_purchases(users: int, items: int, n: int, seed: int = 0) -> Interactions:
    keys = np.unique(np.random.default_rng(seed).integers(0, users * items, n))
    return bought(keys // items, keys % items)


# User 0 bought 1 of 8 items, user 1 six, user 2 all, user 3 none, user 4 four.
UNEVEN = bought([0, *[1] * 6, *[2] * 8, *[4] * 4], [3, *range(6), *range(8), 0, 2, 4, 6])


def test_as_many_negatives_as_purchases_while_there_are_any():
    drawn = sample_negatives(UNEVEN, 5, 8, seed=0)
    assert np.bincount(drawn.user, minlength=5).tolist() == [1, 2, 0, 0, 4]
    keys = drawn.user * 8 + drawn.item
    assert len(np.unique(keys)) == len(keys)
    assert not np.isin(keys, UNEVEN.user * 8 + UNEVEN.item).any()
    assert not drawn.label.any()


def test_negatives_depend_on_nothing_but_purchases_and_seed():
    first, again, other = (sample_negatives(UNEVEN, 5, 8, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.item, again.item)
    assert not np.array_equal(first.item, other.item)


@pytest.mark.parametrize("have", [1, 3, 6], ids=["rejection", "listed", "listed, more than half"])
def test_negatives_are_uniform(have):
    users, items = 20_000, 10
    user = np.repeat(np.arange(users), have)
    drawn = sample_negatives(bought(user, np.tile(np.arange(have), users)), users, items, seed=3)
    counts = np.bincount(drawn.item, minlength=items)
    expected = users * min(have, items - have) / (items - have)
    assert not counts[:have].any()
    assert np.abs(counts[have:] - expected).max() < 5 * np.sqrt(expected)


def test_no_purchases_no_negatives():
    assert len(sample_negatives(bought([], []), 3, 4, seed=0)) == 0


def test_a_million_purchases_take_no_loop_over_users():
    purchases = random_purchases(100_000, 20_000, 1_000_000)
    started = time.perf_counter()
    drawn = sample_negatives(purchases, 100_000, 20_000, seed=0)
    assert time.perf_counter() - started < 10
    assert len(drawn) == len(purchases)


def test_split_has_the_published_sizes():
    purchases = random_purchases(1872, 3846, 21_240, seed=1)
    purchases = bought(purchases.user[:21_173], purchases.item[:21_173])
    graph = graph_of(purchases, 1872, 3846)
    split = split_pairs(graph, seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (25_408, 8_469, 8_469)
    check_leaks(split, graph)
    every = np.concatenate(
        [p.positives().user * 3846 + p.positives().item for p in (split.train, split.valid, split.test)]
    )
    np.testing.assert_array_equal(np.sort(every), purchases.user * 3846 + purchases.item)
    # Permuted together: each part is about half positives.
    for part in (split.train, split.valid, split.test):
        assert part.label.mean() == pytest.approx(0.5, abs=0.03)


def test_split_is_repeatable_and_seeded():
    graph = graph_of(UNEVEN, 5, 8)
    assert split_pairs(graph, 4).fingerprint == split_pairs(graph, 4).fingerprint
    assert split_pairs(graph, 4).fingerprint != split_pairs(graph, 5).fingerprint


def test_too_few_pairs_are_refused():
    with pytest.raises(EmptyExtraction, match="2 purchases and 2 negatives are too few"):
        split_pairs(graph_of(bought([0, 0], [1, 2]), 1, 5), seed=0)
    with pytest.raises(ConfigError, match="6:2:2"):
        split_pairs(graph_of(UNEVEN, 5, 8), seed=0, ratios=(8, 2))


def pairs(*rows: tuple[int, int, int]) -> LabelledPairs:
    user, item, label = (np.array(c) for c in zip(*rows, strict=True))
    return LabelledPairs(user.astype(np.int64), item.astype(np.int64), label.astype(np.float32))


CLEAN = Split(pairs((0, 3, 1), (0, 1, 0)), pairs((1, 0, 1)), pairs((1, 7, 0), (4, 0, 1)), users=5, items=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": pairs((0, 3, 1))}, r"1 pairs both in train and in test \(the first: user user-000000, item item-000003\)"),
        ({"valid": pairs((0, 1, 0), (0, 3, 1))}, "2 pairs both in train and in valid"),
        ({"valid": pairs((4, 0, 1))}, "1 pairs both in valid and in test"),
        ({"train": pairs((0, 3, 1), (0, 3, 1), (0, 3, 1))}, "1 pairs more than once in train"),
        ({"test": pairs((0, 3, 0), (4, 0, 1))}, "1 pairs with both labels, 1 negatives that are purchases"),
        ({"test": pairs((4, 2, 0))}, "1 negatives that are purchases of the graph"),
    ],
)  # fmt: skip
def test_leaks_are_named_and_counted(change, message):
    graph = graph_of(UNEVEN, 5, 8)
    check_leaks(CLEAN, graph)
    with pytest.raises(LeakError, match=message):
        check_leaks(replace(CLEAN, **change), graph)


def test_a_pair_in_all_parts_is_counted_for_each_two():
    leaky = Split(pairs((0, 3, 1)), pairs((0, 3, 1)), pairs((0, 3, 1)), users=5, items=8)
    with pytest.raises(
        LeakError, match=r"train and in test, 1 pairs both in train and in valid, 1 pairs both in valid"
    ):
        check_leaks(leaky, graph_of(UNEVEN, 5, 8))


def test_answers_among_the_input_leak():
    with pytest.raises(
        LeakError, match="7 predictions of a model among the training input; leave what models wrote"
    ):
        check_leaks(CLEAN, graph_of(UNEVEN, 5, 8), answers_in_input=7)
