"""Vectors as bytes of float32: how both engines keep, beside the numbers, what `GraphStore.vectors_at` hands out.

An engine gives a list as numbers, one by one; bytes it gives as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Floats


def pack(matrix: Floats) -> list[bytes]:
    """The rows of a matrix [N, d]."""
    return [row.tobytes() for row in matrix.astype("<f4")]


def unpack(found: Sequence[bytes | Sequence[float]]) -> Floats:
    """float32 [N, d] of vectors as an engine gives them: bytes, or numbers where it has nothing else."""
    if all(isinstance(vector, bytes) for vector in found):
        whole: Floats = np.frombuffer(b"".join(found), dtype="<f4").reshape(len(found), -1 if found else 0)  # type: ignore[arg-type]
        return whole
    rows = [np.frombuffer(v, dtype="<f4") if isinstance(v, bytes) else v for v in found]
    return np.array(rows, dtype=np.float32)
