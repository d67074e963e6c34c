"""What every benchmark shares: options, time, memory, stores to measure, the machine in words, a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from kgkit.config import make_config
from kgkit.ingest import ingest
from kgkit.registry import load_connector
from kgkit.server import ServerInfo, running_server
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

T = TypeVar("T")
STORES = ("ladybug", "neo4j-managed")


# -- command line ----------------------------------------------------------------------------------------


def parser(
    doc: str | None, *, repeats: int = 5, store: bool = False, flags: Sequence[str] = ("--repeats",)
) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the public data sets")
    p.add_argument(*flags, dest="repeats", type=int, default=repeats, help=f"how often (default {repeats})")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if store:
        p.add_argument("--store", choices=STORES, default="ladybug", help="the engine to measure")
    return p


def say(text: str) -> None:
    """Progress, on stderr, so that stdout holds the table alone."""
    print(text, file=sys.stderr, flush=True)


# -- measuring -------------------------------------------------------------------------------------------


def timed(work: Callable[..., T], *args: Any, **options: Any) -> tuple[float, T]:
    """Seconds of wall clock, and what the work returned."""
    started = time.perf_counter()
    result = work(*args, **options)
    return time.perf_counter() - started, result


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def peak_memory() -> int:
    """Most bytes this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def fresh_process(module: str, *arguments: object) -> Any:
    """The JSON that `python -m module arguments` prints last. Its peak memory is its own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{module} {' '.join(map(str, arguments))} failed ({done.returncode})")
    return json.loads(done.stdout.strip().splitlines()[-1])


# -- stores ----------------------------------------------------------------------------------------------


@contextmanager
def server(name: str, memory: str | None = None) -> Iterator[ServerInfo | None]:
    """For `neo4j-managed`, a server of this benchmark's own in a temporary folder, stopped at the end."""
    if name != "neo4j-managed":
        yield None
        return
    before = os.environ.get("KGKIT_NEO4J_HOME")
    with (
        tempfile.TemporaryDirectory(prefix="kgkit-bench-") as home,
        running_server(Path(home), memory=memory) as info,
    ):
        os.environ["KGKIT_NEO4J_HOME"] = home  # so that `neo4j-managed` is this one
        try:
            yield info
        finally:
            os.environ.pop("KGKIT_NEO4J_HOME")
            if before is not None:
                os.environ["KGKIT_NEO4J_HOME"] = before


@contextmanager
def empty_store(name: str) -> Iterator[GraphStore]:
    """An empty store of an engine; within `server` for Neo4j."""
    if name == "neo4j-managed":
        with open_store(name) as store:
            store.clear()
            yield store
        return
    with (
        tempfile.TemporaryDirectory(prefix="kgkit-bench-") as folder,
        open_store(Path(folder) / "graph") as store,
    ):
        yield store


def ingest_file(store: GraphStore, connector: str, path: Path, *, force: bool = False) -> None:
    """What `kgkit ingest CONNECTOR PATH` does."""
    found = load_connector(connector)()
    ingest(found, make_config(found.Config, {"paths": (path,)}), store, force=force)


# -- saying it -------------------------------------------------------------------------------------------


@dataclass
class Report:
    """A table of measurements with the date and machine they were made on."""

    title: str
    columns: Sequence[str]
    rows: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Any) -> None:
        self.rows.append(list(cells))

    def print(self, as_json: bool) -> None:
        when = f"{datetime.now(UTC):%Y-%m-%d}"
        if as_json:
            about = {"title": self.title, "date": when, "machine": machine()}
            table = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
            print(json.dumps({**about, "rows": table, "notes": self.notes}))
            return
        print(f"**{self.title}** ({when}; {machine_line()})\n")
        print("| " + " | ".join(self.columns) + " |")
        print("|" + "---|" * len(self.columns))
        for row in self.rows:
            print("| " + " | ".join(_cell(c) for c in row) + " |")
        for note in self.notes:
            print(f"\n{note}")


def rate(per_second: float) -> str:
    """1234567.0 -> "1.23M/s"."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if per_second >= size:
            return f"{per_second / size:.3g}{unit}/s"
    return f"{per_second:.3g}/s"


def gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """What figures depend on, without names of hosts or people."""
    packages = ("kgkit", "torch", "numpy", "pyarrow", "ladybug", "neo4j")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def machine_line() -> str:
    m = machine()
    versions = ", ".join(f"{k} {m[k]}" for k in ("torch", "numpy", "ladybug", "neo4j"))
    return f"{m['cpu']}, {m['cores']} cores, {m['memory']}, {m['system']}, Python {m['python']}, {versions}"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
