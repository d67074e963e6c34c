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
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit import disk
from kgkit.arrays import Array, Bools, Ints
from kgkit.schema import EDGES
from kgkit.store import ladybug_write
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_known import ids_and_offsets
from kgkit.store.port import NodeIndex, WriteStats
from kgkit.store.rows import last_of_each

_FACT = EDGES["FACT"]
_PLAIN = {"head", "tail", "relation", "source"}
# A fact as one number: the engine's offsets of head and tail, and the relation's rid.
_NODE_BITS, _RELATION_BITS = 25, 13
_RECORD = np.dtype([("fact", "<i8"), ("source", "<u2")])  # source 0: none
BLOCK_ROWS = 1_000_000  # that are moved for a fact that comes between them
READ_ROWS = 1_000_000  # rows a table that read_edges gives
MOST = 10_000_000  # facts that wait, at 10 bytes each; more go into the engine, which then fills a table for every million


class _Block(NamedTuple):
    """Facts, int64 [N] sorted and distinct, and the codes of their sources, uint16 [N]."""

    facts: Ints
    source: Array

    def places(self, facts: Ints) -> tuple[Ints, Bools]:
        """Where others are, or would be, int64 [M], and whether they are there, bool [M]."""
        at = np.searchsorted(self.facts, facts)
        if len(self.facts) == 0:
            return at, np.zeros(len(facts), dtype=bool)
        there: Bools = self.facts[np.minimum(at, len(self.facts) - 1)] == facts
        return at, there

    def parts(self, most: int) -> Iterator[_Block]:
        """The same in parts of one size, of `most` rows at most; nothing of none."""
        n = len(self.facts)
        cuts = np.linspace(0, n, 1 - (-n // most)).astype(np.int64).tolist()
        return (_Block(self.facts[low:high], self.source[low:high]) for low, high in pairwise(cuts))

    def copy(self) -> _Block:
        """Arrays of its own."""
        return _Block(self.facts.copy(), self.source.copy())

    def columns(self) -> tuple[Ints, Ints, Ints, Array]:
        """Offsets of heads and tails, rids, codes of sources."""
        tails = (self.facts >> _RELATION_BITS) & ((1 << _NODE_BITS) - 1)
        heads, rids = self.facts >> (_NODE_BITS + _RELATION_BITS), self.facts & ((1 << _RELATION_BITS) - 1)
        return heads, tails, rids, self.source


class WaitingFacts:
    """Facts in memory, sorted, and in an append-only file, of which a kill may cut off the last record.

    They are held in blocks of at most `most` rows, in order, of which one at a time is written anew for what comes.
    """

    def __init__(self, path: Path, most: int = BLOCK_ROWS) -> None:
        self._path, self._names, self._most = path, path.with_name(path.name + ".sources"), most
        lines = self._names.read_text(encoding="utf-8").splitlines() if self._names.exists() else []
        self.sources: list[str | None] = [None, *(json.loads(line) for line in lines)]
        self._blocks: list[_Block] = []
        size = path.stat().st_size if path.exists() else 0
        whole = size - size % _RECORD.itemsize
        if whole < size:
            os.truncate(path, whole)
        for at in range(0, whole, most * _RECORD.itemsize):
            held = np.fromfile(path, _RECORD, most, offset=at)
            rows, facts = last_of_each(held["fact"].astype(np.int64))
            self._take(_Block(facts, held["source"][rows]))

    def __len__(self) -> int:
        return sum(len(block.facts) for block in self._blocks)

    def code(self, name: str | None) -> int:
        """The number of a source's name, which is kept before any fact of it."""
        if name not in self.sources:
            with disk.writing(self._names), self._names.open("a", encoding="utf-8") as file:
                file.write(json.dumps(name) + "\n")
            self.sources.append(name)
        return self.sources.index(name)

    def add(self, facts: Ints, source: Array) -> int:
        """Takes facts, int64 [N] sorted and distinct, with their sources' codes; returns how many are new."""
        untold = [np.zeros(0, dtype=bool)]
        for block, given in self._by_block(_Block(facts, source)):
            at, there = block.places(given.facts)
            codes = given.source[there]
            there[there] = (codes == 0) | (codes == block.source[at[there]])
            untold.append(~there)
        new = np.flatnonzero(np.concatenate(untold))
        record = np.zeros(len(new), _RECORD)
        record["fact"], record["source"] = facts[new], source[new]
        with disk.writing(self._path), self._path.open("ab") as file:
            file.write(record.tobytes())
            file.flush()
            os.fsync(file.fileno())
        return self._take(_Block(facts[new], source[new]))

    def _by_block(self, given: _Block) -> list[tuple[_Block, _Block]]:
        """Each block, and what of `given` belongs there."""
        blocks = self._blocks or [_Block(given.facts[:0], given.source[:0])]
        first = np.array([block.facts[0] for block in blocks[1:]], dtype=np.int64)
        cuts = [0, *np.searchsorted(given.facts, first).tolist(), len(given.facts)]
        parts = (_Block(given.facts[low:high], given.source[low:high]) for low, high in pairwise(cuts))
        return list(zip(blocks, parts, strict=True))

    def _take(self, taken: _Block) -> int:
        """Puts facts among the others, or their sources in the place of what these had; returns how many are new."""
        blocks: list[_Block] = []
        new = 0
        for block, given in self._by_block(taken):
            at, there = block.places(given.facts)
            block.source[at[there]] = given.source[there]
            if not there.all():
                new += int((~there).sum())
                facts = np.insert(block.facts, at[~there], given.facts[~there])
                block = _Block(facts, np.insert(block.source, at[~there], given.source[~there]))
            # A part of a block, unlike a block, would keep all of it in memory.
            whole = len(block.facts) <= self._most
            blocks += block.parts(self._most) if whole else map(_Block.copy, block.parts(self._most))
        self._blocks = blocks
        return new

    def parts(self, rows: int) -> Iterator[tuple[Ints, Ints, Ints, Array]]:
        """Offsets of heads and tails, rids, codes of sources, of all facts in the order of the heads, some at a time."""
        for block in self._blocks:
            yield from (part.columns() for part in block.parts(rows))

    def drain(self) -> Iterator[tuple[Ints, Ints, Ints, Array]]:
        """The same from the end on, a block at a time, which is out of memory once the next one is asked for."""
        while self._blocks:
            yield self._blocks[-1].columns()
            self._blocks.pop()

    def clear(self) -> None:
        """Forgets all facts."""
        self._path.unlink(missing_ok=True)
        self._blocks = []


@dataclass(frozen=True)
class _Names:
    """What numbers mean. ids: string, of nodes, None where these go by numbers; row: int32, of an offset in `ids`;
    relations: string, by rid."""

    row: Array
    ids: pa.Array | None
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
            for part in self._waiting.drain():
                table = pa.table(self._table(part, names))
                ladybug_write.merge_edges(engine, _FACT, table, part[0], part[1])
                del table
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
        """Facts with known ends, among those that wait; None when these are too many, or cannot be told in one number."""
        if table.num_rows == 0:
            return WriteStats()
        rids = ladybug_write.relation_codes(engine, table["relation"].combine_chunks())
        if max(source.max(), target.max()) >= 1 << _NODE_BITS or rids.max() >= 1 << _RELATION_BITS:
            return None
        if len(self._waiting) + table.num_rows > MOST:
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

    def _nodes(
        self,
        label: str,
        properties: Sequence[str] | None = None,
        having: str | None = None,
        *,
        numbered: bool = False,
    ) -> Iterator[pa.Table]:
        return self._aside(super()._nodes(label, properties, having, numbered=numbered))

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

    def _edges(
        self, kind: str, properties: Sequence[str] | None = None, *, numbered: bool = False
    ) -> Iterator[pa.Table]:
        """As of every embedded graph; texts that repeat, ids included, come as dictionaries."""
        names = self.edge_properties(kind) if properties is None else list(properties)
        if kind == "FACT" and self._holds() and set(names) <= _PLAIN:
            with self._facts_aside():
                known = self._names(self._engine, ids=not numbered)
            for part in self._waiting.parts(READ_ROWS):
                columns = self._table(part, known)
                yield pa.table({name: columns[name] for name in ("head", "tail", *names)})
            return
        tables = super()._edges(kind, names, numbered=numbered)
        yield from tables if kind == "FACT" else self._aside(tables)

    def counts(self) -> dict[str, int]:
        if not self._holds():
            return super().counts()
        with self._facts_aside():
            return super().counts() | {"FACT": len(self._waiting)}

    def stats(self) -> dict[str, Any]:
        if not self._holds():
            return super().stats()
        with self._facts_aside():
            found = super().stats()
            relations = _relations(self._engine)
        counts = np.zeros(len(relations), dtype=np.int64)
        for _, _, rids, _ in self._waiting.parts(READ_ROWS):
            counts += np.bincount(rids, minlength=len(relations))
        found["relationships"]["FACT"] = len(self._waiting)
        found["relations"] = {
            name: n for name, n in sorted(zip(relations, counts.tolist(), strict=True)) if n
        }
        return found

    def _names(self, engine: Engine, *, ids: bool = True) -> _Names:
        """`ids`: those of nodes, too."""
        relations = pa.array(_relations(engine), pa.string())
        if not ids:
            return _Names(np.zeros(0, dtype=np.int32), None, relations)
        texts, offsets = [pa.array([], pa.string())], [np.zeros(0, dtype=np.int64)]
        for found in ids_and_offsets(engine, "Entity"):
            texts += found.column(0).chunks
            offsets.append(np.asarray(found.column(1), dtype=np.int64))
        at = np.concatenate(offsets)
        row = np.zeros(1 + int(at.max(initial=-1)), dtype=np.int32)
        row[at] = np.arange(len(at))
        return _Names(row, pa.concat_arrays(texts), relations)

    def _table(self, part: tuple[Ints, Ints, Ints, Array], names: _Names) -> dict[str, pa.Array]:
        """Columns head, tail, relation, source of some waiting facts, as dictionaries; ends without names as numbers."""
        heads, tails, rids, codes = part
        sources = pa.array([name or "" for name in self._waiting.sources])
        of = pa.DictionaryArray.from_arrays
        columns = {
            "relation": of(pa.array(rids.astype(np.int32)), names.relations),
            "source": of(pa.array(codes.astype(np.int32), mask=codes == 0), sources),
        }
        for name, ends in (("head", heads), ("tail", tails)):
            columns[name] = pa.array(ends) if names.ids is None else of(pa.array(names.row[ends]), names.ids)
        return columns


def _relations(engine: Engine) -> list[str]:
    """Names of relations by rid, "" for a rid that none has."""
    found = engine.rows("MATCH (r:Relation) WHERE r.rid IS NOT NULL RETURN r.rid, r.`id`")
    registered = {int(rid): name for rid, name in found}
    return [registered.get(rid, "") for rid in range(1 + max(registered, default=-1))]
