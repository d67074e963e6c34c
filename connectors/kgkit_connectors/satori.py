"""Microsoft Satori's facts with their confidence: head, relation, tail, confidence.

The KGCN and KGNN-LS papers keep the triples "with a confidence level greater than 0.9": --min-confidence is left
out itself, only what is above it is kept. A row without a confidence is malformed. Names of entities come from a
file of their own (--names: entity, name).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from kgkit import Connector, hookimpl, option
from kgkit.records import Facts, Features, Record, Skipped
from kgkit.tabular import PASSED, Column, FileOptions, read, read_as

HEAD = ("head", "head_id", "subject", "h", "s")
RELATION = ("relation", "relation_id", "predicate", "r", "p")
TAIL = ("tail", "tail_id", "object", "t", "o")
CONFIDENCE = ("confidence", "score", "probability", "weight", "c")
ENTITY = ("entity", "entity_id", "id", "key")
NAME = ("name", "title", "label")


class Satori(Connector):
    """Rows of head, relation, tail and confidence; usually without a header, and one with the usual names is
    recognised."""

    name = "satori"
    about = "facts with a confidence: head, relation, tail, confidence"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest satori`."""

        likely_header: ClassVar[bool] = False

        min_confidence: float = option(
            0.9, "keep facts with a confidence above this (the papers: greater than 0.9)", ge=0, le=1
        )
        head: str | None = option(
            None, "column of the head, by name or position; default: head, subject.. or 1"
        )
        relation: str | None = option(None, "column of the relation; default: relation, predicate.. or 2")
        tail: str | None = option(None, "column of the tail; default: tail, object.. or 3")
        confidence: str | None = option(None, "column of the confidence; default: confidence, score.. or 4")
        names: tuple[Path, ...] = option((), "file of entity and name, written as the property `name`")

    def source(self, config: Config) -> str:
        """The names of the files of facts."""
        return config.source or "+".join(sorted(path.name for path in config.paths))

    def files(self, config: Config) -> list[Path]:
        """The files of facts and of names."""
        return [*config.paths, *config.names]

    def read(self, config: Config) -> Iterator[Record]:
        """Yields the Facts above the threshold, then the names as Features."""
        import pyarrow.compute as pc

        columns = [
            Column("head", "id", given=config.head, usual=HEAD, position=0),
            Column("relation", "id", given=config.relation, usual=RELATION, position=1),
            Column("tail", "id", given=config.tail, usual=TAIL, position=2),
            Column("confidence", "float64", config.confidence, CONFIDENCE, position=3),
        ]
        for path in config.paths:
            for found in read(path, columns, config.layout):
                if isinstance(found, PASSED):
                    yield found
                    continue
                kept = found.filter(pc.greater(found["confidence"], config.min_confidence))
                if left_out := found.num_rows - kept.num_rows:
                    yield Skipped(left_out, f"confidence of {config.min_confidence:g} or below")
                yield Facts(kept.drop_columns(["confidence"]))
        named = [Column("key", "id", usual=ENTITY, position=0), Column("name", usual=NAME, position=1)]
        for path in config.names:
            yield from read_as(partial(Features, "entity"), path, named, config.layout)


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Satori]
