"""For people who have a `py2neo.Graph`: the same server and login, as a GraphStore over the official driver.

py2neo is not maintained any more and has no bulk road of its own, so only the connection is taken from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgkit.errors import ConfigError

if TYPE_CHECKING:
    from kgkit.store.neo4j import Neo4jStore


def from_py2neo(graph: Any, relationship_types: str | None = None) -> Neo4jStore:
    """A store on the server and database of a `py2neo.Graph`; closing it leaves the graph's own connections open.

    Raises ConfigError for a graph that does not speak Bolt, StoreError as `open_neo4j` does.
    """
    from kgkit.store.neo4j import connect

    profile = graph.service.connector.profile
    if profile.protocol != "bolt":
        raise ConfigError(
            f"this py2neo.Graph speaks {profile.protocol}: make it with a bolt:// or neo4j:// address"
        )
    scheme = "neo4j" if profile.routing else "bolt"
    if profile.secure:
        scheme += "+s" if profile.verify else "+ssc"
    uri = f"{scheme}://{profile.host}:{profile.port}"
    store: Neo4jStore = connect(
        uri, uri, profile.auth, relationship_types=relationship_types, database=graph.name or None
    )
    return store
