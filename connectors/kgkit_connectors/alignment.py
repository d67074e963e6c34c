"""Which item is which entity: Last.FM's `item_index2entity_id.txt`, KB4Rec's linkage, RecBole's `.link`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kgkit import Connector, hookimpl, option
from kgkit.records import Alignments, Record
from kgkit.tabular import Column, FileOptions, read_as

ITEM = ("item", "item_id", "product", "product_id", "sku", "asin", "isbn")
ENTITY = ("entity", "entity_id", "freebase_id", "kg_id")


class Alignment(Connector):
    """Rows of item id and entity id; usually without a header, and one with the usual names is recognised."""

    name = "alignment"
    about = "which item is which entity: delimited item id, entity id"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest alignment`."""

        likely_header: ClassVar[bool] = False

        item: str | None = option(
            None, "column of the item's id, by name or position; default: item, item_id.. or 1"
        )
        entity: str | None = option(None, "column of the entity's id; default: entity, entity_id.. or 2")

    def files(self, config: Config) -> list[Path]:
        """The linkage files."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Alignments."""
        columns = [
            Column("item", "id", given=config.item, usual=ITEM, position=0),
            Column("entity", "id", given=config.entity, usual=ENTITY, position=1),
        ]
        for path in config.paths:
            yield from read_as(Alignments, path, columns, config.layout)


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Alignment]
