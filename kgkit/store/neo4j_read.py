"""Out of Neo4j: nodes and relationships as arrays and tables, by chunks of lists instead of rows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import neo4j
import neo4j.graph

from kgkit.errors import StoreError
from kgkit.lazy import np, pa, pc
from kgkit.schema import EDGES, NODES, identifier, is_packed
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j_connection import Connection, in_parallel, value_of
from kgkit.store.packed import unpack

if TYPE_CHECKING:
    from kgkit.arrays import Array, Floats, Ints

PART = 3_000_000  # relationships whose lists the server holds at once
PAGE = 20_000  # nodes a table
SESSIONS = 2
AT_ONCE = 200_000  # entities that are looked through, and whose vectors are held, at once
_DTYPES: dict[str, Any] = {"int64": np.int64, "float64": np.float64}
_STORED = {
    "STRING": "string",
    "INTEGER": "int64",
    "FLOAT": "float64",
    "BOOLEAN": "bool",
}  # names of Arrow types


@dataclass(frozen=True)
class EdgeRows:
    """Relationships by the engine's own ids, int64 [E]; `columns` as stored: MISSING_INT, NaN and None for nulls."""

    source: Ints
    target: Ints
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.source)


# -- nodes -------------------------------------------------------------------------------------------------------


def label_of(label: str) -> str:
    """The label, quoted. Raises StoreError unless the schema knows it."""
    if label not in NODES:
        raise StoreError(f"unknown label {label!r}: the graph has {', '.join(NODES)}")
    return identifier(label)


def key_map(
    connection: Connection, label: str, keys: pa.Array | None = None, *, having: str | None = None
) -> tuple[pa.Array, Ints]:
    """Ids (string [N], sorted by code point) and handles (int64 [N]) of a label.

    Of some keys only, where they are given; or only of nodes that have a property, `having`.
    """
    if keys is None:
        text, params = cypher.KEY_MAP.format(label=label_of(label), having=identifier(having or "id")), {}
    else:
        text, params = cypher.KEY_LOOKUP.format(label=label_of(label)), {"keys": keys.to_pylist()}
    chunks = connection.read_each(
        lambda r: (np.array(r["handles"], dtype=np.int64), pa.array(r["keys"], pa.string())), text, **params
    )
    if not chunks:
        return pa.array([], pa.string()), np.zeros(0, dtype=np.int64)
    ids = pa.concat_arrays([c[1] for c in chunks])
    order = pc.sort_indices(ids)  # by bytes of UTF-8, which is by code point
    return ids.take(order), np.concatenate([c[0] for c in chunks])[order.to_numpy()]


def resolve(connection: Connection, label: str, keys: pa.Array) -> Ints:
    """Handles int64 [K] of distinct keys, -1 for those that are not there."""
    stored = connection.read(cypher.COUNT_NODES.format(label=label_of(label)))[0]["n"]
    few = len(keys) * 8 < stored  # then the index is faster than reading every key
    ids, handles = key_map(connection, label, keys if few else None)
    rows = pc.index_in(keys, value_set=ids)
    out = np.full(len(keys), -1, dtype=np.int64)
    known = rows.is_valid().to_numpy(zero_copy_only=False)
    out[known] = handles[rows.drop_null().to_numpy()]
    return out


def property_types(connection: Connection, label: str) -> dict[str, pa.DataType]:
    """The properties that nodes of a label have, with their Arrow types; mixed types become text.

    Not vectors packed as bytes, which whoever writes vectors makes again.
    """
    out: dict[str, pa.DataType] = {}
    for record in connection.read(cypher.PROPERTY_TYPES.format(label=label_of(label))):
        name, types = record["name"], {t.removesuffix(" NOT NULL") for t in record["types"]}
        if types == {"LIST<FLOAT NOT NULL>"}:
            out[name] = pa.list_(pa.float32() if name.startswith("embedding_") else pa.float64())
        elif len(types) == 1 and (item := next(iter(types))).startswith("LIST<"):
            out[name] = pa.list_(_stored(item[5:-1].removesuffix(" NOT NULL")))
        elif types == {"INTEGER", "FLOAT"}:
            out[name] = pa.float64()
        else:
            out[name] = _stored(next(iter(types)) if len(types) == 1 else "")
    for name in [n for n in out if n == "id" or is_packed(n)]:
        del out[name]
    return out


def _stored(type_: str) -> pa.DataType:
    return pa.type_for_alias(_STORED.get(type_, "string"))


def read_nodes(
    connection: Connection, label: str, properties: Sequence[str] | None, having: str | None = None
) -> Iterator[pa.Table]:
    """Tables of at most PAGE nodes, in the order of their ids."""
    declared = (
        {name: pa.type_for_alias(kind) for name, kind in NODES[label].properties.items()}
        if label in NODES
        else {}
    )
    if properties is None:
        types = {**declared, **property_types(connection, label)}
        types |= {
            n: t for n, t in declared.items() if pa.types.is_binary(t)
        }  # to the server, lists of integers
    else:
        for name in properties:
            identifier(name)
        types = {name: declared[name] for name in properties if name in declared}
        if len(types) < len(properties):
            found = property_types(connection, label)
            types = {name: types.get(name) or found.get(name, pa.string()) for name in properties}
    text = cypher.read_nodes(list(types))
    handles = key_map(connection, label, having=having)[1]
    for start in range(0, len(handles), PAGE):
        rows = connection.read(text, handles=handles[start : start + PAGE].tolist())[0]["rows"]
        columns = list(zip(*rows, strict=True)) or [()] * (len(types) + 1)
        arrays = [pa.array(columns[0], pa.string())]
        arrays += [_array(values, kind) for values, kind in zip(columns[1:], types.values(), strict=True)]
        yield pa.table(arrays, names=["id", *types])


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [v if v is None or isinstance(v, str) else str(plain(v)) for v in values]
    return pa.array(values, kind)


def read_vectors(connection: Connection, label: str, prop: str) -> tuple[pa.Array, Floats]:
    """See GraphStore.read_vectors. Raises StoreError when the vectors are not all of one length."""
    quoted = identifier(prop)
    chunks = connection.read(cypher.WITH_VECTOR.format(label=label_of(label), prop=quoted))
    sizes = {size for chunk in chunks for size in chunk["sizes"]}
    if not sizes:
        return pa.array([], pa.string()), np.zeros((0, 0), dtype=np.float32)
    if len(sizes) > 1:
        raise StoreError(f"{label}.{prop} holds vectors of lengths {', '.join(map(str, sorted(sizes)))}")
    handles = np.concatenate([np.array(chunk["handles"], dtype=np.int64) for chunk in chunks])
    text = cypher.READ_VECTORS.format(prop=quoted)

    def page(start: int) -> tuple[pa.Array, Floats]:
        record = connection.read(text, handles=handles[start : start + PAGE].tolist())[0]
        return pa.array(record["keys"], pa.string()), np.array(record["vectors"], dtype=np.float32)

    pages = [value_of(p) for p in in_parallel(page, range(0, len(handles), PAGE), SESSIONS)]
    ids = pa.concat_arrays([p[0] for p in pages])
    order = pc.sort_indices(ids)
    return ids.take(order), np.concatenate([p[1] for p in pages])[order.to_numpy()]


def vectors_at(
    connection: Connection, prop: str, relation: str | None, side: str, bias: str | None, native: bool
) -> Iterator[tuple[list[str], Floats, Floats | None]]:
    """See GraphStore.vectors_at. Packed as bytes where they are: a list comes as numbers of 9 bytes, one by one."""
    text = cypher.vectors_at(prop, relation, side, bias, native)
    entities = connection.read(cypher.COUNT_NODES.format(label="Entity"))[0]["n"]
    parts = SESSIONS * (1 + entities // AT_ONCE)

    def read(part: int) -> tuple[list[str], Floats, Floats | None]:
        record = connection.read(text, relation=relation, part=part, parts=parts, nan=math.nan)[0]
        added = None if bias is None else np.array(record["bias"], dtype=np.float32)
        return record["ids"], unpack(record["vectors"]), added

    pool = ThreadPoolExecutor(SESSIONS)
    begun = deque(pool.submit(read, part) for part in range(SESSIONS))

    def results() -> Iterator[tuple[list[str], Floats, Floats | None]]:
        with pool:
            for following in range(SESSIONS, parts + SESSIONS):
                done = begun.popleft().result()
                if following < parts:
                    begun.append(pool.submit(read, following))
                if len(done[0]):
                    yield done

    return results()


def with_vector(connection: Connection, label: str, prop: str) -> tuple[Ints, set[int]]:
    """Handles of the nodes that have a vector property, and the lengths found."""
    chunks = connection.read(cypher.WITH_VECTOR.format(label=label_of(label), prop=identifier(prop)))
    handles = [np.array(chunk["handles"], dtype=np.int64) for chunk in chunks]
    return (
        np.concatenate([np.zeros(0, dtype=np.int64), *handles]),
        {size for chunk in chunks for size in chunk["sizes"]},
    )


# -- relationships -----------------------------------------------------------------------------------------------


def kind_properties(kind: str) -> dict[str, str]:
    """What relationships of a kind may hold, {name: type}, rid of facts included. Raises StoreError for unknown kinds."""
    if kind not in EDGES:
        raise StoreError(f"unknown kind of relationship {kind!r}: the graph has {', '.join(EDGES)}")
    return {**EDGES[kind].properties, **({"rid": "int64"} if kind == "FACT" else {})}


def chosen_properties(kind: str, properties: Sequence[str]) -> dict[str, str]:
    """Those asked for. Raises StoreError for one that the kind does not have."""
    known = kind_properties(kind)
    for name in properties:
        if name not in known:
            raise StoreError(f"{kind} has no property {name!r}: it has {', '.join(known)}")
    return {name: known[name] for name in properties}


def edge_properties(connection: Connection, kind: str) -> list[str]:
    """See GraphStore.edge_properties. The server knows which names were ever used, for nodes too, and looks no further."""
    kind_properties(kind)
    described = EDGES[kind]
    if not described.rare:
        return list(described.properties)
    used = {r["name"] for r in connection.read(cypher.PROPERTY_KEYS)}
    return [name for name in described.properties if name in used or name not in described.rare]


def relations(connection: Connection) -> dict[str, int]:
    """rid by name of relation."""
    return {r["id"]: r["rid"] for r in connection.read(cypher.RELATIONS)}


def count_edges(connection: Connection, kind: str, native: bool) -> int:
    """Relationships of a kind, from the count store; with native facts an upper bound."""
    if native and kind == "FACT":
        return int(connection.read("MATCH ()-[r]->() RETURN count(r) AS n")[0]["n"])
    return int(connection.read(cypher.COUNT_RELATIONSHIPS.format(type=identifier(kind)))[0]["n"])


def edge_rows(
    connection: Connection,
    kind: str,
    properties: Mapping[str, str],
    native: bool,
    *,
    sources: Ints | None = None,
    codes: Mapping[str, Mapping[str, int]] | None = None,
    handles: bool = False,
) -> EdgeRows:
    """All relationships of a kind, or those leaving `sources`.

    codes: {property: {value: number}} for strings wanted as numbers (-1: another value, MISSING_INT: none).
    handles: also gives the relationships' own ids, as column "".
    """
    codes = codes or {}
    native = native and kind == "FACT"
    columns = cypher.edge_columns(properties, native, list(codes))
    dtypes = [np.int64 if name in codes else _DTYPES.get(t, object) for name, t in properties.items()]
    names = list(properties)
    if handles:
        columns, dtypes, names = [*columns, "id(r)"], [*dtypes, np.int64], [*names, ""]
    params: dict[str, Any] = {"missing": cypher.MISSING_INT, "nan": math.nan}
    params |= {f"codes_{name}": dict(table) for name, table in codes.items()}
    if native:
        params["relations"] = relations(connection)
    jobs: list[tuple[str, dict[str, Any]]]
    if sources is None:
        parts = _parts(count_edges(connection, kind, native))
        text = cypher.collect_edges(cypher.edge_pattern(kind, native), columns, parted=parts > 1)
        jobs = [(text, {"parts": parts, "part": part}) for part in range(parts)]
    else:
        text = cypher.collect_edges(cypher.out_of(None if native else kind), columns, parted=False)
        jobs = [(text, {"sources": sources[i : i + PAGE].tolist()}) for i in range(0, len(sources), PAGE)]

    def run(job: tuple[str, dict[str, Any]]) -> list[list[Array]]:
        return connection.read_each(
            lambda r: [_numpy(values, d) for values, d in zip(r, [np.int64, np.int64, *dtypes], strict=True)],
            job[0],
            **params,
            **job[1],
        )

    chunks = [chunk for done in in_parallel(run, jobs, SESSIONS) for chunk in value_of(done)]
    empty = [np.zeros(0, dtype=d) for d in [np.int64, np.int64, *dtypes]]
    joined = [np.concatenate([e, *(c[i] for c in chunks)]) for i, e in enumerate(empty)]
    return EdgeRows(joined[0], joined[1], dict(zip(names, joined[2:], strict=True)))


def facts_around(connection: Connection, seeds: Ints, hops: int, native: bool) -> EdgeRows:
    """Facts within `hops` steps of the nodes `seeds` (handles), direction ignored, each once; column rid."""
    text = cypher.around(native)
    params: dict[str, Any] = {"missing": cypher.MISSING_INT}
    if native:
        params["relations"] = relations(connection)
    reached = frontier = np.unique(seeds)
    found = [np.zeros((4, 0), dtype=np.int64)]
    for _ in range(hops):
        if len(frontier) == 0:
            break
        chunks = connection.read_each(
            lambda r: np.array([r["s"], r["t"], r["c0"], r["c1"]], dtype=np.int64),
            text,
            frontier=frontier.tolist(),
            **params,
        )
        step = np.concatenate([found[0], *chunks], axis=1)
        found.append(step)
        frontier = np.setdiff1d(np.unique(step[:2]), reached, assume_unique=True)
        reached = np.union1d(reached, frontier)
    facts = np.concatenate(found, axis=1)
    facts = facts[:, np.unique(facts[3], return_index=True)[1]]
    return EdgeRows(facts[0], facts[1], {"rid": facts[2]})


def decode(rows: EdgeRows, properties: Mapping[str, str]) -> dict[str, Array]:
    """Columns as the port gives them: integers with gaps as floats with NaN. Raises StoreError for facts without rid."""
    out = {}
    for name, kind in properties.items():
        column = rows.columns[name]
        if kind == "int64" and (gaps := column == cypher.MISSING_INT).any():
            if name == "rid":
                raise StoreError(
                    f"{int(gaps.sum())} facts have no rid, so they were not written by kgkit: delete them "
                    "(MATCH ()-[r:FACT]->() WHERE r.rid IS NULL DELETE r) and ingest them"
                )
            column = np.where(gaps, np.nan, column.astype(np.float64))
        elif kind not in _DTYPES:
            column = np.array([None if v is False else v for v in column], dtype=object)
        out[name] = column
    return out


def rows_of(handles: Ints, wanted: Ints) -> Ints:
    """Row numbers in `handles` (int64 [N], any order) of `wanted` (int64 [E]); -1 for those that are not there."""
    if len(handles) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    if (
        int(handles.max()) < 8 * len(handles) + 1_000_000
    ):  # the usual case: a table is 30 times as fast as a search
        rows = np.full(int(handles.max()) + 2, -1, dtype=np.int64)  # the last for all that are beyond
        rows[handles] = np.arange(len(handles))
        outside = (wanted < 0) | (wanted > len(rows) - 2)
        return rows[np.where(outside, len(rows) - 1, wanted)]
    order = np.argsort(handles)
    at = np.searchsorted(handles, wanted, sorter=order)
    rows = order[np.minimum(at, len(handles) - 1)]
    return np.where(handles[rows] == wanted, rows, -1)


def read_edges(
    connection: Connection, kind: str, properties: Sequence[str] | None, native: bool
) -> Iterator[pa.Table]:
    """Tables of at most PART relationships with the string ids of their ends."""
    names = edge_properties(connection, kind) if properties is None else properties
    types = chosen_properties(kind, list(names))
    ends = {label: key_map(connection, label) for label in {EDGES[kind].source, EDGES[kind].target}}
    native = native and kind == "FACT"
    # The relation's name travels as its number.
    fetched = {("rid" if n == "relation" and kind == "FACT" else n): t for n, t in types.items()}
    fetched = {n: "int64" if n == "rid" else t for n, t in fetched.items()}
    columns = cypher.edge_columns(fetched, native)
    dtypes = [_DTYPES.get(t, object) for t in fetched.values()]
    by_name = relations(connection) if kind == "FACT" else {}
    params: dict[str, Any] = {"missing": cypher.MISSING_INT, "nan": math.nan}
    if native:
        params["relations"] = by_name
    name_of = {rid: name for name, rid in by_name.items()}
    parts = _parts(count_edges(connection, kind, native))
    text = cypher.collect_edges(cypher.edge_pattern(kind, native), columns, parted=True)
    for part in range(parts):
        chunks = connection.read_each(
            lambda r: [_numpy(v, d) for v, d in zip(r, [np.int64, np.int64, *dtypes], strict=True)],
            text, **params, parts=parts, part=part,
        )  # fmt: skip
        if not chunks:
            continue
        joined = [np.concatenate([c[i] for c in chunks]) for i in range(2 + len(dtypes))]
        rows = EdgeRows(joined[0], joined[1], dict(zip(fetched, joined[2:], strict=True)))
        arrays = []
        inside = np.ones(len(rows), dtype=bool)
        for label, handles in ((EDGES[kind].source, rows.source), (EDGES[kind].target, rows.target)):
            ids, known = ends[label]
            at = rows_of(known, handles)
            inside &= at >= 0
            arrays.append(
                ids.take(pa.array(np.maximum(at, 0))) if len(ids) else pa.nulls(len(at), pa.string())
            )
        for name, kind_of in types.items():
            if name == "relation" and kind == "FACT":
                rids = decode(rows, {"rid": "int64"})["rid"]
                arrays.append(pa.array([name_of[r] for r in rids.tolist()], pa.string()))
            else:
                arrays.append(_edge_array(rows.columns[name], kind_of))
        table = pa.table(arrays, names=["head", "tail", *types])
        yield table if inside.all() else table.filter(pa.array(inside))


def _edge_array(column: Array, kind: str) -> pa.Array:
    if kind == "int64":
        return pa.array(column, pa.int64(), mask=column == cypher.MISSING_INT)
    if kind == "float64":
        return pa.array(column, pa.float64(), mask=np.isnan(column))
    return pa.array([None if v is False else v for v in column.tolist()], pa.type_for_alias(kind))


def _parts(count: int) -> int:
    """Into how many statements a reading is cut: few rows one, many rows at most PART each, an even number."""
    return 1 if count < 100_000 else SESSIONS * math.ceil(count / (SESSIONS * PART))


def _numpy(values: list[Any], dtype: Any) -> Array:
    if dtype is object:  # np.array would take equally long strings for a two-dimensional thing, or cut them
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out
    return np.array(values, dtype=dtype)


# -- values ------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value of the driver as plain Python: nodes and relationships as their properties, times as ISO text.

    A path becomes {"nodes": [..], "relationships": [..]}, a point its coordinates.
    """
    if isinstance(value, neo4j.graph.Node | neo4j.graph.Relationship):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, neo4j.graph.Path):
        return {
            "nodes": [plain(n) for n in value.nodes],
            "relationships": [plain(r) for r in value.relationships],
        }
    if isinstance(value, list):
        return value if all(type(v) is float for v in value) else [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "iso_format"):
        return value.iso_format()
    if isinstance(value, tuple):  # points
        return [plain(v) for v in value]
    return value
