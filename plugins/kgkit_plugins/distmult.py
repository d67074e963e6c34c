"""DistMult: relations as diagonal matrices (Yang et al., ICLR 2015, arXiv:1412.6575).

    Eq. 2, M_r diagonal   f(h, r, t) = sum_i h_i r_i t_i

It cannot tell (h, r, t) from (t, r, h). The paper trains with a margin of 1 and one negative an end (Eq. 3), AdaGrad
and entities of unit length; a softmax over many negatives does far better with the same equation (Kadlec et al. 2017,
Ruffinelli et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kgkit.config import option
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn.either import rows
from kgkit.nn.similarity import Similarity
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import BilinearConfig, KGEModel, normal

# Section 4: 100 dimensions, AdaGrad of rate 0.1, batches of a tenth of the data, entities of length 1, two negatives a
# fact: one an end there, both at the same end here. L2 of 0.0001, there on relations alone, is not among these.
_PAPER = {
    "dim": 100, "optimiser": "adagrad", "learning_rate": 0.1, "loss": "margin", "margin": 1.0, "negatives": 2,
    "shared": False, "reciprocal": False, "n3": 0.0, "unit": True,
}  # fmt: skip
PUBLISHED = {
    "wn18": {**_PAPER, "batch_size": 14_144, "epochs": 300},
    "fb15k": {**_PAPER, "batch_size": 48_314, "epochs": 100},
}


class DistMult(KGEModel):
    """The plugin."""

    name = "distmult"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Yang et al.",
        2015,
        "ICLR",
        "Embedding Entities and Relations for Learning and Inference in Knowledge Bases",
        arxiv="1412.6575",
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED
    similarity: Similarity = "dot"
    fused_kind = "distmult"

    @dataclass(frozen=True)
    class Config(BilinearConfig):
        """Options of distmult."""

        unit: bool = option(False, "entities of length 1 (section 4)")

    config: Config

    def init(self, generator: torch.Generator) -> Parameters:
        d = self.config.dim
        entity = normal(self.split.entities, d, 0.1, generator)
        return {
            "entity": torch.nn.functional.normalize(entity) if self.config.unit else entity,
            "relation": normal(self.relation_rows, d, 0.1, generator),
        }

    def unit_norms(self) -> dict[str, float]:
        return {"entity": 1.0} if self.config.unit else {}

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h * r, so that its product with t is Eq. 2."""
        return rows(p["entity"], heads) * rows(p["relation"], relations)

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """r * t; with reciprocal relations, of the second relation."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return self.tail_query(p, tails, relations)


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [DistMult]
