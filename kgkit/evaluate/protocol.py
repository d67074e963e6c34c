"""Which metrics a run reports of which part, how a model is selected, and how the classics are tuned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from kgkit.errors import ConfigError
from kgkit.evaluate import ctr
from kgkit.evaluate.ranking import MEMORY, rank_metrics
from kgkit.lazy import np, torch

if TYPE_CHECKING:
    from kgkit.arrays import Floats, Ints
    from kgkit.evaluate.splits import LabelledPairs, Split
    from kgkit.model import Recommender

T = TypeVar("T")

PARTS = ("train", "valid", "test")
METRICS = "auc, mrr, recall@K, precision@K, ndcg@K, hit@K"  # what a model may be selected by
# Budgeted for scoring one pair: a receptive field of two hops and eight neighbours, 64 floats each.
_BYTES_A_PAIR = 1 << 14

log = logging.getLogger(__name__)


def evaluate(
    model: Recommender,
    split: Split,
    *,
    batch_size: int,
    memory: int = MEMORY,
    seed: int = 0,
    ranking: bool = True,
) -> dict[str, dict[str, float]]:
    """Metrics by part: {"train": {...}, "valid": {...}, "test": {...}}.

    Of every part `auc`, `f1`, and the authors' `auc_batch_mean`, `f1_batch_mean` (`kgkit.evaluate.ctr`); of
    valid and test with `ranking` also those of `rank_metrics`. F1 predicts a purchase from probability 0.5 on
    where scores are logits, otherwise from the score that is best on validation: F1 of valid is then an upper
    bound. A metric that is not defined is left out, so that every value is a number.
    """
    scores = {part: score_pairs(model, getattr(split, part), memory) for part in PARTS}
    threshold = 0.0 if model.logits else ctr.best_threshold(split.valid.label, scores["valid"])
    found: dict[str, dict[str, float]] = {}
    for part in PARTS:
        label, score = getattr(split, part).label, scores[part]
        values = {
            "auc": ctr.auc(label, score),
            "f1": ctr.f1(label, score, threshold),
            "auc_batch_mean": ctr.auc_batch_mean(label, score, batch_size),
            "f1_batch_mean": ctr.f1_batch_mean(label, score, batch_size, threshold),
        }
        if ranking and part != "train":
            values |= rank_metrics(model, split, part=part, memory=memory, seed=seed)
        found[part] = {name: value for name, value in values.items() if not np.isnan(value)}
    return found


def validation_metric(
    model: Recommender, split: Split, name: str, *, memory: int = MEMORY, users: Ints | None = None
) -> float:
    """The metric `name` ("auc", or of the ranking such as "recall@20", "ndcg@20") on validation pairs only.

    users: rank these users only. Raises ConfigError for an unknown name, or when validation cannot tell.
    """
    if name == "auc":
        value = ctr.auc(split.valid.label, score_pairs(model, split.valid, memory))
    else:
        _, at, k = name.partition("@")
        if at and not (k.isdigit() and int(k)):
            raise ConfigError(f"no validation metric {name!r}: the number after @ must be positive")
        ks = (int(k),) if at else ()
        metrics = rank_metrics(model, split, part="valid", ks=ks, memory=memory, users=users, authors=False)
        if name not in metrics:
            raise ConfigError(f"no validation metric {name!r}: there are {METRICS}")
        value = metrics[name]
    if np.isnan(value):
        raise ConfigError(
            f"{name} is not defined on the {len(split.valid)} validation pairs "
            f"({int((split.valid.label > 0).sum())} of them purchases): "
            "select by another metric, or use more purchases"
        )
    return value


def score_pairs(model: Recommender, pairs: LabelledPairs, memory: int = MEMORY) -> Floats:
    """The model's scores of pairs in their order, float32 [N]."""
    user, item, _ = pairs.tensors()
    scores = np.empty(len(pairs), dtype=np.float32)
    step = max(1, memory // _BYTES_A_PAIR)
    with torch.no_grad():
        for at in range(0, len(pairs), step):
            rows = slice(at, at + step)
            scores[rows] = model.score_pairs(user[rows], item[rows]).float().cpu().numpy()
    return scores


def choose(
    model: Recommender,
    split: Split,
    grid: Iterable[dict[str, Any]],
    make: Callable[[dict[str, Any]], T],
    use: Callable[[T], None],
    *,
    metric: str = "recall@20",
    most_users: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Tries every setting of `grid` and returns the best on validation, with that as "valid_recall@20".

    make: from a setting to weights; use: has the model score by weights. It is left with the winner's, of
    equals the first. Where more than `most_users` users have a validation positive, so many are drawn by seed,
    to stay quick on large data.
    """
    users = np.unique(split.valid.positives().user)
    if len(users) > most_users:
        users = np.sort(np.random.default_rng(seed).choice(users, most_users, replace=False))
    best: tuple[float, dict[str, Any], T] | None = None
    for setting in grid:
        weights = make(setting)
        use(weights)
        value = validation_metric(model, split, metric, users=users)
        log.info("%s: valid %s %.4f", setting, metric, value)
        if best is None or value > best[0]:
            best = value, setting, weights
    if best is None:
        raise ConfigError("there is no setting to choose from")
    value, setting, weights = best
    use(weights)
    return {**setting, f"valid_{metric}": value}
