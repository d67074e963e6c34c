"""The GraphStore port: what every graph database must do for kgkit, and nothing more.

Tables are Arrow, keys are the source's own string ids; adapters translate, batch and retry, and hold no other logic.
`kgkit.testing.store_contract` is the behaviour in tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from kgkit.errors import StoreError
from kgkit.lazy import pa
from kgkit.schema import EDGES

if TYPE_CHECKING:
    from kgkit.arrays import Array, Floats, Ints


@dataclass(frozen=True)
class WriteStats:
    """What an upsert did: rows that made something new, rows that were there already, rows without their end nodes."""

    created: int = 0
    matched: int = 0
    skipped: int = 0

    def __add__(self, other: WriteStats) -> WriteStats:
        return WriteStats(
            self.created + other.created, self.matched + other.matched, self.skipped + other.skipped
        )


@dataclass(frozen=True)
class AlignStats:
    """What an alignment did.

    `aligned` rows newly set an item_id, `unchanged` were so already, `folded` is how many stub nodes `item:<id>` were
    merged into their entity, `moved` rows took an item from one entity to another. `conflicts` has columns item,
    entity, reason (string): rows left undone because the item already is another entity, or the entity another item.
    """

    aligned: int
    unchanged: int
    folded: int
    conflicts: pa.Table
    moved: int = 0


@dataclass(frozen=True)
class EdgeColumns:
    """Relationships as arrays of equal length E.

    source, target: int64 [E], row numbers into `source_ids` / `target_ids` (the ranks of the ids among the sorted ids
    of their label). `columns` holds the properties asked for: int64, float64 or object arrays [E].
    """

    source: Ints
    target: Ints
    columns: dict[str, Array]


@dataclass(frozen=True)
class NodeIndex:
    """All nodes of one label. ids: string [N], sorted by code point, so that a row number is a stable dense id.

    handles: int64 [N], the engine's own ids, good within one extraction only.
    """

    label: str
    ids: pa.Array
    handles: Ints

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class QueryResult:
    """Answer of a Cypher query. Values are plain Python: nodes and relationships are dicts, sums are ints or floats."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@dataclass(frozen=True)
class RunRecord:
    """A training run as the graph remembers it (node `Run`). params, metrics and provenance are JSON documents."""

    id: str
    plugin: str
    created: str
    params: str = "{}"
    metrics: str = "{}"
    provenance: str = "{}"


@dataclass(frozen=True)
class Vectors:
    """Embeddings for nodes of one label. ids: string [N]; matrix: float32 [N, d].

    table: "" for the embedding itself, else the name of another table of the model with a row for each of these nodes.
    packed: `vectors_at` will be asked for them, so that a store keeps them in a form that is quick to hand out, too.
    """

    label: str
    ids: pa.Array
    matrix: Floats
    table: str = ""
    packed: bool = False


@dataclass(frozen=True)
class Answers:
    """Relationships that a model says. kind: COMPLETED or RECOMMENDED; table: head, tail (string ids), properties.

    The property `run` is filled in by the store.
    """

    kind: str
    table: pa.Table


@dataclass(frozen=True)
class StoreCapabilities:
    """Lawful differences between engines; code asks here, never for the class."""

    dialect: str  # "neo4j" or "ladybug"
    vector_index: bool
    relationship_types: str = (
        "property"  # "property": FACT {relation}; "native": one relationship type a relation
    )
    extra: Mapping[str, Any] = field(default_factory=dict)


def check_current(run_id: str, current: bool | None) -> None:
    """Raises StoreError unless a run's answers stand. current: what its Run node says, None when there is none."""
    if not current:
        raise StoreError(
            f"run {run_id} has no answers in the graph: it was "
            + ("trained without --write-back, or erased" if current is None else "replaced by a later run")
            + "; train again, or complete with --no-write-back"
        )


NUMBER = ""  # the column of nodes' numbers: no property has this name


class Numbered(ABC):
    """A store whose nodes have numbers of their own, int64 from 0 on and with few gaps, for each label.

    Told by these, nodes and relationships that are read whole need no table of ids to be put together again.
    """

    @abstractmethod
    def numbered_nodes(self, label: str) -> Iterator[pa.Table]:
        """As `GraphStore.read_nodes` of all properties, with the column NUMBER."""

    @abstractmethod
    def numbered_edges(self, kind: str) -> Iterator[pa.Table]:
        """As `GraphStore.read_edges` of all properties; head and tail are numbers."""


class GraphStore(ABC):
    """A graph database. Use as a context manager, or call `close`.

    Every method raises StoreError (RetryableStoreError when the same call may succeed later).
    """

    uri: str  # as people type it, without secrets

    @property
    @abstractmethod
    def capabilities(self) -> StoreCapabilities: ...

    @property
    def bulk_loader(self) -> BulkLoader | None:
        """The store's second way in, for whole graphs. None where there is none, or `upsert_edges` is as fast."""
        return None

    @property
    def numbered(self) -> Numbered | None:
        """The same nodes and relationships, told by numbers. None where there are none."""
        return None

    # -- schema ------------------------------------------------------------------------------------------------
    @abstractmethod
    def ensure_schema(self) -> None:
        """Makes tables or constraints of `kgkit.schema`. Idempotent, and called by the writers themselves."""

    # -- observed facts in -------------------------------------------------------------------------------------
    @abstractmethod
    def upsert_nodes(self, label: str, table: pa.Table) -> WriteStats:
        """Creates or updates nodes. Column `id` (string), then properties; a null leaves what is stored.

        Properties unknown so far are added to labels that are open (`NodeKind.open`). Ids doubled within the table
        count once, the last row winning. Of a table of fewer than 2,000 rows a node has all its properties set or, when
        the process is killed, none.
        """

    @abstractmethod
    def upsert_edges(self, kind: str, table: pa.Table, *, missing: str = "error") -> WriteStats:
        """Creates or updates relationships of a `kgkit.schema.EDGES` kind.

        Columns head, tail (string ids of the two ends), then key and other properties; a null leaves what is stored.
        Rows doubled within the table count once, the last winning. `missing` says what to do about unknown ends:
        "error" (before anything is written), "skip" (counted), or "create". FACT rows register their relation in
        `Relation`.
        """

    @abstractmethod
    def align(self, table: pa.Table, *, move: bool = False) -> AlignStats:
        """Says which item is which entity (columns item, entity). Creates entities that are missing.

        A stub `item:<id>` is folded into its entity: relationships (of every kind, keys colliding updated in place)
        and properties move, the stub goes, all in one transaction, so that any kill leaves a whole graph (in which missing
        entities may have been made already, without their items). A stub's
        name is a title: it becomes the entity's `name`, beside which the entity's own is kept as in `kgkit.names`.

        With `move` an item that is another entity leaves it, in that same transaction: its item_id, PURCHASED and
        RECOMMENDED relationships go along, and so does its title: both entities are called as if the item had been
        the new one from the beginning. A name that is not marked as a title is the entity's own, and stays. Facts,
        COMPLETED and all other properties stay, since nothing tells an item's from an entity's; an entity that is left
        with none of these goes. All rows count at once, so that items
        may change places. The entity `item:<id>` makes an item stand for itself again. An item may be one entity
        only and an entity one item only: of contradictory rows the first counts, the others are conflicts.
        """

    # -- reading -----------------------------------------------------------------------------------------------
    @abstractmethod
    def node_index(self, label: str) -> NodeIndex: ...

    @abstractmethod
    def edges(
        self,
        kind: str,
        source_index: NodeIndex,
        target_index: NodeIndex,
        *,
        properties: Sequence[str] = (),
    ) -> EdgeColumns:
        """All relationships of one kind, by Cypher, straight into arrays. FACT offers the int64 property `rid`."""

    def edge_properties(self, kind: str) -> list[str]:
        """The properties of a kind that reading it whole takes: those of the schema, but for rare ones nobody has.

        May name a rare one that nobody has where finding out is not worth it; never misses one.
        """
        return list(EDGES[kind].properties)

    @abstractmethod
    def edge_cypher(self, kind: str, properties: Sequence[str] = ()) -> str:
        """The Cypher that `edges` sends, for people to read."""

    @abstractmethod
    def facts_around(self, seeds: Ints, hops: int, index: NodeIndex) -> EdgeColumns:
        """The FACTs (with property rid) on any path of at most `hops` steps, direction ignored, from the seeds.

        seeds: int64 [S] rows of `index` (label Entity). One Cypher query per hop; each fact comes once.
        """

    @abstractmethod
    def read_nodes(
        self, label: str, properties: Sequence[str] | None = None, *, having: str | None = None
    ) -> Iterator[pa.Table]:
        """Nodes in bounded tables with column id and the properties (all that exist, vectors too, when None).

        having: only those that have this property, without reading the others.
        """

    @abstractmethod
    def read_edges(self, kind: str, properties: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Relationships in bounded tables with columns head, tail (string ids) and the properties.

        All of `edge_properties` when None. Texts may come as dictionaries.
        """

    @abstractmethod
    def read_vectors(self, label: str, prop: str) -> tuple[pa.Array, Floats]:
        """The ids that have the vector property, and float32 [N, d]. Empty with d = 0 when nobody has it."""

    @abstractmethod
    def vectors_at(
        self, prop: str, relation: str | None = None, side: str = "tail", *, bias: str | None = None
    ) -> Iterator[tuple[list[str], Floats, Floats | None]]:
        """The entities that have the vector property, in bounded parts: ids [N], and float32 [N, d].

        bias: another property, with vectors of length one, which comes as float32 [N], NaN where there is none; None
        may come where nobody has it. With
        `relation` only those that are observed at that end of it, `side` "head" or "tail". A server may begin to read
        when this is called, before the first part is asked for.
        """

    @abstractmethod
    def similar(self, label: str, id: str, k: int, prop: str) -> list[tuple[str, float]]:
        """The k nodes nearest to a node by cosine of the vector property, best first; by index where there is one."""

    @abstractmethod
    def query(
        self,
        cypher: str,
        params: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        files: bool = False,
    ) -> QueryResult:
        """Runs people's Cypher. Read-only unless `write`: then ReadOnlyStoreError for a statement that writes.

        A statement that reads sees the graph only (`kgkit.store.reading`), else StoreError; with `files` also files and
        whatever else the engine can reach.
        """

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Counts in the same words on every engine.

        {"nodes": {"User", "Entity", "Item" (entities with an item_id), "Run"},
         "relationships": {a count for each of `kgkit.schema.EDGES`}, "relations": {name: facts}}, keys sorted.
        """

    def counts(self) -> dict[str, int]:
        """Nodes by label (User, Entity and Run at least) and relationships by type, without reading them."""
        found = self.stats()
        return {**found["nodes"], **found["relationships"]}

    # -- answers out -------------------------------------------------------------------------------------------
    @abstractmethod
    def write_vectors(self, prop: str, vectors: Vectors) -> int:
        """Sets a vector property on existing nodes and returns how many; unknown ids are left out."""

    @abstractmethod
    def replace_answers(
        self,
        run: RunRecord,
        vectors: Iterable[Vectors],
        answers: Iterable[Answers],
        weights: Mapping[str, Floats] = MappingProxyType({}),
    ) -> dict[str, int]:
        """Writes a run with its embeddings (properties `vector_property` of `embedding_<plugin>`) and relationships.

        weights: float32 arrays by name that belong to no node; `kgkit.store.weights` reads them again.
        What earlier runs of the same plugin wrote goes at the same instant: no reader ever sees a mix, or nothing, and
        their Run nodes stay with current = false. Returns the rows written by kind ("embeddings", "RECOMMENDED", ..).
        """

    @abstractmethod
    def update_answers(self, run_id: str, answers: Iterable[Answers]) -> dict[str, int]:
        """Puts relationships of some kinds in the place of those that a run wrote before; rows written by kind.

        One instant, as in `replace_answers`. Kinds that are not given stay, and so do embeddings and the Run node.
        Raises StoreError when the graph has no such run, or when it is no longer its plugin's current one.
        """

    @abstractmethod
    def erase_run(self, run_id: str) -> int:
        """Takes back what a run wrote (relationships, vectors if they are its own, its Run node); rows removed."""

    @abstractmethod
    def delete_nodes(self, label: str, ids: Sequence[str]) -> int:
        """Deletes nodes with their relationships; returns how many were there."""

    @abstractmethod
    def clear(self) -> None:
        """Empties the graph."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BulkLoader(ABC):
    """A way into an empty graph that is worth its fixed price from about a million relationships on."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """A folder beside the server's data, for what is gathered before a load; not made yet, perhaps."""

    @abstractmethod
    def refusal(self) -> str:
        """Why the graph cannot be loaded as it is now, in a few words; empty when it can."""

    @abstractmethod
    def load(
        self, source: GraphStore, say: Callable[[str], None], report: Callable[[str, int], None]
    ) -> dict[str, int]:
        """Makes the graph the same as `source`, as `kgkit.copy` would, and returns rows by label and type.

        `say` hears of each stage, `report` of each label and type. All or nothing: a kill leaves the graph empty or
        whole. Raises StoreError, and then nothing was changed, unless its message says so.
        """
