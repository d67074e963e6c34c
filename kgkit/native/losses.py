"""Losses of every candidate's score at once (1-vs-all, k-vs-all), with their gradients, in one pass on the CPU.

    bce_with_logits_rows    sum_i log(1 + e^x_i) - y_i x_i,   y = (1 - s) [i positive] + s / N           (Dettmers 2018)
    cross_entropy_rows      -sum_i y_i log softmax(x)_i,      y = (1 - s) [i positive] / n + s / N  (Kadlec et al. 2017)

of a row of N scores x with n positives and label smoothing s. Elsewhere than on the CPU, and without a compiler, torch
computes the same.
"""

from __future__ import annotations

import ctypes
from typing import Any

from kgkit.lazy import torch
from kgkit.native.build import load
from kgkit.native.tensors import checked
from kgkit.native.threads import thread_count

_WORTH_THREADS = 100_000  # scores


def bce_with_logits_rows(
    scores: torch.Tensor,
    start: torch.Tensor,
    items: torch.Tensor,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    overwrite: bool = False,
) -> torch.Tensor:
    """Binary cross-entropy of each row, summed over its candidates: float32 [B, N] -> [B], times `scale`.

    start: int64 [B + 1], items: int64 [P]: row b's positives are items[start[b]:start[b + 1]], distinct in a row.
    scale: 1 / (B N) makes the sum of the result the usual mean; given here rather than multiplied afterwards, it saves
    a pass over the gradient. overwrite: the gradient takes the place of the scores, which must then not be used again
    (autograd raises if an operation before this one kept them). Raises ValueError where positives do not fit.
    """
    return _rows("bce", scores, start, items, label_smoothing, scale, overwrite)


def cross_entropy_rows(
    scores: torch.Tensor,
    start: torch.Tensor,
    items: torch.Tensor,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    overwrite: bool = False,
) -> torch.Tensor:
    """Cross-entropy of each row's softmax with equal shares for its positives: float32 [B, N] -> [B], times `scale`.

    A row without positives costs nothing. Arguments as of `bce_with_logits_rows`.
    """
    return _rows("softmax", scores, start, items, label_smoothing, scale, overwrite)


def _rows(
    kind: str,
    scores: torch.Tensor,
    start: torch.Tensor,
    items: torch.Tensor,
    smoothing: float,
    scale: float,
    overwrite: bool,
) -> torch.Tensor:
    if start.shape != (len(scores) + 1,):
        raise ValueError(f"expected {len(scores) + 1} starts of positives, got {list(start.shape)}")
    library = load("losses") if scores.device.type == "cpu" and scores.dtype == torch.float32 else None
    if library is None:
        return by_torch(kind, scores, start, items, smoothing) * scale
    found: torch.Tensor = _function().apply(
        library, kind, scores, start, items, smoothing, scale, overwrite, torch.is_grad_enabled()
    )
    return found


def by_torch(
    kind: str, scores: torch.Tensor, start: torch.Tensor, items: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """The twin of both, on any device; kind: bce or softmax."""
    count = start.diff()
    if len(items) != int(start[-1]) or int(start[0]) != 0:
        raise ValueError("positives do not fit their starts")
    row = torch.repeat_interleave(torch.arange(len(scores), device=scores.device), count)
    target = torch.zeros_like(scores, requires_grad=False)
    target[row, items] = 1
    if kind == "bce":
        target = target * (1 - smoothing) + smoothing / scores.shape[1]
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(1)
    target = target / count.clamp_min(1)[:, None] * (1 - smoothing) + smoothing / scores.shape[1]
    return torch.where(count > 0, torch.nn.functional.cross_entropy(scores, target, reduction="none"), 0.0)


class _RowsStruct(ctypes.Structure):
    """`Rows` of losses.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "n", "threads")),
        *((name, ctypes.c_void_p) for name in ("scores", "start", "items")),
        *((name, ctypes.c_float) for name in ("smoothing", "scale")),
        *((name, ctypes.c_void_p) for name in ("loss", "gradient")),
    ]


def _function() -> Any:
    """The autograd function, made at first use: torch is not imported with this module."""
    global _made
    if _made is None:

        class RowLoss(torch.autograd.Function):
            @staticmethod
            def forward(
                ctx: Any,
                library: ctypes.CDLL,
                kind: str,
                scores: torch.Tensor,
                start: torch.Tensor,
                items: torch.Tensor,
                smoothing: float,
                scale: float,
                overwrite: bool,
                recorded: bool,
            ) -> torch.Tensor:
                x = scores.detach().contiguous()
                start, items = start.contiguous(), items.contiguous()
                (rows, n), loss = x.shape, torch.empty(len(x))
                ctx.gradient = None
                if recorded and scores.requires_grad:
                    ctx.gradient = x if overwrite else torch.empty_like(x)
                    if overwrite:
                        torch.autograd.graph.increment_version(scores)
                call = library.kgkit_losses_bce if kind == "bce" else library.kgkit_losses_softmax
                struct = _RowsStruct(
                    rows,
                    n,
                    thread_count() if rows * n >= _WORTH_THREADS else 1,
                    *(
                        checked(t, torch.int64, 1).data_ptr() if t is not x else x.data_ptr()
                        for t in (x, start, items)
                    ),
                    smoothing,
                    scale,
                    loss.data_ptr(),
                    None if ctx.gradient is None else ctx.gradient.data_ptr(),
                )
                if call(ctypes.byref(struct), ctypes.c_int64(len(items))):
                    raise ValueError(
                        f"positives must lie in 0..{n - 1}, and their starts rise to {len(items)}"
                    )
                return loss

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx: Any, by_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
                gradient = ctx.gradient
                if gradient is not None and not bool((by_loss == 1).all()):
                    gradient = gradient * by_loss[:, None]
                return (None, None, gradient, *[None] * 6)

        _made = RowLoss
    return _made


_made: Any = None
