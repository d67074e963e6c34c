"""Relationships that come are compared with those that the embedded engine has: new ones are found, others brought up to
date. What is stored is read as arrays, a range of heads at a time, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Ints
from kgkit.memory import let_go
from kgkit.schema import EdgeKind, identifier
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_known import KnownHeads, where, within
from kgkit.store.ladybug_tables import (
    combine,
    differs,
    pattern,
    positional,
    shared_codes,
    some_without_rid,
)
from kgkit.store.rows import last_of_each

UPDATE_ROWS = 100_000  # rows an update statement
STORED_ROWS = 1_500_000  # stored relationships that what comes is compared with at a time


def new_edges(
    engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints
) -> tuple[pa.Table, int]:
    """Those that are not stored, in the order of their heads; updates the others that differ, and counts them.

    source, target: the engine's offsets of their ends, int64 [E] each. Of facts, the table has the column rid.
    """
    compare = _Comparison(engine, kind, table, source, target)
    held = engine.rows(f"MATCH {pattern(kind)} RETURN count(*)")[0][0]
    if held <= STORED_ROWS:
        compare.with_stored(np.arange(len(source)), [])
    else:
        engine.make_room()
        compare.with_ranges(2 + held // STORED_ROWS)
    compare.heads.add(source)
    engine.heads[kind.type] = compare.heads
    return pa.concat_tables(compare.new), compare.matched


class _Comparison:
    """What comes, and what of it is `new`, or was there (`matched` counts these)."""

    def __init__(self, engine: Engine, kind: EdgeKind, table: pa.Table, source: Ints, target: Ints) -> None:
        self._engine, self._kind, self._table = engine, kind, table
        self._source, self._target = source, target
        self.new: list[pa.Table] = []
        self.matched = 0
        known = engine.heads.get(kind.type)
        self._complete = known is not None  # otherwise whatever is read is added
        self.heads = known or KnownHeads()
        self._properties = [c for c in table.column_names if c not in ("head", "tail", "rid", *kind.key)]
        # Of facts, whose keys are three numbers, texts are read only when one comes again and may differ.
        self._numbers = kind.type == "FACT"
        self._keys = ("rid",) if self._numbers else kind.key
        self._never_null = self._numbers and not some_without_rid(engine)

    def with_ranges(self, parts: int) -> None:
        """Compares all rows, a range of heads at a time."""
        end = int(self._source.max()) + 1
        ranges: list[tuple[int, int | None]] = list(pairwise(np.linspace(0, end, parts).astype(int).tolist()))
        asked = np.ones(len(self._source), dtype=bool)
        if self._complete:
            asked = self.heads.may(self._source)
            if not asked.all():
                self._are_new(np.flatnonzero(~asked))
        else:
            ranges.append((end, None))
        for low, high in ranges:
            among = within("a", low, high)
            rows = np.flatnonzero(
                (self._source >= low) & (self._source < (end if high is None else high)) & asked
            )
            let_go()  # of the last one
            if len(rows):
                self.with_stored(rows, among)
            elif not self._complete:
                self._stored(self._keys, among)

    def with_stored(self, rows: Ints, among: Sequence[str]) -> None:
        """Compares some rows, int64 [N], with what is stored of the heads that are theirs, of conditions `among`."""
        self._compare(rows, among, self._stored(self._first_read(), among))

    def _first_read(self) -> Sequence[str]:
        return self._keys if self._numbers else (*self._keys, *self._properties)

    def _are_new(self, rows: Ints) -> None:
        none = {"head": pa.array([], pa.int64()), "tail": pa.array([], pa.int64())}
        for name in self._first_read():
            none[name] = pa.array([], pa.int64() if name == "rid" else pa.string())
        self._compare(rows, [], pa.table(none))

    def _compare(self, taken: Ints, among: Sequence[str], stored: pa.Table) -> None:
        table, source, target = self._table.take(pa.array(taken)), self._source[taken], self._target[taken]
        rows, stored_row = _matched(table, source, target, stored, self._keys)
        there = stored_row >= 0
        new, matched = rows[~there], int(there.sum())
        if matched and self._properties:
            if self._numbers:
                other, values = _other_than(table.select(self._properties))
                stored = self._stored((*self._keys, *self._properties), [*among, *other], values)
                if stored.num_rows:
                    rows, stored_row = _matched(table, source, target, stored, self._keys)
                    there = stored_row >= 0
            if stored.num_rows:
                stored = stored.select(self._properties)
                _update_edges(self._engine, self._kind, table, stored, rows[there], stored_row[there])
        # Beside each other, as the engine keeps them: a quarter faster.
        order = np.argsort(source[new], kind="stable")
        self.new.append(table.take(pa.array(new[order])))
        self.matched += matched

    def _stored(
        self, properties: Sequence[str], among: Sequence[str], values: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """Stored relationships, those of some conditions: offsets of their ends (columns head, tail) and properties."""
        returned = ["offset(id(a))", "offset(id(b))", *(f"r.{identifier(p)}" for p in properties)]
        found = self._engine.arrow(
            f"MATCH {pattern(self._kind)}{where(*among)} RETURN {', '.join(returned)}",
            values,
            never_null=self._never_null and list(properties) == ["rid"],
        ).rename_columns(["head", "tail", *properties])
        if not self._complete:
            self.heads.add(np.asarray(found["head"], dtype=np.int64))
        return found


def _other_than(columns: pa.Table) -> tuple[list[str], dict[str, Any]]:
    """The condition that a stored relationship `r` may differ from rows whose columns have one value each, and its
    parameters; none where a column has more."""
    parts, values = [], {}
    for at, name in enumerate(columns.column_names):
        given = pc.unique(columns[name].unify_dictionaries().combine_chunks()).drop_null()
        if len(given) != 1:
            return [], {}
        parts.append(f"r.{identifier(name)} IS NULL OR r.{identifier(name)} <> $v{at}")
        values[f"v{at}"] = given[0].as_py()
    return [f"({' OR '.join(parts)})"], values


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


def plain_ends(table: pa.Table) -> pa.Table:
    """The same with ids as texts."""
    return plain(table, ("head", "tail"))


def plain(table: pa.Table, names: Sequence[str]) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if name in names and pa.types.is_dictionary(table[name].type):
            table = table.set_column(at, name, table[name].cast(pa.string()))
    return table


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
                {"t": positional(part.slice(start, UPDATE_ROWS))},
            )
