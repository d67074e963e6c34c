"""The base of KGCN and KGNN-LS: options, sampled neighbours, parameters, and the compiled training and scoring.

The equations stand in `kgkit.nn.kg_conv`, the losses in the plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.config import option
from kgkit.lazy import np, torch
from kgkit.nn import kg_conv
from kgkit.train.torch_model import Parameters, TorchConfig, TorchRecommender

if TYPE_CHECKING:
    from kgkit.native.kg_conv import Problem


@dataclass(frozen=True)
class KGConvConfig(TorchConfig):
    """Options of the knowledge-graph convolution; the defaults are the papers' for Last.FM."""

    dim: int = option(16, "embedding size d", ge=1)
    depth: int = option(1, "depth of the receptive field: KGCN's H, KGNN-LS's L", ge=1)
    neighbours: int = option(8, "neighbours sampled for each entity: KGCN's K, KGNN-LS's S", ge=1)
    aggregator: str = option(
        "sum", "Eq. 4, 5, 6, or the mean without user-relation scores", choices=kg_conv.AGGREGATORS
    )
    l2: float = option(1e-4, "weight of half the squared norm of all tables and matrices", ge=0)
    arithmetic: str = option(
        "authors", "sums as in the papers, or the means of the authors' code", choices=kg_conv.ARITHMETICS
    )


class KGConvRecommender(TorchRecommender):
    """A recommender whose item vectors come from the user-specific convolution over sampled neighbours."""

    config: KGConvConfig
    conv: kg_conv.Convolution
    sampled: kg_conv.Sampled
    item_entity: torch.Tensor
    scorer: Problem | None  # scores in compiled code

    def receptive_field(self) -> int:
        return self.config.depth

    def setup(self, generator: torch.Generator) -> None:
        c = self.config
        self.conv = kg_conv.Convolution(c.depth, c.aggregator, c.arithmetic)  # type: ignore[arg-type]
        self.sampled = kg_conv.sample_neighbours(self.graph.neighbours, c.neighbours, generator).to(
            self.device
        )
        self.item_entity = torch.from_numpy(self.graph.item_entity).to(self.device)
        self.scorer = self.problem()

    def init(self, generator: torch.Generator) -> Parameters:
        g = self.graph
        return kg_conv.initial(
            len(g.users), len(g.entities), max(1, len(g.relations)), self.config.dim, self.conv, generator
        )

    def field(self, items: torch.Tensor) -> kg_conv.Field:
        """The receptive fields of items, int64 [B]."""
        return kg_conv.receptive_field(self.sampled, self.item_entity[items], self.conv.hops)

    def convolve(
        self, p: Parameters, users: torch.Tensor, items: torch.Tensor
    ) -> tuple[torch.Tensor, kg_conv.Field, list[torch.Tensor]]:
        """KGCN's Algorithm 1 for B pairs, KGNN-LS's f(u, v_u) of section 4.1; Eq. are KGCN's.

        users, items: int64 [B] -> logits float32 [B], and the receptive fields and edge weights they came from.
        """
        user = p["user"][users]
        field = self.field(items)  # lines 13-19
        weights = kg_conv.field_weights(p, user, field, self.conv)  # Eq. 1, 3
        item = kg_conv.represent(p, field, weights, self.conv)  # lines 4-9: Eq. 2, and Eq. 4, 5 or 6
        return kg_conv.predict(user, item), field, weights  # Eq. 7

    def logit(self, p: Parameters, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.convolve(p, users, items)[0]

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        if self.scorer is not None:
            return self.scorer.score_pairs(self.parameters, users.contiguous(), items.contiguous())
        return super().score_pairs(users, items)

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            if self.scorer is not None:
                return self.scorer.score_items(self.parameters, users)
            return kg_conv.score_items(
                self.parameters, self.sampled, self.item_entity, users.to(self.device), self.conv
            )

    def problem(self, labels: kg_conv.KnownLabels | None = None, ls_weight: float = 0.0) -> Problem | None:
        """The model as compiled kernels take it, or None where they cannot run."""
        from kgkit.native import kg_conv as native

        if (
            self.device.type != "cpu"
            or not self.config.fused
            or not native.available(self.config.dim, self.config.neighbours)
        ):
            return None
        return native.Problem(
            self.config.dim,
            self.conv,
            self.sampled,
            self.item_entity,
            self.config.l2,
            labels=labels,
            ls_weight=ls_weight,
        )

    def fused_epoch(self) -> Callable[[torch.optim.Adam, torch.Tensor], float] | None:
        """Batches in order, the short one at the end included (the authors' code drops it)."""
        problem = self.problem(*self.label_term())
        if problem is None:
            return None
        pairs = self.split.train.tensors()

        def run(optimiser: torch.optim.Adam, order: torch.Tensor) -> float:
            return problem.train(self.parameters, optimiser, *pairs, order, self.config.batch_size)

        return run

    def label_term(self) -> tuple[kg_conv.KnownLabels | None, float]:
        """Known labels and the weight of a label-smoothness term in the loss; none here."""
        return None, 0.0


def known_labels(model: KGConvRecommender) -> kg_conv.KnownLabels:
    """The labels of the training pairs by user and entity, on the model's device."""
    train = model.split.train
    entity = model.graph.item_entity[train.item]
    return kg_conv.KnownLabels.of(
        train.user, entity, np.asarray(train.label, np.float32), len(model.graph.entities)
    ).to(model.device)
