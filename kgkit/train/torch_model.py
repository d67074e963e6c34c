"""The base of recommenders trained by gradient: tables and weights in a dict, equations as methods, one loop.

A subclass writes `setup` (what is fixed before training), `init` (the parameters), `logit` (the paper's prediction) and
`loss`; it may bring a fused epoch (`fused_epoch`) that computes the same faster, and a faster `score_items`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.config import option
from kgkit.lazy import torch
from kgkit.model import Recommender
from kgkit.train.gradient_model import GradientConfig, GradientModel, Parameters, Phase

if TYPE_CHECKING:
    from kgkit.evaluate.splits import Split

__all__ = ["Parameters", "Phase", "TorchConfig", "TorchRecommender"]


@dataclass(frozen=True)
class TorchConfig(GradientConfig):
    """Options of every recommender trained by gradient; a step takes `batch_size` labelled pairs."""

    select: str = option(
        "auc", "validation metric that picks the best epoch", choices=("auc", "recall@20", "ndcg@20")
    )


class TorchRecommender(GradientModel, Recommender):
    """A recommender trained by Adam on labelled pairs with cross-entropy unless it says otherwise."""

    logits = True
    split: Split

    @abstractmethod
    def logit(self, p: Parameters, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """users, items: int64 [B] -> float32 [B]."""

    @abstractmethod
    def loss(
        self, p: Parameters, users: torch.Tensor, items: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """users, items: int64 [B]; labels: float32 [B] -> scalar."""

    def fused_epoch(self) -> Callable[[torch.optim.Adam, torch.Tensor], float] | None:
        """The compiled twin of a stretch of batches, or None. Must equal `loss` + Adam to rounding (tested)."""
        return None

    def phases(self) -> list[Phase]:
        users, items, labels = (t.to(self.device) for t in self.split.train.tensors())

        def loss(p: Parameters, rows: torch.Tensor) -> torch.Tensor:
            return self.loss(p, users[rows], items[rows], labels[rows])

        return [Phase("pairs", len(labels), loss, self.fused_epoch() if self.config.fused else None)]

    def validate(self) -> float:
        from kgkit.evaluate.protocol import validation_metric

        return validation_metric(self, self.split, self.config.select)

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.logit(self.parameters, users.to(self.device), items.to(self.device))

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        n = len(self.graph.items)
        every = torch.arange(n, device=self.device)
        users = users.to(self.device)
        with torch.no_grad():
            flat = self.logit(self.parameters, users.repeat_interleave(n), every.repeat(len(users)))
        return flat.view(len(users), n)
