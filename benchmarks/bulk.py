"""Facts into an empty managed Neo4j: `kgkit ingest triples FILE` by the bulk road, by stages, and over Bolt.

python -m benchmarks.bulk [--facts 10000000] [--relationship-types native]
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.csv as pacsv

from benchmarks import graphs
from benchmarks.common import Report, gib, ingest_file, median, parser, peak_memory, rate, say, server, timed
from kgkit.bulk import bulk_road
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

# What `bulk_road` says, and the stage that begins then.
STAGES = {
    "gathering": "read and gathered in an embedded graph",
    "through": "written as CSV files",
    "importing": "imported offline",
    "putting": "restart, constraints, counts compared",
}
WHOLE = "the whole command, bulk road"
BOLT = "the whole command, over Bolt"


def by_bulk_road(store: GraphStore, path: Path) -> dict[str, float]:
    """Seconds of each stage, and of all."""
    began = time.perf_counter()
    marks: list[tuple[str, float]] = []

    def hear(message: str) -> None:
        stage = next((name for word, name in STAGES.items() if message.startswith(word)), None)
        if stage is not None:
            marks.append((stage, time.perf_counter()))

    with bulk_road(store, [path], "always", hear) as gathered:
        ingest_file(gathered, "triples", path)
    ended = time.perf_counter()
    ends = [at for _, at in marks[1:]] + [ended]
    seconds = {name: end - at for (name, at), end in zip(marks, ends, strict=True)}
    return {**seconds, WHOLE: ended - began}


def main() -> None:
    p = parser(__doc__, repeats=3)
    p.add_argument("--facts", type=int, default=10_000_000)
    p.add_argument("--bolt-facts", type=int, default=500_000, help="facts of the Bolt road (0: leave it out)")
    p.add_argument("--entities", type=int, default=0, help="default: a tenth of the facts")
    p.add_argument("--relations", type=int, default=50)
    p.add_argument("--relationship-types", default="property", choices=("property", "native"))
    args = p.parse_args()
    n = args.facts
    entities = args.entities or max(n // 10, 1000)
    facts = graphs.facts(n, entities, args.relations).select(["head", "relation", "tail"])
    options = pacsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    seconds: dict[str, list[float]] = {}

    def note(name: str, rows: int, s: float) -> None:
        seconds.setdefault(name, []).append(s / rows)
        say(f"{name}: {s:.1f} s, {rate(rows / s)}")

    with TemporaryDirectory(prefix="kgkit-bench-") as scratch:
        every, few = Path(scratch) / "facts.tsv", Path(scratch) / "few.tsv"
        pacsv.write_csv(facts, every, options)
        pacsv.write_csv(facts.slice(0, args.bolt_facts), few, options)
        for _ in range(args.repeats):
            with (
                server("neo4j-managed"),
                open_store("neo4j-managed", relationship_types=args.relationship_types) as store,
            ):
                for name, s in by_bulk_road(store, every).items():
                    note(name, n, s)
                found = store.stats()["relationships"]["FACT"]
                if found != n:
                    raise SystemExit(f"{found:,} facts in the store after {n:,} were loaded")
            if args.bolt_facts:
                with (
                    server("neo4j-managed"),
                    open_store("neo4j-managed", relationship_types=args.relationship_types) as store,
                ):
                    note(BOLT, args.bolt_facts, timed(ingest_file, store, "triples", few)[0])
    report = Report(
        f"{n:,} facts among {entities:,} entities into an empty managed Neo4j, {args.relationship_types}",
        ["what", "facts/s", "seconds"],
    )
    for name, each in seconds.items():
        rows = args.bolt_facts if name == BOLT else n
        report.add(name, rate(1 / median(each)), median(each) * rows)
    if BOLT in seconds:
        times = median(seconds[BOLT]) / median(seconds[WHOLE])
        report.notes.append(
            f"The bulk road is {times:.1f} x as fast as Bolt, measured with {args.bolt_facts:,} facts."
        )
    report.notes.append(f"Peak memory of kgkit's process: {gib(peak_memory())}.")
    report.print(args.json)


if __name__ == "__main__":
    main()
