"""Filtered ranking of WN18RR's test facts on both sides beside PyKEEN's, on identical embeddings.

    python -m benchmarks.link_ranking [--triples 300] [--memory BYTES]

DistMult and TransE (L1) of d 100, trained a little by a plain loop and then rounded to multiples of 1/32: single
precision adds such numbers without error, so that whatever order the sums are made in, both have the same scores and
the same ties. Ranks are compared one by one, and metrics must agree to 1e-6, or the benchmark stops. Each runs in
processes of its own, which import, load and then rank; only ranking is timed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Report, fresh_process, gib, median, parser, peak_memory, rate, say, timed
from benchmarks.pykeen_env import pykeen_python, run_peer
from kgkit.arrays import Ints
from kgkit.evaluate.link_prediction import MEMORY, link_metrics, rank_facts
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.model import LinkPredictor
from kgkit.nn.similarity import Candidates, crossed

DIM, GRID = 100, 32
MODELS = ("distmult", "transe")


class Tables(LinkPredictor):
    """DistMult or TransE (L1) by their tables."""

    def __init__(self, model: str, entity: torch.Tensor, relation: torch.Tensor) -> None:
        super().__init__(None)
        self.similarity = "dot" if model == "distmult" else "l1"
        self.entity, self.relation = entity, relation

    def tail_queries(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        h, r = self.entity[heads], self.relation[relations]
        return h * r if self.similarity == "dot" else h + r

    def head_queries(self, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        r, t = self.relation[relations], self.entity[tails]
        return r * t if self.similarity == "dot" else t - r

    def candidates(self, relation: int | None = None) -> Candidates:
        return Candidates(self.entity)

    def fit(self, graph: Any, split: Any, run: Any) -> None:
        raise NotImplementedError

    restore = fit


def wn18rr(folder: Path) -> dict[str, Ints]:
    """train, valid and test facts, int64 [n, 3], by the ids of entities.dict and relations.dict."""
    ids = {}
    for name in ("entities", "relations"):
        lines = (folder / f"{name}.dict").read_text().splitlines()
        ids[name] = {key: int(id) for id, key in (line.split("\t") for line in lines)}
    return {
        part: np.array(
            [
                (ids["entities"][h], ids["relations"][r], ids["entities"][t])
                for h, r, t in (
                    line.split("\t") for line in (folder / f"{part}.txt").read_text().splitlines()
                )
            ],
            dtype=np.int64,
        )
        for part in ("train", "valid", "test")
    }


def trained(model: str, train: Ints, entities: int, relations: int, epochs: int, seed: int) -> Tables:
    """Tables after some epochs of telling the true tail from the others of its batch (cross-entropy), on the grid."""
    torch.manual_seed(seed)
    tables = Tables(model, torch.randn(entities, DIM) / 2, torch.randn(relations, DIM) / 2)
    weights = [tables.entity.requires_grad_(), tables.relation.requires_grad_()]
    adam = torch.optim.Adam(weights, lr=0.05)
    facts = torch.from_numpy(train)
    for _ in range(epochs):
        for h, r, t in (batch.unbind(1) for batch in facts[torch.randperm(len(facts))].split(512)):
            scores = crossed(tables.similarity, tables.tail_queries(h, r), Candidates(tables.entity[t]))
            adam.zero_grad()
            torch.nn.functional.cross_entropy(scores, torch.arange(len(t))).backward()
            adam.step()
    on_grid = [(w.detach() * GRID).round().clamp(-4 * GRID, 4 * GRID) / GRID for w in weights]
    return Tables(model, *on_grid)


def columns(facts: Ints) -> Triples:
    return Triples(*(np.ascontiguousarray(facts[:, c]) for c in range(3)))


def rank(tables: Path, model: str, triples: int, memory: int) -> dict[str, Any]:
    """What the process of kgkit does: the same as pykeen_peer.py."""
    with np.load(tables) as data:
        read = {name: data[name] for name in data.files}
    parts = [columns(read[part]) for part in ("train", "valid", "test")]
    split = TripleSplit(*parts, entities=len(read["entity"]), relations=len(read["relation"]))
    facts = columns(read["test"][:triples])
    predictor = Tables(model, torch.from_numpy(read["entity"]), torch.from_numpy(read["relation"]))
    rank_facts(predictor, columns(read["test"][:1]), [])  # compiles, where nobody has before
    before = peak_memory()
    seconds, ranks = timed(rank_facts, predictor, facts, parts, memory=memory)
    metrics = link_metrics(ranks, facts, split)
    peak = peak_memory()
    sides = {"head": ranks.head.ranks().tolist(), "tail": ranks.tail.ranks().tolist()}
    return {"seconds": seconds, "metrics": metrics, "ranks": sides, "before": before, "peak": peak}


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Says how far both agree. Raises SystemExit beyond 1e-6 of a metric, or of 1 where that is larger."""
    mine, peer = ours["metrics"], theirs["metrics"]
    sides = ("head", "tail")
    ranks = [np.concatenate([run["ranks"][side] for side in sides]) for run in (ours, theirs)]
    apart = {name: abs(mine[name] - value) / max(1.0, abs(value)) for name, value in peer.items()}
    shown = ", ".join(f"{name} {mine[name]:.4f}" for name in ("mrr", "mr", "hits@1", "hits@10"))
    note = (
        f"{shown}; {int((ranks[0] != ranks[1]).sum())} of {len(ranks[0]):,} ranks differ from PyKEEN's (by "
        f"{float(np.abs(ranks[0] - ranks[1]).max())} at most), {len(peer)} metrics by {max(apart.values()):.1e} (of mr "
        f"relatively: PyKEEN averages in single precision)."
    )
    if max(apart.values()) > 1e-6:
        pairs = {name: (mine[name], value) for name, value in peer.items()}
        raise SystemExit(f"{note}\n{json.dumps(pairs, indent=2)}")
    return note


def main() -> None:
    p = parser(__doc__, repeats=3)
    p.add_argument("--triples", type=int, default=3134, help="test facts to rank, from the first (all: 3134)")
    p.add_argument("--epochs", type=int, default=1, help="epochs of training the tables")
    p.add_argument("--memory", type=int, default=MEMORY, help="bytes that kgkit may hold at once")
    p.add_argument("--peer-batch", type=int, default=None, help="facts a batch (default: PyKEEN's own)")
    p.add_argument("--worker", nargs=2, metavar=("FILE", "MODEL"), help="rank these tables and print JSON")
    args = p.parse_args()
    if args.worker:
        print(json.dumps(rank(Path(args.worker[0]), args.worker[1], args.triples, args.memory)))
        return
    pykeen_python()
    facts = wn18rr(args.data / "wn18rr")
    entities = 1 + max(int(part[:, [0, 2]].max()) for part in facts.values())
    relations = 1 + max(int(part[:, 1].max()) for part in facts.values())
    n = min(args.triples, len(facts["test"]))
    report = Report(
        f"Filtered ranking of {n:,} test facts of WN18RR on both sides, {entities:,} entities, d {DIM}",
        ["model", "what", "facts/s", "times PyKEEN", "peak memory", "before ranking"],
    )
    with tempfile.TemporaryDirectory(prefix="kgkit-bench-") as folder:
        for model in MODELS:
            tables = Path(folder) / f"{model}.npz"
            s, made = timed(trained, model, facts["train"], entities, relations, args.epochs, 0)
            np.savez(tables, entity=made.entity.numpy(), relation=made.relation.numpy(), **facts)
            say(f"{model}: tables made in {s:.0f} s")
            asked = ["--triples", n]
            ours, theirs = [], []
            for repeat in range(args.repeats):
                batch = ["--batch", args.peer_batch] if args.peer_batch else []
                theirs.append(run_peer("--tables", tables, "--model", model, *asked, *batch))
                ours.append(
                    fresh_process(
                        "benchmarks.link_ranking", "--worker", tables, model, *asked, "--memory", args.memory
                    )
                )
                said = [rate(n / run[-1]["seconds"]) for run in (theirs, ours)]
                say(f"{model} {repeat + 1}/{args.repeats}: PyKEEN {said[0]}, kgkit {said[1]}")
            rates = {
                name: median([n / r["seconds"] for r in runs])
                for name, runs in (("kgkit", ours), ("PyKEEN", theirs))
            }
            for name, runs in (("kgkit", ours), ("PyKEEN", theirs)):
                memory = [gib(median([r[what] for r in runs])) for what in ("peak", "before")]
                report.add(model, name, rate(rates[name]), f"{rates[name] / rates['PyKEEN']:.1f}", *memory)
            report.notes.append(f"{model}: {compared(ours[0], theirs[0])}")
    report.print(args.json)


if __name__ == "__main__":
    main()
