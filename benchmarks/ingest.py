"""Facts into a graph database, idempotent: first time, the same again, and the usual UNWIND MERGE beside them.

python -m benchmarks.ingest [--store neo4j-managed]
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import neo4j
import pyarrow as pa
import pyarrow.csv as pacsv

from benchmarks import graphs
from benchmarks.common import Report, empty_store, ingest_file, median, parser, rate, say, server, timed
from kgkit.server import ServerInfo
from kgkit.store.port import GraphStore

CONSTRAINT = "CREATE CONSTRAINT entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE"
NAIVE_NODES = "UNWIND $rows AS id MERGE (:Entity {id: id})"
NAIVE_FACTS = (
    "UNWIND $rows AS x MATCH (a:Entity {id: x[0]}) MATCH (b:Entity {id: x[1]}) "
    "MERGE (a)-[:FACT {relation: x[2]}]->(b)"
)
FILE = (
    "`kgkit ingest triples FILE`, nodes included, first time",
    "`kgkit ingest triples FILE --force`, read and compared again",
    "`kgkit ingest triples FILE`, skipped as unchanged",
)


def write(session: neo4j.Session, query: LiteralString, rows: list[Any], size: int = 20_000) -> None:
    """A transaction for each batch of rows."""
    for at in range(0, len(rows), size):
        session.execute_write(_send, query, rows[at : at + size])


def _send(transaction: neo4j.ManagedTransaction, query: LiteralString, rows: list[Any]) -> None:
    transaction.run(query, rows=rows).consume()


def naive(info: ServerInfo, nodes: pa.Table, facts: pa.Table) -> float:
    """Seconds for the facts with one MERGE a row, as most loaders for Neo4j do it."""
    rows = [list(r) for r in zip(*(facts[c].to_pylist() for c in ("head", "tail", "relation")), strict=True)]
    with (
        neo4j.GraphDatabase.driver(info.uri, auth=(info.username, info.password())) as driver,
        driver.session() as session,
    ):
        session.run(CONSTRAINT).consume()
        write(session, NAIVE_NODES, nodes["id"].to_pylist())
        return timed(write, session, NAIVE_FACTS, rows)[0]


def through_connector(store: GraphStore, facts: pa.Table, folder: Path) -> tuple[float, float, float]:
    """Seconds of `kgkit ingest triples facts.tsv`, of the same command with --force, and without."""
    path = folder / "facts.tsv"
    if not path.exists():
        table = facts.select(["head", "relation", "tail"])
        options = pacsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pacsv.write_csv(table, path, options)
    first = timed(ingest_file, store, "triples", path)[0]
    forced = timed(ingest_file, store, "triples", path, force=True)[0]
    return first, forced, timed(ingest_file, store, "triples", path)[0]


def main() -> None:
    p = parser(__doc__, repeats=3, store=True)
    p.add_argument("--facts", type=int, help="default: 2 million embedded, 500,000 on Neo4j")
    p.add_argument("--entities", type=int, default=200_000)
    p.add_argument("--relations", type=int, default=50)
    p.add_argument("--naive-facts", type=int, default=200_000, help="facts of the UNWIND MERGE baseline")
    args = p.parse_args()
    n = args.facts or (500_000 if args.store == "neo4j-managed" else 2_000_000)
    nodes = graphs.entities(args.entities, items=args.entities // 20)
    facts = graphs.facts(n, args.entities, args.relations)
    seconds: dict[str, list[float]] = {}

    def note(name: str, rows: int, s: float) -> None:
        seconds.setdefault(name, []).append(s / rows)
        say(f"{name}: {rate(rows / s)}")

    with server(args.store) as info, TemporaryDirectory(prefix="kgkit-bench-") as scratch:
        for _ in range(args.repeats):
            if info is not None:
                with empty_store(args.store):
                    few = facts.slice(0, args.naive_facts)
                    note(f"UNWIND MERGE of {few.num_rows:,} facts", few.num_rows, naive(info, nodes, few))
            with empty_store(args.store) as store:
                note("nodes, first time", len(nodes), timed(store.upsert_nodes, "Entity", nodes)[0])
                note("facts, first time", n, timed(store.upsert_edges, "FACT", facts)[0])
                note("facts, the same again", n, timed(store.upsert_edges, "FACT", facts)[0])
                found = store.stats()["relationships"]["FACT"]
                if found != n:
                    raise SystemExit(f"{found:,} facts in the store after {n:,} were written twice")
            with empty_store(args.store) as store:
                for name, s in zip(FILE, through_connector(store, facts, Path(scratch)), strict=True):
                    note(name, n, s)
    report = Report(
        f"Ingest of {n:,} facts among {args.entities:,} entities, {args.store}", ["what", "rows/s", "times"]
    )
    base = next((k for k in seconds if k.startswith("UNWIND")), None)
    against = {
        "facts, first time": base,
        "facts, the same again": "facts, first time",
        FILE[1]: FILE[0],
        FILE[2]: FILE[0],
    }
    for name, each in seconds.items():
        other = against.get(name)
        times = f"{median(seconds[other]) / median(each):.1f} x {other}" if other else ""
        report.add(name, rate(1 / median(each)), times)
    report.print(args.json)


if __name__ == "__main__":
    main()
