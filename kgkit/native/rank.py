"""Where held-out items stand, compiled."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from kgkit.lazy import np
from kgkit.native.build import load
from kgkit.native.threads import thread_count

if TYPE_CHECKING:
    import torch

    from kgkit.arrays import Floats, Ints


def rank_positives(
    scores: Floats | torch.Tensor,
    mask_start: Ints,
    mask_items: Ints,
    pos_start: Ints,
    pos_items: Ints,
) -> tuple[Ints, Ints] | None:
    """How many unmasked items of its row score higher than each positive, and how many others score the same.

    scores: float32 [B, n]. Row b's masked items are mask_items[mask_start[b]:mask_start[b + 1]], distinct within a row;
    its positives, of which none may be masked, are laid out alike. Scores tie where they are exactly equal; NaN counts as
    minus infinity.
    Returns two int64 [len(pos_items)], or None without compiled kernels. Raises ValueError for indices out of range.
    """
    library = load("rank")
    if library is None:
        return None
    table = scores if isinstance(scores, np.ndarray) else scores.detach().cpu().numpy()
    table = np.ascontiguousarray(table, dtype=np.float32)
    rows, n = table.shape
    arrays = [np.ascontiguousarray(a, dtype=np.int64) for a in (mask_start, mask_items, pos_start, pos_items)]
    for start, items in (arrays[:2], arrays[2:]):
        # The kernel reads where these point: a wrong index must raise here rather than crash there.
        if len(start) != rows + 1 or start[0] < 0 or (np.diff(start) < 0).any() or start[-1] > len(items):
            raise ValueError(f"CSR starts must rise from 0 to at most {len(items)} in {rows + 1} steps")
        if len(items) and (items.min() < 0 or items.max() >= n):
            raise ValueError(f"item indices must lie in 0..{n - 1}")
    better, equal = (np.zeros(len(arrays[3]), dtype=np.int64) for _ in range(2))
    library.kgkit_rank_positives(
        _pointer(table),
        ctypes.c_int64(rows),
        ctypes.c_int64(n),
        *(_pointer(a) for a in arrays),
        _pointer(better),
        _pointer(equal),
        ctypes.c_int32(thread_count()),
    )
    return better, equal


def _pointer(array: Floats | Ints) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
