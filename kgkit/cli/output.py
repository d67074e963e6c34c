"""How every command shows rows: tables for people, CSV, JSON or Parquet for programs."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from kgkit import disk
from kgkit.errors import ConfigError, DiskError

FORMATS = ("table", "csv", "json", "parquet")
# What a terminal obeys or shows in another order than it is: controls but for line end and tab, and marks of direction.
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
)  # what a spreadsheet takes for the beginning of one (OWASP, CSV injection)


def visible(text: str) -> str:
    """Text for a terminal: control characters, and marks that turn the direction of writing, as escapes."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str = "", err: bool = False, nl: bool = True) -> None:
    """Prints text with values in it: as it is to a pipe or file, `visible` on a terminal."""
    stream = sys.stderr if err else sys.stdout
    stream.write((visible(text) if stream.isatty() else text) + ("\n" if nl else ""))
    stream.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints rows: drawn by rich on a terminal, else aligned with two spaces, so that `awk` and `less` get on with it.

    Floats are shortened for the eye; numbers stand to the right.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=None if title is None else Text(visible(title)), title_justify="left")
        for name, right in zip(columns, numeric, strict=True):
            table.add_column(Text(visible(name)), justify="right" if right else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(visible(value)) for value in row))
        Console().print(table)
        return
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    if title:
        say(title)
    for line in [list(columns), *cells]:
        parts = [
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(line, widths, numeric, strict=True)
        ]
        say("  ".join(parts).rstrip())


def format_of(format: str | None, output: Path | None) -> str:
    """One of FORMATS: what was asked for, or what the file's ending says, CSV where it has none.

    Raises ConfigError for another one.
    """
    if format is None:
        suffix = output.suffix.removeprefix(".").lower() if output else "table"
        format = suffix or "csv"
        if format not in FORMATS:
            raise ConfigError(
                f"--output {output}: no file ending in .{suffix} can be written: use {', '.join('.' + f for f in FORMATS)}, "
                "or say --format"
            )
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    if format == "parquet" and output is None:
        raise ConfigError("--format parquet needs --output FILE")
    return format


def to_format(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    format: str | None = None,
    output: Path | None = None,
    spreadsheets: bool = False,
) -> int:
    """Writes rows to a file, or to the standard output, and returns how many they were.

    `format` is one of FORMATS; None takes it from the file's suffix. `spreadsheets`: text that one takes for a formula
    gets an apostrophe before it, in CSV. Raises ConfigError for a format that is unknown
    or cannot hold the rows, and for a file that cannot be written.
    """
    format = format_of(format, output)
    if output is not None:
        check_writable("--output", output)
    found = [tuple(row) for row in rows]
    if format == "parquet" and output is not None:
        _write_whole("--output", output, lambda file: _parquet(columns, found, file))
    elif output is not None:
        write_text("--output", output, _text(columns, found, format, spreadsheets))
    else:
        _print(columns, found, format, spreadsheets)
    return len(found)


def _print(columns: Sequence[str], found: Sequence[Sequence[Any]], format: str, spreadsheets: bool) -> None:
    if format == "table" and len(found) == 1 and isinstance(found[0][0], str) and "\n" in found[0][0]:
        say(found[0][0])  # a drawn plan: EXPLAIN
    elif format == "table":
        print_table(columns, found)
    else:
        say(_text(columns, found, format, spreadsheets), nl=False)


def check_writable(option: str, file: Path) -> None:
    """Raises ConfigError, naming the option that asked for the file, at once rather than after minutes of reading."""
    if file.is_dir():
        raise ConfigError(f"{option} {file}: is a folder; name a file in it, such as {file / 'page.html'}")
    if not file.parent.is_dir():
        raise ConfigError(
            f"{option} {file}: there is no folder {file.parent}; make it first (mkdir -p {file.parent})"
        )
    if why := disk.refusal(file if file.exists() else file.parent):
        raise ConfigError(f"{option} {file}: {why}")


def write_text(option: str, file: Path, text: str) -> None:
    """Writes a whole file. Raises DiskError naming the option that asked for it."""
    _write_whole(option, file, lambda stream: stream.write(text.encode()))


def _write_whole(option: str, file: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file whole or not at all, so that a full disk leaves the one that was there. Raises DiskError."""
    try:
        disk.replace(file, write)
    except DiskError as error:
        was = "what was there before is whole" if file.is_file() else "nothing of it is there"
        raise DiskError(f"{option} {file}: {error}; {was}, and the graph is as it was") from error


def _text(columns: Sequence[str], rows: Sequence[Sequence[Any]], format: str, spreadsheets: bool) -> str:
    if format == "json":
        named = (dict(zip(columns, row, strict=True)) for row in rows)
        lines = ",\n".join(_json(row) for row in named)
        return f"[\n{lines}\n]\n" if lines else "[]\n"
    buffer = io.StringIO()
    if format == "csv":
        writer = csv.writer(buffer, lineterminator="\n")
        cell = _spreadsheet_cell if spreadsheets else _csv_cell
        writer.writerows([cell(value) for value in row] for row in [columns, *rows])
    else:
        for row in [columns, *rows]:
            buffer.write("\t".join(_cell(value) for value in row) + "\n")
    return buffer.getvalue()


def _parquet(columns: Sequence[str], rows: Sequence[Sequence[Any]], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = []
    for i, name in enumerate(columns):
        try:
            arrays.append(pa.array([row[i] for row in rows]))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise ConfigError(
                f"column {name} holds values of several types, which Parquet cannot: use --format json"
            ) from None
    pq.write_table(pa.table(arrays, names=list(columns)), file)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    return _json(value) if isinstance(value, dict | list) else str(value)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return _in_json(value)
    return _json(value) if isinstance(value, dict | list) else value


def _spreadsheet_cell(value: Any) -> Any:
    """Numbers stay numbers, also negative ones."""
    cell = _csv_cell(value)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_in_json)


def _in_json(value: Any) -> str:
    """What JSON has no word for: bytes as base64, the rest as Python says it."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "") or "0")
    except ValueError:
        return False
    return True
