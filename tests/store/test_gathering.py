"""The graph that a bulk load gathers: the contract of every store, and facts that wait beside the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kgkit.store.gathering import GatheringStore, WaitingFacts
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import NUMBER
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import dump
from kgkit.testing.store_contract import StoreContract


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LadybugStore]:
        with GatheringStore(tmp_path / "graph.kg") as store:
            yield store


def _told(source: str | None, *rows: tuple[str, str, str]) -> pa.Table:
    table = facts(*rows)
    return table.append_column("source", pa.array([source] * len(rows), pa.string()))


ROWS = [(f"e{i % 50}", f"r{i % 7}", f"e{i * 13 % 90}") for i in range(400)]


def _fill(store: LadybugStore) -> None:
    store.upsert_nodes("Entity", nodes("e1", "alone"))
    first = store.upsert_edges("FACT", _told("b", *ROWS[:300]), missing="create")
    again = store.upsert_edges("FACT", _told("a", *ROWS[200:]), missing="create")
    assert first.created + again.created == len(set(ROWS))
    assert again.matched == len(set(ROWS[200:]) & set(ROWS[:300]))
    store.upsert_edges("FACT", _told(None, ("e1", "r0", "e2"), ROWS[0]), missing="create")


def test_facts_wait_and_read_as_those_of_an_embedded_graph(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "plain.kg") as plain, GatheringStore(tmp_path / "graph.kg") as store:
        _fill(plain)
        _fill(store)
        assert store.stats() == plain.stats()
        read = [pa.concat_tables(s.read_edges("FACT")).cast(_TEXTS) for s in (plain, store)]
        assert sorted(map(str, read[0].to_pylist())) == sorted(map(str, read[1].to_pylist()))
        assert (tmp_path / "graph.kg.facts").stat().st_size > 0  # none of this put them into the engine
    with GatheringStore(tmp_path / "graph.kg") as store, LadybugStore(tmp_path / "plain.kg") as plain:
        assert store.stats() == plain.stats()
        found = store.query("MATCH (:Entity)-[f:FACT]->(:Entity) RETURN count(f)").rows  # this does
        assert next(found) == (len(set(ROWS) | {("e1", "r0", "e2")}),)
        assert not (tmp_path / "graph.kg.facts").exists()
        assert dump(store) == dump(plain)


_TEXTS = pa.schema([(name, pa.string()) for name in ("head", "tail", "relation", "source")])


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_facts_wait_in_blocks_as_in_a_dict(tmp_path: Path, most: int) -> None:
    rng = np.random.default_rng(0)
    waiting, expected = WaitingFacts(tmp_path / "facts", most), dict[int, int]()
    for _ in range(12):
        facts = np.unique(rng.integers(0, 150, 40)) << 13  # tails
        source = rng.integers(0, 3, len(facts)).astype(np.uint16)
        new = set(facts.tolist()) - set(expected)
        assert waiting.add(facts, source) == len(new)
        expected |= {f: s for f, s in zip(facts.tolist(), source.tolist(), strict=True) if s or f in new}
        assert len(waiting) == len(expected)
        for held in (waiting, WaitingFacts(tmp_path / "facts", most)):
            parts = list(held.parts(5))
            found = [(tail << 13, source) for _, tails, _, codes in parts
                     for tail, source in zip(tails.tolist(), codes.tolist(), strict=True)]  # fmt: skip
            assert found == sorted(expected.items())
            assert all(0 < len(part[0]) <= min(5, most) for part in parts)
    tails = [part[1].tolist() for part in waiting.drain()]
    assert [tail << 13 for block in reversed(tails) for tail in block] == sorted(expected)
    assert len(waiting) == 0 and len(WaitingFacts(tmp_path / "facts", most)) == len(expected)


def test_numbered_nodes_and_facts_are_those_with_ids(tmp_path: Path) -> None:
    with GatheringStore(tmp_path / "graph.kg") as store:
        _fill(store)
        store.upsert_nodes("User", nodes("u"))
        for _ in range(2):  # the facts wait, and then they do not
            known = {}
            for label in ("Entity", "User"):
                with_ids = pa.concat_tables(store.read_nodes(label)).to_pylist()
                found = pa.concat_tables(store.numbered_nodes(label)).to_pylist()
                known[label] = {row.pop(NUMBER): row["id"] for row in found}
                assert len(known[label]) == len(found) and min(known[label]) >= 0
                assert sorted(found, key=str) == sorted(with_ids, key=str)
            told = pa.concat_tables(store.numbered_edges("FACT"))
            rows = [
                row | {end: known["Entity"][row[end]] for end in ("head", "tail")} for row in told.to_pylist()
            ]
            edges = pa.concat_tables(store.read_edges("FACT")).to_pylist()
            assert sorted(rows, key=_sorted) == sorted(edges, key=_sorted)
            store.query("MATCH ()-[f:FACT]->() RETURN count(f)")


def _sorted(row: dict[str, object]) -> str:
    return str(sorted(row.items()))


@pytest.mark.parametrize("most", [0, 60, 120])
def test_more_facts_than_may_wait_go_into_the_engine(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgkit.store.gathering.MOST", most)
    with LadybugStore(tmp_path / "plain.kg") as plain, GatheringStore(tmp_path / "graph.kg") as store:
        for each in (plain, store):
            for at in range(0, len(ROWS), 50):
                each.upsert_edges("FACT", _told("b", *ROWS[at : at + 50]), missing="create")
            each.upsert_edges("FACT", _told("a", *ROWS[20:90]), missing="create")
        assert not (tmp_path / "graph.kg.facts").exists()
        assert store.stats() == plain.stats()
        assert dump(store) == dump(plain)


@pytest.mark.parametrize("cut", [1, 9])
def test_a_record_cut_off_by_a_kill_is_told_again(tmp_path: Path, cut: int) -> None:
    with GatheringStore(tmp_path / "graph.kg") as store:
        store.upsert_edges("FACT", _told("a", *ROWS[:5]), missing="create")
    path = tmp_path / "graph.kg.facts"
    path.write_bytes(path.read_bytes()[:-cut])
    with GatheringStore(tmp_path / "graph.kg") as store:
        assert store.stats()["relationships"]["FACT"] == 4
        assert store.upsert_edges("FACT", _told("a", *ROWS[:6]), missing="create").created == 2
        assert store.stats()["relationships"]["FACT"] == 6


def test_a_kill_while_facts_go_into_the_engine_doubles_none(tmp_path: Path) -> None:
    with GatheringStore(tmp_path / "graph.kg") as store:
        _fill(store)
        kept = [(f, f.read_bytes()) for f in tmp_path.glob("graph.kg.facts*")]
        whole = dump(store)
    for file, content in kept:  # as if the process had ended before it forgot them
        file.write_bytes(content)
    with GatheringStore(tmp_path / "graph.kg") as store:
        assert dump(store) == whole
        store.upsert_edges("FACT", _told("a", *ROWS), missing="create")
        assert store.stats()["relationships"]["FACT"] == len(whole["FACT"])
