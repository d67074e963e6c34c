"""What connectors yield: batches of rows as Arrow tables, keyed by the source's own ids.

`kgkit.ingest` turns them into nodes and relationships; a connector never sees a store. Ids are strings. A connector
may yield batches of any size in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `kgkit --help` must not wait for pyarrow
    import pyarrow as pa


@dataclass(frozen=True)
class Facts:
    """Triples of a knowledge graph. Columns: head, relation, tail (string); optional split (string: train, valid or
    test) and time (int64, seconds since 1970 UTC).

    A fact has one split and one time: told again with others, by whatever source, it takes the last; told again
    without, it keeps them.
    """

    table: pa.Table


@dataclass(frozen=True)
class Purchases:
    """Interactions, one row per event or per pair.

    Columns: user, item (string); optional count (int64, 1 when absent), time (int64, seconds since 1970 UTC) and
    rating (float64). Rows of the same pair are joined by ingest: counts added, first and last time kept, the rating
    of the latest.
    """

    table: pa.Table


@dataclass(frozen=True)
class Alignments:
    """Which item is which entity. Columns: item, entity (string)."""

    table: pa.Table


@dataclass(frozen=True)
class Features:
    """Attributes. Columns: key (string), then one column a property (string, int64, float64 or bool).

    `of` says what the key names: "user", "item" (its item id) or "entity" (its entity id).
    """

    of: str
    table: pa.Table


@dataclass(frozen=True)
class AttributeFacts:
    """Attributes whose values become entities, which all that have a value share (KQGC, section 3.3.1).

    Columns: key, relation, value (string). `of` is as in Features. A value is the entity `<relation>:<value>` with the
    value for a name; what an item or entity has becomes a FACT, what a user has a HAS_ATTRIBUTE.
    """

    of: str
    table: pa.Table


@dataclass(frozen=True)
class Reject:
    """One malformed row: skipped, counted and listed."""

    file: str
    line: int
    reason: str
    text: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a reader is: rows seen since its last report, and bytes done of how many (0: unknown).

    `notes` is what a person should know about the file: which columns were taken, and what is doubtful.
    """

    rows: int
    done: int = 0
    total: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Rows that were well formed and left out on purpose: counted and reported, not rejected."""

    rows: int
    why: str


@dataclass(frozen=True)
class Kept:
    """What is left after a step that leaves something out, for tables such as the papers' of their data sets.

    0 is also what a step does not count. Entities: ends of facts, and items.
    """

    step: str
    users: int = 0
    items: int = 0
    interactions: int = 0
    entities: int = 0
    relations: int = 0
    facts: int = 0

    def counts(self) -> dict[str, int]:
        """By name, those that are not 0."""
        return {name: n for name, n in vars(self).items() if name != "step" and n}


Data = Facts | Purchases | Alignments | Features | AttributeFacts
Record = Data | Reject | Progress | Skipped | Kept
