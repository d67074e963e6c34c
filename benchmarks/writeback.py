"""Answers back into a graph database: embeddings and a million recommendations, new, replaced and erased.

python -m benchmarks.writeback [--store neo4j-managed]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import graphs
from benchmarks.common import Report, empty_store, median, parser, rate, say, server, timed
from kgkit.store.port import Answers, RunRecord, Vectors

CREATED = "2025-01-01T00:00:00+00:00"


def recommendations(users: pa.Array, items: pa.Array, top: int, seed: int) -> pa.Table:
    """`top` distinct items for every user."""
    rng = np.random.default_rng(seed)
    n = len(users)
    offset = rng.integers(0, len(items), n)[:, None] + np.arange(top) * (len(items) // top)
    return pa.table(
        {
            "head": users.take(pa.array(np.repeat(np.arange(n), top))),
            "tail": items.take(pa.array((offset % len(items)).ravel())),
            "score": np.sort(rng.random((n, top)))[:, ::-1].ravel(),
            "rank": np.tile(np.arange(1, top + 1), n),
        }
    )


def main() -> None:
    p = parser(__doc__, repeats=3, store=True)
    p.add_argument("--users", type=int, default=100_000)
    p.add_argument("--items", type=int, default=20_000)
    p.add_argument("--entities", type=int, default=100_000)
    p.add_argument("--top", type=int, default=10)
    p.add_argument("--dim", type=int, default=64)
    p.add_argument(
        "--memory", default="8g", help="Java heap of neo4j-managed; a million over a million needs 6g"
    )
    args = p.parse_args()
    users, nodes = graphs.ids("u", args.users), graphs.entities(args.entities, items=args.items)
    keys = nodes["id"].combine_chunks()
    rng = np.random.default_rng(0)
    vectors = [
        Vectors("Entity", keys, rng.standard_normal((args.entities, args.dim), dtype=np.float32))
        for _ in range(2)
    ]
    answers = [
        Answers("RECOMMENDED", recommendations(users, keys.slice(0, args.items), args.top, seed))
        for seed in range(2)
    ]
    rows = args.users * args.top
    seconds: dict[str, list[float]] = {}

    def note(name: str, count: int, work: Callable[..., dict[str, int] | int], *given: Any) -> None:
        s, written = timed(work, *given)
        written = sum(written.values()) if isinstance(written, dict) else written
        if written < count:
            raise SystemExit(f"{name}: {written:,} rows written of {count:,}")
        seconds.setdefault(name, []).append(s / count)
        say(f"{name}: {rate(count / s)}")

    embeddings = f"{args.entities:,} embeddings of {args.dim} floats"
    recommended = f"{rows:,} recommendations"
    with server(args.store, args.memory):
        for _ in range(args.repeats):
            with empty_store(args.store) as store:
                store.upsert_nodes("User", pa.table({"id": users}))
                store.upsert_nodes("Entity", nodes)
                for i, how in enumerate(("first", "replaced")):
                    run = RunRecord(f"vectors-{i}", "vectors", CREATED)
                    note(f"{embeddings}, {how}", args.entities, store.replace_answers, run, [vectors[i]], [])
                for i, how in enumerate(("first", "replaced")):
                    run = RunRecord(f"model-{i}", "model", CREATED)
                    note(f"{recommended}, {how}", rows, store.replace_answers, run, [], [answers[i]])
                note(f"{recommended}, erased", rows, store.erase_run, "model-1")
    report = Report(f"Write-back, {args.store}", ["what", "rows/s"])
    for name, each in seconds.items():
        report.add(name, rate(1 / median(each)))
    report.print(args.json)


if __name__ == "__main__":
    main()
