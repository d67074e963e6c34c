"""A Freebase dump, parsed and filtered, and whole into a store, beside `zcat | wc -l` and rdflib in the same run.

python -m benchmarks.freebase [--triples 10000000] [--sizes 1000000 --sizes 5000000] [--store neo4j-managed]

Every measurement of kgkit is a process of its own, so that its peak memory is too. Seconds are wall clock without the
start of Python. Generated dumps (`benchmarks.freebase_dump`) are kept in --dumps when it is given.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import freebase_dump
from benchmarks.common import (
    Report,
    empty_store,
    fresh_process,
    gib,
    median,
    parser,
    peak_memory,
    rate,
    say,
    server,
    timed,
)
from benchmarks.environments import peer_python
from kgkit.bulk import bulk_road
from kgkit.config import make_config
from kgkit.ingest import ingest
from kgkit.records import Facts, Features, Progress
from kgkit.registry import load_connector

HERE = Path(__file__).parent


# -- each in a process of its own ---------------------------------------------------------------------------


def records(dump: Path, **options: Any) -> dict[str, Any]:
    """Parse and filter: everything that the connector yields, and nothing done with it."""
    import pyarrow.compute  # noqa: F401  imported before the clock starts

    connector = load_connector("freebase")()
    config = make_config(connector.Config, {"paths": (dump,), **options})
    triples = kept = 0
    started = time.perf_counter()
    for record in connector.read(config):
        if isinstance(record, Progress):
            triples += record.rows
        elif isinstance(record, (Facts, Features)):
            kept += record.table.num_rows
    return {"triples": triples, "kept": kept, "seconds": time.perf_counter() - started}


def whole(dump: Path, store: str) -> dict[str, Any]:
    """`kgkit ingest freebase DUMP` into an empty store."""
    connector = load_connector("freebase")()
    config = make_config(connector.Config, {"paths": (dump,)})

    def command() -> Any:
        with bulk_road(graph, [dump], "auto", say) as target:
            return ingest(connector, config, target)

    with empty_store(store) as graph:
        seconds, report = timed(command)
        (source,) = report.sources
        facts = graph.stats()["relationships"]["FACT"]
    return {"triples": source.rows, "kept": source.rows - sum(source.left_out.values()), "facts": facts,
            "seconds": seconds}  # fmt: skip


def part(args: argparse.Namespace) -> None:
    """Prints one measurement with its peak memory."""
    if args.part == "whole":
        found = whole(args.dump, args.store)
    else:
        found = records(args.dump, **({"mediators": "collapse"} if args.part == "collapse" else {}))
    print(json.dumps({**found, "peak": peak_memory()}))


# -- the peers ----------------------------------------------------------------------------------------------


def zcat(dump: Path) -> tuple[float, int]:
    """Seconds and lines of `zcat DUMP | wc -l`."""
    command = ["sh", "-c", 'zcat "$1" | wc -l', "sh", str(dump)]
    seconds, done = timed(subprocess.run, command, capture_output=True, text=True, check=True)
    return seconds, int(done.stdout)


def rdflib(dump: Path, triples: int, folder: Path) -> dict[str, Any]:
    """rdflib on the first triples; without the bare numbers, which it does not take."""
    cut = folder / "slice.nt"
    with gzip.open(dump, "rb") as file, cut.open("wb") as out:
        out.writelines(line for line in itertools.islice(file, triples) if line[-4:-3] in (b">", b'"', b"n"))
    python = peer_python("rdflib", HERE / "requirements-rdflib.txt", "3.11")
    done = subprocess.run([python, HERE / "rdflib_peer.py", cut], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"rdflib failed ({done.returncode}):\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# -- the run ------------------------------------------------------------------------------------------------


def measure(name: str, dump: Path, store: str, repeats: int) -> dict[str, Any]:
    """The median of several runs, and the largest peak."""
    runs = []
    for _ in range(repeats):
        runs.append(fresh_process("benchmarks.freebase", "--part", name, "--dump", dump, "--store", store))
        say(f"{name}, {runs[-1]['triples']:,} triples: {rate(runs[-1]['triples'] / runs[-1]['seconds'])}")
    return {**runs[0], "seconds": median([r["seconds"] for r in runs]), "peak": max(r["peak"] for r in runs)}


def main() -> None:
    p = parser(__doc__, repeats=3, store=True)
    p.add_argument("--triples", type=int, default=10_000_000, help="size of the dump (default 10 million)")
    p.add_argument("--sizes", type=int, action="append", help="smaller dumps whose peak memory is measured")
    p.add_argument("--slice", type=int, default=100_000, help="triples for rdflib (0: without rdflib)")
    p.add_argument("--dumps", type=Path, help="folder that keeps the generated dumps")
    p.add_argument("--part", choices=("parse", "collapse", "whole"), help=argparse.SUPPRESS)
    p.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.part:
        part(args)
        return
    sizes = sorted({*(args.sizes or (args.triples // 10, args.triples // 2)), args.triples})
    with TemporaryDirectory(prefix="kgkit-bench-") as scratch, server(args.store):
        folder = args.dumps or Path(scratch)
        run(args, [folder / f"freebase-{size}.gz" for size in sizes], sizes, Path(scratch))


def run(args: argparse.Namespace, dumps: list[Path], sizes: list[int], scratch: Path) -> None:
    """Measures and prints."""
    for path, size in zip(dumps, sizes, strict=True):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            say(f"writing {path.name}: {timed(freebase_dump.write, path, size)[0]:.0f} s")
    dump = dumps[-1]
    with gzip.open(dump, "rb") as file:
        size = sum(len(piece) for piece in iter(lambda: file.read(1 << 20), b""))
    report = Report(
        f"A dump of {sizes[-1]:,} triples ({size / 1e6:,.0f} MB, {dump.stat().st_size / 1e6:,.0f} MB gzip), {args.store}",
        ["what", "triples/s", "MB/s unpacked", "kept/s", "times", "peak memory"],
    )
    counted = [zcat(dump) for _ in range(args.repeats)]
    base = counted[0][1] / median([s for s, _ in counted])
    report.add("`zcat DUMP | wc -l`", rate(base), size / median([s for s, _ in counted]) / 1e6, "", "", "")
    slow = rdflib(dump, args.slice, scratch) if args.slice else None
    if slow:
        report.add(
            f"rdflib, {slow['triples']:,} triples", rate(slow["triples"] / slow["seconds"]), "", "", "", ""
        )
    names = {
        "parse": "parse and filter",
        "collapse": "the same, mediators collapsed",
        "whole": "whole, into the store",
    }
    for name, words in names.items():
        for path in dumps:
            got = measure(name, path, args.store, args.repeats if path == dump else 1)
            fast, bytes_a_triple = got["triples"] / got["seconds"], size / sizes[-1]
            times = f"{fast / base:.2f} x zcat" + (
                f", {fast * slow['seconds'] / slow['triples']:.0f} x rdflib" if slow else ""
            )
            kept = rate(got["kept"] / got["seconds"])
            report.add(
                f"{words}, {got['triples']:,}",
                rate(fast),
                fast * bytes_a_triple / 1e6,
                kept,
                times,
                gib(got["peak"]),
            )
    report.print(args.json)


if __name__ == "__main__":
    main()
