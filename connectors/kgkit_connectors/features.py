"""Attributes of users, items or entities: properties of their nodes, or entities that all with the same value share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.config import unknown_name
from kgkit.errors import ConnectorError
from kgkit.records import AttributeFacts, Features, Progress, Record, Reject
from kgkit.tabular import Column, FileOptions, names, property_kinds, read

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = {
    "user": ("user", "user_id", "customer_id", "id"),
    "item": ("item", "item_id", "product_id", "sku", "id"),
    "entity": ("entity", "entity_id", "id"),
}
TAKEN = ("id", "item_id", "entity_name", "name_of")  # what the graph itself keeps there


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
        entities: tuple[str, ...] = option(
            (), "column whose values become entities, joined by facts of the column's name (repeatable)"
        )
        separator: str | None = option(None, "text between several values in a cell of --entities")

    def files(self, config: Config) -> list[Path]:
        """The attribute files."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Features and AttributeFacts. A property is int64, float64 or bool when all of its cells are."""
        for path in config.paths:
            key, properties = _columns(config, path)
            text = {*config.text, *config.entities}
            kinds = property_kinds(path, [h for n, h in properties.items() if n not in text], config.layout)
            columns = [key] + [
                Column(
                    "name" if name == config.name_column else name,
                    kinds.get(header, "string"),
                    given=header,
                    nullable=True,
                )
                for name, header in properties.items()
            ]
            for found in read(path, columns, config.layout):
                if isinstance(found, (Reject, Progress)):
                    yield found
                    continue
                yield Features(config.of, found.drop(list(config.entities)))
                for relation in config.entities:
                    yield AttributeFacts(config.of, _facts(found, relation, config.separator))


def _facts(table: pa.Table, relation: str, separator: str | None) -> pa.Table:
    """key, relation, value of a column's cells; empty cells say nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, cells = table["key"].combine_chunks(), table[relation].combine_chunks()
    if separator:
        lists = pc.split_pattern(cells, separator)
        keys, cells = keys.take(pc.list_parent_indices(lists)), pc.list_flatten(lists)
    cells = pc.utf8_trim_whitespace(cells)
    said = pc.fill_null(pc.not_equal(cells, ""), False)
    keys, cells = keys.filter(said), cells.filter(said)
    return pa.table({"key": keys, "relation": pa.repeat(pa.scalar(relation), len(keys)), "value": cells})


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
    for column in (wanted, *chosen, *config.text, *named, *config.entities):
        if column not in have:
            raise ConnectorError(unknown_name("column", column, have), path)
    for column in chosen:
        if column in TAKEN and column != config.name_column:
            raise ConnectorError(
                f"column {column!r} cannot be a property, because the graph itself uses it: "
                "choose others by --columns, or name the key by --key, the name by --name-column",
                path,
            )
    chosen = tuple(dict.fromkeys((*chosen, *named, *config.entities)))
    return Column("key", given=have[wanted]), {n: have[n] for n in chosen}


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Attributes]
