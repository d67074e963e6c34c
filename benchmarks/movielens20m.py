"""A generated graph of MovieLens-20M's size on the embedded engine: ingest, extract, one epoch of KGCN, and peak memory.

    python -m benchmarks.movielens20m [--scale 0.1 --scale 1]

138,159 users, 16,954 items, 13.5 million interactions, 102,569 entities and 499,474 triples at scale 1. Files are
generated first (not timed), then every stage runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from benchmarks.common import Report, fresh_process, gib, ingest_file, median, parser, peak_memory, rate, say
from benchmarks.graphs import Ints, ids, skewed

# KGCN, Table 1.
SETTING = {
    "neighbours": 4, "dim": 32, "depth": 2, "l2": 1e-7, "learning_rate": 2e-2, "batch_size": 65536,
    "arithmetic": "authors", "device": "cpu", "epochs": 1, "seed": 0,
}  # fmt: skip
RELATIONS = 32


@dataclass(frozen=True)
class Size:
    users: int
    items: int
    interactions: int
    entities: int
    triples: int

    @staticmethod
    def of(scale: float) -> Size:
        return Size(*(round(scale * n) for n in (138_159, 16_954, 13_500_000, 102_569, 499_474)))


# -- the files -------------------------------------------------------------------------------------------


def generate(folder: Path, size: Size, seed: int = 0) -> None:
    """purchases.csv (user, item, time), facts.tsv (head, relation, tail), alignment.tsv (item, entity)."""
    rng = np.random.default_rng(seed)
    user, item = _interactions(rng, size)
    seconds = rng.integers(789_652_004, 1_427_784_002, len(user))
    purchases = {
        "user": ids("u", size.users).take(pa.array(user)),
        "item": ids("", size.items).take(pa.array(item)),
        "time": pa.array(seconds),
    }
    pacsv.write_csv(pa.table(purchases), folder / "purchases.csv", pacsv.WriteOptions(quoting_style="none"))
    head, relation, tail = _triples(rng, size)
    entities = ids("m.", size.entities)
    names = pa.array([f"film.film.relation_{r}" for r in range(RELATIONS)])
    facts = [entities.take(pa.array(head)), names.take(pa.array(relation)), entities.take(pa.array(tail))]
    plain = pacsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    pacsv.write_csv(pa.table(facts, names=["head", "relation", "tail"]), folder / "facts.tsv", plain)
    aligned = [ids("", size.items), entities.slice(0, size.items)]
    pacsv.write_csv(pa.table(aligned, names=["item", "entity"]), folder / "alignment.tsv", plain)


def _interactions(rng: np.random.Generator, size: Size) -> tuple[Ints, Ints]:
    """Distinct pairs in random order: items by Zipf's law, users by a log-normal one. Nobody goes without."""
    popular = np.cumsum(1 / np.arange(1, size.items + 1) ** 0.8)
    active = np.cumsum(rng.lognormal(sigma=1.0, size=size.users))
    n = max(size.users, size.items)
    everyone = np.unique((np.arange(n) % size.users) * size.items + rng.permutation(n) % size.items)
    found = everyone
    while len(found) < size.interactions:  # some more than are missing, as most of the later draws are known
        draw = size.interactions // 20 + (size.interactions - len(found)) * 5 // 4
        user = np.searchsorted(active, rng.random(draw) * active[-1])
        item = np.searchsorted(popular, rng.random(draw) * popular[-1])
        found = np.unique(np.concatenate([found, user * size.items + item]))
    others = rng.permutation(np.delete(found, np.searchsorted(found, everyone)))
    kept = rng.permutation(np.concatenate([everyone, others[: size.interactions - len(everyone)]]))
    user, item = np.divmod(kept, size.items)
    return user, item


def _triples(rng: np.random.Generator, size: Size) -> tuple[Ints, Ints, Ints]:
    """Distinct facts in random order, in which every entity occurs."""
    n = size.entities
    every = np.arange(n)
    found = (rng.integers(0, n, n) * RELATIONS + rng.integers(0, RELATIONS, n)) * n + every
    found = np.unique(found)
    while len(found) < size.triples:
        draw = size.triples - len(found)
        head, tail = skewed(rng, draw, n, 1.5), skewed(rng, draw, n)
        found = np.unique(
            np.concatenate([found, (head * RELATIONS + skewed(rng, draw, RELATIONS)) * n + tail])
        )
    rest, tail = np.divmod(rng.permutation(found), n)
    head, relation = np.divmod(rest, RELATIONS)
    return head, relation, tail


# -- stages, each in a process of its own ----------------------------------------------------------------


def ingest_stage(folder: Path) -> dict[str, Any]:
    """The three files through their connectors."""
    from kgkit.store.open import open_store

    seconds = {}
    with open_store(folder / "graph") as store:
        for connector, file in (
            ("alignment", "alignment.tsv"), ("purchases", "purchases.csv"), ("triples", "facts.tsv"),
        ):  # fmt: skip
            started = time.perf_counter()
            ingest_file(store, connector, folder / file)
            seconds[connector] = time.perf_counter() - started
    return {"seconds": seconds, "peak": peak_memory()}


def train_stage(folder: Path) -> dict[str, Any]:
    """Extraction, the split, and one epoch."""
    from benchmarks.lastfm import fitted
    from kgkit.evaluate.splits import split_pairs
    from kgkit.extract import extract
    from kgkit.store.open import open_store

    started = time.perf_counter()
    with open_store(folder / "graph", read_only=True) as store:
        graph = extract(store)
    extracted, extract_peak = time.perf_counter(), peak_memory()
    split = split_pairs(graph, 0)
    parted = time.perf_counter()
    _, trace = fitted("kgcn", graph, split, SETTING)
    return {
        "seconds": {
            "extract": extracted - started,
            "split": parted - extracted,
            "epoch": trace[0]["train_s"],
        },
        "extract_peak": extract_peak,
        "peak": peak_memory(),
        "examples": len(split.train),
        "rows": len(graph.interactions) + len(graph.triples),
        "size": [
            len(graph.users),
            len(graph.items),
            len(graph.interactions),
            len(graph.entities),
            len(graph.triples),
        ],
        "valid_auc": trace[0]["valid_auc"],
    }


def measure(folder: Path, size: Size, repeats: int) -> list[tuple[str, float, str, int | None]]:
    """Rows of (stage, median seconds, rate, peak memory)."""
    generate(folder, size)
    ingests, trainings = [], []
    for _ in range(repeats):
        (folder / "graph").unlink(missing_ok=True)
        ingests.append(fresh_process("benchmarks.movielens20m", "--stage", "ingest", "--folder", folder))
        trainings.append(fresh_process("benchmarks.movielens20m", "--stage", "train", "--folder", folder))
        say(json.dumps({"ingest": ingests[-1], "train": trainings[-1]}))
    got, want = trainings[0]["size"], list(vars(size).values())
    if got != want:
        raise SystemExit(
            f"extracted {got} users, items, interactions, entities, triples where {want} were generated"
        )

    def seconds(runs: list[dict[str, Any]], name: str) -> float:
        return median([run["seconds"][name] for run in runs])

    def peak(runs: list[dict[str, Any]], name: str) -> int:
        return max(int(run[name]) for run in runs)

    rows: list[tuple[str, float, str, int | None]] = []
    for name, n in (("alignment", size.items), ("purchases", size.interactions), ("triples", size.triples)):
        s = seconds(ingests, name)
        rows.append((f"ingest {name} ({n:,})", s, rate(n / s), None))
    total = median([sum(run["seconds"].values()) for run in ingests])
    n = size.interactions + size.triples
    rows.append(("ingest, all", total, rate(n / total), peak(ingests, "peak")))
    s = seconds(trainings, "extract")
    rows.append((f"extract ({n:,} relationships)", s, rate(n / s), peak(trainings, "extract_peak")))
    rows.append(("negatives and split", seconds(trainings, "split"), "", None))
    s, examples = seconds(trainings, "epoch"), trainings[0]["examples"]
    rows.append(
        (f"one epoch of KGCN ({examples:,} examples)", s, rate(examples / s), peak(trainings, "peak"))
    )
    return rows


def main() -> None:
    p = parser(__doc__, repeats=1)
    p.add_argument(
        "--scale", type=float, action="append", help="share of the full size; may be repeated (0.1, 1)"
    )
    p.add_argument("--stage", choices=("ingest", "train"), help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.stage:
        print(json.dumps({"ingest": ingest_stage, "train": train_stage}[args.stage](args.folder)))
        return
    report = Report(
        "A generated graph of MovieLens-20M's size on the embedded engine; KGCN with K 4, d 32, H 2, batch 65,536",
        ["scale", "stage", "s", "rows/s", "peak memory"],
    )
    for scale in args.scale or (0.1, 1.0):
        with TemporaryDirectory(prefix="kgkit-bench-") as folder:
            for stage, s, per_second, peak in measure(Path(folder), Size.of(scale), args.repeats):
                report.add(f"{scale:g}", stage, s, per_second, gib(peak) if peak else "")
    report.notes.append(
        "The peak of the epoch is that of one process that extracts, splits, trains and validates."
    )
    report.print(args.json)


if __name__ == "__main__":
    main()
