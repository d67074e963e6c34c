"""JSON lines: one object a line. Arrow reads a block whose cells are of one type; others go line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject
from kgkit.tabular import Column, Layout
from kgkit.tabular.convert import WORDS
from kgkit.tabular.reader import ahead, find, finish
from kgkit.tabular.source import Block, blocks

_HEAD = 1 << 16


def json_names(path: Path, layout: Layout) -> list[str]:
    """The keys of the first objects, in the order first seen."""
    return list(_opening(path, layout))


def _opening(path: Path, layout: Layout) -> dict[str, Any]:
    """The keys of the first lines, each with its first value that is not null."""
    first = next(blocks(path, layout.encoding, size=_HEAD)).data
    if first.lstrip()[:1] == b"[":
        raise ConnectorError("a JSON array, not JSON lines: convert it with jq -c '.[]' FILE", path)
    keys: dict[str, Any] = {}
    for line in first.splitlines()[:200]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            keys.update({k: v for k, v in record.items() if keys.get(k) is None})
    if not keys:
        raise ConnectorError("no JSON object in the first lines: one object a line is expected", path)
    return keys


def read_json(
    path: Path, columns: tuple[Column, ...], layout: Layout
) -> Iterator[pa.Table | Reject | Progress]:
    """See `kgkit.tabular.read`."""
    samples = _opening(path, layout)
    names = list(samples)
    found = [(column, names[position]) for column, position in find(path, columns, names)]
    schema = pa.schema(dict.fromkeys((key for _, key in found), pa.string()))
    for _, key in found:
        kind = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(type(samples[key]), pa.string())
        schema = schema.set(schema.get_field_index(key), pa.field(key, kind))

    def one(block: Block) -> list[pa.Table | Reject | Progress]:
        lines = [(i, t) for i, t in enumerate(block.data.decode().split("\n")) if t.strip()]
        if not lines:
            return [Progress(0, block.done, block.total)]

        def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
            return [(block.line + lines[i][0], lines[i][1].rstrip("\r")) for i in rows]

        chosen = [column for column, _ in found]
        table = _by_arrow(block.data, schema)
        if table is not None and table.num_rows == len(lines):
            arrays = [table.column(key) for _, key in found]
            return finish(path, chosen, arrays, locate, [], block.done, block.total)
        cells: list[list[str | None]] = [[] for _ in found]
        kept, rejects = [], []
        for offset, text in lines:
            try:
                row = _row(text, found)
            except ValueError as error:
                rejects.append(Reject(str(path), block.line + offset, str(error), text.rstrip("\r")))
                continue
            kept.append((offset, text))
            for column_cells, cell in zip(cells, row, strict=True):
                column_cells.append(cell)
        lines = kept
        arrays = [pa.array(c, pa.string()) for c in cells]
        return finish(path, chosen, arrays, locate, rejects, block.done, block.total)

    return ahead(one, blocks(path, layout.encoding))


def _by_arrow(data: bytes, schema: pa.Schema) -> pa.Table | None:
    try:
        return pajson.read_json(
            pa.py_buffer(data),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None


def _row(text: str, found: Sequence[tuple[Column, str]]) -> list[str | None]:
    """The wanted cells of one line as text; ValueError says why it cannot be used."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    cells: list[str | None] = []
    for column, key in found:
        value = record.get(key)
        if isinstance(value, (dict, list)):
            raise ValueError(f"{column.name} must be {WORDS[column.kind]}, got {json.dumps(value)[:80]}")
        cells.append(None if value is None else json.dumps(value) if isinstance(value, bool) else str(value))
    return cells
