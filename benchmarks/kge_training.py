"""Training of knowledge-graph embeddings on WN18RR beside PyKEEN, in the same settings: facts a second, peak memory.

    python -m benchmarks.kge_training [--epochs 10] [--batches 6] [--only transe --only distmult] [--repeats 3]

TransE (L1) and DistMult of d 100, R-GCN of d 32 with one layer and 4 bases: margin 1, Adam 1e-3, batches of 10,000
facts, one sampled negative each; the median epoch counts, the first one apart. ConvE of d 200, k-vs-all with reciprocal
relations, batches of 128 queries: seconds a batch, of a few batches after the first. Each runs in a process of its own,
whose peak memory is its own; validation is not timed.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.common import Report, fresh_process, gib, median, parser, peak_memory, rate, say, timed
from benchmarks.link_ranking import columns, wn18rr
from benchmarks.pykeen_env import pykeen_python, run_peer
from kgkit.config import make_config
from kgkit.errors import KgkitError
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import IdMap, Interactions, TrainingGraph
from kgkit.registry import load_model
from kgkit.run import Run
from kgkit.train.kge_model import KGEModel

_SAMPLED = {
    "training": "sampled", "loss": "margin", "margin": 1.0, "optimiser": "adam", "learning_rate": 1e-3,
    "batch_size": 10_000, "negatives": 1, "shared": False, "reciprocal": False,
}  # fmt: skip
# PyKEEN draws negatives without looking whether they are facts, and so does kgkit here.
_SAMPLED |= {"filtered": False, "device": "cpu", "validate_on": 10}
SETTINGS: dict[str, dict[str, Any]] = {
    "transe": {**_SAMPLED, "dim": 100, "norm": "l1", "unit": True, "spread": "length"},
    "distmult": {**_SAMPLED, "dim": 100, "n3": 0.0},
    "rgcn": {**_SAMPLED, "dim": 32, "layers": 1, "decomposition": "basis", "bases": 4},
    "conve": {"dim": 200, "training": "k-vs-all", "batch_size": 128, "reciprocal": True, "device": "cpu"},
}
BATCHED = ("conve",)


def split_of(folder: Path) -> TripleSplit:
    facts = wn18rr(folder)
    every = np.concatenate([*facts.values()])
    train, valid, test = (columns(facts[part]) for part in ("train", "valid", "test"))
    return TripleSplit(train, valid, test, int(every[:, [0, 2]].max()) + 1, int(every[:, 1].max()) + 1)


def graph_of(split: TripleSplit) -> TrainingGraph:
    """The training facts as a graph whose ids are numbers."""

    def ids(n: int) -> IdMap:
        return IdMap(pa.array([f"{i:08d}" for i in range(n)], pa.string()))

    none, empty = ids(0), np.zeros(0, dtype=np.int64)
    bought = Interactions(empty, empty, empty, empty, empty.astype(np.float64))
    return TrainingGraph(none, none, ids(split.entities), ids(split.relations), empty, bought, split.train)


def made(plugin: str, options: dict[str, Any]) -> KGEModel:
    """The plugin with these options. Raises PluginError, ConfigError."""
    cls = load_model(plugin)
    model = cls(make_config(cls.Config, options))
    assert isinstance(model, KGEModel)
    return model


def work(plugin: str, data: Path, epochs: int, batches: int) -> dict[str, Any]:
    """What the process of kgkit does: the same as pykeen_peer.py."""
    split = split_of(data / "wn18rr")
    graph, before = graph_of(split), peak_memory()
    if plugin in BATCHED:
        seconds = steps(made(plugin, SETTINGS[plugin]), graph, split, batches)
    else:
        options = {**SETTINGS[plugin], "epochs": epochs, "validate_every": epochs}
        with tempfile.TemporaryDirectory(prefix="kgkit-bench-") as folder:
            run = Run.create(Path(folder), plugin, options)
            made(plugin, options).fit(graph, split, run)
            seconds = [line["train_s"] for line in run.trace()]
    return {"seconds": seconds, "before": before, "peak": peak_memory()}


def steps(model: KGEModel, graph: TrainingGraph, split: TripleSplit, batches: int) -> list[float]:
    """Seconds of each of some steps of the training loop, a whole epoch being too long."""
    model.prepare(graph, split)
    for tensor in model.trained().values():
        tensor.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    optimiser, phase = model.make_optimiser(), model.phases()[0]
    model.epoch_begins(generator)
    loss = phase.loss
    assert loss is not None and isinstance(optimiser, torch.optim.Optimizer)
    order = torch.randperm(phase.examples, generator=generator).split(model.config.batch_size)

    def step(rows: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(model.parameters, rows).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return [timed(step, rows)[0] for rows in order[:batches]]


def main() -> None:
    p = parser(__doc__, repeats=3)
    p.add_argument("--epochs", type=int, default=10, help="epochs of each repeat, the first one not counted")
    p.add_argument("--batches", type=int, default=6, help="batches of ConvE likewise (PyKEEN: 7 s and 9 GiB)")
    p.add_argument(
        "--only", action="append", choices=tuple(SETTINGS), help="only this model; may be repeated"
    )
    p.add_argument("--worker", choices=tuple(SETTINGS), help="train this model and print JSON")
    args = p.parse_args()
    args.data = args.data.resolve()
    if args.worker:
        print(json.dumps(work(args.worker, args.data, args.epochs, args.batches)))
        return
    if min(args.epochs, args.batches) < 2:
        raise SystemExit("--epochs and --batches must be 2 or more: the first is not counted")
    pykeen_python()
    facts = wn18rr(args.data / "wn18rr")
    n = len(facts["train"])
    report = Report(
        f"Training on WN18RR, {n:,} facts",
        ["model", "what", "seconds", "of", "facts/s", "times PyKEEN", "peak memory", "of PyKEEN's"],
    )
    with tempfile.TemporaryDirectory(prefix="kgkit-bench-") as folder:
        tables = Path(folder) / "facts.npz"
        np.savez(tables, **facts)
        for plugin in args.only or SETTINGS:
            compare(report, plugin, tables, n, args)
    report.print(args.json)


def compare(report: Report, plugin: str, tables: Path, n: int, args: Any) -> None:
    """Rows of a model. A plugin that cannot be made is a row that says so, never a silence."""
    batched = plugin in BATCHED
    try:
        made(plugin, SETTINGS[plugin])
    except KgkitError as error:
        report.add(plugin, f"kgkit: NOT MEASURED: {error}", *[None] * 6)
        return
    batch = SETTINGS[plugin]["batch_size"]
    runs: dict[str, list[dict[str, Any]]] = {"kgkit": [], "PyKEEN": []}
    for repeat in range(args.repeats):
        many = ("--batches", args.batches) if batched else ("--epochs", args.epochs)
        runs["PyKEEN"].append(run_peer("--tables", tables, "--model", plugin, "--batch", batch, *many))
        runs["kgkit"].append(
            fresh_process("benchmarks.kge_training", "--worker", plugin, "--data", args.data, *many)
        )
        said = ", ".join(f"{name} {median(each[-1]['seconds'][1:]):.3g} s" for name, each in runs.items())
        say(f"{plugin} {repeat + 1}/{args.repeats}: {said} {'a batch' if batched else 'an epoch'}")
    seconds = {name: median([median(r["seconds"][1:]) for r in each]) for name, each in runs.items()}
    memory = {name: median([r["peak"] for r in each]) for name, each in runs.items()}
    for name in runs:
        report.add(
            plugin,
            name,
            seconds[name],
            f"a batch of {batch}" if batched else "an epoch",
            None if batched else rate(n / seconds[name]),
            f"{seconds['PyKEEN'] / seconds[name]:.1f}",
            gib(memory[name]),
            f"{memory[name] / memory['PyKEEN']:.2f}",
        )
    report.notes.append(
        f"{plugin}: before training, kgkit holds {gib(median([r['before'] for r in runs['kgkit']]))} and PyKEEN "
        f"{gib(median([r['before'] for r in runs['PyKEEN']]))} ({os.cpu_count()} processors seen)."
    )


if __name__ == "__main__":
    main()
