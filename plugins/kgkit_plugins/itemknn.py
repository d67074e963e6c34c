"""ItemKNN: items bought by the same users are alike (Deshpande and Karypis, TOIS 2004).

x_i is the column of item i in the purchase matrix X, N_k(i) the k items most similar to i (equals draw lots by
the seed).

    sim(i, j) = <x_i, x_j> / (|x_i| |x_j| + shrink)         cosine, less where few users bought either
    y(u, i)   = sum of sim(i, j) over the j in N_k(i) that u bought

With tf-idf, x_i counts each user by log(items / items the user bought): who buys everything says little. The
weights are scaled to a mean square of 1 over all purchases, so that shrink means the same with and without.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from kgkit.config import option
from kgkit.evaluate.protocol import choose
from kgkit.evaluate.ranking import best_items
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

_GRID = {"weighting": ("none", "tf-idf"), "shrink": (0.0, 10.0, 30.0, 100.0), "neighbours": (50, 200, 1000)}
_BLOCK = 1 << 24  # similarities held densely at once


class ItemKNN(Recommender):
    """Scores an item by its similarity to what the user bought."""

    name = "itemknn"
    task = Task.RECOMMENDATION
    paper = Paper(
        authors="Deshpande, Karypis",
        year=2004,
        venue="TOIS",
        title="Item-Based Top-N Recommendation Algorithms",
    )
    queries = (PURCHASES,)
    unknown = 0.0  # nobody bought it together with what the user bought

    @dataclass(frozen=True)
    class Config(ModelConfig):
        """Options of itemknn."""

        tune: bool = option(
            True, "pick the options below by recall@20 on validation, from a grid and those given"
        )
        neighbours: int = option(200, "similar items kept for each item, k", ge=1)
        shrink: float = option(30.0, "added to the denominator of the cosine", ge=0)
        weighting: str = option("tf-idf", "how users count in a similarity", choices=("none", "tf-idf"))

    chosen: dict[str, Any]  # the options in use and, if tuned, their validation recall
    bought: csr_matrix  # X, float32 [users, items]
    weights: csr_matrix  # W, float32 [items, items], row i: sim(i, j) of the neighbours j of item i

    def receptive_field(self) -> int:
        return 0

    def fit(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        c = self.config
        self.bought = profiles(split)
        given = {name: asdict(c)[name] for name in _GRID}
        if not c.tune:
            self.chosen = given
            found = nearest(self.bought, c.neighbours, c.shrink, c.weighting, c.seed)
            self._use(weights_of(*found, c.neighbours))
            return
        most = max(*_GRID["neighbours"], c.neighbours)
        settings = [dict(zip(_GRID, values, strict=True)) for values in product(*_GRID.values())]
        made: dict[tuple[str, float], tuple[torch.Tensor, torch.Tensor]] = {}

        def make(setting: dict[str, Any]) -> csr_matrix:
            kind = setting["weighting"], setting["shrink"]
            if kind not in made:
                made.clear()  # settings of one kind follow one another: the last is enough
                made[kind] = nearest(self.bought, most, setting["shrink"], setting["weighting"], c.seed)
            return weights_of(*made[kind], setting["neighbours"])

        if given not in settings:
            settings.insert(0, given)
        self.chosen = choose(self, split, settings, make, self._use, seed=c.seed)

    def _use(self, weights: csr_matrix) -> None:
        self.weights = weights

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        scores = self.bought[users.numpy()].multiply(self.weights[items.numpy()]).sum(axis=1)
        return torch.from_numpy(np.asarray(scores, dtype=np.float32).reshape(-1))

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy((self.bought[users.numpy()] @ self.weights.T).toarray())


def nearest(
    bought: csr_matrix, k: int, shrink: float, weighting: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k items most similar to each, best first: ids int64, similarities float32 [items, at most k].

    Equally similar ones draw lots by the seed.
    """
    from scipy.sparse import diags

    if weighting == "tf-idf":
        owned = np.maximum(np.diff(bought.indptr), 1)
        rarity = np.log(bought.shape[1] / owned)
        rarity /= np.sqrt((rarity**2 * np.diff(bought.indptr)).sum() / bought.nnz) or 1
        bought = diags(rarity.astype(np.float32)) @ bought
    vectors, norm = bought.T.tocsr(), np.sqrt(np.asarray(bought.multiply(bought).sum(0)).ravel())
    block = max(1, _BLOCK // len(norm))
    found = []
    for at in range(0, len(norm), block):
        part = (vectors[at : at + block] @ bought).toarray()
        scale = np.outer(norm[at : at + block], norm) + shrink
        part /= np.where(scale > 0, scale, 1).astype(np.float32)  # an item that nobody bought is like none
        mine = at + np.arange(len(part))
        part[np.arange(len(part)), mine] = 0  # nor is an item its own neighbour
        found.append(best_items(torch.from_numpy(part), min(k, len(norm)), mine, seed))
    items, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
    return items, similarity


def weights_of(items: torch.Tensor, similarity: torch.Tensor, k: int) -> csr_matrix:
    """W from the first k neighbours of each item: int64, float32 [items, at least k] -> [items, items]."""
    from scipy.sparse import csr_matrix

    column, value = items[:, :k].numpy(), similarity[:, :k].numpy()
    row, at = np.nonzero(value > 0)
    return csr_matrix((value[row, at], (row, column[row, at])), shape=(len(column), len(column)))


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [ItemKNN]
