"""Puts the parts together: a file's format, where its columns are, and blocks turned into checked tables."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from kgkit.config import unknown_name
from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject
from kgkit.tabular import Column, Layout
from kgkit.tabular.convert import convert, reason
from kgkit.tabular.delimited import Dialect, Located, dialect_of, parse, width_of
from kgkit.tabular.source import BLOCK, Block, blocks, suffix_of
from kgkit.tabular.unpack import check_file, is_pipe

Output: TypeAlias = pa.Table | Reject | Progress
_JSON = {".jsonl", ".ndjson", ".json"}
_HEAD = 1 << 16
_FAST = {"float64": pa.float64(), "int64": pa.int64(), "time": pa.int64()}


def format_of(path: Path) -> str:
    """ "parquet", "json" or "delimited", by content first and by ending second."""
    if is_pipe(path):
        raise ConnectorError(
            "rows cannot be read from a pipe, because they are read twice: save it first", path
        )
    if check_file(path) == b"PAR1":
        return "parquet"
    suffix = suffix_of(path)
    if suffix in (".parquet", ".pq"):
        raise ConnectorError("not a Parquet file: it does not begin with PAR1", path)
    return "json" if suffix in _JSON else "delimited"


def read_file(path: Path, columns: tuple[Column, ...], layout: Layout) -> Iterator[Output]:
    """See `kgkit.tabular.read`."""
    kind = format_of(path)
    if kind == "parquet":
        from kgkit.tabular.parquet import read_parquet

        return read_parquet(path, columns)
    if kind == "json":
        from kgkit.tabular.jsonlines import read_json

        return read_json(path, columns, layout)
    return _read_delimited(path, columns, layout)


def column_names(path: Path, layout: Layout) -> list[str]:
    """See `kgkit.tabular.names`."""
    kind = format_of(path)
    if kind == "parquet":
        from kgkit.tabular.parquet import parquet_names

        return parquet_names(path)
    if kind == "json":
        from kgkit.tabular.jsonlines import json_names

        return json_names(path, layout)
    return _opening(path, layout)[1]


def find(
    path: Path,
    columns: Sequence[Column],
    names: Sequence[str],
    header: bool = True,
    may_lack_header: bool = False,
) -> list[tuple[Column, int]]:
    """The columns that the file has, with their positions; ConnectorError names the option of one that lacks."""
    plain = [re.sub(r"[\W_]", "", n.split(":")[0]).lower() for n in names]
    found = []
    for column in columns:
        position = None
        if column.given is not None:
            if column.given in names:
                position = names.index(column.given)
            elif column.given.isdigit() and 1 <= int(column.given) <= len(names):
                position = int(column.given) - 1
            else:
                raise ConnectorError(unknown_name("column", column.given, names), path)
        elif header:
            usual = (re.sub(r"[\W_]", "", u).lower() for u in column.usual)
            position = next((plain.index(u) for u in usual if u in plain), None)
        elif column.position is not None and column.position < len(names):
            position = column.position
        if position is not None:
            found.append((column, position))
        elif column.required:
            have = ", ".join(names) if header else f"{len(names)} columns without names"
            flag = "--" + column.name.replace("_", "-")
            hint = ", or use --no-header if the first line is data" if header and may_lack_header else ""
            raise ConnectorError(
                f"no column for {column.name} (the file has {have}): name it by {flag}{hint}", path
            )
    return found


def _opening(path: Path, layout: Layout) -> tuple[Dialect, list[str]]:
    """The dialect and the columns' names of a delimited file, from its first block."""
    # Quoting is known only with the dialect: this look may cut within quotes, which the header never reaches.
    first = next(blocks(path, layout.encoding, size=_HEAD))
    dialect = dialect_of(path, suffix_of(path), layout.delimiter, first.data)
    if not layout.header:
        return dialect, [str(i + 1) for i in range(width_of(first.data, dialect))]
    line = first.data.split(b"\n", 1)[0].decode().rstrip("\r")
    if not line.strip():
        raise ConnectorError("the first line is empty: a header was expected (or use --no-header)", path, 1)
    return dialect, [name.strip() for name in dialect.split(line)]


def _is_header(path: Path, columns: Sequence[Column], layout: Layout) -> bool:
    """Whether a file of a kind that usually has no header has one: its first line holds the usual names."""
    if any(column.given for column in columns):
        return False
    _, names = _opening(path, replace(layout, header=True))
    try:
        return bool(find(path, columns, names))
    except ConnectorError:
        return False


def _read_delimited(path: Path, columns: tuple[Column, ...], layout: Layout) -> Iterator[Output]:
    dialect, names = _opening(path, layout)
    header = layout.header
    if not header and _is_header(path, columns, layout):
        dialect, names = _opening(path, replace(layout, header=True))
        header = True
    found = find(path, columns, names, header, may_lack_header=True)
    wanted = [(position, _FAST.get(column.kind, pa.string())) for column, position in found]
    chosen = [column for column, _ in found]

    def one(block: Block) -> list[Output]:
        if block.line == 1 and header:
            _, _, rest = block.data.partition(b"\n")
            block = Block(rest, 2, block.done, block.total, block.unbalanced)
        if not block.data:
            return [Progress(0, block.done, block.total)]
        parsed = parse(block, dialect, len(names), wanted)
        rejects = [Reject(str(path), line, why, text) for line, why, text in parsed.wrong]
        return finish(path, chosen, parsed.columns, parsed.locate, rejects, block.done, block.total)

    return ahead(one, blocks(path, layout.encoding, dialect.quoted, BLOCK))


def finish(
    path: Path,
    columns: Sequence[Column],
    arrays: Sequence[Any],
    locate: Callable[[Sequence[int]], list[Located]],
    rejects: list[Reject],
    done: int,
    total: int,
) -> list[Output]:
    """Types the cells and turns rows with a bad one into rejects: table, rejects in line order, progress."""
    rows = len(arrays[0]) if arrays else 0
    bad = np.zeros(rows, bool)
    typed, why = [], {}
    for column, array in zip(columns, arrays, strict=True):
        try:
            values, wrong = convert(array, column)
        except TypeError as error:
            raise ConnectorError(str(error), path) from None
        for row in np.flatnonzero(wrong & ~bad).tolist():
            why[row] = reason(array[row].as_py(), column)
        bad |= wrong
        typed.append(values)
    table = pa.table(typed, names=[c.name for c in columns])
    seen = rows + len(rejects)
    if bad.any():
        table = table.filter(pa.array(~bad))
        listed = sorted(why)
        for row, (line, text) in zip(listed, locate(listed), strict=True):
            if text.strip():
                rejects.append(Reject(str(path), line, why[row], text))
            else:
                seen -= 1  # a blank line is no row
        rejects.sort(key=lambda r: r.line)
    output: list[Output] = [table] if table.num_rows else []
    return [*output, *rejects, Progress(seen, done, total)]


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
