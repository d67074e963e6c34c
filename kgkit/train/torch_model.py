"""The base of recommenders trained by gradient: tables and weights in a dict, equations as methods, one loop.

A subclass writes `setup` (what is fixed before training), `init` (the parameters), `logit` (the paper's prediction) and
`loss`; it may bring a fused epoch (`fused_epoch`) that computes the same faster, and a faster `score_items`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.lazy import torch
from kgkit.model import ModelConfig, Recommender

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.evaluate.splits import Split
    from kgkit.graph import TrainingGraph
    from kgkit.run import Run

Parameters = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class TorchConfig(ModelConfig):
    """Options of every model trained by gradient."""

    epochs: int = option(10, "passes over the training pairs", ge=1)
    batch_size: int = option(128, "labelled pairs a step", ge=1)
    learning_rate: float = option(5e-4, "learning rate eta of Adam", gt=0)
    patience: int = option(0, "stop after so many epochs without a better validation metric (0: never)", ge=0)
    select: str = option(
        "auc", "validation metric that picks the best epoch", choices=("auc", "recall@20", "ndcg@20")
    )
    device: str = option("auto", "where tensors live", choices=("auto", "cpu", "cuda"))
    fused: bool = option(True, "use the compiled training kernel where there is one (CPU with a C compiler)")


@dataclass(frozen=True)
class Phase:
    """One kind of training step within an epoch. Plain models have one; alternating ones have several.

    loss: from parameters and the rows of this batch (int64 [B], positions among `examples`) to a scalar.
    fused: runs a whole stretch of batches in compiled code: (optimiser, order int64 [n]) -> mean loss, or None.
    """

    name: str
    examples: int
    loss: Callable[[Parameters, torch.Tensor], torch.Tensor]
    fused: Callable[[torch.optim.Adam, torch.Tensor], float] | None = None


class TorchRecommender(Recommender):
    """A recommender trained by Adam on labelled pairs with cross-entropy unless it says otherwise."""

    logits = True
    graph: TrainingGraph
    split: Split
    device: torch.device
    parameters: Parameters

    @abstractmethod
    def setup(self, generator: torch.Generator) -> None:
        """Prepares what stays fixed (sampled neighbours, say) from self.graph and self.split, on self.device."""

    @abstractmethod
    def init(self, generator: torch.Generator) -> Parameters:
        """The initial parameters, made on the CPU so that a seed means the same on every device."""

    @abstractmethod
    def logit(self, p: Parameters, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """users, items: int64 [B] -> float32 [B]."""

    @abstractmethod
    def loss(
        self, p: Parameters, users: torch.Tensor, items: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """users, items: int64 [B]; labels: float32 [B] -> scalar."""

    def fused_epoch(self) -> Callable[[torch.optim.Adam, torch.Tensor], float] | None:
        """The compiled twin of a stretch of batches, or None. Must equal `loss` + Adam to rounding (tested)."""
        return None

    def phases(self) -> list[Phase]:
        """The steps of an epoch, in order."""
        users, items, labels = (t.to(self.device) for t in self.split.train.tensors())

        def loss(p: Parameters, rows: torch.Tensor) -> torch.Tensor:
            return self.loss(p, users[rows], items[rows], labels[rows])

        return [Phase("pairs", len(labels), loss, self.fused_epoch() if self.config.fused else None)]

    def fit(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        from kgkit.train.loop import train

        self.prepare(graph, split)
        train(self, run)

    def restore(self, graph: TrainingGraph, split: Split, run: Run) -> None:
        saved = run.load_tensors("model.pt")
        if saved is None:
            raise ConfigError(f"run {run.id} has no weights: finish it with `kgkit train --resume {run.id}`")
        self.prepare(graph, split)
        self.parameters = {k: v.to(self.device) for k, v in saved["parameters"].items()}

    def prepare(self, graph: TrainingGraph, split: Split) -> None:
        """Everything before the first step: device, fixed tensors, initial parameters, all by the seed."""
        self.graph, self.split = graph, split
        self.device = pick_device(self.config.device)
        generator = torch.Generator().manual_seed(self.config.seed)
        self.setup(generator)
        self.parameters = {k: v.to(self.device) for k, v in self.init(generator).items()}

    def score_pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.logit(self.parameters, users.to(self.device), items.to(self.device))

    def score_items(self, users: torch.Tensor) -> torch.Tensor:
        n = len(self.graph.items)
        every = torch.arange(n, device=self.device)
        users = users.to(self.device)
        with torch.no_grad():
            flat = self.logit(self.parameters, users.repeat_interleave(n), every.repeat(len(users)))
        return flat.view(len(users), n)

    def embeddings(self) -> dict[str, Floats]:
        """The tables named `user` and `entity`, as they go back into the graph."""
        return {
            label: self.parameters[table].detach().cpu().numpy()
            for label, table in (("User", "user"), ("Entity", "entity"))
            if table in self.parameters
        }


def pick_device(name: str) -> torch.device:
    """`auto` takes the GPU when there is one. Raises ConfigError when cuda is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU on this machine; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
