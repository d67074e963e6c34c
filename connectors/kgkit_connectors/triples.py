"""Knowledge graphs as delimited triples: head, relation, tail; with a label of the split, or times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kgkit import Connector, hookimpl, option
from kgkit.records import Facts, Record
from kgkit.tabular import Column, FileOptions, read_as

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = ("head", "head_id", "subject", "h", "s", "source")
RELATION = (
    "relation",
    "relation_id",
    "predicate",
    "property",
    "r",
    "p",
    "rel",
    "metaedge",
    "edge_type",
    "relationship",
)
TAIL = ("tail", "tail_id", "object", "t", "o", "target")


class Triples(Connector):
    """Rows of head, relation and tail; usually without a header, and one with the usual names is recognised."""

    name = "triples"
    about = "a knowledge graph's facts: delimited head, relation, tail"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest triples`."""

        likely_header: ClassVar[bool] = False

        head: str | None = option(
            None, "column of the head, by name or position; default: head, subject.. or 1"
        )
        relation: str | None = option(None, "column of the relation; default: relation, predicate.. or 2")
        tail: str | None = option(None, "column of the tail; default: tail, object.. or 3")
        split: str | None = option(
            None,
            "the part that the facts are of in `kgkit train --split given`; of a fact told twice the last counts",
            choices=("train", "valid", "test"),
        )
        time_column: str | None = option(
            None, "column of the facts' time: ISO 8601, or seconds since 1970; default: none is read"
        )

    def files(self, config: Config) -> list[Path]:
        """The triple files."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Facts, with split and time if they are asked for."""
        columns = [
            Column("head", "id", given=config.head, usual=HEAD, position=0),
            Column("relation", "id", given=config.relation, usual=RELATION, position=1),
            Column("tail", "id", given=config.tail, usual=TAIL, position=2),
        ]
        if config.time_column is not None:
            columns.append(Column("time", "time", config.time_column, nullable=True))
        for path in config.paths:
            yield from read_as(partial(_labelled, split=config.split), path, columns, config.layout)


def _labelled(table: pa.Table, split: str | None) -> Facts:
    import pyarrow as pa

    if split is None:
        return Facts(table)
    return Facts(table.append_column("split", pa.repeat(pa.scalar(split), table.num_rows)))


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Triples]
