"""The folder of KGCN and KGNN-LS: ratings, `kg.txt`, and `item_index2entity_id.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kgkit import Connector, hookimpl, option
from kgkit.errors import ConnectorError
from kgkit.records import Alignments, Facts, Purchases, Record, Skipped
from kgkit.tabular import PASSED, Column, Layout, names, read, read_as

RATINGS = ("user_artists.dat", "ratings.csv", "ratings.dat", "ratings.txt", "BX-Book-Ratings.csv")
FACTS = ("kg.txt", "kg_final.txt")
ALIGNMENT = "item_index2entity_id.txt"
COUNTS = ("weight", "count", "plays")  # a third column of these names counts; any other rates


class KgcnFolder(Connector):
    """As the papers' preprocessing does, only interactions with items of the alignment are kept; the rest is counted."""

    name = "kgcn"
    about = "the KGCN papers' folder: ratings, kg.txt, item_index2entity_id.txt"

    @dataclass(frozen=True)
    class Config:
        """Options of `kgkit ingest kgcn`."""

        paths: tuple[Path, ...] = option(help="the folder")
        source: str | None = option(
            None, "name by which the graph remembers the folder; default: the folder's name"
        )
        ratings: str | None = option(
            None, "the ratings file; default: the first there is of " + ", ".join(RATINGS)
        )
        min_rating: float | None = option(
            None, "leave out rows whose third column is lower (the papers: 4 for MovieLens, none for Last.FM)"
        )
        encoding: str = option("utf-8", "character encoding of the files")

    def source(self, config: Config) -> str:
        """The folder's name."""
        return config.source or "+".join(path.resolve().name for path in config.paths)

    def files(self, config: Config) -> list[Path]:
        """Ratings, facts and alignment of each folder."""
        found: list[Path] = []
        for folder in config.paths:
            found += _parts(folder, config)
        return found

    def read(self, config: Config) -> Iterator[Record]:
        """Yields alignments, facts and interactions."""
        for folder in config.paths:
            ratings, facts, alignment = _parts(folder, config)
            yield from _read_folder(ratings, facts, alignment, config)


def _parts(folder: Path, config: KgcnFolder.Config) -> tuple[Path, Path, Path]:
    """The three files; ConnectorError names the one that is not there."""
    if not folder.is_dir():
        raise ConnectorError("no such folder" if not folder.exists() else "not a folder", folder)

    def first(candidates: tuple[str, ...], remedy: str) -> Path:
        there = [folder / name for name in candidates if (folder / name).is_file()]
        if not there:
            raise ConnectorError(f"the folder has no {' or '.join(candidates)}{remedy}", folder)
        return there[0]

    ratings = first((config.ratings,) if config.ratings else RATINGS, ": name it by --ratings")
    return ratings, first(FACTS, ""), first((ALIGNMENT,), "")


def _read_folder(ratings: Path, facts: Path, alignment: Path, config: KgcnFolder.Config) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.compute as pc

    layout = Layout(encoding=config.encoding, header=None)
    plain = Layout(encoding=config.encoding, header=False, likely_header=False)
    listed = [pa.array([], pa.string())]
    for found in read(
        alignment, [Column("item", "id", position=0), Column("entity", "id", position=1)], plain
    ):
        if isinstance(found, PASSED):
            yield found
            continue
        listed += found["item"].chunks
        yield Alignments(found)
    columns = [Column(c, "id", position=i) for i, c in enumerate(("head", "relation", "tail"))]
    yield from read_as(Facts, facts, columns, plain)

    known = pa.chunked_array(listed).unique()
    have = names(ratings, layout)
    third = have[2] if len(have) > 2 else ""
    value = "count" if third.strip('"').lower() in COUNTS else "rating"
    columns = [Column("user", "id", at=0), Column("item", "id", at=1)]
    if third:
        kind, least = ("int64", 1) if value == "count" else ("float64", None)
        columns.append(Column(value, kind, at=2, ge=least))
    for found in read(ratings, columns, layout):
        if isinstance(found, PASSED):
            yield found
            continue
        kept = found.filter(pc.is_in(found["item"], known))
        if left_out := found.num_rows - kept.num_rows:
            yield Skipped(left_out, f"items that {ALIGNMENT} does not list")
        if config.min_rating is not None and third:
            enough = kept.filter(pc.greater_equal(kept[value], config.min_rating))
            if left_out := kept.num_rows - enough.num_rows:
                yield Skipped(left_out, "below --min-rating")
            kept = enough
        yield Purchases(kept)


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [KgcnFolder]
