"""Attributes of users, items or entities, which become properties of their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kgkit import Connector, hookimpl, option
from kgkit.config import unknown_name
from kgkit.errors import ConnectorError
from kgkit.records import Features, Record
from kgkit.tabular import Column, FileOptions, names, property_kinds, read_as

KEYS = {
    "user": ("user", "user_id", "customer_id", "id"),
    "item": ("item", "item_id", "product_id", "sku", "id"),
    "entity": ("entity", "entity_id", "id"),
}
TAKEN = ("id", "item_id")  # the graph's own keys


class Attributes(Connector):
    """A column with the key; every other column becomes a property of the column's name."""

    name = "features"
    about = "attributes of users, items or entities into properties"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest features`."""

        of: str = option("item", "what the key column names", choices=("user", "item", "entity"))
        key: str | None = option(None, "column of the id; default: <of>, <of>_id.. or id")
        columns: tuple[str, ...] = option((), "column to keep (repeat the option); default: all")
        text: tuple[str, ...] = option(
            (), "column to keep as text although it looks like numbers (repeatable)"
        )
        name_column: str | None = option(None, "column that becomes the property `name`")

    def files(self, config: Config) -> list[Path]:
        """The attribute files."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Features. A column is int64, float64 or bool when all of its cells are, else string."""
        for path in config.paths:
            key, properties = _columns(config, path)
            kinds = property_kinds(
                path, [h for n, h in properties.items() if n not in config.text], config.layout
            )
            columns = [key] + [
                Column(
                    "name" if name == config.name_column else name,
                    kinds.get(header, "string"),
                    given=header,
                    nullable=True,
                )
                for name, header in properties.items()
            ]
            yield from read_as(partial(Features, config.of), path, columns, config.layout)


def _columns(config: Attributes.Config, path: Path) -> tuple[Column, dict[str, str]]:
    """The key column, and the properties with the headers they are read from (`age:token` is the property `age`)."""
    have = {header.split(":")[0]: header for header in names(path, config.layout)}
    wanted = config.key or next(
        (n for k in KEYS[config.of] for n in have if n.lower() == k), next(iter(have))
    )
    if wanted.isdigit() and wanted not in have and 1 <= int(wanted) <= len(have):
        wanted = list(have)[int(wanted) - 1]
    chosen = config.columns or tuple(n for n in have if n != wanted)
    named = (config.name_column,) if config.name_column else ()
    for column in (wanted, *chosen, *config.text, *named):
        if column not in have:
            raise ConnectorError(unknown_name("column", column, have), path)
    for column in chosen:
        if column in TAKEN:
            raise ConnectorError(
                f"column {column!r} cannot be a property, because the graph keys nodes by it: "
                "choose others by --columns, or name the key by --key",
                path,
            )
    chosen = tuple(dict.fromkeys((*chosen, *named)))
    return Column("key", given=have[wanted]), {n: have[n] for n in chosen}


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Attributes]
