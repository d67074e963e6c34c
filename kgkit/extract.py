"""From a store to a TrainingGraph: named queries run, engine ids turned into dense ids, leaks of answers refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools, Bytes, Doubles, Ints
from kgkit.errors import ConfigError, EmptyExtraction, LeakError
from kgkit.graph import IdMap, Interactions, TrainingGraph, Triples, distinct
from kgkit.queries import PURCHASES, TRIPLES, EdgeQuery
from kgkit.schema import SPLITS
from kgkit.store.port import EdgeColumns, GraphStore, NodeIndex


@dataclass(frozen=True)
class Extraction:
    """Which subgraph. `hops`: only facts within so many steps of an item; the queries: people's own Cypher or None.

    `labels`: also the facts' split and time (`Triples.split`, `Triples.time`).
    """

    queries: tuple[EdgeQuery, ...] = (PURCHASES, TRIPLES)
    hops: int | None = None
    triples_query: str | None = None
    interactions_query: str | None = None
    labels: bool = False


def extract(store: GraphStore, what: Extraction = Extraction()) -> TrainingGraph:
    """Reads the subgraph by Cypher into dense-id arrays.

    Items are the entities with an item_id or a purchase; entities are the items and the ends of extracted facts; users
    are those with an interaction. Without the query PURCHASES there are no items and no users, and the entities are
    the ends of facts.
    Raises ConfigError for a query that writes or lacks a column, LeakError for one that returns what a model wrote,
    EmptyExtraction for a graph without items, or without facts when nothing else is read.
    """
    users, entities = store.node_index("User"), store.node_index("Entity")
    bought = _bought(store, what, users, entities)
    is_item = np.zeros(len(entities), dtype=bool)
    if PURCHASES in what.queries or what.hops is not None:
        is_item = _item_rows(store, entities)
        is_item[bought.target] = True
        if not is_item.any():
            raise EmptyExtraction(
                f"{store.uri} holds no items: ingest purchases or an alignment first (`kgkit ingest`)"
                + ("" if PURCHASES in what.queries else ", or leave out --hops, which counts from items")
            )
    facts, names = _facts(store, what, entities, np.flatnonzero(is_item))
    if PURCHASES not in what.queries:
        is_item[:] = False
        if len(facts.source) == 0:
            raise EmptyExtraction(_no_facts(store, what))

    used = is_item.copy()
    used[facts.source] = True
    used[facts.target] = True
    entity_of_row = np.cumsum(used) - 1
    item_of_row = np.cumsum(is_item) - 1
    relation_ids, relation_keys = _dense_relations(facts.columns["rid"], names)
    has_bought = np.zeros(len(users), dtype=bool)
    has_bought[bought.source] = True
    user_of_row = np.cumsum(has_bought) - 1

    return TrainingGraph(
        users=IdMap(users.ids.filter(pa.array(has_bought))),
        items=IdMap(entities.ids.filter(pa.array(is_item))),
        entities=IdMap(entities.ids.filter(pa.array(used))),
        relations=IdMap(relation_keys),
        item_entity=entity_of_row[is_item],
        interactions=_interactions(user_of_row[bought.source], item_of_row[bought.target], bought.columns),
        triples=_triples(
            entity_of_row[facts.source],
            relation_ids,
            entity_of_row[facts.target],
            int(used.sum()),
            len(relation_keys),
            _labels(facts) if what.labels else None,
        ),
    )


def _bought(store: GraphStore, what: Extraction, users: NodeIndex, entities: NodeIndex) -> EdgeColumns:
    """The purchases, with count, last and rating; none for a model that reads none."""
    if PURCHASES not in what.queries:
        if what.interactions_query:
            raise ConfigError("--interactions-query: this model reads no purchases; leave the option out")
        none = np.zeros(0, dtype=np.int64)
        return EdgeColumns(none, none, dict.fromkeys(PURCHASES.properties, none))
    if what.interactions_query:
        return _own_interactions(store, what.interactions_query, users, entities)
    return store.edges("PURCHASED", users, entities, properties=PURCHASES.properties)


def _no_facts(store: GraphStore, what: Extraction) -> str:
    if what.hops is not None:
        return (
            f"{store.uri} holds no facts within --hops {what.hops} of an item: give a larger number or none"
        )
    return (
        f"{store.uri} holds no facts, and this model reads nothing else: ingest a knowledge graph first "
        "(`kgkit ingest triples FILE`)"
    )


def _item_rows(store: GraphStore, entities: NodeIndex) -> Bools:
    """bool [entities]: those with an item_id."""
    mask = np.zeros(len(entities), dtype=bool)
    for table in store.read_nodes("Entity", [], having="item_id"):
        if table.num_rows:
            mask[_rows(table["id"], entities)] = True
    return mask


def _facts(
    store: GraphStore, what: Extraction, entities: NodeIndex, items: Ints
) -> tuple[EdgeColumns, dict[int, str]]:
    """The facts with their `rid`, and the relation's name by rid."""
    empty = np.zeros(0, dtype=np.int64)
    if TRIPLES not in what.queries:
        return EdgeColumns(empty, empty, {"rid": empty}), {}
    if what.triples_query:
        facts, names = _own_triples(store, what.triples_query, entities)
        return (facts if what.hops is None else _within(facts, items, what.hops, len(entities))), names
    names = {
        rid: name
        for table in store.read_nodes("Relation", ["rid"])
        for name, rid in zip(table["id"].to_pylist(), table["rid"].to_pylist(), strict=True)
    }
    held = store.edge_properties("FACT") if what.labels else []
    wanted = [*TRIPLES.properties, *(p for p in TRIPLES.optional if p in held)]
    if what.hops is not None and wanted == list(TRIPLES.properties):
        return store.facts_around(items, what.hops, entities), names
    facts = store.edges("FACT", entities, entities, properties=wanted)
    return (facts if what.hops is None else _within(facts, items, what.hops, len(entities))), names


def _within(facts: EdgeColumns, items: Ints, hops: int, n: int) -> EdgeColumns:
    """Of facts at hand, those within `hops` steps of the items, direction ignored."""
    reached = np.zeros(n, dtype=bool)
    reached[items] = True
    keep = np.zeros(len(facts.source), dtype=bool)
    for _ in range(hops):
        keep = reached[facts.source] | reached[facts.target]
        reached[facts.source[keep]] = True
        reached[facts.target[keep]] = True
    return EdgeColumns(facts.source[keep], facts.target[keep], {k: v[keep] for k, v in facts.columns.items()})


def _dense_relations(rid: Ints, names: dict[int, str]) -> tuple[Ints, pa.Array]:
    """Relation ids as ranks among the sorted names that occur, and those names."""
    if len(rid) == 0:
        return rid, pa.array([], pa.string())
    counts = np.bincount(rid)
    present = np.flatnonzero(counts)
    keys = sorted(names[r] for r in present.tolist())
    rank = {key: i for i, key in enumerate(keys)}
    lookup = np.zeros(len(counts), dtype=np.int64)
    lookup[present] = [rank[names[r]] for r in present.tolist()]
    return lookup[rid], pa.array(keys, pa.string())


def _labels(facts: EdgeColumns) -> tuple[Bytes, Ints]:
    """split and time of the facts, as `Triples` has them; -1 and 0 where the graph has none."""
    n = len(facts.source)
    split, time = np.full(n, -1, dtype=np.int8), np.zeros(n, dtype=np.int64)
    if "split" in facts.columns:
        # Said to be text: a column of nothing would have a type of its own, whose dictionary holds null.
        encoded = pa.array(facts.columns["split"], pa.string(), from_pandas=True).dictionary_encode()
        codes = []
        for text in encoded.dictionary.to_pylist():
            if text not in SPLITS:
                raise ConfigError(f"a fact has the split {text!r}: it must be {', '.join(SPLITS)} or missing")
            codes.append(SPLITS.index(text))
        place = np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64)
        split = np.array([*codes, -1], dtype=np.int8)[place]
    if "time" in facts.columns:
        time = _filled(facts.columns["time"], 0).astype(np.int64)
    return split, time


def _triples(
    head: Ints, relation: Ints, tail: Ints, n: int, r: int, labels: tuple[Bytes, Ints] | None = None
) -> Triples:
    """Sorted and distinct; of a fact that comes twice the last labels count.

    One int64 key a fact sorts several times faster than a lexsort of three columns.
    """
    small = n * n * r < 2**62
    if labels is not None:
        # Both sorts are stable.
        order = (
            np.argsort((head * r + relation) * n + tail, kind="stable")
            if small
            else np.lexsort((tail, relation, head))
        )
        head, relation, tail = head[order], relation[order], tail[order]
        last = (np.diff(head) != 0) | (np.diff(relation) != 0) | (np.diff(tail) != 0)
        keep = np.flatnonzero(np.append(last, True)[: len(order)])
        split, time = labels
        return Triples(head[keep], relation[keep], tail[keep], split[order[keep]], time[order[keep]])
    if n and r and small:
        key = distinct((head * r + relation) * n + tail)
        rest, tail = np.divmod(key, n)
        head, relation = np.divmod(rest, r)
    elif n:
        columns = np.unique(np.stack([head, relation, tail]), axis=1)
        head, relation, tail = columns[0], columns[1], columns[2]
    return Triples(head, relation, tail)


def _interactions(user: Ints, item: Ints, columns: dict[str, npt.NDArray[np.generic]]) -> Interactions:
    """One row a pair, however many sources told of it: counts added, the latest time and its rating kept."""
    count = _filled(columns["count"], 1).astype(np.int64)
    last = _filled(columns["last"], 0).astype(np.int64)
    rating = _filled(columns["rating"], np.nan).astype(np.float64)
    if len(user) == 0:
        return Interactions(user, item, count, last, rating)
    key = user * (int(item.max()) + 1) + item
    order = np.argsort(key)
    if (np.diff(key[order]) == 0).any():  # several sources told of a pair: the latest comes last
        order = np.lexsort((last, key))
    user, item, count, last, rating = user[order], item[order], count[order], last[order], rating[order]
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    ends = np.r_[starts[1:], len(user)] - 1
    return Interactions(user[starts], item[starts], np.add.reduceat(count, starts), last[ends], rating[ends])


def _filled(column: npt.NDArray[np.generic], value: float) -> Doubles:
    """Missing values (NaN or None) replaced. Times and counts stay exact in a double up to 2**53."""
    numbers = np.asarray(column, dtype=np.float64)
    return np.where(np.isnan(numbers), value, numbers)


def _rows(ids: pa.ChunkedArray | pa.Array, index: NodeIndex) -> Ints:
    """Row numbers of ids in an index; -1 for those that are not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids, index.ids), -1), dtype=np.int64)


# -- people's own queries ----------------------------------------------------------------------------------------


def _own_table(store: GraphStore, option: str, cypher: str, query: EdgeQuery) -> dict[str, list[object]]:
    """Runs people's query read-only and returns its columns; raises ConfigError for missing ones."""
    result = store.query(cypher)
    missing = [c for c in query.columns if c not in result.columns]
    if missing:
        raise ConfigError(
            f"{option}: the query returns {', '.join(result.columns)}; it must return "
            f"{', '.join(query.columns)} (ids as text, such as `h.id AS head`)"
        )
    rows = list(result.rows)
    known = query.columns + query.optional
    table = {c: [row[i] for row in rows] for i, c in enumerate(result.columns) if c in known}
    for column in query.columns:
        bad = next((v for v in table[column] if not isinstance(v, str)), None)
        if bad is not None or not rows:
            raise ConfigError(
                f"{option}: the query returned no rows"
                if not rows
                else f"{option}: column {column} must hold ids as text, such as `x.id AS {column}`; got {bad!r}"
            )
    for column in query.optional:
        kind, called = (str, "text") if column == "split" else ((int, float), "a number")
        for value in table.get(column, ()):
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                raise ConfigError(f"{option}: column {column} must hold {called} or null; got {value!r}")
    return table


def _resolve(option: str, ids: list[object], index: NodeIndex) -> Ints:
    rows = _rows(pa.array(ids, pa.string()), index)
    if (rows < 0).any():
        unknown = ids[int(np.argmin(rows))]
        raise ConfigError(f"{option}: {unknown!r} is not the id of any {index.label} in the graph")
    return rows


def _own_triples(store: GraphStore, cypher: str, entities: NodeIndex) -> tuple[EdgeColumns, dict[int, str]]:
    table = _own_table(store, "--triples-query", cypher, TRIPLES)
    head, tail = (_resolve("--triples-query", table[c], entities) for c in ("head", "tail"))
    encoded = pa.array(table["relation"], pa.string()).dictionary_encode()
    names = dict(enumerate(encoded.dictionary.to_pylist()))
    rid = np.asarray(encoded.indices, dtype=np.int64)
    ids = entities.ids
    ends = {"head": ids.take(pa.array(head)), "tail": ids.take(pa.array(tail))}
    rows = pa.table({**ends, "relation": encoded.cast(pa.string())})
    _refuse_answers(store, "--triples-query", "FACT", "COMPLETED", rows)
    more = {c: np.array(table[c], dtype=object) for c in TRIPLES.optional if c in table}
    return EdgeColumns(head, tail, {"rid": rid, **more}), names


def _own_interactions(store: GraphStore, cypher: str, users: NodeIndex, entities: NodeIndex) -> EdgeColumns:
    table = _own_table(store, "--interactions-query", cypher, PURCHASES)
    user = _resolve("--interactions-query", table["user"], users)
    item = _resolve("--interactions-query", table["item"], entities)
    ends = {"head": users.ids.take(pa.array(user)), "tail": entities.ids.take(pa.array(item))}
    _refuse_answers(store, "--interactions-query", "PURCHASED", "RECOMMENDED", pa.table(ends))
    n = len(user)
    columns = {c: np.array(table.get(c, [None] * n), dtype=np.float64) for c in PURCHASES.optional}
    return EdgeColumns(user, item, columns)


def _refuse_answers(store: GraphStore, option: str, observed: str, answer: str, rows: pa.Table) -> None:
    """Raises LeakError if rows are what a model wrote and nobody observed."""
    key = ["head", "tail", *(["relation"] if "relation" in rows.column_names else [])]
    said = [t.select(key) for t in store.read_edges(answer, [k for k in key if k == "relation"])]
    if not said or not (answers := pa.concat_tables(said)).num_rows:
        return
    hits = rows.join(answers.group_by(key).aggregate([]), keys=key, join_type="inner")
    if hits.num_rows == 0:
        return
    seen = pa.concat_tables(
        [t.select(key) for t in store.read_edges(observed, [k for k in key if k == "relation"])]
    )
    leaked = hits.join(seen.group_by(key).aggregate([]), keys=key, join_type="left anti").num_rows
    if leaked:
        raise LeakError(
            f"{option} returns {leaked:,} rows that a model wrote ({answer}) and nobody observed ({observed}): "
            f"match {observed} only"
        )
