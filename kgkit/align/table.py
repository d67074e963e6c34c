"""The table that people review: tab-separated, a row for each item (for each candidate where several are left)."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kgkit import disk
from kgkit.errors import ConnectorError, DiskError

ACCEPTED, REVIEW, AMBIGUOUS, UNMATCHED = STATUSES = ("accepted", "review", "ambiguous", "unmatched")
JUDGED = "correct?"
_YES, _NO = ("y", "yes", "1", "true"), ("n", "no", "0", "false")


@dataclass
class Row:
    """One line. score, margin: 0 to 100, None where there is nothing to compare; `note` says why it stands so."""

    item: str
    entity: str = ""
    item_name: str = ""
    entity_name: str = ""
    method: str = ""
    score: float | None = None
    runner_up: str = ""
    runner_up_name: str = ""
    margin: float | None = None
    status: str = UNMATCHED
    note: str = ""


COLUMNS = tuple(f.name for f in dataclasses.fields(Row))


def write_rows(path: Path, rows: Iterable[Row], extra: Sequence[str] = ()) -> int:
    """Writes a table, with empty columns `extra` before the others, and returns its rows.

    The file is there whole or not at all: half a table would be taken for all of it. Raises DiskError.
    """
    count = 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        writer = csv.writer(codecs.getwriter("utf-8")(file), dialect="excel-tab", lineterminator="\n")
        writer.writerow([*extra, *COLUMNS])
        for row in rows:
            count += 1
            writer.writerow([*("" for _ in extra), *(_cell(getattr(row, c)) for c in COLUMNS)])

    try:
        disk.replace(path, write)
    except DiskError as error:
        raise DiskError(f"--out {path}: {error}; the graph is as it was") from error
    return count


def write_proposal(path: Path, rows: Sequence[Row]) -> dict[str, Path]:
    """Writes `alignment.tsv` (accepted, review), `alignment-ambiguous.tsv` and `alignment-unmatched.tsv`.

    All three are written, empty ones too, so that none of an earlier run is taken for this one's.
    """
    files = {"alignment": path}
    write_rows(path, (r for r in rows if r.status in (ACCEPTED, REVIEW)))
    for status in (AMBIGUOUS, UNMATCHED):
        files[status] = beside(path, status)
        write_rows(files[status], (r for r in rows if r.status == status))
    return files


def beside(path: Path, word: str) -> Path:
    """alignment.tsv -> alignment-<word>.tsv."""
    return path.with_name(f"{path.stem}-{word}{path.suffix}")


def write_sample(path: Path, rows: Sequence[Row], size: int, seed: int) -> int:
    """A random sample of the accepted rows, with an empty column `correct?` to fill in."""
    accepted = [row for row in rows if row.status == ACCEPTED]
    chosen = random.Random(seed).sample(range(len(accepted)), min(size, len(accepted)))  # nosec B311
    return write_rows(path, (accepted[i] for i in sorted(chosen)), extra=(JUDGED,))


@dataclass(frozen=True)
class Accepted:
    """The rows of a table that are to be applied, and how many of other statuses there are."""

    pairs: list[tuple[str, str]]
    left_out: dict[str, int]


def read_accepted(path: Path) -> Accepted:
    """Reads a table that a person may have edited; only `item`, `entity` and `status` count.

    Raises ConnectorError for a file that is no such table, an unknown status, or an accepted row without its ids.
    """
    pairs, left_out = [], dict.fromkeys((REVIEW, AMBIGUOUS, UNMATCHED), 0)
    for line, row in _read(path, ("item", "entity", "status")):
        status = row["status"].strip().lower()
        if status not in STATUSES:
            raise ConnectorError(
                f"status {row['status']!r} is unknown: write accepted to apply the row, else "
                f"{', '.join(STATUSES[1:])}",
                path,
                line,
            )
        if status != ACCEPTED:
            left_out[status] += 1
            continue
        item, entity = row["item"].strip(), row["entity"].strip()
        if not item or not entity:
            raise ConnectorError("an accepted row needs an item and an entity", path, line)
        pairs.append((item, entity))
    return Accepted(pairs, left_out)


@dataclass(frozen=True)
class Share:
    """`right` of `of`, with Wilson's 95 % interval; all zero of nothing."""

    right: int
    of: int
    share: float
    low: float
    high: float


def wilson(right: int, of: int, z: float = 1.96) -> Share:
    """The share and its score interval, which stays within 0 and 1 and is honest for few rows."""
    if of == 0:
        return Share(0, 0, 0.0, 0.0, 0.0)
    p = right / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return Share(right, of, p, max(0.0, centre - half), min(1.0, centre + half))


def read_precision(path: Path) -> tuple[Share, int]:
    """The precision that a filled-in sample says, and how many of its rows nobody judged.

    Raises ConnectorError for a judgement that is neither yes nor no.
    """
    right = of = blank = 0
    for line, row in _read(path, (JUDGED,)):
        said = row[JUDGED].strip().lower()
        if not said:
            blank += 1
        elif said in _YES or said in _NO:
            right, of = right + (said in _YES), of + 1
        else:
            raise ConnectorError(f"{JUDGED} is {row[JUDGED]!r}: write y or n, or leave it empty", path, line)
    return wilson(right, of), blank


def _read(path: Path, needed: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, dialect="excel-tab")
            header = [name.strip() for name in next(reader, [])]
            lacking = [name for name in needed if name not in header]
            if lacking:
                raise ConnectorError(
                    f"no column {', '.join(lacking)}: a tab-separated table of `kgkit align` has it", path, 1
                )
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) < len(header):  # editors drop empty cells at the end
                    cells += [""] * (len(header) - len(cells))
                yield reader.line_num, dict(zip(header, cells, strict=False))
    except OSError as error:
        raise ConnectorError(f"cannot be read: {error.strerror}", path) from None
    except UnicodeDecodeError as error:
        raise ConnectorError(f"not UTF-8 ({error.reason}): save it as UTF-8 text", path) from None
    except csv.Error as error:
        raise ConnectorError(f"not a tab-separated table: {error}", path) from None


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else value
