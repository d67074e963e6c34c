"""Adam, Adagrad and SGD that change only the rows of a table that a batch touched, so that a step's cost follows the
batch and not the table.

    adam      m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
              p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)                 (Kingma and Ba 2015, section 2)
    adagrad   v = v + g^2;  p -= lr g / (sqrt(v) + epsilon)                                (Duchi et al. 2011)
    sgd       p -= lr g

Rows are updated as `torch.optim.SparseAdam` and `torch.optim.Adagrad` do with sparse gradients: moments of rows that
were not touched do not decay, and t counts all steps. A tensor given whole is updated as by `torch.optim.Adam`, which
adds epsilon after the correction of v instead of before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from kgkit.lazy import torch
from kgkit.native import rows as native
from kgkit.native.rows import RowStep

Name = Literal["adam", "adagrad", "sgd"]
STATES: Mapping[Name, tuple[str, ...]] = {"adam": ("mean", "square"), "adagrad": ("square",), "sgd": ()}


class RowOptimiser:
    """Updates tables in place, and keeps their moments beside them.

    Each step: `begin_step()`, then `update(...)` at most once a table.
    """

    def __init__(
        self,
        name: Name,
        tables: Mapping[str, torch.Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float | None = None,
        max_norm: Mapping[str, float] | None = None,
        unit_norm: Mapping[str, float] | None = None,
        rates: Mapping[str, float] | None = None,
        fused: bool = True,
    ) -> None:
        """tables: float32 tensors by name, on any device; a row is an index of the first dimension.

        lr: learning rate, which may be changed between steps (`.lr`). epsilon: 1e-8 for Adam, 1e-10 for Adagrad,
        torch's defaults. max_norm, unit_norm: by table, the Euclidean norm that each touched row must not exceed, or
        must have, after its update (a row of zeros stays). rates: by table, what its learning rate is multiplied by
        (1 unless given). fused: use the compiled kernel on the CPU.
        """
        if name not in STATES:
            raise ValueError(f"expected adam, adagrad or sgd, got {name}")
        self.name: Name = name
        self.lr, self.betas = lr, betas
        self.epsilon = {"adam": 1e-8, "adagrad": 1e-10}.get(name, 0.0) if epsilon is None else epsilon
        self.step = 0
        self._tables = dict(tables)
        self._max_norm, self._unit_norm = dict(max_norm or {}), dict(unit_norm or {})
        if unknown := ({*self._max_norm, *self._unit_norm} - set(tables)):
            raise ValueError(f"norm constraints name unknown tables: {', '.join(sorted(unknown))}")
        self._rates = dict(rates or {})
        self._fused = fused
        self._state = {
            (table, state): torch.zeros_like(tensor, requires_grad=False)
            for table, tensor in tables.items()
            for state in STATES[name]
        }

    def begin_step(self) -> None:
        """Counts a step, once for all tables."""
        self.step += 1

    def update(self, table: str, rows: torch.Tensor | None, gradient: torch.Tensor) -> None:
        """Takes this step in one table: rows int64 [U], distinct, gradient float32 [U, ...].

        rows None: the gradient is the whole tensor's, float32 [N, ...]. Raises ValueError where shapes or indices do
        not fit, RuntimeError before the first `begin_step`.
        """
        if self.step == 0:
            raise RuntimeError("call begin_step() before update()")
        tensor = self._tables[table].detach()
        mean, square = self._state.get((table, "mean")), self._state.get((table, "square"))
        step = self._numbers(table, whole=rows is None)
        if self._fused and tensor.device.type == "cpu" and native.available():
            native.update_rows(step, tensor, mean, square, rows, gradient)
        else:
            update_rows(step, tensor, mean, square, rows, gradient)

    def _numbers(self, table: str, whole: bool) -> RowStep:
        rate, epsilon = self.lr * self._rates.get(table, 1.0), self.epsilon
        if self.name == "adam":
            correction = math.sqrt(1 - self.betas[1] ** self.step)
            rate *= correction / (1 - self.betas[0] ** self.step)
            if whole:
                epsilon *= correction
        return RowStep(
            self.name,
            rate,
            epsilon,
            1 - self.betas[0],
            1 - self.betas[1],
            self._max_norm.get(table, 0.0),
            self._unit_norm.get(table, 0.0),
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs: `step`, `lr`, and each table's moments as `table.moment`, copies on the CPU."""
        return {
            "step": torch.tensor(self.step),
            "lr": torch.tensor(self.lr, dtype=torch.float64),
            **{f"{table}.{state}": t.cpu().clone() for (table, state), t in self._state.items()},
        }

    def load_state_dict(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Brings a state back. Raises ValueError if it is of other tables or of another optimiser."""
        own = {f"{table}.{state}": tensor for (table, state), tensor in self._state.items()}
        if set(saved) != {"step", "lr", *own}:
            raise ValueError(f"the saved state is not of {self.name} over {', '.join(self._tables)}")
        for key, tensor in own.items():
            if saved[key].shape != tensor.shape:
                raise ValueError(
                    f"the saved {key} is {list(saved[key].shape)}, the table {list(tensor.shape)}"
                )
            tensor.copy_(saved[key])
        self.step, self.lr = int(saved["step"]), float(saved["lr"])


def update_rows(
    step: RowStep,
    table: torch.Tensor,
    mean: torch.Tensor | None,
    square: torch.Tensor | None,
    rows: torch.Tensor | None,
    gradient: torch.Tensor,
) -> None:
    """The twin of `kgkit.native.rows.update_rows`, on any device."""
    if rows is None:
        rows = torch.arange(len(table), device=table.device)
    expected = (len(rows), *table.shape[1:])
    if gradient.shape != expected:
        raise ValueError(f"expected a gradient of shape {list(expected)}, got {list(gradient.shape)}")
    direction = gradient
    if mean is not None:
        moment = mean[rows]
        direction = moment + (gradient - moment) * step.mean_share
        mean.index_copy_(0, rows, direction)
    if square is not None:
        moment = square[rows]
        if step.kind == "adam":
            moment = moment + (gradient.square() - moment) * step.square_share
        else:
            moment = moment + gradient.square()
        square.index_copy_(0, rows, moment)
        direction = direction / (moment.sqrt() + step.epsilon)
    row = table[rows] - step.rate * direction
    if step.max_norm or step.unit_norm:
        norm = row.flatten(1).norm(dim=1)
        by = torch.ones_like(norm)
        if step.unit_norm:
            by = torch.where(norm > 0, step.unit_norm / norm, by)
        else:
            by = torch.where(norm > step.max_norm, step.max_norm / norm, by)
        row = row * by.view(-1, *[1] * (row.dim() - 1))
    table.index_copy_(0, rows, row)
