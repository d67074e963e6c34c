"""The contract of a model plugin.

A plugin is one file: a subclass of Recommender or LinkPredictor (or of `TorchRecommender`, `KGEModel` in `kgkit.train`,
which bring the training) and a `register_models` hook. It describes the subgraph it needs as queries, and never sees a
store.
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
    from kgkit.evaluate.triple_split import TripleSplit
    from kgkit.graph import TrainingGraph
    from kgkit.nn.similarity import Candidates, Similarity
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
    start: Mapping[str, Floats] | None = (
        None  # vectors by label ("Entity", ...) to begin with, from another run
    )

    def __init__(self, config: Any) -> None:
        self.config = config

    def receptive_field(self) -> int | None:
        """How many hops of facts around the items the model can see (`--hops auto`); None for all of them."""
        return None

    @abstractmethod
    def fit(self, graph: TrainingGraph, split: Any, run: Run) -> None:
        """Trains on `split.train`, selects on `split.valid`, and never looks at `split.test`.

        split: a Split of pairs for recommenders, a TripleSplit of facts for link predictors.
        """

    def restore(self, graph: TrainingGraph, split: Any, run: Run) -> None:
        """Brings back what `fit` left, for evaluation. Closed forms are as quick to fit again."""
        self.fit(graph, split, run)

    def embeddings(self) -> dict[str, Floats]:
        """Vectors to write back by label: {"User": float32 [users, d], "Entity": float32 [entities, d]}."""
        return {}

    def extra_weights(self) -> dict[str, dict[str, Floats]]:
        """What else to write back, so that the graph answers without the run's folder: by label, then by name.

        Arrays have a row for each node of the label; those of the label "" are of no node, and of any shape.
        """
        return {}


class Recommender(Model):
    """A model that scores items for users. Scores: higher is likelier; only their order matters unless `logits`."""

    task = Task.RECOMMENDATION
    logits: ClassVar[bool] = False  # scores are logits, so that a probability of 0.5 is at 0 (F1's threshold)
    # The score of an item of which the model knows nothing for this user: what is no better is never recommended.
    unknown: ClassVar[float | None] = None

    @abstractmethod
    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """users, items: int64 [B] dense ids -> float32 [B]."""

    @abstractmethod
    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        """users: int64 [B] -> float32 [B, items], every item for each user."""


class LinkPredictor(Model):
    """A model that scores facts: a query (what head and relation ask, or relation and tail) against candidates.

    The score of (h, r, t) is `similarity` of its tail query with candidate t; of its head query with candidate h it is
    the same, except for models of reciprocal relations, which have two scores for a fact and mean the one asked for.
    """

    task = Task.LINK_PREDICTION
    queries = (TRIPLES,)
    similarity: Similarity  # of queries and candidates: how the score is had
    relational: bool = False  # candidates differ from relation to relation

    @abstractmethod
    def tail_queries(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """What (h, r, ?) asks. heads, relations: int64 [B] dense ids -> float32 [B, d], without gradient."""

    @abstractmethod
    def head_queries(self, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """What (?, r, t) asks. relations, tails: int64 [B] dense ids -> float32 [B, d], without gradient."""

    @abstractmethod
    def candidates(self, relation: int | None = None) -> Candidates:
        """All entities as answers, table [entities, d], without gradient; of one relation if `relational`."""

    @abstractmethod
    def restore(self, graph: TrainingGraph, split: TripleSplit, run: Run) -> None: ...
