"""What people's Cypher may not do when it is only to read: on the embedded engine for real, and by its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgkit.errors import ReadOnlyStoreError, StoreError
from kgkit.extract import Extraction, extract
from kgkit.store.ladybug import LadybugStore
from kgkit.store.neo4j import Neo4jStore
from kgkit.store.reading import check_reading
from kgkit.testing.contract_write import facts, purchases

READ = "LOAD FROM '{file}' (file_format='csv') RETURN *"
HIDDEN = (
    READ,
    "load /* a */ from // b\n '{file}' (file_format='csv') RETURN *",
    "// MATCH\nLOAD FROM '{file}' (file_format='csv') RETURN *",
    "EXPLAIN LOAD FROM '{file}' (file_format='csv') RETURN *",
    "profile /**/ LOAD WITH HEADERS (a STRING) FROM '{file}' (file_format='csv') RETURN *",
    "MATCH (n:Entity) LOAD FROM '{file}' (file_format='csv') RETURN *",
    "MATCH (n:Entity) RETURN n.id UNION LOAD FROM '{file}' (file_format='csv') RETURN column0",
    "CALL file_info('{file}') RETURN *",
    "CALL READ_CSV_SERIAL('{file}') RETURN *",
    "CALL `read_parquet`('{file}') RETURN *",
    "COPY (MATCH (n:Entity) RETURN n.id) TO '{file}.out.csv'",
    "EXPLAIN COPY (MATCH (n:Entity) RETURN n.id) TO '{file}.out.csv'",
    "PROFILE COPY (MATCH (n:Entity) RETURN n.id) TO '{file}.out.csv'",
    "ATTACH '{file}' AS x (dbtype duckdb)",
    "IMPORT DATABASE '{file}'",
    "EXPORT DATABASE '{file}.out'",
    "INSTALL json",
    "LOAD EXTENSION '{file}'",
)
WORDS = (
    "LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row",
    "load\n/* ' */csv WITH HEADERS FROM $f AS row RETURN row",
    "CYPHER 5 runtime=slotted LOAD CSV FROM $f AS row RETURN row",
    "CYPHER 25 EXPLAIN LOAD CSV FROM $f AS row RETURN row",
    "MATCH (n) CALL { LOAD CSV FROM $f AS row RETURN row } RETURN row",
    "MATCH (n) CALL (n) { WITH n LOAD CSV FROM $f AS row RETURN row } RETURN row",
    "RETURN 1 AS row UNION ALL LOAD CSV FROM $f AS row RETURN row",
    r"\u004cOAD CSV FROM $f AS row RETURN row",
    r"L\uu006fAD \u0043SV FROM $f AS row RETURN row",
    r"RETURN '\u0027 AS row UNION LOAD CSV FROM $f AS row RETURN row //'",
    "RETURN 1 AS row // x\rUNION LOAD CSV FROM $f AS row RETURN row",
    "CALL apoc.load.json($f)",
    "CALL `apoc` . /* x */ load.`csv`($f) YIELD map RETURN map",
    "MATCH (n) CALL apoc.export.csv.all($f, {}) YIELD file RETURN file",
    "RETURN apoc.cypher.runFirstColumnSingle('LOAD CSV FROM $f AS r RETURN r', {f: $f})",
    "CALL db.createLabel('x')",
    "CALL dbms.listConfig()",
    "SHOW SETTINGS",
    "USE system MATCH (n) RETURN n",
    "MATCH (n) CALL { USE system MATCH (m) RETURN m } RETURN m",
    "MATCH (n) WHERE 1. LOAD CSV FROM $f AS row RETURN row",
)
ALLOWED = (
    "MATCH (n:Load) WHERE n.load = 'LOAD CSV FROM x' RETURN n.load AS `load from`",
    "MATCH (call:Call {load: $load}) RETURN call.load, call",
    "// LOAD CSV FROM 'x'\nMATCH (n) /* CALL apoc.load.json('x') */ RETURN n",
    r"MATCH (n {id: '\u00e9 \\u'}) RETURN duration.between(date('2020-01-01'), date.truncate('day', n.d))",
    "CYPHER 5 runtime=slotted EXPLAIN MATCH (n) RETURN n",
    "MATCH (n) CALL { WITH n RETURN n.id AS id } RETURN id",
    "CALL db.labels() YIELD label RETURN label",
    "CALL db.index.vector.queryNodes('i', 5, $v) YIELD node RETURN node",
    "CALL show_tables() RETURN *",
    "SHOW INDEXES",
    "MATCH (n) RETURN [x IN n.a.b | x.load]",
)


@pytest.fixture
def store(tmp_path: Path) -> LadybugStore:
    (tmp_path / "secret").write_text("root,1\n")
    made = LadybugStore(tmp_path / "graph.kg")
    made.upsert_edges("PURCHASED", purchases(("u", "a", "s", 1)), missing="create")
    made.upsert_edges("FACT", facts(("a", "r", "b")), missing="create")
    return made


@pytest.mark.parametrize("cypher", HIDDEN)
def test_embedded_engine_reads_no_file(store: LadybugStore, tmp_path: Path, cypher: str) -> None:
    with store, pytest.raises(StoreError, match=r"beyond the graph|is not for reading"):
        list(store.query(cypher.format(file=tmp_path / "secret")).rows)
    assert not list(tmp_path.glob("secret.out*"))


def test_files_may_be_read_when_allowed(store: LadybugStore, tmp_path: Path) -> None:
    cypher = READ.format(file=tmp_path / "secret")
    with store:
        assert list(store.query(cypher, files=True).rows) == [("root", "1")]
        with pytest.raises(ReadOnlyStoreError, match="COPY"):
            store.query(f"EXPLAIN COPY (RETURN 1) TO '{tmp_path / 'x.csv'}'", files=True)
        with pytest.raises(StoreError, match="LOAD FROM reaches beyond the graph"):
            own = f"LOAD FROM '{tmp_path / 'secret'}' RETURN column0 AS head"
            extract(store, Extraction(triples_query=own))


@pytest.mark.parametrize("cypher", WORDS)
def test_words_that_reach_beyond_the_graph(cypher: str) -> None:
    with pytest.raises(StoreError, match=r"beyond the graph|is not for reading"):
        check_reading(cypher)


@pytest.mark.parametrize("cypher", ALLOWED)
def test_words_that_only_read_the_graph(cypher: str) -> None:
    check_reading(cypher)


@pytest.mark.neo4j
def test_server_reads_no_file(neo4j_store: Neo4jStore) -> None:
    """Of the words above, each that a server without further procedures could run is refused before it gets there."""
    for cypher in WORDS:
        with pytest.raises(StoreError, match=r"beyond the graph|is not for reading"):
            neo4j_store.query(cypher, {"f": "file:///x.csv"})
    with pytest.raises(StoreError, match=r"x\.csv"):  # the server looks for the file
        list(neo4j_store.query(WORDS[0].replace("etc/passwd", "x.csv"), files=True).rows)
    assert list(neo4j_store.query(r"RETURN '\u00e9' AS a").rows) == [("é",)]
    assert list(neo4j_store.query("CALL db.labels() YIELD label RETURN count(label) >= 0").rows) == [(True,)]
