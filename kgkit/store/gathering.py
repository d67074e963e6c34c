"""An embedded graph that is filled only to be read once, whole: what a bulk load gathers (`kgkit.bulk`).

Every append to a large relationship table makes the embedded engine rewrite most of it: a million facts take 2 s of an
empty table and 20 s of one that holds nine million. So here facts wait beside the engine, as sorted numbers that are
compared with what comes in a fraction of a second, and `read_edges` reads them from there. Whatever else asks for facts
(an alignment that moves them, labels, people's Cypher) first puts them into the engine, and from then on the graph is a
LadybugStore like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Array, Ints
from kgkit.schema import EDGES
from kgkit.store import ladybug_write
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_engine import Engine
from kgkit.store.port import NodeIndex, WriteStats
from kgkit.store.rows import last_of_each

_FACT = EDGES["FACT"]
_PLAIN = {"head", "tail", "relation", "source"}
# A fact as one number: the engine's offsets of head and tail, and the relation's rid.
_NODE_BITS, _RELATION_BITS = 25, 13
_RECORD = np.dtype([("fact", "<i8"), ("source", "<u2")])  # source 0: none
READ_ROWS = 1_000_000  # rows a table that read_edges gives


class WaitingFacts:
    """Facts in memory, sorted, and in an append-only file, of which a kill may cut off the last record."""

    def __init__(self, path: Path) -> None:
        self._path, self._names = path, path.with_name(path.name + ".sources")
        lines = self._names.read_text(encoding="utf-8").splitlines() if self._names.exists() else []
        self.sources: list[str | None] = [None, *(json.loads(line) for line in lines)]
        size = path.stat().st_size if path.exists() else 0
        held = np.fromfile(path, _RECORD, size // _RECORD.itemsize) if size else np.zeros(0, _RECORD)
        if size % _RECORD.itemsize:
            os.truncate(path, held.nbytes)
        rows, self.facts = last_of_each(held["fact"].astype(np.int64))
        self.source: Array = held["source"][rows]

    def __len__(self) -> int:
        return len(self.facts)

    def code(self, name: str | None) -> int:
        """The number of a source's name, which is kept before any fact of it."""
        if name not in self.sources:
            with self._names.open("a", encoding="utf-8") as file:
                file.write(json.dumps(name) + "\n")
            self.sources.append(name)
        return self.sources.index(name)

    def add(self, facts: Ints, source: Array) -> int:
        """Takes facts, int64 [N] sorted and distinct, with their sources' codes; returns how many are new."""
        if len(facts) == 0:
            return 0
        at = np.searchsorted(self.facts, facts)
        there = np.zeros(len(facts), dtype=bool)
        if len(self.facts):
            there = self.facts[np.minimum(at, len(self.facts) - 1)] == facts
        changed = np.flatnonzero(there)
        changed = changed[(source[changed] != 0) & (source[changed] != self.source[at[changed]])]
        told = np.concatenate([np.flatnonzero(~there), changed])
        record = np.zeros(len(told), _RECORD)
        record["fact"], record["source"] = facts[told], source[told]
        with self._path.open("ab") as file:
            file.write(record.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.source[at[changed]] = source[changed]
        self.source = np.insert(self.source, at[~there], source[~there])
        self.facts = np.insert(self.facts, at[~there], facts[~there])
        return int((~there).sum())

    def columns(self, rows: slice) -> tuple[Ints, Ints, Ints, Array]:
        """Offsets of heads, tails, rids and codes of sources, of some rows in the order of the heads."""
        facts = self.facts[rows]
        tails = (facts >> _RELATION_BITS) & ((1 << _NODE_BITS) - 1)
        heads, rids = facts >> (_NODE_BITS + _RELATION_BITS), facts & ((1 << _RELATION_BITS) - 1)
        return heads, tails, rids, self.source[rows]

    def clear(self) -> None:
        """Forgets all facts."""
        self._path.unlink(missing_ok=True)
        self.facts, self.source = self.facts[:0], self.source[:0]


@dataclass(frozen=True)
class _Names:
    """What numbers mean. row: int32, of an offset in `ids`; ids: string; relations: string, by rid."""

    row: Array
    ids: pa.Array
    relations: pa.Array


class GatheringStore(LadybugStore):
    """A LadybugStore whose facts wait in a file beside it until somebody asks for more than all of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting = WaitingFacts(path.with_name(path.name + ".facts"))
        self._beside = 0  # calls under way that are of no concern to the facts
        with self._facts_aside():
            # Facts in the engine: they were put there, now or by a process that was killed while it did so.
            self._settled = bool(super()._engine.rows("MATCH (:Entity)-[r:FACT]->(:Entity) RETURN 1 LIMIT 1"))

    @property
    def _engine(self) -> Engine:
        engine = super()._engine
        if not self._beside and len(self._waiting):
            self._settle(engine)
        return engine

    @contextlib.contextmanager
    def _facts_aside(self) -> Iterator[None]:
        self._beside += 1
        try:
            yield
        finally:
            self._beside -= 1

    def _holds(self) -> bool:
        """Whether facts wait, and the engine has none."""
        return not self._settled and len(self._waiting) > 0

    def _settle(self, engine: Engine) -> None:
        """Puts the facts into the engine. Killed, it is done again: what the engine has is not added twice."""
        self._settled = True
        with self._facts_aside(), engine.exclusive():
            names = self._names(engine)
            for start in range(0, len(self._waiting), 4 * READ_ROWS):
                rows = slice(start, start + 4 * READ_ROWS)
                heads, tails, _, _ = self._waiting.columns(rows)
                columns = self._table(rows, names)
                ladybug_write.merge_edges(engine, _FACT, pa.table(columns), heads, tails)
        self._waiting.clear()

    # -- in ------------------------------------------------------------------------------------------------------
    def ensure_schema(self) -> None:
        with self._facts_aside():
            super().ensure_schema()

    def upsert_nodes(self, label: str, table: pa.Table) -> WriteStats:
        with self._facts_aside():
            return super().upsert_nodes(label, table)

    def upsert_edges(self, kind: str, table: pa.Table, *, missing: str = "error") -> WriteStats:
        if kind != "FACT":
            with self._facts_aside():
                return super().upsert_edges(kind, table, missing=missing)
        if self._settled or not set(table.column_names) <= _PLAIN:
            return super().upsert_edges(kind, table, missing=missing)
        with self._facts_aside():
            engine = self._writer
            with engine.exclusive():
                found = ladybug_write.resolved(engine, kind, table, missing)
                added = self._wait(engine, *found[:3])
        return super().upsert_edges(kind, table, missing=missing) if added is None else added + found[3]

    def _wait(self, engine: Engine, table: pa.Table, source: Ints, target: Ints) -> WriteStats | None:
        """Facts with known ends, among those that wait; None when they are too many to be told in one number."""
        if table.num_rows == 0:
            return WriteStats()
        rids = ladybug_write.relation_codes(engine, table["relation"].combine_chunks())
        if max(source.max(), target.max()) >= 1 << _NODE_BITS or rids.max() >= 1 << _RELATION_BITS:
            return None
        codes = np.zeros(table.num_rows, dtype=np.uint16)
        if "source" in table.column_names:
            names = table["source"].combine_chunks().dictionary_encode()
            known = np.array([self._waiting.code(n) for n in names.dictionary.to_pylist()] + [0])
            if known.max() > np.iinfo(np.uint16).max:
                return None
            codes = known.astype(np.uint16)[np.asarray(pc.fill_null(names.indices, -1), dtype=np.int64)]
        rows, facts = last_of_each((((source << _NODE_BITS) | target) << _RELATION_BITS) | rids)
        new = self._waiting.add(facts, codes[rows])
        return WriteStats(created=new, matched=len(facts) - new)

    # -- out -----------------------------------------------------------------------------------------------------
    def node_index(self, label: str) -> NodeIndex:
        with self._facts_aside():
            return super().node_index(label)

    def read_nodes(
        self, label: str, properties: Sequence[str] | None = None, *, having: str | None = None
    ) -> Iterator[pa.Table]:
        with self._facts_aside():
            self._engine.make_room()
        yield from self._aside(super().read_nodes(label, properties, having=having))

    def _aside(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        while True:
            with self._facts_aside():
                table = next(tables, None)
            if table is None:
                return
            yield table

    def edge_properties(self, kind: str) -> list[str]:
        with self._facts_aside():
            held = super().edge_properties(kind)
        return held

    def read_edges(self, kind: str, properties: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """As of every store; texts that repeat, ids included, come as dictionaries."""
        names = self.edge_properties(kind) if properties is None else list(properties)
        if kind == "FACT" and self._holds() and set(names) <= _PLAIN:
            with self._facts_aside():
                known = self._names(self._engine)
            for start in range(0, len(self._waiting), READ_ROWS):
                columns = self._table(slice(start, start + READ_ROWS), known)
                yield pa.table({name: columns[name] for name in ("head", "tail", *names)})
            return
        tables = super().read_edges(kind, names)
        yield from tables if kind == "FACT" else self._aside(tables)

    def stats(self) -> dict[str, Any]:
        if not self._holds():
            return super().stats()
        with self._facts_aside():
            found = super().stats()
            relations = _relations(self._engine)
        counts = np.bincount(self._waiting.columns(slice(None))[2], minlength=len(relations)).tolist()
        found["relationships"]["FACT"] = len(self._waiting)
        found["relations"] = {name: n for name, n in sorted(zip(relations, counts, strict=True)) if n}
        return found

    def _names(self, engine: Engine) -> _Names:
        found = engine.arrow("MATCH (n:Entity) RETURN n.`id`, offset(id(n))", never_null=True)
        offsets = np.asarray(found.column(1), dtype=np.int64)
        row = np.zeros(1 + int(offsets.max(initial=-1)), dtype=np.int32)
        row[offsets] = np.arange(len(offsets))
        ids = pa.concat_arrays([pa.array([], pa.string()), *found.column(0).chunks])
        return _Names(row, ids, pa.array(_relations(engine), pa.string()))

    def _table(self, rows: slice, names: _Names) -> dict[str, pa.Array]:
        """Columns head, tail, relation, source of some waiting facts, as dictionaries."""
        heads, tails, rids, codes = self._waiting.columns(rows)
        sources = pa.array([name or "" for name in self._waiting.sources])
        of = pa.DictionaryArray.from_arrays
        return {
            "head": of(pa.array(names.row[heads]), names.ids),
            "tail": of(pa.array(names.row[tails]), names.ids),
            "relation": of(pa.array(rids.astype(np.int32)), names.relations),
            "source": of(pa.array(codes.astype(np.int32), mask=codes == 0), sources),
        }


def _relations(engine: Engine) -> list[str]:
    """Names of relations by rid, "" for a rid that none has."""
    found = engine.rows("MATCH (r:Relation) WHERE r.rid IS NOT NULL RETURN r.rid, r.`id`")
    registered = {int(rid): name for rid, name in found}
    return [registered.get(rid, "") for rid in range(1 + max(registered, default=-1))]
