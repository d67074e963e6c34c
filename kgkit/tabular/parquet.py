"""Parquet and Arrow files (Feather, streams), read in batches; a reject's line is the row's 1-based number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject, Skipped
from kgkit.tabular import Column, Layout
from kgkit.tabular.columns import choose, renamed
from kgkit.tabular.finish import finish, plain_cell

_ROWS = 1 << 17
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError)


class _File:
    """A file of either format: its names, how many rows it has (0: unknown), and batches of some columns."""

    def __init__(self, path: Path, kind: str, stack: ExitStack) -> None:
        try:
            if kind == "parquet":
                self._file = stack.enter_context(pq.ParquetFile(path))
                self.names = list(self._file.schema_arrow.names)
                self.rows = self._file.metadata.num_rows
            else:
                source = stack.enter_context(pa.OSFile(str(path), "rb"))
                opened = pa.ipc.open_file if source.read(6) == b"ARROW1" else pa.ipc.open_stream
                source.seek(0)
                self._file, self.rows = opened(source), 0
                self.names = list(self._file.schema.names)
        except _ERRORS as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConnectorError(f"truncated or damaged {kind.title()}: {what}", path) from None
        self._kind = kind

    def batches(self, positions: Sequence[int]) -> Iterator[list[pa.Array]]:
        """The columns at these positions, batch by batch."""
        if self._kind == "parquet":
            wanted = list(dict.fromkeys(self.names[p] for p in positions))
            for batch in self._file.iter_batches(_ROWS, columns=wanted):
                yield [batch.column(batch.schema.get_all_field_indices(self.names[p])[0]) for p in positions]
        elif hasattr(self._file, "num_record_batches"):
            for i in range(self._file.num_record_batches):
                batch = self._file.get_batch(i)
                yield [batch.column(p) for p in positions]
        else:
            for batch in self._file:
                yield [batch.column(p) for p in positions]


def table_names(path: Path, kind: str) -> list[str]:
    """The names of the columns."""
    with ExitStack() as stack:
        return _File(path, kind, stack).names


def read_table(
    path: Path, columns: tuple[Column, ...], layout: Layout, kind: str
) -> Iterator[pa.Table | Reject | Progress | Skipped]:
    """See `kgkit.tabular.read`. kind: "parquet" or "arrow"."""
    with ExitStack() as stack:
        file = _File(path, kind, stack)
        names = renamed(path, file.names, layout)
        chosen = choose(path, columns, names, layout)
        yield chosen.said()
        size, start = path.stat().st_size, 0
        batches = file.batches([p for _, p in chosen.all])
        while True:
            try:
                arrays = next(batches, None)
                if arrays is not None:
                    for array in arrays:
                        _sound(array)
            except _ERRORS as error:
                what = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ConnectorError(f"damaged {kind.title()}: {what}", path, start + 1) from None
            if arrays is None:
                return
            locate = partial(_locate, [c.name for c, _ in chosen.all], arrays, start)
            start += len(arrays[0])
            yield from finish(path, chosen, arrays, locate, [], size * start // max(file.rows, start), size)


def _locate(
    names: Sequence[str], arrays: Sequence[pa.Array], start: int, rows: Sequence[int]
) -> list[tuple[int, str]]:
    return [
        (start + i + 1, str({n: plain_cell(a[i]) for n, a in zip(names, arrays, strict=True)})) for i in rows
    ]


def _sound(array: pa.Array) -> None:
    """Raises ArrowInvalid where offsets or lengths lead out of the data, at which Arrow itself would end the process.

    Text that is not UTF-8 is left to the cells that hold it.
    """
    if pa.types.is_string(array.type):
        array = array.view(pa.binary())
    elif pa.types.is_large_string(array.type):
        array = array.view(pa.large_binary())
    array.validate(full=True)
