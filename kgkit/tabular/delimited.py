"""Delimited text: guessing the delimiter, and parsing a block by Arrow or, where quotes go astray, row by row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from kgkit.errors import ConnectorError
from kgkit.tabular.source import Block

_BY_SUFFIX = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_ATOMIC = {".inter", ".kg", ".link", ".user", ".item"}
_WHITESPACE = "whitespace"
_CANDIDATES = ("\t", "::", ";", ",", "|", _WHITESPACE)
_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_STAND_IN = "\x1f"  # for delimiters longer than one character
_LONGEST = 1000  # lines that one quoted row may span before its quote is taken for a stray one

Located = tuple[int, str]  # line, text


@dataclass(frozen=True)
class Dialect:
    """A delimiter ("whitespace": any run of blanks) and whether quotes mean anything."""

    delimiter: str
    quoted: bool

    def split(self, line: str) -> list[str]:
        """The cells of one row."""
        if self.delimiter == _WHITESPACE:
            return line.split()
        if not self.quoted:
            return line.split(self.delimiter)
        return next(csv.reader(io.StringIO(line, newline=""), delimiter=self.delimiter), [])

    def one_character(self, data: bytes) -> tuple[bytes, str]:
        """The same rows with a delimiter that Arrow can take."""
        if self.delimiter == _WHITESPACE:
            data = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", data)
            return re.sub(rb"[ \t]+", _STAND_IN.encode(), data), _STAND_IN
        if len(self.delimiter) > 1:
            return data.replace(self.delimiter.encode(), _STAND_IN.encode()), _STAND_IN
        return data, self.delimiter


def dialect_of(path: Path, suffix: str, delimiter: str, head: bytes) -> Dialect:
    """By option, else by the file's ending if its first line has that delimiter, else by the first lines."""
    if delimiter != "auto":
        chosen = _NAMED.get(delimiter, delimiter)
        if not chosen:
            raise ConnectorError("--delimiter is empty", path)
        return Dialect(chosen, chosen in ",;")
    if suffix in _ATOMIC:
        return Dialect("\t", False)
    lines = [line for line in head.decode().splitlines()[:50] if line.strip()]
    usual = _BY_SUFFIX.get(suffix, "")
    if usual and lines and usual in lines[0]:
        return Dialect(usual, usual == ",")
    for candidate in _CANDIDATES:
        dialect = Dialect(candidate, candidate in ",;")
        widths = Counter(len(dialect.split(line)) for line in lines)
        width, often = widths.most_common(1)[0] if widths else (1, 0)
        if width > 1 and often * 2 > len(lines):
            return dialect
    return Dialect(usual or ",", True)


def width_of(head: bytes, dialect: Dialect) -> int:
    """The number of columns that most of the first rows have (for files without a header)."""
    rows = records(head, dialect.quoted)[:100]
    widths = Counter(len(dialect.split(text)) for _, text, closed in rows if closed and text.strip())
    return widths.most_common(1)[0][0] if widths else 0


def records(data: bytes, quoted: bool) -> list[tuple[int, str, bool]]:
    """Rows as (line from 0, text, whether its quotes close). A stray quote costs its own line only."""
    lines = data.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if not quoted or b'"' not in data:
        return [(i, line, True) for i, line in enumerate(lines)]
    found, i = [], 0
    while i < len(lines):
        end, odd = i, lines[i].count('"') % 2 == 1
        while odd and end + 1 < len(lines) and end - i < _LONGEST:
            end += 1
            odd ^= lines[end].count('"') % 2 == 1
        if odd:
            found.append((i, lines[i], not lines[i].count('"') % 2))
            i += 1
        else:
            found.append((i, "\n".join(lines[i : end + 1]), True))
            i = end + 1
    return found


@dataclass(frozen=True)
class Parsed:
    """Cells of the wanted columns as text or numbers, rows of the wrong width, and where each row stands."""

    columns: list[pa.Array]
    wrong: list[tuple[int, str, str]]  # line, reason, text
    locate: Callable[[Sequence[int]], list[Located]]  # rows of the columns -> line and text


def parse(block: Block, dialect: Dialect, width: int, wanted: Sequence[tuple[int, pa.DataType]]) -> Parsed:
    """The wanted (position, Arrow type) columns of a block of rows that are `width` wide."""
    if not block.unbalanced:
        for types in (wanted, [(position, pa.string()) for position, _ in wanted]):
            try:
                fast = _by_arrow(block, dialect, width, types)
            except pa.ArrowInvalid:
                continue  # a cell that is no number: once more as text, so that each is judged alone
            if fast is not None:
                return fast
    return _row_by_row(block, dialect, width, [position for position, _ in wanted])


def _by_arrow(
    block: Block, dialect: Dialect, width: int, wanted: Sequence[tuple[int, pa.DataType]]
) -> Parsed | None:
    """None when Arrow and `records` disagree about where rows end, so that line numbers could be wrong."""
    data, delimiter = dialect.one_character(block.data)
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
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
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
    cache: list[tuple[int, str, bool]] = []

    def rows() -> list[tuple[int, str, bool]]:
        if not cache:
            cache.extend(records(block.data, dialect.quoted))
        return cache

    wrong_rows = {number - 1: actual for number, actual in invalid}
    if (wrong_rows or (dialect.quoted and b'"' in block.data)) and len(rows()) != count:
        return None

    def locate(indexes: Sequence[int]) -> list[Located]:
        kept = [i for i in range(count) if i not in wrong_rows]
        return [(block.line + rows()[kept[i]][0], rows()[kept[i]][1]) for i in indexes]

    wrong = []
    for number, actual in sorted(wrong_rows.items()):
        line, text, _ = rows()[number]
        if text.strip():
            wrong.append((block.line + line, _width_reason(actual, width), text))
    return Parsed([table.column(str(position)) for position, _ in wanted], wrong, locate)


def _row_by_row(block: Block, dialect: Dialect, width: int, positions: Sequence[int]) -> Parsed:
    kept: list[list[str]] = []
    where: list[Located] = []
    wrong = []
    for offset, text, closed in records(block.data, dialect.quoted):
        if not text.strip():
            continue
        if not closed:
            wrong.append((block.line + offset, "a quote that never closes", text))
            continue
        cells = (
            next(csv.reader([text], delimiter=dialect.delimiter), []) if "\n" in text else dialect.split(text)
        )
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
