"""The crossed similarities that no matrix product gives, l1 and modulus, compiled: scores and gradients."""

from __future__ import annotations

import ctypes
from typing import Any, Literal

from kgkit.lazy import torch
from kgkit.native.build import load
from kgkit.native.tensors import checked, pointer
from kgkit.native.threads import thread_count

Distance = Literal["l1", "modulus"]
KINDS: tuple[Distance, ...] = ("l1", "modulus")  # in the order of the enum in distance.c
_LANES = 16  # what a padded row is a multiple of
_WORTH_THREADS = 1_000_000  # differences


def crossed_similarity(kind: Distance, queries: torch.Tensor, table: torch.Tensor) -> torch.Tensor | None:
    """Minus the distance of every query and every candidate: float32 [B, d] and [N, d] -> [B, N], differentiable once.

    The twin of `kgkit.nn.similarity.crossed`. None where no kernel can run: not on the CPU, no compiler, not float32.
    """
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in (queries, table)):
        return None
    if queries.shape[1] != table.shape[1] or (kind == "modulus" and queries.shape[1] % 2):
        raise ValueError(f"{kind} of vectors of {queries.shape[1]} and {table.shape[1]} dimensions")
    if (library := load("distance")) is None:
        return None
    if not torch.is_grad_enabled() or not (queries.requires_grad or table.requires_grad):
        return _score(library, kind, queries.detach().contiguous(), table.detach().contiguous())
    found: torch.Tensor = _function().apply(kind, queries, table)
    return found


def _score(library: ctypes.CDLL, kind: Distance, queries: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    (rows, dim), n = queries.shape, len(table)
    out = torch.empty(rows, n)
    library.kgkit_distance_score.restype = ctypes.c_int32
    failed = library.kgkit_distance_score(
        ctypes.c_int64(KINDS.index(kind)),
        pointer(checked(queries, torch.float32, 2)),
        ctypes.c_int64(rows),
        pointer(checked(table, torch.float32, 2)),
        ctypes.c_int64(n),
        ctypes.c_int64(dim),
        pointer(out),
        ctypes.c_int32(_threads(rows * n * dim)),
    )
    if failed:
        raise MemoryError("scoring every query with every candidate")
    return out


def _gradient(
    library: ctypes.CDLL, kind: Distance, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """By x [B, d]: of sum_bn weight[b, n] * similarity(x_b, y_n). weight: [B, N], of any strides."""
    own, other = _padded(kind, x), _padded(kind, y)
    width = own.shape[1]
    out = torch.empty(len(x) + 1, width)
    library.kgkit_distance_gradient(
        ctypes.c_int64(KINDS.index(kind)),
        pointer(own),
        ctypes.c_int64(len(x)),
        pointer(other),
        ctypes.c_int64(len(y)),
        ctypes.c_int64(width),
        pointer(weight),
        *(ctypes.c_int64(stride) for stride in weight.stride()),
        pointer(out),
        ctypes.c_int32(_threads(len(x) * len(y) * width)),
    )
    parts = 2 if kind == "modulus" else 1
    return out[:-1].view(len(x), parts, -1)[..., : x.shape[1] // parts].reshape(x.shape)


def _padded(kind: Distance, x: torch.Tensor) -> torch.Tensor:
    """Rows, or each half of complex rows, filled up by zeros to a multiple of _LANES."""
    parts = 2 if kind == "modulus" else 1
    size = x.shape[1] // parts
    whole = torch.nn.functional.pad(x.reshape(len(x), parts, size), (0, -size % _LANES))
    return whole.reshape(len(x), -1).contiguous()


def _threads(differences: int) -> int:
    return thread_count() if differences >= _WORTH_THREADS else 1


def _function() -> Any:
    """The autograd function, made at first use: torch is not imported with this module."""
    global _made
    if _made is None:

        class Crossed(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, kind: Distance, queries: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
                library = load("distance")
                assert library is not None
                queries, table = queries.contiguous(), table.contiguous()
                ctx.save_for_backward(queries, table)
                ctx.kind, ctx.library = kind, library
                return _score(library, kind, queries, table)

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
                queries, table = ctx.saved_tensors
                _, by_query, by_table = ctx.needs_input_grad
                call = ctx.library, ctx.kind
                return (
                    None,
                    _gradient(*call, queries, table, weight) if by_query else None,
                    _gradient(*call, table, queries, weight.T) if by_table else None,
                )

        _made = Crossed
    return _made


_made: Any = None
