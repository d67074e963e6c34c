"""Compiled ranks against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kgkit.native import rank_positives


def csr(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return starts, np.array([x for row in rows for x in row], dtype=np.int64)


@pytest.fixture(autouse=True)
def needs_compiler() -> None:
    empty = np.zeros(1, np.int64)
    if rank_positives(np.zeros((0, 3), np.float32), empty, empty[:0], empty, empty[:0]) is None:
        pytest.skip("no C compiler here")


def test_ties_rank_by_index() -> None:
    """Scores 5 7 7 1 7: item 4 stands behind 1 and 2; with 1 masked, behind 2 alone."""
    scores = np.array([[5, 7, 7, 1, 7]] * 2, dtype=np.float32)
    ranks = rank_positives(scores, *csr([[], [1]]), *csr([[4, 1], [4]]))
    assert ranks is not None and ranks.tolist() == [2, 0, 1]


def test_nan_stands_last() -> None:
    """A model that diverged must not rank first."""
    scores = np.array([[1, np.nan, 3, np.nan]], dtype=np.float32)
    ranks = rank_positives(scores, *csr([[0]]), *csr([[1, 2, 3]]))
    assert ranks is not None and ranks.tolist() == [1, 0, 2]


def test_against_counting() -> None:
    rng = np.random.default_rng(0)
    rows, n = 30, 200
    scores = rng.integers(0, 40, (rows, n)).astype(np.float32)
    masked = [rng.choice(n, rng.integers(0, 50), replace=False).tolist() for _ in range(rows)]
    wanted = [rng.choice(n, rng.integers(0, 9), replace=False).tolist() for _ in range(rows)]
    expected = []
    for row, hidden, positives in zip(scores, masked, wanted, strict=True):
        for p in positives:
            others = [j for j in range(n) if j not in hidden and j != p]
            expected.append(sum(row[j] > row[p] or (row[j] == row[p] and j < p) for j in others))
    ranks = rank_positives(torch.from_numpy(scores), *csr(masked), *csr(wanted))
    assert ranks is not None and ranks.tolist() == expected


def test_wrong_indices_raise() -> None:
    with pytest.raises(ValueError, match="item indices"):
        rank_positives(np.zeros((1, 3), np.float32), *csr([[3]]), *csr([[0]]))
    with pytest.raises(ValueError, match="CSR"):
        rank_positives(np.zeros((2, 3), np.float32), *csr([[1]]), *csr([[0], [1]]))


def test_without_compiled_kernels_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    assert rank_positives(np.zeros((1, 3), np.float32), *csr([[1]]), *csr([[0]])) is None
