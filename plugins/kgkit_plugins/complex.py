"""ComplEx: DistMult over complex numbers (Trouillon et al., ICML 2016, arXiv:1606.06357).

    Eq. 9    f(h, r, t) = Re(sum_i r_i h_i conj(t_i))
    Eq. 11   = <Re r, Re h, Re t> + <Re r, Im h, Im t> + <Im r, Re h, Im t> - <Im r, Im h, Re t>

The imaginary part of r makes f(h, r, t) differ from f(t, r, h), which DistMult cannot. `--dim d` counts complex numbers,
the paper's K, so a vector in the graph has 2 d floats: d real parts, then d imaginary parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kgkit.config import option
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn.either import conjugate, cubed_moduli, product, rows
from kgkit.nn.similarity import Similarity
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import BilinearConfig, KGEModel, normal

# Section 4.3 and the authors' wn18_run.py and fb15k_run.py: the rank, the negatives a fact and the rate that their grid
# search found, AdaGrad, a hundredth of the facts a step, at most 1,000 epochs, a look at validation every 50, the end at
# the first that is no better. Their lambda (0.03 on WN18, 0.01 on FB15K) weighs the mean squares of real parts and of
# imaginary ones, of facts and of negatives: over facts that is half of `--l2`. N3 was later found better for ComplEx
# (Lacroix et al. 2018, section 5). Their limit of 1 to a gradient's length has no option here, and of 10 negatives each
# weighs as much as the fact with them, where here all together do.
_PAPER = {
    "loss": "softplus", "optimiser": "adagrad", "learning_rate": 0.5, "epochs": 1000, "validate_every": 50,
    "patience": 50, "filtered": False, "reciprocal": False, "shared": False, "n3": 0.0,
}  # fmt: skip
PUBLISHED = {
    "wn18": {**_PAPER, "dim": 150, "negatives": 1, "batch_size": 1414, "l2": 0.06},
    "fb15k": {**_PAPER, "dim": 200, "negatives": 10, "batch_size": 4831, "l2": 0.02},
}


class ComplEx(KGEModel):
    """The plugin."""

    name = "complex"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Trouillon et al.", 2016, "ICML", "Complex Embeddings for Simple Link Prediction", arxiv="1606.06357"
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED
    similarity: Similarity = "dot"
    fused_kind = "complex"

    @dataclass(frozen=True)
    class Config(BilinearConfig):
        """Options of complex."""

        dim: int = option(100, "complex numbers a vector (of 2 d floats)", ge=1)

    def init(self, generator: torch.Generator) -> Parameters:
        d = self.config.dim
        return {
            "entity": normal(self.split.entities, 2 * d, 0.1, generator),
            "relation": normal(self.relation_rows, 2 * d, 0.1, generator),
        }

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h r: Re<h r, conj(t)> is the inner product of the halves, which is Eq. 11."""
        return product(rows(p["entity"], heads), rows(p["relation"], relations))

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """t conj(r), whose inner product with h is Eq. 11; with reciprocal relations, t r of the second relation."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return product(rows(p["entity"], tails), conjugate(rows(p["relation"], relations)))

    def cubes(self, vectors: torch.Tensor) -> torch.Tensor:
        """N3 of complex vectors weighs moduli."""
        return cubed_moduli(vectors)


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [ComplEx]
