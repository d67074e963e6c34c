"""Memory and time of a training step at 40 thousand, 400 thousand and 4 million entities: cost follows the batch.

    python -m benchmarks.kge_memory [--plugin transe] [--entities N ...] [--batches B ...] [--dim 50]

A million seeded facts whatever the number of entities, each graph in a process of its own (Linux). Tables and the
optimiser's moments have a row an entity and are written to before measuring, so that what a step needs beside them
stands alone: the most memory held during steps above what was held before.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Report, fresh_process, gib, median, parser, say, timed
from benchmarks.graphs import skewed
from benchmarks.kge_training import graph_of, made
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.train.row_optimiser import RowOptimiser

ENTITIES, BATCHES = (40_000, 400_000, 4_000_000), (1_000, 10_000)
RELATIONS = 20
PLUGINS = ("transe", "distmult")


def split_of(entities: int, facts: int) -> TripleSplit:
    """Distinct facts among these entities; the last two are validation and test."""
    rng = np.random.default_rng(entities)
    head, tail = rng.integers(0, entities, facts), skewed(rng, facts, entities)
    key = np.unique((head * RELATIONS + skewed(rng, facts, RELATIONS)) * entities + tail)
    rest, tail = np.divmod(key, entities)
    head, relation = np.divmod(rest, RELATIONS)

    def part(low: int, high: int) -> Triples:
        return Triples(*(np.ascontiguousarray(c[low:high]) for c in (head, relation, tail)))

    n = len(key)
    return TripleSplit(part(0, n - 2), part(n - 2, n - 1), part(n - 1, n), entities, RELATIONS)


def resident(what: str) -> int:
    """VmRSS (bytes held) or VmHWM (the most since `forget_peak`) of this process."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"/proc/self/status does not tell {what}: this benchmark needs Linux")
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Gives what the allocator keeps for later back to the system, and starts VmHWM anew."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def work(plugin: str, entities: int, facts: int, dim: int, batches: list[int], steps: int) -> dict[str, Any]:
    """What one process does: for each batch size, seconds of each step and the memory of all beyond the tables."""
    split = split_of(entities, facts)
    graph = graph_of(split)
    found: list[dict[str, Any]] = []
    for batch in batches:
        options = {"dim": dim, "loss": "margin", "negatives": 1, "batch_size": batch, "device": "cpu"}
        model = made(plugin, options)
        model.prepare(graph, split)
        optimiser = model.make_optimiser()
        assert isinstance(optimiser, RowOptimiser)
        for moment in optimiser._state.values():
            moment.fill_(0.0)  # pages that nobody wrote to are not held yet
        state = sum(t.nbytes for t in [*model.parameters.values(), *optimiser._state.values()])
        phase = model.phases()[0]
        run = phase.steps
        assert run is not None
        generator = torch.Generator().manual_seed(0)
        model.epoch_begins(generator)
        order = torch.randint(phase.examples, (steps, batch), generator=generator)
        run(optimiser, order[0, :8])  # so that code is loaded, and hardly any memory kept for the next step
        gc.collect()
        forget_peak()
        before = resident("VmRSS")
        seconds = [timed(run, optimiser, rows)[0] for rows in order]
        step = resident("VmHWM") - before
        found.append({"batch": batch, "seconds": median(seconds), "state": state, "step": step})
        del model, optimiser, phase, run
    return {"runs": found}


def main() -> None:
    p = parser(__doc__, repeats=1)
    p.add_argument("--plugin", choices=PLUGINS, default="transe")
    p.add_argument("--entities", type=int, nargs="+", default=list(ENTITIES))
    p.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    p.add_argument("--facts", type=int, default=1_000_000)
    p.add_argument("--dim", type=int, default=50)
    p.add_argument("--steps", type=int, default=50, help="steps measured")
    p.add_argument("--worker", action="store_true", help="measure one number of entities and print JSON")
    args = p.parse_args()
    if args.worker:
        print(json.dumps(work(args.plugin, args.entities[0], args.facts, args.dim, args.batches, args.steps)))
        return
    report = Report(
        f"A training step of {args.plugin}, d {args.dim}, {args.facts:,} facts, one negative",
        ["entities", "batch", "tables and moments", "a step's memory, MiB", "ms a step"],
    )
    for entities in args.entities:
        for batch in args.batches:
            runs = [
                fresh_process(
                    "benchmarks.kge_memory", "--worker", "--plugin", args.plugin, "--entities", entities,
                    "--facts", args.facts, "--dim", args.dim, "--batches", batch, "--steps", args.steps,
                )["runs"][0]
                for _ in range(args.repeats)
            ]  # fmt: skip
            step = median([r["step"] for r in runs]) / 2**20
            ms = median([r["seconds"] for r in runs]) * 1000
            say(f"{entities:,} entities, batch {batch:,}: {step:.1f} MiB, {ms:.2f} ms")
            report.add(f"{entities:,}", f"{batch:,}", gib(runs[0]["state"]), step, ms)
    report.print(args.json)


if __name__ == "__main__":
    main()
