"""Fixtures that several folders of tests share: a real Neo4j server for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import toygraph

from kgkit import server
from kgkit.server import ServerInfo
from kgkit.store import ladybug_write
from kgkit.store.neo4j import Neo4jStore, connect
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

# Servers and children of tests live for seconds, which a compiler that optimises them never pays back; and the tests
# run in two processes already.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """A managed server with data of its own; only the downloaded jars are shared with the user's."""
    home: Path = tmp_path_factory.mktemp("neo4j")
    with server.running_server(home, memory="1g", page_cache="256m") as info:
        yield info


def open_neo4j_store(info: ServerInfo, relationship_types: str | None = None) -> Neo4jStore:
    """A store on the test server."""
    return connect(
        info.uri, info.uri, (info.username, info.password()), relationship_types=relationship_types
    )


@pytest.fixture
def neo4j_store(neo4j_server: ServerInfo) -> Iterator[Neo4jStore]:
    """An empty graph."""
    with open_neo4j_store(neo4j_server) as store:
        store.clear()
    with open_neo4j_store(neo4j_server) as store:  # so that no setting of an earlier test is known to it
        yield store


ENGINES = [
    "ladybug",
    pytest.param("neo4j", marks=pytest.mark.neo4j),
    pytest.param("neo4j-native", marks=pytest.mark.neo4j),
    "ladybug-parts",  # every few facts in a table of their own
]


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    """An empty graph: on each engine, and on Neo4j with facts as relationships of native types too."""
    yield from empty_graph(request, tmp_path)


def few_facts_a_table(patch: pytest.MonkeyPatch) -> None:
    """The embedded engine's facts go into a table of their own wherever two or more come, of eight at most."""
    for name, value in {"PART_NODES": 0, "PART_ROWS": 8, "COPY_EDGES_FROM": 2}.items():
        patch.setattr(ladybug_write, name, value)


def empty_graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    """An empty graph of the engine that `request.param` names."""
    if request.param == "ladybug-parts":
        few_facts_a_table(request.getfixturevalue("monkeypatch"))
    if request.param.startswith("ladybug"):
        with open_store(tmp_path / "graph.lbug") as embedded:
            yield embedded
        return
    info = request.getfixturevalue("neo4j_server")
    types = "native" if request.param == "neo4j-native" else None
    with open_neo4j_store(info) as cleaner:
        cleaner.clear()
    with open_neo4j_store(info, types) as served:
        yield served


@pytest.fixture
def toy_store_path(tmp_path: Path) -> Path:
    """An embedded graph with the small shop of `toygraph`, closed."""
    path = tmp_path / "toy.lbug"
    with open_store(path) as filled:
        toygraph.fill(filled)
    return path
