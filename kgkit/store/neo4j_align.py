"""Items become entities in Neo4j: stubs are folded into the nodes they stand for, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import neo4j
import pyarrow as pa

from kgkit.schema import EDGES, ITEM_PREFIX
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j_connection import Connection
from kgkit.store.neo4j_write import text_column
from kgkit.store.port import AlignStats

_BATCH = 10_000
_CONFLICTS = pa.schema([("item", pa.string()), ("entity", pa.string()), ("reason", pa.string())])


@dataclass
class _Plan:
    """What to do about each row: entity ids, item ids and stub ids."""

    rename: list[list[str]] = field(default_factory=list)  # stub, entity, item: the entity is not there yet
    create: list[list[str]] = field(default_factory=list)  # entity, item: neither is there
    label: list[list[str]] = field(default_factory=list)  # entity, item
    fold: list[list[str]] = field(default_factory=list)  # stub, entity
    unchanged: int = 0
    aligned: int = 0
    conflicts: list[dict[str, str]] = field(default_factory=list)


def align(connection: Connection, table: pa.Table) -> AlignStats:
    """See GraphStore.align. The server holds the transaction, so its size is that of the stubs' relationships."""
    items, entities = text_column(table, "item", "align"), text_column(table, "entity", "align")
    rows = list(dict.fromkeys(zip(items.to_pylist(), entities.to_pylist(), strict=True)))
    if not rows:
        return AlignStats(0, 0, 0, _CONFLICTS.empty_table())

    def work(tx: neo4j.ManagedTransaction) -> AlignStats:
        tx.run(cypher.LOCK_WRITER).consume()
        plan = _plan(tx, rows)
        _batches(tx, cypher.RENAME, plan.rename)
        _batches(tx, cypher.CREATE_ALIGNED, plan.create)
        _fold(tx, plan.fold)
        _batches(tx, cypher.SET_ITEM, plan.label)
        return AlignStats(
            aligned=plan.aligned,
            unchanged=plan.unchanged,
            folded=len(plan.fold) + len(plan.rename),
            conflicts=pa.Table.from_pylist(plan.conflicts, _CONFLICTS),
        )

    return connection.transaction(work)


def _plan(tx: neo4j.ManagedTransaction, rows: list[tuple[str, str]]) -> _Plan:
    """Compares the rows with the graph, in their order: of two rows that contradict each other the first counts."""
    items = list({item for item, _ in rows})
    ids = list({e for _, e in rows} | {ITEM_PREFIX + item for item in items})
    entity_of = {r["item"]: r["id"] for r in _rows(tx, cypher.BY_ITEM, "items", items)}
    found = _rows(tx, cypher.BY_ID, "ids", ids)
    item_of: dict[str, str | None] = {r["id"]: r["item"] for r in found}
    plan = _Plan()
    for item, entity in rows:
        stub = ITEM_PREFIX + item
        other = entity_of.get(item)
        if other is not None and other not in (entity, stub):
            reason = f"item {item!r} is entity {other!r} already"
        elif item_of.get(entity) not in (None, item):
            reason = f"entity {entity!r} is item {item_of[entity]!r} already"
        else:
            reason = ""
        if reason:
            plan.conflicts.append({"item": item, "entity": entity, "reason": reason})
            continue
        if item_of.get(entity) == item:
            plan.unchanged += 1
        else:
            plan.aligned += 1
            if entity in item_of:
                plan.label.append([entity, item])
            elif stub in item_of:
                plan.rename.append([stub, entity, item])
                del item_of[stub]
            else:
                plan.create.append([entity, item])
        if stub in item_of and stub != entity:
            plan.fold.append([stub, entity])
            del item_of[stub]
        entity_of[item], item_of[entity] = entity, item
    return plan


def _fold(tx: neo4j.ManagedTransaction, pairs: list[list[str]]) -> None:
    """Moves everything from stubs to their entities, and deletes the stubs."""
    if not pairs:
        return
    ids = sorted({i for pair in pairs for i in pair})
    handle = {r["id"]: r["handle"] for r in _rows(tx, cypher.BY_ID, "ids", ids)}
    into = {handle[stub]: handle[entity] for stub, entity in pairs}
    moved: dict[str, dict[tuple[Any, ...], list[Any]]] = {}
    for record in _rows(tx, cypher.RELATIONSHIPS_OF, "handles", list(into)):
        source, target = (
            into.get(record["source"], record["source"]),
            into.get(record["target"], record["target"]),
        )
        key = _key(record["type"])
        values = [record["properties"].get(k) for k in key]
        row = [source, target, record["properties"], *values]
        rows = moved.setdefault(record["type"], {})
        # Two of one stub, or of two stubs, may meet on the way: as in an upsert, nulls leave what is there.
        same = rows.setdefault((source, target, *values), row)
        if same is not row:
            same[2] = {**same[2], **record["properties"]}
    for type_name, found in moved.items():
        _batches(tx, cypher.merge_edges(type_name, _key(type_name)), list(found.values()))
    _batches(tx, cypher.FOLD_PROPERTIES, [list(pair) for pair in into.items()])


def _key(type_name: str) -> tuple[str, ...]:
    """Properties that tell relationships between the same two nodes apart; a type that is itself a relation has none."""
    return EDGES[type_name].key if type_name in EDGES else ()


def _rows(tx: neo4j.ManagedTransaction, text: Any, name: str, values: list[Any]) -> list[neo4j.Record]:
    return [
        record
        for start in range(0, len(values), _BATCH)
        for record in tx.run(text, {name: values[start : start + _BATCH]})
    ]


def _batches(tx: neo4j.ManagedTransaction, text: Any, rows: list[list[Any]]) -> None:
    for start in range(0, len(rows), _BATCH):
        tx.run(text, rows=rows[start : start + _BATCH]).consume()
