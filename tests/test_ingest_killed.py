"""An ingest that is killed at any moment, or whose server goes away, and is run again, gives the same graph."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kgkit.ingest import ingest
from kgkit.recipe import read_recipe
from kgkit.store.ladybug_engine import Engine
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore
from kgkit.testing.graph_dump import Dump, difference, dump

ROOT = Path(__file__).parent.parent

_CHILD = """
import sys
from pathlib import Path
from kgkit.errors import KgkitError
from kgkit.ingest import ingest
from kgkit.recipe import read_recipe
from kgkit.store.open import open_store
if len(sys.argv) > 3:  # seconds that a server which is gone is waited for
    from kgkit.store import neo4j, neo4j_connection
    neo4j.RETRIES = neo4j_connection.PATIENCE = float(sys.argv[3])
try:
    with open_store(sys.argv[1]) as store:
        print("started", flush=True)
        for source in read_recipe(Path(sys.argv[2])).sources:
            ingest(source.connector, source.config, store, buffer=2000)
except KgkitError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Many rows, in several buffers for each source."""
    return write_recipe(tmp_path, 9000)


def write_recipe(folder: Path, rows: int) -> Path:
    """Purchases before their alignment, so that stubs are made and folded."""
    rng = random.Random(11)
    bought = "".join(f"u{rng.randrange(300)},i{rng.randrange(400)}\n" for _ in range(rows))
    (folder / "log.csv").write_text("user,item\n" + bought)
    facts = (f"m.{rng.randrange(2000)}\tr.{rng.randrange(9)}\tm.{rng.randrange(2000)}\n" for _ in range(rows))
    (folder / "kg.txt").write_text("".join(facts))
    (folder / "link.txt").write_text("".join(f"i{i}\tm.{i}\n" for i in range(300)))
    (folder / "items.csv").write_text("item,title\n" + "".join(f"i{i},T{i}\n" for i in range(350)))
    path = folder / "kg.toml"
    path.write_text(
        '[[source]]\nconnector = "purchases"\npaths = ["log.csv"]\n'
        '[[source]]\nconnector = "triples"\npaths = ["kg.txt"]\n'
        '[[source]]\nconnector = "features"\npaths = ["items.csv"]\nname_column = "title"\n'
        '[[source]]\nconnector = "alignment"\npaths = ["link.txt"]\n'
    )
    return path


def begin(target: str, recipe: Path, *patience: str, **login: str) -> subprocess.Popen[str]:
    """An ingest in a process of its own, past its imports and connected: from here on anything may be half done."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, target, str(recipe), *patience],
        cwd=ROOT,
        env={**os.environ, **login},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def finish(child: subprocess.Popen[str]) -> float:
    """Waits for a good end; seconds that it took."""
    began = time.monotonic()
    _, errors = child.communicate()
    assert child.returncode == 0, errors
    return time.monotonic() - began


def kill_after(child: subprocess.Popen[str], seconds: float) -> bool:
    """kill -9; False when the process was already through."""
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return child.returncode == -signal.SIGKILL


class _StoppedError(Exception):
    """Not one of kgkit's, so that nothing is tidied up for it."""


@pytest.mark.timeout(300)
def test_stopped_before_any_statement_on_the_embedded_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = read_recipe(write_recipe(tmp_path, 200)).sources
    rows = Engine.rows
    left = 0  # statements that write

    def counted(self: Engine, cypher: str, params: Any = None, **more: Any) -> list[list[Any]]:
        nonlocal left
        left -= any(word in cypher for word in ("CREATE (", "MERGE (", " SET ", "DELETE", "COPY "))
        if left < 0:
            raise _StoppedError
        return rows(self, cypher, params, **more)

    def ingested(path: Path, statements: int) -> Dump | None:
        nonlocal left
        left = statements
        try:
            with open_store(str(path)) as store:
                for source in sources:
                    ingest(source.connector, source.config, store, buffer=100)
                return dump(store)
        except _StoppedError:
            return None

    monkeypatch.setattr(Engine, "rows", counted)
    whole = ingested(tmp_path / "whole.kg", 1000)
    assert whole is not None
    stopped = 0
    while ingested(path := tmp_path / f"{stopped}.kg", stopped) is None:
        again = ingested(path, 1000)
        assert again is not None
        assert difference(again, whole) == [], f"stopped before statement {stopped}"
        stopped += 1
    assert stopped >= 15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_on_the_embedded_store(recipe: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "graph.lbug")

    def graph() -> Dump:
        with open_store(target) as store:
            return dump(store)

    length = finish(begin(target, recipe))
    whole = graph()
    rng, killed = random.Random(2), 0
    for _ in range(2):
        for file in tmp_path.glob("graph.lbug*"):
            file.unlink()
        for _ in range(4):  # killed, run again, killed again
            if kill_after(begin(target, recipe), rng.uniform(0, 0.6 * length)):
                killed += 1
            else:  # it came to its end first, and would have nothing left to be killed in
                for file in tmp_path.glob("graph.lbug*"):
                    file.unlink()
        finish(begin(target, recipe))
        assert difference(graph(), whole) == []
    assert killed >= 4


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(900)
def test_killed_at_any_moment_on_neo4j(recipe: Path, request: pytest.FixtureRequest) -> None:
    store: GraphStore = request.getfixturevalue("neo4j_store")
    info = request.getfixturevalue("neo4j_server")
    login = {"NEO4J_USERNAME": info.username, "NEO4J_PASSWORD": info.password()}
    length = finish(begin(info.uri, recipe, **login))
    whole = dump(store)
    store.clear()
    rng, killed = random.Random(3), 0
    for _ in range(12):
        if kill_after(begin(info.uri, recipe, **login), rng.uniform(0, 0.6 * length)):
            killed += 1
        else:  # it came to its end first, and would have nothing left to be killed in
            store.clear()
        if killed == 3:
            break
    finish(begin(info.uri, recipe, **login))
    assert difference(dump(store), whole) == []
    assert killed >= 2


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(900)
def test_a_server_that_goes_away_and_comes_back(recipe: Path, tmp_path: Path) -> None:
    from kgkit import server

    home, port = tmp_path / "neo4j", server.free_port()
    with server.running_server(home, port=port, memory="512m", page_cache="64m") as info:
        login = {"NEO4J_USERNAME": info.username, "NEO4J_PASSWORD": info.password()}
        child = begin(info.uri, recipe, "5", **login)
        time.sleep(1.5)
        os.kill(info.pid, signal.SIGKILL)
        _, errors = child.communicate()
        assert child.returncode == 1
        assert errors.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in errors
    with server.running_server(home, port=port, memory="512m", page_cache="64m") as info:
        login = {"NEO4J_USERNAME": info.username, "NEO4J_PASSWORD": info.password()}
        finish(begin(info.uri, recipe, **login))
        from kgkit.store.neo4j import connect

        with connect(info.uri, info.uri, (info.username, info.password())) as store:
            resumed = dump(store)
            store.clear()
        finish(begin(info.uri, recipe, **login))
        with connect(info.uri, info.uri, (info.username, info.password())) as store:
            assert difference(dump(store), resumed) == []
