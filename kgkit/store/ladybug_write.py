"""Nodes and relationships into the embedded engine: idempotent in bulk, without a Python loop over rows.

The engine's own MERGE does tens of thousands of rows a second. Instead, what is stored is read as arrays (millions a
second) and compared with what comes; only new rows are bulk-copied, only changed ones updated.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools, Ints
from kgkit.errors import StoreError
from kgkit.memory import let_go
from kgkit.names import COLUMNS
from kgkit.schema import EdgeKind, identifier
from kgkit.store.ladybug_compare import UPDATE_ROWS, new_edges, plain, plain_ends
from kgkit.store.ladybug_engine import LARGE, Engine
from kgkit.store.ladybug_known import offsets_of_ids, properties_at, scan_pays, where, within
from kgkit.store.ladybug_parts import TYPE, next_part, parts_for
from kgkit.store.ladybug_tables import (
    add_part,
    codes,
    count_edges,
    declare,
    edge_columns,
    edge_kind,
    edge_tables,
    engine_type,
    fill_aside,
    filling,
    fit,
    keys,
    node_columns,
    node_kind,
    positional,
    put_in_place,
    unequal,
)
from kgkit.store.port import WriteStats
from kgkit.store.rows import last_rows

COPY_FROM = 2_000  # new nodes from which a bulk copy beats MERGE
COPY_EDGES_FROM = (
    20_000  # a COPY rewrites what is near: 1,000 rows onto 2M take 3.5 s of CPU, by CREATE 0.04 s
)
FAR_ROWS = 25_000  # rows of an update of nodes far from each other: each takes 6 KB
# A COPY that appends takes 128 bytes a node, 128 MB of so many, and longer than one of a million rows to an empty table:
# from here on facts go into tables of their own, of so many rows at most.
PART_NODES, PART_ROWS = 1_000_000, 1_000_000


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

    rows = pa.array(last_rows(np.asarray(ids.dictionary_encode().indices, dtype=np.int64)))
    ids = ids.take(rows)
    offsets = offsets_of_ids(engine, label, ids)
    batch = pa.table({"id": ids, **{name: fit(name, table[name], have[name]).take(rows) for name in types}})
    is_new = offsets < 0
    created, matched = int(is_new.sum()), int((~is_new).sum())
    if created:
        add_nodes(engine, label, batch.filter(pa.array(is_new)))
    if types and matched:
        # As they lie in the file, so that a statement reads, or changes, few places of it: three times as fast, a third
        # of the memory.
        rows = np.flatnonzero(~is_new)
        rows = rows[np.argsort(offsets[rows])]
        batch, offsets = batch.take(pa.array(rows)), offsets[rows]
        changed = _changed(engine, label, batch, offsets)
        _update_nodes(engine, label, batch.filter(pa.array(changed)), offsets[changed])
    return WriteStats(created, matched)


def _changed(engine: Engine, label: str, batch: pa.Table, offsets: Ints) -> Bools:
    """bool [N]: which nodes, all there, have another property than stored. offsets: where, int64 [N], in order."""
    names = batch.column_names[1:]
    changed = [np.zeros(0, dtype=bool)]
    if batch.num_rows >= LARGE:
        engine.make_room()
    for start in range(0, len(offsets), UPDATE_ROWS):
        part = batch.slice(start, UPDATE_ROWS)
        ids = part["id"].combine_chunks()
        stored = properties_at(engine, label, ids, offsets[start : start + UPDATE_ROWS], names)
        changed.append(np.logical_or.reduce([unequal(part[name], stored[name]) for name in names]))
    return np.concatenate(changed)


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
    if len(ids) >= LARGE:
        engine.make_room()  # the ids have been read, their pages are of no more use
    found = properties_at(engine, label, ids.filter(pa.array(there)), offsets[there], properties)
    return offsets, found.take(pa.array(np.cumsum(there) - 1, mask=~there))


def add_nodes(engine: Engine, label: str, batch: pa.Table) -> None:
    """Adds nodes that are not there yet, with distinct ids: in bulk, unless a transaction forbids it."""
    if batch.num_rows >= COPY_FROM and not engine.in_transaction:
        engine.copy_nodes(label, batch.combine_chunks())
        return
    values = ", ".join(f"{identifier(name)}: c{i}" for i, name in enumerate(batch.column_names))
    # MERGE would read all ids that there are.
    engine.rows(f"LOAD FROM $t CREATE (n:{identifier(label)} {{{values}}})", {"t": positional(batch)})


def _update_nodes(engine: Engine, label: str, batch: pa.Table, offsets: Ints) -> None:
    """Sets properties of nodes that are there. offsets: where, int64 [N], in order.

    A few nodes have all theirs set by one statement, so that one that tells what is done is never half told.
    """
    for rows, names in _set_together(batch):
        part, at = batch.select(["id", *names]).filter(pa.array(rows)), offsets[rows]
        # Vectors are large and their checkpoint is super-linear; in a transaction there can be none.
        vectors = any(pa.types.is_fixed_size_list(part[name].type) for name in names)
        step = 5_000 if vectors else UPDATE_ROWS
        start = 0
        while start < part.num_rows:
            if part.num_rows >= FAR_ROWS:
                let_go()
                engine.make_room(to_write=True)
            here = at[start : start + step]
            node = f"(n:{identifier(label)})"
            if scan_pays(engine, label, here):
                # Reads the ids of the range, where the key index touches a page for each: half the memory.
                among = where(*within("n", int(here[0]), int(here[-1]) + 1))
                match = f"MATCH {node}{among} WITH n, n.`id` AS id LOAD FROM $t WHERE c0 = id"
            else:
                here = here[:FAR_ROWS]
                match = f"LOAD FROM $t MATCH {node} WHERE n.`id` = c0"
            values = ", ".join(f"n.{identifier(name)} = c{i + 1}" for i, name in enumerate(names))
            some = positional(part.slice(start, len(here)))
            engine.rows(f"{match} SET {values}", {"t": some})
            if vectors and not engine.in_transaction:
                engine.checkpoint()
            start += len(here)


def _set_together(batch: pa.Table) -> Iterator[tuple[Bools, list[str]]]:
    """Rows, bool [N], and properties, of which each row has all: of few rows all that they have.

    Of many one property at a time, but for names, which say together whose they are (`kgkit.names`).
    """
    groups = [batch.column_names[1:]]
    if batch.num_rows >= COPY_FROM:
        groups = [[name] for name in groups[0] if name not in COLUMNS]
        groups.append([name for name in batch.column_names if name in COLUMNS])
    for names in groups if batch.num_rows else []:
        given = np.array([np.asarray(pc.is_valid(batch[name]), dtype=bool) for name in names])
        for had in np.unique(given, axis=1).T if names else []:
            if had.any():
                rows = (had == given.T).all(axis=1)
                yield rows, [name for name, has in zip(names, had, strict=True) if has]


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


def _new_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints
) -> tuple[pa.Table, int]:
    """Those that are not stored, and how many others there are, which are brought up to date."""
    if table.num_rows == 0:
        return table, 0
    if kind.type == TYPE:
        rids = relation_codes(engine, table["relation"].combine_chunks())
        table = table.append_column("rid", pa.array(rids))
    return new_edges(engine, kind, table, source, target)


def merge_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints
) -> tuple[int, int]:
    """Copies relationships that are new and updates those that differ; returns how many are new and were there."""
    new, matched = _new_edges(engine, kind, table, source, target)
    copy_edges(engine, kind, new)
    return new.num_rows, matched


def copy_edges(engine: Engine, kind: EdgeKind, table: pa.Table) -> None:
    """Appends relationships. Within a transaction they are created a row at a time, as the log does not hold a COPY."""
    if table.num_rows == 0:
        return
    names = [c for c in edge_columns(kind) if c in table.column_names]
    table = table.select(["head", "tail", *names]).combine_chunks()
    for name, rows in _by_table(engine, kind, table):
        if rows.num_rows < COPY_EDGES_FROM or engine.in_transaction:
            _create_edges(engine, kind, name, rows)
            continue
        nodes = sum(engine.count(label) for label in {kind.source, kind.target})
        if kind.type == TYPE and nodes >= PART_NODES:
            _copy_into_parts(engine, kind, rows, nodes)
        else:
            engine.copy(functools.partial(str, name), rows, nodes)


def _by_table(engine: Engine, kind: EdgeKind, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Which table of a type takes which of some rows: a run's answers have one of their own, made when there is none."""
    if not kind.answer:
        yield kind.type, table
        return
    of_run = dict(runs_of_parts(engine, kind))
    for run in pc.unique(table["run"]).to_pylist():
        name = of_run.get(run)
        if name is None:
            name = kind.type if engine.in_transaction else add_part(engine, kind)
        yield name, table.filter(pc.equal(table["run"], run))


def runs_of_parts(engine: Engine, kind: EdgeKind) -> Iterator[tuple[str | None, str]]:
    """The run whose answers are in each table of its own, and that table; None for an empty one."""
    for name in parts_for(engine.parts, kind.type):
        found = engine.rows(f"MATCH ()-[r:{identifier(name)}]->() RETURN r.run LIMIT 1")
        yield (found[0][0] if found else None), name


def _create_edges(engine: Engine, kind: EdgeKind, name: str, table: pa.Table) -> None:
    """Creates relationships in one table of a type, row by row, which the log holds."""
    columns = table.column_names[2:]
    values = ", ".join(f"{identifier(c)}: c{i + 2}" for i, c in enumerate(columns))
    for start in range(0, table.num_rows, UPDATE_ROWS):
        engine.rows(
            f"LOAD FROM $t MATCH (a:{identifier(kind.source)} {{`id`: c0}}) "
            f"MATCH (b:{identifier(kind.target)} {{`id`: c1}}) "
            f"CREATE (a)-[:{identifier(name)} {{{values}}}]->(b)",
            {"t": positional(plain_ends(table.slice(start, UPDATE_ROWS)))},
        )


def _copy_into_parts(engine: Engine, kind: EdgeKind, table: pa.Table, nodes: int) -> None:
    """Into tables that are empty; a small one is filled up by being written again, with what it held."""
    last = edge_tables(engine, kind)[-1]
    held = count_edges(engine, last)
    if last != kind.type and 0 < held <= PART_ROWS // 2 - table.num_rows:
        engine.make_room()
        table = pa.concat_tables(
            [edges_of(engine, kind, last), plain(table, table.column_names)], promote_options="default"
        )
        name = next_part(engine.parts, kind.type)
        with filling(engine):
            fill_aside(engine, kind, name, table.combine_chunks(), few_pages=True)
            with engine.transaction():
                put_in_place(engine, name, instead_of=last)
        return
    empty = [last] if not held else []

    def into() -> str:
        return empty.pop() if empty else add_part(engine, kind)

    engine.copy(into, table, nodes, most=PART_ROWS, few_pages=True)


def edges_of(engine: Engine, kind: EdgeKind, name: str) -> pa.Table:
    """What one table of a type holds: columns head, tail (string ids), then all properties."""
    names = list(edge_columns(kind))
    returned = ", ".join(["a.`id`", "b.`id`", *(f"r.{identifier(c)}" for c in names)])
    ends = f"(a:{identifier(kind.source)})-[r:{identifier(name)}]->(b:{identifier(kind.target)})"
    stored = engine.arrow(f"MATCH {ends} RETURN {returned}", one_table=True)
    return stored.rename_columns(["head", "tail", *names])
