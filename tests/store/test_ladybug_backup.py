"""Backups of an embedded graph: whole, verified, and never in the way of what is there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kgkit.errors import DamagedStoreError, RetryableStoreError, StoreError
from kgkit.store import ladybug_backup, ladybug_seal
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_backup import back_up, restore
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import Dump, dump


def fill(path: Path, *names: str) -> None:
    with LadybugStore(path) as store:
        store.upsert_nodes("Entity", nodes(*names))
        store.upsert_edges("FACT", facts(*((name, "r", names[0]) for name in names)))


def held(path: Path) -> Dump:
    with LadybugStore(path, read_only=True) as store:
        return dump(store)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    fill(tmp_path / "graph.kg", "a", "b", "c")
    return tmp_path / "graph.kg"


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_there_and_back(graph: Path, tmp_path: Path) -> None:
    before = held(graph)
    copy = tmp_path / "copies" / "monday.kg"
    copy.parent.mkdir()
    assert back_up(graph, copy) == graph.stat().st_size == copy.stat().st_size
    assert files(copy.parent) == ["monday.kg", "monday.kg.seal"]
    fill(graph, "d", "e")
    after = held(graph)
    assert restore(copy, graph) is None
    assert held(graph) == before != after
    assert files(tmp_path) == ["copies", "graph.kg", "graph.kg.lock", "graph.kg.seal"]
    seal = ladybug_seal.read_seal(graph)
    assert seal and seal.is_of(graph)
    fill(graph, "d", "e")
    assert held(graph) == after


def test_what_a_log_holds_is_in_the_copy_and_a_log_is_not_left_beside_it(graph: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from kgkit.store.ladybug import LadybugStore\n"
        "store = LadybugStore(Path(sys.argv[1])); store._engine.checkpoint()\n"
        "store._engine.rows(\"CREATE (:Entity {id: 'late'})\"); os._exit(0)"
    )

    def late() -> None:
        subprocess.run([sys.executable, "-c", code, str(graph)], check=True)
        assert graph.with_name("graph.kg.wal").stat().st_size

    before = held(graph)
    first, second = tmp_path / "first.kg", tmp_path / "second.kg"
    back_up(graph, first)
    late()
    back_up(graph, second)
    assert "late" in held(second)["Entity"]
    fill(graph, "x")
    with LadybugStore(graph) as store:
        store.query("MATCH (n:Entity {id: 'late'}) DELETE n", write=True)
    late()
    assert restore(first, graph, keep=True) == graph.with_name("graph.kg.replaced")
    assert held(graph) == before  # and nothing of the log of the other
    assert "late" in held(graph.with_name("graph.kg.replaced"))["Entity"]


def test_refusals(graph: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.kg"
    for path, name, why in (
        (tmp_path / "none.kg", copy, "there is no graph at"),
        (graph, graph, "is the graph itself"),
        (graph, tmp_path, "is a folder: give the name of a file"),
        (graph, tmp_path / "no" / "copy.kg", r"cannot be written \(No such file or directory\)"),
    ):
        with pytest.raises(StoreError, match=why):
            back_up(path, name)
    back_up(graph, copy)
    with pytest.raises(StoreError, match="is there already: give another name, or --force"):
        back_up(graph, copy)
    fill(graph, "d")
    back_up(graph, copy, replace_it=True)
    assert "d" in held(copy)["Entity"]
    with LadybugStore(graph):
        for call in (lambda: back_up(graph, tmp_path / "other.kg"), lambda: restore(copy, graph)):
            with pytest.raises(RetryableStoreError, match="is being written by another process"):
                call()
    with pytest.raises(StoreError, match="there is no backup at"):
        restore(tmp_path / "none.kg", graph)
    ladybug_seal.seal_of(copy).unlink()
    with pytest.raises(StoreError, match=r"has no seal .*--unsealed"):
        restore(copy, graph)
    restore(copy, graph, unsealed=True)
    assert "d" in held(graph)["Entity"]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)  # with another time stamp, as a copy of a copy has


def test_what_is_damaged_is_neither_copied_nor_restored(graph: Path, tmp_path: Path) -> None:
    before, copy = held(graph), tmp_path / "copy.kg"
    back_up(graph, copy)
    flip(copy, 100_000)
    with pytest.raises(DamagedStoreError, match=r"copy\.kg is damaged, 1 of \d+ blocks"):
        restore(copy, graph)
    assert held(graph) == before
    stamp = graph.stat().st_mtime_ns
    flip(graph, 100_000)
    os.utime(graph, ns=(stamp, stamp))
    with pytest.raises(DamagedStoreError, match=r"graph\.kg is damaged"):
        back_up(graph, tmp_path / "other.kg")
    flip(copy, 100_000)  # back
    restore(copy, graph)
    assert held(graph) == before
    assert files(tmp_path) == ["copy.kg", "copy.kg.seal", "graph.kg", "graph.kg.lock", "graph.kg.seal"]


@pytest.mark.parametrize("call", ["copy_file_range", "fsync"])
def test_a_full_disk_leaves_what_was_there(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """At any step: here the copying itself, or the last bytes that are brought to the disk."""
    before, copy, real = held(graph), tmp_path / "copy.kg", getattr(os, call)
    back_up(graph, copy)
    kept = copy.read_bytes()
    monkeypatch.setattr(ladybug_backup, "_AT_ONCE", 100_000)
    turns = iter([call == "copy_file_range"])

    def full(*given: Any) -> Any:
        if next(turns, False):
            return real(*given)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\): nothing .* lost"):
        back_up(graph, copy, replace_it=True)
    with pytest.raises(StoreError, match=r"No space left"):
        restore(copy, graph)
    monkeypatch.undo()
    assert copy.read_bytes() == kept and held(graph) == before
    assert files(tmp_path) == ["copy.kg", "copy.kg.seal", "graph.kg", "graph.kg.lock", "graph.kg.seal"]
    restore(copy, graph)


def test_from_one_file_system_to_another(
    graph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cannot(*given: Any) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", cannot)
    back_up(graph, tmp_path / "copy.kg")
    assert held(tmp_path / "copy.kg") == held(graph)
