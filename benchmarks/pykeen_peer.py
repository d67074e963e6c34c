"""PyKEEN's training, or its filtered ranking of given embeddings, timed. Runs in its own environment, without kgkit.

--tables FILE.npz holds train, valid and test facts int64 [n, 3] (head, relation, tail); to rank, entity float32 [N, d]
and relation float32 [R, d] too, and what --triples says of the test facts is ranked. --epochs trains so many of them,
and --batches so many batches (k-vs-all) of ConvE. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import resource
import time
from pathlib import Path
from typing import Any

# kgkit's name of a metric: PyKEEN's
METRICS = {
    "mrr": "both.realistic.inverse_harmonic_mean_rank",
    "mr": "both.realistic.arithmetic_mean_rank",
    "amri": "both.realistic.adjusted_arithmetic_mean_rank_index",
    "hits@1": "both.realistic.hits_at_1",
    "hits@3": "both.realistic.hits_at_3",
    "hits@10": "both.realistic.hits_at_10",
    "mrr_head": "head.realistic.inverse_harmonic_mean_rank",
    "mrr_tail": "tail.realistic.inverse_harmonic_mean_rank",
    "mrr_optimistic": "both.optimistic.inverse_harmonic_mean_rank",
    "mrr_pessimistic": "both.pessimistic.inverse_harmonic_mean_rank",
    "hits@10_optimistic": "both.optimistic.hits_at_10",
    "hits@10_pessimistic": "both.pessimistic.hits_at_10",
}


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stop(Exception):
    """Enough batches."""


def train(args: argparse.Namespace) -> None:
    """Epochs of sampled training (margin 1, Adam 1e-3, one negative), or batches of ConvE's k-vs-all training."""
    import numpy as np
    import torch
    from pykeen.losses import MarginRankingLoss  # type: ignore[import-not-found]
    from pykeen.models import RGCN, ConvE, DistMult, TransE  # type: ignore[import-not-found]
    from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop  # type: ignore[import-not-found]
    from pykeen.training.callbacks import TrainingCallback  # type: ignore[import-not-found]
    from pykeen.triples import CoreTriplesFactory  # type: ignore[import-not-found]

    logging.disable(logging.WARNING)
    with np.load(args.tables) as data:
        facts = {name: torch.from_numpy(data[name]) for name in ("train", "valid", "test")}
    conve, every = args.model == "conve", torch.cat([*facts.values()])
    factory = CoreTriplesFactory(
        facts["train"],
        num_entities=int(every[:, [0, 2]].max()) + 1,
        num_relations=int(every[:, 1].max()) + 1,
        create_inverse_triples=conve,
    )
    shared = {"triples_factory": factory, "random_seed": 0}
    if conve:
        model = ConvE(embedding_dim=200, **shared)
    elif args.model == "rgcn":
        more = {"num_layers": 1, "decomposition": "bases", "decomposition_kwargs": {"num_bases": 4}}
        model = RGCN(embedding_dim=32, loss=MarginRankingLoss(margin=1.0), **more, **shared)
    else:
        cls, more = (DistMult, {}) if args.model == "distmult" else (TransE, {"scoring_fct_norm": 1})
        model = cls(embedding_dim=100, loss=MarginRankingLoss(margin=1.0), **more, **shared)
    ends = [time.perf_counter()]

    class Clock(TrainingCallback):  # type: ignore[misc]
        """The time of every epoch's end, or of every batch's."""

        def post_epoch(self, *given: Any, **named: Any) -> None:
            if not conve:
                ends.append(time.perf_counter())

        def post_batch(self, *given: Any, **named: Any) -> None:
            if conve:
                ends.append(time.perf_counter())
                if len(ends) > args.batches:
                    raise Stop

    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    loop = (LCWATrainingLoop if conve else SLCWATrainingLoop)(
        model=model, triples_factory=factory, optimizer=adam
    )
    before = peak()
    ends[0] = time.perf_counter()
    options = {"batch_size": args.batch, "num_epochs": 1 if conve else args.epochs, "use_tqdm": False}
    with contextlib.suppress(Stop):
        loop.train(triples_factory=factory, callbacks=Clock, use_tqdm_batch=False, **options)
    seconds = [after - at for at, after in itertools.pairwise(ends)]
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak()}))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--tables", type=Path, required=True)
    p.add_argument("--model", choices=("distmult", "transe", "rgcn", "conve"), required=True)
    p.add_argument("--triples", type=int, default=0, help="test facts to rank, from the first")
    p.add_argument("--epochs", type=int, default=0, help="train so many epochs instead")
    p.add_argument("--batches", type=int, default=0, help="train so many batches of ConvE instead")
    p.add_argument(
        "--batch", type=int, default=None, help="facts a batch (PyKEEN's own default unless given)"
    )
    args = p.parse_args()
    if args.epochs or args.batches:
        train(args)
    else:
        rank(args)


def rank(args: argparse.Namespace) -> None:
    """Filtered ranking of both sides."""
    import numpy as np
    import torch
    from pykeen.evaluation import RankBasedEvaluator  # type: ignore[import-not-found]
    from pykeen.models import DistMult, TransE  # type: ignore[import-not-found]
    from pykeen.triples import CoreTriplesFactory  # type: ignore[import-not-found]

    logging.disable(logging.WARNING)
    with np.load(args.tables) as data:
        tables = {name: torch.from_numpy(data[name]) for name in data.files}
    entity, relation = tables["entity"], tables["relation"]
    factory = CoreTriplesFactory(tables["train"], num_entities=len(entity), num_relations=len(relation))
    cls, more = (DistMult, {}) if args.model == "distmult" else (TransE, {"scoring_fct_norm": 1})
    model = cls(triples_factory=factory, embedding_dim=entity.shape[1], random_seed=0, **more)
    with torch.no_grad():
        model.entity_representations[0]._embeddings.weight.copy_(entity)
        model.relation_representations[0]._embeddings.weight.copy_(relation)
    evaluator = RankBasedEvaluator(filtered=True)
    ranks, finalize = {}, evaluator.finalize

    def finalize_and_keep() -> Any:
        """PyKEEN averages in single precision and forgets the ranks: these are compared one by one."""
        for side in ("head", "tail"):
            ranks[side] = np.concatenate(evaluator.ranks[side, "realistic"]).tolist()
        return finalize()

    evaluator.finalize = finalize_and_keep
    before = peak()
    started = time.perf_counter()
    result = evaluator.evaluate(
        model=model,
        mapped_triples=tables["test"][: args.triples],
        batch_size=args.batch,
        # All test facts are the filter's, also where only some are ranked.
        additional_filter_triples=[tables["train"], tables["valid"], tables["test"]],
        use_tqdm=False,
    )
    seconds = time.perf_counter() - started
    found = result.to_flat_dict()
    metrics = {name: float(found[theirs]) for name, theirs in METRICS.items()}
    print(
        json.dumps({"seconds": seconds, "metrics": metrics, "ranks": ranks, "before": before, "peak": peak()})
    )


if __name__ == "__main__":
    main()
