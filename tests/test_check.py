"""`kgkit.check` on every engine: a whole graph is whole, and what is planted in it is found."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kgkit import ledger
from kgkit.check import Report, accept, check
from kgkit.config import make_config
from kgkit.doubles import doubled
from kgkit.ingest import ingest
from kgkit.registry import load_connector
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import GraphStore, RunRecord
from kgkit.testing.contract_answers import completed, recommended, vectors
from kgkit.testing.contract_write import nodes

PAIRS = {(f"u{u}", f"i{i}") for u in range(12) for i in range(20) if (u * 7 + i * 3) % 5 < 2}
FACTS = {(f"m.{h}", f"r.{h % 3}", f"m.{(h * 5 + 1) % 30}") for h in range(30)}


def give(
    store: GraphStore, folder: Path, connector: str, name: str, text: str, *, force: bool = False
) -> None:
    (folder / name).write_text(text)
    read = load_connector(connector)()
    config = make_config(read.Config, {"paths": (folder / name,)})
    ingest(read, config, store, rejects=folder / "rejects.tsv", force=force)


def bought(*, but: str = "") -> str:
    return "user,item\n" + "".join(f"{u},{i}\n" for u, i in sorted(PAIRS) if u != but)


@pytest.fixture
def shop(store: GraphStore, tmp_path: Path) -> GraphStore:
    """Purchases, facts, then their alignment, which folds stubs."""
    give(store, tmp_path, "purchases", "log.csv", bought())
    give(store, tmp_path, "triples", "kg.txt", "".join(f"{h}\t{r}\t{t}\n" for h, r, t in sorted(FACTS)))
    give(store, tmp_path, "alignment", "link.txt", "".join(f"i{i}\tm.{i}\n" for i in range(10)))
    return store


def whats(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


def value(store: GraphStore, cypher: str) -> Any:
    return next(iter(store.query(cypher).rows))[0]


@contextmanager
def unconstrained(store: GraphStore, label: str) -> Iterator[None]:
    """On a server, without what keeps people from planting faults; its graph is empty afterwards."""
    if store.capabilities.dialect != "neo4j":
        yield
        return
    found = store.query(
        "SHOW CONSTRAINTS YIELD name, labelsOrTypes AS l WHERE $label IN l RETURN name", {"label": label}
    )
    for name in [row[0] for row in found.rows]:
        store.query(f"DROP CONSTRAINT {name}", write=True)
    try:
        yield
    finally:
        store.clear()
        store.ensure_schema()


def test_a_whole_graph_is_whole(shop: GraphStore, tmp_path: Path) -> None:
    for quick in (False, True):
        report = check(shop, quick=quick)
        assert (report.findings, report.unsure, report.notes, report.exit_code) == ([], [], [], 0)
        assert report.counts["PURCHASED"] == len(PAIRS) and report.counts["FACT"] == len(FACTS)
    assert ledger.read_ledger(shop).purchases == {"purchases:log.csv": len(PAIRS)}
    give(shop, tmp_path, "alignment", "more.txt", "i10\tm.10\ni11\tnew\n")
    assert check(shop).exit_code == 0


def test_an_empty_graph(store: GraphStore) -> None:
    assert check(store).exit_code == 0


def test_purchases_that_are_gone(shop: GraphStore, tmp_path: Path) -> None:
    gone = sum(user == "u3" for user, _ in PAIRS)
    shop.query("MATCH (:User {id: 'u3'})-[r:PURCHASED]->() DELETE r", write=True)
    for quick in (False, True):
        (finding,) = check(shop, quick=quick).findings
        assert str(finding) == (
            f"source: purchases:log.csv has {len(PAIRS) - gone} of {len(PAIRS)} PURCHASED: give it again (kgkit ingest "
            "purchases FILES --force), or restore a backup (kgkit backup restore FILE); if it was deleted on purpose, "
            "kgkit check --accept"
        )
    give(shop, tmp_path, "purchases", "log.csv", bought(), force=True)
    assert check(shop).exit_code == 0


def test_all_of_a_source_is_gone_while_another_brings_more(shop: GraphStore, tmp_path: Path) -> None:
    shop.query("MATCH (:User)-[r:PURCHASED]->() DELETE r", write=True)
    give(shop, tmp_path, "purchases", "other.csv", bought() + "u0,i99\n" * 3)
    (finding,) = check(shop).findings
    assert f"purchases:log.csv has 0 of {len(PAIRS)} PURCHASED" in finding.text


def test_what_was_deleted_on_purpose_is_accepted(shop: GraphStore) -> None:
    shop.query("MATCH (n:User {id: 'u4'}) DETACH DELETE n", write=True)
    assert sorted(whats(check(shop))) == ["source", "total"]
    accept(shop)
    assert check(shop).exit_code == 0


def test_facts_and_users_that_are_gone(shop: GraphStore, tmp_path: Path) -> None:
    shop.query("MATCH (:Entity {id: 'm.1'})-[r]->(:Entity) DELETE r", write=True)
    (finding,) = check(shop).findings
    assert (finding.what, finding.text) == ("total", f"1 of {len(FACTS)} FACT are gone")
    give(shop, tmp_path, "purchases", "second.csv", "user,item\nu1,i1\n")  # it is not forgotten
    assert whats(check(shop)) == ["total"]
    give(shop, tmp_path, "triples", "kg.txt", (tmp_path / "kg.txt").read_text(), force=True)
    assert check(shop).exit_code == 0


def test_an_alignment_under_way_is_no_loss(shop: GraphStore, tmp_path: Path) -> None:
    ledger.begin_alignment(shop)
    shop.align(pa.table({"item": ["i12"], "entity": ["m.12"]}))  # and killed before the ledger is written
    report = check(shop)
    assert report.findings == [] and "an alignment was interrupted" in report.notes[0]
    give(shop, tmp_path, "alignment", "again.txt", "i12\tm.12\n")
    assert check(shop).notes == []


def test_an_ingest_under_way(shop: GraphStore) -> None:
    shop.upsert_nodes("Source", nodes("triples:big.nt", connector=["triples"], partial=["x"], records=[3]))
    (finding,) = check(shop).findings
    assert finding.text == "triples:big.nt is not at its end" and "it goes on" in finding.remedy


def test_relationships_that_are_there_twice(shop: GraphStore) -> None:
    user, item = sorted(PAIRS)[0]
    node = value(shop, f"MATCH (n:Entity) WHERE n.item_id = '{item}' RETURN n.id")
    shop.query(
        f"MATCH (u:User {{id: '{user}'}}), (n:Entity {{id: '{node}'}}) "
        "CREATE (u)-[:PURCHASED {source: 'purchases:log.csv', count: 1}]->(n)",
        write=True,
    )
    (finding,) = check(shop).findings
    assert finding.what == "keys"
    assert finding.text.endswith(
        f"1 PURCHASED are there several times, such as {user}, {node}, purchases:log.csv"
    )


def test_one_item_that_is_two_entities(shop: GraphStore) -> None:
    with unconstrained(shop, "Entity"):
        shop.query("MATCH (n:Entity {id: 'm.25'}) SET n.item_id = 'i3'", write=True)
        (finding,) = check(shop).findings
    assert (finding.what, finding.text) == ("item", "1 items are several entities, such as 'i3'")


def test_an_empty_id(shop: GraphStore) -> None:
    shop.query("CREATE (:User {id: ''})", write=True)
    assert whats(check(shop)) == ["ids"]


def test_numbers_of_relations(shop: GraphStore) -> None:
    with unconstrained(shop, "Relation"):
        shop.query("MATCH (r:Relation {id: 'r.1'}) SET r.rid = 0", write=True)
        report = check(shop)
    assert report.exit_code == 1 and "relation" in whats(report)


def test_answers_that_are_gone(shop: GraphStore) -> None:
    said = {
        "provenance": json.dumps(ledger.with_written({"seed": 1}, {"RECOMMENDED": 3, "User.embedding": 2}))
    }
    run = RunRecord("pop-1", "pop", "2024-05-01T10:00:00Z", **said)
    rows = recommended(("u1", "m.1", 0.5, 1), ("u1", "m.2", 0.4, 2), ("u2", "m.2", 0.4, 1))
    shop.replace_answers(run, [vectors("User", ["u1", "u2"], [[1.0, 2.0], [3.0, 4.0]])], [rows])
    assert check(shop).exit_code == 0
    shop.query("MATCH (:User {id: 'u2'})-[r:RECOMMENDED]->() DELETE r", write=True)
    (finding,) = check(shop).findings
    assert finding.text == "pop-1 has 2 of 3 RECOMMENDED" and "train again" in finding.remedy
    accept(shop)
    assert check(shop).exit_code == 0
    shop.query("MATCH (r:Run {id: 'pop-1'}) SET r.current = false", write=True)
    assert "2 RECOMMENDED are of pop-1, which a later run replaced" in [f.text for f in check(shop).findings]


def test_completed_facts_that_take_the_place_of_others(shop: GraphStore) -> None:
    said = {"provenance": json.dumps(ledger.with_written({"seed": 1}, {"COMPLETED": 2}))}
    rows = completed(("m.1", "r.1", "m.3", 0.5), ("m.2", "r.1", "m.3", 0.5))
    shop.replace_answers(RunRecord("d-1", "d", "2024-05-01T10:00:00Z", **said), [], [rows])
    with ledger.rewriting(shop, "d-1") as written:
        assert ledger.written_by(value(shop, "MATCH (r:Run) RETURN r.provenance")) == {}
        written.update(shop.update_answers("d-1", [completed(("m.1", "r.2", "m.3", 0.5))]))
    told = json.loads(value(shop, "MATCH (r:Run) RETURN r.provenance"))
    assert told == {"seed": 1, "written": {"COMPLETED": 1}}
    assert check(shop).exit_code == 0


@pytest.mark.neo4j
def test_ids_that_are_there_twice_on_a_server(neo4j_store: GraphStore) -> None:
    neo4j_store.upsert_nodes("User", nodes("u", "v"))
    with unconstrained(neo4j_store, "User"):
        neo4j_store.query("CREATE (:User {id: 'v'})", write=True)
        assert "1 ids are of several User nodes, such as 'v'" in [f.text for f in check(neo4j_store).findings]


def test_keys_that_the_embedded_index_lost(tmp_path: Path) -> None:
    """Of these keys one COPY of all loses one or two, each time (see the hazards in ladybug_engine)."""
    low, first, every = 147380404730, 25_000, 125_000
    ids = pa.array([f"m.{i:x}" for i in range(low, low + every)])
    with LadybugStore(tmp_path / "graph.kg") as store:
        for part in (ids.slice(0, first), ids.slice(first)):
            store._writer.rows("COPY Entity (id) FROM $t", {"t": pa.table({"id": part})})
        found = store._writer.rows(
            "LOAD FROM $t MATCH (n:Entity {id: c0}) RETURN count(*)", {"t": pa.table({"c0": ids})}
        )
        lost = every - found[0][0]
        report = check(store)
    assert lost > 0
    assert whats(report) == ["index"]
    assert report.findings[0].text.startswith(f"{lost} Entity nodes are not found by their id")


def test_doubles_among_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """By parts, in any order, whatever the columns: as a dictionary counts them."""
    monkeypatch.setattr("kgkit.doubles.AT_ONCE", 700)
    rng = random.Random(4)
    texts = ["", "\0", "\0\0", "a", "ab", "ba", "ä" * 3000, *(f"x{i}" for i in range(5000))]
    rows: list[tuple[str, int | None, str]] = [(t, i % 7, "k") for i, t in enumerate(texts)]
    more: list[tuple[str, int | None, str]] = [rows[i] for i in (0, 1, 6, 99)] + [
        ("a", None, "k"),
        ("a", None, "j"),
    ]
    every = rows + more
    rng.shuffle(every)
    columns = list(zip(*every, strict=True))
    table = pa.table({"a": columns[0], "b": columns[1], "c": pa.array(columns[2]).dictionary_encode()})
    parts = [table.slice(i, 900) for i in range(0, table.num_rows, 900)]
    found = doubled(lambda: parts, ["a", "b", "c"], table.num_rows)
    assert found.keys == 4 and set(found.some) <= set(rows)
    assert doubled(lambda: parts[:0], ["a"], 0).keys == 0
