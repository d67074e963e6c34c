"""The part of the store contract about reading: training arrays, whole graphs, people's Cypher, counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kgkit.arrays import Ints
from kgkit.errors import ReadOnlyStoreError, StoreError
from kgkit.schema import EDGES, NODES
from kgkit.store.port import EdgeColumns, GraphStore
from kgkit.testing.contract_write import ODD_IDS, facts, nodes, purchases
from kgkit.testing.graph_dump import dump


def random_graph(
    store: GraphStore, n: int = 60, edges: int = 150, seed: int = 0
) -> set[tuple[str, str, str]]:
    """Entities n0.. and random facts of 4 relations; returns the distinct (head, relation, tail)."""
    rng = np.random.default_rng(seed)
    ids = [f"n{i}" for i in range(n)]
    rows = [
        (ids[a], f"rel.{r}", ids[b])
        for a, r, b in zip(
            rng.integers(0, n, edges), rng.integers(0, 4, edges), rng.integers(0, n, edges), strict=True
        )
    ]
    store.upsert_nodes("Entity", nodes(*ids))
    store.upsert_edges("FACT", facts(*rows))
    return set(rows)


def _named(store: GraphStore, columns: EdgeColumns, ids: list[str]) -> set[tuple[str, str, str]]:
    names = {
        row["rid"]: row["id"] for table in store.read_nodes("Relation", ["rid"]) for row in table.to_pylist()
    }
    rids = columns.columns["rid"]
    assert rids.dtype == np.int64 and columns.source.dtype == np.int64 and columns.target.dtype == np.int64
    found = [
        (ids[s], names[r], ids[t])
        for s, r, t in zip(columns.source.tolist(), rids.tolist(), columns.target.tolist(), strict=True)
    ]
    assert len(found) == len(set(found)), "a fact came twice"
    return set(found)


def _around(rows: set[tuple[str, str, str]], seeds: set[str], hops: int) -> set[tuple[str, str, str]]:
    """Breadth-first search in plain Python: facts on a path of at most `hops` steps from the seeds."""
    reached, found = set(seeds), set()
    for _ in range(hops):
        step = {f for f in rows if f[0] in reached or f[2] in reached}
        found |= step
        reached |= {f[0] for f in step} | {f[2] for f in step}
    return found


class ReadContract:
    """node_index, edges, facts_around, read_nodes, read_edges, query, stats."""

    def test_node_index_sorted_by_code_point(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes(*reversed(ODD_IDS)))
        index = store.node_index("Entity")
        assert index.label == "Entity" and len(index) == len(ODD_IDS)
        assert index.ids.type == pa.string() and index.ids.to_pylist() == sorted(ODD_IDS)
        assert index.handles.dtype == np.int64 and len(set(index.handles.tolist())) == len(ODD_IDS)

    def test_node_index_of_nothing(self, store: GraphStore) -> None:
        index = store.node_index("User")
        assert len(index) == 0 and index.handles.shape == (0,)

    def test_edges_exact(self, store: GraphStore) -> None:
        rows = random_graph(store)
        index = store.node_index("Entity")
        assert (
            _named(store, store.edges("FACT", index, index, properties=("rid",)), index.ids.to_pylist())
            == rows
        )
        assert len(store.edges("FACT", index, index).source) == len(rows)

    def test_edges_after_deletions(self, store: GraphStore) -> None:
        rows = random_graph(store)
        gone = [f"n{i}" for i in range(0, 60, 7)]
        store.delete_nodes("Entity", gone)
        store.upsert_nodes("Entity", nodes("late1", "A-late"))
        store.upsert_edges("FACT", facts(("late1", "rel.0", "A-late")))
        index = store.node_index("Entity")
        kept = {f for f in rows if f[0] not in gone and f[2] not in gone} | {("late1", "rel.0", "A-late")}
        assert (
            _named(store, store.edges("FACT", index, index, properties=("rid",)), index.ids.to_pylist())
            == kept
        )

    def test_edges_between_two_labels_with_properties(self, store: GraphStore) -> None:
        table = purchases(
            ("v", "b", "s", 3),
            ("u", "a", "s", None),
            ("u", "b", "s", 2),
            last=[5, 6, 2**40],
            rating=[1.5, None, 3.5],
        )
        store.upsert_edges("PURCHASED", table, missing="create")
        users, entities = store.node_index("User"), store.node_index("Entity")
        got = store.edges("PURCHASED", users, entities, properties=("count", "last", "rating", "source"))
        order = np.lexsort((got.target, got.source))
        assert got.source[order].tolist() == [0, 0, 1] and got.target[order].tolist() == [0, 1, 1]
        assert got.columns["last"].dtype == np.int64 and got.columns["last"][order].tolist() == [6, 2**40, 5]
        assert got.columns["rating"].dtype == np.float64
        np.testing.assert_array_equal(got.columns["rating"][order], [np.nan, 3.5, 1.5])
        np.testing.assert_array_equal(
            np.asarray(got.columns["count"][order], dtype=np.float64), [np.nan, 2, 3]
        )
        assert got.columns["source"].tolist() == ["s"] * 3

    def test_edges_with_labels(self, store: GraphStore) -> None:
        table = facts(("a", "r", "b"), ("b", "r", "c"), ("c", "r", "d"), split=["train", None, "test"])
        table = table.append_column("time", pa.array([2**40, 3, None], pa.int64()))
        store.upsert_edges("FACT", table, missing="create")
        index = store.node_index("Entity")
        got = store.edges("FACT", index, index, properties=("rid", "split", "time"))
        order = np.argsort(got.source)
        assert got.source[order].tolist() == [0, 1, 2] and got.columns["rid"].dtype == np.int64
        assert got.columns["split"][order].tolist() == ["train", None, "test"]
        np.testing.assert_array_equal(np.asarray(got.columns["time"][order], float), [2.0**40, 3, np.nan])

    def test_rare_properties_are_named_where_a_relationship_has_them(self, store: GraphStore) -> None:
        store.upsert_edges(
            "FACT", facts(("a", "r", "b"), ("b", "r", "c"), source=["x", "x"]), missing="create"
        )
        assert {"relation", "source"} <= set(store.edge_properties("FACT")) <= set(EDGES["FACT"].properties)
        assert store.edge_properties("PURCHASED") == list(EDGES["PURCHASED"].properties)
        store.upsert_edges("FACT", facts(("b", "r", "c"), split=["test"]))
        assert {"relation", "source", "split"} <= set(store.edge_properties("FACT"))
        rows = [r for t in store.read_edges("FACT") for r in t.to_pylist()]
        assert {r["head"]: r["split"] for r in rows} == {"a": None, "b": "test"}
        with pytest.raises(StoreError, match="NOPE"):
            store.edge_properties("NOPE")

    def test_edges_of_nothing(self, store: GraphStore) -> None:
        index = store.node_index("Entity")
        got = store.edges("FACT", index, index, properties=("rid",))
        assert got.source.shape == got.target.shape == got.columns["rid"].shape == (0,)
        assert got.columns["rid"].dtype == np.int64

    def test_edges_of_unknown_kind_or_property(self, store: GraphStore) -> None:
        store.ensure_schema()
        index = store.node_index("Entity")
        with pytest.raises(StoreError, match="NOPE"):
            store.edges("NOPE", index, index)
        with pytest.raises(StoreError, match="colour"):
            store.edges("FACT", index, index, properties=("colour",))
        with pytest.raises(StoreError, match="Nope"):
            store.node_index("Nope")

    def test_edge_cypher_is_cypher_for_people(self, store: GraphStore) -> None:
        text = store.edge_cypher("PURCHASED", ("count",))
        assert "MATCH" in text and "RETURN" in text and "count" in text

    @pytest.mark.parametrize("hops", [0, 1, 2, 3, 10])
    def test_facts_around(self, store: GraphStore, hops: int) -> None:
        rows = random_graph(store, n=80, edges=90, seed=hops)
        index = store.node_index("Entity")
        ids = index.ids.to_pylist()
        seeds: Ints = np.array([3, 17], dtype=np.int64)
        found = _named(store, store.facts_around(seeds, hops, index), ids)
        assert found == _around(rows, {ids[3], ids[17]}, hops)

    def test_facts_around_nothing(self, store: GraphStore) -> None:
        random_graph(store)
        got = store.facts_around(np.zeros(0, dtype=np.int64), 2, store.node_index("Entity"))
        assert len(got.source) == 0 and got.columns["rid"].dtype == np.int64

    def test_read_nodes_some_properties(self, store: GraphStore) -> None:
        store.upsert_nodes("User", nodes("u", "v", age=[1, None], city=["x", "y"]))
        rows = [r for t in store.read_nodes("User", ["city"]) for r in t.to_pylist()]
        assert sorted(rows, key=lambda r: r["id"]) == [{"id": "u", "city": "x"}, {"id": "v", "city": "y"}]
        assert {r["id"] for t in store.read_nodes("User", []) for r in t.to_pylist()} == {"u", "v"}
        having = [r for t in store.read_nodes("User", ["city"], having="age") for r in t.to_pylist()]
        assert having == [{"id": "u", "city": "x"}]
        assert sum(t.num_rows for t in store.read_nodes("User", [], having="nobody_has_it")) == 0
        with pytest.raises(StoreError):
            list(store.read_nodes("User", [], having="x` IS NULL //"))
        with pytest.raises(StoreError):
            list(store.read_nodes("User", ["x` RETURN 1 //"]))

    def test_read_edges_some_properties(self, store: GraphStore) -> None:
        store.upsert_edges("FACT", facts(("a", "r", "b"), source=["s"]), missing="create")
        rows = [r for t in store.read_edges("FACT", ["relation"]) for r in t.to_pylist()]
        assert rows == [{"head": "a", "tail": "b", "relation": "r"}]
        rows = [r for t in store.read_edges("FACT", []) for r in t.to_pylist()]
        assert rows == [{"head": "a", "tail": "b"}]
        for table in store.read_edges("FACT"):
            head = table.schema.field("head").type
            assert (head.value_type if pa.types.is_dictionary(head) else head) == pa.string()

    def test_read_round_trip_every_label(self, store: GraphStore) -> None:
        """What read_nodes gives can be upserted again, which changes nothing."""
        store.upsert_nodes("Source", nodes("f.csv", connector=["purchases"], fingerprint=["abc"], rows=[12]))
        store.upsert_nodes("Kgkit", nodes("note", value=["hello"]))
        random_graph(store)
        before = dump(store)
        for label in NODES:
            for table in store.read_nodes(label):
                if label != "Relation":
                    assert store.upsert_nodes(label, table).created == 0
        for table in store.read_edges("FACT"):
            assert store.upsert_edges("FACT", table).created == 0
        assert dump(store) == before

    # -- people's Cypher -------------------------------------------------------------------------------------
    def test_query_with_parameters(self, store: GraphStore) -> None:
        store.upsert_nodes("User", nodes("u'1", "u2", age=[30, 40], score=[0.5, 0.25]))
        result = store.query("MATCH (u:User) WHERE u.id = $id RETURN u.id AS id, u.age AS age", {"id": "u'1"})
        assert result.columns == ["id", "age"] and list(result.rows) == [("u'1", 30)]
        total = list(
            store.query("MATCH (u:User) RETURN sum(u.age) AS s, sum(u.score) AS f, count(*) AS n").rows
        )
        assert total == [(70, 0.75, 2)] and type(total[0][0]) is int and type(total[0][1]) is float
        ids = store.query(
            "MATCH (u:User) WHERE u.id IN $ids RETURN u.id ORDER BY u.id", {"ids": ["u2", "u'1"]}
        )
        assert list(ids.rows) == [("u'1",), ("u2",)]

    def test_query_returns_nodes_as_dicts(self, store: GraphStore) -> None:
        store.upsert_edges("PURCHASED", purchases(("u", "e", "s", 2)), missing="create")
        row = next(
            store.query("MATCH (u:User)-[p:PURCHASED]->(e:Entity) RETURN u, p, e, [u.id, e.id] AS ids").rows
        )
        assert row[0] == {"id": "u"} and row[2] == {"id": "e"} and row[3] == ["u", "e"]
        assert row[1] == {"source": "s", "count": 2}

    @pytest.mark.parametrize(
        "cypher",
        [
            "CREATE (:User {id: 'new'})",
            "MATCH (u:User) SET u.name = 'x'",
            "MATCH (u:User) DETACH DELETE u",
            "MERGE (u:User {id: 'new'}) RETURN u.id",
            "MATCH (u:User) RETURN u.id; CREATE (:User {id: 'new'})",
        ],
    )
    def test_query_that_writes_is_refused(self, store: GraphStore, cypher: str) -> None:
        store.upsert_nodes("User", nodes("u", name=["kept"]))
        with pytest.raises(StoreError) as caught:
            list(store.query(cypher).rows)
        if ";" not in cypher:
            assert isinstance(caught.value, ReadOnlyStoreError)
        assert list(store.query("MATCH (u:User) RETURN u.id, u.name").rows) == [("u", "kept")]

    def test_query_may_write_when_told(self, store: GraphStore) -> None:
        store.upsert_nodes("User", nodes("u"))
        list(store.query("MERGE (u:User {id: $id})", {"id": "new"}, write=True).rows)
        assert store.stats()["nodes"]["User"] == 2

    def test_query_errors(self, store: GraphStore) -> None:
        store.upsert_nodes("User", nodes("u"))
        with pytest.raises(StoreError, match="who"):
            list(store.query("MATCH (u:User) WHERE u.id = $who RETURN u.id").rows)
        with pytest.raises(StoreError):
            list(store.query("MATCH (u:User RETURN u").rows)

    # -- counts ----------------------------------------------------------------------------------------------
    def test_stats_words(self, store: GraphStore) -> None:
        assert store.stats() == {
            "nodes": {"Entity": 0, "Item": 0, "Run": 0, "User": 0},
            "relationships": {
                "COMPLETED": 0,
                "FACT": 0,
                "HAS_ATTRIBUTE": 0,
                "PURCHASED": 0,
                "RECOMMENDED": 0,
            },
            "relations": {},
        }
        store.upsert_edges("FACT", facts(("a", "s", "b"), ("a", "r", "b"), ("b", "r", "a")), missing="create")
        store.upsert_nodes("Entity", nodes("a", item_id=["1"]))
        store.upsert_edges("PURCHASED", purchases(("u", "a", "x", 1)), missing="create")
        stats = store.stats()
        assert stats == {
            "nodes": {"Entity": 2, "Item": 1, "Run": 0, "User": 1},
            "relationships": {
                "COMPLETED": 0,
                "FACT": 3,
                "HAS_ATTRIBUTE": 0,
                "PURCHASED": 1,
                "RECOMMENDED": 0,
            },
            "relations": {"r": 2, "s": 1},
        }
        assert [list(stats[k]) for k in ("nodes", "relationships", "relations")] == [
            sorted(stats[k]) for k in ("nodes", "relationships", "relations")
        ]
