"""Vectors of nodes out of the embedded engine: all of a property, those near a relation, the nearest to one node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kgkit.errors import StoreError
from kgkit.lazy import np, pa, pc
from kgkit.schema import PACKED, identifier, vector_property
from kgkit.store import ladybug_tables
from kgkit.store.ladybug_engine import Engine
from kgkit.store.packed import unpack

if TYPE_CHECKING:
    from kgkit.arrays import Floats

LONGEST = (
    2048  # of vectors that the engine's native collector is asked for: it reads 3,000, and crashes over 5,000
)


def read_vectors(engine: Engine, label: str, prop: str) -> tuple[pa.Array, Floats]:
    """`GraphStore.read_vectors`."""
    name = identifier(prop)
    nothing = pa.array([], pa.string()), np.zeros((0, 0), dtype=np.float32)
    type_ = ladybug_tables.node_columns(engine, label).get(prop)
    if type_ is None:
        return nothing
    if not type_.startswith("FLOAT["):
        raise StoreError(f"{label}.{prop} holds {type_}, not vectors")
    found = engine.arrow(
        f"MATCH (n:{identifier(label)}) WHERE n.{name} IS NOT NULL RETURN n.`id`, n.{name}",
        never_null=int(type_[6:-1]) <= LONGEST,
    )
    if found.num_rows == 0:
        return nothing
    flat = np.asarray(pc.list_flatten(found.column(1)).combine_chunks(), dtype=np.float32)
    return found.column(0).combine_chunks(), flat.reshape(found.num_rows, -1)


def vectors_at(
    engine: Engine, prop: str, relation: str | None, side: str, bias: str | None, at_once: int
) -> Iterator[tuple[list[str], Floats, Floats | None]]:
    """`GraphStore.vectors_at`, some `at_once` entities looked at a time."""
    have = ladybug_tables.node_columns(engine, "Entity")
    if not have.get(prop, "").startswith("FLOAT["):
        return
    packed = vector_property(prop, PACKED)
    among, params = "", {}
    if relation is not None:
        fact = "(:Entity)-[f:FACT]->(n)" if side == "tail" else "(n)-[f:FACT]->(:Entity)"
        among, params = (
            f" AND EXISTS {{ MATCH {fact} WHERE f.relation = $relation }}",
            {"relation": relation},
        )
    more = (
        ""
        if bias is None or bias not in have
        else f", collect(coalesce(n.{identifier(bias)}[1], CAST('nan' AS FLOAT)))"
    )
    vector = f"n.{identifier(packed if packed in have else prop)}"
    parts = 1 + engine.count("Entity") // at_once
    for part in range(parts):
        where = f"{vector} IS NOT NULL{among}" + (
            f" AND offset(id(n)) % {parts} = {part}" if parts > 1 else ""
        )
        # As lists of one row: the engine's tables of bytes would need pyarrow, whose import takes longer.
        found = engine.rows(
            f"MATCH (n:Entity) WHERE {where} RETURN collect(n.`id`), collect({vector}){more}", params
        )
        ids, vectors, *added = found[0]
        if not ids:
            continue
        yield ids, unpack(vectors), np.array(added[0], dtype=np.float32) if added else None


def similar(engine: Engine, label: str, id: str, k: int, prop: str) -> list[tuple[str, float]]:
    """`GraphStore.similar`."""
    name, node = identifier(prop), f"n:{identifier(ladybug_tables.node_kind(label).label)}"
    if prop not in ladybug_tables.node_columns(engine, label):
        raise StoreError(f"no {label} has a property {prop!r}, so nothing is similar to {id!r}: train first")
    own = engine.rows(f"MATCH ({node} {{`id`: $id}}) RETURN n.{name} IS NOT NULL", {"id": id})
    if not own or not own[0][0]:
        what = "has no " + prop if own else "is not in the graph"
        raise StoreError(f"{label} {id!r} {what}")
    rows = engine.rows(
        f"MATCH (q:{identifier(label)} {{`id`: $id}}), ({node}) WHERE n.`id` <> $id AND n.{name} IS NOT NULL "
        f"RETURN n.`id` AS k, array_cosine_similarity(n.{name}, q.{name}) AS s ORDER BY s DESC, k LIMIT $n",
        {"id": id, "n": int(k)},
    )
    return [(row[0], float(row[1])) for row in rows]
