"""Matrix factorisation as an outside plugin: everything that a model needs, in one file.

Koren, Bell and Volinsky, IEEE Computer 2009, equation 1 with biases, under a logistic loss. B batch, d dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgkit import hookimpl, option
from kgkit.lazy import torch
from kgkit.model import Paper, Task
from kgkit.queries import PURCHASES
from kgkit.train.torch_model import Parameters, TorchConfig, TorchRecommender


@dataclass(frozen=True)
class MFConfig(TorchConfig):
    """Options of `mf`."""

    dim: int = option(16, "embedding size d", ge=1)
    l2: float = option(1e-3, "weight of the squared norms of a batch's rows", ge=0)


class MF(TorchRecommender):
    """Score = <u, v> + item bias."""

    name = "mf"
    task = Task.RECOMMENDATION
    paper = Paper(
        "Koren et al.", 2009, "IEEE Computer", "Matrix Factorization Techniques for Recommender Systems"
    )
    Config = MFConfig
    queries = (PURCHASES,)  # no facts: this model is the one to beat

    def setup(self, generator: torch.Generator) -> None:
        pass  # nothing is fixed beforehand

    def init(self, generator: torch.Generator) -> Parameters:
        d = self.config.dim
        return {
            "user": torch.randn(len(self.graph.users), d, generator=generator) / d**0.5,
            "item": torch.randn(len(self.graph.items), d, generator=generator) / d**0.5,
            "bias": torch.zeros(len(self.graph.items)),
        }

    def logit(self, p: Parameters, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Equation 1.  users, items [B] -> [B]."""
        return torch.einsum("bd,bd->b", p["user"][users], p["item"][items]) + p["bias"][items]

    def loss(
        self, p: Parameters, users: torch.Tensor, items: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy plus l2 on the rows of the batch (their equation 2)."""
        error = torch.nn.functional.binary_cross_entropy_with_logits(self.logit(p, users, items), labels)
        return error + self.config.l2 * (p["user"][users].square().mean() + p["item"][items].square().mean())


@hookimpl
def register_models() -> list[type[MF]]:
    return [MF]
