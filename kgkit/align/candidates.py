"""The two sides of an alignment, read from a graph: items that want an entity, entities that may be one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.align.normalise import Title, people, title, year_of
from kgkit.arrays import Ints
from kgkit.errors import ConfigError
from kgkit.items import is_stub
from kgkit.names import COLUMNS

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore


@dataclass(frozen=True)
class Options:
    """What `propose` goes by.

    A match is restricted to entities whose property `type_property` names one of `entity_types`, or that are the head
    of a fact whose relation begins with one of `head_of`; to years at most `year_slack` apart where both are known;
    and to common creators where both are known. Scores are 0 to 100.
    """

    titles: bool = True
    fuzzy: bool = False
    entity_types: tuple[str, ...] = ()
    type_property: str = "type"
    head_of: tuple[str, ...] = ()
    year_property: str | None = None
    year_slack: int = 1
    creator_property: str | None = None
    creator_relation: str | None = None
    min_score: float = 90.0
    min_margin: float = 5.0
    realign: bool = False


@dataclass
class Side:
    """Items or entities. ids, names: string [N]; years: int64 [N], 0 unknown; creators: those that are known, by row."""

    ids: pa.Array
    names: pa.Array
    years: Ints
    creators: dict[int, frozenset[str]] = field(default_factory=dict)
    _titles: dict[int, Title] = field(default_factory=dict)

    def title(self, row: int) -> Title:
        """The name of a row, taken apart, and kept; its key is empty where there is no name."""
        if row not in self._titles:
            self._titles[row] = self._title(row, self.names[row].as_py())
        return self._titles[row]

    def keys(self, rows: Ints) -> tuple[pa.Array, dict[int, tuple[str, ...]]]:
        """The keys of many rows, string [M], and the other keys of those that have some, by row; none are kept."""
        keys, others = [], {}
        for row, name in zip(rows.tolist(), self.names.take(pa.array(rows)).to_pylist(), strict=True):
            found = self._title(row, name)
            keys.append(found.key)
            if found.others:
                others[row] = found.others
        return pa.array(keys, pa.string()), others

    def name(self, row: int) -> str:
        """The name on one line; empty when there is none."""
        return " ".join((self.names[row].as_py() or "").split())

    def _title(self, row: int, name: str | None) -> Title:
        found = title(name) if name and name.strip() else Title("")
        if found.year and not self.years[row]:
            self.years[row] = found.year
        return found


@dataclass(frozen=True)
class Pool:
    """Both sides. `wanted`: rows of items that an entity is looked for; `eligible`: rows of entities that titles may
    name, which have a name; `entity_of`: the entity of each item that has one."""

    items: Side
    entities: Side
    wanted: list[int]
    eligible: Ints
    entity_of: dict[str, str]


def read_pool(store: GraphStore, options: Options) -> Pool:
    """Reads all nodes once, and facts when an option speaks of relations.

    Raises ConfigError when the options leave no entity, StoreError for a property that no node has.
    """
    extra = [options.year_property, options.creator_property]
    extra += [options.type_property] if options.entity_types else []
    columns = list(dict.fromkeys(["item_id", *COLUMNS, *(c for c in extra if c)]))
    tables = [_text(t) for t in store.read_nodes("Entity", columns)]
    if not tables:
        raise ConfigError("the graph holds no entity: ingest purchases and facts before aligning them")
    nodes = pa.concat_tables(tables).combine_chunks()
    bought = nodes.filter(pc.is_valid(nodes["item_id"]))
    known = nodes.filter(pc.invert(is_stub(nodes)))
    # An item's title is the name of its entity, so that people see it; what is compared is the entity's own.
    only_the_items = pc.fill_null(pc.equal(known["name_of"], "item"), False)
    own = pc.coalesce(
        known["entity_name"], pc.if_else(only_the_items, pa.scalar(None, pa.string()), known["name"])
    )
    known = known.set_column(known.column_names.index("name"), "name", own)
    items = _side(bought, "item_id", options)
    entities = _side(known, "id", options)
    if options.creator_relation:
        entities.creators = _creators(store, entities, options.creator_relation)
    aligned = known.filter(pc.is_valid(known["item_id"]))
    entity_of = dict(zip(aligned["item_id"].to_pylist(), aligned["id"].to_pylist(), strict=True))
    wanted = [
        row for row, item in enumerate(items.ids.to_pylist()) if options.realign or item not in entity_of
    ]
    return Pool(items, entities, wanted, _eligible(store, known, options), entity_of)


def _text(table: pa.Table) -> pa.Table:
    """All columns as strings, whatever a shop's own properties are."""
    return pa.table({c: table[c].cast(pa.string()) for c in table.column_names})


def _side(nodes: pa.Table, ids: str, options: Options) -> Side:
    side = Side(_one(nodes[ids]), _one(nodes["name"]), np.zeros(nodes.num_rows, dtype=np.int64))
    if options.year_property:
        given = nodes[options.year_property].to_pylist()
        side.years[:] = [year_of(value) for value in given]
    if options.creator_property:
        for row, value in enumerate(nodes[options.creator_property].to_pylist()):
            if value and (found := people(value)):
                side.creators[row] = found
    return side


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _creators(store: GraphStore, entities: Side, relation: str) -> dict[int, frozenset[str]]:
    """The names of the tails of a relation's facts, by the row of the head."""
    found: dict[int, set[str]] = defaultdict(set)
    for table in store.read_edges("FACT", ["relation"]):
        facts = table.filter(pc.equal(table["relation"], relation))
        heads = pc.index_in(facts["head"], entities.ids)
        tails = pc.index_in(facts["tail"], entities.ids)
        names = entities.names.take(_one(tails)).to_pylist()
        for head, name in zip(heads.to_pylist(), names, strict=True):
            if head is not None and name:
                found[head] |= people(name)
    return {row: frozenset(names) for row, names in found.items()}


def _eligible(store: GraphStore, nodes: pa.Table, options: Options) -> Ints:
    ok = np.asarray(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(nodes["name"]), ""), False))
    if options.entity_types:
        ok &= _of_type(nodes[options.type_property], options.entity_types)
    if options.head_of:
        heads = _heads(store, options.head_of)
        ok &= np.asarray(pc.is_in(nodes["id"], heads))
    rows = np.flatnonzero(ok)
    if not len(rows) and (options.entity_types or options.head_of):
        raise ConfigError(
            "no entity with a name is left by --entity-type and --head-of: see what types there are by "
            f'kgkit query "MATCH (n:Entity) RETURN n.{options.type_property}, count(*)", and relations by kgkit stats'
        )
    return rows


def _of_type(column: pa.ChunkedArray, types: Sequence[str]) -> np.ndarray:
    """bool [N]: one of the types stands in the text, alone or between blanks, commas, | or ;."""
    words = "|".join("\\Q" + t + "\\E" for t in types)
    pattern = rf"(^|[\s,;|])({words})($|[\s,;|])"
    return np.asarray(pc.fill_null(pc.match_substring_regex(column, pattern), False))


def _heads(store: GraphStore, prefixes: Sequence[str]) -> pa.Array:
    parts = [pa.array([], pa.string())]
    for table in store.read_edges("FACT", ["relation"]):
        keep = np.zeros(table.num_rows, dtype=bool)
        for prefix in prefixes:
            keep |= np.asarray(pc.starts_with(table["relation"], prefix))
        parts.append(pc.unique(table["head"].filter(pa.array(keep))))
    return pc.unique(pa.concat_arrays(parts))
