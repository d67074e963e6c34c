"""Alignment in the embedded engine: items become entities or move between them, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.names import COLUMNS, Names
from kgkit.schema import EDGES, ITEM_PREFIX, EdgeKind, identifier
from kgkit.store.align_plan import MOVING, AlignPlan, plan, renamed, touched
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_redirect import Ends, entity_ends, redirect_aside, redirected
from kgkit.store.ladybug_tables import declare, filling, keys, node_columns, pattern, put_in_place
from kgkit.store.ladybug_write import add_nodes, lookup, merge_edges, resolve_ends, upsert_nodes
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
    folded = _carry_out(engine, todo, _names(engine, todo, item_of))
    return AlignStats(todo.aligned, todo.unchanged, folded, todo.conflict_table(), len(todo.left))


def _carry_out(engine: Engine, todo: AlignPlan, names: pa.Table) -> int:
    """Sets item_id, folds stubs and moves items, all or nothing; returns how many stubs there were.

    names: columns id and `Names`, of the nodes that will be called otherwise.
    """
    items, goals = (pa.array(part, pa.string()) for part in (todo.said.keys(), todo.said.values()))
    stub_ids = pc.binary_join_element_wise(ITEM_PREFIX, items, "")
    properties = list(node_columns(engine, "Entity"))
    offsets, values = lookup(engine, "Entity", stub_ids, properties)
    there = pa.array((offsets >= 0) & np.asarray(pc.not_equal(stub_ids, goals)))
    stubs, into = stub_ids.filter(there), goals.filter(there)
    left = pa.array(todo.left.values(), pa.string())
    reached = pa.array([todo.said[item] for item in todo.left], pa.string())
    values = values.filter(there).drop(["item_id", *COLUMNS])
    empty = [c for c in values.column_names if values[c].null_count == values.num_rows]
    with filling(engine):
        anew: list[str] = []  # tables
        in_place: list[EdgeKind] = []
        moved: list[tuple[EdgeKind, pa.Table]] = []
        for kind in EDGES.values():
            moves = [(left, reached)] * (kind.type in MOVING and len(left) > 0) + [(stubs, into)]
            written = redirect_aside(engine, kind, _ends(kind, moves))
            anew += written
            if not written:
                in_place.append(kind)
                moved += [(kind, redirected(engine, kind, *move)) for move in moves if len(move[0])]
        with engine.transaction():
            for name in anew:
                put_in_place(engine, name, instead_of=name)
            if len(left):
                _leave(engine, left, [kind for kind in in_place if kind.type in MOVING])
            if len(stubs):
                delete_nodes(engine, "Entity", stubs)
                upsert_nodes(engine, "Entity", values.drop(empty).append_column("id", into))
            upsert_nodes(engine, "Entity", pa.table({"id": goals, "item_id": items}))
            if names.num_rows:
                _call(engine, names)
            for kind, table in moved:
                if table.num_rows:
                    source, target = resolve_ends(engine, kind, table, "error")
                    merge_edges(engine, kind, table, source, target)
            if len(left):
                bare = left.filter(pa.array(_bare(engine, left)))
                if len(bare):
                    delete_nodes(engine, "Entity", bare)
    return len(stubs)


def _ends(kind: EdgeKind, moves: Sequence[tuple[pa.Array, pa.Array]]) -> Ends:
    """At which end, head or tail, which entities have others take their places."""
    old, new = (pa.concat_arrays(parts) for parts in zip(*moves, strict=True))
    columns = [{"a": "head", "b": "tail"}[variable] for variable in entity_ends(kind)]
    return dict.fromkeys(columns, (old, new)) if len(old) else {}


def _names(engine: Engine, todo: AlignPlan, item_of: Mapping[str, str | None]) -> pa.Table:
    """Columns id and `Names`, of the nodes that will be called otherwise. Declares what an older graph lacks."""
    declare(engine, "Entity", dict.fromkeys(COLUMNS, "STRING"))
    ids = pa.array(touched(todo), pa.string())
    offsets, stored = lookup(engine, "Entity", ids, COLUMNS)
    there = pa.array(offsets >= 0)
    rows = zip(*(column.to_pylist() for column in stored.filter(there).columns), strict=True)
    held = dict(zip(ids.filter(there).to_pylist(), (Names(*row) for row in rows), strict=True))
    new = renamed(todo, item_of, held)
    schema = pa.schema([(name, pa.string()) for name in ("id", *COLUMNS)])
    columns = list(zip(*((id, *names) for id, names in new.items()), strict=True)) or [()] * len(schema)
    return pa.table([pa.array(values, pa.string()) for values in columns], schema=schema)


def _call(engine: Engine, names: pa.Table) -> None:
    """Sets names, and takes those away that are null."""
    sets = ", ".join(f"n.{identifier(c)} = c{i}" for i, c in enumerate(COLUMNS, start=1))
    table = names.rename_columns([f"c{i}" for i in range(names.num_columns)])
    engine.rows(f"LOAD FROM $t MATCH (n:Entity {{`id`: c0}}) SET {sets}", {"t": table})


def _leave(engine: Engine, entities: pa.Array, kinds: Sequence[EdgeKind]) -> None:
    """The nodes are items no longer. kinds: those of which the items' relationships still are at these nodes."""
    for kind in kinds:
        engine.rows(
            f"LOAD FROM $t MATCH {pattern(kind)} WHERE b.`id` = c0 DELETE r",
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
        for variable in entity_ends(kind):
            found = engine.arrow(
                f"LOAD FROM $t MATCH {pattern(kind)} WHERE {variable}.`id` = c0 RETURN DISTINCT c0",
                {"t": pa.table({"c0": entities.filter(pa.array(bare))})},
            )
            bare &= ~np.asarray(pc.is_in(entities, found.column(0).combine_chunks()))
            if not bare.any():
                return bare
    return bare


def delete_nodes(engine: Engine, label: str, ids: pa.Array) -> None:
    """Deletes nodes and all their relationships."""
    engine.rows(
        f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) DETACH DELETE n",
        {"t": pa.table({"c0": ids})},
    )
