"""Malformed rows: counted against --max-rejects, and listed in a tab-separated file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

from kgkit.errors import ConfigError, TooManyRejects
from kgkit.records import Data, Kept, Progress, Record, Reject, Skipped

HEADER = ("file", "line", "reason", "text")


class RejectsFile:
    """The list of one command; None for the path lists nothing.

    The file is begun with the first row, so that a clean run leaves no empty file behind.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.listed = 0
        self._file: IO[str] | None = None
        self._writer: Any = None

    def add(self, reject: Reject) -> None:
        """Lists a row. Raises ConfigError when the file cannot be written."""
        if self.path is None:
            return
        if self._file is None:
            try:
                # A command's later sources add to the list that its first ones began.
                self._file = self.path.open("a" if self.listed else "w", encoding="utf-8", newline="")
            except OSError as error:
                raise ConfigError(f"--rejects {self.path} cannot be written: {error.strerror}") from None
            self._writer = csv.writer(self._file, dialect="excel-tab")
            if not self.listed:
                self._writer.writerow(HEADER)
        self.listed += 1
        self._writer.writerow([reject.file, reject.line or "", reject.reason, reject.text])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Rejects:
    """The malformed rows of one source. `limit` is "0.1%" of its rows, or a number of rows."""

    def __init__(self, limit: str | int, listing: RejectsFile) -> None:
        self.limit, self.listing = str(limit), listing
        self._share, self._most = parse_limit(self.limit)
        self.count = self.rows = 0
        self.first: Reject | None = None
        self.notes: dict[str, None] = {}  # what readers said, each once, in order

    def add(self, reject: Reject) -> None:
        """Counts and lists a malformed row."""
        self.count += 1
        self.first = self.first or reject
        self.listing.add(reject)

    def seen(self, progress: Progress) -> None:
        """Counts rows; stops a hopeless source early instead of listing all of its rows.

        Raises TooManyRejects when there are more than twice as many as the whole source may have.
        """
        self.rows += progress.rows
        self.notes |= dict.fromkeys(progress.notes)
        part = progress.done / progress.total if progress.total and progress.done else 1.0
        expected = self.rows / part
        if self.count > 1000 and self.count > 2 * self.allowed(expected):
            self._stop()

    def sifted(
        self, records: Iterable[Record], tell: Callable[[Progress], None] = lambda progress: None
    ) -> Iterator[Data | Skipped | Kept]:
        """The records that are no Reject and no Progress; those are counted and listed. `tell` hears of Progress.

        Raises TooManyRejects, at the end of the records at the latest.
        """
        for record in records:
            if isinstance(record, Progress):
                self.seen(record)
                tell(record)
            elif isinstance(record, Reject):
                self.add(record)
            else:
                yield record
        self.check()

    def check(self) -> None:
        """Raises TooManyRejects when the rows seen so far allow fewer."""
        if self.count > self.allowed(self.rows):
            self._stop()

    def allowed(self, rows: float) -> float:
        """How many of so many rows may be malformed."""
        return self._share * rows if self._most is None else self._most

    def _stop(self) -> None:
        assert self.first is not None
        listed = f"; all are listed in {self.listing.path}" if self.listing.path else ""
        raise TooManyRejects(
            f"{self.count:,} of {self.rows:,} rows are malformed, more than --max-rejects {self.limit}; the first: "
            f"{self.first.reason}{listed}",
            self.first.file,
            self.first.line,
        )


def parse_limit(text: str) -> tuple[float, int | None]:
    """ "0.1%" -> (0.001, None); "5" -> (0, 5). Raises ConfigError for anything else."""
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share <= 1:
                return share, None
        elif int(text) >= 0:
            return 0.0, int(text)
    except ValueError:
        pass
    raise ConfigError(f"--max-rejects must be a share such as 0.1% or a number of rows, got {text!r}")
