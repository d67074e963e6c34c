"""The base of all models trained by gradient: options, parameters in a dict, one loop, weights kept with the run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.lazy import torch
from kgkit.model import Model, ModelConfig

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.graph import TrainingGraph
    from kgkit.run import Run

Parameters = dict[str, "torch.Tensor"]
# Parameters whose names begin so are kept and restored, but follow the data instead of a gradient (batch norm's means).
RUNNING = "running_"


@dataclass(frozen=True)
class GradientConfig(ModelConfig):
    """Options of every model trained by gradient. A model gives its own defaults by writing the field again."""

    epochs: int = option(10, "passes over the training examples", ge=1)
    batch_size: int = option(128, "examples a step", ge=1)
    learning_rate: float = option(5e-4, "learning rate eta of the optimiser", gt=0)
    patience: int = option(0, "stop after so many epochs without a better validation metric (0: never)", ge=0)
    validate_every: int = option(1, "epochs between two looks at validation, with a checkpoint each", ge=1)
    device: str = option("auto", "where tensors live", choices=("auto", "cpu", "cuda"))
    fused: bool = option(True, "use the compiled training kernel where there is one (CPU with a C compiler)")


class Optimiser(Protocol):
    """What the loop asks of an optimiser: to be resumable."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Phase:
    """One kind of training step within an epoch. Plain models have one; alternating ones have several.

    examples: how many; an epoch takes each once, in an order of its own.
    loss: from parameters and the rows of this batch (int64 [B], positions among `examples`) to a scalar, for the loop
    to differentiate. None where `steps` does it all.
    steps: runs a whole stretch of batches by itself: (optimiser, order int64 [n]) -> mean loss of its batches.
    """

    name: str
    examples: int
    loss: Callable[[Parameters, torch.Tensor], torch.Tensor] | None
    steps: Callable[[Any, torch.Tensor], float] | None = None


class GradientModel(Model):
    """A model whose parameters a loop improves (`kgkit.train.loop`)."""

    graph: TrainingGraph
    split: Any
    device: torch.device
    parameters: Parameters

    @abstractmethod
    def setup(self, generator: torch.Generator) -> None:
        """Prepares what stays fixed (sampled neighbours, say) from self.graph and self.split, on self.device."""

    @abstractmethod
    def init(self, generator: torch.Generator) -> Parameters:
        """The initial parameters, made on the CPU so that a seed means the same on every device."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The steps of an epoch, in order."""

    @abstractmethod
    def validate(self) -> float:
        """The validation metric of `config.select`; higher is better."""

    def make_optimiser(self) -> Optimiser:
        """Adam over all parameters."""
        return torch.optim.Adam(list(self.trained().values()), lr=self.config.learning_rate)

    def trained(self) -> Parameters:
        """The parameters that have a gradient."""
        return {k: v for k, v in self.parameters.items() if not k.startswith(RUNNING)}

    def epoch_begins(self, generator: torch.Generator) -> None:
        """Told before each epoch, with a generator that depends on seed and epoch alone."""

    def tables(self) -> dict[str, str]:
        """Which parameter holds the vectors of a label: {"User": "user", ...}."""
        return {"User": "user", "Entity": "entity"}

    def fit(self, graph: TrainingGraph, split: Any, run: Run) -> None:
        from kgkit.train.loop import train

        self.prepare(graph, split)
        self.begin_from(self.start or {})
        train(self, run)

    def restore(self, graph: TrainingGraph, split: Any, run: Run) -> None:
        self.prepare(graph, split)
        saved = run.load_weights({k: v.cpu().numpy() for k, v in self.parameters.items()})
        self.parameters = {k: torch.from_numpy(v).to(self.device) for k, v in saved.items()}

    def prepare(self, graph: TrainingGraph, split: Any) -> None:
        """Everything before the first step: device, fixed tensors, initial parameters, all by the seed."""
        self.graph, self.split = graph, split
        self.device = pick_device(self.config.device)
        generator = torch.Generator().manual_seed(self.config.seed)
        self.setup(generator)
        self.parameters = {k: v.to(self.device) for k, v in self.init(generator).items()}

    def begin_from(self, vectors: Mapping[str, Floats]) -> None:
        """Puts another model's vectors in place of the initial ones.

        vectors: by label, float32 [rows, d]. Raises ConfigError when none fits, or one has another size.
        """
        tables = self.tables()
        fitting = {
            label: v for label, v in vectors.items() if tables.get(label) in self.parameters and v.size
        }
        if vectors and not fitting:
            raise ConfigError(
                f"--init-from: {self.name} has no table for the vectors of {', '.join(vectors)}"
            )
        for label, given in fitting.items():
            table = self.parameters[tables[label]]
            if tuple(given.shape) != tuple(table.shape):
                raise ConfigError(
                    f"--init-from: its {label} vectors are {given.shape[0]:,} of {given.shape[1]} dimensions, and "
                    f"{self.name} has {table.shape[0]:,} of {table.shape[1]}: train with --dim to match"
                )
            with torch.no_grad():
                table.copy_(torch.from_numpy(given))

    def embeddings(self) -> dict[str, Floats]:
        """The tables of `tables`, as they go back into the graph."""
        return {
            label: self.parameters[table].detach().cpu().numpy()
            for label, table in self.tables().items()
            if table in self.parameters
        }


def pick_device(name: str) -> torch.device:
    """`auto` takes the GPU when there is one. Raises ConfigError when cuda is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU on this machine; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
