"""Attributes of users, items or entities: properties of their nodes, or entities that all with the same value share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.config import unknown_name
from kgkit.errors import ConnectorError
from kgkit.records import AttributeFacts, Features, Record
from kgkit.tabular import PASSED, Column, FileOptions, names, property_kinds, read

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = {
    "user": ("user", "user_id", "customer", "customer_id", "id"),
    "item": ("item", "item_id", "product", "product_id", "sku", "stock_code", "asin", "isbn", "id"),
    "entity": ("entity", "entity_id", "id"),
}
PROPERTY = re.compile(r"[\w./:\-]+")  # what kgkit.schema.identifier allows
TAKEN = ("id", "item_id", "entity_name", "name_of")  # what the graph itself keeps there


class Attributes(Connector):
    """A column with the key; every other column becomes a property of the column's name."""

    name = "features"
    about = "attributes of users, items or entities into properties"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest features`."""

        of: str = option("item", "what the key column names", choices=("user", "item", "entity"))
        key: str | None = option(
            None, "column of the id, by name or position; default: <of>, <of>_id.. or id"
        )
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
            kinds = property_kinds(path, [c for c in properties if c.name not in text], config.layout)
            columns = [key] + [
                replace(
                    column,
                    name="name" if column.name == config.name_column else column.name,
                    kind=kinds.get(column.name, "string"),
                )
                for column in properties
            ]
            for found in read(path, columns, config.layout):
                if isinstance(found, PASSED):
                    yield found
                    continue
                yield Features(config.of, found.drop(list(config.entities)))
                for relation in config.entities:
                    yield AttributeFacts(config.of, _facts(found, relation, config.separator))


def _facts(table: pa.Table, relation: str, separator: str | None) -> pa.Table:
    """key, relation, value of a column's cells; empty cells say nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from kgkit.tabular.convert import ids

    keys, cells = table["key"].combine_chunks(), table[relation].combine_chunks()
    if separator:
        lists = pc.split_pattern(cells, separator)
        keys, cells = keys.take(pc.list_parent_indices(lists)), pc.list_flatten(lists)
    cells, _ = ids(cells)
    said = pc.is_valid(cells)
    keys, cells = keys.filter(said), cells.filter(said)
    return pa.table({"key": keys, "relation": pa.repeat(pa.scalar(relation), len(keys)), "value": cells})


def _columns(config: Attributes.Config, path: Path) -> tuple[Column, list[Column]]:
    """The key column and those of the properties, all by position (`age:token` is the property `age`)."""
    asked = Column("key", "id", config.key, usual=KEYS[config.of])
    headers = names(path, config.layout, [asked])
    have: dict[str, int] = {}
    for at, header in enumerate(headers):
        have.setdefault(header.split(":")[0].strip(), at)
    key = _key(config, path, headers)
    chosen = config.columns or tuple(n for n, at in have.items() if at != key and n)
    named = (config.name_column,) if config.name_column else ()
    for column in (*chosen, *config.text, *named, *config.entities):
        if column not in have:
            raise ConnectorError(unknown_name("column", column, have), path)
    for column in chosen:
        if column in TAKEN and column != config.name_column:
            raise ConnectorError(
                f"column {column!r} cannot be a property, because the graph itself uses it: "
                "choose others by --columns, or name the key by --key, the name by --name-column",
                path,
            )
        if column != config.name_column and not PROPERTY.fullmatch(column):
            raise ConnectorError(
                f"column {column!r} cannot be the name of a property: "
                f"--rename '{column}={re.sub(r'[^A-Za-z0-9_]+', '_', column).strip('_') or 'name'}' calls it otherwise",
                path,
            )
    chosen = tuple(dict.fromkeys((*chosen, *named, *config.entities)))
    key_column = Column("key", "id", config.key, usual=KEYS[config.of], at=key)
    return key_column, [Column(n, at=have[n], nullable=True) for n in chosen]


def _key(config: Attributes.Config, path: Path, headers: list[str]) -> int:
    """The position of the key; ConnectorError where no column is one: the first is not taken for it."""
    plain = [re.sub(r"[\W_]", "", h.split(":")[0]).lower() for h in headers]
    if (key := config.key) is not None:
        if key.isdigit() and 1 <= int(key) <= len(headers):
            return int(key) - 1
        shown = [h.split(":")[0] for h in headers]
        if key in headers or key in shown:
            return (headers if key in headers else shown).index(key)
        raise ConnectorError(unknown_name("column", key, shown), path)
    for usual in KEYS[config.of]:
        if usual.replace("_", "") in plain:
            return plain.index(usual.replace("_", ""))
    others = [of for of, keys in KEYS.items() if {k.replace("_", "") for k in keys} & set(plain)]
    hint = f", or say --of {others[0]}" if others else ""
    have = ", ".join(h or "'' (no name)" for h in headers)
    raise ConnectorError(
        f"no column with the {config.of}'s id (the file has {have}): name it by --key{hint}", path
    )


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Attributes]
