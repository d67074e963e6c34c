"""TransR: translations in a space of each relation's own (Lin et al., AAAI 2015).

    Eq. 7    h_r = M_r h, t_r = M_r t
    Eq. 8    f(h, r, t) = -|h_r + r - t_r|_2^2

Entities have d dimensions, relations k, and M_r is [k, d] (the paper multiplies from the right: h M_r). All of |h|, |r|,
|t|, |M_r h| and |M_r t| are at most 1 (below Eq. 8): tables are cut to the unit ball after every step, projections where
they are made, so that training, ranking and completion see the same. The paper starts M_r at the identity and h, r, t at
TransE's: `kgkit train --plugin transe`, then `--plugin transr --init-from transe`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kgkit.config import option
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn.either import rows, within_ball
from kgkit.nn.projection import projected
from kgkit.nn.similarity import Candidates, Similarity, paired
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import KGEConfig, KGEModel, uniform

# Section "Link Prediction": rate, margin, k, d, batch, 500 rounds, and L1 in place of the square of Eq. 8; Bernoulli's is
# one of two ways to corrupt that it compares. The authors' code (thunlp/KB2E) goes 1,000 rounds and sums a batch's
# gradients; the loss here is their mean, so the rate is the paper's 0.001 times the batch.
_PAPER = {
    "loss": "margin", "optimiser": "sgd", "negatives": 1, "sampler": "bernoulli", "dim": 50, "relation_dim": 50,
    "norm": "l1", "ball": True, "epochs": 500,
}  # fmt: skip
PUBLISHED = {
    "wn18": {**_PAPER, "margin": 4.0, "batch_size": 1440, "learning_rate": 1.44},
    "fb15k": {**_PAPER, "margin": 1.0, "batch_size": 4800, "learning_rate": 4.8},
}


class TransR(KGEModel):
    """The plugin."""

    name = "transr"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Lin et al.", 2015, "AAAI", "Learning Entity and Relation Embeddings for Knowledge Graph Completion"
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED
    relational = True

    @dataclass(frozen=True)
    class Config(KGEConfig):
        """Options of transr."""

        learning_rate: float = option(0.01, "learning rate eta of the optimiser", gt=0)
        negatives: int = option(10, "sampled negatives a fact", ge=1)
        loss: str = option("margin", "loss", choices=("margin", "cross-entropy", "self-adversarial"))
        sampler: str = option(
            "bernoulli", "which end of a fact is replaced", choices=("uniform", "bernoulli")
        )
        relation_dim: int = option(0, "dimensions k of relations (0: those of entities)", ge=0)
        norm: str = option("l2-squared", "distance", choices=("l2-squared", "l1"))
        ball: bool = option(True, "vectors and projections within the unit ball (below Eq. 8)")

    config: Config

    @property
    def similarity(self) -> Similarity:  # type: ignore[override]
        return "l1" if self.config.norm == "l1" else "l2-squared"

    def init(self, generator: torch.Generator) -> Parameters:
        d, k = self.config.dim, self.config.relation_dim or self.config.dim
        entity = uniform(self.split.entities, d, 6 / math.sqrt(d), generator)
        relation = uniform(self.relation_rows, k, 6 / math.sqrt(k), generator)
        return {
            "entity": torch.nn.functional.normalize(entity),
            "relation": torch.nn.functional.normalize(relation),
            "relation_matrix": torch.eye(k, d).flatten().repeat(self.relation_rows, 1),
        }

    def max_norms(self) -> dict[str, float]:
        return {"entity": 1.0, "relation": 1.0} if self.config.ball else {}

    def project(self, p: Parameters, entities: Any, relations: Any) -> torch.Tensor:
        """Eq. 7: M_r e within the unit ball. relations: int64, one for all, or [...] as entities are -> [..., k]."""
        vectors, k = rows(p["entity"], entities), p["relation"].shape[1]
        matrices = p["relation_matrix"].reshape(-1, k, vectors.shape[-1])
        found = projected(matrices, vectors, relations)
        return within_ball(found) if self.config.ball else found

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h_r + r, whose distance from t_r is Eq. 8."""
        return self.project(p, heads, relations) + rows(p["relation"], relations)

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """t_r - r, as far from h_r as h_r + r from t_r; with reciprocal relations, t_r + r of the second."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return self.project(p, tails, relations) - rows(p["relation"], relations)

    def answers(self, p: Parameters, entities: Any, relations: Any = None) -> Candidates:
        """What a relation sees of entities: t_r, [..., k]."""
        return Candidates(self.project(p, entities, relations))

    def scores(
        self, p: Parameters, facts: torch.Tensor, negatives: torch.Tensor, at_head: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of the base, each entity projected once: a fact's ends serve its negatives too."""
        heads, relations, tails = facts
        k = negatives.shape[1]
        every = torch.cat([heads[:, None], tails[:, None], negatives], 1)  # [B, 2 + K]
        h, t, e = self.project(p, every, relations[:, None].expand(-1, 2 + k)).split([1, 1, k], 1)  # type: ignore[no-untyped-call]
        r, swap = rows(p["relation"], relations)[:, None], at_head[:, None, None]

        def f(h_r: torch.Tensor, t_r: torch.Tensor) -> torch.Tensor:
            return paired(self.similarity, self._drop(h_r + r), Candidates(t_r))

        return f(h, t)[:, 0], f(torch.where(swap, e, h), torch.where(swap, t, e))


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [TransR]
