"""The store contract on a real Neo4j, with facts as FACT {relation} and as relationship types of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import open_neo4j_store

from kgkit.server import ServerInfo
from kgkit.store.neo4j import Neo4jStore
from kgkit.testing.store_contract import StoreContract

pytestmark = pytest.mark.neo4j


@pytest.fixture
def native_store(neo4j_server: ServerInfo) -> Iterator[Neo4jStore]:
    """An empty graph whose facts will be typed by their relation."""
    with open_neo4j_store(neo4j_server) as store:
        store.clear()
    with open_neo4j_store(neo4j_server, "native") as store:
        yield store


class TestProperty(StoreContract):
    @pytest.fixture
    def store(self, neo4j_store: Neo4jStore) -> Neo4jStore:
        return neo4j_store


class TestNative(StoreContract):
    @pytest.fixture
    def store(self, native_store: Neo4jStore) -> Neo4jStore:
        return native_store
