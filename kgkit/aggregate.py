"""Purchases of one source joined by pair of user and item, in memory that grows with pairs and not with rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Ints

_NEVER = int(np.iinfo(np.int64).min)  # the time of a row that has none, when the latest rating is looked for
_EVER = int(np.iinfo(np.int64).max)
_OPTIONAL = {"count": pa.int64(), "time": pa.int64(), "rating": pa.float64()}


class Pairs:
    """Counts are added, first and last time kept, and the rating is that of the latest rated row.

    Counts may be negative (refunds): a pair of which nothing is left is no purchase, and does not come out. A sum beyond
    int64 is the largest int64. Of equal times the later row counts. About 50 bytes a pair, and up to `buffer` rows beside.
    """

    def __init__(self, buffer: int = 5_000_000) -> None:
        self._buffer = buffer
        self._state: pa.Table | None = None
        self._fresh: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Takes rows with the columns of `kgkit.records.Purchases`."""
        if not table.num_rows:
            return
        have = set(table.column_names)
        cells: dict[str, Any] = {c: _codes(table[c]) for c in ("user", "item")}
        for name, kind in _OPTIONAL.items():
            cells[name] = table[name].cast(kind) if name in have else pa.nulls(table.num_rows, kind)
        cells["count"] = pc.fill_null(cells["count"], 1)
        rated = pc.fill_null(cells["time"], _NEVER)
        fresh = {
            "user": cells["user"],
            "item": cells["item"],
            "count": cells["count"],
            "first": cells["time"],
            "last": cells["time"],
            "rating": cells["rating"],
            "rated": rated,
        }
        self._fresh.append(pa.table(fresh))
        self._rows += table.num_rows
        # Waiting for as many new rows as there are pairs keeps the work linear in the rows.
        if self._rows >= max(self._buffer, self._state.num_rows if self._state is not None else 0):
            self._compact()

    def __bool__(self) -> bool:
        return bool(self._fresh) or self._state is not None

    def result(self) -> pa.Table:
        """user, item (string), count, first, last (int64), rating (float64), a row a pair, grouped by user."""
        self._compact()
        assert self._state is not None
        table = self._state.drop_columns(["rated"]).filter(pc.greater(self._state["count"], 0))
        for i, name in enumerate(("user", "item")):
            table = table.set_column(i, name, table[name].cast(pa.string()))
        return table

    def _compact(self) -> None:
        if not self._fresh:
            return
        tables = [] if self._state is None else [self._state]
        table = pa.concat_tables(tables + self._fresh).unify_dictionaries().combine_chunks()
        self._fresh, self._rows = [], 0
        user, item = table["user"].chunk(0), table["item"].chunk(0)
        width = len(item.dictionary)
        key = user.indices.to_numpy().astype(np.int64) * width + item.indices.to_numpy()
        # Pair by pair, and within a pair by time; both sorts are stable, so that of equal times the later row is last.
        order = _by_time_within(key, _numbers(table["rated"], _NEVER))
        key = key[order]
        start = np.flatnonzero(np.diff(key, prepend=-1))
        pairs = key[start]
        first = np.minimum.reduceat(_numbers(table["first"], _EVER)[order], start)
        last = np.maximum.reduceat(_numbers(table["last"], _NEVER)[order], start)
        rated = np.asarray(pc.is_valid(table["rating"]))[order]
        latest = np.maximum.reduceat(np.where(rated, np.arange(len(order)), -1), start)
        unrated = latest < 0
        row = pa.array(order[np.maximum(latest, 0)], mask=unrated)
        self._state = pa.table(
            {
                "user": pa.DictionaryArray.from_arrays((pairs // width).astype(np.int32), user.dictionary),
                "item": pa.DictionaryArray.from_arrays((pairs % width).astype(np.int32), item.dictionary),
                "count": _sums(_numbers(table["count"], 1)[order], start),
                "first": pa.array(first, mask=first == _EVER),
                "last": pa.array(last, mask=last == _NEVER),
                "rating": table["rating"].take(row),
                "rated": pc.fill_null(table["rated"].take(row), _NEVER),
            }
        )


def _sums(counts: Ints, start: Ints) -> Ints:
    """The sum from each start to the next. int64 wraps around, so that sums near its ends, seen in float64, are cut."""
    sums: Ints = np.add.reduceat(counts, start)
    about = np.add.reduceat(counts.astype(np.float64), start)
    far = np.abs(about) >= 2.0**62
    if far.any():
        ends = np.append(start[1:], len(counts))
        for i in np.flatnonzero(far):
            exact = sum(counts[start[i] : ends[i]].tolist())  # Python's whole numbers have no end
            sums[i] = min(max(exact, -_EVER), _EVER)
    return sums


def _by_time_within(key: Ints, time: Ints) -> Ints:
    """The order that sorts by key, then by time; most logs are in order of time already, which saves a sort."""
    if (time[1:] >= time[:-1]).all():  # not a difference: the time of none would overflow
        return np.argsort(key, kind="stable")
    by_time = np.argsort(time, kind="stable")
    order: Ints = by_time[np.argsort(key[by_time], kind="stable")]
    return order


def _numbers(column: pa.ChunkedArray, null: int) -> Ints:
    numbers: Ints = pc.fill_null(column, null).to_numpy()
    return numbers


def _codes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
