"""TransE: relations as translations (Bordes et al., NIPS 2013).

    Section 2   f(h, r, t) = -|h + r - t|, L1 or L2
    Algorithm 1 tables uniform in +-6 / sqrt(d), relations scaled to length 1 once, entities before every batch

The paper trains with a margin and one negative a fact (Eq. 1). With `--no-unit`, entities keep the length they learn,
which a softmax over many negatives needs.
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
from kgkit.nn.similarity import Similarity
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import KGEConfig, KGEModel, uniform

# Section 4.2: k, margin, rate and distance of each data set; Table 2 has the sizes of which a batch is a hundredth.
_PAPER = {"loss": "margin", "optimiser": "sgd", "negatives": 1, "shared": False, "unit": True, "epochs": 1000}
PUBLISHED = {
    "wn": {**_PAPER, "dim": 20, "margin": 2.0, "learning_rate": 0.01, "norm": "l1"},
    "fb15k": {**_PAPER, "dim": 50, "margin": 1.0, "learning_rate": 0.01, "norm": "l1"},
    "fb1m": {**_PAPER, "dim": 50, "margin": 1.0, "learning_rate": 0.01, "norm": "l2"},
}


class TransE(KGEModel):
    """The plugin."""

    name = "transe"
    task = Task.LINK_PREDICTION
    paper = Paper("Bordes et al.", 2013, "NIPS", "Translating Embeddings for Modeling Multi-relational Data")
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED

    @dataclass(frozen=True)
    class Config(KGEConfig):
        """Options of transe."""

        norm: str = option("l1", "distance", choices=("l1", "l2"))
        unit: bool = option(True, "entities of length 1 (Algorithm 1, line 5)")

    config: Config

    @property
    def similarity(self) -> Similarity:  # type: ignore[override]
        return "l1" if self.config.norm == "l1" else "l2"

    @property
    def fused_kind(self) -> str:  # type: ignore[override]
        return f"transe-{self.config.norm}"

    def init(self, generator: torch.Generator) -> Parameters:
        d = self.config.dim
        bound = 6 / math.sqrt(d)
        entity = uniform(self.split.entities, d, bound, generator)
        relation = uniform(self.relation_rows, d, bound, generator)
        return {
            "entity": torch.nn.functional.normalize(entity) if self.config.unit else entity,
            "relation": torch.nn.functional.normalize(relation),
        }

    def unit_norms(self) -> dict[str, float]:
        return {"entity": 1.0} if self.config.unit else {}

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h + r, whose distance from t is the score."""
        return p["entity"][heads] + p["relation"][relations]

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """t - r, as far from h as h + r from t; with reciprocal relations, t + r of the second."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return p["entity"][tails] - p["relation"][relations]


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [TransE]
