"""Losses of link prediction, over scores of known facts and of what was put in their place. Higher scores are likelier.

Two shapes. Sampled: positive float32 [B] and negative [B, K], where a mask bool [B, K] says which negatives count (the
others are known facts). All: scores float32 [B, N] of every entity as the answer to B queries, the right ones as
`Answers`. Each returns a mean, so that its size does not depend on that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.lazy import torch
from kgkit.native.losses import bce_with_logits_rows, cross_entropy_rows

if TYPE_CHECKING:
    Tensor = torch.Tensor

LOSSES = ("margin", "softplus", "bce", "cross-entropy", "self-adversarial")
_NOTHING = -1e9  # the score of a negative that does not count, in a softmax


@dataclass(frozen=True)
class LossSettings:
    """margin: of `margin`, and gamma of `self-adversarial`; smoothing: of labels (Dettmers et al. 2018, section 4);
    temperature: alpha of `self-adversarial`."""

    margin: float = 1.0
    smoothing: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Answers:
    """The right answers of B queries, one query's after another's.

    row: int64 [A], whose answer; entity: int64 [A]; start: int64 [B + 1], where each query's begin.
    """

    row: Tensor
    entity: Tensor
    start: Tensor


# --- Sampled negatives ----------------------------------------------------------------------------------------------


def margin(positive: Tensor, negative: Tensor, mask: Tensor | None, s: LossSettings) -> Tensor:
    """max(0, margin - f(positive) + f(negative)), over pairs (Bordes et al. 2013, Eq. 1)."""
    return _mean(torch.relu(s.margin - positive[:, None] + negative), mask)


def softplus(positive: Tensor, negative: Tensor, mask: Tensor | None, s: LossSettings) -> Tensor:
    """log(1 + exp(-y f)), y = 1 or -1 (Trouillon et al. 2016, Eq. 12): facts and all their negatives weigh the same."""
    of = torch.nn.functional.softplus
    return (of(-positive).mean() + _mean(of(negative), mask)) / 2


def bce(positive: Tensor, negative: Tensor, mask: Tensor | None, s: LossSettings) -> Tensor:
    """Binary cross-entropy with smoothed labels: 1 becomes 1 - smoothing / 2, 0 becomes smoothing / 2."""
    high, low = 1 - s.smoothing / 2, s.smoothing / 2
    of = torch.nn.functional.softplus  # -log sigmoid(x) = softplus(-x)
    right = high * of(-positive) + (1 - high) * of(positive)
    wrong = low * of(-negative) + (1 - low) * of(negative)
    return (right.mean() + _mean(wrong, mask)) / 2


def cross_entropy(positive: Tensor, negative: Tensor, mask: Tensor | None, s: LossSettings) -> Tensor:
    """-log of the fact's share in the softmax over it and its negatives (Kadlec et al. 2017, Eq. 3).

    Smoothing takes that much of the label from the fact, and gives it in equal parts to the fact and what counts.
    """
    counts = torch.ones_like(negative, dtype=torch.bool) if mask is None else mask
    logits = torch.cat([positive[:, None], negative.masked_fill(~counts, _NOTHING)], 1)
    share = torch.log_softmax(logits, 1)
    right = share[:, 0]
    if s.smoothing:
        whole = right + (share[:, 1:] * counts).sum(1)
        right = (1 - s.smoothing) * right + s.smoothing * whole / (1 + counts.sum(1))
    return -right.mean()


def self_adversarial(positive: Tensor, negative: Tensor, mask: Tensor | None, s: LossSettings) -> Tensor:
    """-log sigmoid(gamma - d(fact)) - sum_i p_i log sigmoid(d(negative i) - gamma) (Sun et al. 2019, Eq. 5 and 6).

    p is the softmax of the negatives' scores at a temperature, held constant.
    """
    of = torch.nn.functional.logsigmoid
    weight = s.temperature * negative.detach()
    if mask is not None:
        weight = weight.masked_fill(~mask, _NOTHING)
    p = torch.softmax(weight, 1)
    if mask is not None:  # where none counts, the softmax is of all
        p = p * mask
    return -(of(s.margin + positive).mean() + (p * of(-negative - s.margin)).sum(1).mean()) / 2


SAMPLED: dict[str, Callable[[Tensor, Tensor, Tensor | None, LossSettings], Tensor]] = {
    "margin": margin,
    "softplus": softplus,
    "bce": bce,
    "cross-entropy": cross_entropy,
    "self-adversarial": self_adversarial,
}


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else (values * mask).sum() / mask.sum().clamp_min(1)


# --- All entities ---------------------------------------------------------------------------------------------------


def bce_all(scores: Tensor, answers: Answers, s: LossSettings) -> Tensor:
    """Binary cross-entropy over every entity (Dettmers et al. 2018, Eq. 2; labels smoothed as there, section 4).

    Their labels: (1 - smoothing) y + smoothing / N. The scores are used up: their gradient takes their place.
    """
    scale, free = 1 / scores.numel(), scores.grad_fn is not None
    return bce_with_logits_rows(scores, answers.start, answers.entity, s.smoothing, scale, free).sum()


def cross_entropy_all(scores: Tensor, answers: Answers, s: LossSettings) -> Tensor:
    """Cross-entropy of each query, its right answers sharing the target equally (Lacroix et al. 2018, section 2).

    The scores are used up: their gradient takes their place.
    """
    scale, free = 1 / len(scores), scores.grad_fn is not None
    return cross_entropy_rows(scores, answers.start, answers.entity, s.smoothing, scale, free).sum()


def softplus_all(scores: Tensor, answers: Answers, s: LossSettings) -> Tensor:
    """log(1 + exp(-y f)), y = 1 for answers and -1 for all else: `bce_all` without smoothing."""
    return bce_all(scores, answers, LossSettings())


ALL: dict[str, Callable[[Tensor, Answers, LossSettings], Tensor]] = {
    "bce": bce_all,
    "cross-entropy": cross_entropy_all,
    "softplus": softplus_all,
}
