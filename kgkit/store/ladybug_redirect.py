"""Relationships of the embedded engine that get other ends, when items become entities: row by row, or whole tables anew.

Deleting and creating a relationship takes some 20 us, and more where its ends have many; writing a table anew takes some
3 us for each row it holds, and dropping the old one nothing. Either way all of it is in the engine's log.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Ints
from kgkit.schema import EdgeKind, identifier
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_tables import (
    codes,
    combine,
    count_edges,
    edge_columns,
    edge_tables,
    fill_aside,
    pattern,
)
from kgkit.store.ladybug_write import COPY_EDGES_FROM

ANEW_SHARE = 6  # a table is written anew when more than 1/6 of its rows get other ends
Ends = Mapping[
    str, tuple[pa.Array, pa.Array]
]  # by "head" and "tail": nodes, and those that take their places


def entity_ends(kind: EdgeKind) -> list[str]:
    """Which of `a` and `b` in the kind's pattern are entities."""
    return [v for v, label in (("a", kind.source), ("b", kind.target)) if label == "Entity"]


def redirected(engine: Engine, kind: EdgeKind, old: pa.Array, new: pa.Array) -> pa.Table:
    """All relationships of a kind that touch one of the nodes `old`, with the node of `new` in its place."""
    names = [c for c in edge_columns(kind) if c != "rid"]
    returned = ", ".join(["a.`id`", "b.`id`", *(f"r.{identifier(c)}" for c in names)])
    parts = [
        engine.arrow(
            f"LOAD FROM $t MATCH {pattern(kind)} WHERE {variable}.`id` = c0 RETURN {returned}",
            {"t": pa.table({"c0": old})},
        ).rename_columns(["head", "tail", *names])
        for variable in entity_ends(kind)
    ]
    table = pa.concat_tables(parts).combine_chunks()
    for column, label in (("head", kind.source), ("tail", kind.target)):
        if label == "Entity":
            place = codes(table[column].combine_chunks(), old)
            to = pc.coalesce(new.take(pa.array(place, mask=place < 0)), table[column].combine_chunks())
            table = table.set_column(table.column_names.index(column), column, to)
    return table


def redirect_aside(engine: Engine, kind: EdgeKind, ends: Ends) -> list[str]:
    """Writes the tables of a kind anew beside the old ones, with other ends, where that is cheaper; their names.

    `put_in_place` shows them. Of relationships that become the same, what the redirected one says counts.
    """
    if not ends:
        return []
    rows = {name: count for name in edge_tables(engine, kind) if (count := count_edges(engine, name))}
    tables, held = list(rows), sum(rows.values())
    # Relationships in two tables would not be told to be the same; of a run's own table no other has any.
    if len(tables) > 1 and (not kind.answer or kind.type in tables):
        return []
    if held < COPY_EDGES_FROM:
        return []
    touched = 0
    for column, (old, _) in ends.items():
        match = f"LOAD FROM $t MATCH {pattern(kind)} WHERE {'a' if column == 'head' else 'b'}.`id` = c0"
        touched += int(engine.rows(f"{match} RETURN count(*)", {"t": pa.table({"c0": old})})[0][0])
    if touched < COPY_EDGES_FROM or touched * ANEW_SHARE < held:
        return []
    nodes = {label: _Nodes(engine, label) for label in {kind.source, kind.target}}
    for name in tables:
        fill_aside(engine, kind, name, _anew(engine, kind, name, ends, nodes))
    return tables


class _Nodes:
    """The ids of a label's nodes, string [N], and the row of each of the engine's offsets among them."""

    def __init__(self, engine: Engine, label: str) -> None:
        match = f"MATCH (n:{identifier(label)})"
        found = engine.arrow(f"{match} RETURN n.`id`, offset(id(n))", never_null=True)
        offsets = np.asarray(found.column(1), dtype=np.int64)
        self.ids = found.column(0).combine_chunks()
        self.row = np.full(1 + offsets.max(initial=-1), -1, dtype=np.int64)
        self.row[offsets] = np.arange(len(offsets))

    def redirects(self, old: pa.Array, new: pa.Array) -> Ints:
        """The row that takes the place of each, int64 [N]."""
        to = np.arange(len(self.ids), dtype=np.int64)
        to[codes(old, self.ids)] = codes(new, self.ids)
        return to


def _anew(engine: Engine, kind: EdgeKind, name: str, ends: Ends, nodes: Mapping[str, _Nodes]) -> pa.Table:
    """What a table will hold: columns head, tail, then properties; each relationship once, in the order of heads."""
    names = list(edge_columns(kind))
    returned = ", ".join(["offset(id(a))", "offset(id(b))", *(f"r.{identifier(c)}" for c in names)])
    match = f"MATCH (a:{identifier(kind.source)})-[r:{identifier(name)}]->(b:{identifier(kind.target)})"
    table = engine.arrow(f"{match} RETURN {returned}", one_table=True).rename_columns(
        ["head", "tail", *names]
    )
    moved = np.zeros(table.num_rows, dtype=bool)
    rows = []
    for column, label in (("head", kind.source), ("tail", kind.target)):
        row = nodes[label].row[np.asarray(table[column], dtype=np.int64)]
        if column in ends:
            to = nodes[label].redirects(*ends[column])[row]
            moved |= to != row
            row = to
        rows.append(row)
    none = np.zeros(0, dtype=np.int64)
    key = combine([*((row, none) for row in rows), *((_numbers(table[k]), none) for k in kind.key)])[0]
    # Redirected ones last, for what they say counts.
    order = np.argsort(moved, kind="stable")
    order = order[np.argsort(key[order], kind="stable")]
    starts = np.flatnonzero(np.append(True, key[order][1:] != key[order][:-1])[: len(order)])
    last = order[np.append(starts[1:], len(order)) - 1]
    by_head = np.argsort(rows[0][last], kind="stable")
    columns = {
        column: pa.DictionaryArray.from_arrays(
            pa.array(row[last][by_head].astype(np.int32)), nodes[label].ids
        )
        for column, label, row in zip(("head", "tail"), (kind.source, kind.target), rows, strict=True)
    }
    for c in names:
        said = _last_said(table[c], order, starts)
        columns[c] = table[c].take(pa.array(said[by_head], mask=said[by_head] < 0))
    return pa.table(columns)


def _numbers(column: pa.ChunkedArray) -> Ints:
    """Small integers that are equal where texts are; 0 for null."""
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1), dtype=np.int64) + 1


def _last_said(column: pa.ChunkedArray, order: Ints, starts: Ints) -> Ints:
    """The last row of each group that has a value, int64 [G]; -1 where none has.

    order: rows, group by group, int64 [E]; starts: where each group begins in it, int64 [G].
    """
    if not len(starts):
        return starts
    valid = np.asarray(pc.is_valid(column), dtype=bool)[order]
    place = np.maximum.reduceat(np.where(valid, np.arange(len(order)), -1), starts)
    return np.where(place >= starts, order[place], -1)
