"""Alignment in the embedded engine: which pairs may be said, and stubs folded into their entities in one transaction."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.schema import EDGES, ITEM_PREFIX, EdgeKind, identifier
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_tables import codes, combine, edge_columns, keys, last_rows, node_columns
from kgkit.store.ladybug_write import add_nodes, lookup, merge_edges, pattern, resolve_ends, upsert_nodes
from kgkit.store.port import AlignStats

_CONFLICTS = pa.schema([("item", pa.string()), ("entity", pa.string()), ("reason", pa.string())])


def align(engine: Engine, table: pa.Table) -> AlignStats:
    """`GraphStore.align`."""
    pairs = _distinct(keys("item", table), keys("entity", table))
    offsets, stored = lookup(engine, "Entity", pc.unique(pairs["entity"]), ["item_id"])
    entities = pc.unique(pairs["entity"])
    place = codes(pairs["entity"].combine_chunks(), entities)
    now = stored["item_id"].take(pa.array(place))
    unchanged = np.asarray(pc.fill_null(pc.equal(now, pairs["item"]), False))
    reason = _reasons(engine, pairs, now)
    undone = np.asarray(pc.is_valid(reason))
    conflicts = pairs.filter(pa.array(undone)).append_column("reason", reason.filter(pa.array(undone)))

    good = pairs.filter(pa.array(~undone))
    aligned = int((~undone & ~unchanged).sum())
    absent = np.intersect1d(np.flatnonzero(offsets < 0), place[~undone])
    if len(absent):
        # Before the transaction, so that they can be bulk-copied: after a kill they are entities without an item.
        add_nodes(engine, "Entity", pa.table({"id": entities.take(pa.array(absent))}))
    folded = _fold(engine, good)
    return AlignStats(aligned, int((~undone & unchanged).sum()), folded, conflicts.cast(_CONFLICTS))


def _distinct(item: pa.Array, entity: pa.Array) -> pa.Table:
    """Pairs without repetition, in the order of their last mention."""
    item_code, entity_code = (
        np.asarray(column.dictionary_encode().indices, dtype=np.int64) for column in (item, entity)
    )
    none = np.zeros(0, dtype=np.int64)
    rows, _ = last_rows(combine([(item_code[::-1], none), (entity_code[::-1], none)])[0])
    first = np.sort(len(item) - 1 - rows)
    return pa.table({"item": item, "entity": entity}).take(pa.array(first))


def _reasons(engine: Engine, pairs: pa.Table, now: pa.ChunkedArray) -> pa.Array:
    """string [N]: why a pair cannot be said; null where it can. now: string [N], the entity's item so far."""
    held = engine.arrow("MATCH (n:Entity) WHERE n.item_id IS NOT NULL RETURN n.`id`, n.item_id")
    stub = pc.binary_join_element_wise(ITEM_PREFIX, pairs["item"], "")
    own = held.filter(
        pc.not_equal(held.column(0), pc.binary_join_element_wise(ITEM_PREFIX, held.column(1), ""))
    )
    at = codes(pairs["item"].combine_chunks(), own.column(1).combine_chunks())
    holder = own.column(0).take(pa.array(at, mask=at < 0))

    is_stub = pc.and_(pc.starts_with(pairs["entity"], ITEM_PREFIX), pc.not_equal(pairs["entity"], stub))
    of_another = pc.fill_null(pc.not_equal(now, pairs["item"]), False)
    elsewhere = pc.fill_null(pc.not_equal(holder, pairs["entity"]), False)
    reason = pc.if_else(
        elsewhere,
        pc.binary_join_element_wise("the item already is entity ", holder, ""),
        pc.if_else(
            of_another,
            pc.binary_join_element_wise("the entity already is item ", now, ""),
            pc.if_else(is_stub, "the entity stands for an item without entity", pa.scalar(None, pa.string())),
        ),
    )
    reason = pa.chunked_array([reason]) if isinstance(reason, pa.Array) else reason
    return _reasons_within(pairs, reason.combine_chunks())


def _reasons_within(pairs: pa.Table, reason: pa.Array) -> pa.Array:
    """Adds pairs that contradict an earlier pair of the same table. Loops over contradictory pairs only."""
    said = np.asarray(pc.is_null(reason))
    doubtful = np.zeros(len(said), dtype=bool)
    for column in ("item", "entity"):
        code = np.asarray(pairs[column].combine_chunks().dictionary_encode().indices, dtype=np.int64)
        doubtful |= (np.bincount(code[said], minlength=1 + int(code.max(initial=0)))[code] > 1) & said
    rows = np.flatnonzero(doubtful)
    if len(rows) == 0:
        return reason
    out = reason.to_pylist()
    entity_of: dict[str, str] = {}
    item_of: dict[str, str] = {}
    for row, pair in zip(rows.tolist(), pairs.take(pa.array(rows)).to_pylist(), strict=True):
        item, entity = pair["item"], pair["entity"]
        if item in entity_of:
            out[row] = f"an earlier row says that the item is entity {entity_of[item]}"
        elif entity in item_of:
            out[row] = f"an earlier row says that the entity is item {item_of[entity]}"
        else:
            entity_of[item], item_of[entity] = entity, item
    return pa.array(out, pa.string())


def _fold(engine: Engine, pairs: pa.Table) -> int:
    """Sets item_id and folds stubs, all or nothing; returns how many stubs there were. pairs: item, entity [N]."""
    stub_ids = pc.binary_join_element_wise(ITEM_PREFIX, pairs["item"], "").combine_chunks()
    properties = list(node_columns(engine, "Entity"))
    offsets, values = lookup(engine, "Entity", stub_ids, properties)
    there = (offsets >= 0) & np.asarray(pc.not_equal(stub_ids, pairs["entity"]))
    stubs = stub_ids.filter(pa.array(there))
    entities = pairs["entity"].filter(pa.array(there)).combine_chunks()
    moved = {kind: _moved(engine, EDGES[kind], stubs, entities) for kind in EDGES} if len(stubs) else {}
    properties = values.filter(pa.array(there)).drop(["item_id"])
    empty = [c for c in properties.column_names if properties[c].null_count == properties.num_rows]
    with engine.transaction():
        if len(stubs):
            delete_nodes(engine, "Entity", stubs)
            upsert_nodes(engine, "Entity", properties.drop(empty).append_column("id", entities))
        upsert_nodes(engine, "Entity", pa.table({"id": pairs["entity"], "item_id": pairs["item"]}))
        for kind, table in moved.items():
            if table.num_rows:
                source, target = resolve_ends(engine, EDGES[kind], table, "error")
                merge_edges(engine, EDGES[kind], table, source, target)
    return len(stubs)


def _moved(engine: Engine, kind: EdgeKind, stubs: pa.Array, entities: pa.Array) -> pa.Table:
    """All relationships of a kind that touch a stub, with the entity in the stub's place."""
    names = [c for c in edge_columns(kind) if c != "rid"]
    returned = ", ".join(["a.`id`", "b.`id`", *(f"r.{identifier(c)}" for c in names)])
    parts = []
    for variable, label in (("a", kind.source), ("b", kind.target)):
        if label == "Entity":
            parts.append(
                engine.arrow(
                    f"LOAD FROM $t MATCH {pattern(kind)} WHERE {variable}.`id` = c0 RETURN {returned}",
                    {"t": pa.table({"c0": stubs})},
                ).rename_columns(["head", "tail", *names])
            )
    table = pa.concat_tables(parts).combine_chunks()
    for column, label in (("head", kind.source), ("tail", kind.target)):
        if label == "Entity":
            place = codes(table[column].combine_chunks(), stubs)
            to = pc.coalesce(entities.take(pa.array(place, mask=place < 0)), table[column].combine_chunks())
            table = table.set_column(table.column_names.index(column), column, to)
    return table


def delete_nodes(engine: Engine, label: str, ids: pa.Array) -> None:
    """Deletes nodes and all their relationships."""
    engine.rows(
        f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) DETACH DELETE n",
        {"t": pa.table({"c0": ids})},
    )
