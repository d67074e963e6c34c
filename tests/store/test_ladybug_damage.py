"""Damage to an embedded graph's file and log: told from change by the seal and by the log's own checksums."""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kgkit.check import Report
from kgkit.check_target import check_target
from kgkit.errors import DamagedStoreError
from kgkit.store import ladybug_seal
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_backup import repair
from kgkit.store.ladybug_log import log_state
from kgkit.store.open import open_store
from kgkit.testing.contract_write import nodes

COMMITS = 6


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests change files without their time stamps, and open them again in one process."""
    monkeypatch.setattr(ladybug_seal, "_looked_at", _Forgets())


class _Forgets(dict[Path, tuple[int, int]]):
    def __setitem__(self, path: Path, stamp: tuple[int, int]) -> None:
        pass


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph of some MiB, closed."""
    path = tmp_path_factory.mktemp("sealed") / "graph.kg"
    rng = np.random.default_rng(5)
    with LadybugStore(path) as store:
        some = [
            (f"u{u}", f"i{i}")
            for u, i in zip(rng.integers(0, 900, 9000), rng.integers(0, 300, 9000), strict=True)
        ]
        store.upsert_nodes("User", nodes(*{u for u, _ in some}))
        store.upsert_nodes("Entity", nodes(*{i for _, i in some}))
        head, tail = zip(*dict.fromkeys(some), strict=True)
        store.upsert_edges("PURCHASED", pa.table({"head": head, "tail": tail, "source": ["s"] * len(head)}))
    return path


@pytest.fixture
def graph(sealed: Path, tmp_path: Path) -> Path:
    """A copy of it, time stamps included."""
    for file in sealed.parent.iterdir():
        shutil.copy2(file, tmp_path / file.name)
    return tmp_path / sealed.name


def damaged(path: Path, change: Callable[[bytearray], None]) -> None:
    """Changes bytes as a disk does: the time stamp stays."""
    stamp = path.stat().st_mtime_ns
    data = bytearray(path.read_bytes())
    before = bytes(data)
    change(data)
    assert data != before
    path.write_bytes(data)
    os.utime(path, ns=(stamp, stamp))


def trials(path: Path, number: int, seed: int) -> Iterator[Callable[[bytearray], None]]:
    """Flips of a bit, and 4 KiB of zeros, at seeded places."""
    rng = random.Random(seed)
    data = path.read_bytes()
    while number:
        at, bit, block = rng.randrange(len(data)), 1 << rng.randrange(8), number % 2
        page = at // 4096 * 4096
        if block and not any(data[page : page + 4096]):
            continue
        number -= 1

        def change(
            data: bytearray, at: int = at, bit: int = bit, page: int = page, block: int = block
        ) -> None:
            if block:
                data[page : page + 4096] = bytes(len(data[page : page + 4096]))
            else:
                data[at] ^= bit

        yield change


def seal_notes(report: Report) -> list[str]:
    """What a check notes of the seal."""
    return [note for note in report.notes if "seal" in note]


def test_every_damage_of_a_closed_file_is_one_line(sealed: Path, tmp_path: Path) -> None:
    for change in trials(sealed, 24, seed=int(os.environ.get("KGKIT_SEED", "1"))):
        path = tmp_path / sealed.name
        for file in sealed.parent.iterdir():
            shutil.copy2(file, tmp_path / file.name)
        damaged(path, change)
        for read_only in (True, False):
            with pytest.raises(
                DamagedStoreError, match=r"graph\.kg is damaged, 1 of \d+ blocks .*: restore a backup"
            ):
                LadybugStore(path, read_only=read_only)
        report = check_target(path)
        assert report.exit_code == 1 and [f.what for f in report.findings] == ["file"]


def test_a_file_cut_short(graph: Path) -> None:
    damaged(graph, lambda data: data.__delitem__(slice(len(data) - 5000, len(data))))
    with pytest.raises(DamagedStoreError, match=r"its size is not what was written"):
        LadybugStore(graph, read_only=True)


def test_what_an_opening_has_no_time_for_a_check_finds(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladybug_seal, "AT_OPEN", 0.0)  # the first block, that is
    damaged(graph, lambda data: data.__setitem__(3 << 20, data[3 << 20] ^ 1))
    ladybug_seal.opened(graph)
    assert [f.what for f in check_target(graph).findings] == ["file"]


def test_whoever_writes_seals_anew_and_whoever_reads_does_not(graph: Path) -> None:
    before = ladybug_seal.read_seal(graph)
    with LadybugStore(graph, read_only=True):
        pass
    assert ladybug_seal.read_seal(graph) == before
    with LadybugStore(graph) as store:
        store.upsert_nodes("Entity", nodes("new"))
    after = ladybug_seal.read_seal(graph)
    assert before and after and after != before and after.is_of(graph) and after.sums
    assert seal_notes(check_target(graph)) == []


def test_a_seal_without_sums_where_they_take_too_long(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladybug_seal, "AT_CLOSE", 0.0)
    monkeypatch.setattr(ladybug_seal, "SHARE", 0.0)
    with LadybugStore(graph) as store:
        store.upsert_nodes("Entity", nodes("new"))
    seal = ladybug_seal.read_seal(graph)
    assert seal and seal.sums is None and seal.is_of(graph)
    first, second = check_target(graph), check_target(graph)
    assert any("sealed now" in note for note in first.notes) and first.exit_code == 0
    assert seal_notes(second) == [] and second.exit_code == 0


def test_a_seal_that_is_damaged_itself_is_none(graph: Path) -> None:
    seal = ladybug_seal.seal_of(graph)
    text = seal.read_text().replace('"size": ', '"size": 1')
    seal.write_text(text)
    assert ladybug_seal.read_seal(graph) is None
    with LadybugStore(graph, read_only=True) as store:
        assert store.counts()["User"] > 0


# -- the log -----------------------------------------------------------------------------------------------------------


def left_with_a_log(path: Path, code: str = "") -> None:
    """A process writes some commits, and ends without closing."""
    text = f"""
        import os, sys
        from pathlib import Path
        from kgkit.store.ladybug import LadybugStore
        store = LadybugStore(Path(sys.argv[1]))
        store._engine.checkpoint()
        for i in range({COMMITS}):
            store._engine.rows("CREATE (:Entity {{id: $id, name: 'an entity that is new'}})", {{"id": f"e{{i}}"}})
        {code}
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(text), str(path)], check=True)


@pytest.fixture(scope="module")
def logged(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    for file in sealed.parent.iterdir():
        shutil.copy2(file, folder / file.name)
    left_with_a_log(folder / sealed.name)
    return folder / sealed.name


def copied(graph: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of a graph, and of its log."""
    for file in graph.parent.iterdir():
        shutil.copy2(file, folder / file.name)
    return folder / graph.name, folder / (graph.name + ".wal")


def new_entities(path: Path) -> int:
    with LadybugStore(path) as store:
        return len([i for t in store.read_nodes("Entity", []) for i in t["id"].to_pylist() if i[0] == "e"])


def test_a_log_is_read_as_the_engine_wrote_it(logged: Path) -> None:
    state = log_state(logged.with_name(logged.name + ".wal"))
    assert state is not None and state.end == state.size and not state.damaged
    assert state.commits == COMMITS


def test_every_flip_in_a_log_is_one_line(logged: Path, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("KGKIT_SEED", "2")))
    size = logged.with_name(logged.name + ".wal").stat().st_size
    for turn in range(40):
        path, log = copied(logged, tmp_path)
        at = rng.randrange(size)
        damaged(log, lambda data, at=at: data.__setitem__(at, data[at] ^ 1 << rng.randrange(8)))
        with pytest.raises(
            DamagedStoreError, match=r"\.wal is damaged at byte .*, with .*: restore a backup"
        ) as raised:
            LadybugStore(path, read_only=turn % 2 == 0)
        assert "\n" not in str(raised.value)
        assert [f.what for f in check_target(path).findings] == ["log"]


def test_a_log_cut_anywhere_is_the_graph_of_a_commit(logged: Path, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("KGKIT_SEED", "3")))
    whole = logged.with_name(logged.name + ".wal").read_bytes()
    for _ in range(20):
        path, log = copied(logged, tmp_path)
        cut = rng.randrange(1, len(whole))
        log.write_bytes(whole[:cut])
        state = log_state(log)
        assert state is not None and not state.damaged
        assert new_entities(path) == state.commits


def test_a_damaged_log_is_repaired_up_to_the_damage(logged: Path, tmp_path: Path) -> None:
    path, log = copied(logged, tmp_path)
    half = len(log.read_bytes()) // 2
    damaged(log, lambda data: data.__setitem__(half, data[half] ^ 8))
    spoilt = log.read_bytes()
    state = log_state(log)
    assert (
        state is not None
        and state.damaged
        and 0 < state.commits < COMMITS
        and COMMITS - state.commits - state.lost in (0, 1)  # the damage may be within a commit's own record
    )
    (kept,) = repair(path)
    assert kept.read_bytes() == spoilt
    assert new_entities(path) == state.commits


# -- an unclean end ----------------------------------------------------------------------------------------------------


def test_the_next_writer_says_what_an_unclean_end_left(graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_with_a_log(graph)
    with caplog.at_level(logging.WARNING), open_store(graph):
        pass
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.search(
        r"graph\.kg: its last writer ended before it had closed it; at a quick look it is whole: \d+", line
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING), open_store(graph):
        pass
    assert caplog.records == []


def test_the_next_writer_says_what_is_gone(graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    from kgkit.ledger import record

    with LadybugStore(graph) as store:
        bought = store.counts()["PURCHASED"]
        record(store, "s", bought)
    left_with_a_log(graph, code="store._engine.rows('MATCH (:User {id: \"u1\"})-[r:PURCHASED]->() DELETE r')")
    with caplog.at_level(logging.WARNING), open_store(graph) as store:
        left = store.counts()["PURCHASED"]
    assert left < bought
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"source: s has {left:,} of {bought:,} PURCHASED: give it again" in line


def test_readers_look_at_nothing(graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_with_a_log(graph)
    with caplog.at_level(logging.WARNING), open_store(graph, read_only=True):
        pass
    assert caplog.records == []
