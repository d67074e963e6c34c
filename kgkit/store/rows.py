"""Of rows that say the same thing several times, the last: what both engines' upserts begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Ints


def last_of_each(key: Ints) -> tuple[Ints, Ints]:
    """Row numbers of the last row of each distinct key, and those keys, in the keys' order. key: int64 [N]."""
    order = np.argsort(key)
    ordered = key[order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    if first.all():
        return order, ordered
    return np.maximum.reduceat(order, np.flatnonzero(first)), ordered[first]


def last_rows(key: Ints) -> Ints:
    """The same row numbers in the order of the rows."""
    return np.sort(last_of_each(key)[0])
