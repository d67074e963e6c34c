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
from typing import TYPE_CHECKING

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.records import Progress, Record, Reject

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("string", "int64", "float64", "bool", "time")


@dataclass(frozen=True)
class Layout:
    """How a text file is written. `delimiter` "auto" goes by the file's ending, then by its first lines."""

    delimiter: str = "auto"
    encoding: str = "utf-8"
    header: bool = True


@dataclass(frozen=True)
class FileOptions:
    """Options of every connector that reads files of rows."""

    paths: tuple[Path, ...] = option(help="files to read; .gz and .zst are unpacked on the way")
    source: str | None = option(None, "name by which the graph remembers the rows; default: the file's name")
    delimiter: str = option(
        "auto",
        "',', ';', 'tab', '::', 'whitespace' or any text; auto: by ending and first lines",
    )
    encoding: str = option("utf-8", "character encoding of text files, for example latin-1")
    header: bool = option(True, "the first line names the columns; without, columns are 1, 2, 3")

    @property
    def layout(self) -> Layout:
        """The part of the options that `read` needs."""
        return Layout(self.delimiter, self.encoding, self.header)


@dataclass(frozen=True)
class Column:
    """A column to read and what its cells must be.

    `given` is what a person typed (a name, or a 1-based position); otherwise the first of `usual` names that the
    file has is taken, compared without regard to case, '_', '-' and what follows ':'; without a header `position`
    (from 0) is. A `required` column must exist; a `nullable` one may have empty cells, which become nulls. A value
    below `ge` is malformed.

    Kind "time" is read from ISO 8601 text or a number since 1970 (seconds; from 1e11 up milliseconds, from 1e14
    microseconds, from 1e17 nanoseconds) and comes out as int64 seconds UTC. Whole numbers from 19000101 to 21001231
    that write a day of the calendar (YYYYMMDD) are that day.
    """

    name: str
    kind: str = "string"
    given: str | None = None
    usual: tuple[str, ...] = ()
    position: int | None = None
    required: bool = True
    nullable: bool = False
    ge: float | None = None


def read(
    path: Path, columns: Sequence[Column], layout: Layout | None = None
) -> Iterator[pa.Table | Reject | Progress]:
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
        yield found if isinstance(found, (Reject, Progress)) else make(found)


def names(path: Path, layout: Layout | None = None) -> list[str]:
    """The names of a file's columns; "1", "2", ... without a header. Raises ConnectorError as `read` does."""
    from kgkit.tabular.reader import column_names

    return column_names(Path(path), layout or Layout())


def property_kinds(path: Path, columns: Sequence[str], layout: Layout | None = None) -> dict[str, str]:
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
