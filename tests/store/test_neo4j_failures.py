"""What a Neo4j store does when things go wrong: servers killed, answers lost, wrong passwords, two writers at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import open_neo4j_store

from kgkit import server
from kgkit.errors import ConfigError, ReadOnlyStoreError, RetryableStoreError, StoreError
from kgkit.server import ServerInfo
from kgkit.store import neo4j_align, neo4j_cypher, neo4j_write
from kgkit.store.neo4j import Neo4jStore, connect, open_neo4j
from kgkit.store.port import Answers, RunRecord, Vectors, WriteStats
from kgkit.testing.graph_dump import dump

pytestmark = pytest.mark.neo4j

NODES = 2_000


def _facts(n: int) -> pa.Table:
    """n distinct facts among NODES entities, hubs included, in no order."""
    rng = np.random.default_rng(7)
    pairs = rng.permutation(NODES * NODES)[:n]
    ends = np.array([f"e{i}" for i in range(NODES)], dtype=object)
    relations = np.array(["a.b", "c.d", "e"], dtype=object)
    target = ((pairs % NODES) // 3) * 2 % NODES  # few targets, so that two sessions meet on the same nodes
    table = pa.table({"head": ends[pairs // NODES], "tail": ends[target], "relation": relations[pairs % 3]})
    return table.group_by(table.column_names).aggregate([])


def _entities(store: Neo4jStore) -> None:
    store.upsert_nodes("Entity", pa.table({"id": [f"e{i}" for i in range(NODES)]}))


def _assert_exactly(store: Neo4jStore, table: pa.Table) -> None:
    assert store.stats()["relationships"]["FACT"] == table.num_rows
    stored = pa.concat_tables(store.read_edges("FACT", ["relation"]))
    keys = ["head", "tail", "relation"]
    assert stored.group_by(keys).aggregate([]).num_rows == table.num_rows
    assert stored.join(table, keys=keys, join_type="left anti").num_rows == 0


def _kill(info: ServerInfo) -> None:
    running = server.status(home=info.home)
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    while server.status(home=info.home) is not None:
        time.sleep(0.05)


def _restart(info: ServerInfo) -> None:
    server.start(home=info.home, port=int(info.uri.rsplit(":", 1)[1]), memory="1g", page_cache="256m")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["property", "native"])
def test_server_killed_while_relationships_are_created(
    neo4j_server: ServerInfo, neo4j_store: Neo4jStore, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(neo4j_write, "EDGE_BATCH", 500)
    # Other work may slow the restart down.
    monkeypatch.setattr("kgkit.store.neo4j_connection.PATIENCE", 120.0)
    table = _facts(60_000)
    with open_neo4j_store(neo4j_server, mode) as store, open_neo4j_store(neo4j_server, mode) as onlooker:
        _entities(store)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(store.upsert_edges, "FACT", table)
            while (there := onlooker.stats()["relationships"]["FACT"]) < 5_000:
                assert not writing.done()
            _kill(neo4j_server)
            assert 0 < there < table.num_rows and not writing.done()
            _restart(neo4j_server)
            assert writing.result() == WriteStats(created=table.num_rows)
        _assert_exactly(store, table)
        assert store.upsert_edges("FACT", table) == WriteStats(matched=table.num_rows)


def test_index_of_an_unfinished_constraint(neo4j_server: ServerInfo, neo4j_store: Neo4jStore) -> None:
    """A server killed while it made a constraint comes back with the index that was to carry it, and no constraint."""
    neo4j_store.ensure_schema()
    neo4j_store.query("DROP CONSTRAINT kgkit_Run_id", write=True)
    neo4j_store.query("CREATE INDEX kgkit_Run_id FOR (n:Run) ON (n.id)", write=True)
    with open_neo4j_store(neo4j_server) as store:
        store.ensure_schema()
        found = store.query("SHOW CONSTRAINTS YIELD name WHERE name = 'kgkit_Run_id' RETURN name")
        assert list(found.rows) == [("kgkit_Run_id",)]


def test_server_killed_while_answers_are_replaced(neo4j_server: ServerInfo, neo4j_store: Neo4jStore) -> None:
    store = neo4j_store
    _entities(store)
    store.upsert_nodes("User", pa.table({"id": ["u", "v"]}))

    def said(user: str) -> Answers:
        return Answers("RECOMMENDED", pa.table({"head": [user], "tail": ["e1"], "score": [0.5], "rank": [1]}))

    store.replace_answers(RunRecord("r1", "kgcn", "2024"), [], [said("u")])
    before = dump(store)

    def killing() -> Iterator[Answers]:
        yield said("u")
        _kill(neo4j_server)
        yield said("v")

    with pytest.raises(RetryableStoreError):
        store.replace_answers(RunRecord("r2", "kgcn", "2024"), [], killing())
    _restart(neo4j_server)
    assert dump(store) == before
    store.replace_answers(RunRecord("r2", "kgcn", "2024"), [], [said("u"), said("v")])
    assert {key[2] for key in dump(store)["RECOMMENDED"]} == {"r2"}


def test_server_killed_while_items_move(
    neo4j_server: ServerInfo, neo4j_store: Neo4jStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the purchases have left their old entities and have not come to the new ones: all of it is undone."""
    n, arrive = 500, neo4j_align._arrive
    monkeypatch.setattr("kgkit.store.neo4j.RETRIES", 120.0)  # other work may slow the restart down
    ids, items = [f"e{i}" for i in range(n)], [str(i) for i in range(n)]
    sold = {
        "head": [f"u{i}" for i in range(n)],
        "tail": ids,
        "source": ["s"] * n,
        "count": list(range(1, n + 1)),
    }
    with open_neo4j_store(neo4j_server) as store:
        store.upsert_nodes("Entity", pa.table({"id": ids, "item_id": items}))
        store.upsert_edges("PURCHASED", pa.table(sold), missing="create")
        before, seen = dump(store), list[Any]()

        def killing(*arguments: Any) -> None:
            if not seen:
                _kill(neo4j_server)
                _restart(neo4j_server)
            with open_neo4j_store(neo4j_server) as onlooker:
                seen.append(dump(onlooker))
            arrive(*arguments)

        monkeypatch.setattr(neo4j_align, "_arrive", killing)
        table = pa.table({"item": items, "entity": ids[1:] + ids[:1]})
        assert store.align(table, move=True).moved == n
        assert seen == [before, before], "the driver began anew, from the graph as it was"
        got = dump(store)
    assert {e: node["item_id"] for e, node in got["Entity"].items()} == {
        ids[(i + 1) % n]: items[i] for i in range(n)
    }
    assert {(u, e): p["count"] for (u, e, _), p in got["PURCHASED"].items()} == {
        (f"u{i}", ids[(i + 1) % n]): i + 1 for i in range(n)
    }


class LossyProxy:
    """Passes bytes to a server and back; `cut` loses what the server says from now on and closes, `times` times."""

    def __init__(self, port: int, times: int) -> None:
        self._port, self.left = port, times
        self._sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                upstream = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pass, args=(client, upstream, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(upstream, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                self._sent += len(data) if count else 0
                if count and self.left and self._sent > 50_000:
                    self._sent, self.left = 0, self.left - 1
                    time.sleep(0.2)  # the server has the statement, and may well commit it
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def test_lost_answers_double_nothing(
    neo4j_server: ServerInfo, neo4j_store: Neo4jStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neo4j_write, "EDGE_BATCH", 500)
    _entities(neo4j_store)
    table = _facts(20_000)
    proxy = LossyProxy(int(neo4j_server.uri.rsplit(":", 1)[1]), times=3)
    login = (neo4j_server.username, neo4j_server.password())
    with connect(f"bolt://127.0.0.1:{proxy.port}", "lossy", login) as store:
        assert store.upsert_edges("FACT", table) == WriteStats(created=table.num_rows)
    proxy.close()
    assert proxy.left == 0
    _assert_exactly(neo4j_store, table)


def test_two_writers_of_the_same_facts(neo4j_server: ServerInfo, neo4j_store: Neo4jStore) -> None:
    _entities(neo4j_store)
    table = _facts(10_000)
    with open_neo4j_store(neo4j_server) as one, open_neo4j_store(neo4j_server) as two:
        with ThreadPoolExecutor(2) as pool:
            stats = [f.result() for f in [pool.submit(s.upsert_edges, "FACT", table) for s in (one, two)]]
        assert sum(s.created for s in stats) == table.num_rows
    _assert_exactly(neo4j_store, table)


def test_wrong_password(neo4j_server: ServerInfo) -> None:
    with pytest.raises(StoreError, match="NEO4J_PASSWORD") as caught:
        connect(neo4j_server.uri, neo4j_server.uri, ("neo4j", "not-the-password"))
    assert "not-the-password" not in str(caught.value) and "\n" not in str(caught.value)


def test_no_password(neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    with pytest.raises(StoreError, match="NEO4J_PASSWORD"):
        open_neo4j(neo4j_server.uri)


def test_password_from_the_environment(neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", neo4j_server.password())
    with open_neo4j(neo4j_server.uri, read_only=True) as store:
        assert store.uri == neo4j_server.uri
        with pytest.raises(ReadOnlyStoreError):
            store.upsert_nodes("User", pa.table({"id": ["u"]}))
        with pytest.raises(ReadOnlyStoreError):
            store.query("CREATE (:User {id: 'u'})", write=True)


@pytest.mark.parametrize("uri", ["bolt://neo4j:hunter2@127.0.0.1:7687", "neo4j+s://:hunter2@host"])
def test_password_in_uri_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="NEO4J_PASSWORD") as caught:
        open_neo4j(uri)
    assert "hunter2" not in str(caught.value)


def test_server_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "whatever")
    with pytest.raises(RetryableStoreError, match="does not answer"):
        open_neo4j(f"bolt://127.0.0.1:{server.free_port()}")


def test_a_server_that_wants_tls_and_one_without_a_known_signer(
    neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "whatever")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # hangs up, as Neo4j does when it wants TLS

        def hang_up() -> None:
            with suppress(OSError):  # closed: the test is over
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(RetryableStoreError, match=r"TLS \(bolt\+s://"):
            open_neo4j(f"bolt://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(StoreError, match="does not answer"):  # TLS to a server without it
        open_neo4j(neo4j_server.uri.replace("bolt://", "bolt+s://"))


def test_managed_server_not_running(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGKIT_NEO4J_HOME", str(tmp_path_factory.mktemp("none")))
    with pytest.raises(StoreError, match="kgkit neo4j start"):
        open_neo4j("neo4j-managed")


def test_relationship_types_fixed_by_the_first_fact(
    neo4j_server: ServerInfo, neo4j_store: Neo4jStore
) -> None:
    with open_neo4j_store(neo4j_server, "native") as store:
        store.upsert_edges(
            "FACT", pa.table({"head": ["a"], "tail": ["b"], "relation": ["x"]}), missing="create"
        )
    with open_neo4j_store(neo4j_server) as store:
        assert store.capabilities.relationship_types == "native"
        with pytest.raises(StoreError, match="PURCHASED"):
            store.upsert_edges("FACT", pa.table({"head": ["a"], "tail": ["b"], "relation": ["PURCHASED"]}))
    with pytest.raises(StoreError, match="native"):
        open_neo4j_store(neo4j_server, "property")
    with pytest.raises(StoreError, match="native"):  # this one was opened before
        neo4j_store.upsert_edges("FACT", pa.table({"head": ["a"], "tail": ["b"], "relation": ["y"]}))


def test_values_are_plain_python(neo4j_store: Neo4jStore) -> None:
    row = next(
        neo4j_store.query(
            "CREATE p = (a:User {id: 'u', at: date('2024-05-01')})-[:PURCHASED {count: 1}]->(:Entity {id: 'e'}) "
            "RETURN p, a, datetime('2024-05-01T10:00:00Z'), duration('P1D'), point({x: 1, y: 2}), {k: [1, null]}",
            write=True,
        ).rows
    )
    user, entity = {"id": "u", "at": "2024-05-01"}, {"id": "e"}
    assert row[:2] == ({"nodes": [user, entity], "relationships": [{"count": 1}]}, user)
    assert row[2].startswith("2024-05-01T10:00:00") and row[3:] == ("P1D", [1.0, 2.0], {"k": [1, None]})


def test_items_carry_a_label(neo4j_store: Neo4jStore) -> None:
    neo4j_store.upsert_nodes("Entity", pa.table({"id": ["a", "b"], "item_id": ["1", None]}))
    neo4j_store.align(pa.table({"item": ["2", "3"], "entity": ["b", "c"]}))
    assert list(neo4j_store.query("MATCH (n:Item) RETURN n.id ORDER BY n.id").rows) == [
        ("a",),
        ("b",),
        ("c",),
    ]


def test_similar_by_index(neo4j_store: Neo4jStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgkit.store.neo4j._INDEXED", 10)

    _entities(neo4j_store)
    matrix = np.random.default_rng(3).normal(size=(NODES, 16)).astype(np.float32)
    ids = [f"e{i}" for i in range(NODES)]
    assert neo4j_store.write_vectors("embedding_x", Vectors("Entity", pa.array(ids), matrix)) == NODES
    deadline = time.monotonic() + 60
    while {tuple(r) for r in neo4j_store.query(neo4j_cypher.VECTOR_INDEXES).rows} != {
        ("kgkit_Entity_embedding_x", "ONLINE", 16)
    }:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = unit @ unit[5]
    cosine[5] = -2
    best = np.argsort(-cosine)[:10]
    found = neo4j_store.similar("Entity", "e5", 10, "embedding_x")
    assert len({f[0] for f in found} & {ids[i] for i in best}) >= 9  # the index is approximate
    for name, value in found:
        assert value == pytest.approx(cosine[int(name[1:])], abs=1e-3)


def test_vector_index_comes_back_after_answers_are_replaced_or_not(neo4j_store: Neo4jStore) -> None:
    _entities(neo4j_store)
    ids = pa.array([f"e{i}" for i in range(20)])
    names = neo4j_cypher.VECTOR_INDEXES

    def indexed() -> set[tuple[str, int]]:
        return {(name, size) for name, _, size in neo4j_store.query(names).rows}

    def replace(run: str, size: int, said: list[Answers]) -> None:
        vectors = Vectors("Entity", ids, np.eye(20, size, dtype=np.float32) + 1)
        neo4j_store.replace_answers(RunRecord(run, "kgcn", "2024"), [vectors], said)

    replace("r1", 4, [])
    assert indexed() == {("kgkit_Entity_embedding_kgcn", 4)}
    unknown = pa.table({"head": ["nobody"], "tail": ["e1"], "score": [0.5], "rank": [1]})
    with pytest.raises(StoreError, match="nobody"):
        replace("r2", 6, [Answers("RECOMMENDED", unknown)])
    assert indexed() == {("kgkit_Entity_embedding_kgcn", 4)}
    replace("r2", 6, [])
    assert indexed() == {("kgkit_Entity_embedding_kgcn", 6)}
