"""Files of rows, read as typed Arrow tables: delimited text, JSON lines and Parquet, plain, gzip or zstd.

What connectors share: the options of a file, what a column must be, and `read`. Importing this imports no Arrow,
so that a connector's help page answers at once; the work is done by the modules beside this one.

One bad row never stops a reader: it comes out as a `Reject` with file, 1-based line (row number in Parquet) and
reason. A file that cannot be read at all raises ConnectorError with one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.records import Progress, Record, Reject, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("string", "id", "int64", "float64", "bool", "time")


@dataclass(frozen=True)
class Layout:
    """How a text file is written, and which of its rows are meant.

    `delimiter` "auto" goes by the file's ending, then by its first lines; `quote` and `escape` as `dialect_of` says;
    `header` None goes by the rule of `kgkit.tabular.header`, which takes `likely_header` where it is unsure.
    `decimal` is the decimal comma or point of numbers. `times` are formats of times, tried in order. `where` are
    conditions COLUMN=VALUE: of one column any must hold, of several columns all. `rename` are OLD=NEW.
    """

    delimiter: str = "auto"
    encoding: str = "utf-8"
    header: bool | None = True
    likely_header: bool = True
    quote: str = "auto"
    escape: str = "auto"
    decimal: str = "."
    times: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    rename: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileOptions:
    """Options of every connector that reads files of rows."""

    likely_header: ClassVar[bool] = True  # whether files of this kind usually have one

    paths: tuple[Path, ...] = option(help="files to read; .gz, .bz2, .xz and .zst are unpacked on the way")
    source: str | None = option(None, "name by which the graph remembers the rows; default: the file's name")
    delimiter: str = option(
        "auto",
        "',', ';', 'tab', '::', 'whitespace' or any text; auto: by ending and first lines",
    )
    encoding: str = option("utf-8", "character encoding of text files, for example latin-1")
    header: bool | None = option(
        None,
        "the first row names the columns; --no-header: columns are 1, 2, 3; default: by the first rows, and said "
        "where unsure",
    )
    quote: str = option("auto", "character around cells that hold delimiters; none: quotes mean nothing")
    escape: str = option(
        "auto", 'character before a quote that is part of a cell, such as \\; none: only "" is'
    )
    decimal: str = option(".", "what stands before the decimals of a number", choices=(".", ","))
    time_format: tuple[str, ...] = option(
        (),
        "how times are written, such as '%d.%m.%Y %H:%M' (Python's strptime; %Z: a zone's name; repeatable: the "
        "first that fits counts)",
    )
    where: tuple[str, ...] = option(
        (), "COLUMN=VALUE: leave out other rows (repeatable: any value of a column, all columns)"
    )
    rename: tuple[str, ...] = option((), "OLD=NEW: call a column NEW (repeatable)")

    @property
    def layout(self) -> Layout:
        """The part of the options that `read` needs."""
        return Layout(
            self.delimiter,
            self.encoding,
            self.header,
            self.likely_header,
            self.quote,
            self.escape,
            self.decimal,
            self.time_format,
            self.where,
            self.rename,
        )


@dataclass(frozen=True)
class Column:
    """A column to read and what its cells must be.

    `at` is its position (from 0) where the caller knows it. `given` is what a person typed: a whole number is always
    a position (from 1), anything else a name. Otherwise the first of `usual` names that the file has is taken,
    compared without regard to case, '_', '-' and what follows ':', then the only one that matches the pattern `like`;
    without a header `position` (from 0) is. A `required` column must exist; a `nullable` one may have empty cells,
    which become nulls. A value below `ge` or above `le` is malformed. Rows whose cell is empty in an `optional_row`
    column are left out.

    Kind "id" is text without blanks around it, and a whole number without ".0", whatever the file's format, a cell at
    a time: `42`, `42.0` and the number 42 are one id. Kind "time" is read from ISO 8601 text or a number since 1970
    (seconds; from 1e11 up milliseconds, from 1e14 microseconds, from 1e17 nanoseconds) and comes out as int64 seconds
    UTC. Whole numbers from 19000101 to 21001231 that write a day of the calendar (YYYYMMDD) are that day.
    """

    name: str
    kind: str = "string"
    given: str | None = None
    usual: tuple[str, ...] = ()
    position: int | None = None
    required: bool = True
    nullable: bool = False
    ge: float | None = None
    le: float | None = None
    at: int | None = None
    like: str = ""
    optional_row: bool = False
    decimal: str = "."
    times: tuple[str, ...] = ()


PASSED = (Reject, Progress, Skipped)  # what `read` yields beside tables, for callers to pass on


def read(
    path: Path, columns: Sequence[Column], layout: Layout | None = None
) -> Iterator[pa.Table | Reject | Progress | Skipped]:
    """Yields tables of the columns (those that exist, in the order asked), rejects, and a Progress a block.

    Raises ConnectorError for a file that is missing, empty, truncated, wrongly encoded or lacks a column.
    """
    from kgkit.tabular.reader import read_file

    return read_file(Path(path), tuple(columns), layout or Layout())


def read_as(
    make: Callable[[pa.Table], Record], path: Path, columns: Sequence[Column], layout: Layout | None = None
) -> Iterator[Record]:
    """`read` with each table made into a record: `read_as(Facts, path, columns)`."""
    for found in read(path, columns, layout):
        yield found if isinstance(found, PASSED) else make(found)


def names(path: Path, layout: Layout | None = None, columns: Sequence[Column] = ()) -> list[str]:
    """The names of a file's columns, renamed; "1", "2", ... without a header. Raises ConnectorError as `read` does.

    `columns`: those that will be read, by whose names a header is known.
    """
    from kgkit.tabular.reader import column_names

    return column_names(Path(path), layout or Layout(), tuple(columns))


def property_kinds(path: Path, columns: Sequence[Column], layout: Layout | None = None) -> dict[str, str]:
    """The kind that fits all cells of each column: "int64", "float64", "bool" or "string"; reads the whole file."""
    from kgkit.tabular.kinds import narrowest

    return narrowest(Path(path), columns, layout or Layout())


def seconds(text: str | None, flag: str) -> int | None:
    """A point in time typed as an option (ISO 8601, UTC unless it says otherwise, or seconds since 1970)."""
    if text is None:
        return None
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{flag} must be a date such as 2024-05-31 or seconds since 1970, got {text!r}"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
