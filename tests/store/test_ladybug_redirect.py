"""Alignment where every table that is touched is written anew, and answers that get tables of their own: the same graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from kgkit.schema import EDGES
from kgkit.store import ladybug_redirect, ladybug_write
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_tables import fill_aside
from kgkit.store.port import Answers, RunRecord
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import dump
from kgkit.testing.store_contract import StoreContract


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LadybugStore]:
    for module in (ladybug_redirect, ladybug_write):
        monkeypatch.setattr(module, "COPY_EDGES_FROM", 1)
    monkeypatch.setattr(ladybug_redirect, "ANEW_SHARE", 1_000_000)
    with LadybugStore(tmp_path / "graph.kg") as store:
        yield store


class TestContract(StoreContract):
    """All of the contract, with every table written anew that has a relationship of an item which becomes an entity."""


def test_an_item_that_moves_takes_its_relationships_along(
    store: LadybugStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked by hand: what was said twice of one pair is said once, and what the moved one leaves open stays."""
    store.upsert_nodes("User", nodes("u", "v"))
    store.upsert_nodes("Entity", pa.table({"id": ["item:1", "e", "f"], "item_id": ["1", None, None]}))
    bought = {"head": ["u", "u", "v", "v"], "tail": ["item:1", "e", "item:1", "f"], "source": ["s"] * 4}
    store.upsert_edges(
        "PURCHASED", pa.table({**bought, "count": [2, 5, 1, 1], "rating": [None, 4.0, 3.0, None]})
    )
    store.upsert_edges("FACT", facts(("item:1", "r", "f"), ("e", "r", "f"), ("f", "r", "item:1")))
    calls = []
    monkeypatch.setattr(ladybug_redirect, "fill_aside", lambda *a: calls.append(a[2]) or fill_aside(*a))
    assert store.align(pa.table({"item": ["1"], "entity": ["e"]})).folded == 1
    assert sorted(calls) == ["FACT", "PURCHASED"]
    got = dump(store)
    assert got["PURCHASED"] == {
        ("u", "e", "s"): {"source": "s", "count": 2, "rating": 4.0},
        ("v", "e", "s"): {"source": "s", "count": 1, "rating": 3.0},
        ("v", "f", "s"): {"source": "s", "count": 1},
    }
    assert got["FACT"].keys() == {("e", "f", "r"), ("f", "e", "r")}
    assert got["Entity"] == {"e": {"item_id": "1"}, "f": {}}


def _run(store: LadybugStore, name: str, plugin: str, *rows: tuple[str, str]) -> None:
    table = pa.table({"head": [u for u, _ in rows], "tail": [e for _, e in rows], "score": [0.5] * len(rows)})
    store.replace_answers(RunRecord(name, plugin, "2024"), [], [Answers("RECOMMENDED", table)])


def _tables(store: LadybugStore) -> list[str]:
    return sorted(row[0] for row in store._engine.rows("CALL SHOW_TABLES() RETURN name") if "RECO" in row[0])


def test_each_run_has_a_table_that_goes_with_it(store: LadybugStore) -> None:
    store.upsert_nodes("User", nodes("u", "v"))
    store.upsert_nodes("Entity", nodes("a", "b"))
    _run(store, "r1", "kgcn", ("u", "a"), ("v", "b"))
    _run(store, "o1", "ease", ("u", "b"))
    assert _tables(store) == ["RECOMMENDED", "RECOMMENDED_2", "RECOMMENDED_3"]
    _run(store, "r2", "kgcn", ("u", "b"))
    assert _tables(store) == ["RECOMMENDED", "RECOMMENDED_3", "RECOMMENDED_4"]
    every = "MATCH (u)-[r:RECOMMENDED]->(e) RETURN r.run, u.id, e.id, type(r) ORDER BY r.run"
    assert list(store.query(every).rows) == [
        ("o1", "u", "b", "RECOMMENDED"),
        ("r2", "u", "b", "RECOMMENDED"),
    ]
    # What people make by hand is replaced, too.
    store.query(
        "MATCH (u:User {id: 'v'}), (e:Entity {id: 'a'}) CREATE (u)-[:RECOMMENDED {run: 'r2'}]->(e)",
        write=True,
    )
    assert store.stats()["relationships"]["RECOMMENDED"] == 3
    _run(store, "r3", "kgcn", ("v", "b"))
    assert [row[:3] for row in store.query(every).rows] == [("o1", "u", "b"), ("r3", "v", "b")]
    assert store.erase_run("o1") == 2 and store.erase_run("r3") == 2
    assert _tables(store) == ["RECOMMENDED"] and not dump(store)["RECOMMENDED"]


def test_nobody_sees_what_is_being_filled(store: LadybugStore) -> None:
    """As a reader in another process, or one after a kill, reads the file."""
    store.upsert_nodes("User", nodes("u", "v"))
    store.upsert_nodes("Entity", nodes("a", "b"))
    _run(store, "r1", "kgcn", ("u", "a"))
    store.upsert_edges("FACT", facts(("a", "r", "b")))
    more = pa.table({"head": ["u"], "tail": ["b"], "score": [0.1], "run": ["r2"]})
    fill_aside(store._engine, EDGES["RECOMMENDED"], "RECOMMENDED_3", more)
    reader = Engine(store._engine.path, read_only=True)
    try:
        for pattern, count in (
            ("(a)-[r]->(b)", 2),
            ("(a)-[r]-(b)", 4),
            ("(a)-->(b)", 2),
            ("(a)<--(b)", 2),
            ("(a)--(b)", 4),
            ("(:User)-[]->(b)", 1),
            ("(:User {id: 'u'})-[*1..2]->(b)", 2),
            ("(a)-[r:RECOMMENDED]->(b)", 1),
            ("(a)-[r:FACT|RECOMMENDED]->(b)", 2),
            ("(a)-[r {run: 'r2'}]->(b)", 0),
        ):
            assert reader.people(f"MATCH {pattern} RETURN count(*)", {}, write=False)[1] == [[count]], pattern
        words = "MATCH (a:Entity) RETURN 5 - [1, 2][1], 5 --3, a.id ORDER BY a.id LIMIT 1"
        assert reader.people(words, {}, write=False)[1] == [[4, 8, "a"]]
    finally:
        reader.release()
