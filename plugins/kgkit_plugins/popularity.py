"""Popularity: the same ranking for everyone (TopPop in Cremonesi et al., RecSys 2010).

    y(u, v) = |{u' : (u', v) is a training purchase}|

It knows neither user nor graph, and on sparse data it is hard to beat: every table should show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.hookspecs import hookimpl
from kgkit.lazy import np, torch
from kgkit.model import Model, ModelConfig, Paper, Recommender, Task
from kgkit.queries import PURCHASES

if TYPE_CHECKING:
    from kgkit.evaluate.splits import Split
    from kgkit.graph import TrainingGraph
    from kgkit.run import Run


class Popularity(Recommender):
    """Scores an item by how many users bought it."""

    name = "popularity"
    task = Task.RECOMMENDATION
    paper = Paper(
        authors="Cremonesi, Koren, Turrin",
        year=2010,
        venue="RecSys",
        title="Performance of Recommender Algorithms on Top-N Recommendation Tasks",
    )
    queries = (PURCHASES,)
    unknown = 0.0  # nobody bought it

    @dataclass(frozen=True)
    class Config(ModelConfig):
        """Options of popularity: only the seed of split and negatives."""

    count: torch.Tensor  # float32 [items]

    def receptive_field(self) -> int:
        return 0

    def fit(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        bought = split.train.positives().item
        self.count = torch.from_numpy(np.bincount(bought, minlength=split.items).astype(np.float32))

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.count[items]

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        return self.count.expand(len(users), -1)


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [Popularity]
