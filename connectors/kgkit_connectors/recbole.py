"""A folder of RecBole's atomic files: `.inter .kg .link .item .user`, with headers like `user_id:token`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kgkit import Connector, hookimpl, option
from kgkit.errors import ConnectorError
from kgkit.records import Alignments, Facts, Features, Purchases, Record, Skipped
from kgkit.tabular import PASSED, Column, Layout, names, read, read_as
from kgkit_connectors import movielens_100k

SUFFIXES = (".inter", ".kg", ".link", ".item", ".user")
KINDS = {"token": "string", "token_seq": "string", "float": "float64", "float_seq": "string"}
NAMES = ("name", "title")


class AtomicFiles(Connector):
    """Keeps every interaction, of linked items or not."""

    name = "recbole"
    about = "a folder of RecBole's atomic files: .inter .kg .link .item .user"

    @dataclass(frozen=True)
    class Config:
        """Options of `kgkit ingest recbole`."""

        paths: tuple[Path, ...] = option(help="folder with the atomic files")
        source: str | None = option(
            None, "name by which the graph remembers the folder; default: the folder's name"
        )
        min_rating: float | None = option(None, "leave out interactions with a lower rating, or with none")
        name_column: str | None = option(
            None, "column of .item that becomes the property `name`; default: one called *name* or *title*"
        )
        link: str | None = option(
            None,
            "movielens-100k: the right linkage in the place of the wrong one inside the recbole wheel; as-published: that "
            "one, as RecBole reads it; default: the right one where the wrong one is found, else the file as it is",
            choices=movielens_100k.CHOICES,
        )
        encoding: str = option("utf-8", "character encoding of the files")

    def source(self, config: Config) -> str:
        """The folder's name."""
        return config.source or "+".join(path.resolve().name for path in config.paths)

    def files(self, config: Config) -> list[Path]:
        """The atomic files of the folders."""
        found = []
        for folder in config.paths:
            if not folder.is_dir():
                raise ConnectorError("no such folder" if not folder.exists() else "not a folder", folder)
            here = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
            if not here:
                raise ConnectorError(f"no atomic file ({' '.join(SUFFIXES)}) in the folder", folder)
            found += here
        return found

    def read(self, config: Config) -> Iterator[Record]:
        """Yields facts, alignments, interactions and attributes."""
        layout = Layout("\t", config.encoding)
        readers = {
            ".kg": _facts,
            ".link": _alignments,
            ".inter": _interactions,
            ".item": _items,
            ".user": _users,
        }
        files = self.files(config)
        if config.link is not None and not any(path.suffix == ".link" for path in files):
            raise ConnectorError(f"--link {config.link}: there is no .link in the folder", config.paths[0])
        for path in sorted(files, key=lambda p: SUFFIXES.index(p.suffix)):
            yield from readers[path.suffix](path, layout, config)


def _facts(path: Path, layout: Layout, config: AtomicFiles.Config) -> Iterator[Record]:
    columns = [
        Column("head", "id", usual=("head_id",)),
        Column("relation", "id", usual=("relation_id",)),
        Column("tail", "id", usual=("tail_id",)),
    ]
    yield from read_as(Facts, path, columns, layout)


def _alignments(path: Path, layout: Layout, config: AtomicFiles.Config) -> Iterator[Record]:
    columns = [Column("item", "id", usual=("item_id",)), Column("entity", "id", usual=("entity_id",))]
    yield from movielens_100k.checked(read_as(Alignments, path, columns, layout), path, config.link)


def _interactions(path: Path, layout: Layout, config: AtomicFiles.Config) -> Iterator[Record]:
    import pyarrow.compute as pc

    columns = [
        Column("user", "id", usual=("user_id",)),
        Column("item", "id", usual=("item_id",)),
        Column("time", "time", usual=("timestamp",), required=False, nullable=True),
        Column("rating", "float64", usual=("rating",), required=config.min_rating is not None, nullable=True),
    ]
    for found in read(path, columns, layout):
        if isinstance(found, PASSED):
            yield found
            continue
        kept = found
        if config.min_rating is not None:
            kept = found.filter(pc.greater_equal(found["rating"], config.min_rating))
            if left_out := found.num_rows - kept.num_rows:
                yield Skipped(left_out, "below --min-rating")
        yield Purchases(kept)


def _items(path: Path, layout: Layout, config: AtomicFiles.Config) -> Iterator[Record]:
    have = [name.split(":")[0] for name in names(path, layout)]
    wanted = config.name_column
    if wanted is not None and wanted not in have:
        raise ConnectorError(f"no column {wanted!r}; the file has {', '.join(have)}", path)
    if wanted is None:
        wanted = next((name for part in NAMES for name in have if part in name.lower()), None)
    yield from _attributes(path, layout, "item", wanted)


def _users(path: Path, layout: Layout, config: AtomicFiles.Config) -> Iterator[Record]:
    yield from _attributes(path, layout, "user", None)


def _attributes(path: Path, layout: Layout, of: str, name_column: str | None) -> Iterator[Record]:
    columns = [Column("key", "id", usual=(f"{of}_id",))]
    for at, header in enumerate(names(path, layout)):
        name, _, kind = header.partition(":")
        if name != f"{of}_id":
            to = "name" if name == name_column else name
            columns.append(Column(to, KINDS.get(kind, "string"), at=at, nullable=True))
    yield from read_as(partial(Features, of), path, columns, layout)


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [AtomicFiles]
