"""A set of ids that Arrow columns are looked up in, batch after batch: the filter of a stream, and its numbering."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from kgkit.lazy import np
from kgkit.native.build import load

if TYPE_CHECKING:
    import pyarrow as pa

    from kgkit.arrays import Array, Bools, Ints

_ROWS = 1 << 16  # added together: the room made beforehand is for so many at most
_FULL = 0.7  # share of slots in use at which the table doubles


class IdSet:
    """Distinct strings. Looking a batch up costs what the batch costs, not what the set holds.

    (`pyarrow.compute.is_in` builds a hash table of the whole set at every call.) Answers are exact: strings of equal
    hash are compared byte by byte, so that a collision costs a comparison and changes nothing. The hash is seeded
    anew for each set, so that no file can be made to collide.

    Memory: 19 to 35 bytes an id besides 1 to 1.5 times the id's own bytes (ten million ids of 9 bytes: 0.3 to 0.5
    GB), half as much again for a moment when the table grows. Without a C compiler a Python set of str takes its
    place: the same answers, some 100 bytes an id and a fraction of the speed.

    To grow it hop by hop, filter a whole pass with one set and add what was found when the pass is over: an id added
    during the pass would already let the next hop in. Not to be added to by one thread while another reads.
    """

    def __init__(self) -> None:
        library = load("id_set")
        self._ids: _Table | _Plain = _Plain() if library is None else _Table(library)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def text_bytes(self) -> int:
        """How long all strings are together."""
        return self._ids.text_bytes

    def add(self, ids: pa.Array | pa.ChunkedArray) -> int:
        """Adds strings [B], and returns how many of them were new. Nulls are passed over."""
        before = len(self)
        for part in _parts(ids):
            self._ids.add(part.drop_null() if part.null_count else part)
        return len(self) - before

    def encode(self, ids: pa.Array | pa.ChunkedArray) -> Ints:
        """Adds strings [B], and returns their numbers, int64 [B]: 0, 1, .. in the order in which they first came.

        Raises ValueError for a null.
        """
        numbers = []
        for part in _parts(ids):
            if part.null_count:
                raise ValueError("a null has no number")
            numbers.append(self._ids.encode(part))
        return np.concatenate([np.zeros(0, dtype=np.int64), *numbers])

    def find(self, ids: pa.Array | pa.ChunkedArray) -> Ints:
        """The numbers of strings [B], int64 [B]: -1 for those that are not in the set, and for nulls."""
        parts = [self._found(part) for part in _parts(ids)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def contains(self, ids: pa.Array | pa.ChunkedArray) -> Bools:
        """bool [B]: which of the strings [B] are in the set. A null is not."""
        found: Bools = self.find(ids) >= 0
        return found

    def _found(self, part: pa.Array) -> Ints:
        found = self._ids.find(part)
        if part.null_count:
            found[~np.asarray(part.is_valid(), dtype=bool)] = -1
        return found

    def to_arrow(self) -> pa.Array:
        """The ids (large_string) in the order in which they were added; a copy."""
        return self._ids.to_arrow()


def _parts(ids: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    import pyarrow as pa

    for part in ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]:
        text = part if part.type in (pa.string(), pa.large_string()) else part.cast(pa.large_string())
        if len(text):
            yield text


class _Table:
    """The compiled set; see id_set.c for the layout."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.kgkit_id_set_add.restype = ctypes.c_int64
        self._seed = ctypes.c_uint64(int.from_bytes(os.urandom(8), "little"))
        self._bits, self._count = 10, 0
        self._slots = np.zeros(1 << self._bits, dtype=np.uint64)
        self._arena = np.empty(1 << 14, dtype=np.uint8)
        self._starts = np.zeros(1 << 10, dtype=np.int64)

    def __len__(self) -> int:
        return self._count

    @property
    def text_bytes(self) -> int:
        return int(self._starts[self._count])

    def add(self, ids: pa.Array) -> None:
        self._add(ids, None)

    def encode(self, ids: pa.Array) -> Ints:
        numbers = np.empty(len(ids), dtype=np.int64)
        self._add(ids, numbers)
        return numbers

    def _add(self, ids: pa.Array, numbers: Ints | None) -> None:
        text, offsets = _text(ids)
        for low in range(0, len(ids), _ROWS):
            some = offsets[low : low + _ROWS + 1]
            n = len(some) - 1
            self._make_room(n, int(some[-1] - some[0]))
            self._count = self._library.kgkit_id_set_add(
                *self._where(),
                ctypes.c_int64(self._count),
                text,
                _pointer(some),
                ctypes.c_int64(n),
                None if numbers is None else _pointer(numbers[low:]),
            )

    def find(self, ids: pa.Array) -> Ints:
        text, offsets = _text(ids)
        found = np.empty(len(ids), dtype=np.int64)
        self._library.kgkit_id_set_find(
            *self._where(), text, _pointer(offsets), ctypes.c_int64(len(ids)), _pointer(found)
        )
        return found

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        starts = self._starts[: self._count + 1]
        buffers = [None, pa.py_buffer(starts.tobytes()), pa.py_buffer(self._arena[: starts[-1]].tobytes())]
        return pa.Array.from_buffers(pa.large_string(), self._count, buffers)

    def _where(self) -> tuple[Any, ...]:
        return (
            _pointer(self._slots),
            ctypes.c_int32(self._bits),
            self._seed,
            _pointer(self._arena),
            _pointer(self._starts),
        )

    def _make_room(self, n: int, size: int) -> None:
        """For n strings more, of `size` bytes in all, whether or not they turn out to be new."""
        bits = self._bits
        while self._count + n > _FULL * (1 << bits):
            bits += 1
        if bits > 31:
            raise OverflowError(f"an IdSet holds at most {int(_FULL * 2**31):,} ids")
        if bits > self._bits:
            larger = np.zeros(1 << bits, dtype=np.uint64)
            self._library.kgkit_id_set_move(
                _pointer(self._slots),
                ctypes.c_int64(len(self._slots)),
                _pointer(larger),
                ctypes.c_int32(bits),
            )
            self._slots, self._bits = larger, bits
        # resize() asks the allocator for more in place, and copies only where there is no such place.
        if (needed := self._count + n + 1) > len(self._starts):
            self._starts.resize(max(needed, len(self._starts) * 3 // 2), refcheck=False)
        if (needed := int(self._starts[self._count]) + size) > len(self._arena):
            self._arena.resize(max(needed, len(self._arena) * 3 // 2), refcheck=False)


class _Plain:
    """The same without a compiler."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self.text_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: pa.Array) -> None:
        self.encode(ids)

    def encode(self, ids: pa.Array) -> Ints:
        held = self._ids
        before = len(held)
        numbers = (held.setdefault(key, len(held)) for key in ids.to_pylist())
        found = np.fromiter(numbers, dtype=np.int64, count=len(ids))
        self.text_bytes += sum(len(key.encode()) for key in islice(reversed(held), len(held) - before))
        return found

    def find(self, ids: pa.Array) -> Ints:
        return np.fromiter((self._ids.get(key, -1) for key in ids.to_pylist()), np.int64, count=len(ids))

    def to_arrow(self) -> pa.Array:
        import pyarrow as pa

        return pa.array(list(self._ids), pa.large_string())


def _text(ids: pa.Array) -> tuple[ctypes.c_void_p, Ints]:
    """Where the bytes of an array of strings lie, and its offsets int64 [B + 1]."""
    import pyarrow as pa

    _, offsets, text = ids.buffers()
    width = np.int64 if ids.type == pa.large_string() else np.int32
    own = np.frombuffer(offsets, dtype=width)[ids.offset : ids.offset + len(ids) + 1]
    return ctypes.c_void_p(text.address if text else None), np.ascontiguousarray(own, dtype=np.int64)


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
