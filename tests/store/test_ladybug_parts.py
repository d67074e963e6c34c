"""Facts in several tables: the contract where every few facts have one of their own, and how Cypher reads them as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import few_facts_a_table

from kgkit.errors import StoreError
from kgkit.schema import EDGES
from kgkit.store import ladybug_write
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_parts import next_part, parts_of, spread
from kgkit.store.ladybug_tables import drop_leftovers, fill_aside
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import dump
from kgkit.testing.store_contract import StoreContract


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LadybugStore]:
    few_facts_a_table(monkeypatch)
    with LadybugStore(tmp_path / "graph.kg") as store:
        yield store


class TestContract(StoreContract):
    """All of the contract, with a table of facts for every few."""

    def test_batches_larger_than_one_message(
        self, store: LadybugStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ladybug_write, "PART_ROWS", 7_000)  # not thousands of tables
        super().test_batches_larger_than_one_message(store)
        assert len(tables(store)) == 3


def tables(store: LadybugStore) -> dict[str, int]:
    """How many facts each table holds."""
    names = [row[1] for row in store._engine.rows("CALL SHOW_TABLES() RETURN *")]
    return {
        name: store._engine.rows(f"MATCH ()-[r:{name}]->() RETURN count(*)")[0][0]
        for name in sorted(names)
        if name.startswith("FACT_")
    }


READ = [
    ("MATCH (a)-[r:FACT]->(b) RETURN r", "MATCH (a)-[r:FACT|FACT_2|FACT_7]->(b) RETURN r"),
    ("MATCH (a)<-[:FACT]-(b) RETURN a", "MATCH (a)<-[:FACT|FACT_2|FACT_7]-(b) RETURN a"),
    ("match (a)-[ r : fact {x: 1}]-(b)", "match (a)-[ r : fact|FACT_2|FACT_7 {x: 1}]-(b)"),
    ("MATCH (a)-[:`FACT`*1..3]->(b)", "MATCH (a)-[:`FACT`|FACT_2|FACT_7*1..3]->(b)"),
    ("MATCH (a)-[r:PURCHASED|:FACT|P]->(b)", "MATCH (a)-[r:PURCHASED|:FACT|FACT_2|FACT_7|P]->(b)"),
    (
        "MATCH (a) WHERE EXISTS { MATCH (a)-[:FACT]->() } RETURN a",
        "MATCH (a) WHERE EXISTS { MATCH (a)-[:FACT|FACT_2|FACT_7]->() } RETURN a",
    ),
    (
        "MATCH (a)-[r:FACT]->(b) CREATE (b)-[:FACT {relation: r.relation}]->(a)",
        "MATCH (a)-[r:FACT|FACT_2|FACT_7]->(b) CREATE (b)-[:FACT {relation: r.relation}]->(a)",
    ),
    (
        "CREATE (b)-[:FACT]->(a) WITH a MATCH (a)-[:FACT]->(c) RETURN c",
        "CREATE (b)-[:FACT]->(a) WITH a MATCH (a)-[:FACT|FACT_2|FACT_7]->(c) RETURN c",
    ),
    ("MATCH ()-[r]->() RETURN label(r), n.label", "MATCH ()-[r]->() RETURN type(r), n.label"),
    (
        "MERGE (a)-[:PURCHASED]->(b) ON CREATE SET a.x = 1 WITH a MATCH (a)-[:FACT]->() RETURN a",
        "MERGE (a)-[:PURCHASED]->(b) ON CREATE SET a.x = 1 WITH a MATCH (a)-[:FACT|FACT_2|FACT_7]->() RETURN a",
    ),
]
AS_IT_IS = [
    "RETURN '(a)-[:FACT]->(b)'",
    'RETURN "a\\"-[:FACT]->(b)"',
    "RETURN 1 // (a)-[:FACT]->(b)",
    "RETURN 1 /* \n (a)-[:FACT]->(b) */",
    "MATCH (a)-[:FACTS]->(b) RETURN a.fact",
    "MATCH (a)-[FACT]->(b) RETURN FACT",
    "MATCH (a)-[]->(b) RETURN a",
    "MATCH (a:FACT) RETURN [x IN [1, 2] | x], a[1], 3 -[1][0]",
    "CREATE (a)-[:FACT]->(b)",
    "COPY FACT (relation) FROM $t",
    "MATCH (a)-[r",
    "-[",
]


@pytest.mark.parametrize(("cypher", "spread_out"), [*READ, *((text, text) for text in AS_IT_IS)])
def test_a_pattern_that_is_read_names_all_tables(cypher: str, spread_out: str) -> None:
    assert spread(cypher, ("FACT_2", "FACT_7")) == spread_out


def test_names_of_tables() -> None:
    assert parts_of(["User", "FACT_10", "FACT", "FACT_2", "FACT_x", "FACT_3_4"]) == ("FACT_2", "FACT_10")
    assert next_part(()) == "FACT_2" and next_part(("FACT_2", "FACT_10")) == "FACT_11"


def fill(store: LadybugStore, *counts: int) -> None:
    """Facts of e0 to others, so many at a time, all distinct."""
    done = 0
    for count in counts:
        rows = [(f"e{i % 4}", "by" if i % 2 else "of", f"x{i}") for i in range(done, done + count)]
        store.upsert_edges("FACT", facts(*rows), missing="create")
        done += count


def test_facts_fill_tables_and_small_tables_are_filled_up(store: LadybugStore) -> None:
    fill(store, 8)
    assert tables(store) == {}  # an empty FACT is filled first
    fill_more = [(f"e{i % 4}", "with", f"y{i}") for i in range(20)]
    store.upsert_edges("FACT", facts(*fill_more), missing="create")
    assert tables(store) == {"FACT_2": 7, "FACT_3": 7, "FACT_4": 6}
    store.upsert_edges("FACT", facts(("a", "of", "b"), ("b", "of", "c"), source=["s", "s"]), missing="create")
    assert tables(store) == {"FACT_2": 7, "FACT_3": 7, "FACT_4": 6, "FACT_5": 2}
    store.upsert_edges(
        "FACT", facts(("a", "of", "c")), missing="create"
    )  # one is created in FACT, not copied
    store.upsert_edges("FACT", facts(("a", "of", "d"), ("b", "of", "d")), missing="create")
    assert tables(store) == {"FACT_2": 7, "FACT_3": 7, "FACT_4": 6, "FACT_6": 4}
    found = dump(store)["FACT"]
    assert len(found) == 33 and {v.get("source") for v in found.values()} == {None, "s"}
    assert store.stats()["relationships"]["FACT"] == 33
    assert store.stats()["relations"] == {"by": 4, "of": 9, "with": 20}
    again = store.upsert_edges("FACT", facts(*fill_more), missing="create")
    assert (again.created, again.matched) == (0, 20)


def test_people_see_one_relationship_type(store: LadybugStore) -> None:
    fill(store, 5, 20)
    assert len(tables(store)) == 3
    every = "MATCH (a:Entity)-[r:FACT]->(b:Entity)"
    assert list(store.query(f"{every} RETURN DISTINCT type(r), label(r)").rows) == [("FACT", "FACT")]
    assert list(store.query("MATCH ()-[r]->() WHERE type(r) = 'FACT' RETURN count(*)").rows) == [(25,)]
    assert list(store.query(f"{every} WHERE r.relation = $r RETURN count(*)", {"r": "by"}).rows) == [(12,)]
    two = "MATCH (:Entity {id: 'x1'})<-[:FACT]-(e:Entity)-[:FACT]->(x:Entity) RETURN x.id ORDER BY x.id"
    assert [row[0] for row in store.query(two).rows] == ["x1", "x13", "x17", "x21", "x5", "x9"]
    store.query(f"{every} WHERE b.id = 'x24' SET r.time = 7", write=True)
    assert list(store.query(f"{every} WHERE r.time = 7 RETURN b.id").rows) == [("x24",)]
    store.query(f"{every} WHERE r.relation = 'by' DELETE r", write=True)
    assert list(store.query(f"{every} RETURN count(*)").rows) == [(13,)]
    with pytest.raises(StoreError, match=r"facts in 4 tables, and MERGE .*OPTIONAL MATCH"):
        store.query("MATCH (a:Entity), (b:Entity) MERGE (a)-[:FACT {relation: 'by'}]->(b)", write=True)
    store.query("MATCH (a:Entity {id: 'x1'}) CREATE (a)-[:FACT {relation: 'by'}]->(a)", write=True)
    assert list(store.query(f"{every} RETURN count(*)").rows) == [(14,)]
    assert store.delete_nodes("Entity", ["e0"]) == 1
    assert list(store.query(f"{every} WHERE a.id = 'e0' RETURN count(*)").rows) == [(0,)]


@pytest.mark.parametrize("broken", ["ALTER TABLE `FACT_3__next`", "COPY `FACT_3__next`"])
def test_a_table_that_cannot_be_filled_up_stays(
    store: LadybugStore, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    fill(store, 5, 2)
    before = dump(store)
    assert tables(store) == {"FACT_2": 2}
    rows = Engine.rows

    def fails(engine: Engine, cypher: str, params: Any = None, **more: Any) -> list[list[Any]]:
        if cypher.startswith(broken):
            raise StoreError("the disk is full")
        return rows(engine, cypher, params, **more)

    more = facts(("a", "of", "b"), ("b", "of", "c"))
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "rows", fails)
        with pytest.raises(StoreError, match="disk is full"):
            store.upsert_edges("FACT", more, missing="create")
    assert tables(store) == {"FACT_2": 2} and dump(store)["FACT"] == before["FACT"]
    fill_aside(store._engine, EDGES["FACT"], "FACT_3", more)  # as of a process that was killed
    assert "FACT_3__next" in tables(store)
    drop_leftovers(store._engine)
    assert tables(store) == {"FACT_2": 2}
    store.upsert_edges("FACT", more, missing="create")
    assert tables(store) == {"FACT_3": 4}
    assert dump(store)["FACT"].keys() == before["FACT"].keys() | {("a", "b", "of"), ("b", "c", "of")}


def test_a_reader_that_is_open_learns_of_new_tables(store: LadybugStore) -> None:
    fill(store, 5)
    engine = Engine(store._engine.path, read_only=True)  # a handle of its own, as of another process
    try:
        count = "MATCH (:Entity)-[r:FACT]->(:Entity) RETURN count(*)"
        assert engine.rows(count) == [[5]]
        fill(store, 5, 20)
        assert engine.rows(count) == [[25]]
    finally:
        engine.release()


def test_an_earlier_kgkit_keeps_off(store: LadybugStore) -> None:
    version = "MATCH (k:Kgkit {id: 'schema'}) RETURN k.value"
    fill(store, 5)
    assert store._engine.rows(version) == [["3"]]
    fill(store, 5, 20)
    store.clear()
    assert store._engine.rows(version) == [["3"]] and tables(store) == {}
    fill(store, 5, 20)
    assert len(tables(store)) == 3


def test_nodes_few_enough_keep_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_facts_a_table(monkeypatch)
    monkeypatch.setattr(ladybug_write, "PART_NODES", 100)
    with LadybugStore(tmp_path / "graph.kg") as store:
        fill(store, 20, 40)
        assert tables(store) == {}
        store.upsert_nodes("Entity", nodes(*(f"n{i}" for i in range(100))))
        fill(store, 20, 40, 3)
        assert tables(store) == {"FACT_2": 3}


@pytest.mark.parametrize("megabytes", [8, 10, 12, 14, 40])
def test_few_pages_are_enough_or_become_more(
    store: LadybugStore, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    engine = store._engine
    engine._few = megabytes << 20
    monkeypatch.setattr("kgkit.store.ladybug_engine.MANY_NODES", 0)
    monkeypatch.setattr("kgkit.store.ladybug_engine.LARGE", 1_000)
    monkeypatch.setattr(ladybug_write, "PART_ROWS", 100_000)
    n = 30_000
    ids = [f"n{i:020d}" for i in range(n)]
    store.upsert_nodes("Entity", nodes(*ids))
    for name in ("first", "second"):
        ring = facts(
            *((ids[i], f"the {name} relation, number {i % 500}", ids[i * 7919 % n]) for i in range(n))
        )
        assert store.upsert_edges("FACT", ring).created == n
    assert (engine._few > megabytes << 20) == (megabytes < 40)
    assert store.upsert_nodes("Entity", nodes(*ids, name=ids)).matched == n
    with engine.transaction():
        assert not engine._few_pages
    assert store.stats()["relationships"]["FACT"] == 2 * n and len(tables(store)) == 1
    found = pa.concat_tables(store.read_nodes("Entity", ["name"]))
    assert found["id"].to_pylist() == found["name"].to_pylist() and len(found) == n
