"""Full ranking of all users on Last.FM beside RecBole's, and the metrics beside a naive reference's.

    python -m benchmarks.ranking

The naive reference ranks user by user in plain Python. It stops the benchmark unless every metric equals kgkit's to
1e-6, on the model's fast scores and on scores made pair by pair in PyTorch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.common import Report, median, parser, rate, say, timed
from benchmarks.lastfm import fitted, lastfm_graph
from benchmarks.recbole_env import recbole_python, run_peer
from benchmarks.training import SETTING
from kgkit.evaluate.ranking import KS, rank_metrics
from kgkit.evaluate.splits import LabelledPairs, Split, split_pairs
from kgkit.model import Recommender
from kgkit.train.torch_model import TorchRecommender

Scores = Callable[[Recommender, torch.Tensor], torch.Tensor]


def by_user(pairs: LabelledPairs) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for user, item in zip(pairs.user.tolist(), pairs.item.tolist(), strict=True):
        found[user].add(item)
    return found


def naive_metrics(model: Recommender, split: Split, scores_of: Scores, ks: Sequence[int]) -> dict[str, float]:
    """Every definition of `rank_metrics` once more, one user and one group of equal scores at a time."""
    bought, wanted = by_user(split.train.positives()), by_user(split.test.positives())
    totals: dict[str, list[float]] = defaultdict(list)
    for user, want in wanted.items():
        scores = scores_of(model, torch.tensor([user]))[0].tolist()
        size = Counter(scores[i] for i in range(split.items) if i not in bought[user])
        right = Counter(scores[i] for i in want)
        found = dict.fromkeys(
            (f"{name}@{k}" for k in ks for name in ("recall", "precision", "ndcg", "miss")), 0.0
        )
        better, first = (
            0,
            0.0,
        )  # candidates passed so far; the expected 1 / rank of the best of what is wanted
        for score in sorted(size, reverse=True):
            m, t = size[score], right[score]
            if t and not first:
                ways = math.comb(m, t)
                first = sum(math.comb(m - 1 - x, t - 1) / ways / (better + x + 1) for x in range(m - t + 1))
            for k in ks:
                inside = min(max(k - better, 0), m)
                ideal = sum(1 / math.log2(i + 2) for i in range(min(len(want), k)))
                found[f"recall@{k}"] += t * inside / m / len(want)
                found[f"precision@{k}"] += t * inside / m / k
                found[f"ndcg@{k}"] += (
                    t / m * sum(1 / math.log2(better + i + 2) for i in range(inside)) / ideal
                )
                found[f"miss@{k}"] += math.log(math.comb(m - t, inside) / math.comb(m, inside) or 1e-300)
            better += m
            if better >= max(ks) and first:
                break
        for name, value in [*found.items(), ("mrr", first)]:
            if name.startswith("miss"):
                name, value = name.replace("miss", "hit"), 1 - math.exp(value)
            totals[name].append(value)
    return {name: math.fsum(values) / len(values) for name, values in totals.items()}


def main() -> None:
    p = parser(__doc__, repeats=5)
    p.add_argument("--rankings", type=int, default=3, help="full rankings of RecBole in each of its settings")
    args = p.parse_args()
    recbole_python()
    graph = lastfm_graph(args.data)
    split = split_pairs(graph, 0)
    model, _ = fitted("kgcn", graph, split, {**SETTING, "epochs": 10, "seed": 0})
    users = len(np.unique(split.test.positives().user))

    rates: dict[str, list[float]] = {}
    ours = {
        "kgkit, recall and ndcg at 10 and 20 as RecBole": {"ks": (10, 20), "authors": False},
        "kgkit, all it reports (7 cutoffs, 6 metrics, authors' protocol)": {},
    }
    for repeat in range(args.repeats):
        for batch in (4096, 1 << 18):
            peer = run_peer(args.data, "--epochs", 1, "--rankings", args.rankings, "--eval-batch", batch)
            rates.setdefault(f"RecBole, eval_batch_size {batch}", []).append(median(peer["users_per_s"]))
        for name, options in ours.items():
            s, _ = timed(rank_metrics, model, split, **options)
            rates.setdefault(name, []).append(users / s)
        said = ", ".join(f"{name} {rate(each[-1])}" for name, each in rates.items())
        say(f"{repeat + 1}/{args.repeats}: {said}")

    found = rank_metrics(model, split, authors=False)
    checked: dict[str, Scores] = {
        "naive reference on the same scores": lambda m, u: m.score_items(u),
        "naive reference on scores pair by pair": TorchRecommender.score_items,  # type: ignore[dict-item]
    }
    notes = []
    for name, scores_of in checked.items():
        s, naive = timed(naive_metrics, model, split, scores_of, KS)
        rates[name] = [users / s]
        worst = max(abs(found[metric] - value) for metric, value in naive.items())
        notes.append(f"Largest difference of {len(naive)} metrics to the {name}: {worst:.1e}.")
        if worst > 1e-6:
            raise SystemExit(notes[-1])

    report = Report(
        f"Full ranking of {len(graph.items):,} items for {users:,} users of Last.FM, KGCN",
        ["what", "users/s", "times RecBole's best"],
        notes=notes,
    )
    best = max(median(each) for name, each in rates.items() if name.startswith("RecBole"))
    for name, each in rates.items():
        report.add(name, rate(median(each)), f"{median(each) / best:.1f}")
    report.print(args.json)


if __name__ == "__main__":
    main()
