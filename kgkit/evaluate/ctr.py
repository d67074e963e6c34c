"""Click-through rate metrics of labelled pairs: AUC and F1, over a whole split and as the authors batch them.

All take label [N] (positive above 0) and score [N] (higher is likelier), lie in 0 ... 1; higher is better.
A metric that is not defined (one class only, no full batch, a score that is not a number) is NaN, and a note
is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Array, Doubles, Ints


log = logging.getLogger(__name__)


def auc(label: Array, score: Array) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting half."""
    if (value := float(_auc_rows(label[None], score[None])[0])) != value:
        log.warning("no AUC: %s", _reason(label, score))
    return value


def f1(label: Array, score: Array, threshold: float = 0.0) -> float:
    """F1 of the positives, predicted from threshold up (0: probability 0.5 for logits); 0 without a hit."""
    if np.isnan(score).any() or not len(score):
        log.warning("no F1: %s", _reason(label, score))
        return float("nan")
    return float(_f1_rows(label[None], score[None], threshold)[0])


def auc_batch_mean(label: Array, score: Array, batch_size: int) -> float:
    """AUC as KGCN's authors compute it: mean over full batches in the split's order, a short one dropped."""
    return _mean("AUC", _auc_rows(_batches(label, batch_size), _batches(score, batch_size)), batch_size)


def f1_batch_mean(label: Array, score: Array, batch_size: int, threshold: float = 0.0) -> float:
    """F1 as KGCN's authors compute it: mean over full batches in the split's order, a short one dropped."""
    rows = _f1_rows(_batches(label, batch_size), _batches(score, batch_size), threshold)
    return _mean("F1", rows, batch_size)


def best_threshold(label: Array, score: Array) -> float:
    """The score from which on predicting a positive gives the best F1; of equally good ones the highest.

    For models whose scores are no logits; taken on validation pairs.
    """
    if not len(score):
        return 0.0
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(label[order] > 0)
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are predicted together
    value = 2 * hits / (np.arange(1, len(score) + 1) + hits[-1])
    return float(ranked[np.argmax(np.where(last, value, -1.0))])


def sortable(score: Array) -> Ints:
    """float32 scores as integers in the same order, so that more can be packed beside them. -0 equals 0."""
    bits = (score.astype(np.float32) + np.float32(0)).view(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)


def _auc_rows(label: Array, score: Array) -> Doubles:
    """label, score [G, B] -> the AUC of each row [G]."""
    # Sorted by score and, where equal, negatives first: the label rides in the lowest bit.
    packed = np.sort(sortable(score) * 2 + (label > 0), axis=1)
    hit = packed & 1
    below_or_tied = np.cumsum(1 - hit, axis=1)  # at a positive: negatives that score at most as much
    first = np.ones(packed.shape, dtype=bool)
    first[:, 1:] = packed[:, 1:] >> 1 != packed[:, :-1] >> 1
    run = np.cumsum(first) - 1
    below = (below_or_tied - (1 - hit))[first][run].reshape(packed.shape)  # those that score less
    won = (hit * (below + below_or_tied)).sum(1)  # twice the pairs won
    positives = hit.sum(1)
    pairs = positives * (hit.shape[1] - positives)
    defined = (pairs > 0) & ~np.isnan(score).any(1)
    value = np.full(len(packed), np.nan)
    np.divide(won, 2 * pairs, out=value, where=defined)
    return value


def _f1_rows(label: Array, score: Array, threshold: float) -> Doubles:
    """label, score [G, B] -> the F1 of each row [G]."""
    real, predicted = label > 0, score >= threshold
    both = real.sum(1) + predicted.sum(1)
    return np.asarray(2 * (real & predicted).sum(1) / np.maximum(both, 1))


def _batches(values: Array, size: int) -> Array:
    """values [N] -> [N // size, size]."""
    return values[: len(values) // size * size].reshape(-1, size)


def _mean(what: str, rows: Doubles, batch_size: int) -> float:
    defined = rows[~np.isnan(rows)]
    if len(defined) < len(rows):
        log.warning("%d of %d batches of %d have one class only and no %s: left out of the mean",
                    len(rows) - len(defined), len(rows), batch_size, what)  # fmt: skip
    if not len(defined):
        log.info("no batch mean of %s: no batch of %d pairs has one", what, batch_size)
        return float("nan")
    return float(defined.mean())


def _reason(label: Array, score: Array) -> str:
    if not len(label):
        return "there are no pairs"
    if bad := int(np.isnan(score).sum()):
        return f"{bad} of {len(score)} scores are not numbers"
    return f"all {len(label)} pairs are {'positives' if label[0] > 0 else 'negatives'}"
