"""Nodes and relationships into the embedded engine: idempotent in bulk, without a Python loop over rows.

The engine's own MERGE does tens of thousands of rows a second. Instead, what is stored is read as arrays (millions a
second) and compared with what comes; only new rows are bulk-copied, only changed ones updated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Ints
from kgkit.errors import StoreError
from kgkit.memory import let_go
from kgkit.schema import EdgeKind, identifier
from kgkit.store.ladybug_engine import LARGE, Engine
from kgkit.store.ladybug_known import SCAN_RATIO, offsets_of_ids
from kgkit.store.ladybug_parts import TYPE
from kgkit.store.ladybug_tables import (
    add_part,
    codes,
    combine,
    declare,
    differs,
    drop_hidden_part,
    edge_columns,
    edge_kind,
    edge_tables,
    engine_type,
    fit,
    keys,
    node_columns,
    node_kind,
    pattern,
    shared_codes,
    show_part,
    some_without_rid,
    unequal,
)
from kgkit.store.port import WriteStats
from kgkit.store.rows import last_of_each, last_rows

COPY_FROM = 2_000  # new nodes from which a bulk copy beats MERGE
COPY_EDGES_FROM = (
    20_000  # a COPY rewrites what is near: 1,000 rows onto 2M take 3.5 s of CPU, by CREATE 0.04 s
)
UPDATE_ROWS = 100_000  # rows an update statement
# A COPY that appends takes 128 bytes a node, 128 MB of so many, and longer than one of a million rows to an empty table:
# from here on facts go into tables of their own, of so many rows at most.
PART_NODES, PART_ROWS = 1_000_000, 1_000_000
STORED_ROWS = 1_500_000  # stored relationships that what comes is compared with at a time


def upsert_nodes(engine: Engine, label: str, table: pa.Table) -> WriteStats:
    """`GraphStore.upsert_nodes`."""
    kind = node_kind(label)
    if table.num_rows >= LARGE:
        engine.make_room()
    ids = keys("id", table)
    given = [c for c in table.column_names if c != "id"]
    for name in given:
        identifier(name)
    types = {name: type_ for name in given if (type_ := engine_type(name, table[name].type)) is not None}
    declare(engine, kind.label, types)
    have = node_columns(engine, label)
    columns = {name: fit(name, table[name], have[name]) for name in types}

    dictionary = ids.dictionary_encode()
    rows = last_rows(np.asarray(dictionary.indices, dtype=np.int64))
    batch = pa.table({"id": ids, **columns}).take(pa.array(rows))
    offsets, stored = lookup(engine, label, batch["id"].combine_chunks(), list(columns))
    is_new = offsets < 0
    if is_new.any():
        add_nodes(engine, label, batch.filter(pa.array(is_new)))
    changed = np.zeros(len(is_new), dtype=bool)
    for name in columns:
        changed |= unequal(batch[name], stored[name])
    rows = np.flatnonzero(changed & ~is_new)
    del stored
    if len(rows):
        # As they lie in the file, so that a statement changes few places of it: three times as fast, a third of the memory.
        batch = batch.take(pa.array(rows[np.argsort(offsets[rows])]))
        _update_nodes(engine, label, batch)
    return WriteStats(created=int(is_new.sum()), matched=int((~is_new).sum()))


def lookup(
    engine: Engine, label: str, ids: pa.Array, properties: Sequence[str] = ()
) -> tuple[Ints, pa.Table]:
    """The engine's offsets of distinct ids (int64 [N], -1: not there) and their properties (table [N], nulls)."""
    offsets = offsets_of_ids(engine, label, ids)
    there = offsets >= 0
    if not properties or not there.any():
        have = node_columns(engine, label)
        nulls = pa.chunked_array([pa.nulls(len(ids))])
        return offsets, pa.table({name: fit(name, nulls, have[name]) for name in properties})
    returned = ", ".join(["offset(id(n))", *(f"n.{identifier(p)}" for p in properties)])
    if len(ids) >= LARGE:
        engine.make_room()  # the ids have been read, their pages are of no more use
    if there.sum() * SCAN_RATIO > engine.count(label):
        found = engine.arrow(f"MATCH (n:{identifier(label)}) RETURN {returned}")
    else:
        found = engine.arrow(
            f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) RETURN {returned}",
            {"t": pa.table({"c0": ids.filter(pa.array(there))})},
        )
    found = found.rename_columns(["", *properties])
    at = np.asarray(found[""], dtype=np.int64)
    row = np.full(2 + int(max(at.max(), offsets.max())), -1, dtype=np.int64)  # the last is of offset -1
    row[at] = np.arange(len(at))
    where = row[offsets]
    return offsets, found.select(list(properties)).take(pa.array(where, mask=where < 0))


def add_nodes(engine: Engine, label: str, batch: pa.Table) -> None:
    """Adds nodes that are not there yet, with distinct ids: in bulk, unless a transaction forbids it."""
    if batch.num_rows >= COPY_FROM and not engine.in_transaction:
        engine.copy_nodes(label, batch.combine_chunks())
        return
    names = batch.column_names[1:]
    sets = ", ".join(f"n.{identifier(p)} = c{i + 1}" for i, p in enumerate(names))
    engine.rows(
        f"LOAD FROM $t MERGE (n:{identifier(label)} {{`id`: c0}})"
        + (f" ON CREATE SET {sets}" if sets else ""),
        {"t": _positional(batch)},
    )


def _update_nodes(engine: Engine, label: str, batch: pa.Table) -> None:
    for name in batch.column_names[1:]:  # one property at a time: only rows that have a value for it
        part = batch.select(["id", name]).filter(pc.is_valid(batch[name]))
        # Vectors are large and their checkpoint is super-linear; in a transaction there can be none.
        step = 5_000 if pa.types.is_fixed_size_list(part[name].type) else UPDATE_ROWS
        for start in range(0, part.num_rows, step):
            if part.num_rows >= LARGE:
                let_go()
                engine.make_room()
            engine.rows(
                f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) SET n.{identifier(name)} = c1",
                {"t": _positional(part.slice(start, step))},
            )
            if step < UPDATE_ROWS and not engine.in_transaction:
                engine.checkpoint()


def _positional(table: pa.Table) -> pa.Table:
    """Columns c0, c1, ..: names that can clash neither with variables nor with keywords."""
    return table.rename_columns([f"c{i}" for i in range(table.num_columns)]).combine_chunks()


# -- relationships -----------------------------------------------------------------------------------------------


def upsert_edges(engine: Engine, kind_name: str, table: pa.Table, missing: str) -> WriteStats:
    """`GraphStore.upsert_edges`."""
    kind = edge_kind(kind_name)
    table, source, target, skipped = resolved(engine, kind_name, table, missing)
    new, matched = _new_edges(engine, kind, table, source, target)
    del table, source, target  # a copy of millions of rows needs all the room there is
    copy_edges(engine, kind, new)
    return WriteStats(new.num_rows, matched) + skipped


def resolved(
    engine: Engine, kind_name: str, table: pa.Table, missing: str
) -> tuple[pa.Table, Ints, Ints, WriteStats]:
    """Checked rows whose ends are known, the engine's offsets of these, int64 [E] each, and rows that were skipped.

    Makes ends that are missing where `missing` says so, and registers the relations of facts.
    """
    kind = edge_kind(kind_name)
    if missing not in ("error", "skip", "create"):
        raise StoreError(f"missing={missing!r}: use error, skip or create")
    if table.num_rows >= LARGE:
        engine.make_room()
    table = edge_table(kind, table)
    source, target = resolve_ends(engine, kind, table, missing)
    known = (source >= 0) & (target >= 0)
    skipped = int(len(known) - known.sum())
    if skipped:
        table, source, target = table.filter(pa.array(known)), source[known], target[known]
    if kind.type == "FACT":
        register_relations(engine, pc.unique(table["relation"]))
    return table, source, target, WriteStats(skipped=skipped)


def edge_table(kind: EdgeKind, table: pa.Table) -> pa.Table:
    """Columns head, tail, key, other properties given: checked and in the graph's types; texts may be dictionaries."""
    types = edge_columns(kind)
    for name in table.column_names:
        if name not in ("head", "tail") and (name not in types or name == "rid"):
            raise StoreError(f"{kind.type} has no property {name!r}: it has {', '.join(kind.properties)}")
    out = {name: keys(name, table, numbered=True) for name in ("head", "tail", *kind.key)}
    for name in table.column_names:
        # Nulls leave what is stored, so a column of nothing else is no column.
        if name not in out and table[name].null_count < table.num_rows:
            out[name] = fit(name, table[name], types[name], numbered=True)
    return pa.table(out)


def resolve_ends(engine: Engine, kind: EdgeKind, table: pa.Table, missing: str) -> tuple[Ints, Ints]:
    """The engine's offsets of both ends, int64 [E] each; -1 for unknown ends where `missing` is "skip".

    Raises StoreError for unknown ends where `missing` is "error"; makes the nodes where it is "create".
    """
    columns = [table[c].combine_chunks() for c in ("head", "tail")]
    if kind.source == kind.target:
        ids, (source, target) = _distinct(*columns)
        offsets = offsets_of(engine, kind.source, ids, missing)
        return offsets[source], offsets[target]
    with ThreadPoolExecutor(2) as pool:  # Arrow lets go of the interpreter's lock
        ends = list(pool.map(_distinct, columns))
    labels = (kind.source, kind.target)
    # Both ends are looked up before either is created, so that nothing is written when one is refused.
    if missing == "error":
        for label, (ids, _) in zip(labels, ends, strict=True):
            offsets_of(engine, label, ids, missing)
    found = [offsets_of(engine, label, ids, missing) for label, (ids, _) in zip(labels, ends, strict=True)]
    source, target = (offsets[rows] for offsets, (_, (rows,)) in zip(found, ends, strict=True))
    return source, target


def _distinct(*columns: pa.Array) -> tuple[pa.Array, list[Ints]]:
    """The distinct ids of columns, string [N], as they first appear, and where each row's stands, int64 [E] each.

    Columns that share a dictionary, as an ingest's facts do, spare hashing: its order stands, less what nobody uses.
    """
    first = columns[0]
    if pa.types.is_dictionary(first.type) and all(
        c.type == first.type and c.dictionary.equals(first.dictionary) for c in columns
    ):
        ids, parts = first.dictionary, [c.indices for c in columns]
    else:
        whole = [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in columns]
        both = pa.concat_arrays(whole).dictionary_encode()
        ids, at = both.dictionary, np.cumsum([0, *map(len, columns)])
        parts = [both.indices.slice(at[i], at[i + 1] - at[i]) for i in range(len(columns))]
    rows = [np.asarray(part, dtype=np.int64) for part in parts]
    used = np.zeros(len(ids), dtype=bool)
    for part in rows:
        used[part] = True
    if not used.all():
        place = np.cumsum(used) - 1
        ids, rows = ids.filter(pa.array(used)), [place[part] for part in rows]
    return ids, rows


def offsets_of(engine: Engine, label: str, ids: pa.Array, missing: str) -> Ints:
    """The engine's offsets of distinct ids, int64 [N]; see `resolve_ends`."""
    offsets, _ = lookup(engine, label, ids)
    unknown = offsets < 0
    if not unknown.any() or missing == "skip":
        return offsets
    absent = ids.filter(pa.array(unknown))
    if missing == "error":
        raise StoreError(
            f"{len(absent):,} ids are not in the graph as {label}, such as {absent[0].as_py()!r}: "
            "ingest them first, or let missing ends be skipped or created"
        )
    add_nodes(engine, label, pa.table({"id": absent}))
    offsets[unknown] = lookup(engine, label, absent)[0]
    return offsets


def register_relations(engine: Engine, names: pa.Array | pa.ChunkedArray) -> None:
    """Gives relations that are new the next small integers."""
    known = engine.rows("MATCH (r:Relation) WHERE r.rid IS NOT NULL RETURN r.`id`, r.rid")
    have = {row[0] for row in known}
    fresh = [name for name in names.to_pylist() if name not in have]
    if not fresh:
        return
    first = 1 + max((int(row[1]) for row in known), default=-1)
    table = pa.table({"c0": pa.array(fresh), "c1": pa.array(np.arange(first, first + len(fresh)))})
    engine.rows("LOAD FROM $t MERGE (r:Relation {`id`: c0}) SET r.rid = c1", {"t": table})


def relation_codes(engine: Engine, relations: pa.Array) -> Ints:
    """The rid of each relation name; all must be registered."""
    known = engine.arrow("MATCH (r:Relation) WHERE r.rid IS NOT NULL RETURN r.`id`, r.rid")
    encoded = relations.dictionary_encode()
    place = codes(encoded.dictionary, known.column(0).combine_chunks())
    rids = np.asarray(known.column(1).combine_chunks(), dtype=np.int64)[place]
    return rids[np.asarray(encoded.indices, dtype=np.int64)]


def merge_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints
) -> tuple[int, int]:
    """Copies relationships that are new and updates those that differ; returns how many are new and were there."""
    new, matched = _new_edges(engine, kind, table, source, target)
    copy_edges(engine, kind, new)
    return new.num_rows, matched


def _new_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints
) -> tuple[pa.Table, int]:
    """Those that are not stored, in the order of their heads; updates the others that differ, and counts them all."""
    if table.num_rows == 0:
        return table, 0
    if kind.type == "FACT":
        table = table.append_column(
            "rid", pa.array(relation_codes(engine, table["relation"].combine_chunks()))
        )
    # A range of heads at a time, so that memory does not grow with what is stored.
    held = engine.rows(f"MATCH {pattern(kind)} RETURN count(*)")[0][0]
    if held <= STORED_ROWS:
        return _new_among(engine, kind, table, source, target, "")
    engine.make_room()
    bounds = np.linspace(0, source.max() + 1, 2 + held // STORED_ROWS).astype(np.int64)
    new, matched = [], 0
    for low, high in pairwise(bounds.tolist()):
        at = np.flatnonzero((source >= low) & (source < high))
        if len(at):
            let_go()  # of the last one
            among = f"offset(id(a)) >= {low} AND offset(id(a)) < {high}"
            part = table.take(pa.array(at))
            found, known = _new_among(engine, kind, part, source[at], target[at], among)
            new.append(found)
            matched += known
    return pa.concat_tables(new), matched


def _new_among(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints, among: str
) -> tuple[pa.Table, int]:
    """The same, compared with what is stored of some heads, those of the condition `among`."""
    properties = [c for c in table.column_names if c not in ("head", "tail", "rid", *kind.key)]
    # Of facts, whose keys are three numbers, texts are read only when one comes again and may differ.
    numbers = kind.type == "FACT"
    read_keys = ("rid",) if numbers else kind.key
    stored = _stored(engine, kind, read_keys if numbers else (*read_keys, *properties), among)
    rows, stored_row = _matched(table, source, target, stored, read_keys)
    there = stored_row >= 0
    new, matched = rows[~there], int(there.sum())
    if matched and properties:
        if numbers:
            other, values = _other_than(table.select(properties))
            among = " AND ".join(filter(None, (among, other)))
            stored = _stored(engine, kind, (*read_keys, *properties), among, values)
            if stored.num_rows:
                rows, stored_row = _matched(table, source, target, stored, read_keys)
                there = stored_row >= 0
        if stored.num_rows:
            _update_edges(engine, kind, table, stored.select(properties), rows[there], stored_row[there])
    # Beside each other, as the engine keeps them: a quarter faster.
    order = np.argsort(source[new], kind="stable")
    return table.take(pa.array(new[order])), matched


def _other_than(columns: pa.Table) -> tuple[str, dict[str, Any]]:
    """The condition that a stored relationship `r` may differ from rows whose columns have one value each, and its
    parameters; "" where a column has more."""
    parts, values = [], {}
    for at, name in enumerate(columns.column_names):
        given = pc.unique(columns[name].unify_dictionaries().combine_chunks()).drop_null()
        if len(given) != 1:
            return "", {}
        parts.append(f"r.{identifier(name)} IS NULL OR r.{identifier(name)} <> $v{at}")
        values[f"v{at}"] = given[0].as_py()
    return f"({' OR '.join(parts)})", values


def _matched(
    table: pa.Table, source: Ints, target: Ints, stored: pa.Table, read_keys: Sequence[str]
) -> tuple[Ints, Ints]:
    """The last row of each distinct relationship of a table, int64 [N], and its row in `stored`, -1 if it is new."""
    columns = [
        (source, np.asarray(stored["head"], dtype=np.int64)),
        (target, np.asarray(stored["tail"], dtype=np.int64)),
    ]
    for name in read_keys:
        columns.append(key_codes(table[name], stored[name]))
    new_key, old_key = combine(columns)
    rows, distinct = last_of_each(new_key)
    at = np.minimum(np.searchsorted(distinct, old_key), len(distinct) - 1)
    hit = np.flatnonzero(distinct[at] == old_key)
    stored_row = np.full(len(distinct), -1, dtype=np.int64)
    stored_row[at[hit]] = hit
    return rows, stored_row


def key_codes(new: pa.ChunkedArray, old: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """Small integers that are equal where the values of a key column are."""
    if pa.types.is_integer(new.type):
        return np.asarray(new, dtype=np.int64), np.asarray(old, dtype=np.int64)
    return shared_codes(new, old)


def _stored(
    engine: Engine,
    kind: EdgeKind,
    properties: Sequence[str],
    among: str,
    values: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Stored relationships of a kind, those of a condition: offsets of their ends (columns head, tail) and properties."""
    returned = ["offset(id(a))", "offset(id(b))", *(f"r.{identifier(p)}" for p in properties)]
    where = f"WHERE {among} " if among else ""
    found = engine.arrow(
        f"MATCH {pattern(kind)} {where}RETURN {', '.join(returned)}",
        values,
        never_null=not properties or (list(properties) == ["rid"] and not some_without_rid(engine)),
    )
    return found.rename_columns(["head", "tail", *properties])


def plain_ends(table: pa.Table) -> pa.Table:
    """The same with ids as texts."""
    return _plain(table, ("head", "tail"))


def _plain(table: pa.Table, names: Sequence[str]) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if name in names and pa.types.is_dictionary(table[name].type):
            table = table.set_column(at, name, table[name].cast(pa.string()))
    return table


def copy_edges(engine: Engine, kind: EdgeKind, table: pa.Table) -> None:
    """Appends relationships. Both ways can be rolled back, unlike a COPY of nodes."""
    if table.num_rows == 0:
        return
    names = [c for c in edge_columns(kind) if c in table.column_names]
    table = table.select(["head", "tail", *names]).combine_chunks()
    if table.num_rows < COPY_EDGES_FROM:
        values = ", ".join(f"{identifier(c)}: c{i + 2}" for i, c in enumerate(names))
        engine.rows(
            f"LOAD FROM $t MATCH (a:{identifier(kind.source)} {{`id`: c0}}) "
            f"MATCH (b:{identifier(kind.target)} {{`id`: c1}}) "
            f"CREATE (a)-[:{identifier(kind.type)} {{{values}}}]->(b)",
            {"t": _positional(plain_ends(table))},
        )
        return
    nodes = sum(engine.count(label) for label in {kind.source, kind.target})
    if kind.type == TYPE and nodes >= PART_NODES and not engine.in_transaction:
        _copy_into_parts(engine, kind, table, nodes)
    else:
        engine.copy(lambda: kind.type, table, nodes)


def _copy_into_parts(engine: Engine, kind: EdgeKind, table: pa.Table, nodes: int) -> None:
    """Into tables that are empty; a small one is filled up by being written again, with what it held."""
    last = edge_tables(engine, kind)[-1]
    held = engine.rows(f"MATCH ()-[r:{identifier(last)}]->() RETURN count(*)")[0][0]
    fill_up = last in engine.parts and 0 < held <= PART_ROWS // 2 - table.num_rows
    if fill_up:
        engine.make_room()
        names = list(edge_columns(kind))
        returned = ", ".join(["a.`id`", "b.`id`", *(f"r.{identifier(c)}" for c in names)])
        ends = f"(a:{identifier(kind.source)})-[r:{identifier(last)}]->(b:{identifier(kind.target)})"
        stored = engine.arrow(f"MATCH {ends} RETURN {returned}").rename_columns(["head", "tail", *names])
        table = pa.concat_tables([stored, _plain(table, table.column_names)], promote_options="default")
        table = table.combine_chunks()
    empty = [last] if not held else []

    def into() -> str:
        return empty.pop() if empty else add_part(engine, hidden=fill_up)

    try:
        engine.copy(into, table, nodes, most=PART_ROWS, few_pages=True)
        if fill_up:
            show_part(engine, instead_of=last)
    except BaseException:
        if fill_up:
            drop_hidden_part(engine)
        raise


def _update_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, stored: pa.Table, rows: Ints, stored_rows: Ints
) -> None:
    """Sets what differs. rows, stored_rows: int64 [M], where the same relationships are in the two tables."""
    on = " AND ".join(f"r.{identifier(k)} = c{i + 2}" for i, k in enumerate(kind.key))
    value = f"c{len(kind.key) + 2}"
    ends = (
        f"(a:{identifier(kind.source)} {{`id`: c0}})-[r:{identifier(kind.type)}]->"
        f"(b:{identifier(kind.target)} {{`id`: c1}})"
    )
    for name in stored.column_names:
        changed = rows[differs(table[name], stored[name], rows, stored_rows)]
        part = plain_ends(table.select(["head", "tail", *kind.key, name]).take(pa.array(changed)))
        for start in range(0, part.num_rows, UPDATE_ROWS):
            engine.rows(
                f"LOAD FROM $t MATCH {ends} WHERE {on} SET r.{identifier(name)} = {value}",
                {"t": _positional(part.slice(start, UPDATE_ROWS))},
            )
