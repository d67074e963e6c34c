"""What the items and the entities of an alignment say of themselves, each side apart, for `kgkit.align.audit`.

Both stand in one node, so that a property does not tell whose it is. One that also stands at entities that are no items
is the entities'; a fact of an item's attribute (`ingest features --entities`) has the end `<relation>:<value>`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.align.normalise import key, people, split_year, year_of
from kgkit.items import is_stub
from kgkit.names import COLUMNS, Names

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore, NodeIndex

SAMPLE = 5_000  # aligned items that are looked at
_LONGEST = 200  # characters of a text that is a value and no description
_PARTS = re.compile(r"[\s|;,/]+")
_DATE = re.compile(r"\d{4}(\.0)?(-\d\d(-\d\d.*)?)?")
_REVERSED = " (reversed)"


@dataclass(frozen=True)
class Said:
    """One side of a pair. values: (attribute or relation, value or other end), for counting; words: names and years in
    normal form, of an item with the attribute, of an entity alone."""

    values: frozenset[tuple[str, str]]
    words: frozenset[Any]


@dataclass(frozen=True)
class Sides:
    """aligned: how many items an alignment names. items, entities: row by row; names: of the facts' other ends."""

    aligned: int
    items: list[Said]
    entities: list[Said]
    names: Mapping[str, str]


def read_sides(store: GraphStore, entities: NodeIndex | None = None, seed: int = 1) -> Sides:
    """Both sides of at most SAMPLE aligned items, drawn by the seed."""
    nodes = [_plain(t) for t in store.read_nodes("Entity", having="item_id")]
    if not nodes:
        return Sides(0, [], [], {})
    found = pa.concat_tables(nodes, promote_options="permissive").combine_chunks()
    found = found.filter(pc.invert(is_stub(found))).sort_by("id")
    aligned = found.num_rows
    if aligned > SAMPLE:
        chosen = np.random.default_rng(seed).choice(aligned, SAMPLE, replace=False)
        found = found.take(pa.array(np.sort(chosen)))
    index = entities if entities is not None else store.node_index("Entity")
    own = [c for c in found.column_names if c not in ("id", "item_id", *COLUMNS) and _of_items(store, c)]
    facts = _facts(store, index, found["id"].combine_chunks())
    ends = pa.array(sorted({end for told in facts.values() for _, end in told}), pa.string())
    names = _names(store, ends)
    theirs = {r for r in {r for told in facts.values() for r, _ in told} if _is_attribute(store, r, facts)}
    items, others = [], []
    for row in found.select(["id", *COLUMNS, *own]).to_pylist():
        told = facts.get(row["id"], frozenset())
        mine = frozenset((r, end) for r, end in told if r in theirs)
        called = Names(*(row[c] for c in COLUMNS))
        items.append(_item(row, own, called, mine))
        others.append(_entity(called, told - mine, names))
    return Sides(aligned, items, others, names)


def _plain(table: pa.Table) -> pa.Table:
    """Without vectors."""
    keep = [f.name for f in table.schema if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)]
    return table.select(keep)


def _of_items(store: GraphStore, prop: str) -> bool:
    """No entity that is not an item has it."""
    return all(t["item_id"].null_count == 0 for t in store.read_nodes("Entity", ["item_id"], having=prop))


def _is_attribute(store: GraphStore, relation: str, facts: Mapping[str, frozenset[tuple[str, str]]]) -> bool:
    ends = [end for told in facts.values() for r, end in told if r == relation]
    return not relation.endswith(_REVERSED) and all(end.startswith(f"{relation}:") for end in ends)


def _facts(store: GraphStore, index: NodeIndex, ids: pa.Array) -> dict[str, frozenset[tuple[str, str]]]:
    """(relation, other end) by the item's node, in both directions."""
    relations = {
        rid: name
        for table in store.read_nodes("Relation", ["rid"])
        for name, rid in zip(table["id"].to_pylist(), table["rid"].to_pylist(), strict=True)
    }
    seeds = np.asarray(pc.drop_null(pc.index_in(ids, value_set=index.ids)), dtype=np.int64)
    around = store.facts_around(seeds, 1, index)
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    wanted = np.zeros(len(index), dtype=bool)
    wanted[seeds] = True
    for here, there, mark in ((around.source, around.target, ""), (around.target, around.source, _REVERSED)):
        rows = np.flatnonzero(wanted[here] & (here != there))
        told = zip(
            index.ids.take(pa.array(here[rows])).to_pylist(),
            around.columns["rid"][rows].tolist(),
            index.ids.take(pa.array(there[rows])).to_pylist(),
            strict=True,
        )
        for node, rid, end in told:
            if rid in relations:
                found[node].add((relations[rid] + mark, end))
    return {node: frozenset(told) for node, told in found.items()}


def _names(store: GraphStore, ends: pa.Array) -> dict[str, str]:
    found: dict[str, str] = {}
    for table in store.read_nodes("Entity", list(COLUMNS)):
        kept = table.filter(pc.is_in(table["id"], value_set=ends))
        for row in kept.to_pylist():
            if own := Names(*(row[c] for c in COLUMNS)).own:
                found[row["id"]] = own
    return found


def _item(row: Mapping[str, Any], own: list[str], names: Names, mine: frozenset[tuple[str, str]]) -> Said:
    values, words = set(mine), set[tuple[str, str]]()
    for prop in own:
        for text in _texts(row[prop]):
            values.add((prop, text.casefold()))
            words |= {(prop, word) for word in _words(text)}
            if not isinstance(row[prop], (int, float)):
                parts = [part for part in _PARTS.split(text) if part]
                values |= {(prop, part.casefold()) for part in parts}
                words |= {(prop, word) for part in parts for word in _words(part)}
    words |= {(r, word) for r, end in mine for word in _words(end.removeprefix(f"{r}:"))}
    if names.title:
        words.add(("name", key(split_year(names.title)[0])))
    return Said(frozenset(values), frozenset(words))


def _entity(names: Names, told: frozenset[tuple[str, str]], known: Mapping[str, str]) -> Said:
    words: set[str] = set()
    for _, end in told:
        text = known.get(end) or end.rsplit("/", 1)[-1].replace("_", " ")
        words |= set(_words(text))
    if names.own:
        words.add(key(split_year(names.own)[0]))
    return Said(told, frozenset(words))


def _texts(value: Any) -> Iterator[str]:
    if value is None or value == "":
        return
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if len(text) <= _LONGEST:
        yield text


def _words(text: str) -> Iterator[str]:
    """A text in normal form, its people, and its year where it is a date."""
    if _DATE.fullmatch(text):
        yield f"year {year_of(text)}"
        return
    if len(text) <= _LONGEST:
        yield key(text)
        yield from people(text)
