"""Into Neo4j: nodes by MERGE; relationships by looking at what is there and creating only what is not.

CREATE by the engine's own ids is twice as fast as MERGE, but sending it twice would double relationships. So nothing
here repeats a CREATE whose outcome is unknown: it looks at the graph again and creates what is still missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Array, Ints
from kgkit.errors import RetryableStoreError, StoreError
from kgkit.schema import EDGES, NODES, PACKED, EdgeKind, identifier, vector_property
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j_connection import Connection, in_parallel, parameters
from kgkit.store.neo4j_read import (
    EdgeRows,
    chosen_properties,
    edge_rows,
    kind_properties,
    label_of,
    relations,
    resolve,
)
from kgkit.store.packed import pack
from kgkit.store.port import Vectors, WriteStats
from kgkit.store.rows import last_rows

NODE_BATCH = 20_000
EDGE_BATCH = 20_000
VECTOR_BATCH = 2_500
VECTOR_NUMBERS = 500_000  # in a batch of long vectors
SESSIONS = 2
RESTARTS = 10  # times that a lost server is waited for within one call


# -- tables ------------------------------------------------------------------------------------------------------


def text_column(table: pa.Table, name: str, what: str) -> pa.Array:
    """A column of ids or names as strings. Raises StoreError when it is absent, or holds a null or an empty text."""
    if name not in table.column_names:
        raise StoreError(
            f"{what}: column {name!r} is missing; there are {', '.join(table.column_names) or 'none'}"
        )
    column = table[name].combine_chunks()
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    if column.null_count or pc.any(pc.equal(column, "")).as_py():
        raise StoreError(f"{what}: column {name!r} holds an empty value; every row needs one")
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def plain_column(table: pa.Table, name: str) -> pa.Array:
    """Any column as one array, dictionaries decoded."""
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


# -- nodes -------------------------------------------------------------------------------------------------------


def upsert_nodes(connection: Connection, label: str, table: pa.Table) -> WriteStats:
    """See GraphStore.upsert_nodes."""
    label_of(label)
    kind = NODES[label]
    names = [c for c in table.column_names if c != "id"]
    for name in names:
        identifier(name)
        if not kind.open and name not in kind.properties:
            raise StoreError(f"{label} has no property {name!r}: it has id, {', '.join(kind.properties)}")
    ids = text_column(table, "id", label)
    if len(ids) == 0:
        return WriteStats()
    keep = last_rows(ids.dictionary_encode().indices.to_numpy())
    table = pa.table([ids, *(plain_column(table, n) for n in names)], names=["id", *names]).take(
        pa.array(keep)
    )
    lists = {n for n in names if _is_vector(table[n].type)}
    scalars = [n for n in names if n not in lists]
    nullable = [n for n in scalars if table[n].null_count]
    text = cypher.upsert_nodes(label, scalars, nullable, item=label == "Entity" and "item_id" in scalars)

    def write(start: int) -> int:
        part = table.slice(start, NODE_BATCH)
        rows = [list(row) for row in zip(*(part[n].to_pylist() for n in ["id", *scalars]), strict=True)]
        return connection.write(text, rows=rows)[1].nodes_created

    created = 0
    for done in in_parallel(write, range(0, table.num_rows, NODE_BATCH), SESSIONS):
        if isinstance(done, StoreError):
            raise done
        created += done
    for name in sorted(lists):
        some = table.filter(pc.is_valid(table[name]))
        if some.num_rows:
            matrix = np.array(some[name].to_pylist(), dtype=np.float32)
            write_vectors(connection, name, Vectors(label, some["id"].combine_chunks(), matrix))
    return WriteStats(created=created, matched=table.num_rows - created)


def _is_vector(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and pa.types.is_float32(kind.value_type))


def vector_rows(
    vectors: Vectors, rows: Ints, handles: Ints | None = None, *, packed: bool
) -> Iterator[list[list[Any]]]:
    """Batches [id, vector] of the given row numbers; with `handles` (int64, one a vector) these in place of ids.

    packed: [id, vector, its bytes or null].
    """
    size = max(1, min(VECTOR_BATCH, VECTOR_NUMBERS // max(1, vectors.matrix.shape[1])))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        nodes = vectors.ids.take(pa.array(part)).to_pylist() if handles is None else handles[part].tolist()
        matrix = vectors.matrix[part]
        columns = [nodes, matrix.tolist()]
        if packed:
            columns.append(pack(matrix) if vectors.packed else [None] * len(matrix))
        yield [list(row) for row in zip(*columns, strict=True)]


def write_vectors(connection: Connection, prop: str, vectors: Vectors) -> int:
    """Sets vectors on nodes that exist, two sessions at once, and returns how many. Repeating it does no harm."""
    packed = identifier(vector_property(prop, PACKED))
    text = cypher.SET_VECTORS.format(label=label_of(vectors.label), packed=packed)
    last = last_rows(vectors.ids.dictionary_encode().indices.to_numpy())
    # Sorted, so that the two sessions work on different pages of the index.
    order = last[pc.sort_indices(vectors.ids.take(pa.array(last))).to_numpy()]
    done = 0
    for written in in_parallel(
        lambda rows: int(connection.write(text, rows=rows, prop=prop)[0][0]["n"]),
        vector_rows(vectors, order, packed=True),
        SESSIONS,
    ):
        if isinstance(written, StoreError):
            raise written
        done += written
    return done


# -- relations ---------------------------------------------------------------------------------------------------


def register_relations(connection: Connection, names: list[str]) -> dict[str, int]:
    """rid of every relation that the graph knows, `names` included. New ones follow the highest, in sorted order."""
    for attempt in range(5):
        known = relations(connection)
        new = sorted(set(names) - known.keys())
        if not new:
            break
        first = max(known.values(), default=-1) + 1
        try:
            connection.write(cypher.REGISTER_RELATIONS, rows=[[n, first + i] for i, n in enumerate(new)])
        except RetryableStoreError:
            raise
        except StoreError:  # someone else took these numbers: a constraint keeps them unique
            if attempt == 4:
                raise
    return relations(connection) if new else known


def native_type(name: str) -> str:
    """A relation as a relationship type of its own. Raises StoreError for names that cannot be one."""
    if name in EDGES:
        raise StoreError(
            f"relation {name!r} cannot be stored as a relationship type of that name: it is kgkit's own"
        )
    identifier(name)
    return name


# -- relationships -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewEdges:
    """Rows to be written: handles of the ends, int64 [E], and the properties as arrays [E], keys first."""

    source: Ints
    target: Ints
    columns: dict[str, pa.Array]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: Ints) -> NewEdges:
        at = pa.array(rows)
        return NewEdges(
            self.source[rows], self.target[rows], {n: c.take(at) for n, c in self.columns.items()}
        )


def upsert_edges(
    connection: Connection, kind_name: str, table: pa.Table, missing: str, native: bool
) -> WriteStats:
    """See GraphStore.upsert_edges."""
    kind_properties(kind_name)
    kind = EDGES[kind_name]
    if missing not in ("error", "skip", "create"):
        raise StoreError(f"missing={missing!r}: say 'error', 'skip' or 'create'")
    edges, skipped = _prepare(connection, kind, table, missing)
    if len(edges) == 0:
        return WriteStats(skipped=skipped)
    native = native and kind_name == "FACT"
    if kind_name == "FACT":
        names = edges.columns["relation"].dictionary_encode()
        vocabulary = names.dictionary.to_pylist()
        if native:
            for name in vocabulary:
                native_type(name)
        rid = register_relations(connection, vocabulary)
        codes = np.array([rid[n] for n in vocabulary], dtype=np.int64)[names.indices.to_numpy()]
        edges.columns["rid"] = pa.array(codes)
    created: int | None = None
    for restart in range(RESTARTS):
        try:
            with connection.writer_lock():
                absent = _update_present(connection, kind, edges, native)
                created = len(absent) if created is None else created
                _create(connection, kind, edges.take(absent), native)
            return WriteStats(created, len(edges) - created, skipped)
        except RetryableStoreError:
            if restart == RESTARTS - 1:
                raise
            connection.settle()
    raise AssertionError("not reached")


def _prepare(connection: Connection, kind: EdgeKind, table: pa.Table, missing: str) -> tuple[NewEdges, int]:
    """Checks the table, finds the ends, and leaves one row a key. Also returns how many rows had no end."""
    sources, targets = text_column(table, "head", kind.type), text_column(table, "tail", kind.type)
    names = [c for c in table.column_names if c not in ("head", "tail")]
    for name in names:
        if name not in kind.properties:
            raise StoreError(f"{kind.type} has no property {name!r}: it has {', '.join(kind.properties)}")
    # Nulls leave what is stored, so a column of nothing else is no column.
    names = [n for n in names if n in kind.key or table[n].null_count < table.num_rows]
    columns = {k: text_column(table, k, kind.type) for k in kind.key}
    for name in names:
        if name not in kind.key:
            wanted = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}[
                kind.properties[name]
            ]
            try:
                columns[name] = plain_column(table, name).cast(wanted)
            except pa.ArrowInvalid as error:
                raise StoreError(
                    f"{kind.type}: column {name!r} must be {kind.properties[name]}: {error}"
                ) from None
    source, target = _ends(connection, kind, sources, targets, missing)
    there = (source >= 0) & (target >= 0)
    skipped = int(len(there) - there.sum())
    edges = NewEdges(source, target, columns)
    if skipped:
        edges = edges.take(np.flatnonzero(there))
    codes = [columns_codes(edges.columns[k]) for k in kind.key]
    edges = edges.take(last_rows(joint_key([edges.source, edges.target, *codes])))
    return edges, skipped


def columns_codes(column: pa.Array) -> Ints:
    """A number for each distinct value of a column without nulls."""
    return np.asarray(column.dictionary_encode().indices, dtype=np.int64)


def _ends(
    connection: Connection, kind: EdgeKind, sources: pa.Array, targets: pa.Array, missing: str
) -> tuple[Ints, Ints]:
    """Handles of both ends of every row, -1 for unknown ones ("skip"), after creating them ("create")."""
    if kind.source == kind.target:
        both = pa.concat_arrays([sources, targets]).dictionary_encode()
        handles = _resolve_or(connection, kind, kind.source, both.dictionary, missing)[
            both.indices.to_numpy()
        ]
        return handles[: len(sources)], handles[len(sources) :]
    out = []
    found = []
    for label, column in ((kind.source, sources), (kind.target, targets)):
        encoded = column.dictionary_encode()
        found.append((label, encoded, resolve(connection, label, encoded.dictionary)))
    if missing == "error":  # both looked at first, so that nothing is written
        for label, encoded, handles in found:
            _refuse_missing(kind, label, encoded.dictionary, handles)
    for label, encoded, handles in found:
        if missing == "create":
            handles = _create_missing(connection, label, encoded.dictionary, handles)
        out.append(handles[encoded.indices.to_numpy()])
    return out[0], out[1]


def _resolve_or(connection: Connection, kind: EdgeKind, label: str, keys: pa.Array, missing: str) -> Ints:
    handles = resolve(connection, label, keys)
    if missing == "error":
        _refuse_missing(kind, label, keys, handles)
    return _create_missing(connection, label, keys, handles) if missing == "create" else handles


def _refuse_missing(kind: EdgeKind, label: str, keys: pa.Array, handles: Ints) -> None:
    absent = np.flatnonzero(handles < 0)
    if len(absent):
        some = ", ".join(repr(k) for k in keys.take(pa.array(absent[:3])).to_pylist())
        raise StoreError(
            f"{kind.type}: {len(absent):,} ids are not in the graph as {label} ({some}{', ..' * (len(absent) > 3)}): "
            "write the nodes first, or choose missing='skip' or 'create'"
        )


def _create_missing(connection: Connection, label: str, keys: pa.Array, handles: Ints) -> Ints:
    absent = np.flatnonzero(handles < 0)
    if len(absent):
        new = keys.take(pa.array(absent))
        upsert_nodes(connection, label, pa.table({"id": new}))
        handles = handles.copy()
        handles[absent] = resolve(connection, label, new)
    return handles


def joint_key(parts: list[Ints]) -> Ints:
    """One int64 a row, equal where all parts are."""
    key = parts[0]
    for part in parts[1:]:
        key = np.unique(key, return_inverse=True)[1]
        values, codes = np.unique(part, return_inverse=True)
        key = key.astype(np.int64) * max(len(values), 1) + codes
    return key


def _update_present(connection: Connection, kind: EdgeKind, edges: NewEdges, native: bool) -> Ints:
    """Row numbers of `edges` that the graph does not have; those that it has are brought up to date."""
    keys = ("rid",) if kind.type == "FACT" else kind.key
    values = [n for n in edges.columns if n not in (*kind.key, "rid")]
    codes: dict[str, dict[str, int]] = {}
    mine: dict[str, Array] = {}
    for name in (*keys, *values):
        column = edges.columns[name]
        if pa.types.is_string(column.type):
            encoded = column.dictionary_encode()
            codes[name] = {v: i for i, v in enumerate(encoded.dictionary.to_pylist())}
            mine[name] = encoded.indices.fill_null(-2).to_numpy().astype(np.int64)
        else:
            mine[name] = column.fill_null(0).to_numpy(zero_copy_only=False)
    stored = _stored(connection, kind, [*keys, *values], edges, native, codes)
    if len(stored) == 0:
        return np.arange(len(edges), dtype=np.int64)
    both = [
        np.concatenate([a, b])
        for a, b in (
            (edges.source, stored.source),
            (edges.target, stored.target),
            *((mine[k], stored.columns[k]) for k in keys),
        )
    ]
    joint = joint_key(both)
    ours, theirs = joint[: len(edges)], joint[len(edges) :]
    order = np.argsort(theirs, kind="stable")
    at = np.minimum(np.searchsorted(theirs, ours, sorter=order), len(theirs) - 1)
    match = order[at]
    present = theirs[match] == ours
    changed = np.zeros(len(edges), dtype=bool)
    for name in values:
        given = edges.columns[name].is_valid().to_numpy(zero_copy_only=False)
        changed |= given & (stored.columns[name][match] != mine[name])
    update = np.flatnonzero(changed & present)
    if len(update):
        _update(connection, kind.type, edges.take(update), stored.columns[""][match[update]], values, native)
    return np.flatnonzero(~present)


def _stored(
    connection: Connection,
    kind: EdgeKind,
    names: list[str],
    edges: NewEdges,
    native: bool,
    codes: Mapping[str, Mapping[str, int]],
) -> EdgeRows:
    """What the graph holds that rows of `edges` could be the same as."""
    properties = chosen_properties(kind.type, names)
    sources = np.unique(edges.source)
    nodes = connection.read(cypher.COUNT_NODES.format(label=label_of(kind.source)))[0]["n"]
    few = len(sources) * 4 < nodes  # else reading everything is faster than going from node to node
    rows = edge_rows(
        connection, kind.type, properties, native, sources=sources if few else None, codes=codes, handles=True
    )
    if few:
        return rows
    keep = np.isin(rows.source, sources)
    return EdgeRows(rows.source[keep], rows.target[keep], {n: c[keep] for n, c in rows.columns.items()})


def _update(
    connection: Connection, type_name: str, edges: NewEdges, handles: Ints, values: list[str], native: bool
) -> None:
    groups: list[tuple[str, Ints]] = [(type_name, np.arange(len(edges)))]
    if native:
        groups = list(_by_relation(edges))
    for name, rows in groups:
        text = cypher.update_edges(name, values)
        for start in range(0, len(rows), EDGE_BATCH):
            part = edges.take(rows[start : start + EDGE_BATCH])
            own = handles[rows[start : start + EDGE_BATCH]].tolist()
            lists = (part.columns[v].to_pylist() for v in values)
            connection.write(text, rows=[list(row) for row in zip(own, *lists, strict=True)])


def _by_relation(edges: NewEdges) -> Iterator[tuple[str, Ints]]:
    """Row numbers by name of relation."""
    encoded = edges.columns["relation"].dictionary_encode()
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(encoded.dictionary)), side="right")
    start = 0
    for name, end in zip(encoded.dictionary.to_pylist(), ends.tolist(), strict=True):
        yield name, order[start:end]
        start = end


def _create(connection: Connection, kind: EdgeKind, edges: NewEdges, native: bool) -> None:
    """Creates relationships that are known to be absent; raises what went wrong first."""
    batches = create_batches(kind.type, edges, native)
    failures = [
        done
        for done in in_parallel(lambda batch: connection.once(batch[0], batch[1]), batches, SESSIONS)
        if isinstance(done, StoreError)
    ]
    for error in failures:
        if not isinstance(error, RetryableStoreError):
            raise error
    if failures:
        raise failures[0]


def create_batches(
    type_name: str, edges: NewEdges, native: bool = False, extra: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Statements and their parameters that create `edges`, sorted by source. `extra` are properties of every row."""
    for name, rows in _by_relation(edges) if native else [(type_name, np.arange(len(edges)))]:
        dropped = ("relation", "rid") if native else ()
        columns = {n: c for n, c in edges.columns.items() if n not in dropped}
        constant = {
            n: c[int(rows[0])].as_py() for n, c in columns.items() if len(rows) and _is_constant(c, rows)
        }
        constant |= extra or {}
        varying = [n for n in columns if n not in constant]
        text = cypher.create_edges(name, varying, list(constant))
        values = {f"c{i}": v for i, v in enumerate(constant.values())}
        rows = rows[np.lexsort((edges.target[rows], edges.source[rows]))]
        for start in range(0, len(rows), EDGE_BATCH):
            part = rows[start : start + EDGE_BATCH]
            yield text, {"rows": _grouped(edges, part, varying), **values}


def _is_constant(column: pa.Array, rows: Ints) -> bool:
    """Whether a property is the same, and there, in all these rows (looked at only when they are all of them)."""
    if len(rows) != len(column) or column.null_count:
        return False
    return bool(pc.all(pc.equal(column, column[0])).as_py())


def _grouped(edges: NewEdges, rows: Ints, names: list[str]) -> list[list[Any]]:
    """[source handle, [[target handle, property..]..]] of rows that are sorted by source."""
    at = pa.array(rows)
    lists = [edges.target[rows].tolist(), *(edges.columns[n].take(at).to_pylist() for n in names)]
    ends = [list(row) for row in zip(*lists, strict=True)]
    source = edges.source[rows]
    starts = np.flatnonzero(np.r_[True, source[1:] != source[:-1]]).tolist()
    return [
        [handle, ends[a:b]]
        for handle, a, b in zip(source[starts].tolist(), starts, [*starts[1:], len(ends)], strict=True)
    ]


def run_batches(tx: neo4j.Transaction, batches: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Sends statements one after another within a transaction; the next is made while the server works on the last."""
    last: neo4j.Result | None = None
    for text, params in batches:
        sent = tx.run(text, parameters(params))  # a result not asked for yet does not stop the connection
        if last is not None:
            last.consume()
        last = sent
    if last is not None:
        last.consume()
