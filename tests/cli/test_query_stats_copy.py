"""query, stats, copy and the printing of rows, on the embedded engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from kgkit.cli import copy, query, stats
from kgkit.cli.query import parse_param
from kgkit.copy import copy_graph
from kgkit.errors import ConfigError, KgkitError, ReadOnlyStoreError, StoreError
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import RunRecord
from kgkit.testing.contract_answers import completed, recommended, vectors
from kgkit.testing.contract_write import facts, nodes, purchases
from kgkit.testing.graph_dump import dump

app = typer.Typer()
for module in (query, stats, copy):
    module.register(app)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.kg"
    with LadybugStore(path) as store:
        store.upsert_nodes("User", nodes("42", "u2", age=[30, None]))
        store.upsert_nodes("Entity", nodes("e", "f", name=["Matrix, The", "Élan"], item_id=["1", None]))
        store.upsert_nodes("Source", nodes("log.csv", connector=["purchases"], fingerprint=["x"], rows=[2]))
        store.upsert_nodes("Kgkit", nodes("note", value=["kept"]))
        store.upsert_edges("FACT", facts(("e", "film.by", "f"), ("f", "born in", "e"), source=["kg", None]))
        store.upsert_edges("PURCHASED", purchases(("42", "e", "log.csv", 2), ("u2", "f", "log.csv", 1)))
        store.replace_answers(
            RunRecord("r1", "kgcn", "2024-01-01"),
            [vectors("Entity", ["e", "f"], np.eye(2, 4)), vectors("User", ["u2"], np.ones((1, 4)))],
            [recommended(("42", "f", 0.5, 1)), completed(("e", "r", "f", 0.25))],
        )
    return path


def run(*args: str | Path, fails: type[KgkitError] | None = None, text: str | None = None) -> str:
    """Runs a command and returns what it printed, or checks how it failed and returns the message."""
    result = CliRunner().invoke(app, [str(a) for a in args], input=text)
    if fails is not None:
        assert isinstance(result.exception, fails), result.output
        return str(result.exception)
    assert result.exception is None, (result.output, result.exception)
    return result.stdout


def test_query_as_table(graph: Path) -> None:
    out = run("query", "MATCH (e:Entity) RETURN e.id AS id, e.name AS name ORDER BY id", "--store", graph)
    assert out == "id  name\ne   Matrix, The\nf   Élan\n"


def test_query_with_text_and_number_parameters(graph: Path) -> None:
    cypher = "MATCH (u:User)-[p:PURCHASED]->(e) WHERE u.id = $id AND p.count >= $n RETURN e.id AS e"
    out = run("query", cypher, "-p", "id:str=42", "-p", "n=2", "-f", "json", "--store", graph)
    assert json.loads(out) == [{"e": "e"}]
    assert "who" in run("query", "MATCH (u:User {id: $who}) RETURN u", "--store", graph, fails=StoreError)


def test_query_to_files(graph: Path, tmp_path: Path) -> None:
    cypher = "MATCH (u:User) RETURN u.id AS id, u.age AS age ORDER BY id"
    run("query", cypher, "-o", tmp_path / "users.csv", "--store", graph)
    assert (tmp_path / "users.csv").read_text() == "id,age\n42,30\nu2,\n"
    run("query", cypher, "-o", tmp_path / "users.parquet", "--store", graph)
    assert pq.read_table(tmp_path / "users.parquet").to_pylist() == [
        {"id": "42", "age": 30},
        {"id": "u2", "age": None},
    ]
    run("query", cypher, "-o", tmp_path / "none" / "x.csv", "--store", graph, fails=ConfigError)
    run("query", cypher, "-f", "parquet", "--store", graph, fails=ConfigError)
    run("query", cypher, "-f", "xml", "--store", graph, fails=ConfigError)


def test_query_is_read_only_unless_told(graph: Path) -> None:
    cypher = "MERGE (u:User {id: 'new'})"
    run("query", cypher, "--store", graph, fails=ReadOnlyStoreError)
    run("query", "COPY (MATCH (u:User) RETURN u.id) TO 'out.csv'", "--store", graph, fails=ReadOnlyStoreError)
    run("query", "/* x */ COMMIT", "--store", graph, fails=ReadOnlyStoreError)
    run("query", cypher, "--write", "--store", graph)
    assert (
        run("query", "-", "-f", "csv", "--store", graph, text="MATCH (u:User) RETURN count(*) AS n")
        == "n\n3\n"
    )


def test_query_without_a_graph(tmp_path: Path) -> None:
    assert "kgkit ingest" in run("query", "RETURN 1", "--store", tmp_path / "none.kg", fails=StoreError)
    assert not (tmp_path / "none.kg").exists()


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("a=42", 42),
        ("a:str=42", "42"),
        ("a=x=y", "x=y"),
        ("a=[1, 2]", [1, 2]),
        ("a=true", True),
        ('a="42"', "42"),
        ("a:float=1", 1.0),
        ("$a=", ""),
    ],
)
def test_parameters(given: str, value: object) -> None:
    assert parse_param(given) == ("a", value)


@pytest.mark.parametrize("given", ["a", "=1", "a b=1", "a:int=x", "a:date=1"])
def test_parameters_that_are_none(given: str) -> None:
    with pytest.raises(ConfigError, match="--param"):
        parse_param(given)


def test_stats(graph: Path) -> None:
    found = json.loads(run("stats", "--json", "--store", graph))
    assert found["nodes"] == {"Entity": 2, "Item": 1, "Run": 1, "User": 2}
    assert found["relations"] == {"born in": 1, "film.by": 1}
    assert "PURCHASED" in run("stats", "--store", graph)


def test_copy_is_lossless(graph: Path, tmp_path: Path) -> None:
    out = run("copy", "--from", graph, "--to", tmp_path / "other.kg", "--quiet")
    assert out == ""
    with LadybugStore(graph, read_only=True) as a, LadybugStore(tmp_path / "other.kg", read_only=True) as b:
        assert dump(a) == dump(b) and dump(a)["RECOMMENDED"]
        assert a.stats() == b.stats()
        for label in ("User", "Entity"):
            assert (
                a.read_vectors(label, "embedding_kgcn")[1].tolist()
                == b.read_vectors(label, "embedding_kgcn")[1].tolist()
            )


def test_copy_onto_something(graph: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.kg"
    with LadybugStore(other) as store:
        store.upsert_edges("FACT", facts(("x", "new", "e")), missing="create")
        store.upsert_nodes("Entity", pa.table({"id": ["e"], "name": ["old"]}))
    assert "not empty" in run("copy", "--from", graph, "--to", other, fails=StoreError)
    run("copy", "--from", graph, "--to", other, "--merge", "--quiet")
    run("copy", "--from", graph, "--to", graph, fails=ConfigError)
    with LadybugStore(other) as b:
        assert b.stats()["relations"] == {"born in": 1, "film.by": 1, "new": 1}
        assert dump(b)["Entity"]["e"]["name"] == "Matrix, The"
        with LadybugStore(graph) as a:
            assert copy_graph(a, b, merge=True)["FACT"] == 2
        assert b.stats()["relationships"]["FACT"] == 3
