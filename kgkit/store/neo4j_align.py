"""Items become entities in Neo4j, or move between them: relationships and stubs follow, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import neo4j
import pyarrow as pa

from kgkit.names import Names
from kgkit.schema import EDGES, ITEM_PREFIX
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.align_plan import CONFLICTS, MOVING, AlignPlan, plan, renamed, touched
from kgkit.store.neo4j_connection import Connection, parameters
from kgkit.store.neo4j_write import text_column
from kgkit.store.port import AlignStats

_BATCH = 10_000


@dataclass
class _Writes:
    """How the graph gets there: entity ids, item ids and stub ids."""

    rename: list[list[str]] = field(default_factory=list)  # stub, entity, item: the entity is not there yet
    create: list[list[str]] = field(default_factory=list)  # entity, item: neither is there
    label: list[list[str]] = field(default_factory=list)  # entity, item
    fold: list[list[str]] = field(default_factory=list)  # stub, entity
    names: list[list[Any]] = field(default_factory=list)  # entity, its `Names`


def align(connection: Connection, table: pa.Table, move: bool) -> AlignStats:
    """See GraphStore.align. The server holds the transaction, so its size is that of the relationships that move."""
    items, entities = text_column(table, "item", "align"), text_column(table, "entity", "align")
    rows = list(dict.fromkeys(zip(items.to_pylist(), entities.to_pylist(), strict=True)))
    if not rows:
        return AlignStats(0, 0, 0, CONFLICTS.empty_table())

    told: list[AlignStats] = []  # by attempts whose commit may have happened, although its answer was lost

    def work(tx: neo4j.ManagedTransaction) -> AlignStats:
        tx.run(cypher.LOCK_WRITER).consume()
        todo, writes = _look(tx, rows, move)
        left = list(todo.left.values())
        arriving = _leave(tx, todo)
        _batches(tx, cypher.RENAME, writes.rename)
        _batches(tx, cypher.CREATE_ALIGNED, writes.create)
        _fold(tx, writes.fold)
        _batches(tx, cypher.SET_ITEM, writes.label)
        _arrive(tx, arriving)
        _batches(tx, cypher.SET_NAMES, writes.names)
        for start in range(0, len(left), _BATCH):
            tx.run(cypher.DELETE_BARE, ids=left[start : start + _BATCH]).consume()
        folded = len(writes.fold) + len(writes.rename)
        done = AlignStats(todo.aligned, todo.unchanged, folded, todo.conflict_table(), len(todo.left))
        if not told or done.aligned or done.folded or done.moved:
            told.append(done)
        return told[-1]

    return connection.transaction(work)


def _look(tx: neo4j.ManagedTransaction, rows: list[tuple[str, str]], move: bool) -> tuple[AlignPlan, _Writes]:
    """Compares the rows with the graph."""
    items = list({item for item, _ in rows})
    ids = list({e for _, e in rows} | {ITEM_PREFIX + item for item in items})
    by_item = {r["item"]: r["id"] for r in _rows(tx, cypher.BY_ITEM, "items", items)}
    entity_of = {item: entity for item, entity in by_item.items() if entity != ITEM_PREFIX + item}
    item_of: dict[str, str | None] = {r["id"]: r["item"] for r in _rows(tx, cypher.BY_ID, "ids", ids)}
    todo, writes = plan(rows, entity_of, item_of, move), _Writes()
    for item, entity in todo.said.items():
        stub = ITEM_PREFIX + item
        fold = stub in item_of and stub != entity
        if entity in item_of:
            writes.label += [[entity, item]] if item_of[entity] != item else []
            writes.fold += [[stub, entity]] if fold else []
        elif fold:
            writes.rename.append([stub, entity, item])
        else:
            writes.create.append([entity, item])
    held = {r["id"]: Names(*r.values()[1:]) for r in _rows(tx, cypher.NAMES, "ids", touched(todo))}
    writes.names = [[entity, *names] for entity, names in renamed(todo, item_of, held).items()]
    return todo, writes


def _leave(tx: neo4j.ManagedTransaction, todo: AlignPlan) -> dict[str, list[list[Any]]]:
    """Makes the left entities items no longer; returns by type the relationships [user handle, new entity, properties]."""
    left, arriving = list(todo.left.values()), dict[str, list[list[Any]]]()
    goal = {entity: todo.said[item] for item, entity in todo.left.items()}
    for kind in MOVING:
        found = _rows(tx, cypher.arriving(kind), "ids", left)
        arriving[kind] = [[r["source"], goal[r["id"]], r["properties"]] for r in found]
    for start in range(0, len(left), _BATCH):
        part = left[start : start + _BATCH]
        for kind in MOVING:
            tx.run(cypher.delete_arriving(kind), ids=part).consume()
        tx.run(cypher.UNSET_ITEM, ids=part).consume()
    return arriving


def _arrive(tx: neo4j.ManagedTransaction, arriving: dict[str, list[list[Any]]]) -> None:
    """The second half of `_leave`, once the new entities are there."""
    goals = sorted({row[1] for rows in arriving.values() for row in rows})
    handle = {r["id"]: r["handle"] for r in _rows(tx, cypher.BY_ID, "ids", goals)}
    for kind, rows in arriving.items():
        key = _key(kind)
        found = [[source, handle[goal], more, *(more.get(k) for k in key)] for source, goal, more in rows]
        _batches(tx, cypher.merge_edges(kind, key), found)


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
        for record in tx.run(text, parameters({name: values[start : start + _BATCH]}))
    ]


def _batches(tx: neo4j.ManagedTransaction, text: Any, rows: list[list[Any]]) -> None:
    for start in range(0, len(rows), _BATCH):
        tx.run(text, parameters({"rows": rows[start : start + _BATCH]})).consume()
