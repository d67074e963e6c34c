"""Optimiser steps on some rows of a table, compiled; `kgkit.train.row_optimiser` says what they compute."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from kgkit.lazy import torch
from kgkit.native.build import load
from kgkit.native.tensors import checked, indices, pointer
from kgkit.native.threads import thread_count

KINDS = ("adam", "adagrad", "sgd")  # in the order of the enum in rows.c
_WORTH_THREADS = 100_000  # numbers an update
_STRETCH = 4096  # numbers that a thread takes together where rows do not matter


@dataclass(frozen=True)
class RowStep:
    """The numbers of one step. rate and epsilon as in p -= rate m / (sqrt(v) + epsilon), bias correction included.

    mean_share, square_share: Adam's 1 - beta1 and 1 - beta2. max_norm, unit_norm: Euclidean norm that a row must not
    exceed, or must have, after the step; 0 for none.
    """

    kind: str
    rate: float
    epsilon: float = 0.0
    mean_share: float = 0.0
    square_share: float = 0.0
    max_norm: float = 0.0
    unit_norm: float = 0.0


class _Step(ctypes.Structure):
    """`Step` of rows.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "width", "total", "threads")),
        *((n, ctypes.c_float) for n in ("rate", "epsilon", "mean_share", "square_share", "most", "unit")),
    ]


def available() -> bool:
    """Whether the kernel compiles here."""
    return load("rows") is not None


def update_rows(
    step: RowStep,
    table: torch.Tensor,
    mean: torch.Tensor | None,
    square: torch.Tensor | None,
    rows: torch.Tensor | None,
    gradient: torch.Tensor,
) -> None:
    """One step in place. Call it only where `available`.

    table, and moments as the kind has them: float32 [N, ...]; rows: int64 [U], distinct; gradient: float32 [U, ...].
    Without rows, the gradient is the whole table's. Raises ValueError where shapes or indices do not fit.
    """
    library = load("rows")
    if library is None:
        raise RuntimeError("compiled kernels are not available")
    for tensor in (table, mean, square):
        if tensor is not None:
            checked(tensor, torch.float32, table.dim())
    gradient = checked(gradient.contiguous(), torch.float32, table.dim())
    expected = table.shape if rows is None else (len(rows), *table.shape[1:])
    if gradient.shape != expected:
        raise ValueError(f"expected a gradient of shape {list(expected)}, got {list(gradient.shape)}")
    total, width = table.numel(), table.shape[1:].numel()
    if rows is None:
        if not (step.max_norm or step.unit_norm):
            width = _STRETCH
        n = -(-total // max(width, 1))
    else:
        rows = indices(rows.contiguous(), len(table))
        n = len(rows)
    threads = thread_count() if gradient.numel() >= _WORTH_THREADS else 1
    library.kgkit_rows_update(
        ctypes.byref(
            _Step(
                KINDS.index(step.kind),
                width,
                total,
                threads,
                step.rate,
                step.epsilon,
                step.mean_share,
                step.square_share,
                step.max_norm,
                step.unit_norm,
            )
        ),
        pointer(table),
        pointer(mean),
        pointer(square),
        pointer(rows),
        ctypes.c_int64(n),
        pointer(gradient),
    )
