"""RotatE: relations as rotations in the complex plane (Sun et al., ICLR 2019, arXiv:1902.10197).

    Eq. 3    d_r(h, t) = |h o r - t|, |r_i| = 1; in the authors' code, as here, the sum of the moduli of its entries
    Eq. 5    p_i = softmax of alpha f over a fact's negatives, f = -d_r
    Eq. 6    L = -log s(gamma - d_r(h, t)) - sum_i p_i log s(d_r(h_i', t_i') - gamma)

s is the logistic function, gamma `--margin`, alpha `--temperature`; Eq. 5 and 6 are `--loss self-adversarial`.
`--dim d` counts complex numbers, so an entity's vector has 2 d floats: d real parts, then d imaginary parts. A relation
is d angles in radians, which is what goes into the graph: r_i = exp(i angle_i).
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
from kgkit.nn.either import conjugate, cubed_moduli, product, rows, turn
from kgkit.nn.similarity import Similarity
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import KGEConfig, KGEModel, uniform

# The authors' best_config.sh, by their README the paper's results: facts and negatives a step, d, gamma, alpha, rate;
# epochs are its steps by the data set's facts (150,000, 100,000, 80,000, 80,000 and 100,000 steps). There the rate falls
# to a tenth after half of the steps, with a fresh Adam, and a fact weighs less the more often its (h, r) and (r, t) are
# seen; here neither. On FB15k, PyKEEN's reproduction of the paper has 2,048 facts and 128 negatives a step.
_PAPER = {
    "loss": "self-adversarial",
    "optimiser": "adam",
    "shared": False,
    "filtered": True,
    "reciprocal": False,
}
PUBLISHED = {
    "fb15k": {**_PAPER, "batch_size": 1024, "negatives": 256, "dim": 1000, "margin": 24.0, "temperature": 1.0,
              "learning_rate": 1e-4, "epochs": 318},
    "fb15k-237": {**_PAPER, "batch_size": 1024, "negatives": 256, "dim": 1000, "margin": 9.0, "temperature": 1.0,
                  "learning_rate": 5e-5, "epochs": 376},
    "wn18": {**_PAPER, "batch_size": 512, "negatives": 1024, "dim": 500, "margin": 12.0, "temperature": 0.5,
             "learning_rate": 1e-4, "epochs": 290},
    "wn18rr": {**_PAPER, "batch_size": 512, "negatives": 1024, "dim": 500, "margin": 6.0, "temperature": 0.5,
               "learning_rate": 5e-5, "epochs": 472},
    "yago3-10": {**_PAPER, "batch_size": 1024, "negatives": 400, "dim": 500, "margin": 24.0, "temperature": 1.0,
                 "learning_rate": 2e-4, "epochs": 95},
}  # fmt: skip


class RotatE(KGEModel):
    """The plugin."""

    name = "rotate"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Sun et al.",
        2019,
        "ICLR",
        "RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space",
        arxiv="1902.10197",
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED
    similarity: Similarity = "modulus"
    fused_kind = "rotate"

    @dataclass(frozen=True)
    class Config(KGEConfig):
        """Options of rotate."""

        dim: int = option(100, "complex numbers an entity (2 d floats); angles a relation", ge=1)
        loss: str = option(
            "self-adversarial", "loss", choices=("margin", "cross-entropy", "self-adversarial")
        )
        margin: float = option(6.0, "margin gamma; vectors begin within (gamma + 2) / d", ge=0)
        negatives: int = option(32, "sampled negatives a fact (shared: a batch)", ge=1)

    config: Config

    @property
    def _bound(self) -> float:
        """Entities begin uniform within it (the authors' code: model.py, embedding_range)."""
        return (self.config.margin + 2) / self.config.dim

    def init(self, generator: torch.Generator) -> Parameters:
        d = self.config.dim
        return {
            "entity": uniform(self.split.entities, 2 * d, self._bound, generator),
            "relation": uniform(self.relation_rows, d, math.pi, generator),
        }

    def rates(self) -> dict[str, float]:
        """The authors train an angle as a number within the entities' range, scaled to (-pi, pi) where it is used.

        To Adam and AdaGrad, which do not see the size of a gradient, that is this rate; without it angles hardly move.
        """
        return {"relation": math.pi / self._bound} if self.config.optimiser != "sgd" else {}

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h o r, whose distance from t is Eq. 3."""
        return product(rows(p["entity"], heads), turn(rows(p["relation"], relations)))

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """t turned back, as far from h as h o r from t; with reciprocal relations, t turned by the second relation."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return product(rows(p["entity"], tails), conjugate(turn(rows(p["relation"], relations))))

    def nuclear(
        self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor, tails: torch.Tensor
    ) -> torch.Tensor:
        """N3 weighs the entities' moduli: a relation's are all 1."""
        entity = p["entity"]
        return (cubed_moduli(entity[heads]) + cubed_moduli(entity[tails])).mean()


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [RotatE]
