"""The numbers of a graph that its report shows, read from a store by its bulk reading methods and counted in numpy.

Everything is plain Python (ints, floats, strings, lists, dataclasses), so that a report can be printed as JSON as
well. Memory: some ten int64 arrays as long as the facts, and the names of items; a sort over all facts is the most
that is done, so ten million facts take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.align.audit import Audit, audit
from kgkit.arrays import Bools, Ints
from kgkit.graph import distinct
from kgkit.report.relations import RelationFigures, RelationFinds, relation_figures
from kgkit.schema import ITEM_PREFIX
from kgkit.store.port import EdgeColumns, GraphStore, NodeIndex

EXAMPLES = 20  # how many of a kind are named
HOPS = 3


@dataclass(frozen=True)
class Distribution:
    """How many nodes have each degree. `degree` ascends and is above zero; `nodes` is as long; `zero` have none."""

    degree: list[int]
    nodes: list[int]
    zero: int
    mean: float
    median: float
    largest: int


@dataclass(frozen=True)
class Hop:
    """What a walk from the items meets. Entities met first at this hop and so far; facts so far, direction ignored."""

    hop: int
    new_entities: int
    entities: int
    facts: int


@dataclass(frozen=True)
class Coverage:
    """Alignment. A stub is an item that no alignment names; purchases are distinct pairs of user and item."""

    items: int
    with_entity: int
    stubs: int
    with_facts: int
    purchases: int
    purchases_with_entity: int
    purchases_with_facts: int


@dataclass(frozen=True)
class ItemExample:
    """An item by name, with how many users bought it."""

    id: str
    name: str
    users: int


@dataclass(frozen=True)
class SourceFigures:
    """One source as the graph remembers it."""

    id: str
    connector: str
    rows: int | None
    fingerprint: str


@dataclass(frozen=True)
class NameTwins:
    """Items whose names are equal but for case, accents and punctuation."""

    name: str
    items: list[ItemExample]


@dataclass(frozen=True)
class GraphFigures:
    """All that the report of a graph says. `counts` is what `kgkit stats` counts, in its words.

    Lists of examples are short (EXAMPLES at most); the number beside each says how many there are in all.
    """

    store: str
    counts: dict[str, dict[str, int]]
    relations: list[RelationFigures]
    finds: RelationFinds
    facts_out: Distribution
    facts_in: Distribution
    facts_any: Distribution
    items_per_user: Distribution
    users_per_item: Distribution
    coverage: Coverage
    hops: list[Hop]
    without_facts: int
    without_facts_examples: list[ItemExample]
    unnamed: int
    unnamed_examples: list[ItemExample]
    twins: int
    twin_examples: list[NameTwins]
    bought_without_item_id: int
    self_facts: int
    facts_without_relation: int
    sources: list[SourceFigures] = field(default_factory=list)
    audit: Audit | None = None


def graph_figures(store: GraphStore) -> GraphFigures:
    """Reads a graph once and counts. An empty graph gives zeros. Raises StoreError."""
    users, entities = store.node_index("User"), store.node_index("Entity")
    facts = store.edges("FACT", entities, entities, properties=("rid",))
    head, rid, tail, strangers = _facts(facts)
    user, item = _pairs(store.edges("PURCHASED", users, entities), len(entities))
    names = {
        r: name
        for table in store.read_nodes("Relation", ["rid"])
        for name, r in zip(table["id"].to_pylist(), table["rid"].to_pylist(), strict=True)
    }
    found, finds, wanted = relation_figures(head, rid, tail, len(entities), names, EXAMPLES)

    n = len(entities)
    items = _items(store, entities, wanted)
    bought = np.bincount(item, minlength=n)
    is_item = items.is_item | (bought > 0)
    is_stub = np.asarray(pc.starts_with(entities.ids, ITEM_PREFIX), dtype=bool) & is_item
    out, into = np.bincount(head, minlength=n), np.bincount(tail, minlength=n)
    loops = head == tail
    degree = out + into - np.bincount(head[loops], minlength=n)
    bare, nameless = is_item & (degree == 0), is_item & ~items.named
    examples = _Examples(entities, items, bought)
    twins, twin_examples = examples.twins()
    return GraphFigures(
        store=store.uri,
        counts={k: v for k, v in store.stats().items() if k != "relations"},
        relations=found,
        finds=finds.named(examples.label),
        facts_out=distribution(out),
        facts_in=distribution(into),
        facts_any=distribution(degree),
        items_per_user=distribution(np.bincount(user, minlength=len(users))),
        users_per_item=distribution(bought[is_item]),
        coverage=Coverage(
            items=int(is_item.sum()),
            with_entity=int((is_item & ~is_stub).sum()),
            stubs=int(is_stub.sum()),
            with_facts=int((is_item & ~bare).sum()),
            purchases=len(user),
            purchases_with_entity=int(bought[~is_stub].sum()),
            purchases_with_facts=int(bought[degree > 0].sum()),
        ),
        hops=hops_from(is_item, head, tail),
        without_facts=int(bare.sum()),
        without_facts_examples=examples.of(bare),
        unnamed=int(nameless.sum()),
        unnamed_examples=examples.of(nameless),
        twins=twins,
        twin_examples=twin_examples,
        bought_without_item_id=int(((bought > 0) & ~items.is_item).sum()),
        self_facts=int(loops.sum()),
        facts_without_relation=strangers,
        sources=_sources(store),
        audit=audit(store, entities),
    )


def distribution(degrees: Ints) -> Distribution:
    """degrees: int64 [N] -> how many of the N have each."""
    if len(degrees) == 0:
        return Distribution([], [], 0, 0.0, 0.0, 0)
    counts = np.bincount(degrees)
    present = np.flatnonzero(counts)
    present = present[present > 0]
    return Distribution(
        degree=present.tolist(),
        nodes=counts[present].tolist(),
        zero=int(counts[0]),
        mean=float(degrees.mean()),
        median=float(np.median(degrees)),
        largest=int(degrees.max()),
    )


def hops_from(seeds: Bools, head: Ints, tail: Ints, hops: int = HOPS) -> list[Hop]:
    """Breadth-first from the seeds (bool [N]) over facts (rows int64 [T]), direction ignored.

    Hop h counts what `kgkit train --hops h` extracts: facts of which an end lies within h - 1 steps. A sweep over all
    facts is a few reads a fact; an adjacency would have to be sorted first, and the items reach most of it anyway.
    """
    reached = seeds.copy()
    before = int(reached.sum())
    found = [Hop(0, before, before, 0)]
    for hop in range(1, hops + 1):
        touched = reached[head] | reached[tail]
        reached[head[touched]] = True
        reached[tail[touched]] = True
        now = int(reached.sum())
        found.append(Hop(hop, now - before, now, int(touched.sum())))
        before = now
    return found


def _facts(facts: EdgeColumns) -> tuple[Ints, Ints, Ints, int]:
    """head, rid, tail, and how many facts were left out because kgkit did not write them: they have no rid.

    (Where the engine cannot read such facts, `edges` has raised StoreError, which says what to do.)
    """
    rid = facts.columns["rid"]
    if np.issubdtype(rid.dtype, np.integer):
        return facts.source, rid, facts.target, 0
    known = ~np.isnan(rid.astype(np.float64))
    return facts.source[known], rid[known].astype(np.int64), facts.target[known], int((~known).sum())


def _pairs(bought: EdgeColumns, n: int) -> tuple[Ints, Ints]:
    """Distinct pairs of user and entity, whatever the number of sources that tell of one."""
    if len(bought.source) == 0:
        return bought.source, bought.target
    user, item = np.divmod(distinct(bought.source * n + bought.target), n)
    return user, item


@dataclass(frozen=True)
class _Items:
    """What Entity nodes say of items. is_item, named: bool [N]; rows: int64 [K] of the named items, keys their
    normalised names (string [K]); shown, names: the rows (int64, ascending) and names of these and of the other rows
    asked for."""

    is_item: Bools
    named: Bools
    rows: Ints
    keys: pa.Array
    shown: Ints
    names: pa.Array


def _items(store: GraphStore, entities: NodeIndex, wanted: Ints) -> _Items:
    others = entities.ids.take(pa.array(wanted))
    kept = []
    for table in store.read_nodes("Entity", ["item_id", "name"]):
        mask = pc.or_(pc.is_valid(table["item_id"]), pc.is_in(table["id"], value_set=others))
        kept.append(table.filter(mask))
    n = len(entities)
    if not sum(t.num_rows for t in kept):
        none, no_text = np.zeros(0, dtype=np.int64), pa.array([], pa.string())
        return _Items(np.zeros(n, bool), np.zeros(n, bool), none, no_text, none, no_text)
    found = pa.concat_tables(kept, promote_options="permissive").combine_chunks()
    # One look-up for all tables: pyarrow hashes the whole index at every call.
    at = np.asarray(pc.fill_null(pc.index_in(found["id"], value_set=entities.ids), -1), dtype=np.int64)
    name = pc.utf8_trim_whitespace(pc.fill_null(found["name"].cast(pa.string()), ""))
    has_name = np.asarray(pc.not_equal(name, ""), dtype=bool)
    known = at >= 0  # a node may have come since the index was read
    item = np.asarray(pc.is_valid(found["item_id"]), dtype=bool) & known
    is_item, named = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    is_item[at[item]] = True
    named[at[has_name & known]] = True
    both = item & has_name
    keys = normalised(name.filter(pa.array(both)).combine_chunks())
    shown = np.flatnonzero(has_name & known)
    shown = shown[np.argsort(at[shown])]
    return _Items(is_item, named, at[both], keys, at[shown], name.take(pa.array(shown)))


def normalised(names: pa.Array) -> pa.Array:
    """Names without case, accents and punctuation: "Amélie (2001)" and "AMELIE 2001" are one. string [K].

    Only the common accents go; vowel signs of other scripts are part of the word.
    """
    plain = pc.replace_substring_regex(
        pc.utf8_normalize(names, "NFKD"), pattern=r"[\x{0300}-\x{036F}]+", replacement=""
    )
    spaced = pc.replace_substring_regex(pc.utf8_lower(plain), pattern=r"[^\p{L}\p{N}\p{M}]+", replacement=" ")
    return pc.utf8_trim_whitespace(spaced)


class _Examples:
    """Names rows for people."""

    def __init__(self, entities: NodeIndex, items: _Items, bought: Ints) -> None:
        self._ids, self._known, self._bought = entities.ids, items, bought

    def label(self, row: int) -> tuple[str, str]:
        """Id and name ("" where there is none) of an entity."""
        rows = self._known.shown
        at = int(np.searchsorted(rows, row))
        named = at < len(rows) and rows[at] == row
        return self._ids[row].as_py(), self._known.names[at].as_py() if named else ""

    def of(self, mask: Bools) -> list[ItemExample]:
        """The best sold of some items."""
        rows = np.flatnonzero(mask)
        return self._items(rows[np.argsort(-self._bought[rows], kind="stable")][:EXAMPLES])

    def twins(self) -> tuple[int, list[NameTwins]]:
        """How many groups of items have one normalised name, and the best sold of them."""
        rows = self._known.rows
        if len(rows) == 0:
            return 0, []
        encoded = self._known.keys.dictionary_encode()
        code = np.asarray(encoded.indices, dtype=np.int64)
        says = np.asarray(
            pc.not_equal(encoded.dictionary, ""), dtype=bool
        )  # a name of signs only says nothing
        size = np.bincount(code, minlength=len(says))
        sold = np.bincount(code, weights=self._bought[rows], minlength=len(says))
        groups = np.flatnonzero((size > 1) & says)
        best = groups[np.argsort(-sold[groups], kind="stable")][:EXAMPLES]
        order, end = np.argsort(code, kind="stable"), np.cumsum(size)
        found = [
            NameTwins(
                encoded.dictionary[g].as_py(), self._items(rows[order[end[g] - size[g] : end[g]]][:EXAMPLES])
            )
            for g in best.tolist()
        ]
        return len(groups), found

    def _items(self, rows: Ints) -> list[ItemExample]:
        return [ItemExample(*self.label(r), int(self._bought[r])) for r in rows.tolist()]


def _sources(store: GraphStore) -> list[SourceFigures]:
    found = [
        SourceFigures(row["id"], row["connector"] or "", row["rows"], row["fingerprint"] or "")
        for table in store.read_nodes("Source", ["connector", "rows", "fingerprint"])
        for row in table.to_pylist()
    ]
    return sorted(found, key=lambda s: s.id)
