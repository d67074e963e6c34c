"""The GraphStore over Bolt: a Neo4j server that people run, or the one that kgkit starts."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError

from kgkit import server
from kgkit.errors import ConfigError, ReadOnlyStoreError, StoreError
from kgkit.ids import check_lengths
from kgkit.lazy import LazyModule, np, pa
from kgkit.schema import (
    EDGES,
    NODES,
    PACKED,
    SCHEMA_VERSION,
    embedding_property,
    identifier,
    is_other_table,
    vector_property,
)
from kgkit.store import neo4j_cypher as cypher
from kgkit.store import neo4j_read
from kgkit.store.neo4j_connection import RETRIES, Connection
from kgkit.store.neo4j_read import decode, key_map, label_of, plain, rows_of
from kgkit.store.port import (
    AlignStats,
    Answers,
    EdgeColumns,
    GraphStore,
    NodeIndex,
    QueryResult,
    RunRecord,
    StoreCapabilities,
    Vectors,
    WriteStats,
)
from kgkit.store.reading import check_reading

if TYPE_CHECKING:
    from kgkit.arrays import Floats, Ints
    from kgkit.store import neo4j_align, neo4j_answers, neo4j_write
else:  # readers never need them
    neo4j_align = LazyModule("kgkit.store.neo4j_align")
    neo4j_answers = LazyModule("kgkit.store.neo4j_answers")
    neo4j_write = LazyModule("kgkit.store.neo4j_write")

MODES = ("property", "native")
MANAGED = "neo4j-managed"
_INDEXED = 5_000  # nodes of a label from which a vector index is worth asking


def open_neo4j(uri: str, *, read_only: bool = False, relationship_types: str | None = None) -> Neo4jStore:
    """Connects to a server.

    uri: a Bolt URI without name or password, or "neo4j-managed". Names and passwords come from NEO4J_USERNAME (neo4j)
    and NEO4J_PASSWORD, or a prompt when the server wants one and someone is there to ask; NEO4J_DATABASE may name a
    database. relationship_types: "property", "native", or None for what the graph says.
    Raises ConfigError for a URI with a password, StoreError when the server is away, refuses us, or is too old.
    """
    if uri == MANAGED:
        running = server.status()
        if running is None:
            raise StoreError("the managed Neo4j is not running: start it with `kgkit neo4j start`")
        from kgkit.store.neo4j_bulk import ManagedStore

        driver = _driver(running.uri, (running.username, running.password()))
        return ManagedStore.on(running, driver, read_only=read_only, relationship_types=relationship_types)
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ConfigError(
            f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}: leave name and password out of the URI, where "
            "other users of this machine see them; set NEO4J_USERNAME and NEO4J_PASSWORD"
        )
    name, password = os.environ.get("NEO4J_USERNAME") or "neo4j", os.environ.get("NEO4J_PASSWORD")
    if password is None and sys.stdin.isatty() and sys.stderr.isatty() and _wants_password(uri):
        password = getpass.getpass(f"Password of {name} at {uri}: ", sys.stderr)
    auth = (name, password) if password is not None else None
    return connect(uri, uri, auth, read_only=read_only, relationship_types=relationship_types)


def connect(
    address: str,
    uri: str,
    auth: tuple[str, str] | None,
    *,
    read_only: bool = False,
    relationship_types: str | None = None,
    database: str | None = None,
) -> Neo4jStore:
    """A store with a driver of its own. address: where the server is; uri: what messages call it."""
    driver = _driver(address, auth)
    try:
        return Neo4jStore(
            driver,
            uri,
            read_only=read_only,
            relationship_types=relationship_types,
            database=database,
            owns_driver=True,
        )
    except BaseException:
        driver.close()
        raise


def _driver(address: str, auth: tuple[str, str] | None) -> neo4j.Driver:
    try:
        return neo4j.GraphDatabase.driver(
            address,
            auth=auth,
            max_transaction_retry_time=RETRIES,
            connection_timeout=10.0,
            user_agent="kgkit",
        )
    except (ConfigurationError, ValueError) as error:
        raise ConfigError(f"{address}: {error}") from None


def _wants_password(uri: str) -> bool:
    with _driver(uri, None) as driver:
        try:
            driver.get_server_info()
        except AuthError:
            return True
        except (DriverError, Neo4jError):
            pass  # said better when the store is opened
    return False


class Neo4jStore(GraphStore):
    """A graph in one database of a Neo4j server. Other tools' labels in the same database are left alone."""

    def __init__(
        self,
        driver: neo4j.Driver,
        uri: str = "neo4j",
        *,
        read_only: bool = False,
        relationship_types: str | None = None,
        database: str | None = None,
        owns_driver: bool = False,
    ) -> None:
        """driver: any neo4j driver; `close` closes it only if `owns_driver`. uri: what messages call the server."""
        if relationship_types not in (None, *MODES):
            raise ConfigError(f"--relationship-types {relationship_types!r}: say {' or '.join(MODES)}")
        self.uri = uri
        self._owns = owns_driver
        self._connection = Connection(
            driver, uri, database or os.environ.get("NEO4J_DATABASE") or None, read_only
        )
        self._connection.check()
        self._prepared = False
        stored = self._settings()
        self._mode = relationship_types or stored.get("relationship_types", "property")
        self._agree(stored)

    # -- schema ------------------------------------------------------------------------------------------------
    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(dialect="neo4j", vector_index=True, relationship_types=self._mode)

    @property
    def _native(self) -> bool:
        return self._mode == "native"

    def _settings(self) -> dict[str, str]:
        return {r["id"]: r["value"] for r in self._connection.read(cypher.SETTINGS)}

    def _agree(self, stored: Mapping[str, str]) -> None:
        """Raises StoreError if the graph was made by a later kgkit, or keeps its facts another way than asked."""
        version = stored.get("schema", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.uri} has schema {version}, this kgkit knows {SCHEMA_VERSION}: use the kgkit that wrote it"
            )
        mode = stored.get("relationship_types", self._mode)
        if mode != self._mode and self._facts(mode == "native"):
            raise StoreError(
                f"{self.uri} keeps facts with relationship types '{mode}', which is fixed once there are facts: "
                f"leave out --relationship-types {self._mode}, or use an empty graph"
            )

    def ensure_schema(self) -> None:
        if self._prepared:
            return
        wanted = {f"kgkit_{label}_id": (label, "id") for label in NODES}
        wanted |= {"kgkit_Entity_item_id": ("Entity", "item_id"), "kgkit_Relation_rid": ("Relation", "rid")}
        absent = wanted.keys() - {r["name"] for r in self._connection.read(cypher.CONSTRAINTS)}
        for name in sorted(absent):
            self._constrain(name, *wanted[name])
        if absent:
            self._connection.write(cypher.AWAIT_INDEXES)
        stored = {}
        for name, value in (("schema", SCHEMA_VERSION), ("relationship_types", self._mode)):
            stored[name] = self._connection.write(cypher.SETTING, id=name, value=value)[0][0]["value"]
        self._agree(stored)
        if stored["relationship_types"] != self._mode:
            self._connection.write(cypher.CHANGE_SETTING, id="relationship_types", value=self._mode)
        self._prepared = True

    def _constrain(self, name: str, label: str, prop: str) -> None:
        """One uniqueness constraint; a server killed half-way through making it keeps the index without it."""
        statement = cypher.CONSTRAINT.format(
            name=identifier(name), label=identifier(label), prop=identifier(prop)
        )
        try:
            self._connection.write(statement)
        except (
            StoreError
        ):  # looked at only now: until it is made, another process's index looks like a leftover
            if not self._connection.read(cypher.LEFTOVER_INDEX, name=name):
                raise
            self._connection.write(cypher.DROP_INDEX.format(name=identifier(name)))
            self._connection.write(statement)

    # -- observed facts in -------------------------------------------------------------------------------------
    def upsert_nodes(self, label: str, table: pa.Table) -> WriteStats:
        check_lengths(table, ["id"])
        self._writable()
        return neo4j_write.upsert_nodes(self._connection, label, table)

    def upsert_edges(self, kind: str, table: pa.Table, *, missing: str = "error") -> WriteStats:
        check_lengths(table, ["head", "tail", "relation"])
        self._writable()
        return neo4j_write.upsert_edges(self._connection, kind, table, missing, self._native)

    def align(self, table: pa.Table, *, move: bool = False) -> AlignStats:
        self._writable()
        return neo4j_align.align(self._connection, table, move)

    def _writable(self) -> None:
        if self._connection.read_only:
            raise ReadOnlyStoreError(f"{self.uri} was opened read-only")
        self.ensure_schema()

    # -- reading -----------------------------------------------------------------------------------------------
    def node_index(self, label: str) -> NodeIndex:
        return NodeIndex(label, *key_map(self._connection, label))

    def edges(
        self,
        kind: str,
        source_index: NodeIndex,
        target_index: NodeIndex,
        *,
        properties: Sequence[str] = (),
    ) -> EdgeColumns:
        types = neo4j_read.chosen_properties(kind, properties)
        rows = neo4j_read.edge_rows(self._connection, kind, types, self._native)
        return _indexed(rows, decode(rows, types), source_index, target_index)

    def edge_properties(self, kind: str) -> list[str]:
        return neo4j_read.edge_properties(self._connection, kind)

    def edge_cypher(self, kind: str, properties: Sequence[str] = ()) -> str:
        native = self._native and kind == "FACT"
        columns = cypher.edge_columns(neo4j_read.chosen_properties(kind, properties), native)
        return cypher.collect_edges(cypher.edge_pattern(kind, native), columns, parted=False)

    def facts_around(self, seeds: Ints, hops: int, index: NodeIndex) -> EdgeColumns:
        rows = neo4j_read.facts_around(self._connection, index.handles[seeds], hops, self._native)
        return _indexed(rows, decode(rows, {"rid": "int64"}), index, index)

    def read_nodes(
        self, label: str, properties: Sequence[str] | None = None, *, having: str | None = None
    ) -> Iterator[pa.Table]:
        return neo4j_read.read_nodes(self._connection, label, properties, having)

    def read_edges(self, kind: str, properties: Sequence[str] | None = None) -> Iterator[pa.Table]:
        return neo4j_read.read_edges(self._connection, kind, properties, self._native)

    def read_vectors(self, label: str, prop: str) -> tuple[pa.Array, Floats]:
        return neo4j_read.read_vectors(self._connection, label, prop)

    def vectors_at(
        self, prop: str, relation: str | None = None, side: str = "tail", *, bias: str | None = None
    ) -> Iterator[tuple[list[str], Floats, Floats | None]]:
        return neo4j_read.vectors_at(self._connection, prop, relation, side, bias, self._native)

    def similar(self, label: str, id: str, k: int, prop: str) -> list[tuple[str, float]]:
        names = {"label": label_of(label), "prop": identifier(prop)}
        found = self._connection.read(cypher.HAS_VECTOR.format(**names), id=id)
        if not found:
            raise StoreError(f"{id!r} is not the id of any {label} in the graph")
        if not found[0]["has"]:
            raise StoreError(f"{label} {id!r} has no property {prop}: write embeddings first (`kgkit train`)")
        index = cypher.vector_index(label, prop)
        count = self._connection.read(cypher.COUNT_NODES.format(**names))[0]["n"]
        online = count > _INDEXED and any(
            r["name"] == index and r["state"] == "ONLINE"
            for r in self._connection.read(cypher.VECTOR_INDEXES)
        )
        rows = None
        if online and k * 10 < count:
            with suppress(StoreError):  # the index goes when the vectors are about to be replaced
                rows = self._connection.read(
                    cypher.SIMILAR_BY_INDEX.format(**names), id=id, k=k, index=index, candidates=4 * k + 20
                )
        if rows is None:
            rows = self._connection.read(cypher.SIMILAR_BY_SCAN.format(**names), id=id, k=k)
        return [(r["id"], r["cosine"]) for r in rows]

    def query(
        self,
        cypher: str,
        params: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        files: bool = False,
    ) -> QueryResult:
        if not write:
            check_reading(cypher, files=files)
        connection = self._connection
        with connection.errors():
            session = connection.session(write=write)
            try:
                result = session.run(cypher, dict(params or {}))
                columns = list(result.keys())
                if write:
                    rows = [tuple(plain(v) for v in record) for record in result]
                    result.consume()
                    session.close()
                    return QueryResult(columns, iter(rows))
                result.peek()  # a refusal comes with the first row: raise it here
            except BaseException:
                session.close()
                raise
        return QueryResult(columns, _rows(connection, session, result))

    def stats(self) -> dict[str, Any]:
        relations = self._facts(self._native)
        nodes, edges = self._counts()
        nodes["Item"] = self._connection.read(cypher.COUNT_ITEMS)[0]["n"]
        edges["FACT"] = sum(relations.values())
        return {
            "nodes": dict(sorted(nodes.items())),
            "relationships": dict(sorted(edges.items())),
            "relations": dict(sorted(relations.items())),
        }

    def counts(self) -> dict[str, int]:
        nodes, edges = self._counts()
        return {**nodes, **edges}

    def _counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Nodes by label and relationships by type, from the server's own counts: at once, whatever the graph's size."""
        read = self._connection.read
        nodes = {n: read(cypher.COUNT_NODES.format(label=n))[0]["n"] for n in ("Entity", "Run", "User")}
        edges = {kind: read(cypher.COUNT_RELATIONSHIPS.format(type=kind))[0]["n"] for kind in EDGES}
        if self._native:
            edges["FACT"] = sum(self._facts(True).values())
        return nodes, edges

    def _facts(self, native: bool) -> dict[str, int]:
        """Facts by name of relation, those without any left out."""
        known = neo4j_read.relations(self._connection)
        if not native:
            by_rid = {r["rid"]: r["n"] for r in self._connection.read(cypher.COUNT_BY_RELATION)}
            return {name: by_rid[rid] for name, rid in known.items() if rid in by_rid}
        counts = {
            name: self._connection.read(cypher.COUNT_RELATIONSHIPS.format(type=identifier(name)))[0]["n"]
            for name in known
        }
        return {name: n for name, n in counts.items() if n}

    # -- answers out -------------------------------------------------------------------------------------------
    def write_vectors(self, prop: str, vectors: Vectors) -> int:
        self._writable()
        self._make_room(vectors.label, prop, vectors.matrix.shape[1] if len(vectors.ids) else 0)
        written = neo4j_write.write_vectors(self._connection, prop, vectors)
        self._index_vectors(vectors.label, prop)
        return written

    def replace_answers(
        self,
        run: RunRecord,
        vectors: Iterable[Vectors],
        answers: Iterable[Answers],
        weights: Mapping[str, Floats] = MappingProxyType({}),
    ) -> dict[str, int]:
        self._writable()
        prop = embedding_property(run.plugin)
        # All vectors are about to change: within the commit an index takes them one by one, 1,600/s; afterwards the
        # server fills a new one in the background. Until then `similar` scans.
        for label in neo4j_answers.LABELS:
            self._drop_index(label, prop)
        try:
            written = neo4j_answers.replace_answers(self._connection, run, vectors, answers, weights)
        except BaseException:
            with suppress(StoreError):  # the server may be gone
                self._index_answers(prop)
            raise
        self._index_answers(prop)
        return written

    def _index_answers(self, prop: str) -> None:
        for label in neo4j_answers.LABELS:
            self._index_vectors(label, prop)

    def update_answers(self, run_id: str, answers: Iterable[Answers]) -> dict[str, int]:
        self._writable()
        return neo4j_answers.update_answers(self._connection, run_id, answers)

    def _make_room(self, label: str, prop: str, size: int) -> None:
        """Before vectors of another length: takes the old ones and their index away."""
        handles, sizes = neo4j_read.with_vector(self._connection, label, prop)
        if size and sizes - {size}:
            self._drop_index(label, prop)
            text = cypher.REMOVE_VECTORS.format(
                prop=identifier(prop), packed=identifier(vector_property(prop, PACKED))
            )
            for start in range(0, len(handles), neo4j_write.NODE_BATCH):
                self._connection.write(text, handles=handles[start : start + neo4j_write.NODE_BATCH].tolist())

    def _index_vectors(self, label: str, prop: str) -> None:
        """Makes the vector index of a property, anew when the length changed; the server fills it in the background."""
        if not NODES[label].open or is_other_table(prop):
            return  # nobody's neighbours are asked there; relations may have vectors longer than an index takes
        name, sizes = cypher.vector_index(label, prop), self._vector_sizes(label, prop)
        indexes = {r["name"]: r["dimensions"] for r in self._connection.read(cypher.VECTOR_INDEXES)}
        if name in indexes and indexes[name] not in sizes:
            self._drop_index(label, prop)
        if len(sizes) == 1:
            text = cypher.CREATE_VECTOR_INDEX.format(
                name=identifier(name), label=label_of(label), prop=identifier(prop)
            )
            self._connection.write(text, dimensions=sizes.pop())

    def _vector_sizes(self, label: str, prop: str) -> set[int]:
        text = cypher.VECTOR_SIZES.format(label=label_of(label), prop=identifier(prop))
        return {r["size"] for r in self._connection.read(text)}

    def _drop_index(self, label: str, prop: str) -> None:
        self._connection.write(cypher.DROP_INDEX.format(name=identifier(cypher.vector_index(label, prop))))

    def erase_run(self, run_id: str) -> int:
        self._writable()
        return neo4j_answers.erase_run(self._connection, run_id)

    def delete_nodes(self, label: str, ids: Sequence[str]) -> int:
        self._writable()
        text = cypher.DELETE_NODES.format(label=label_of(label))
        batches = (ids[i : i + neo4j_write.NODE_BATCH] for i in range(0, len(ids), neo4j_write.NODE_BATCH))
        return sum(self._connection.write(text, ids=list(batch))[1].nodes_deleted for batch in batches)

    def clear(self) -> None:
        """Deletes the nodes of kgkit's labels with all their relationships, and the vector indexes."""
        self._writable()
        for index in self._connection.read(cypher.VECTOR_INDEXES):
            self._connection.write(cypher.DROP_INDEX.format(name=identifier(index["name"])))
        labels = "|".join(NODES)
        self._connection.implicit(cypher.CLEAR_RELATIONSHIPS.format(labels=labels))
        self._connection.implicit(cypher.CLEAR_NODES.format(labels=labels))
        self._prepared = False

    def close(self) -> None:
        if self._owns:
            self._connection.driver.close()


def _indexed(
    rows: neo4j_read.EdgeRows, columns: dict[str, Any], source_index: NodeIndex, target_index: NodeIndex
) -> EdgeColumns:
    """Engine ids turned into row numbers; relationships of nodes that are in neither index are left out."""
    source, target = rows_of(source_index.handles, rows.source), rows_of(target_index.handles, rows.target)
    inside = (source >= 0) & (target >= 0)
    if inside.all():
        return EdgeColumns(source, target, columns)
    keep = np.flatnonzero(inside)
    return EdgeColumns(source[keep], target[keep], {n: c[keep] for n, c in columns.items()})


def _rows(connection: Connection, session: neo4j.Session, result: neo4j.Result) -> Iterator[tuple[Any, ...]]:
    with connection.errors(), session:
        for record in result:
            yield tuple(plain(v) for v in record)
