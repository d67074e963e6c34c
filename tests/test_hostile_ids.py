"""Ids that no graph can hold, or that would be taken for an item's: rejects with file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENGINES, empty_graph

from kgkit.config import make_config
from kgkit.errors import StoreError
from kgkit.ingest import IngestReport, ingest
from kgkit.registry import load_connector
from kgkit.schema import MAX_ID_BYTES
from kgkit.store.port import GraphStore
from kgkit.testing.contract_write import facts, nodes

MOST, TOO_LONG = "é" * (MAX_ID_BYTES // 2), "é" * (MAX_ID_BYTES // 2) + "x"


@pytest.fixture(params=ENGINES[:2])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    yield from empty_graph(request, tmp_path)


def bring(
    store: GraphStore, name: str, path: Path, text: str, **options: Any
) -> tuple[IngestReport, list[Any]]:
    """What an ingest says, and its list of rejects: file, line, reason, text."""
    path.write_text(text, encoding="utf-8")
    listed = path.with_suffix(".rejects")
    config = make_config((connector := load_connector(name)()).Config, {"paths": (path,), **options})
    report = ingest(connector, config, store, max_rejects=100, rejects=listed)
    rows = list(csv.reader(listed.open(encoding="utf-8"), dialect="excel-tab"))[1:] if listed.exists() else []
    return report, rows


def test_long_ids_are_rejects(store: GraphStore, tmp_path: Path) -> None:
    """One too long in each column; the longest that there may be is stored."""
    file = tmp_path / "facts.csv"
    text = f"head,relation,tail\na,r,{MOST}\n{TOO_LONG},r,b\na,{TOO_LONG},b\na,r,{TOO_LONG}\na,r,c\n"
    report, rejects = bring(store, "triples", file, text)
    assert report.sources[0].rejected == 3
    assert [(r[0], r[1]) for r in rejects] == [(str(file), n) for n in "345"]
    assert all("8,000 bytes" in r[2] for r in rejects)
    assert {r[0] for r in store.query("MATCH (e:Entity) RETURN e.id").rows} == {"a", MOST, "c"}
    item = "i" * (MAX_ID_BYTES - 5)
    file = tmp_path / "log.csv"
    text = f"user,item\nu,{item}\nu,{item}i\n{TOO_LONG},j\n{MOST},j\n"
    report, rejects = bring(store, "purchases", file, text)
    assert report.sources[0].rejected == 2 and [r[1] for r in rejects] == ["3", "4"]
    assert {r[0] for r in store.query("MATCH (u:User) RETURN u.id").rows} == {"u", MOST}


def test_store_refuses_long_ids(store: GraphStore) -> None:
    for table in (nodes(TOO_LONG), nodes("a", MOST + "é")):
        with pytest.raises(StoreError, match=r"at most 8,000"):
            store.upsert_nodes("Entity", table)
    for fact in (("a", "r", TOO_LONG), (TOO_LONG, "r", "a"), ("a", TOO_LONG, "b")):
        with pytest.raises(StoreError, match=r"at most 8,000"):
            store.upsert_edges("FACT", facts(fact), missing="create")
    assert store.stats()["nodes"]["Entity"] == 0


@pytest.mark.parametrize("first", ["triples", "purchases"])
def test_entity_that_is_called_like_an_item(store: GraphStore, tmp_path: Path, first: str) -> None:
    given = {
        "triples": "head,relation,tail\nitem:7,color,red\nred,of,item:7\na,b,c\n",
        "purchases": "user,item\nu,7\n",
    }
    for name in (first, *(n for n in given if n != first)):
        report, rejects = bring(store, name, tmp_path / f"{name}.csv", given[name])
        if name == "triples":
            assert [r[1] for r in rejects] == ["2", "3"] and all("another id" in r[2] for r in rejects)
            assert rejects[0][0] == str(tmp_path / "triples.csv")
            assert report.sources[0].rejected == 2
    assert list(store.query("MATCH (i:Entity)-[f:FACT]-() WHERE i.item_id = '7' RETURN i.id").rows) == []
    assert store.stats()["relationships"]["FACT"] == 1


def test_an_alignment_gives_an_item_back_to_itself(store: GraphStore, tmp_path: Path) -> None:
    """`item:<id>` is no wrong id there: of the item itself it is asked for, of another one a conflict."""
    bring(store, "purchases", tmp_path / "log.csv", "user,item\nu,7\nu,8\n")
    report, _ = bring(store, "alignment", tmp_path / "link.tsv", "7\titem:7\n8\titem:7\n")
    assert (report.sources[0].rejected, report.sources[0].conflicts) == (0, 1)
    found = store.query("MATCH (e:Entity) WHERE e.item_id IS NOT NULL RETURN e.id, e.item_id ORDER BY e.id")
    assert list(found.rows) == [("item:7", "7"), ("item:8", "8")]
