"""Alignment in the embedded engine: items become entities or move between them, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.schema import EDGES, ITEM_PREFIX, EdgeKind, identifier
from kgkit.store.align_plan import MOVING, AlignPlan, plan
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_tables import codes, declare, edge_columns, keys, node_columns
from kgkit.store.ladybug_write import add_nodes, lookup, merge_edges, pattern, resolve_ends, upsert_nodes
from kgkit.store.port import AlignStats


def align(engine: Engine, table: pa.Table, move: bool) -> AlignStats:
    """`GraphStore.align`."""
    items, entities = keys("item", table), keys("entity", table)
    held = engine.arrow("MATCH (n:Entity) WHERE n.item_id IS NOT NULL RETURN n.`id`, n.item_id")
    held = held.filter(pc.or_(pc.is_in(held.column(0), entities), pc.is_in(held.column(1), items)))
    item_of = dict(zip(held.column(0).to_pylist(), held.column(1).to_pylist(), strict=True))
    entity_of = {item: entity for entity, item in item_of.items() if entity != ITEM_PREFIX + item}
    todo = plan(zip(items.to_pylist(), entities.to_pylist(), strict=True), entity_of, item_of, move)
    wanted = pa.array(todo.said.values(), pa.string())
    absent = wanted.filter(pa.array(lookup(engine, "Entity", wanted)[0] < 0))
    if len(absent):
        # Before the transaction, so that they can be bulk-copied: after a kill they are entities without an item.
        add_nodes(engine, "Entity", pa.table({"id": absent}))
    folded = _carry_out(engine, todo)
    return AlignStats(todo.aligned, todo.unchanged, folded, todo.conflict_table(), len(todo.left))


def _carry_out(engine: Engine, todo: AlignPlan) -> int:
    """Sets item_id, folds stubs and moves items, all or nothing; returns how many stubs there were."""
    items, goals = (pa.array(part, pa.string()) for part in (todo.said.keys(), todo.said.values()))
    stub_ids = pc.binary_join_element_wise(ITEM_PREFIX, items, "")
    properties = list(node_columns(engine, "Entity"))
    offsets, values = lookup(engine, "Entity", stub_ids, properties)
    there = pa.array((offsets >= 0) & np.asarray(pc.not_equal(stub_ids, goals)))
    stubs, into = stub_ids.filter(there), goals.filter(there)
    left = pa.array(todo.left.values(), pa.string())
    reached = pa.array([todo.said[item] for item in todo.left], pa.string())
    moved = [(EDGES[kind], _redirected(engine, EDGES[kind], left, reached)) for kind in MOVING if len(left)]
    moved += [(kind, _redirected(engine, kind, stubs, into)) for kind in EDGES.values() if len(stubs)]
    values = values.filter(there).drop(["item_id"])
    if len(stubs):
        values = _with_own_names(engine, values, into)
    empty = [c for c in values.column_names if values[c].null_count == values.num_rows]
    with engine.transaction():
        if len(left):
            _leave(engine, left)
        if len(stubs):
            delete_nodes(engine, "Entity", stubs)
            upsert_nodes(engine, "Entity", values.drop(empty).append_column("id", into))
        upsert_nodes(engine, "Entity", pa.table({"id": goals, "item_id": items}))
        for kind, table in moved:
            if table.num_rows:
                source, target = resolve_ends(engine, kind, table, "error")
                merge_edges(engine, kind, table, source, target)
        if len(left):
            bare = left.filter(pa.array(_bare(engine, left)))
            if len(bare):
                delete_nodes(engine, "Entity", bare)
    return len(stubs)


def _with_own_names(engine: Engine, values: pa.Table, entities: pa.Array) -> pa.Table:
    """Stubs' properties, with `entity_name` where a title takes the place of an entity's own name."""
    declare(engine, "Entity", {"entity_name": "STRING"})
    _, stored = lookup(engine, "Entity", entities, ["name", "entity_name"])
    loses = pc.and_(pc.not_equal(values["name"], stored["name"]), pc.is_null(stored["entity_name"]))
    own = pc.if_else(pc.fill_null(loses, False), stored["name"], pa.scalar(None, pa.string()))
    kept = [c for c in values.column_names if c != "entity_name"]
    return values.select(kept).append_column("entity_name", own)


def _redirected(engine: Engine, kind: EdgeKind, old: pa.Array, new: pa.Array) -> pa.Table:
    """All relationships of a kind that touch one of the nodes `old`, with the node of `new` in its place."""
    names = [c for c in edge_columns(kind) if c != "rid"]
    returned = ", ".join(["a.`id`", "b.`id`", *(f"r.{identifier(c)}" for c in names)])
    parts = [
        engine.arrow(
            f"LOAD FROM $t MATCH {pattern(kind)} WHERE {variable}.`id` = c0 RETURN {returned}",
            {"t": pa.table({"c0": old})},
        ).rename_columns(["head", "tail", *names])
        for variable in _entity_ends(kind)
    ]
    table = pa.concat_tables(parts).combine_chunks()
    for column, label in (("head", kind.source), ("tail", kind.target)):
        if label == "Entity":
            place = codes(table[column].combine_chunks(), old)
            to = pc.coalesce(new.take(pa.array(place, mask=place < 0)), table[column].combine_chunks())
            table = table.set_column(table.column_names.index(column), column, to)
    return table


def _leave(engine: Engine, entities: pa.Array) -> None:
    """The nodes are items no longer."""
    for kind in MOVING:
        engine.rows(
            f"LOAD FROM $t MATCH {pattern(EDGES[kind])} WHERE b.`id` = c0 DELETE r",
            {"t": pa.table({"c0": entities})},
        )
    engine.rows(
        "LOAD FROM $t MATCH (n:Entity {`id`: c0}) SET n.item_id = NULL", {"t": pa.table({"c0": entities})}
    )


def _bare(engine: Engine, entities: pa.Array) -> Bools:
    """bool [N]: nodes without any property or relationship of their own."""
    _, values = lookup(engine, "Entity", entities, list(node_columns(engine, "Entity")))
    bare = np.ones(len(entities), dtype=bool)
    for column in values.columns:
        bare &= np.asarray(pc.is_null(column))
    for kind in EDGES.values():
        for variable in _entity_ends(kind):
            found = engine.arrow(
                f"LOAD FROM $t MATCH {pattern(kind)} WHERE {variable}.`id` = c0 RETURN DISTINCT c0",
                {"t": pa.table({"c0": entities.filter(pa.array(bare))})},
            )
            bare &= ~np.asarray(pc.is_in(entities, found.column(0).combine_chunks()))
            if not bare.any():
                return bare
    return bare


def _entity_ends(kind: EdgeKind) -> Iterable[str]:
    return [v for v, label in (("a", kind.source), ("b", kind.target)) if label == "Entity"]


def delete_nodes(engine: Engine, label: str, ids: pa.Array) -> None:
    """Deletes nodes and all their relationships."""
    engine.rows(
        f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) DETACH DELETE n",
        {"t": pa.table({"c0": ids})},
    )
