"""The embedded store: the contract, and what is particular to a file that one process writes."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kgkit.errors import ReadOnlyStoreError, StoreError
from kgkit.schema import NODES
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_tables import SIDE
from kgkit.store.port import RunRecord
from kgkit.testing.contract_answers import recommended, vectors
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import dump
from kgkit.testing.store_contract import StoreContract


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LadybugStore]:
        with LadybugStore(tmp_path / "graph.kg") as store:
            yield store


def child(code: str, path: Path) -> subprocess.Popen[str]:
    """A process that runs code with `path`, and everything that the code needs, at hand."""
    head = """
        import sys, time, os, signal
        import numpy as np, pyarrow as pa
        from pathlib import Path
        from kgkit.errors import *
        from kgkit.store.ladybug import LadybugStore
        from kgkit.store.port import *
        from kgkit.testing.contract_answers import recommended, vectors
        from kgkit.testing.contract_write import facts, nodes
        path = Path(sys.argv[1])
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", text, str(path)], stdout=subprocess.PIPE, text=True)


def killed_after(process: subprocess.Popen[str], line: str, delay: float) -> None:
    """Kills a process some time after it printed a line."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()


# -- opening -----------------------------------------------------------------------------------------------------


def test_read_only_of_nothing_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no graph at .*none\.kg: .*kgkit ingest"):
        LadybugStore(tmp_path / "none.kg", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_graph(tmp_path: Path) -> None:
    (tmp_path / "junk.kg").write_bytes(b"no graph" * 5000)
    for read_only in (True, False):
        with pytest.raises(StoreError, match=r"junk\.kg is not a graph"):
            LadybugStore(tmp_path / "junk.kg", read_only=read_only)
        with pytest.raises(StoreError, match="is a directory"):
            LadybugStore(tmp_path, read_only=read_only)
    with pytest.raises(StoreError, match="there is no directory"):
        LadybugStore(tmp_path / "no" / "where.kg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    LadybugStore(tmp_path / "graph.kg").close()
    (tmp_path / "graph.kg").chmod(0)
    with pytest.raises(StoreError, match="permission denied"):
        LadybugStore(tmp_path / "graph.kg", read_only=True)


def test_truncated_file(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("Entity", nodes(*(f"n{i}" for i in range(5000))))
    whole = (tmp_path / "graph.kg").read_bytes()
    (tmp_path / "graph.kg").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(StoreError):
        LadybugStore(tmp_path / "graph.kg", read_only=True)


def test_read_only_store_refuses_to_write(tmp_path: Path) -> None:
    LadybugStore(tmp_path / "graph.kg").close()
    with LadybugStore(tmp_path / "graph.kg", read_only=True) as store:
        with pytest.raises(ReadOnlyStoreError):
            store.upsert_nodes("User", nodes("u"))
        with pytest.raises(ReadOnlyStoreError):
            store.query("CREATE (:User {id: 'u'})")
        with pytest.raises(ReadOnlyStoreError):
            store.query("CREATE (:User {id: 'u'})", write=True)
        assert store.stats()["nodes"]["User"] == 0


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = LadybugStore(tmp_path / "graph.kg")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.stats()


def test_two_stores_in_one_process_share_the_file(tmp_path: Path) -> None:
    """Two handles of the engine would lose each other's rows without an error."""
    with LadybugStore(tmp_path / "graph.kg") as a:
        (tmp_path / "link.kg").symlink_to(tmp_path / "graph.kg")
        with (
            LadybugStore(tmp_path / "link.kg") as b,
            LadybugStore(tmp_path / "graph.kg", read_only=True) as c,
        ):
            a.upsert_nodes("Entity", nodes(*(f"a{i}" for i in range(1000))))
            b.upsert_nodes("Entity", nodes(*(f"b{i}" for i in range(1000))))
            assert c.stats()["nodes"]["Entity"] == 2000
            with pytest.raises(ReadOnlyStoreError):
                c.clear()
        a.upsert_nodes("Entity", nodes("last"))
    with LadybugStore(tmp_path / "graph.kg", read_only=True) as d:
        assert d.stats()["nodes"]["Entity"] == 2001


def test_a_second_writing_process_is_refused_at_once(tmp_path: Path) -> None:
    code = """
        started = time.monotonic()
        try:
            LadybugStore(path)
        except RetryableStoreError as error:
            print("refused", str(path) in str(error), time.monotonic() - started < 2)
        with LadybugStore(path, read_only=True) as store:
            print("read", store.stats()["nodes"]["Entity"])
    """
    path = tmp_path / "graph.kg"
    with LadybugStore(path) as store:
        store.upsert_nodes("Entity", nodes("a"))
        out, _ = child(code, path).communicate(timeout=60)
    assert out.splitlines() == ["refused True True", "read 1"]
    out, _ = child("LadybugStore(path).close(); print('free')", path).communicate(timeout=60)
    assert out.strip() == "free"


def test_a_reader_sees_what_another_process_commits(tmp_path: Path) -> None:
    """Also when the file below it is rewritten meanwhile."""
    path = tmp_path / "graph.kg"
    with LadybugStore(path) as store:
        store.upsert_nodes("Entity", nodes("a"))
    code = """
        with LadybugStore(path) as store:
            for n in range(3):
                store.clear()
                store.upsert_nodes("Entity", nodes(*(f"{n}-{i}" for i in range(3000))))
                store._engine.checkpoint()
                print(n, flush=True)
                time.sleep(0.1)
        print("end", flush=True)
        time.sleep(60)
    """
    with LadybugStore(path, read_only=True) as reader:
        assert reader.stats()["nodes"]["Entity"] == 1
        process = child(code, path)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "end":
                break
            ids = reader.node_index("Entity").ids.to_pylist()
            assert len(ids) in (0, 3000) and len({i.split("-")[0] for i in ids}) <= 1
        assert reader.node_index("Entity").ids[0].as_py() == "2-0"
        process.kill()
        process.wait()


# -- kills -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.4, 0.8])
def test_kill_during_upserts(tmp_path: Path, delay: float) -> None:
    """After a kill the graph opens, is consistent, and the same upsert completes it."""
    code = """
        store = LadybugStore(path)
        print("go", flush=True)
        for n in range(100):
            rows = [(f"{n}/{i}", f"r{i % 5}", f"{n}/{i + 1}") for i in range(4000)]
            store.upsert_edges("FACT", facts(*rows), missing="create")
    """
    path = tmp_path / "graph.kg"
    killed_after(child(code, path), "go", delay)
    rows = [(f"0/{i}", f"r{i % 5}", f"0/{i + 1}") for i in range(4000)]
    with LadybugStore(path) as store:
        store.upsert_edges("FACT", facts(*rows), missing="create")
        got = dump(store)
        assert {(h, t, r) for h, r, t in rows} <= set(got["FACT"])
        assert {end for f in got["FACT"] for end in f[:2]} <= set(got["Entity"])
        looked_up = list(
            store.query(
                "UNWIND $ids AS i MATCH (e:Entity {id: i}) RETURN e.id", {"ids": list(got["Entity"])}
            ).rows
        )
        assert len(looked_up) == len(got["Entity"]) == len(store.node_index("Entity"))
        assert store.upsert_edges("FACT", facts(*rows)).created == 0


@pytest.mark.parametrize("read_only", [False, True])
def test_a_log_that_a_killed_writer_left_unfinished(tmp_path: Path, read_only: bool) -> None:
    """Cut off anywhere, the log gives the graph of some commit."""
    code = """
        store = LadybugStore(path)
        for n in range(40):
            store.upsert_nodes("Entity", nodes(f"{n}/a", f"{n}/b"))
        print("go", flush=True)
        time.sleep(60)
    """
    path = tmp_path / "graph.kg"
    killed_after(child(code, path), "go", 0.0)
    log = path.with_name(path.name + ".wal")
    whole, rest = log.read_bytes(), path.read_bytes()
    assert len(whole) > 2000
    counts = []
    for cut in (len(whole) * 2 // 5, len(whole) * 3 // 5, len(whole) - 3):
        path.write_bytes(rest)
        log.write_bytes(whole[:cut])
        with LadybugStore(path, read_only=read_only) as store:
            ids = set(dump(store)["Entity"])
        assert {i.replace("a", "b") for i in ids} <= ids, "both of a commit or none"
        assert ids == {f"{n}/{x}" for n in range(len(ids) // 2) for x in "ab"}
        counts.append(len(ids))
        with LadybugStore(path) as store:
            store.upsert_nodes("Entity", nodes("after"))
        with LadybugStore(path) as store:
            assert set(dump(store)["Entity"]) == {*ids, "after"}
    assert counts == sorted(counts) and 0 < counts[0] < counts[-1] < 80


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5, 1.0, 1.6])
def test_kill_during_replace_answers(tmp_path: Path, delay: float) -> None:
    """After a kill there are the old answers or the new ones, never a mix; leftovers go with the next writer."""
    path = tmp_path / "graph.kg"
    n, first, second = 6000, np.ones((6000, 8)), np.full((6000, 16), 2)
    ids = [f"e{i}" for i in range(n)]
    with LadybugStore(path) as store:
        store.upsert_nodes("Entity", nodes(*ids))
        store.upsert_nodes("User", nodes("u"))
        store.replace_answers(
            RunRecord("r1", "kgcn", "1"),
            [vectors("Entity", ids, first)],
            [recommended(*(("u", i, 1.0, 1) for i in ids))],
        )
    code = """
        store = LadybugStore(path)
        ids = [f"e{i}" for i in range(6000)]
        answers = recommended(*(("u", i, 2.0, 2) for i in ids))
        print("go", flush=True)
        store.replace_answers(RunRecord("r2", "kgcn", "2"), [vectors("Entity", ids, np.full((6000, 16), 2))], [answers])
        time.sleep(60)
    """
    killed_after(child(code, path), "go", delay)
    with LadybugStore(path, read_only=True) as store:
        got = dump(store)
        runs = {key[2] for key in got["RECOMMENDED"]}
        assert len(got["RECOMMENDED"]) == n and len(runs) == 1
        (run,) = runs
        assert {k: v["current"] for k, v in got["Run"].items() if v["current"]} == {run: True}
        found, matrix = store.read_vectors("Entity", "embedding_kgcn")
        assert len(found) == n and np.array_equal(matrix, first if run == "r1" else second)
    with LadybugStore(path) as store:
        engine = store._engine
        for label in NODES:
            columns = engine.rows(f"CALL TABLE_INFO('{label}') RETURN *")
            assert not any(row[1].endswith(SIDE) for row in columns)
        store.replace_answers(RunRecord("r3", "kgcn", "3"), [vectors("Entity", ids[:5], np.ones((5, 3)))], [])
        assert len(store.read_vectors("Entity", "embedding_kgcn")[0]) == 5


# -- the engine's own ways -----------------------------------------------------------------------------------------


def test_property_names_that_differ_in_case_only(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("User", nodes("u", Age=[1]))
        with pytest.raises(StoreError, match="'Age'"):
            store.upsert_nodes("User", nodes("u", age=[2]))


def test_values_that_do_not_fit(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("User", nodes("u", age=[1]))
        for bad in (["old"], [1.5]):
            with pytest.raises(StoreError, match="age"):
                store.upsert_nodes("User", nodes("u", age=bad))
        store.upsert_nodes("User", nodes("u", age=pa.array([2.0])))
        assert dump(store)["User"] == {"u": {"age": 2}}


def test_unknown_names_in_cypher_are_errors_with_a_hint(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        with pytest.raises(StoreError, match=r"Nope.*kgkit stats"):
            store.query("MATCH (n:Nope) RETURN n")
        with pytest.raises(StoreError, match=r"colour.*exists once"):
            store.query("MATCH (n:Entity) RETURN n.colour")


def test_functions_of_cypher_that_the_engine_lacks(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_edges("FACT", facts(("a", "r", "b")), missing="create")
        cypher = (
            "MATCH (:Entity)-[f:FACT]->() RETURN type(f), toInteger('7') + 1, toFloat('1.5'), toString(5)"
        )
        assert list(store.query(cypher).rows) == [("FACT", 8, 1.5, "5")]


def test_many_nulls_between_values(tmp_path: Path) -> None:
    """The engine's native Arrow collector shifts values when there are nulls; kgkit must not use it there."""
    n = 5000
    names = [f"name {i}" if i % 3 else None for i in range(n)]
    ages = [i if i % 7 == 0 else None for i in range(n)]
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("User", nodes(*(f"u{i}" for i in range(n)), name=names, age=ages))
        got = dump(store)["User"]
    for i in range(n):
        expected = {k: v for k, v in (("name", names[i]), ("age", ages[i])) if v is not None}
        assert got[f"u{i}"] == expected


def test_a_file_from_before_facts_had_labels(tmp_path: Path) -> None:
    """Reading does without the columns, writing adds them."""
    path = tmp_path / "graph.kg"
    with LadybugStore(path) as store:
        store.upsert_edges("FACT", facts(("a", "r", "b"), source=["s"]), missing="create")
        store.query("ALTER TABLE FACT DROP split", write=True)
        store.query("ALTER TABLE FACT DROP `time`", write=True)
    old = {("a", "b", "r"): {"relation": "r", "source": "s"}}
    with LadybugStore(path, read_only=True) as store:
        assert store.edge_properties("FACT") == ["relation", "source"]
        assert dump(store)["FACT"] == old
        index = store.node_index("Entity")
        got = store.edges("FACT", index, index, properties=("rid", "split", "time"))
        assert got.columns["split"].tolist() == [None] and np.isnan(got.columns["time"]).all()
    with LadybugStore(path) as store:
        assert dump(store)["FACT"] == old
        store.upsert_edges(
            "FACT", facts(("a", "r", "b"), ("b", "r", "a"), split=["train", "test"], time=[1, 2])
        )
    with LadybugStore(path, read_only=True) as store:
        assert dump(store)["FACT"] == {
            ("a", "b", "r"): {"relation": "r", "source": "s", "split": "train", "time": 1},
            ("b", "a", "r"): {"relation": "r", "split": "test", "time": 2},
        }


@pytest.mark.parametrize(
    ("low", "first", "every"), [(147380404730, 25_000, 125_000), (595085220939, 38_000, 152_000)]
)
def test_no_key_is_lost_when_a_table_grows_manifold(tmp_path: Path, low: int, first: int, every: int) -> None:
    """Of these keys one COPY of the rest loses one or two, each time (see the hazards in ladybug_engine)."""
    ids = pa.array([f"m.{i:x}" for i in range(low, low + every)])
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("Entity", pa.table({"id": ids.slice(0, first)}))
        store.upsert_nodes("Entity", pa.table({"id": ids.slice(first)}))
        found = store._writer.rows(
            "LOAD FROM $t MATCH (n:Entity {id: c0}) RETURN count(*)", {"t": pa.table({"c0": ids})}
        )
        assert found == [[every]]


def test_large_copies_open_the_file_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgkit.store.ladybug_engine.REOPEN_FROM", 100)
    for name in ("COPY_FROM", "COPY_EDGES_FROM"):
        monkeypatch.setattr(f"kgkit.store.ladybug_write.{name}", 100)
    opened: list[bool] = []
    reopen = Engine._reopen
    monkeypatch.setattr(
        Engine, "_reopen", lambda engine, **how: (opened.append(True), reopen(engine, **how))[1]
    )
    path, told = (
        tmp_path / "graph.kg",
        [[(f"n{i}", f"r{k}", f"n{i * 7 % 500}") for i in range(500)] for k in range(3)],
    )
    with LadybugStore(path) as store, LadybugStore(path) as other:
        for k, rows in enumerate(told):
            store.upsert_edges("FACT", facts(*rows, *told[0][:50]), missing="create")
            assert other.stats()["relationships"]["FACT"] == 500 * (k + 1)
            assert len(other.node_index("Entity")) == 500
        whole = dump(store)
    assert len(opened) >= 3
    assert (
        set(whole["FACT"]) >= {(h, t, r) for rows in told for h, r, t in rows[:5]}
        and len(whole["FACT"]) == 1500
    )
    with LadybugStore(path, read_only=True) as store:
        assert dump(store) == whole


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An engine that never has room: every COPY goes by parts of 100 rows, whose sizes are listed."""
    for name, value in (("REOPEN_FROM", 100), ("LARGE", 50), ("ROOM", -1 << 40)):
        monkeypatch.setattr(f"kgkit.store.ladybug_engine.{name}", value)
    for name in ("COPY_FROM", "COPY_EDGES_FROM"):
        monkeypatch.setattr(f"kgkit.store.ladybug_write.{name}", 100)
    copied: list[int] = []
    rows = Engine.rows

    def listed(engine: Engine, cypher: str, params: Any = None) -> list[list[Any]]:
        found = rows(engine, cypher, params)
        if cypher.startswith("COPY"):
            copied.append(params["t"].num_rows)
        return found

    monkeypatch.setattr(Engine, "rows", listed)
    return copied


STAR = [("hub", f"r{i % 3}", f"n{i * 7 % 500}") for i in range(450)]


def test_where_memory_is_short_copies_go_by_parts(tmp_path: Path, little_room: list[int]) -> None:
    told = [(f"n{i}", f"r{i % 3}", f"n{i * 7 % 500}") for i in range(500)]
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes(
            "Entity", nodes(*(f"n{i}" for i in range(300)), name=[f"N{i}" for i in range(300)])
        )
        assert little_room == [100, 100, 100]
        store.upsert_edges("FACT", facts(*told), missing="create")
        assert little_room == [100] * 10
        again = store.upsert_edges("FACT", facts(*told, *STAR), missing="create")
        assert (again.created, again.matched) == (450, 500)
        assert little_room == [100] * 10 + [90] * 5
        assert len(store.node_index("Entity")) == 501
        assert set(dump(store)["FACT"]) == {(h, t, r) for h, r, t in (*told, *STAR)}
        names = pa.concat_tables(store.read_nodes("Entity", ["name"]))
        assert {row["id"]: row["name"] for row in names.to_pylist() if row["name"]} == {
            f"n{i}": f"N{i}" for i in range(300)
        }


def test_whoever_holds_very_many_rows_has_room_for_a_half(
    tmp_path: Path, little_room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgkit.store.ladybug_engine.VERY_MANY", 400)
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_nodes("Entity", nodes(*(f"n{i}" for i in range(500)), "hub"))
        little_room.clear()
        assert store.upsert_edges("FACT", facts(*STAR)).created == 450
        assert little_room == [225, 225]


def test_a_copy_that_fails_between_parts_is_gone_on_with(
    tmp_path: Path, little_room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, begun = Engine.rows, 0

    def broken(engine: Engine, cypher: str, params: Any = None) -> list[list[Any]]:
        nonlocal begun
        begun += cypher.startswith("COPY `FACT`")
        if begun == 2:
            raise StoreError("no more")
        return rows(engine, cypher, params)

    with LadybugStore(tmp_path / "graph.kg") as store:
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "rows", broken)
            with pytest.raises(StoreError, match="no more"):
                store.upsert_edges("FACT", facts(*STAR), missing="create")
        assert store.stats()["relationships"]["FACT"] == 90
        done = store.upsert_edges("FACT", facts(*STAR), missing="create")
        assert (done.created, done.matched) == (360, 90)
        assert set(dump(store)["FACT"]) == {(h, t, r) for h, r, t in STAR}


def test_an_error_that_somebody_keeps_takes_nothing_along_when_it_goes(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "graph.kg") as store:
        kept: list[StoreError] = []
        twice = pa.table({"id": [*(f"n{i}" for i in range(5_000)), "n7"]})
        try:
            store._engine.copy_nodes("Entity", twice)  # which opens the file anew after an error
        except StoreError as error:
            kept.append(error)
        store.upsert_nodes("Entity", nodes(*(f"m{i}" for i in range(3_000))))
        assert kept
        kept.clear()  # the handle from before the error dies here at the latest
        gc.collect()
        store.upsert_nodes("Entity", nodes(*(f"q{i}" for i in range(3_000))))
        store._engine.checkpoint()
        assert store.stats()["nodes"]["Entity"] == 6_000
    with LadybugStore(tmp_path / "graph.kg", read_only=True) as store:
        assert store.stats()["nodes"]["Entity"] == 6_000


@pytest.mark.parametrize("opened_anew", [False, True])
@pytest.mark.parametrize("at_a_time", [1, 7, 40])
def test_relationships_are_compared_range_by_range_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int, opened_anew: bool
) -> None:
    """However few stored facts are looked at at a time: the last row of each fact stands, and none is there twice."""
    monkeypatch.setattr("kgkit.store.ladybug_compare.STORED_ROWS", at_a_time)
    rng, expected = np.random.default_rng(3), {}
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(LadybugStore(tmp_path / "graph.kg"))
        for batch in range(5):
            if opened_anew:  # nothing is known then of what is stored
                opened.close()
                store = opened.enter_context(LadybugStore(tmp_path / "graph.kg"))
            rows = [  # some heads are new in each batch
                (f"e{h + 5 * batch}", f"r{r}", f"e{t}")
                for h, r, t in zip(*rng.integers(0, [[12], [3], [12]], (3, 60)), strict=True)
            ]
            sources = [f"s{batch}-{s}" for s in rng.integers(0, 2, len(rows))]
            new = len(set(rows) - expected.keys())
            expected |= dict(zip(rows, sources, strict=True))
            stats = store.upsert_edges("FACT", facts(*rows, source=sources), missing="create")
            assert (stats.created, stats.matched) == (new, len(set(rows)) - new)
        found = pa.concat_tables(store.read_edges("FACT", ["relation", "source"])).to_pylist()
    assert len(found) == len(expected)
    assert {(f["head"], f["relation"], f["tail"]): f["source"] for f in found} == expected


def test_relationships_are_read_range_by_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {(f"n{i * 7 % 90}", f"r{i % 3}", f"n{i % 40}") for i in range(200)}
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_edges("FACT", facts(*told), missing="create")
        store.delete_nodes("Entity", [f"n{i}" for i in range(0, 60, 3)])  # offsets have gaps
        store.upsert_nodes("Entity", nodes("n1", "n2", "late", name=["One", None, "Late"]))

        def read() -> list[list[pa.Table]]:
            named = store.read_nodes("Entity", ["name"], having="name")
            return [list(store.read_edges("FACT")), list(store.read_nodes("Entity")), list(named)]

        whole = read()
        monkeypatch.setattr("kgkit.store.ladybug.READ_AT_ONCE", 7)
        parts = read()
    for once, often in zip(whole, parts, strict=True):
        assert len(once) == 1 and (len(often) > 5 or len(once[0]) == 2)
        rows = [sorted(map(str, pa.concat_tables(tables).to_pylist())) for tables in (once, often)]
        assert rows[0] == rows[1] and len(rows[0]) == len(once[0])


def test_heads_that_others_gave_facts_to_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgkit.store.ladybug_compare.STORED_ROWS", 3)
    told = [(f"n{i}", "of", f"x{i % 3}") for i in range(8)]
    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_edges("FACT", facts(*told), missing="create")
        store.upsert_nodes("Entity", nodes("p", "q", "goal", "item:7", item_id=[None, None, None, "7"]))
        store.upsert_edges("FACT", facts(("q", "of", "x1")))
        store.query(
            "MATCH (p:Entity {id: 'p'}), (x:Entity {id: 'x1'}) CREATE (p)-[:FACT {relation: 'of', rid: 0}]->(x)",
            write=True,
        )
        store.upsert_edges("FACT", facts(("item:7", "of", "x2")))
        store.align(pa.table({"item": ["7"], "entity": ["goal"]}))  # its fact goes along, in a transaction
        again = store.upsert_edges(
            "FACT", facts(("p", "of", "x1"), ("q", "of", "x1"), ("goal", "of", "x2"), ("goal", "of", "x1"))
        )
        assert (again.created, again.matched) == (1, 3)
        assert store.stats()["relationships"]["FACT"] == 12


@pytest.mark.parametrize("among", [1_500_000, 40], ids=["whole", "by ranges of heads"])
def test_facts_told_again_by_another_source_are_found_by_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, among: int
) -> None:
    monkeypatch.setattr("kgkit.store.ladybug_compare.STORED_ROWS", among)
    told = [(f"n{i}", f"r{i % 3}", f"n{i * 7 % 100}") for i in range(100)]
    first, second = told[:70], told[50:]

    def by(source: str, rows: list[tuple[str, str, str]], **more: Any) -> pa.Table:
        table = facts(*rows).append_column("source", pa.array([source] * len(rows)))
        for name, values in more.items():
            table = table.append_column(name, pa.array(values))
        return table

    def sources(store: LadybugStore) -> dict[tuple[str, str, str], tuple[str | None, str | None]]:
        rows = pa.concat_tables(store.read_edges("FACT", ["relation", "source", "split"])).to_pylist()
        return {(r["head"], r["relation"], r["tail"]): (r["source"], r["split"]) for r in rows}

    with LadybugStore(tmp_path / "graph.kg") as store:
        store.upsert_edges("FACT", facts(*told[:5]), missing="create")  # of no source
        for _ in range(2):
            stats = store.upsert_edges("FACT", by("a", first), missing="create")
        assert (stats.created, stats.matched) == (0, 70)
        stats = store.upsert_edges("FACT", by("b", second), missing="create")
        assert (stats.created, stats.matched) == (30, 20)
        assert sources(store) == {t: ("b" if t in second else "a", None) for t in told}
        labels = ["train" if i % 2 else None for i in range(100)]
        stats = store.upsert_edges("FACT", by("b", told, split=labels))
        assert (stats.created, stats.matched) == (0, 100)
        assert sources(store) == {t: ("b", label) for t, label in zip(told, labels, strict=True)}
        mixed = facts(*told).append_column("source", pa.array(["c", "b"] * 50))
        store.upsert_edges("FACT", mixed)
        assert [source for source, _ in map(sources(store).get, told)] == ["c", "b"] * 50  # type: ignore[misc]
