"""The contract of a model plugin.

A plugin is one file: a subclass of Recommender (or of `kgkit.train.torch_model.TorchRecommender`, which brings the
training loop) and a `register_models` hook. It describes the subgraph it needs as queries, and never sees a store.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kgkit.config import option
from kgkit.queries import PURCHASES, TRIPLES, EdgeQuery

if TYPE_CHECKING:
    import torch

    from kgkit.arrays import Floats
    from kgkit.evaluate.splits import Split
    from kgkit.graph import TrainingGraph
    from kgkit.run import Run


class Task(enum.StrEnum):
    """What a model is for; it decides the split, the metrics and what is written back."""

    RECOMMENDATION = "recommendation"
    LINK_PREDICTION = "link-prediction"
    PROSPECTING = "prospecting"


@dataclass(frozen=True)
class Paper:
    """Where a model comes from."""

    authors: str
    year: int
    venue: str
    title: str
    arxiv: str = ""

    def __str__(self) -> str:
        return f"{self.authors}, {self.venue} {self.year}" + (f", arXiv:{self.arxiv}" if self.arxiv else "")


@dataclass(frozen=True)
class ModelConfig:
    """Options of every model."""

    seed: int = option(0, "seed of split, negatives, sampling and initial weights", ge=0)


class Model(ABC):
    """Identity, needs and training of a plugin."""

    name: ClassVar[str]
    task: ClassVar[Task]
    paper: ClassVar[Paper]
    Config: ClassVar[type]
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # data set -> the paper's settings
    queries: ClassVar[tuple[EdgeQuery, ...]] = (PURCHASES, TRIPLES)  # what it reads from the graph

    def __init__(self, config: Any) -> None:
        self.config = config

    def receptive_field(self) -> int | None:
        """How many hops of facts around the items the model can see (`--hops auto`); None for all of them."""
        return None

    @abstractmethod
    def fit(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        """Trains on `split.train`, selects on `split.valid`, and never looks at `split.test`."""

    def restore(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        """Brings back what `fit` left, for evaluation. Closed forms are as quick to fit again."""
        self.fit(graph, split, run)

    def embeddings(self) -> dict[str, Floats]:
        """Vectors to write back by label: {"User": float32 [users, d], "Entity": float32 [entities, d]}."""
        return {}


class Recommender(Model):
    """A model that scores items for users. Scores: higher is likelier; only their order matters unless `logits`."""

    task = Task.RECOMMENDATION
    logits: ClassVar[bool] = False  # scores are logits, so that a probability of 0.5 is at 0 (F1's threshold)

    @abstractmethod
    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """users, items: int64 [B] dense ids -> float32 [B]."""

    @abstractmethod
    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        """users: int64 [B] -> float32 [B, items], every item for each user."""
