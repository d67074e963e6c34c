"""MovieLens-100K's linkage: the published one, which is wrong, known by its content, and the right one.

RecBole's wheel links item n of MovieLens-100K with the entity that KB4Rec gives to movie n of MovieLens-20M. The two
sets number their films differently, so that nearly every item is another film. `ml100k_to_movielens.tsv` beside this
file leads from an item's number to the film's number in the later sets, whose row of the same `.link` is right.

The pairs were found by title and year, within a year, in MovieLens-20M's and MovieLens-1M's film lists; where the
later sets write a title otherwise (Star Wars: Episode IV), by hand. Of two items that are one film, the one with fewer
ratings stands at the end. Numbers only: no title, rating or entity of either set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from kgkit.errors import ConnectorError
from kgkit.records import Alignments, Progress, Record, Skipped

RIGHT, PUBLISHED = CHOICES = ("movielens-100k", "as-published")
TABLE = Path(__file__).with_name("ml100k_to_movielens.tsv")
ROWS = 1_598
DIGEST = "0164123e7767f3dbc9435c886e6b0d76f3a77f21123764f6059f01c4b9604da5"  # of the pairs as lines, sorted
FAULT = (
    "it gives each item of MovieLens-100K the entity of the same number in MovieLens-20M, which is another film "
    "(Titanic stands at The Swan Princess)"
)


def numbers() -> dict[str, str]:
    """Item of MovieLens-100K -> film of the later sets, in the file's order."""
    lines = TABLE.read_text(encoding="ascii").splitlines()[1:]
    item, film = zip(*(line.split("\t") for line in lines), strict=True)
    return dict(zip(item, film, strict=True))


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """Hex SHA-256 of the distinct pairs, in whatever order they come."""
    lines = sorted({f"{item}\t{entity}\n" for item, entity in pairs})
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def linked(pairs: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
    """(item, entity) by the films' own numbers, and how many items were left out as second items of a film.

    pairs: (film of the later sets, entity).
    """
    entity_of, taken, found, twins = dict(pairs), set[str](), [], 0
    for item, film in numbers().items():
        entity = entity_of.get(film)
        if entity is None:
            continue
        if entity in taken:
            twins += 1
            continue
        taken.add(entity)
        found.append((item, entity))
    return found, twins


def checked(records: Iterator[Record], path: Path, choice: str | None) -> Iterator[Record]:
    """The records of a `.link`, corrected where they are the published ones and `choice` is not to take them so.

    At most as many rows as the published file has are held. Raises ConnectorError where `choice` asks for the
    correction of another file.
    """
    held: list[Record] = []
    rows = 0
    for record in records:
        held.append(record)
        rows += record.table.num_rows if isinstance(record, Alignments) else 0
        if rows > ROWS:
            break
    pairs = list(_pairs(held)) if rows == ROWS else []
    if not pairs or digest(pairs) != DIGEST:
        if choice == RIGHT:
            raise ConnectorError(
                f"--link {RIGHT} corrects the linkage inside the recbole wheel ({ROWS:,} pairs), and this is another: "
                "leave the option out to take the file as it is",
                path,
            )
        yield from held
        yield from records
        return
    if choice == PUBLISHED:
        yield from held
        yield _said(f"{path.name} taken as published: {FAULT}; --link {RIGHT} takes the right one")
        return
    yield from (record for record in held if not isinstance(record, Alignments))
    yield from _corrected(pairs)
    if choice is None:
        right = len(linked(pairs)[0])
        yield _said(
            f"{path.name} is the one inside the recbole wheel: {FAULT}; used instead: --link {RIGHT}, {right:,} items "
            f"by title and year (--link {PUBLISHED} takes the file as it is)"
        )


def _corrected(pairs: list[tuple[str, str]]) -> Iterator[Record]:
    import pyarrow as pa

    found, twins = linked(pairs)
    items, entities = zip(*found, strict=True)
    yield Alignments(pa.table({"item": pa.array(items), "entity": pa.array(entities)}))
    if twins:
        yield Skipped(
            twins, "second items of films that MovieLens-100K lists twice: they stay without an entity"
        )


def _pairs(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    for record in records:
        if isinstance(record, Alignments):
            yield from zip(record.table["item"].to_pylist(), record.table["entity"].to_pylist(), strict=True)


def _said(text: str) -> Progress:
    return Progress(0, notes=(f"warning: {text}",))
