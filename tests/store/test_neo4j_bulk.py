"""The bulk road into the managed Neo4j: the same graph as over Bolt, and all of it or nothing whenever it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import toygraph
from conftest import open_neo4j_store

from kgkit import server
from kgkit.bulk import bulk_road, may_pay
from kgkit.copy import copy_graph
from kgkit.errors import ConfigError, StoreError
from kgkit.extract import extract
from kgkit.server import ServerInfo
from kgkit.server_exchange import finish_exchange, staging
from kgkit.store.neo4j import Neo4jStore
from kgkit.store.open import open_store
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors
from kgkit.testing.graph_dump import Dump, dump

ROOT = Path(__file__).parent.parent.parent

ODD = [
    'say "hi"', '"', '""', "'", "a,b", "a;b", "line\nbreak", "line\r\nbreak\r", "tab\there", "back\\slash \\\" \\n",
    " lead and trail ", "", "NULL", "null", "Zoë 北京 🎬 e\u0301", "\u2028\u2029\ufeff", "#x", "=1+1", "x" * 5_000_000,
]  # fmt: skip

# Purchases before their alignment, so that stubs are made and folded; a run that dies at the given line.
_CHILD = """
import os, sys
from pathlib import Path
from kgkit import server
from kgkit.bulk import bulk_road
from kgkit.ingest import ingest
from kgkit.recipe import read_recipe
from kgkit.store.open import open_store
recipe, bulk, die = sys.argv[1:]
if die:
    server.finish_exchange = lambda home: os._exit(9)
with (
    open_store("neo4j-managed", relationship_types="native") as opened,
    bulk_road(opened, [], bulk, lambda line: print(line, flush=True)) as store,
):
    for source in read_recipe(Path(recipe)).sources:
        ingest(source.connector, source.config, store, buffer=2000)
"""

_NEVER = """
from kgkit.bulk import bulk_road
from kgkit.store.open import open_store
with open_store("neo4j-managed") as store, bulk_road(store, [], "never", print):
    print("not reached")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running server of this file's own, which is what `neo4j-managed` means here."""
    folder = tmp_path_factory.mktemp("managed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGKIT_NEO4J_HOME", str(folder))
        with server.running_server(folder, memory="512m", page_cache="64m"):
            yield folder


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[GraphStore]:
    """The toy shop with answers of a model, odd texts in every place, and numbers at the edge."""
    with open_store(tmp_path / "laptop.lbug") as store:
        toygraph.fill(store)
        count = len(ODD)
        ids = [f"odd {i} {text[:50]}" for i, text in enumerate(ODD)]
        numbers = [None, 2**63 - 1, -(2**63) + 1, *range(count - 3)]
        floats = [
            float("inf"),
            float("-inf"),
            5e-324,
            1.7976931348623157e308,
            -0.0,
            None,
            *np.linspace(0, 1, count - 6),
        ]
        store.upsert_nodes(
            "Entity",
            pa.table(
                {
                    "id": ids,
                    "name": ODD,
                    "item_id": [None if i % 3 else f"i{i}" for i in range(count)],
                    "a:b": pa.array(numbers, pa.int64()),
                    "size.of-it": pa.array(floats, pa.float64()),
                    "is": [None if i % 4 == 1 else i % 2 == 0 for i in range(count)],
                }
            ),
        )
        store.upsert_nodes("User", pa.table({"id": ["u0", "u,1\n"], "town": ["", None]}))
        relations = [text[:40] or "r" for text in ODD]
        facts = {
            "head": ids,
            "tail": ids[::-1],
            "relation": relations,
            "source": [t[:9] or None for t in ODD],
            "split": ["test", None] * (count // 2) + ["valid"] * (count % 2),
            "time": pa.array([*numbers[:1], 0, -1, *numbers[3:]], pa.int64()),
        }
        store.upsert_edges("FACT", pa.table(facts))
        some = pa.array([*ids[:7], "m.001"])
        vectors = Vectors("Entity", some, np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32))
        best = pa.table({"head": ["u0", "u,1\n"], "tail": ids[:2], "score": [0.1, 1e-9], "rank": [1, 2]})
        run = RunRecord("run-1", "kgcn", "2024-01-01T00:00:00+00:00", '{"dim": 5}', '{"test": {}}', "{}")
        bias = Vectors("Entity", some, vectors.matrix[:, :1], "entity_bias")
        weights = {"filters": vectors.matrix[:4].reshape(2, 5, 2), "none": np.zeros((0, 2), np.float32)}
        store.replace_answers(run, [vectors, bias], [Answers("RECOMMENDED", best)], weights)
        yield store


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"u{i % 90},i{i % 70}\n" for i in range(3000)))
    facts = (f"m.{i % 900}\tr.{i % 7}\tm.{i * 31 % 1100}\n" for i in range(4000))
    (tmp_path / "kg.txt").write_text("".join(facts))
    (tmp_path / "link.txt").write_text("".join(f"i{i}\tm.{i}\n" for i in range(50)))
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f'i{i},"T ""{i}"", é"\n' for i in range(60)))
    sources = [("purchases", "log.csv", ""), ("triples", "kg.txt", "")]
    sources += [("features", "items.csv", 'name_column = "title"\n'), ("alignment", "link.txt", "")]
    text = "".join(f'[[source]]\nconnector = "{c}"\npaths = ["{p}"]\n{more}' for c, p, more in sources)
    (tmp_path / "kg.toml").write_text(text)
    return tmp_path / "kg.toml"


def _whole(store: GraphStore) -> Dump:
    found = dump(store)
    del found["Kgkit"]["schema"]
    return found


def _constraints(store: GraphStore) -> list[tuple[object, ...]]:
    return sorted(
        store.query("SHOW INDEXES YIELD name, state WHERE name STARTS WITH 'kgkit_' RETURN name, state").rows
    )


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(240)
def test_a_copy_is_the_same_as_over_bolt(laptop: GraphStore, home: Path, neo4j_store: Neo4jStore) -> None:
    said: list[str] = []
    rows = copy_graph(laptop, neo4j_store)
    with open_store("neo4j-managed") as store:
        done = copy_graph(laptop, store, bulk="always", say=said.append)
        assert done == {kind: n for kind, n in rows.items() if kind not in ("vectors", "Kgkit")}
        assert said[0] == "through Neo4j's offline importer, as --bulk always says"
        later = pa.table(
            {"head": ["m.001", "new"], "tail": ["g.3", "m.001"], "relation": ["line\nbreak", "r"]}
        )
        for each in (store, neo4j_store):
            assert _whole(each)["Kgkit"] == {"relationship_types": {"value": "property"}}
            each.query("CALL db.awaitIndexes(60)")
        assert _whole(store) == _whole(neo4j_store)
        assert _constraints(store) == _constraints(neo4j_store)
        assert extract(store).fingerprint == extract(neo4j_store).fingerprint
        items = "MATCH (n:Item) RETURN n.id AS id ORDER BY id"
        assert list(store.query(items).rows) == list(neo4j_store.query(items).rows)
        for each in (store, neo4j_store):  # and behaves the same from there on
            written = each.upsert_edges("FACT", later, missing="create")
            assert (written.created, written.matched) == (2, 0)
            each.align(pa.table({"item": ["75"], "entity": ["m.new"]}))
        assert _whole(store) == _whole(neo4j_store)
        with (
            pytest.raises(
                StoreError, match=r"--bulk always: neo4j-managed cannot .* not empty .*leave the option out"
            ),
            bulk_road(store, [], "always", said.append),
        ):
            pass
        with bulk_road(store, [Path("/dev/null")], "auto", said.append) as same:
            assert same is store
        store.clear()
        with bulk_road(store, [Path(__file__)], "auto", said.append) as same:  # too small to pay
            assert same is store
        with bulk_road(store, [Path("/dev/stdin")], "auto", said.append) as gathered:
            assert gathered is not store
            elsewhere = subprocess.run(
                [sys.executable, "-c", _NEVER], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert "another process gathers a bulk load" in elsewhere.stderr.splitlines()[-1]
            gathered.upsert_nodes("User", pa.table({"id": ["u1"]}))
        assert said[-1] == "0 relationships: over Bolt, as the offline importer pays from 1,000,000"
        assert store.stats()["nodes"]["User"] == 1
        assert [path.name for path in (home / "bulk").iterdir()] == ["lock"]


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(240)
@pytest.mark.parametrize("numbered", [True, False])
def test_a_copy_of_nodes_with_gaps_between_them_is_the_same(
    laptop: GraphStore, home: Path, neo4j_store: Neo4jStore, numbered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = pa.concat_tables(laptop.read_nodes("Entity", []))["id"].to_pylist()[1:40:3]
    assert laptop.delete_nodes("Entity", some) == len(some)
    assert laptop.delete_nodes("User", ["u0"]) == 1
    assert laptop.numbered is not None
    if not numbered:  # as of a Neo4j
        monkeypatch.setattr(type(laptop), "numbered", None)
    copy_graph(laptop, neo4j_store)
    with open_store("neo4j-managed") as store:
        store.clear()
        copy_graph(laptop, store, bulk="always")
        assert _whole(store) == _whole(neo4j_store)
        assert extract(store).fingerprint == extract(neo4j_store).fingerprint
        store.clear()


@pytest.mark.neo4j
def test_other_peoples_servers_go_over_bolt(neo4j_store: Neo4jStore, tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"no Neo4j that kgkit runs; leave the option out"),
        bulk_road(neo4j_store, [], "always", print),
    ):
        pass
    with bulk_road(neo4j_store, [Path("/dev/stdin")], "auto", print) as store:
        assert store is neo4j_store
    with open_store(tmp_path / "g.lbug") as embedded, pytest.raises(ConfigError, match="--bulk 'yes'"):
        copy_graph(embedded, neo4j_store, bulk="yes")


def _child(recipe: Path, bulk: str = "always", die: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CHILD, str(recipe), bulk, die]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _ingest_over_bolt(recipe: Path, info: ServerInfo) -> Dump:
    from kgkit.ingest import ingest
    from kgkit.recipe import read_recipe

    with open_neo4j_store(info) as cleaner:
        cleaner.clear()
    with open_neo4j_store(info, "native") as store:
        for source in read_recipe(recipe).sources:
            ingest(source.connector, source.config, store)
        return _whole(store)


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(240)
def test_killed_it_leaves_nothing_or_all(recipe: Path, home: Path, neo4j_server: ServerInfo) -> None:
    expected = _ingest_over_bolt(recipe, neo4j_server)
    with open_store("neo4j-managed") as store:
        store.clear()
    # While the importer, which lives on, is at work.
    child = _child(recipe)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("importing"):
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    with open_store("neo4j-managed") as store:
        assert sum(store.stats()["nodes"].values()) == 0
    # With the server stopped and the new database whole, but not in place.
    output, _ = _child(recipe, die="before the last step").communicate()
    assert "going on with what an interrupted ingest had gathered" in output
    assert server.status(home=home) is None
    server.start(home=home, port=server.free_port(), memory="512m", page_cache="64m")
    with open_store("neo4j-managed") as store:
        assert _whole(store) == expected
        assert len(_constraints(store)) == 0  # the kill came before them
    # The same command again finds all done, and completes what was left.
    assert "discarded what" in _child(recipe, bulk="auto").communicate()[0]
    with open_store("neo4j-managed") as store:
        assert _whole(store) == expected
        assert len(_constraints(store)) == 9
    assert [path.name for path in (home / "bulk").iterdir()] == ["lock"]


@pytest.mark.parametrize("moved", range(5))
def test_an_exchange_is_completed_from_any_step(tmp_path: Path, moved: int) -> None:
    places = [Path("databases/neo4j"), Path("transactions/neo4j")]
    for place in places:
        for base, text in ((tmp_path / "data", "old"), (staging(tmp_path) / "data", "new")):
            (base / place).mkdir(parents=True)
            (base / place / "file").write_text(text)
    (tmp_path / "bulk" / "ready").touch()
    for step in range(moved):  # what `finish_exchange` had done when it was killed
        own, made = tmp_path / "data" / places[step // 2], staging(tmp_path) / "data" / places[step // 2]
        if step % 2 == 0:
            (own / "file").unlink()
            own.rmdir()
        else:
            made.rename(own)
    finish_exchange(tmp_path)
    finish_exchange(tmp_path)
    assert [(tmp_path / "data" / place / "file").read_text() for place in places] == ["new", "new"]
    assert not (tmp_path / "bulk" / "ready").exists() and not staging(tmp_path).exists()


def test_what_may_pay(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 100)
    with large.open("wb") as file:
        file.truncate(4_000_000)
    assert not may_pay([small]) and may_pay([small, large]) and may_pay([Path("/dev/stdin")])
