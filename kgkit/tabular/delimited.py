"""Parses a block of delimited text by Arrow or, where Arrow and `dialect` could disagree, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pacsv

from kgkit.tabular.dialect import Dialect, records
from kgkit.tabular.source import Block

Located = tuple[int, str]  # line, text


def width_of(rows: Sequence[Sequence[str]]) -> int:
    """The number of columns that most of the first rows have (for files without a header)."""
    widths = Counter(map(len, rows[:100]))
    return widths.most_common(1)[0][0] if widths else 0


@dataclass(frozen=True)
class Parsed:
    """Cells of the wanted columns as text or numbers, rows of the wrong width, and where each row stands."""

    columns: list[pa.Array]
    wrong: list[tuple[int, str, str]]  # line, reason, text
    locate: Callable[[Sequence[int]], list[Located]]  # rows of the columns -> line and text


def parse(block: Block, dialect: Dialect, width: int, wanted: Sequence[tuple[int, pa.DataType]]) -> Parsed:
    """The wanted (position, Arrow type) columns of a block of rows that are `width` wide."""
    prepared = dialect.by_arrow(block.data)
    if prepared is not None:
        for types in (wanted, [(position, pa.string()) for position, _ in wanted]):
            try:
                fast = _by_arrow(block, dialect, *prepared, width, types)
            except pa.ArrowInvalid:
                continue  # a cell that is no number: once more as text, so that each is judged alone
            if fast is not None:
                return fast
    return _row_by_row(block, dialect, width, [position for position, _ in wanted])


def _by_arrow(
    block: Block,
    dialect: Dialect,
    data: bytes,
    delimiter: str,
    width: int,
    wanted: Sequence[tuple[int, pa.DataType]],
) -> Parsed | None:
    """None when Arrow and `records` disagree about where rows end, so that line numbers could be wrong."""
    invalid: list[tuple[int, int]] = []

    def on_invalid(row: pacsv.InvalidRow) -> str:
        invalid.append((row.number, row.actual_columns))
        return "skip"

    include = list(dict.fromkeys(str(position) for position, _ in wanted))
    table = pacsv.read_csv(
        pa.py_buffer(data),
        read_options=pacsv.ReadOptions(
            use_threads=False, column_names=[str(i) for i in range(width)], block_size=len(data) + 1
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter,
            quote_char=dialect.quote or False,
            escape_char=dialect.escape or False,
            newlines_in_values=bool(dialect.quote),
            ignore_empty_lines=False,
            invalid_row_handler=on_invalid,
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=include,
            column_types={str(position): kind for position, kind in wanted},
            null_values=[""],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    count = table.num_rows + len(invalid)
    cache: list[Located] = []

    def rows() -> list[Located]:
        if not cache:
            cache.extend(records(block.data, dialect))
        return cache

    wrong_rows = {number - 1: actual for number, actual in invalid}
    quoted = bool(dialect.quote) and dialect.quote.encode() in block.data
    if (wrong_rows or quoted) and len(rows()) != count:
        return None

    def locate(indexes: Sequence[int]) -> list[Located]:
        kept = [i for i in range(count) if i not in wrong_rows]
        return [(block.line + rows()[kept[i]][0], rows()[kept[i]][1]) for i in indexes]

    wrong = []
    for number, actual in sorted(wrong_rows.items()):
        line, text = rows()[number]
        if text.strip():
            wrong.append((block.line + line, _width_reason(actual, width), text))
    return Parsed([table.column(str(position)) for position, _ in wanted], wrong, locate)


def _row_by_row(block: Block, dialect: Dialect, width: int, positions: Sequence[int]) -> Parsed:
    kept: list[list[str]] = []
    where: list[Located] = []
    wrong = []
    for offset, text in records(block.data, dialect):
        if not text.strip():
            continue
        cells = dialect.split(text)
        if len(cells) != width:
            wrong.append((block.line + offset, _width_reason(len(cells), width), text))
            continue
        kept.append([cells[p] for p in positions])
        where.append((block.line + offset, text))
    columns = [
        pa.chunked_array([pa.array([row[i] for row in kept], pa.string())]) for i in range(len(positions))
    ]
    return Parsed(columns, wrong, lambda indexes: [where[i] for i in indexes])


def _width_reason(actual: int, width: int) -> str:
    return f"{actual} column{'' if actual == 1 else 's'} where {width} are expected"
