"""The Neo4j that kgkit runs, with its second way in: a whole graph by the offline importer, ten times as fast as Bolt.

The importer makes a database beside the server's own, which must hold nothing; what it counted is compared with what
was written for it; then the server stops for a moment, and comes back with the new database in place of the old.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import neo4j

from kgkit.errors import StoreError
from kgkit.server import ServerInfo, exchange
from kgkit.server_exchange import DATABASE, bulk_folder, fresh_staging, import_files, staging
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j import MANAGED, Neo4jStore
from kgkit.store.neo4j_connection import Connection
from kgkit.store.port import BulkLoader, GraphStore

if TYPE_CHECKING:
    from kgkit.store.neo4j_csv import Export


class ManagedStore(Neo4jStore, BulkLoader):
    """A Neo4jStore on the server that kgkit runs. Whoever else is connected loses the connection at the end of `load`."""

    managed: ServerInfo

    @classmethod
    def on(cls, server: ServerInfo, driver: neo4j.Driver, **options: Any) -> ManagedStore:
        """A store that owns `driver`, connected to `server`; `options` are those of Neo4jStore."""
        try:
            store = cls(driver, MANAGED, owns_driver=True, **options)
        except BaseException:
            driver.close()
            raise
        store.managed = server
        return store

    @property
    def bulk_loader(self) -> BulkLoader | None:
        return None if self._connection.read_only else self

    @property
    def folder(self) -> Path:
        return bulk_folder(self.managed.home)

    def refusal(self) -> str:
        connection = self._connection
        if connection.database not in (None, DATABASE):
            return f"NEO4J_DATABASE is {connection.database!r}, and the importer fills {DATABASE!r}"
        held = connection.read(cypher.COUNT_FOREIGN)[0]["n"]
        indexes = [r["name"] for r in connection.read(cypher.FOREIGN_INDEXES)]
        if indexes:
            return f"it has an index of somebody else's, {indexes[0]!r}"
        return f"it is not empty ({held:,} nodes)" if held else ""

    def load(
        self, source: GraphStore, say: Callable[[str], None], report: Callable[[str, int], None]
    ) -> dict[str, int]:
        from kgkit.store.neo4j_csv import export

        home = self.managed.home
        with fresh_staging(home, say) as lock:
            self._still_empty()
            done = export(source, staging(home), self.capabilities.relationship_types, report)
            say(f"importing {done.relationships:,} relationships among {done.nodes:,} nodes offline")
            counted = import_files(home, lock, done.arguments())
            expected = (done.nodes, done.relationships, done.properties)
            if counted != expected:
                raise StoreError(
                    f"Neo4j's importer took {counted} nodes, relationships and properties of {expected}: nothing was "
                    "changed; --bulk never goes over Bolt"
                )
            for file in staging(home).glob("*.csv"):
                file.unlink()
            say("putting the imported graph in place: the server restarts")
            self.managed = exchange(home, self._still_empty)
        self._renew(done)
        return {name: rows for name, rows in done.rows.items() if name != "Kgkit"}

    def _still_empty(self) -> None:
        if reason := self.refusal():
            raise StoreError(f"{self.uri} cannot be loaded in bulk: {reason}")

    def _renew(self, done: Export) -> None:
        """The new database: bookmarks of the old one would be waited for; then constraints, indexes, counts."""
        old = self._connection
        self._connection = Connection(old.driver, old.uri, old.database, old.read_only)
        self._prepared = False
        self._connection.settle()
        self.ensure_schema()
        for label, name in sorted(done.vectors):
            self._index_vectors(label, name)
        nodes, edges = self._counts()
        counts = {**nodes, **edges}
        for name, rows in done.rows.items():
            if counts.get(name, rows) != rows:
                raise StoreError(
                    f"{self.uri} holds {counts[name]:,} {name} after {rows:,} were imported: begin anew in an empty "
                    "graph with --bulk never"
                )
