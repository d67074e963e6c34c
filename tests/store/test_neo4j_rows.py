"""Handles to row numbers: by table where the server's ids are dense, by search where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from kgkit.store.neo4j_read import rows_of


@pytest.mark.parametrize("spread", [1, 1_000_000], ids=["dense", "sparse"])
def test_rows_of_handles(spread: int) -> None:
    handles = np.array([7, 3, 9, 4], dtype=np.int64) * spread
    wanted = np.array([3, 5, 9, 10, -1, 7, 1 << 40], dtype=np.int64)
    wanted[:6] *= spread
    assert rows_of(handles, wanted).tolist() == [1, -1, 2, -1, -1, 0, -1]
    assert rows_of(handles[:0], wanted).tolist() == [-1] * 7
