"""Completion of all missing pairs for ten relations of MovieLens-100K's graph, written into a store. Training not counted.

python -m benchmarks.completion [--store neo4j-managed] [--epochs 20] [--relations 10] [--untyped]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    Report,
    empty_store,
    gib,
    ingest_file,
    median,
    parser,
    peak_memory,
    rate,
    say,
    server,
)
from kgkit import pipeline
from kgkit.complete import CompletionOptions
from kgkit.completion_run import complete_run
from kgkit.store.port import GraphStore

# What is asked of: entities of the relation's kind that lack a fact of it, all of that kind, and everybody.
ASKED: dict[str, dict[str, Any]] = {
    "heads that lack one, by kind": {},
    "all heads of the kind": {"all_heads": True},
    "both sides, all of the kind": {"all_heads": True, "side": "both"},
}
UNTYPED: dict[str, dict[str, Any]] = {"all entities without one": {"types": False}}


def largest(store: GraphStore, n: int) -> tuple[str, ...]:
    """The n relations with most facts."""
    counts = store.stats()["relations"]
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:n])


def main() -> None:
    p = parser(__doc__, repeats=3, store=True)
    p.add_argument("--plugin", default="distmult")
    p.add_argument(
        "--epochs", type=int, default=20, help="of training; how good the model is changes no time"
    )
    p.add_argument("--dim", type=int, default=100)
    p.add_argument(
        "--untyped", action="store_true", help="also ask all entities, whatever their kind (minutes)"
    )
    p.add_argument("--relations", type=int, default=10, help="how many, the largest")
    p.add_argument("--top", type=int, default=5)
    args = p.parse_args()
    report = Report(
        f"Completion, {args.relations} relations of ML-100K's graph, {args.plugin}, d {args.dim}, "
        f"top {args.top}, {args.store}",
        [
            "asked",
            "questions",
            "pairs",
            "extract, restore",
            "score, calibrate",
            "write",
            "written",
            "pairs/s",
        ],
    )
    with server(args.store), empty_store(args.store) as store, tempfile.TemporaryDirectory() as runs:
        ingest_file(store, "recbole", args.data / "ml-100k")
        settings = {"dim": args.dim, "epochs": args.epochs, "validate_every": args.epochs, "validate_on": 200}
        run = pipeline.train(store, args.plugin, settings, pipeline.TrainOptions(runs=Path(runs)))
        relations = largest(store, args.relations)
        for asked, how in {**ASKED, **(UNTYPED if args.untyped else {})}.items():
            seconds: dict[str, list[float]] = {}
            for _ in range(args.repeats):
                options = CompletionOptions(relations=relations, top=args.top, **how)
                found, _ = complete_run(store, run, options)
                for stage, s in found.figures["seconds"].items():
                    seconds.setdefault(stage, []).append(s)
            counts = found.figures["relations"].values()
            pairs = sum(
                c.get(f"{side}_questions", 0) * c.get(f"{side}_candidates", 0)
                for c in counts
                for side in ("head", "tail")
            )
            s = {stage: median(each) for stage, each in seconds.items()}
            say(f"{asked}: {np.round(sum(s.values()), 2)} s")
            report.add(
                asked, f"{found.figures['questions']:,}", f"{pairs:,}",
                *(f"{s[stage]:.2f} s" for stage in ("restore", "complete", "write_back")),
                f"{len(found.found):,}", rate(pairs / s["complete"]),
            )  # fmt: skip
    report.notes.append(
        f"Relations: {', '.join(relations)}. Pairs are (head, tail) looked at; calibration scores validation and test "
        f"facts' questions on top of them. Peak memory {gib(peak_memory())}."
    )
    report.print(args.json)


if __name__ == "__main__":
    main()
