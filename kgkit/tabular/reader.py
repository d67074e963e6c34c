"""Puts the parts together: a file's format, where its columns are, and blocks turned into checked tables."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject, Skipped
from kgkit.tabular import Column, Layout
from kgkit.tabular.columns import choose, renamed
from kgkit.tabular.delimited import parse, width_of
from kgkit.tabular.dialect import Dialect, dialect_of, records
from kgkit.tabular.finish import finish
from kgkit.tabular.header import verdict
from kgkit.tabular.source import BLOCK, Block, blocks, suffix_of
from kgkit.tabular.unpack import check_file, doubt, is_pipe

Output: TypeAlias = pa.Table | Reject | Progress | Skipped
_JSON = {".jsonl", ".ndjson", ".json"}
_HEAD = 1 << 16
_FIRST_ROWS = 101  # a header, and the rows that it is compared with
_FAST = {"float64": pa.float64(), "int64": pa.int64(), "time": pa.int64()}
_ARROW = b"ARROW1"


def format_of(path: Path) -> str:
    """ "parquet", "arrow", "json" or "delimited", by content first and by ending second."""
    if is_pipe(path):
        raise ConnectorError(
            "rows cannot be read from a pipe, because they are read twice: save it first", path
        )
    if (head := check_file(path)) == b"PAR1":
        return "parquet"
    suffix = suffix_of(path)
    if suffix in (".parquet", ".pq"):
        raise ConnectorError("not a Parquet file: it does not begin with PAR1", path)
    if head == _ARROW[:4] or suffix in (".arrow", ".feather"):
        return "arrow"
    return "json" if suffix in _JSON else "delimited"


def read_file(path: Path, columns: tuple[Column, ...], layout: Layout) -> Iterator[Output]:
    """See `kgkit.tabular.read`."""
    kind = format_of(path)
    if kind in ("parquet", "arrow"):
        from kgkit.tabular.parquet import read_table

        return read_table(path, columns, layout, kind)
    if kind == "json":
        from kgkit.tabular.jsonlines import read_json

        return read_json(path, columns, layout)
    return _read_delimited(path, columns, layout)


def column_names(path: Path, layout: Layout, columns: tuple[Column, ...] = ()) -> list[str]:
    """See `kgkit.tabular.names`."""
    kind = format_of(path)
    if kind in ("parquet", "arrow"):
        from kgkit.tabular.parquet import table_names

        found = table_names(path, kind)
    elif kind == "json":
        from kgkit.tabular.jsonlines import json_names

        found = json_names(path, layout)
    else:
        return _opening(path, columns, layout).names
    return renamed(path, found, layout)


@dataclass(frozen=True)
class _Opening:
    """What the first block says of a delimited file; `skip`: lines before the first row of data."""

    dialect: Dialect
    names: list[str]
    header: bool
    skip: int
    notes: tuple[str, ...]


def _opening(path: Path, columns: Sequence[Column], layout: Layout) -> _Opening:
    raw = next(blocks(path, layout.encoding, size=_HEAD)).data
    dialect = dialect_of(path, suffix_of(path), layout.delimiter, layout.quote, layout.escape, raw)
    first = next(blocks(path, layout.encoding, dialect, size=_HEAD))
    rows = [(line, text) for line, text in records(first.data, dialect) if text.strip()][:_FIRST_ROWS]
    cells = [dialect.split(text) for _, text in rows]
    begins = rows[0][0] + 1 if rows else len(first.data)
    unread = next((r for r in first.rejects if r[0] < begins), None)
    if unread is not None and layout.header is not False:
        raise ConnectorError(f"the header cannot be read: {unread[1]}", path, unread[0])
    if not rows:
        raise ConnectorError("the file has no row", path)
    said = verdict([c.strip() for c in cells[0]], cells[1:], columns, layout)
    notes = [f"warning: {said.warning}"] if said.warning else []
    if warning := doubt(path):
        notes.append(f"warning: {path.name}: {warning}")
    if said.header:
        names = renamed(path, [name.strip() for name in cells[0]], layout)
        skip = rows[0][0] + 1 + rows[0][1].count("\n")
        return _Opening(dialect, names, True, skip, tuple(notes))
    names = renamed(path, [str(i + 1) for i in range(width_of(cells))], layout)
    return _Opening(dialect, names, False, 0, tuple(notes))


def _read_delimited(path: Path, columns: tuple[Column, ...], layout: Layout) -> Iterator[Output]:
    opening = _opening(path, columns, layout)
    names = opening.names
    chosen = choose(path, columns, names, layout, opening.header, opening.notes)
    plain_numbers = layout.decimal == "."
    wanted = [
        (
            position,
            _FAST[column.kind]
            if column.kind in _FAST and plain_numbers and not column.times
            else pa.string(),
        )
        for column, position in chosen.all
    ]

    def one(block: Block) -> list[Output]:
        rejects = [Reject(str(path), line, why, text) for line, why, text in block.rejects]
        block = _without(block, opening.skip)
        if not block.data:
            return [*rejects, Progress(len(rejects), block.done, block.total)]
        parsed = parse(block, opening.dialect, len(names), wanted)
        rejects += [Reject(str(path), line, why, text) for line, why, text in parsed.wrong]
        return finish(path, chosen, parsed.columns, parsed.locate, rejects, block.done, block.total)

    yield chosen.said()
    yield from ahead(one, blocks(path, layout.encoding, opening.dialect, BLOCK))


def _without(block: Block, lines: int) -> Block:
    """The block without those of the file's first lines that it holds."""
    data, line = block.data, block.line
    while data and line <= lines:
        data = data[(data.find(b"\n") + 1) or len(data) :]
        line += 1
    return Block(data, line, block.done, block.total)


def ahead(work: Callable[[Block], list[Output]], source: Iterable[Block]) -> Iterator[Output]:
    """Works on a few blocks at once (Arrow lets go of Python's lock) and gives the results in order.

    What was read before an error of the source still comes out first.
    """
    workers = min(4, os.cpu_count() or 1)
    pending: deque[Future[list[Output]]] = deque()
    trouble: ConnectorError | None = None
    with ThreadPoolExecutor(workers) as pool:
        iterator = iter(source)
        while True:
            while trouble is None and len(pending) <= workers:
                try:
                    pending.append(pool.submit(work, next(iterator)))
                except StopIteration:
                    break
                except ConnectorError as error:
                    trouble = error
            if not pending:
                break
            yield from pending.popleft().result()
    if trouble is not None:
        raise trouble
