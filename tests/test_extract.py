"""Extraction by Cypher: exact arrays, the same from every store, and never what a model wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from toygraph import ITEMS, facts, fill, purchases

from kgkit.errors import ConfigError, EmptyExtraction, KgkitError, LeakError
from kgkit.extract import Extraction, extract
from kgkit.queries import PURCHASES, TRIPLES
from kgkit.store.open import open_store
from kgkit.store.port import Answers, GraphStore, RunRecord

GENRE_ONLY = (
    "MATCH (h:Entity)-[f:FACT]->(t:Entity) WHERE f.relation = 'film.film.genre' "
    "RETURN h.id AS head, f.relation AS relation, t.id AS tail"
)


@pytest.fixture
def filled(store: GraphStore) -> GraphStore:
    fill(store)
    return store


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[GraphStore]:
    with open_store(tmp_path / "graph.lbug") as opened:
        yield opened


def _named(graph) -> tuple[set, set]:
    t, i = graph.triples, graph.interactions
    e, r = graph.entities.ids.to_pylist(), graph.relations.ids.to_pylist()
    triples = {(e[h], r[x], e[y]) for h, x, y in zip(t.head, t.relation, t.tail, strict=True)}
    users, items = graph.users.ids.to_pylist(), graph.items.ids.to_pylist()
    return triples, {(users[u], items[v]) for u, v in zip(i.user, i.item, strict=True)}


def _node(item: str) -> str:
    return f"m.{int(item):03}" if int(item) < ITEMS - 10 else f"item:{item}"


def test_arrays_say_exactly_what_the_graph_says(filled: GraphStore) -> None:
    graph = extract(filled)
    triples, pairs = _named(graph)
    assert triples == set(facts())
    assert pairs == {(u, _node(i)) for u, i in purchases()}
    assert len(graph.items) == ITEMS
    entities = graph.entities.ids.to_pylist()
    assert entities == sorted(entities)
    assert [entities[e] for e in graph.item_entity] == graph.items.ids.to_pylist()


def test_answers_of_models_never_come_back(filled: GraphStore) -> None:
    before = extract(filled).fingerprint
    filled.replace_answers(
        RunRecord("r1", "popularity", "2024-01-01T00:00:00+00:00"),
        [],
        [
            Answers("RECOMMENDED", pa.table(
                {"head": ["u0", "u1"], "tail": ["m.003", "m.004"], "score": [1.0, 0.5], "rank": [1, 1]})),
            Answers("COMPLETED", pa.table(
                {"head": ["m.001"], "tail": ["g.3"], "relation": ["film.film.genre"], "score": [0.9], "rank": [1]})),
        ],
    )  # fmt: skip
    assert filled.stats()["relationships"]["RECOMMENDED"] == 2
    assert extract(filled).fingerprint == before
    with pytest.raises(LeakError, match="COMPLETED"):
        extract(filled, Extraction(triples_query=(
            "MATCH (h:Entity)-[f:COMPLETED]->(t:Entity) RETURN h.id AS head, f.relation AS relation, t.id AS tail"
        )))  # fmt: skip
    with pytest.raises(LeakError, match="RECOMMENDED"):
        extract(filled, Extraction(interactions_query=(
            "MATCH (u:User)-[:RECOMMENDED]->(i:Entity) RETURN u.id AS user, i.id AS item"
        )))  # fmt: skip


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_hops_keep_the_facts_around_the_items(filled: GraphStore, hops: int) -> None:
    reached = {_node(str(i)) for i in range(ITEMS)}
    expected: set = set()
    for _ in range(hops):
        expected = {f for f in facts() if f[0] in reached or f[2] in reached}
        reached |= {f[0] for f in expected} | {f[2] for f in expected}
    assert _named(extract(filled, Extraction(hops=hops)))[0] == expected


def test_own_queries_narrow_the_subgraph(filled: GraphStore) -> None:
    if filled.capabilities.relationship_types == "native":
        pytest.skip("this query names FACT")
    graph = extract(filled, Extraction(triples_query=GENRE_ONLY))
    assert _named(graph)[0] == {f for f in facts() if f[1] == "film.film.genre"}
    half = len(purchases()) // 2
    own = f"MATCH (u:User)-[p:PURCHASED]->(i:Entity) WHERE p.last < {half} RETURN u.id AS user, i.id AS item, p.last AS last"
    graph = extract(filled, Extraction(interactions_query=own))
    assert len(graph.interactions) == half
    assert len(graph.items) == ITEMS  # candidates stay


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("MATCH (h:Entity) RETURN h.id AS head", "must return head, relation, tail"),
        ("MATCH (h:Entity) RETURN h.id AS head, 'x' AS relation, 3 AS tail", "ids as text"),
        (
            "MATCH (h:Entity) WHERE h.id = 'nobody' RETURN h.id AS head, 'x' AS relation, h.id AS tail",
            "no rows",
        ),
        ("MATCH (h:Entity) RETURN h.id AS head, 'x' AS relation, 'nobody' AS tail", "nobody"),
        ("MATCH (h:Entity) SET h.name = 'x' RETURN h.id AS head, 'x' AS relation, h.id AS tail", ""),
        ("MATCH (h:Entity RETURN", ""),
    ],
)
def test_a_wrong_query_is_refused_with_a_reason(filled: GraphStore, query: str, message: str) -> None:
    with pytest.raises(KgkitError, match=message or None):
        extract(filled, Extraction(triples_query=query))
    assert extract(filled).triples  # nothing happened to the graph


def test_without_facts_only_purchases_are_read(filled: GraphStore) -> None:
    graph = extract(filled, Extraction(queries=(PURCHASES,)))
    assert len(graph.triples) == 0
    assert len(graph.entities) == ITEMS


def test_an_empty_graph_says_what_to_do(store: GraphStore) -> None:
    store.ensure_schema()
    with pytest.raises(EmptyExtraction, match="kgkit ingest"):
        extract(store)


def test_two_sources_of_one_pair_are_one_interaction(filled: GraphStore) -> None:
    user, item = purchases()[0]
    filled.upsert_edges(
        "PURCHASED",
        pa.table({"head": [user], "tail": [_node(item)], "source": ["february"],
                  "count": [3], "last": [10**9], "rating": [2.0]}),
    )  # fmt: skip
    graph = extract(filled)
    assert len(graph.interactions) == len(purchases())
    u, i = graph.users.index(user), graph.items.index(_node(item))
    row = int(np.flatnonzero((graph.interactions.user == u) & (graph.interactions.item == i))[0])
    assert graph.interactions.count[row] == 4
    assert graph.interactions.last[row] == 10**9
    assert graph.interactions.rating[row] == 2.0


def test_unknown_ids_are_named(filled: GraphStore) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        extract(filled).users.index("nobody")


# -- facts alone, and their labels -------------------------------------------------------------------------------

LABELLED = [
    ("b", "r", "a", "train", 86_400),
    ("a", "s", "b", "test", None),
    ("c", "r", "a", None, 2**40),
    ("a", "r", "b", "valid", -1),
]
FACTS_ONLY = Extraction((TRIPLES,), labels=True)


def _tell(store: GraphStore, rows: list[tuple[str, str, str, str | None, int | None]]) -> None:
    head, relation, tail, split, time = (list(c) for c in zip(*rows, strict=True))
    table = {"head": head, "tail": tail, "relation": relation}
    table |= {"split": pa.array(split, pa.string()), "time": pa.array(time, pa.int64())}
    store.upsert_edges("FACT", pa.table(table), missing="create")


def _labels(graph) -> dict:
    e, r, t = graph.entities.ids.to_pylist(), graph.relations.ids.to_pylist(), graph.triples
    rows = zip(t.head, t.relation, t.tail, t.split.tolist(), t.time.tolist(), strict=True)
    return {(e[h], r[x], e[y]): (split, time) for h, x, y, split, time in rows}


EXPECTED = {
    ("a", "r", "b"): (1, -1),
    ("a", "s", "b"): (2, 0),
    ("b", "r", "a"): (0, 86_400),
    ("c", "r", "a"): (-1, 2**40),
}


def test_a_model_of_facts_alone_needs_no_items(store: GraphStore) -> None:
    _tell(store, LABELLED)
    store.upsert_nodes("Entity", pa.table({"id": ["alone", "a"], "item_id": ["7", "8"]}))
    store.upsert_nodes("User", pa.table({"id": ["u"]}))
    graph = extract(store, FACTS_ONLY)
    assert graph.entities.ids.to_pylist() == ["a", "b", "c"]
    assert len(graph.items) == len(graph.users) == len(graph.interactions) == len(graph.item_entity) == 0
    assert _labels(graph) == EXPECTED
    assert list(_labels(graph)) == sorted(EXPECTED)
    assert graph.triples.split.dtype == np.int8 and graph.triples.time.dtype == np.int64
    near = extract(store, Extraction((TRIPLES,), hops=1, labels=True))
    assert _labels(near) == EXPECTED  # item 8 touches them all
    plain = extract(store, Extraction((TRIPLES,)))
    assert plain.triples.split is None and plain.triples.time is None
    assert plain.fingerprint != graph.fingerprint
    store.upsert_edges("FACT", pa.table({"head": ["c"], "tail": ["a"], "relation": ["r"], "split": ["test"]}))
    assert extract(store, Extraction((TRIPLES,))).fingerprint == plain.fingerprint
    assert extract(store, FACTS_ONLY).fingerprint != graph.fingerprint


def test_facts_without_labels_are_said_to_have_none(filled: GraphStore) -> None:
    graph = extract(filled, FACTS_ONLY)
    assert _named(graph)[0] == set(facts())
    assert (graph.triples.split == -1).all() and (graph.triples.time == 0).all()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (Extraction((TRIPLES,)), "holds no facts.*kgkit ingest triples"),
        (Extraction((TRIPLES,), hops=2), "holds no items.*leave out --hops"),
        (Extraction((TRIPLES,), triples_query=GENRE_ONLY), "--triples-query: the query returned no rows"),
        (Extraction((TRIPLES,), interactions_query="RETURN 1"), "--interactions-query: this model reads no"),
    ],
)
def test_no_facts_say_what_to_do(embedded: GraphStore, what: Extraction, message: str) -> None:
    embedded.ensure_schema()
    with pytest.raises(KgkitError, match=message):
        extract(embedded, what)


def test_no_facts_around_the_items_say_what_to_do(embedded: GraphStore) -> None:
    _tell(embedded, LABELLED)
    embedded.upsert_nodes("Entity", pa.table({"id": ["alone"], "item_id": ["7"]}))
    with pytest.raises(EmptyExtraction, match="no facts within --hops 2 of an item"):
        extract(embedded, Extraction((TRIPLES,), hops=2))


OWN = "MATCH (h:Entity)-[f:FACT]->(t:Entity) RETURN h.id AS head, f.relation AS relation, t.id AS tail"


def test_own_queries_may_return_labels(embedded: GraphStore) -> None:
    _tell(embedded, LABELLED)
    own = Extraction((TRIPLES,), triples_query=f"{OWN}, f.split AS split, f.time AS time", labels=True)
    assert _labels(extract(embedded, own)) == EXPECTED
    without = extract(embedded, Extraction((TRIPLES,), triples_query=OWN, labels=True))
    assert set(_labels(without).values()) == {(-1, 0)}
    twice = "UNWIND ['train', 'test', 'valid'] AS split MATCH (h:Entity)-[f:FACT]->(t:Entity) RETURN h.id AS head, "
    twice += "f.relation AS relation, t.id AS tail, split ORDER BY split DESC"
    last = extract(embedded, Extraction((TRIPLES,), triples_query=twice, labels=True))
    assert len(last.triples) == 4 and set(last.triples.split.tolist()) == {2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("'dev' AS split", "a fact has the split 'dev': it must be train, valid, test or missing"),
        ("1 AS split", "column split must hold text or null; got 1"),
        ("'1999-01-01' AS time", "column time must hold a number or null; got '1999-01-01'"),
    ],
)
def test_labels_that_mean_nothing_are_refused(embedded: GraphStore, columns: str, message: str) -> None:
    _tell(embedded, LABELLED)
    with pytest.raises(ConfigError, match=message):
        extract(embedded, Extraction((TRIPLES,), triples_query=f"{OWN}, {columns}", labels=True))
