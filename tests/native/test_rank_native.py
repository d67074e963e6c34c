"""Compiled ranks against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kgkit.evaluate.ranking import UserItems, count_places
from kgkit.native import rank_positives


def csr(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return starts, np.array([x for row in rows for x in row], dtype=np.int64)


@pytest.fixture(autouse=True)
def needs_compiler() -> None:
    empty = np.zeros(1, np.int64)
    if rank_positives(np.zeros((0, 3), np.float32), empty, empty[:0], empty, empty[:0]) is None:
        pytest.skip("no C compiler here")


def as_lists(counts) -> list[list[int]]:
    assert counts is not None
    return [c.tolist() for c in counts]


def test_ties_are_counted_apart() -> None:
    """Scores 5 7 7 1 7: item 4 ties with 1 and 2; with 1 masked, with 2 alone."""
    scores = np.array([[5, 7, 7, 1, 7]] * 2, dtype=np.float32)
    assert as_lists(rank_positives(scores, *csr([[], [1]]), *csr([[4, 1, 0], [4]]))) == [
        [0, 0, 3, 0],
        [2, 2, 0, 1],
    ]


def test_no_number_counts_as_minus_infinity() -> None:
    """A model that diverged must not rank first."""
    scores = np.array([[1, np.nan, 3, np.nan, -np.inf]], dtype=np.float32)
    assert as_lists(rank_positives(scores, *csr([[0]]), *csr([[1, 2, 3, 4]]))) == [[1, 0, 1, 1], [2, 0, 2, 2]]
    assert as_lists(rank_positives(scores, *csr([[3]]), *csr([[1]]))) == [[2], [1]]


def test_against_counting() -> None:
    rng = np.random.default_rng(0)
    rows, n = 30, 200
    scores = rng.integers(0, 40, (rows, n)).astype(np.float32)
    scores[:, ::9] = np.nan
    masked = [rng.choice(n, rng.integers(0, 50), replace=False).tolist() for _ in range(rows)]
    wanted = [rng.choice(n, rng.integers(0, 9), replace=False).tolist() for _ in range(rows)]
    masked = [[j for j in hidden if j not in own] for hidden, own in zip(masked, wanted, strict=True)]
    better, equal = [], []
    for row, hidden, positives in zip(np.nan_to_num(scores, nan=-np.inf), masked, wanted, strict=True):
        for p in positives:
            others = [row[j] for j in range(n) if j not in hidden and j != p]
            better.append(sum(bool(x > row[p]) for x in others))
            equal.append(sum(bool(x == row[p]) for x in others))
    table, where = torch.from_numpy(scores), (*csr(masked), *csr(wanted))
    assert as_lists(rank_positives(table, *where)) == [better, equal]
    twin = count_places(table, UserItems(*where[:2]), UserItems(*where[2:]), memory=10_000)
    assert as_lists(twin) == [better, equal]


def test_wrong_indices_raise() -> None:
    with pytest.raises(ValueError, match="item indices"):
        rank_positives(np.zeros((1, 3), np.float32), *csr([[3]]), *csr([[0]]))
    with pytest.raises(ValueError, match="CSR"):
        rank_positives(np.zeros((2, 3), np.float32), *csr([[1]]), *csr([[0], [1]]))


def test_without_compiled_kernels_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    assert rank_positives(np.zeros((1, 3), np.float32), *csr([[1]]), *csr([[0]])) is None
