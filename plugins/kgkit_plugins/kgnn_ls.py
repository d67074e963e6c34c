"""KGNN-LS: KGCN with label smoothness regularisation (Wang et al., KDD 2019, arXiv 1905.04413).

The convolution is KGCN's (this paper's Eq. 1, as its authors implement it: softmax in place of D^-1/2 A D^-1/2). The
same weights also carry labels: each pair's item is held out, its label is predicted by propagating the user's other
training labels over the receptive field (Theorem 2), and the error of that prediction regularises the weights (Eq. 7).

`--arithmetic paper` propagates weighted sums, so that the predicted label is a probability. `--arithmetic authors` does
as the authors' code: the weighted labels are averaged over K and the result, at most 1/K, is taken for a logit. On
Last.FM at one hop that has next to no gradient, for few items there have an item for a neighbour.

Departures from that code: an entity without facts keeps label 0.5; a last batch that is short counts. Where the paper
leaves an item unlabelled because the user never met it, so do we: its label is 0.5, as in the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kgkit.config import option
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn import kg_conv
from kgkit.train.kg_conv_model import KGConvConfig, KGConvRecommender, known_labels
from kgkit.train.torch_model import Parameters

# Table 8; batch sizes are the authors' code's, where the paper is silent.
PUBLISHED = {
    "movielens-20m": {
        "neighbours": 16, "dim": 32, "depth": 1, "ls_weight": 1.0, "l2": 1e-7, "learning_rate": 2e-2,
        "batch_size": 65536, "arithmetic": "authors",
    },
    "book-crossing": {
        "neighbours": 8, "dim": 64, "depth": 2, "ls_weight": 0.5, "l2": 2e-5, "learning_rate": 2e-4,
        "batch_size": 256, "arithmetic": "authors",
    },
    "last.fm": {
        "neighbours": 8, "dim": 16, "depth": 1, "ls_weight": 0.1, "l2": 1e-4, "learning_rate": 5e-4,
        "batch_size": 128, "arithmetic": "authors",
    },
    "dianping-food": {
        "neighbours": 4, "dim": 8, "depth": 2, "ls_weight": 0.5, "l2": 1e-7, "learning_rate": 2e-2,
        "batch_size": 65536, "arithmetic": "authors",
    },
}  # fmt: skip


class KGNNLS(KGConvRecommender):
    """The plugin; its convolution is `KGConvRecommender.convolve`, which KGCN shares."""

    name = "kgnn_ls"
    task = Task.RECOMMENDATION
    paper = Paper(
        "Wang et al.",
        2019,
        "KDD",
        "Knowledge-aware Graph Neural Networks with Label Smoothness Regularization for Recommender Systems",
        arxiv="1905.04413",
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED

    @dataclass(frozen=True)
    class Config(KGConvConfig):
        """S is --neighbours, d --dim, L --depth, lambda --ls-weight, gamma --l2, eta --learning-rate."""

        ls_weight: float = option(0.1, "weight lambda of the label smoothness term", ge=0)

    config: Config
    labels: kg_conv.KnownLabels

    def setup(self, generator: torch.Generator) -> None:
        super().setup(generator)
        self.labels = known_labels(self)

    def loss(
        self, p: Parameters, users: torch.Tensor, items: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 8: J(y, y_hat) + lambda R(A) + gamma ||F||^2, means over a batch in place of sums over all pairs."""
        logits, field, weights = self.convolve(p, users, items)
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        smoothness = self.label_smoothness(users, field, weights, labels)
        return cross_entropy + self.config.ls_weight * smoothness + self.config.l2 * kg_conv.squared_norm(p)

    def label_smoothness(
        self, users: torch.Tensor, field: kg_conv.Field, weights: list[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 7, R(A): cross-entropy of each held-out label. users: int64 [B]; labels: float32 [B] -> scalar."""
        known = list(kg_conv.held_out_labels(self.labels, users, field))
        predicted = kg_conv.propagated_label(known, weights, self.conv.arithmetic)
        return kg_conv.label_loss(predicted, labels, self.conv.arithmetic)

    def label_term(self) -> tuple[kg_conv.KnownLabels, float]:
        return self.labels, self.config.ls_weight


@hookimpl
def register_models() -> list[type[Model]]:
    return [KGNNLS]
