"""The engines that campaigns run on: the embedded one as it is and with its bulk roads from few rows on, and Neo4j."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kgkit import server
from kgkit.server import ServerInfo
from kgkit.store import ladybug_write
from kgkit.store.neo4j import Neo4jStore, connect
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

Opened = Callable[[], GraphStore]  # the same graph every time
# Limits of `ladybug_write`, so that few rows take the roads of very many.
LIMITS: Mapping[str, Mapping[str, int]] = {
    "embedded": {},
    "embedded, many tables": {"PART_NODES": 0, "PART_ROWS": 8, "COPY_EDGES_FROM": 2},
    "embedded, bulk": {"COPY_FROM": 2, "COPY_EDGES_FROM": 2},
}
SERVED = ("neo4j", "neo4j, native types")
ENGINES = (*LIMITS, *SERVED)


@contextmanager
def limits(engine: str) -> Iterator[None]:
    """The embedded engine's limits of a variant."""
    before = {name: getattr(ladybug_write, name) for name in LIMITS[engine]}
    try:
        for name, value in LIMITS[engine].items():
            setattr(ladybug_write, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(ladybug_write, name, value)


@contextmanager
def emptied(engine: str, folder: Path, info: ServerInfo | None = None) -> Iterator[Callable[[], Opened]]:
    """Gives ways to open graphs that are empty at first. info: of the server, where the engine is one."""
    if engine in LIMITS:
        numbers = itertools.count()

        def file() -> Opened:
            path = folder / f"{next(numbers)}.lbug"
            return lambda: open_store(path)

        with limits(engine):
            yield file
        return
    assert info is not None
    types = "native" if engine == "neo4j, native types" else None

    def emptied_server() -> Opened:
        with on_server(info) as store:
            store.clear()
        return lambda: on_server(info, types)

    yield emptied_server


def on_server(info: ServerInfo, types: str | None = None, port: int | None = None) -> Neo4jStore:
    """A store on a managed server; `port` of a proxy before it."""
    address = f"bolt://127.0.0.1:{port}" if port else info.uri
    return connect(address, address, (info.username, info.password()), relationship_types=types)


@contextmanager
def started(folder: Path) -> Iterator[ServerInfo]:
    """A managed server of one's own."""
    with server.running_server(folder / "neo4j", memory="1g", page_cache="256m") as info:
        yield info


def machine() -> str:
    """What figures were measured on."""
    return (
        f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
