"""What needs no server: handles to row numbers, by table where ids are dense and by search where not; parameters."""

from __future__ import annotations

import numpy as np
import pytest

from kgkit.store.neo4j_connection import parameters
from kgkit.store.neo4j_read import rows_of


@pytest.mark.parametrize("spread", [1, 1_000_000], ids=["dense", "sparse"])
def test_rows_of_handles(spread: int) -> None:
    handles = np.array([7, 3, 9, 4], dtype=np.int64) * spread
    wanted = np.array([3, 5, 9, 10, -1, 7, 1 << 40], dtype=np.int64)
    wanted[:6] *= spread
    assert rows_of(handles, wanted).tolist() == [1, -1, 2, -1, -1, 0, -1]
    assert rows_of(handles[:0], wanted).tolist() == [-1] * 7


def test_long_parameters_are_short_in_a_log() -> None:
    sent = parameters({"rows": [[1, [0.5] * 64]] * 1000, "prop": "x"})
    assert repr(sent) == "{'rows': [1000 values], 'prop': 'x'}"
    assert sent == {"rows": [[1, [0.5] * 64]] * 1000, "prop": "x"}
