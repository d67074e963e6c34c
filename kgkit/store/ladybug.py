"""The embedded store: a graph in one file, by the engine Ladybug. No server, no extensions.

Writing lives in `ladybug_write`, `ladybug_align` and `ladybug_answers`, reading vectors in `ladybug_vectors`; the engine's
handle, and the reasons for its rules, in `ladybug_engine`.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kgkit.errors import ReadOnlyStoreError, StoreError
from kgkit.ids import check_lengths
from kgkit.lazy import LazyModule, np, pa, pc
from kgkit.schema import EDGES, NODES, EdgeKind, identifier, is_packed
from kgkit.store import ladybug_known, ladybug_tables, ladybug_vectors
from kgkit.store.ladybug_engine import LARGE, Engine
from kgkit.store.port import (
    NUMBER,
    AlignStats,
    Answers,
    EdgeColumns,
    GraphStore,
    NodeIndex,
    Numbered,
    QueryResult,
    RunRecord,
    StoreCapabilities,
    Vectors,
    WriteStats,
)
from kgkit.store.reading import check_reading
from kgkit.store.rows import last_of_each

if TYPE_CHECKING:
    from kgkit.arrays import Floats, Ints
    from kgkit.store import ladybug_align, ladybug_answers, ladybug_write
else:  # readers never need them
    ladybug_align = LazyModule("kgkit.store.ladybug_align")
    ladybug_answers = LazyModule("kgkit.store.ladybug_answers")
    ladybug_write = LazyModule("kgkit.store.ladybug_write")

READ_ROWS = 200_000  # rows a table that read_nodes and read_edges give
READ_AT_ONCE = 500_000  # of nodes or relationships, or so, that read_nodes and read_edges hold at a time
FEW_SEEDS = 200  # up to so many nodes, looking their facts up beats reading all facts


class LadybugStore(GraphStore, Numbered):
    """A graph in the file `path`, made when it is not there.

    One process may write a file: a second one gets RetryableStoreError. Within a process, opening a file that is
    already being written shares its handle. `read_only` stores need an existing graph, and may be open beside a
    writer; they see what it has committed. Raises StoreError for what cannot be opened.
    """

    def __init__(self, path: Path, read_only: bool = False, *, create: bool = True) -> None:
        self.uri = str(path)
        self._read_only = read_only
        self._closed = False
        self._engine_ = Engine.open(Path(path), read_only=read_only, create=create)
        try:
            if read_only:
                ladybug_tables.check_version(self._engine_)
            else:
                with self._engine_.exclusive():
                    ladybug_tables.create_tables(self._engine_)
                    ladybug_tables.drop_leftovers(self._engine_)
        except BaseException:
            self.close()
            raise

    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities("ladybug", vector_index=False)

    @property
    def _engine(self) -> Engine:
        if self._closed:
            raise StoreError(f"{self.uri} is closed")
        return self._engine_

    @property
    def _writer(self) -> Engine:
        if self._read_only:
            raise ReadOnlyStoreError(f"{self.uri} is open for reading only")
        return self._engine

    def ensure_schema(self) -> None:
        engine = self._writer
        with engine.exclusive():
            ladybug_tables.create_tables(engine)

    # -- in --------------------------------------------------------------------------------------------------------
    def upsert_nodes(self, label: str, table: pa.Table) -> WriteStats:
        check_lengths(table, ["id"])
        engine = self._writer
        with engine.exclusive():
            return ladybug_write.upsert_nodes(engine, label, table)

    def upsert_edges(self, kind: str, table: pa.Table, *, missing: str = "error") -> WriteStats:
        check_lengths(table, ["head", "tail", "relation"])
        engine = self._writer
        with engine.exclusive():
            return ladybug_write.upsert_edges(engine, kind, table, missing)

    def align(self, table: pa.Table, *, move: bool = False) -> AlignStats:
        engine = self._writer
        with engine.exclusive():
            return ladybug_align.align(engine, table, move)

    def write_vectors(self, prop: str, vectors: Vectors) -> int:
        engine = self._writer
        with engine.exclusive():
            return ladybug_answers.write_vectors(engine, prop, vectors)

    def replace_answers(
        self,
        run: RunRecord,
        vectors: Iterable[Vectors],
        answers: Iterable[Answers],
        weights: Mapping[str, Floats] = MappingProxyType({}),
    ) -> dict[str, int]:
        engine = self._writer
        with engine.exclusive():
            return ladybug_answers.replace_answers(engine, run, vectors, answers, weights)

    def update_answers(self, run_id: str, answers: Iterable[Answers]) -> dict[str, int]:
        engine = self._writer
        with engine.exclusive():
            return ladybug_answers.update_answers(engine, run_id, answers)

    def erase_run(self, run_id: str) -> int:
        engine = self._writer
        with engine.exclusive():
            return ladybug_answers.erase_run(engine, run_id)

    def delete_nodes(self, label: str, ids: Sequence[str]) -> int:
        engine = self._writer
        ladybug_tables.node_kind(label)
        with engine.exclusive():
            wanted = pc.unique(pa.array(list(ids), pa.string()))
            there = wanted.filter(pa.array(ladybug_write.lookup(engine, label, wanted)[0] >= 0))
            if len(there):
                ladybug_align.delete_nodes(engine, label, there)
            return len(there)

    def clear(self) -> None:
        engine = self._writer
        with engine.exclusive():
            with engine.transaction():
                for part in engine.parts:
                    ladybug_tables.drop_table(engine, part)
                for table in (*EDGES, *NODES):
                    engine.rows(f"DROP TABLE IF EXISTS {identifier(table)}")
                ladybug_tables.create_tables(engine)
            engine.checkpoint()

    # -- out -------------------------------------------------------------------------------------------------------
    def node_index(self, label: str) -> NodeIndex:
        ladybug_tables.node_kind(label)
        found = self._engine.arrow(
            f"MATCH (n:{identifier(label)}) RETURN n.`id`, offset(id(n))", never_null=True
        )
        order = pc.sort_indices(found.column(0))
        ids = found.column(0).take(order).combine_chunks()
        if isinstance(ids, pa.ChunkedArray):  # of nothing
            ids = pa.array([], pa.string())
        return NodeIndex(label, ids, np.asarray(found.column(1).take(order), dtype=np.int64))

    def edge_cypher(self, kind: str, properties: Sequence[str] = ()) -> str:
        described = ladybug_tables.edge_kind(kind)
        columns = ladybug_tables.edge_columns(described)
        for name in properties:
            if name not in columns:
                raise StoreError(f"{kind} has no property {name!r}: it has {', '.join(columns)}")
        returned = ["offset(id(a))", "offset(id(b))", *self._returned(described, properties)]
        return f"MATCH {ladybug_tables.pattern(described)} RETURN {', '.join(returned)}"

    def _returned(self, kind: EdgeKind, properties: Sequence[str]) -> list[str]:
        """Expressions for properties of `r`; a file that was never opened for writing may lack a column of today."""
        absent = ladybug_tables.lacking(self._engine, kind) if self._read_only else []
        types = ladybug_tables.edge_columns(kind)
        return [f"CAST(NULL AS {types[p]})" if p in absent else f"r.{identifier(p)}" for p in properties]

    def edge_properties(self, kind: str) -> list[str]:
        described = ladybug_tables.edge_kind(kind)
        absent = set(ladybug_tables.lacking(self._engine, described)) if described.rare else set()
        for name in set(described.rare) - absent:
            if not self._engine.rows(
                f"MATCH {ladybug_tables.pattern(described)} WHERE r.{identifier(name)} IS NOT NULL RETURN 1 LIMIT 1"
            ):
                absent.add(name)
        return [name for name in described.properties if name not in absent]

    def edges(
        self, kind: str, source_index: NodeIndex, target_index: NodeIndex, *, properties: Sequence[str] = ()
    ) -> EdgeColumns:
        # Without a property the native collector would take its CSR form, which get_as_arrow reads as no rows at all.
        never_null = list(properties) == ["rid"] and not ladybug_tables.some_without_rid(self._engine)
        found = self._engine.arrow(self.edge_cypher(kind, properties), never_null=never_null)
        return _edge_columns(found, source_index, target_index, properties)

    def facts_around(self, seeds: Ints, hops: int, index: NodeIndex) -> EdgeColumns:
        reached = np.zeros(len(index), dtype=bool)
        reached[seeds] = True
        frontier = np.unique(np.asarray(seeds, dtype=np.int64))
        none = np.zeros(0, dtype=np.int64)
        parts = [EdgeColumns(none, none, {"rid": none})]
        for hop in range(hops):
            if len(frontier) == 0:
                break
            if len(frontier) > FEW_SEEDS:
                # All facts are read at once now, so the remaining hops need no further query.
                every = self.edges("FACT", index, index, properties=("rid",))
                parts.append(_walk(every, reached, hops - hop))
                break
            parts.append(self._facts_of(frontier, index))
            ends = np.unique(np.concatenate([parts[-1].source, parts[-1].target]))
            frontier = ends[~reached[ends]]
            reached[frontier] = True
        return _distinct_facts(parts, len(index))

    def _facts_of(self, rows: Ints, index: NodeIndex) -> EdgeColumns:
        """Facts from and to some nodes, in one query. By offset: look-ups by key read the whole table instead."""
        returned = "RETURN offset(id(a)) AS s, offset(id(b)) AS o, r.rid AS rid"
        match = f"MATCH {ladybug_tables.pattern(EDGES['FACT'])}"
        found = self._engine.arrow(
            f"{match} WHERE offset(id(a)) IN $s {returned} "
            f"UNION ALL {match} WHERE offset(id(b)) IN $s {returned}",
            {"s": index.handles[rows].tolist()},
        )
        return _edge_columns(found, index, index, ("rid",))

    @property
    def numbered(self) -> Numbered:
        return self

    def read_nodes(
        self, label: str, properties: Sequence[str] | None = None, *, having: str | None = None
    ) -> Iterator[pa.Table]:
        return self._nodes(label, properties, having)

    def read_edges(self, kind: str, properties: Sequence[str] | None = None) -> Iterator[pa.Table]:
        return self._edges(kind, properties)

    def numbered_nodes(self, label: str) -> Iterator[pa.Table]:
        return self._nodes(label, numbered=True)

    def numbered_edges(self, kind: str) -> Iterator[pa.Table]:
        return self._edges(kind, numbered=True)

    def _nodes(
        self,
        label: str,
        properties: Sequence[str] | None = None,
        having: str | None = None,
        *,
        numbered: bool = False,
    ) -> Iterator[pa.Table]:
        if label not in ladybug_tables.tables(self._engine):  # a graph that an earlier kgkit made
            return
        have = ladybug_tables.node_columns(self._engine, label)
        whole = [name for name in have if not is_packed(name)]  # whoever writes vectors packs them again
        names = whole if properties is None else list(properties)
        # A graph that an earlier kgkit made may lack what the schema has since.
        later = NODES[label].properties.keys() - have.keys()
        values = ["CAST(NULL AS STRING)" if p in later else f"n.{identifier(p)}" for p in names]
        names = [NUMBER, "id", *names] if numbered else ["id", *names]
        returned = ", ".join([*["offset(id(n))"] * numbered, "n.`id`", *values])
        has = [] if having is None else [f"n.{identifier(having)} IS NOT NULL"]
        if has and having not in have:
            has = ["false"]
        count = self._engine.count(label)
        if count >= LARGE:
            self._engine.make_room()
        for part in ladybug_known.ranges(count, 1 + count // READ_AT_ONCE):
            among = ladybug_known.where(*ladybug_known.within("n", *part), *has)
            found = self._engine.arrow(f"MATCH (n:{identifier(label)}){among} RETURN {returned}")
            yield from _bounded(found.rename_columns(names))

    def _edges(
        self, kind: str, properties: Sequence[str] | None = None, *, numbered: bool = False
    ) -> Iterator[pa.Table]:
        described = ladybug_tables.edge_kind(kind)
        names = self.edge_properties(kind) if properties is None else list(properties)
        ends = ["offset(id(a))", "offset(id(b))"] if numbered else ["a.`id`", "b.`id`"]
        returned = ", ".join([*ends, *self._returned(described, names)])
        match = f"MATCH {ladybug_tables.pattern(described)}"
        held = self._engine.rows(f"{match} RETURN count(*)")[0][0]
        if held >= LARGE:
            self._engine.make_room()
        for part in ladybug_known.ranges(self._engine.count(described.source), 1 + held // READ_AT_ONCE):
            among = ladybug_known.where(*ladybug_known.within("a", *part))
            found = self._engine.arrow(f"{match}{among} RETURN {returned}")
            yield from _bounded(found.rename_columns(["head", "tail", *names]))

    def read_vectors(self, label: str, prop: str) -> tuple[pa.Array, Floats]:
        return ladybug_vectors.read_vectors(self._engine, label, prop)

    def vectors_at(
        self, prop: str, relation: str | None = None, side: str = "tail", *, bias: str | None = None
    ) -> Iterator[tuple[list[str], Floats, Floats | None]]:
        return ladybug_vectors.vectors_at(self._engine, prop, relation, side, bias, READ_ROWS)

    def similar(self, label: str, id: str, k: int, prop: str) -> list[tuple[str, float]]:
        return ladybug_vectors.similar(self._engine, label, id, k, prop)

    def query(
        self,
        cypher: str,
        params: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        files: bool = False,
    ) -> QueryResult:
        engine = self._writer if write else self._engine
        if not write:
            check_reading(cypher, files=files)
        columns, rows = engine.people(cypher, params or {}, write=write)
        return QueryResult(columns, (tuple(_plain(value) for value in row) for row in rows))

    @property
    def left_open(self) -> bool:
        """Whether the last writer had not closed the file when this one opened it."""
        return self._engine.left_open

    def counts(self) -> dict[str, int]:
        engine = self._engine
        nodes = {label: engine.count(label) for label in ("Entity", "Run", "User")}
        return nodes | {
            kind: int(engine.rows(f"MATCH ()-[r:{identifier(kind)}]->() RETURN count(*)")[0][0])
            for kind in EDGES
        }

    def stats(self) -> dict[str, Any]:
        engine = self._engine
        counts = self.counts()
        edges = {kind: counts.pop(kind) for kind in EDGES}
        items = engine.rows("MATCH (n:Entity) WHERE n.item_id IS NOT NULL RETURN count(*)")
        nodes = {**counts, "Item": int(items[0][0])}
        named = {row[0]: row[1] for row in engine.rows("MATCH (r:Relation) RETURN r.rid, r.`id`")}
        facts = engine.rows("MATCH (:Entity)-[r:FACT]->(:Entity) RETURN r.rid, count(*)")
        relations = {named[rid]: int(n) for rid, n in facts if rid in named}  # people's own may have none
        return {
            "nodes": dict(sorted(nodes.items())),
            "relationships": dict(sorted(edges.items())),
            "relations": dict(sorted(relations.items())),
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine_.release()


def _edge_columns(
    found: pa.Table, source_index: NodeIndex, target_index: NodeIndex, properties: Sequence[str]
) -> EdgeColumns:
    """Engine offsets to rows; relationships whose ends the indexes do not know yet are left out."""
    source = _rows_of(np.asarray(found.column(0), dtype=np.int64), source_index)
    target = _rows_of(np.asarray(found.column(1), dtype=np.int64), target_index)
    known = (source >= 0) & (target >= 0)
    columns = {p: _values(found.column(2 + i)) for i, p in enumerate(properties)}
    if not known.all():
        source, target = source[known], target[known]
        columns = {p: v[known] for p, v in columns.items()}
    return EdgeColumns(source, target, columns)


def _rows_of(handles: Ints, index: NodeIndex) -> Ints:
    size = 1 + max(int(index.handles.max(initial=-1)), int(handles.max(initial=-1)))
    row = np.full(size, -1, dtype=np.int64)
    row[index.handles] = np.arange(len(index), dtype=np.int64)
    return row[handles]


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """int64 without nulls, float64 for numbers, else objects."""
    if pa.types.is_integer(column.type) and column.null_count == 0:
        return np.asarray(column, dtype=np.int64)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(column.cast(pa.float64()), dtype=np.float64)
    if pa.types.is_string(column.type) and len(column):  # texts repeat: an object a text, not one a row
        encoded = column.combine_chunks().dictionary_encode()
        texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
        found: np.ndarray = texts[np.asarray(pc.fill_null(encoded.indices, -1))]
        return found
    return np.array(column.to_pylist(), dtype=object)


def _walk(facts: EdgeColumns, reached: np.ndarray, hops: int) -> EdgeColumns:
    """Of all facts, those within `hops` steps of the nodes reached so far (bool, changed in place)."""
    keep = np.zeros(len(facts.source), dtype=bool)
    for _ in range(hops):
        keep = reached[facts.source] | reached[facts.target]
        reached[facts.source[keep]] = True
        reached[facts.target[keep]] = True
    return EdgeColumns(facts.source[keep], facts.target[keep], {"rid": facts.columns["rid"][keep]})


def _distinct_facts(parts: Sequence[EdgeColumns], n: int) -> EdgeColumns:
    source, target, rid = (
        np.concatenate(columns)
        for columns in zip(*((p.source, p.target, p.columns["rid"]) for p in parts), strict=True)
    )
    none = np.zeros(0, dtype=np.int64)
    rows, _ = last_of_each(ladybug_tables.combine([(source, none), (target, none), (rid, none)])[0])
    return EdgeColumns(source[rows], target[rows], {"rid": rid[rows]})


def _bounded(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, READ_ROWS):
        yield table.slice(start, READ_ROWS)


def _plain(value: Any) -> Any:
    """What the engine returns, without its internal ids, absent properties and wide integers."""
    if isinstance(value, decimal.Decimal):
        return (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else float(value)
        )
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        if "_NODES" in value and "_RELS" in value:
            return {"nodes": _plain(value["_NODES"]), "relationships": _plain(value["_RELS"])}
        if "_LABEL" in value:
            hidden = ("_ID", "_LABEL", "_SRC", "_DST")
            return {k: _plain(v) for k, v in value.items() if k not in hidden and v is not None}
        return {k: _plain(v) for k, v in value.items()}
    return value
