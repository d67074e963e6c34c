"""Mediator nodes (compound value types, such as a film's performance) collapsed into one edge between what they join.

A node m of a mediator type with the edges a -p1-> m and m -p2-> b, a other than b, becomes a -`p1..p2`-> b, as FB15k
has it: `film.film.starring..film.performance.actor`. A mediator that nothing points to joins each pair of its targets
once, from the target of the predicate that comes first in the alphabet. Nothing is held in memory but a part at a
time: facts go through `kgkit.spill` three times, by head, by tail and by mediator.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.records import Skipped
from kgkit.spill import SpillFolder

JOINT = ".."  # between the two predicates
MOST_PAIRS = 10_000  # that one mediator may join
BETWEEN = "facts between two mediators"
ALONE = "facts of mediators that join no two entities"
HUBS = f"facts of mediators that would join more than {MOST_PAIRS:,} pairs"

Part = tuple[int, pa.Table]


class Mediators:
    """Takes facts and types of nodes, gives the facts with the nodes of mediator types collapsed."""

    def __init__(self, folder: SpillFolder) -> None:
        self._folder = folder
        self._facts, self._nodes = folder.spill("head"), folder.spill("node")

    def add_facts(self, table: pa.Table) -> None:
        """Columns head, relation, tail."""
        self._facts.add(table)

    def add_types(self, table: pa.Table) -> None:
        """Columns node, type: any types, because which of them are mediators' may be known last."""
        self._nodes.add(table)

    def collapsed(self, types: set[str]) -> Iterator[pa.Table | Skipped]:
        """Yields tables of head, relation, tail, and counts what `types` of mediators leave out."""
        wanted = pa.array(sorted(types), pa.string())
        mediators = self._folder.spill("node")
        for _, nodes in self._nodes.parts():
            mediators.add(nodes.filter(pc.is_in(nodes["type"], wanted)).select(["node"]))
        flagged = self._folder.spill("tail")
        for facts, nodes in _beside(self._facts.parts(), mediators.parts(keep=True)):
            if facts is not None:
                flagged.add(facts.append_column("inner", pa.array(_among(facts["head"], nodes))))
        inward, outward = self._folder.spill("tail"), self._folder.spill("head")
        for facts, nodes in _beside(flagged.parts(), mediators.parts()):
            if facts is None:
                continue
            tail = _among(facts["tail"], nodes)
            head = facts["inner"].to_numpy()
            facts = facts.drop_columns(["inner"])
            if plain := int(np.count_nonzero(~head & ~tail)):
                yield facts.filter(pa.array(~head & ~tail)) if plain < facts.num_rows else facts
            if between := int(np.count_nonzero(head & tail)):
                yield Skipped(between, BETWEEN)
            outward.add(facts.filter(pa.array(head & ~tail)))
            inward.add(facts.filter(pa.array(~head & tail)))
        for found in _beside(outward.parts(), inward.parts()):
            yield from _joined(*found)


def _among(ids: pa.ChunkedArray, nodes: pa.Table | None) -> Bools:
    if nodes is None:
        return np.zeros(len(ids), bool)
    found: Bools = pc.is_in(ids, nodes["node"].combine_chunks()).to_numpy()
    return found


def _beside(left: Iterator[Part], right: Iterator[Part]) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
    """Parts of equal number together; both come in rising order."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        number = min(p[0] for p in (a, b) if p is not None)
        here = a is not None and a[0] == number, b is not None and b[0] == number
        yield a[1] if a and here[0] else None, b[1] if b and here[1] else None
        a = next(left, None) if here[0] else a
        b = next(right, None) if here[1] else b


def _joined(outward: pa.Table | None, inward: pa.Table | None) -> Iterator[pa.Table | Skipped]:
    """The facts that the mediators of a part make: edges from them and edges to them."""
    empty = pa.table({c: pa.array([], pa.string()) for c in ("head", "relation", "tail")})
    outward = empty if outward is None else outward
    inward = empty if inward is None else inward
    total = outward.num_rows + inward.num_rows
    out = _numbered(outward, ["m", "p2", "b", "out_row"])
    into = _numbered(inward, ["a", "p1", "m", "in_row"])
    pointed = pc.is_in(out["m"], into["m"].combine_chunks())
    hubs = _hubs(out, into)
    out_kept, into = (t.filter(pc.invert(pc.is_in(t["m"], hubs))) for t in (out, into))
    in_hubs = total - out_kept.num_rows - into.num_rows
    lone = out.filter(pc.invert(pointed))
    lone = lone.filter(pc.invert(pc.is_in(lone["m"], hubs)))
    pairs = into.join(out_kept, "m", join_type="inner")
    pairs = pairs.filter(pc.not_equal(pairs["a"], pairs["b"]))
    twice = lone.join(lone.rename_columns(["m", "p1", "a", "in_row"]), "m", join_type="inner")
    order = pc.or_(
        pc.less(twice["p1"], twice["p2"]),
        pc.and_(pc.equal(twice["p1"], twice["p2"]), pc.less(twice["a"], twice["b"])),
    )
    twice = twice.filter(pc.and_(order, pc.not_equal(twice["a"], twice["b"])))
    used = len(pairs["in_row"].unique()) + len(pairs["out_row"].unique())
    used += len(pa.chunked_array(chain(twice["in_row"].chunks, twice["out_row"].chunks), pa.int64()).unique())
    for table in (pairs, twice):
        if table.num_rows:
            relation = pc.binary_join_element_wise(table["p1"], table["p2"], JOINT)
            yield pa.table({"head": table["a"], "relation": relation, "tail": table["b"]})
    if in_hubs:
        yield Skipped(in_hubs, HUBS)
    if alone := total - in_hubs - used:
        yield Skipped(alone, ALONE)


def _numbered(table: pa.Table, names: list[str]) -> pa.Table:
    return table.append_column("row", pa.array(np.arange(table.num_rows))).rename_columns(names)


def _hubs(out: pa.Table, into: pa.Table) -> pa.Array:
    """Mediators whose edges would multiply to too many facts."""
    outs = out.group_by("m").aggregate([([], "count_all")]).rename_columns(["m", "outs"])
    ins = into.group_by("m").aggregate([([], "count_all")]).rename_columns(["m", "ins"])
    both = outs.join(ins, "m", join_type="left outer")
    squared = pc.divide(pc.multiply(both["outs"], both["outs"]), 2)
    pairs = pc.coalesce(pc.multiply(both["outs"], both["ins"]), squared)
    return both.filter(pc.greater(pairs, MOST_PAIRS))["m"].combine_chunks()
