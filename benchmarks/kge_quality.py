"""Quality of link predictors: filtered ranking of the test facts of WN18RR, MovieLens-100K's KG and Last.FM's KG.

    python -m benchmarks.kge_quality [--data-set wn18rr] [--plugins distmult,complex] [--seeds 3] [--budget 120] [--epochs N]

Every run is `kgkit train`'s own pipeline in a process of its own: ingest into an embedded store, extract, split (WN18RR
as given, the others 8:1:1 by seed), train with SETTINGS, the best epoch by validation, one look at the test part.
--budget stops a run's training at the look at validation after which the next one would come too late, --epochs after so
many whatever the machine does meanwhile. LibKGE's figures
for WN18RR are those of its tuned models (Ruffinelli et al., ICLR 2020, and its repository), unseen entities included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import Report, fresh_process, gib, ingest_file, median, parser, say
from benchmarks.faithfulness import spread
from kgkit.config import make_config
from kgkit.errors import ConfigError, KgkitError
from kgkit.ingest import ingest
from kgkit.pipeline import TrainOptions, resume, train
from kgkit.registry import load_connector, load_model
from kgkit.run import Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

# By data set and plugin; what is not given is the plugin's default. A plugin without an entry is trained with DEFAULTS.
DEFAULTS: dict[str, Any] = {"epochs": 100, "validate_every": 2, "patience": 10, "device": "cpu"}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "wn18rr": {
        "transe": {"dim": 200, "reciprocal": True, "epochs": 40, "validate_every": 5},
        "transr": {},
        "distmult": {"dim": 500, "n3": 0.07, "epochs": 6, "validate_every": 1},
        "complex": {"dim": 200, "n3": 0.07, "epochs": 20, "validate_every": 2},
        "rotate": {
            "shared": True,
            "negatives": 250,
            "batch_size": 250,
            "temperature": 0.5,
            "reciprocal": True,
        },
        # Softmax learns in a few epochs what binary cross-entropy, the papers' loss, takes dozens for.
        "conve": {"loss": "cross-entropy", "learning_rate": 0.003, "validate_every": 1},
        "convtranse": {"loss": "cross-entropy", "filters": 32, "validate_every": 1},
        "rgcn": {
            "dim": 100,
            "batch_size": 10_000,
            "negatives": 10,
            "learning_rate": 0.01,
            "validate_every": 5,
        },
    },
    "ml-100k": {
        "transe": {},
        "transr": {},
        "distmult": {},
        "complex": {},
        "rotate": {},
        "conve": {"loss": "cross-entropy", "learning_rate": 0.003, "validate_every": 1},
        "convtranse": {"loss": "cross-entropy", "filters": 32, "validate_every": 1},
        "rgcn": {"negatives": 10, "validate_every": 5, "patience": 40},
    },
    "lastfm": {
        "transe": {},
        "transr": {},
        "distmult": {},
        "complex": {},
        "rotate": {},
        "conve": {"loss": "cross-entropy"},
        "convtranse": {"loss": "cross-entropy", "filters": 32},
        "rgcn": {"negatives": 10, "validate_every": 5, "patience": 40},
    },
}
LIBKGE = {"transe": 0.228, "distmult": 0.452, "complex": 0.475, "conve": 0.442, "rotate": 0.478}


class OutOfTime(KeyboardInterrupt):
    """Ends a run as Ctrl-C does: with a checkpoint to go on from."""


def fill(store: GraphStore, name: str, data: Path) -> None:
    """Ingests a data set as its connector does; WN18RR's parts with their labels."""
    folder = data / name
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there: give the folder of the data sets with --data")
    if name == "wn18rr":
        triples = load_connector("triples")()
        for part in ("train", "valid", "test"):
            options = {"paths": (folder / f"{part}.txt",), "split": part}
            ingest(triples, make_config(triples.Config, options), store)
    else:
        ingest_file(store, {"ml-100k": "recbole", "lastfm": "kgcn"}[name], folder)


def settings(name: str, plugin: str, seed: int, epochs: int | None = None) -> dict[str, Any]:
    more = {} if epochs is None else {"epochs": epochs}
    return {**DEFAULTS, **SETTINGS[name].get(plugin, {}), **more, "seed": seed}


def trained(
    store: GraphStore, plugin: str, options: Mapping[str, Any], runs: Path, budget: float | None, split: str
) -> Run:
    """A finished run, its training stopped when `budget` seconds would not do for another look at validation."""
    started, last = time.perf_counter(), 0.0
    told = TrainOptions(runs=runs, write_back=False, split=split)

    def observe(event: str, data: Mapping[str, Any]) -> None:
        nonlocal started, last
        if event == "stage" and data["name"] == "train":
            started = time.perf_counter()
        # A look at validation comes with a checkpoint.
        if event == "epoch" and "valid_s" in data:
            now = time.perf_counter() - started
            say(f"  {plugin}: epoch {data['epoch']}, {now:.0f} s, {json.dumps(data)}")
            if budget is not None and data["epoch"] < data["epochs"] and 2 * now - last > budget:
                raise OutOfTime
            last = now

    try:
        return train(store, plugin, options, told, observe)
    except OutOfTime:
        run = Run.open(runs, list_runs(runs)[-1]["id"])
        run.record["parameters"]["epochs"] = run.trace()[-1]["epoch"]  # so that going on means to end here
        return resume(store, run)


def work(
    path: Path, name: str, plugin: str, seed: int, budget: float | None, epochs: int | None
) -> dict[str, Any]:
    """What one process does."""
    split = "given" if name == "wn18rr" else "random"
    with TemporaryDirectory(prefix="kgkit-bench-") as runs, open_store(path) as store:
        run = trained(store, plugin, settings(name, plugin, seed, epochs), Path(runs), budget, split)
        looks = [line for line in run.trace() if "valid_s" in line]
        record = run.record
        return {
            "test": record["metrics"]["test"],
            "valid": record["metrics"]["valid"],
            "seconds": sum(line["train_s"] + line.get("valid_s", 0.0) for line in run.trace()),
            "epochs": len(run.trace()),
            "best": record["best_epoch"],
            "peak": record["peak_memory"],
            "leaks": record["leaks"]["test"],
            "curve": [(line["epoch"], next(v for k, v in line.items() if k.startswith("valid_"))) for line in looks],
        }  # fmt: skip


def main() -> None:
    p = parser(__doc__, repeats=1, flags=("--seeds", "--repeats"))
    p.add_argument(
        "--data-set", action="append", choices=tuple(SETTINGS), help="may be repeated; all without"
    )
    p.add_argument("--plugins", help="names with commas between them; all of SETTINGS without")
    p.add_argument("--budget", type=float, help="minutes of training, validation included, of each run")
    p.add_argument("--epochs", type=int, help="passes over the training facts, in the place of the settings'")
    p.add_argument("--worker", nargs=4, metavar=("STORE", "DATA_SET", "PLUGIN", "SEED"), help="prints JSON")
    args = p.parse_args()
    budget = None if args.budget is None else args.budget * 60
    if args.worker:
        store, name, plugin, seed = args.worker
        print(json.dumps(work(Path(store), name, plugin, int(seed), budget, args.epochs)))
        return
    names = args.data_set or list(SETTINGS)
    report = Report(
        f"Filtered ranking of test facts, {args.repeats} seeds, mean ± standard deviation",
        [
            "data set",
            "model",
            "MRR",
            "LibKGE's",
            "Hits@10",
            "MRR of seen",
            "s",
            "epochs (best)",
            "peak memory",
        ],
    )
    for name in names:
        with TemporaryDirectory(prefix="kgkit-bench-") as folder:
            path = Path(folder) / "graph"
            with open_store(path) as store:
                fill(store, name, args.data)
            for plugin in args.plugins.split(",") if args.plugins else SETTINGS[name]:
                quality(report, path, name, plugin, args)
    report.print(args.json)


def quality(report: Report, path: Path, name: str, plugin: str, args: Any) -> None:
    """A row of the table. A plugin that is not there, or a setting it does not take, is a row that says so."""
    try:
        cls = load_model(plugin)
        make_config(cls.Config, settings(name, plugin, 0))
        if cls.task != "link-prediction":
            raise ConfigError(f"{plugin} predicts no facts")
    except KgkitError as error:
        report.add(name, plugin, f"NOT MEASURED: {error}", *[None] * 6)
        return
    found = []
    for seed in range(args.repeats):
        more = [] if args.budget is None else ["--budget", args.budget]
        more += [] if args.epochs is None else ["--epochs", args.epochs]
        found.append(fresh_process("benchmarks.kge_quality", "--worker", path, name, plugin, seed, *more))
        test = found[-1]["test"]
        say(f"{name}, {plugin}, seed {seed}: MRR {test['mrr']:.4f}, Hits@10 {test['hits@10']:.4f}")
    tests = [run["test"] for run in found]
    report.add(
        name,
        plugin,
        spread([t["mrr"] for t in tests]),
        LIBKGE.get(plugin) if name == "wn18rr" else None,
        spread([t["hits@10"] for t in tests]),
        spread([t["mrr_seen"] for t in tests]) if all("mrr_seen" in t for t in tests) else None,
        median([run["seconds"] for run in found]),
        ", ".join(f"{run['epochs']} ({run['best']})" for run in found),
        gib(max(run["peak"] for run in found)),
    )
    curve = "; ".join(f"{epoch}: {value:.4f}" for epoch, value in found[0]["curve"])
    leak = found[0]["leaks"]
    report.notes.append(
        f"{name}, {plugin}, seed 0, validation by epoch: {curve}. {tests[0]['unseen_facts']:.0f} of "
        f"{tests[0]['ranked_facts']:.0f} test facts name an entity without training facts; {leak['any']:,} have in "
        f"training their reverse or a duplicate ({leak['share']:.1%}; symmetry alone gives {leak['symmetric']:,} away)."
    )


if __name__ == "__main__":
    main()
