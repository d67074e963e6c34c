"""RecBole's KGCN on Last.FM in the paper's setting, timed. Runs in RecBole's own environment, without kgkit.

Converts Last.FM into RecBole's atomic files (the same 21,173 positives and 15,518 triples), trains, ranks all
items for every test user, and prints one line of JSON. RecBole trains its KGCN on pairs of a positive and a
sampled negative: `--batch` counts labelled examples, so that --batch 128 is a `train_batch_size` of 64 pairs.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def convert(source: Path, out: Path) -> dict[str, int]:
    """Writes lastfm.inter, .kg and .link, and returns how many rows each has."""
    entity_of = dict(line.split() for line in (source / "item_index2entity_id.txt").open())
    rows = [line.split() for line in (source / "user_artists.dat").open()][1:]
    positives = sorted({(user, entity_of[item]) for user, item, _ in rows if item in entity_of})
    triples = sorted({tuple(line.split()) for line in (source / "kg.txt").open()})
    items = sorted(set(entity_of.values()))
    files: dict[str, tuple[str, Sequence[tuple[str, ...]]]] = {
        "inter": ("user_id:token\titem_id:token", positives),
        "kg": ("head_id:token\trelation_id:token\ttail_id:token", triples),
        "link": ("item_id:token\tentity_id:token", [(i, i) for i in items]),
    }
    folder = out / "lastfm"
    folder.mkdir(parents=True)
    for ending, (header, table) in files.items():
        text = "\n".join([header, *("\t".join(row) for row in table)]) + "\n"
        (folder / f"lastfm.{ending}").write_text(text)
    return {"positives": len(positives), "triples": len(triples), "items": len(items)}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--model", default="KGCN")
    p.add_argument("--epochs", type=int, default=5, help="timed epochs, after one that is not")
    p.add_argument("--rankings", type=int, default=2, help="timed full rankings of the test users")
    p.add_argument("--batch", type=int, default=128, help="labelled examples a step")
    p.add_argument("--eval-batch", type=int, default=4096, help="scores a batch of the full ranking")
    args = p.parse_args()

    from recbole.config import Config  # type: ignore[import-not-found]
    from recbole.data import create_dataset, data_preparation  # type: ignore[import-not-found]
    from recbole.utils import get_model, get_trainer, init_seed  # type: ignore[import-not-found]

    counts = convert(args.data / "lastfm", Path("atomic"))
    settings: dict[str, Any] = {
        "data_path": "atomic",
        "load_col": {
            "inter": ["user_id", "item_id"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
        },
        "seed": 2020,
        "use_gpu": False,
        "state": "ERROR",
        "show_progress": False,
        "embedding_size": 16,
        "neighbor_sample_size": 8,
        "n_iter": 1,
        "aggregator": "sum",
        "reg_weight": 1e-4,
        "learning_rate": 5e-4,
        "train_batch_size": args.batch // 2,
        "eval_batch_size": args.eval_batch,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False},
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "none", "order": "RO", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "Recall@20",
    }
    logging.disable(logging.WARNING)
    config = Config(model=args.model, dataset="lastfm", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(train)

    examples = 2 * len(train._dataset)
    trainer._train_epoch(train, 0)
    epoch_s = []
    for epoch in range(args.epochs):
        started = time.perf_counter()
        trainer._train_epoch(train, epoch + 1)
        epoch_s.append(time.perf_counter() - started)
    users = len(set(test._dataset.inter_feat[dataset.uid_field].tolist()))
    ranking_s, metrics = [], {}
    for _ in range(args.rankings):
        started = time.perf_counter()
        metrics = trainer.evaluate(test, load_best_model=False)
        ranking_s.append(time.perf_counter() - started)
    result = {
        **counts,
        "examples": examples,
        "epoch_s": epoch_s,
        "examples_per_s": [examples / s for s in epoch_s],
        "users": users,
        "ranking_s": ranking_s,
        "users_per_s": [users / s for s in ranking_s],
        "metrics": {k: float(v) for k, v in metrics.items()},
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
