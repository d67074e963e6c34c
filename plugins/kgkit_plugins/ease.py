"""EASE: the linear autoencoder in closed form (Steck, WWW 2019, arXiv:1905.03375).

    Eq. 4  min over B of |X - X B|^2 + l2 |B|^2,  diag(B) = 0     X [users, items], 1 for a training purchase
    Eq. 8  B = I - P diagMat(1 / diag(P)),  P = (X^T X + l2 I)^-1                           [items, items]
    Eq. 1  y(u, j) = <x_u, B_.j>

Without the zero diagonal every item would predict itself, and nothing would be learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.evaluate.protocol import choose
from kgkit.hookspecs import hookimpl
from kgkit.lazy import np, torch
from kgkit.model import Model, ModelConfig, Paper, Recommender, Task
from kgkit.nn.profiles import profiles
from kgkit.queries import PURCHASES

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from kgkit.evaluate.splits import Split
    from kgkit.graph import TrainingGraph
    from kgkit.run import Run

_GRID = (50.0, 100.0, 200.0, 500.0)
_BYTES_A_CELL = 40  # X^T X, its factor, the inverses of both and a copy in double precision


class EASE(Recommender):
    """Scores an item by learned item-to-item weights of what the user bought."""

    name = "ease"
    task = Task.RECOMMENDATION
    paper = Paper(
        authors="Steck",
        year=2019,
        venue="WWW",
        title="Embarrassingly Shallow Autoencoders for Sparse Data",
        arxiv="1905.03375",
    )
    queries = (PURCHASES,)
    unknown = 0.0  # no chain of purchases leads to it from what the user bought

    @dataclass(frozen=True)
    class Config(ModelConfig):
        """Options of ease."""

        tune: bool = option(True, "pick l2 by recall@20 on validation, from a grid and the one given")
        l2: float = option(200.0, "regularisation lambda of Eq. 4", gt=0)
        max_gib: float = option(8.0, "refuse to make dense matrices of all items that need more memory", gt=0)

    chosen: dict[str, Any]  # the options in use and, if tuned, their validation recall
    bought: csr_matrix  # X, float32 [users, items]
    weights: torch.Tensor  # B, float32 [items, items]

    def receptive_field(self) -> int:
        return 0

    def fit(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        c = self.config
        gib = split.items**2 * _BYTES_A_CELL / 2**30
        if gib > c.max_gib:
            raise ConfigError(
                f"ease needs about {gib:.1f} GiB for {split.items:,} items, over --max-gib {c.max_gib:g}: "
                "raise it, or use itemknn"
            )
        self.bought = profiles(split)
        gram = torch.from_numpy((self.bought.T @ self.bought).toarray()).double()

        def make(setting: dict[str, Any]) -> torch.Tensor:
            return item_weights(gram, setting["l2"])

        if c.tune:
            grid = [{"l2": l2} for l2 in sorted({*_GRID, c.l2})]
            self.chosen = choose(self, split, grid, make, self._use, seed=c.seed)
        else:
            self.chosen = {"l2": c.l2}
            self._use(make(self.chosen))

    def _use(self, weights: torch.Tensor) -> None:
        self.weights = weights

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        bought = self.bought[users.numpy()]
        pair = np.repeat(np.arange(len(items)), np.diff(bought.indptr))
        weights = self.weights.numpy()[bought.indices, items.numpy()[pair]]
        return torch.from_numpy(np.bincount(pair, weights, len(items)).astype(np.float32))

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.bought[users.numpy()] @ self.weights.numpy())


def item_weights(gram: torch.Tensor, l2: float) -> torch.Tensor:
    """Eq. 8. gram: X^T X, float64 [items, items] -> B, float32 [items, items], its diagonal 0."""
    one = torch.eye(len(gram), dtype=gram.dtype)
    # The inverse by way of its factor: quicker than a general inverse, and than LAPACK's for Cholesky.
    inverse_of_lower = torch.linalg.solve_triangular(torch.linalg.cholesky(gram + l2 * one), one, upper=False)
    inverse = inverse_of_lower.T @ inverse_of_lower
    inverse /= -inverse.diagonal().clone()
    # Row by row in memory: scipy would copy it at every product otherwise.
    weights: torch.Tensor = inverse.float().fill_diagonal_(0).contiguous()
    return weights


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [EASE]
