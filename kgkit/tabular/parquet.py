"""Parquet files, read in batches; a reject's line is the row's 1-based number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject
from kgkit.tabular import Column
from kgkit.tabular.reader import find, finish

_ROWS = 1 << 17


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConnectorError(f"truncated or damaged Parquet: {str(error).splitlines()[0]}", path) from None


def parquet_names(path: Path) -> list[str]:
    """The names of the columns."""
    with _open(path) as file:
        return list(file.schema_arrow.names)


def read_parquet(path: Path, columns: tuple[Column, ...]) -> Iterator[pa.Table | Reject | Progress]:
    """See `kgkit.tabular.read`."""
    with _open(path) as file:
        names, rows, size = list(file.schema_arrow.names), file.metadata.num_rows, path.stat().st_size
        found = find(path, columns, names)
        chosen = [column for column, _ in found]
        start = 0
        batches = file.iter_batches(_ROWS, columns=list(dict.fromkeys(names[p] for _, p in found)))
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                what = str(error).splitlines()[0]
                raise ConnectorError(f"damaged Parquet: {what}", path, start + 1) from None
            if batch is None:
                return
            arrays = [batch.column(names[p]) for _, p in found]
            locate = partial(_locate, batch, start)
            start += batch.num_rows
            yield from finish(path, chosen, arrays, locate, [], size * start // max(rows, 1), size)


def _locate(batch: pa.RecordBatch, start: int, rows: Sequence[int]) -> list[tuple[int, str]]:
    return [(start + i + 1, str(batch.slice(i, 1).to_pylist()[0])) for i in rows]
