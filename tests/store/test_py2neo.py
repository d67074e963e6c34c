"""People's py2neo.Graph as a store, and the store's work seen through it."""

from __future__ import annotations

import py2neo
import pyarrow as pa
import pytest

import kgkit.store.open
from kgkit.server import ServerInfo
from kgkit.store.neo4j import Neo4jStore

pytestmark = pytest.mark.neo4j


def test_open_store_takes_a_py2neo_graph(neo4j_server: ServerInfo, neo4j_store: Neo4jStore) -> None:
    graph = py2neo.Graph(neo4j_server.uri, auth=(neo4j_server.username, neo4j_server.password()))
    graph.run("CREATE (:User {id: 'u'})-[:PURCHASED {source: 's', count: 2}]->(:Entity {id: 'e'})")
    with kgkit.store.open.open_store(graph) as store:
        assert store.stats()["relationships"]["PURCHASED"] == 1
        assert neo4j_server.password() not in store.uri
        table = pa.table({"head": ["e"], "tail": ["f"], "relation": ["film.film.genre"]})
        assert store.upsert_edges("FACT", table, missing="create").created == 1
    assert graph.evaluate("MATCH (:Entity {id: 'e'})-[f:FACT]->(n) RETURN n.id + ' ' + f.relation") == (
        "f film.film.genre"
    )


def test_relationship_types_are_passed_on(neo4j_server: ServerInfo, neo4j_store: Neo4jStore) -> None:
    graph = py2neo.Graph(neo4j_server.uri, auth=(neo4j_server.username, neo4j_server.password()))
    with kgkit.store.open.open_store(graph, relationship_types="native") as store:
        table = pa.table({"head": ["e"], "tail": ["f"], "relation": ["film.film.genre"]})
        store.upsert_edges("FACT", table, missing="create")
    assert len(graph.match(r_type="film.film.genre")) == 1
