"""Rows that are there twice, among any number of rows, in bounded memory.

Of each row a number of 64 bits is kept, 8 bytes, and of very many rows a part of these numbers at a time, for which all
rows are read again. Rows whose numbers are equal are then read once more and compared as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Array, Bools

AT_ONCE = 16_000_000  # numbers that are held
MOST = 200_000  # rows that are compared as they are: who has more doubled has seen enough
_BYTES, _ROWS = 4 << 20, 50_000  # of texts, and of rows, that are numbered at a time
_BASE = 0x100000001B3
_MASK = (1 << 64) - 1
_NULL = np.uint64(0xD6E8FEB86659FD93)

Tables = Callable[[], Iterable[pa.Table]]


@dataclass(frozen=True)
class Doubled:
    """Of how many keys there are several rows, with some of these keys."""

    keys: int
    some: list[tuple[Any, ...]]


def doubled(tables: Tables, columns: Sequence[str], rows: int) -> Doubled:
    """Keys, of the values in `columns`, that several rows have. rows: how many there are, about."""
    parts = max(1, -(-rows // AT_ONCE))
    twice = []
    for part in range(parts):
        held = [np.zeros(0, dtype=np.uint64)]
        for table in tables():
            numbers = row_numbers(table, columns)
            held.append(numbers if parts == 1 else numbers[numbers % np.uint64(parts) == part])
        every = np.sort(np.concatenate(held))
        twice.append(np.unique(every[1:][every[1:] == every[:-1]]))
    maybe = np.concatenate(twice)[:MOST]
    if not len(maybe):
        return Doubled(0, [])
    times: Counter[tuple[Any, ...]] = Counter()
    for table in tables():
        hit: Bools = np.isin(row_numbers(table, columns), maybe)
        if hit.any():
            some = table.select(list(columns)).filter(pa.array(hit))
            times.update(zip(*(c.to_pylist() for c in some.columns), strict=True))
    found = [key for key, n in times.items() if n > 1]
    return Doubled(len(found), sorted(found, key=str)[:3])


def row_numbers(table: pa.Table, columns: Sequence[str]) -> Array:
    """A number for each row, uint64 [N], which rows with equal values in some columns (texts, integers) share."""
    numbers = np.full(table.num_rows, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for name in columns:
        numbers = _mixed(numbers * np.uint64(31) + _column_numbers(table[name]))
    return numbers


def _column_numbers(column: pa.ChunkedArray) -> Array:
    parts = [np.zeros(0, dtype=np.uint64)]
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            own = np.append(_texts(chunk.dictionary), np.uint64(0))
            parts.append(own[np.asarray(pc.fill_null(chunk.indices, len(own) - 1))])
        elif pa.types.is_integer(chunk.type):
            parts.append(_mixed(np.asarray(pc.fill_null(chunk, -1)).astype(np.uint64)))
        else:
            parts.append(_texts(chunk))
    return np.concatenate(parts)


def _texts(texts: pa.Array) -> Array:
    """A number for each text, uint64 [N]: a polynomial of its bytes, of all texts at once."""
    texts = texts.cast(pa.large_binary())
    out = [np.zeros(0, dtype=np.uint64)]
    for part in _pieces(texts):
        ends = np.frombuffer(part.buffers()[1], np.int64)[part.offset : part.offset + len(part) + 1]
        held = part.buffers()[2]
        data = np.frombuffer(held, np.uint8)[ends[0] : ends[-1]] if held else np.zeros(0, np.uint8)
        ends = ends - ends[0]
        sums = np.zeros(len(data) + 1, dtype=np.uint64)
        np.cumsum((data.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, len(data)), out=sums[1:])
        back = _powers(pow(_BASE, -1, 1 << 64), len(data) + 1)[ends[:-1]]
        numbers = (sums[ends[1:]] - sums[ends[:-1]]) * back
        numbers[np.asarray(pc.is_null(part))] = _NULL
        out.append(_mixed(numbers))
    return np.concatenate(out)


def _pieces(texts: pa.Array) -> Iterator[pa.Array]:
    at = 0
    while at < len(texts):
        rows = min(_ROWS, len(texts) - at)
        while rows > 1 and texts.slice(at, rows).nbytes > _BYTES:
            rows //= 2
        yield texts.slice(at, rows)
        at += rows


def _powers(base: int, n: int) -> Array:
    """base ** 0, 1, .. n - 1, modulo 2 ** 64."""
    powers = np.full(max(n, 1), base & _MASK, dtype=np.uint64)
    powers[0] = 1
    found: Array = np.cumprod(powers, dtype=np.uint64)[:n]
    return found


def _mixed(numbers: Array) -> Array:
    """Each bit of a number spread over all of it (the end of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = numbers ^ (numbers >> np.uint64(31))
    return mixed
