"""KGCN and KGNN-LS on Last.FM over several seeds, beside their authors' code, popularity, ItemKNN and EASE.

    python -m benchmarks.faithfulness [--seeds 5] [--only "KGNN-LS"]

Every run is `kgkit train`'s own pipeline: ingest, extract, split 6:2:2 by seed, ten epochs, the best one by validation
AUC, one look at the test part. AUC and F1 are means over batches of 128 as the authors count them; authors_recall also
leaves out the sampled negatives of a user's training record. "Tuned" picks its setting for each seed by validation
Recall@20 from TUNING below, as ItemKNN and EASE pick theirs; the test part decides nothing.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import Report, parser, say
from benchmarks.lastfm import lastfm_store
from kgkit.pipeline import TrainOptions, train
from kgkit.store.port import GraphStore

METRICS = (
    "auc_batch_mean",
    "f1_batch_mean",
    "recall@20",
    "recall@100",
    "authors_recall@20",
    "authors_recall@100",
)
BUDGET = {"epochs": 10}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "ItemKNN, tuned": ("itemknn", {}),
    "EASE, tuned": ("ease", {}),
    **{
        f"KGCN {aggregator}, {arithmetic} arithmetic": (
            "kgcn",
            {**BUDGET, "aggregator": aggregator, "arithmetic": arithmetic},
        )
        for arithmetic in ("authors", "paper")
        for aggregator in ("sum", "concat", "neighbor", "avg")
    },
    **{
        f"KGNN-LS, {arithmetic} arithmetic": ("kgnn_ls", {**BUDGET, "arithmetic": arithmetic})
        for arithmetic in ("authors", "paper")
    },
}
TUNED = {"KGCN, tuned": "kgcn", "KGNN-LS, tuned": "kgnn_ls"}
TUNING: dict[str, tuple[Any, ...]] = {"dim": (64, 128), "l2": (1e-5, 5e-5)}
TUNED_FIXED = {"learning_rate": 2e-3, "batch_size": 1024, "select": "recall@20", "epochs": 10}
# The authors' TensorFlow code, three seeds: mean and standard deviation. Its KGNN-LS equals its KGCN sum.
THEIRS: dict[str, dict[str, tuple[float, float]]] = {
    "KGCN sum, authors arithmetic": {
        "auc_batch_mean": (0.8039, 0.0048), "f1_batch_mean": (0.7166, 0.0037),
        "authors_recall@20": (0.1858, 0.010), "authors_recall@100": (0.3868, 0.008),
    },
    "KGCN concat, authors arithmetic": {
        "auc_batch_mean": (0.8051, 0.0043), "f1_batch_mean": (0.7169, 0.0041),
        "authors_recall@20": (0.1852, 0.009), "authors_recall@100": (0.3858, 0.007),
    },
    "KGCN neighbor, authors arithmetic": {
        "auc_batch_mean": (0.5473, 0.032), "f1_batch_mean": (0.5396, 0.023),
    },
}  # fmt: skip
THEIRS["KGNN-LS, authors arithmetic"] = THEIRS["KGCN sum, authors arithmetic"]


def run_once(
    store: GraphStore, plugin: str, options: Mapping[str, Any], runs: Path
) -> dict[str, dict[str, float]]:
    """The metrics by part of one run."""
    run = train(store, plugin, options, TrainOptions(runs=runs, write_back=False))
    metrics: dict[str, dict[str, float]] = run.record["metrics"]
    return metrics


def run_tuned(
    store: GraphStore, plugin: str, seed: int, runs: Path
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The metrics of the setting that is best on validation, and that setting."""
    tried = []
    for values in itertools.product(*TUNING.values()):
        setting = dict(zip(TUNING, values, strict=True))
        found = run_once(store, plugin, {**TUNED_FIXED, **setting, "seed": seed}, runs)
        say(f"seed {seed}, {plugin}, {setting}: valid R@20 {found['valid']['recall@20']:.4f}")
        tried.append((found, setting))
    return max(tried, key=lambda each: each[0]["valid"]["recall@20"])


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} ± {deviation:.4f}"


def main() -> None:
    p = parser(__doc__, repeats=5, flags=("--seeds", "--repeats"))
    p.add_argument("--only", action="append", help="only rows whose name has this text; may be repeated")
    args = p.parse_args()
    names = [n for n in (*ROWS, *TUNED) if not args.only or any(text in n for text in args.only)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    chosen: dict[str, list[dict[str, Any]]] = {}
    with lastfm_store(args.data) as store, TemporaryDirectory(prefix="kgkit-bench-") as runs:
        for seed in range(args.repeats):
            for name in names:
                if name in TUNED:
                    metrics, setting = run_tuned(store, TUNED[name], seed, Path(runs))
                    chosen.setdefault(name, []).append(setting)
                else:
                    plugin, options = ROWS[name]
                    metrics = run_once(store, plugin, {**options, "seed": seed}, Path(runs))
                found[name].append(metrics["test"])
                say(
                    f"seed {seed}, {name}: AUC {metrics['test']['auc']:.4f}, R@20 {metrics['test']['recall@20']:.4f}"
                )
    report = Report(
        f"Last.FM, test part, {args.repeats} seeds, mean ± standard deviation", ["model", *METRICS]
    )
    for name in names:
        values = {metric: [each[metric] for each in found[name]] for metric in METRICS}
        report.add(name, *(spread(values[metric]) for metric in METRICS))
        if name in THEIRS:
            theirs = THEIRS[name]
            cells = [f"{theirs[m][0]:.4f} ± {theirs[m][1]:.4f}" if m in theirs else "" for m in METRICS]
            report.add("... the authors' code", *cells)
            off = [m for m, (mean, sd) in theirs.items() if abs(statistics.fmean(values[m]) - mean) > sd]
            verdict = f"{', '.join(off)} NOT" if off else "every metric"
            report.notes.append(f"{name}: {verdict} within one standard deviation of the authors' code.")
    for name, settings in chosen.items():
        said = "; ".join(", ".join(f"{k} {v}" for k, v in setting.items()) for setting in settings)
        report.notes.append(f"{name}, chosen by seed: {said}.")
    report.print(args.json)


if __name__ == "__main__":
    main()
