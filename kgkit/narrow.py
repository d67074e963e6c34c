"""The part of a source near the items of the graph: `kgkit ingest ... --from-items --hops N`, and its k-core.

As UPGAN builds its graphs (section 5.1): a breadth-first search from the aligned entities, one pass over the files a
hop, then entities and relations with few facts go. Of the source only sets of ids are held in memory, and with a
k-core the facts that the search found; attributes wait in a `kgkit.spill`, until it is known which entities are near.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.errors import ConfigError, ConnectorError
from kgkit.items import is_stub, item_nodes
from kgkit.records import AttributeFacts, Facts, Features, Kept, Progress, Record, Skipped
from kgkit.spill import Spill, SpillFolder
from kgkit.subgraph import IdSet, Thresholds, k_core

if TYPE_CHECKING:
    from kgkit.arrays import Ints
    from kgkit.connector import Connector
    from kgkit.store.port import GraphStore

Tell = Callable[[str, int, int, int], None]
_Kind = tuple[type[Features | AttributeFacts], pa.Schema]


@dataclass(frozen=True)
class Narrow:
    """What to keep: facts on a path of at most `hops` steps (direction ignored) from an aligned item that at least
    `item_core` users bought, and of those the largest part in which every entity has `entity_core` facts and every
    relation `relation_core`. Such items stay.

    Raises ConfigError for a number below 1, or 0 of `item_core`.
    """

    hops: int = 2
    item_core: int = 0
    entity_core: int = 1
    relation_core: int = 1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (least := 0 if name == "item_core" else 1):
                raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


class Narrowed:
    """A connector's records, narrowed, and what is Kept after each hop and round."""

    def __init__(
        self, connector: Connector, config: Any, narrow: Narrow, seeds: pa.Array, tell: Tell
    ) -> None:
        self._connector, self._config, self._narrow, self._tell = connector, config, narrow, tell
        self._near = IdSet()
        self._near.add(seeds)
        self._items = seeds

    def __iter__(self) -> Iterator[Record]:
        """Facts and attributes near the items; everything else of the source as it is.

        Raises ConnectorError as the connector does, after what was valid has come.
        """
        some = f" with {self._narrow.item_core} users" if self._narrow.item_core else ""
        yield Kept(f"items{some}", items=len(self._items), entities=len(self._items))
        for hop in range(1, self._narrow.hops):
            yield self._grow(hop)
        with SpillFolder() as folder:
            yield from self._last_pass(folder)

    def _grow(self, hop: int) -> Kept:
        """A pass that finds the entities one step farther."""
        found, facts, relations = IdSet(), 0, set[str]()
        rows = 0
        try:
            for record in self._connector.read(self._config):
                if isinstance(record, Progress):
                    rows += record.rows
                    self._tell(f"hop {hop} of {self._narrow.hops}", rows, record.done, record.total)
                elif isinstance(record, Facts):
                    touching = self._touching(record.table)
                    for end in ("head", "tail"):
                        found.add(touching[end])
                    relations.update(pc.unique(touching["relation"]).to_pylist())
                    facts += touching.num_rows
        except ConnectorError:
            pass  # the last pass comes to the same place, and says so when what is valid has been stored
        self._near.add(found.to_arrow())
        return Kept(f"hop {hop}", entities=len(self._near), relations=len(relations), facts=facts)

    def _last_pass(self, folder: SpillFolder) -> Iterator[Record]:
        core = self._narrow.entity_core > 1 or self._narrow.relation_core > 1
        reached, relations, facts, far = IdSet(), set[str](), 0, 0
        reached.add(self._items)
        held: list[pa.Table] = []
        attributes: dict[_Kind, Spill] = {}
        trouble: ConnectorError | None = None
        try:
            for record in self._connector.read(self._config):
                if isinstance(record, Facts):
                    near = self._touching(record.table)
                    far += record.table.num_rows - near.num_rows
                    facts += near.num_rows
                    relations.update(pc.unique(near["relation"]).to_pylist())
                    if core:
                        held.append(_coded(near))
                    else:
                        for end in ("head", "tail"):
                            reached.add(near[end])
                        yield Facts(near)
                elif isinstance(record, (Features, AttributeFacts)) and record.of == "entity":
                    kind = type(record), record.table.schema
                    if kind not in attributes:
                        attributes[kind] = folder.spill()
                    attributes[kind].add(record.table)
                else:
                    yield record
        except ConnectorError as error:
            trouble = error
        for ends in (t[c] for t in held for c in ("head", "tail")):
            reached.add(ends.cast(pa.string()))
        hop = f"hop {self._narrow.hops}"
        yield Kept(hop, entities=len(reached), relations=len(relations), facts=facts)
        if core:
            kept, steps = self._core(held)
            yield from steps
            reached = IdSet()
            reached.add(self._items)
            for end in ("head", "tail"):
                reached.add(kept[end])
            yield Skipped(facts - kept.num_rows, "not in the k-core of entities and relations")
            yield Facts(kept)
        if far:
            yield Skipped(far, f"facts farther than {self._narrow.hops} hops from the items")
        yield from _near(attributes, reached)
        if trouble is not None:
            raise trouble

    def _touching(self, facts: pa.Table) -> pa.Table:
        near = self._near.contains(facts["head"]) | self._near.contains(facts["tail"])
        return facts.filter(pa.array(near))

    def _core(self, held: list[pa.Table]) -> tuple[pa.Table, list[Kept]]:
        """The facts that stay, and what every round keeps."""
        facts = _joined(held) if held else _NO_FACTS
        ends = pa.concat_arrays([facts["head"].combine_chunks(), facts["tail"].combine_chunks()])
        if not pa.types.is_dictionary(ends.type):
            ends = ends.dictionary_encode()
        names = pa.concat_arrays([ends.dictionary.cast(pa.string()), self._items]).unique()
        code = np.asarray(pc.index_in(ends.dictionary.cast(pa.string()), names), dtype=np.int64)
        both = code[np.asarray(ends.indices, dtype=np.int64)]
        relation = facts["relation"].combine_chunks()
        items = np.asarray(pc.index_in(self._items, names), dtype=np.int64)
        core = k_core(
            both[: len(facts)],
            np.asarray(relation.indices, dtype=np.int64),
            both[len(facts) :],
            np.zeros(len(items), dtype=np.int64),  # items stay: one buyer of each
            items,
            Thresholds(entity=self._narrow.entity_core, relation=self._narrow.relation_core),
            n_users=1,
            n_entities=len(names),
            n_relations=len(relation.dictionary),
        )
        steps = [replace(step, users=0, items=0, interactions=0) for step in core.steps[1:]]
        kept = facts.filter(pa.array(core.facts))
        plain = {c: kept[c].cast(pa.string()) if c in _CODED else kept[c] for c in kept.column_names}
        return pa.table(plain), steps


def aligned_items(store: GraphStore, least: int, *, some: bool = True) -> pa.Array:
    """The entities that items of the graph are aligned with, string [N], sorted. least: how many users bought each.

    Raises ConfigError when there are none, unless not even `some` are needed.
    """
    found = item_nodes(store)
    items = found.filter(pc.invert(is_stub(found)))["id"].combine_chunks()
    if least and len(items):
        aligned, items = len(items), items.filter(pa.array(_buyers(store, items) >= least))
        if some and len(items) == 0:
            raise ConfigError(f"--item-core {least}: of {aligned:,} aligned items none has so many users")
    if some and len(items) == 0:
        raise ConfigError(
            "--from-items starts at items that are aligned with entities, and the graph has none: ingest an "
            "alignment first (kgkit ingest alignment, or kgkit align)"
        )
    return items.take(pc.sort_indices(items))


def _buyers(store: GraphStore, items: pa.Array) -> Ints:
    """How many users bought each of some items, entity ids string [N]: int64 [N]."""
    users, sold = IdSet(), IdSet()
    sold.add(items)
    pairs = [np.zeros(0, dtype=np.int64)]  # one user may be told of by several sources
    for table in store.read_edges("PURCHASED", []):
        item = sold.find(table["tail"])
        pairs.append((users.encode(table["head"]) * len(items) + item)[item >= 0])
    counts: Ints = np.bincount(np.unique(np.concatenate(pairs)) % len(items), minlength=len(items))
    return counts


_CODED = ("head", "relation", "tail", "split")
_NO_FACTS = pa.table(
    {c: pa.array([], pa.dictionary(pa.int32(), pa.string())) for c in ("head", "relation", "tail")}
)


def _coded(facts: pa.Table) -> pa.Table:
    """The same with numbers in the place of strings, which is what the k-core holds in memory."""
    return pa.table(
        {c: facts[c].dictionary_encode() if c in _CODED else facts[c] for c in facts.column_names}
    )


def _joined(held: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(held, promote_options="default").unify_dictionaries().combine_chunks()


def _near(attributes: Mapping[_Kind, Spill], reached: IdSet) -> Iterator[Record]:
    """Attributes of the entities in a set, in bounded tables."""
    far = 0
    for (kind, _), spill in attributes.items():
        for _, table in spill.parts():
            kept = table.filter(pa.array(reached.contains(table["key"])))
            far += table.num_rows - kept.num_rows
            if kept.num_rows:
                yield kind("entity", kept)
    if far:
        yield Skipped(far, "attributes of entities that are not kept")


def steps_json(steps: list[Kept]) -> str:
    """The counts as the graph remembers them with the source."""
    return json.dumps([{"step": step.step, **step.counts()} for step in steps])
