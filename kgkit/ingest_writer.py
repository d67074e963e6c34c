"""The writing half of ingest: holds a source's rows, then writes them in few large batches, nodes first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.aggregate import Pairs
from kgkit.items import is_stub, item_nodes
from kgkit.ledger import begin_alignment
from kgkit.names import COLUMNS, Names
from kgkit.native.id_set import IdSet
from kgkit.records import Alignments, AttributeFacts, Facts, Features, Purchases, Reject
from kgkit.schema import ITEM_PREFIX

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore, WriteStats

# A server answers nothing until a call ends, so its calls are kept short enough to show progress; the embedded
# engine appends to a large table at a price per call, so its calls are few.
_CALL = {"neo4j": 200_000}
_FACT = ["head", "tail", "relation"]
_ROW = "__row"
# What is held at most: with what a store makes of it, ingest stays below 1 GiB.
_FACTS = 1_000_000
_FIRST_FACTS = 2_000_000  # of an empty embedded graph: filling a table takes a third of the time of appending
_ROWS = 1_000_000  # of properties
# Of a slow source, such as a pipe from far away: so many seconds of reading a kill may cost, and more where writing takes
# longer than a fifth of them.
_SECONDS, _SHARE = 20.0, 5
_IDS, _BYTES = 1_500_000, 64 << 20  # ids of facts, and their bytes or those of properties


# Records that are written as they come; the others are held until all of the source is read.
STREAMED = (Facts, Features, AttributeFacts)


class Writer:
    """Writes the records of one source. `created` and `matched` count rows by kind: User, Entity, FACT and so on.

    Purchases and alignments are held to the end, facts and properties at most `buffer` rows long; `flushed` is told how
    many of their records the graph holds.
    """

    def __init__(
        self,
        store: GraphStore,
        source: str,
        buffer: int,
        tell: Callable[[str, int, int, int], None],
        flushed: Callable[[int], None] = lambda records: None,
    ) -> None:
        self.created: Counter[str] = Counter()
        self.matched: Counter[str] = Counter()
        self.conflicts: list[Reject] = []
        self._store, self._source, self._buffer, self._tell = store, source, buffer, tell
        self._call = _CALL.get(store.capabilities.dialect)
        self._facts: list[pa.Table] = []  # head and tail are numbers of `_ids`
        self._ids = IdSet()
        self._alignments: list[pa.Table] = []
        self._features: list[Features] = []
        self._attributes: list[AttributeFacts] = []
        self._pairs = Pairs(buffer)
        self._flushed, self._taken = flushed, 0
        self._told = self._rows = self._bytes = 0  # facts; properties, and their bytes
        self._most_facts = 0  # yet unknown
        self._due: float | None = None  # when what is held is written, however little; yet unknown

    def add(self, record: Facts | Purchases | Alignments | Features | AttributeFacts) -> None:
        """Takes a record; writes when enough are held. Pairs are held to the end, because their counts must be whole."""
        if isinstance(record, Purchases):
            self._pairs.add(record.table)
        elif isinstance(record, Alignments):
            self._alignments.append(record.table)
        else:
            self._taken += 1
            if isinstance(record, Facts):
                self._facts.append(_numbered(record.table, self._ids))
                self._told += record.table.num_rows
            else:
                if isinstance(record, Features):
                    self._features.append(record)
                else:
                    self._attributes.append(record)
                self._rows += record.table.num_rows
                self._bytes += record.table.nbytes  # long texts are many bytes in few rows
            if self._due is None:  # not before: hops may have been searched, or records skipped
                self._due = time.monotonic() + _SECONDS
            if self._is_full() or time.monotonic() > self._due:
                self._write_held()
            elif self._rows >= min(self._buffer, _ROWS) or self._bytes >= _BYTES:
                if self._facts:
                    self._write_properties()
                else:
                    self._write_held()

    def _is_full(self) -> bool:
        """Whether as many facts are held as may be."""
        if self._told >= min(self._buffer, _FACTS):
            if not self._most_facts:
                empty = self._call is None and not self._store.stats()["relationships"]["FACT"]
                self._most_facts = _FIRST_FACTS if empty else _FACTS
            if self._told >= min(self._buffer, self._most_facts):
                return True
        return len(self._ids) >= _IDS or self._ids.text_bytes >= _BYTES

    def skip(self) -> None:
        """Leaves out a record that an earlier run has written."""
        self._taken += 1

    def keep(self) -> None:
        """Writes what can be gone on from: all but pairs and alignments, which are of no use before they are whole."""
        if self._facts or self._features or self._attributes:
            self._write_held()

    def finish(self) -> None:
        """Writes what is held."""
        self._write_alignments()
        self._write_properties()
        self._write_facts()
        self._write_pairs()

    def _write_held(self) -> None:
        began = time.monotonic()
        self._write_properties()  # first: an entity that is made with its name need not be changed for it
        self._write_facts()
        self._most_facts = _FACTS
        self._flushed(self._taken)
        now = time.monotonic()
        self._due = now + max(_SECONDS, _SHARE * (now - began))

    def _write_properties(self) -> None:
        self._write_features()
        self._write_attributes()
        self._rows = self._bytes = 0

    # -- facts -------------------------------------------------------------------------------------------------
    def _write_facts(self) -> None:
        if not self._facts:
            return
        # Files of one source may differ in whether they have labels.
        held = pa.concat_tables(self._facts, promote_options="default").unify_dictionaries()
        ids = self._ids.to_arrow().cast(pa.string())
        self._facts, self._ids, self._told = [], IdSet(), 0
        for at, name in enumerate(("head", "tail")):
            numbers = held[name].combine_chunks()
            held = held.set_column(at, name, pa.DictionaryArray.from_arrays(numbers, ids))
        self._nodes("Entity", pa.table({"id": ids}))
        self._tell_facts(held)

    def _tell_facts(self, facts: pa.Table) -> None:
        labelled = facts.num_columns > len(_FACT)
        if labelled:  # a join leaves rows in no order, and of a fact told twice the last labels count
            facts = facts.append_column(_ROW, pa.array(range(facts.num_rows), pa.int64()))
        own = self._not_told_by_smaller_sources(facts)
        if labelled:
            # Labels are the last source's, whatever its name: they go in without it.
            others = facts.filter(pc.invert(pc.is_in(facts[_ROW], own[_ROW].combine_chunks())))
            self._edges("FACT", others.drop_columns([_ROW]))
            own = own.sort_by(_ROW).drop_columns([_ROW])
        else:
            self.matched["FACT"] += facts.num_rows - own.num_rows
        self._edges("FACT", own.append_column("source", _constant(self._source, own.num_rows)))

    def _not_told_by_smaller_sources(self, facts: pa.Table) -> pa.Table:
        """A fact that several sources tell keeps the first of their names, whatever the order of ingestion."""
        others = [
            t for t in self._store.read_nodes("Source", []) if pc.any(pc.less(t["id"], self._source)).as_py()
        ]
        if not others:
            return facts
        for at, name in enumerate(facts.column_names):
            if name in _FACT:
                facts = facts.set_column(at, name, facts[name].cast(pa.string()))
        for stored in self._store.read_edges("FACT", ["relation", "source"]):
            told = stored.filter(pc.less(stored["source"].cast(pa.string()), self._source)).select(_FACT)
            if told.num_rows:
                told = told.cast(pa.schema([(name, pa.string()) for name in _FACT]))
                facts = facts.join(told, keys=_FACT, join_type="left anti")
        return facts

    # -- alignments --------------------------------------------------------------------------------------------
    def _write_alignments(self) -> None:
        if not self._alignments:
            return
        held, self._alignments = pa.concat_tables(self._alignments), []
        self._tell("aligning", 0, 0, held.num_rows)
        begin_alignment(self._store)
        done = self._store.align(held.select(["item", "entity"]))
        self._tell("aligning", held.num_rows, held.num_rows, held.num_rows)
        self.created["alignments"] += done.aligned
        self.matched["alignments"] += done.unchanged
        if done.folded:
            self.created["items folded into entities"] += done.folded
        for row in done.conflicts.to_pylist():
            text = f"{row['item']}\t{row['entity']}"
            self.conflicts.append(Reject(self._source, 0, f"alignment conflict: {row['reason']}", text))

    # -- items -------------------------------------------------------------------------------------------------
    def _item_nodes(self, items: pa.Array) -> pa.Array:
        """The node ids of distinct item ids; makes the stubs of those that no alignment names."""
        known = item_nodes(self._store)
        where = pc.index_in(items, _whole(known["item_id"]))
        nodes = _whole(known["id"]).take(where)
        stubs = pc.binary_join_element_wise(ITEM_PREFIX, items, "")
        new = pc.is_null(where)
        self._nodes("Entity", pa.table({"id": stubs.filter(new), "item_id": items.filter(new)}))
        return pc.coalesce(nodes, stubs)

    # -- features ----------------------------------------------------------------------------------------------
    def _write_features(self) -> None:
        held, self._features = self._features, []
        groups: dict[tuple[str, tuple[str, ...]], list[pa.Table]] = {}
        for record in held:
            groups.setdefault((record.of, tuple(record.table.column_names)), []).append(record.table)
        for (of, _), tables in groups.items():
            table = pa.concat_tables(tables)
            ids = table["key"].combine_chunks()
            if of == "item":
                distinct = ids.unique()
                ids = self._item_nodes(distinct).take(pc.index_in(ids, distinct))
            table = table.set_column(table.column_names.index("key"), "id", ids)
            if of != "user" and "name" in table.column_names:
                table = self._with_own_names(of, table)
            self._nodes("User" if of == "user" else "Entity", table)

    def _with_own_names(self, of: str, table: pa.Table) -> pa.Table:
        """A table of names, with `entity_name` and `name_of` for entities that are items.

        An entity that is an item goes by the item's title, whichever of the two names comes first.
        """
        held = item_nodes(self._store, *COLUMNS)
        held = held.filter(pc.invert(is_stub(held)))
        given = _whole(table["name"].cast(pa.string()))
        at = pc.index_in(_whole(table["id"]), _whole(held["id"]))
        there = pc.and_(pc.is_valid(at), pc.is_valid(given))
        stored = held.select(list(COLUMNS)).take(at.filter(there)).to_pylist()
        names, entity_names = [], []
        for row, name in zip(stored, given.filter(there).to_pylist(), strict=True):
            before = Names(**row)
            now = Names.of(name, before.own) if of == "item" else Names.of(before.title, name)
            names.append(now)
            # An upsert takes nothing away: a name that no longer is another than the title is said beside it.
            entity_names.append(now.entity_name or (now.own if before.entity_name is not None else None))
        if all(n.title is None for n in names):  # entities' own names, of which no title takes the place
            return table
        hit = np.asarray(there)
        place = pa.array(np.cumsum(hit) - 1, mask=~hit)
        if of == "entity":
            shown = pa.array([None if n.title is not None else n.name for n in names], pa.string())
            kept = pc.if_else(there, shown.take(place), given)
            table = table.set_column(table.column_names.index("name"), "name", kept)
        table = table.append_column("entity_name", pa.array(entity_names, pa.string()).take(place))
        return table.append_column("name_of", pa.array([n.name_of for n in names], pa.string()).take(place))

    # -- attributes that are entities ---------------------------------------------------------------------------
    def _write_attributes(self) -> None:
        held, self._attributes = self._attributes, []
        for of in dict.fromkeys(record.of for record in held):
            table = pa.concat_tables([record.table for record in held if record.of == of])
            keys, relation, value = (table[c].combine_chunks() for c in ("key", "relation", "value"))
            tails = pc.binary_join_element_wise(relation, value, ":")
            values = pa.table({"id": tails, "name": value}).group_by("id").aggregate([("name", "min")])
            self._nodes("Entity", values.rename_columns(["id", "name"]))
            distinct = keys.unique()
            if of == "item":
                keys = self._item_nodes(distinct).take(pc.index_in(keys, distinct))
            else:
                self._nodes("User" if of == "user" else "Entity", pa.table({"id": distinct}))
            edges = pa.table({"head": keys, "relation": relation, "tail": tails})
            if of == "user":
                source = _constant(self._source, edges.num_rows)
                self._edges("HAS_ATTRIBUTE", edges.append_column("source", source))
            else:
                self._tell_facts(edges)

    # -- purchases ---------------------------------------------------------------------------------------------
    def _write_pairs(self) -> None:
        if not self._pairs:
            return
        pairs, self._pairs = self._pairs.result(), Pairs(self._buffer)
        self._nodes("User", pa.table({"id": _distinct(pairs["user"])}))
        items = _distinct(pairs["item"])
        targets = self._item_nodes(items).take(pc.index_in(pairs["item"].combine_chunks(), items))
        edges = {
            "head": pairs["user"],
            "tail": targets,
            "source": _constant(self._source, pairs.num_rows),
            "count": pairs["count"],
        }
        # A column without any value is left out, so that a store need not write nulls.
        edges |= {c: pairs[c] for c in ("first", "last", "rating") if pairs[c].null_count < pairs.num_rows}
        self._edges("PURCHASED", pa.table(edges))

    # -- into the store ----------------------------------------------------------------------------------------
    def _nodes(self, label: str, table: pa.Table) -> None:
        self._in_calls(label, table, lambda part: self._store.upsert_nodes(label, part))

    def _edges(self, kind: str, table: pa.Table) -> None:
        self._in_calls(kind, table, lambda part: self._store.upsert_edges(kind, part))

    def _in_calls(self, what: str, table: pa.Table, write: Callable[[pa.Table], WriteStats]) -> None:
        step = self._call or max(table.num_rows, 1)
        for start in range(0, table.num_rows, step):
            self._tell(f"writing {what}", start, start, table.num_rows)
            stats = write(table.slice(start, step))
            self.created[what] += stats.created
            self.matched[what] += stats.matched
        if table.num_rows:
            self._tell(f"writing {what}", table.num_rows, table.num_rows, table.num_rows)


def _distinct(*columns: pa.ChunkedArray) -> pa.Array:
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.string()).unique()


def _numbered(facts: pa.Table, ids: IdSet) -> pa.Table:
    """Columns head and tail as numbers of `ids`, relation as a dictionary, then all others: a fifth of the bytes.

    So ids are hashed once, whatever a store does with them.
    """
    ends = {name: pa.array(ids.encode(facts[name]).astype(np.int32)) for name in ("head", "tail")}
    others = {name: facts[name] for name in facts.column_names if name not in _FACT}
    return pa.table({**ends, "relation": facts["relation"].dictionary_encode(), **others})


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _constant(value: str, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), length), pa.array([value]))
