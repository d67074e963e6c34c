"""Joining purchases by pair, against a dictionary."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from kgkit.aggregate import Pairs


def naive(rows: list[tuple[str, str, int | None, int | None, float | None]]) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for user, item, count, time, rating in rows:
        total, first, last, rated, best = out.get((user, item), (0, None, None, None, None))
        total += 1 if count is None else count
        if time is not None:
            first = time if first is None else min(first, time)
            last = time if last is None else max(last, time)
        when = float("-inf") if time is None else time
        if rating is not None and (rated is None or when >= rated):
            rated, best = when, rating
        out[user, item] = (total, first, last, rated, best)
    return {k: (total, first, last, best) for k, (total, first, last, _, best) in out.items()}


@pytest.mark.parametrize("buffer", [1, 7, 1000, 10**6])
def test_pairs_equal_a_naive_join_however_they_are_buffered(buffer: int) -> None:
    rng = random.Random(buffer)
    rows = [
        (
            f"u{rng.randrange(8)}",
            f"i{rng.randrange(9)}",
            rng.choice([None, 1, 2, 5]),
            rng.choice([None, rng.randrange(20)]),
            rng.choice([None, rng.randrange(5) + 0.5]),
        )
        for _ in range(3000)
    ]
    pairs = Pairs(buffer)
    for start in range(0, len(rows), 50):
        part = zip(*rows[start : start + 50], strict=True)
        kinds = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.float64())
        names = ("user", "item", "count", "time", "rating")
        pairs.add(pa.table({n: pa.array(c, k) for n, c, k in zip(names, part, kinds, strict=True)}))
    table = pairs.result().to_pylist()
    got = {(r["user"], r["item"]): (r["count"], r["first"], r["last"], r["rating"]) for r in table}
    assert len(got) == len(table)
    assert got == naive(rows)


def test_columns_that_are_absent_are_null_and_count_one() -> None:
    pairs = Pairs()
    assert not pairs
    pairs.add(pa.table({"user": ["a", "a"], "item": ["x", "x"]}))
    assert pairs
    assert pairs.result().to_pylist() == [
        {"user": "a", "item": "x", "count": 2, "first": None, "last": None, "rating": None}
    ]


def test_a_row_without_time_does_not_count_as_latest() -> None:
    pairs = Pairs()
    times = pa.array([5, None], pa.int64())
    pairs.add(pa.table({"user": ["a", "a"], "item": ["x", "x"], "time": times, "rating": [4.0, 1.0]}))
    assert pairs.result()["rating"].to_pylist() == [4.0]


def test_refunds_are_netted_and_sums_do_not_wrap_around() -> None:
    rows = [
        ("a", "x", 3),
        ("a", "x", -1),
        ("b", "x", 2),
        ("b", "x", -2),
        ("c", "x", 2**62),
        ("c", "x", 2**62),
        ("c", "x", 9),
    ]
    for buffer in (1, 100):
        pairs = Pairs(buffer)
        for user, item, count in rows:
            pairs.add(pa.table({"user": [user], "item": [item], "count": pa.array([count], pa.int64())}))
        got = {r["user"]: r["count"] for r in pairs.result().to_pylist()}
        assert got == {"a": 2, "c": 2**63 - 1}
