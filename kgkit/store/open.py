"""From what people type after --store to an adapter, imported on demand."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgkit.errors import ConfigError
from kgkit.lazy import missing

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore

NEO4J_SCHEMES = ("bolt", "neo4j", "bolt+s", "neo4j+s", "bolt+ssc", "neo4j+ssc")
FORMS = "PATH, ladybug:PATH, bolt://HOST:PORT, neo4j://HOST:PORT (+s and +ssc for TLS) or neo4j-managed"
in_command = False  # whether this process is a `kgkit` command, and not somebody's notebook or program


def open_store(
    target: Any = None,
    *,
    read_only: bool = False,
    create: bool = True,
    relationship_types: str | None = None,
) -> GraphStore:
    """Opens a graph store.

    target: a path or `ladybug:PATH` (the embedded engine), a Bolt URI, `neo4j-managed` (the server that kgkit starts),
    a `py2neo.Graph`, or None for the environment variable KGKIT_STORE. Names and passwords come from NEO4J_USERNAME and
    NEO4J_PASSWORD, or a prompt. `relationship_types` ("property" or "native") is fixed when a Neo4j graph is first
    written to; None takes what the graph says. Without `create`, an embedded graph must be there already.

    A writer looks through an embedded graph whose last writer was ended before it had closed it, and logs what it found.

    Raises ConfigError for a target of no known form, StoreError when the store cannot be opened, DamagedStoreError when its
    file is not what was written.
    """
    target = _given(target)
    if type(target).__module__.split(".")[0] == "py2neo":
        from kgkit.store.py2neo_bridge import from_py2neo

        return from_py2neo(target, relationship_types=relationship_types)
    path = embedded_path(target)
    if path is None:
        # The driver imports pandas and pyarrow where there are any, to take their values, of which a command has none.
        with missing("pandas", "pyarrow") if in_command else nullcontext():
            import neo4j  # noqa: F401
        from kgkit.store.neo4j import open_neo4j

        return open_neo4j(str(target), read_only=read_only, relationship_types=relationship_types)
    if relationship_types == "native":
        raise ConfigError(
            "--relationship-types native is for Neo4j: the embedded engine keeps one table of facts"
        )
    from kgkit.store.ladybug import LadybugStore

    store = LadybugStore(path, read_only=read_only, create=create)
    if store.left_open:
        from kgkit.check import after_unclean_end

        after_unclean_end(store)
    return store


def embedded_path(target: Any = None) -> Path | None:
    """The file of an embedded graph; None for a server's. Raises ConfigError for a target of no known form."""
    text = str(_given(target))
    scheme, _, rest = text.partition(":")
    if text == "neo4j-managed" or (rest.startswith("//") and scheme in NEO4J_SCHEMES):
        return None
    if rest.startswith("//"):
        raise ConfigError(f"unknown store {text.split('@')[-1]!r}: use {FORMS}")
    return Path(rest if scheme == "ladybug" else text)


def _given(target: Any) -> Any:
    target = target if target is not None else os.environ.get("KGKIT_STORE") or None
    if target is None:
        raise ConfigError(f"no store given: use --store or set KGKIT_STORE to {FORMS}")
    return target
