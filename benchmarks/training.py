"""Training of KGCN and KGNN-LS in the papers' Last.FM setting beside RecBole's KGCN and a plain PyTorch loop.

    python -m benchmarks.training

All train on 25,408 labelled examples an epoch with Adam, K 8, d 16, H 1, on the CPU; validation is not timed. RecBole's
step takes 64 positives and 64 sampled negatives, which are 128 labelled examples; the row of 256 is what its users
get who put 128 into `train_batch_size`.
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import Report, median, parser, rate, say
from benchmarks.lastfm import POSITIVES, fitted, lastfm_graph
from benchmarks.recbole_env import recbole_python, run_peer
from kgkit.evaluate.splits import split_pairs

SETTING = {
    "dim": 16, "neighbours": 8, "depth": 1, "batch_size": 128, "learning_rate": 5e-4, "l2": 1e-4,
    "arithmetic": "authors", "device": "cpu",
}  # fmt: skip
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "kgkit KGCN": ("kgcn", {}),
    "kgkit KGNN-LS": ("kgnn_ls", {"ls_weight": 0.1}),
    "plain PyTorch loop, KGCN": ("kgcn", {"fused": False}),
    "plain PyTorch loop, KGNN-LS": ("kgnn_ls", {"ls_weight": 0.1, "fused": False}),
}
PEERS = {"RecBole KGCN, 128 examples a step": 128, "RecBole KGCN, 256 examples a step": 256}


def main() -> None:
    p = parser(__doc__, repeats=5)
    p.add_argument("--epochs", type=int, default=10, help="epochs of each repeat")
    p.add_argument("--peer-epochs", type=int, default=5, help="timed epochs of RecBole in each repeat")
    args = p.parse_args()
    recbole_python()
    graph = lastfm_graph(args.data)
    split = split_pairs(graph, 0)
    examples = len(split.train)
    epoch_s: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    for repeat in range(args.repeats):
        for name, batch in PEERS.items():
            peer = run_peer(args.data, "--batch", batch, "--epochs", args.peer_epochs, "--rankings", 0)
            if peer["positives"] != POSITIVES:
                raise SystemExit(f"RecBole read {peer['positives']:,} positives, not {POSITIVES:,}")
            epoch_s.setdefault(name, []).append(median(peer["epoch_s"]))
            rates.setdefault(name, []).append(median(peer["examples_per_s"]))
        for name, (plugin, more) in OURS.items():
            options = {**SETTING, **more, "epochs": args.epochs, "seed": 0}
            _, trace = fitted(plugin, graph, split, options)
            s = median([line["train_s"] for line in trace])
            epoch_s.setdefault(name, []).append(s)
            rates.setdefault(name, []).append(examples / s)
            losses[name] = [line["loss"]["pairs"] for line in trace]
        said = ", ".join(f"{name} {rate(each[-1])}" for name, each in rates.items())
        say(f"{repeat + 1}/{args.repeats}: {said}")
    report = Report(
        "Training on Last.FM, K 8, d 16, H 1, batch 128",
        ["what", "s/epoch", "labelled examples/s", *(f"times {name}" for name in PEERS)],
    )
    for name, each in rates.items():
        times = [f"{median(each) / median(rates[peer]):.1f}" for peer in PEERS]
        report.add(name, median(epoch_s[name]), rate(median(each)), *times)
    cost = median(epoch_s["kgkit KGNN-LS"]) / median(epoch_s["kgkit KGCN"])
    report.notes.append(f"An epoch of KGNN-LS takes {cost:.2f} times one of KGCN.")
    for model in ("KGCN", "KGNN-LS"):
        fused, plain = losses[f"kgkit {model}"], losses[f"plain PyTorch loop, {model}"]
        worst = max(abs(a - b) for a, b in zip(fused, plain, strict=True))
        if worst > 1e-3:
            raise SystemExit(
                f"{model}: the compiled loss and the plain one differ by {worst}: not the same arithmetic"
            )
        report.notes.append(
            f"{model}: mean losses of all epochs equal those of the plain loop to {worst:.0e}."
        )
    report.print(args.json)


if __name__ == "__main__":
    main()
