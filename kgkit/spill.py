"""Tables too large for memory, in parts: by key, so that rows of one key come back together, or as they came.

Small ones never touch the disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from kgkit.arrays import Ints
from kgkit.disk import explained
from kgkit.errors import ConnectorError
from kgkit.native.id_set import IdSet

PARTS = 128
HELD = 64 << 20  # bytes of all spills of a folder that stay in memory
KEYS = 1_000_000  # distinct keys that `Keys` holds besides, at most HELD bytes of them


class SpillFolder:
    """A temporary folder (TMPDIR says where) that goes when the `with` ends, and the memory its spills share."""

    def __init__(self) -> None:
        self.spilled = False  # whether anything went to disk
        self._spills: list[Spill] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def spill(self, key: str | None = None) -> Spill:
        """An empty spill, parted by a string column. Equal keys fall into parts of equal number in every spill.

        Without a column rows stay in their order, and a part is what went to disk at one time.
        """
        made = Spill(self, key, len(self._spills))
        self._spills.append(made)
        return made

    def keys(self) -> Keys:
        """An empty set of keys, parted as a spill with a key is."""
        return Keys(self.spill("key"))

    def path(self, spill: int, number: int) -> Path:
        """A file of a spill."""
        if self._folder is None:
            self.spilled = True
            try:
                self._folder = tempfile.TemporaryDirectory(prefix="kgkit-")
            except OSError as error:
                where = tempfile.tempdir or os.environ.get("TMPDIR") or "the temporary folder"
                raise ConnectorError(
                    f"no folder for temporary files: {explained(error, Path(where))}; name another one by TMPDIR"
                ) from None
        return Path(self._folder.name) / f"{spill}-{number}.arrow"

    def make_room(self) -> None:
        """Sends to disk what is held, when it is too much."""
        if sum(s.bytes for s in self._spills) > HELD:
            for spill in self._spills:
                spill.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()


class Spill:
    """Rows by the hash of their key, if they have one. All tables must have the same columns.

    What goes to disk at one time is one file, sorted by part, so that few files are open however many parts there are.
    """

    def __init__(self, folder: SpillFolder, key: str | None, number: int) -> None:
        self.bytes = 0
        self._folder, self._key, self._number = folder, key, number
        self._tables: list[pa.Table] = []
        self._files: list[tuple[Path, dict[int, range]]] = []  # and which of its batches are a part's

    def add(self, table: pa.Table) -> None:
        """Takes rows. Raises ConnectorError when the disk is full."""
        if table.num_rows:
            self._tables.append(table)
            self.bytes += table.nbytes
            self._folder.make_room()

    def flush(self) -> None:
        """Sends the rows that are held to disk."""
        if not self._tables:
            return
        table = pa.concat_tables(self._tables)
        self._tables, self.bytes = [], 0
        path, batches, index = self._folder.path(self._number, len(self._files)), 0, {}
        try:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                for part, rows in self._parted(table):
                    made = rows.to_batches()
                    for batch in made:
                        writer.write_batch(batch)
                    index[part] = range(batches, batches + len(made))
                    batches += len(made)
        except OSError as error:
            raise ConnectorError(
                f"no room for temporary files: {explained(error, path)}; make room, or name a folder on a larger disk by "
                "TMPDIR, and give the command again"
            ) from None
        self._files.append((path, index))

    def parts(self, keep: bool = False) -> Iterator[tuple[int, pa.Table]]:
        """Number and rows of every part that has any, in rising order; nothing may be added afterwards.

        Unless `keep`, the spill is empty then. As long as nothing of the folder is on disk there is one part; spills
        that are read beside each other must therefore be begun together.
        """
        if not self._files:
            tables = self._tables
            if not keep:
                self._tables, self.bytes = [], 0
            if tables and self._folder.spilled:
                yield from self._parted(pa.concat_tables(tables))
            elif tables:
                yield 0, pa.concat_tables(tables)
            return
        self.flush()
        for part in sorted({part for _, index in self._files for part in index}):
            found = []
            for path, batches in ((path, index[part]) for path, index in self._files if part in index):
                with pa.OSFile(str(path)) as file:
                    reader = pa.ipc.open_file(file)
                    found += [reader.get_batch(i) for i in batches]
            yield part, pa.Table.from_batches(found)
        if not keep:
            for path, _ in self._files:
                path.unlink()
            self._files = []

    def _parted(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        return iter([(len(self._files), table)]) if self._key is None else _parted(table, self._key)


class Keys:
    """Keys that come again and again; most of them reach the spill once."""

    def __init__(self, spill: Spill) -> None:
        self._spill, self._new = spill, IdSet()

    def add(self, keys: pa.ChunkedArray) -> None:
        """Takes keys (string). Raises ConnectorError when the disk is full."""
        self._new.add(keys)
        if len(self._new) >= KEYS or self._new.text_bytes >= HELD:
            self._send()

    def parts(self) -> Iterator[tuple[int, pa.Array]]:
        """Number of every part that has keys, in rising order, and its distinct keys; the set is empty then.

        Called before other spills' parts are read beside it: what it still holds may send all of them to disk.
        """
        self._send()
        return ((number, table["key"].unique()) for number, table in self._spill.parts())

    def _send(self) -> None:
        found, self._new = self._new.to_arrow(), IdSet()
        self._spill.add(pa.table({"key": found.cast(pa.string())}))


def _parted(table: pa.Table, key: str) -> Iterator[tuple[int, pa.Table]]:
    part = part_of(table[key])
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(PARTS + 1))
    sorted_rows = table.combine_chunks().take(pa.array(order))
    for number in range(PARTS):
        length = int(starts[number + 1] - starts[number])
        if length:
            yield number, sorted_rows.slice(int(starts[number]), length)


def part_of(keys: pa.ChunkedArray) -> Ints:
    """int64 [N] of 0..PARTS - 1, by the last bytes of each key, where ids differ."""
    parts = [_hash(chunk) for chunk in keys.chunks]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _hash(keys: pa.Array) -> Ints:
    if not len(keys):
        return np.empty(0, np.int64)
    _, offset_buffer, text = keys.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[keys.offset : keys.offset + len(keys) + 1].astype(
        np.int64
    )
    letters = np.frombuffer(text, np.uint8) if text is not None and text.size else np.zeros(1, np.uint8)
    start, end = offsets[:-1], offsets[1:]
    found = np.zeros(len(keys), np.uint64)
    for back in range(1, 9):
        at = end - back
        inside = at >= start
        letter = np.where(inside, letters[np.where(inside, at, 0)], 0).astype(np.uint64)
        found = (found ^ letter) * np.uint64(0x100000001B3)
    mixed: Ints = ((found ^ (found >> np.uint64(32))) % np.uint64(PARTS)).astype(np.int64)
    return mixed
