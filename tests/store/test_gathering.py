"""The graph that a bulk load gathers: the contract of every store, and facts that wait beside the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from kgkit.store.gathering import GatheringStore
from kgkit.store.ladybug import LadybugStore
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
