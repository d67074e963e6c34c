"""JSON lines: one object a line. Arrow reads a block whose cells are of one type; others go line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject, Skipped
from kgkit.tabular import Column, Layout
from kgkit.tabular.columns import choose, renamed
from kgkit.tabular.convert import WORDS
from kgkit.tabular.finish import finish
from kgkit.tabular.reader import ahead
from kgkit.tabular.source import Block, blocks
from kgkit.tabular.unpack import doubt

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
            record = _loaded(line.decode())
        except ValueError:
            continue
        if isinstance(record, dict):
            keys.update({k: v for k, v in record.items() if keys.get(k) is None})
    if not keys:
        raise ConnectorError("no JSON object in the first lines: one object a line is expected", path)
    return keys


def read_json(
    path: Path, columns: tuple[Column, ...], layout: Layout
) -> Iterator[pa.Table | Reject | Progress | Skipped]:
    """See `kgkit.tabular.read`."""
    samples = _opening(path, layout)
    keys = list(samples)
    warning = doubt(path)
    notes = [f"warning: {path.name}: {warning}"] if warning else []
    chosen = choose(path, columns, renamed(path, keys, layout), layout, notes=notes)
    found = [(column, keys[position]) for column, position in chosen.all]
    schema = pa.schema(dict.fromkeys((key for _, key in found), pa.string()))
    for column, key in found:
        # Ids that are written as numbers with a point would lose digits as float64: they go line by line.
        types = {int: pa.int64(), bool: pa.bool_()} | ({} if column.kind == "id" else {float: pa.float64()})
        kind = types.get(type(samples[key]), pa.string())
        schema = schema.set(schema.get_field_index(key), pa.field(key, kind))

    def one(block: Block) -> list[pa.Table | Reject | Progress | Skipped]:
        lines = [(i, t) for i, t in enumerate(block.data.decode().split("\n")) if t.strip()]
        rejects = [Reject(str(path), line, why, text) for line, why, text in block.rejects]
        if not lines:
            return [*rejects, Progress(len(rejects), block.done, block.total)]

        def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
            return [(block.line + lines[i][0], lines[i][1].rstrip("\r")) for i in rows]

        # An object a line, so that as many objects as lines are these lines.
        whole = all(t.strip()[0] == "{" and t.strip()[-1] == "}" for _, t in lines)
        table = _by_arrow(block.data, schema) if whole else None
        if table is not None and table.num_rows == len(lines):
            arrays = [table.column(key) for _, key in found]
            return finish(path, chosen, arrays, locate, rejects, block.done, block.total)
        cells: list[list[str | None]] = [[] for _ in found]
        kept = []
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

    yield chosen.said()
    yield from ahead(one, blocks(path, layout.encoding))


def _by_arrow(data: bytes, schema: pa.Schema) -> pa.Table | None:
    try:
        return pajson.read_json(
            pa.py_buffer(data),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None


def _loaded(text: str) -> Any:
    """What a line says; ValueError says why it is no JSON."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("not JSON that can be read: too many brackets within each other") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _row(text: str, found: Sequence[tuple[Column, str]]) -> list[str | None]:
    """The wanted cells of one line as text; ValueError says why it cannot be used."""
    record = _loaded(text)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    cells: list[str | None] = []
    for column, key in found:
        value = record.get(key)
        if isinstance(value, (dict, list)):
            raise ValueError(f"{column.name} must be {WORDS[column.kind]}, got {json.dumps(value)[:80]}")
        if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**63:
            value = int(value)
        cell = None if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
        try:
            (cell or "").encode()
        except UnicodeEncodeError:
            raise ValueError(f"{column.name} holds half a surrogate pair, which is no text") from None
        cells.append(cell)
    return cells
