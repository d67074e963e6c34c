"""What entities hear from their neighbours in a relational graph convolution, and the gradients of that.

    edges = make_edges(source, relation, target, entities, relations)
    basis_messages(h, a, weight, edges)[t, b] = sum_e weight_e a[r_e, b] h[s_e]            over the edges e into t
    block_messages(h, q, weight, edges)[t]    = sum_e weight_e (q[r_e, 0] + q[r_e, 1] + ...) h[s_e]

On the CPU compiled code computes both and their gradients without a number an edge and dimension in memory; elsewhere,
and without a compiler, torch and autograd do.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from dataclasses import dataclass
from typing import Any, Literal

from kgkit.lazy import torch
from kgkit.native.build import load
from kgkit.native.tensors import checked, pointer
from kgkit.native.threads import thread_count

Kind = Literal["basis", "block"]
_PIECE = 1024  # most edges of a relation that are summed in one go


@dataclass(frozen=True)
class Edges:
    """Edges in three orders. source, relation, target: int32 [E], sorted by target, then relation, then source.

    by_source, by_relation: int32 [E], places of edges in those orders. *_start: int64, where each target's and each
    source's edges begin; piece_start: int64 [P + 1], where pieces of a relation's edges begin; relation_piece: int64
    [relations + 1], each relation's pieces.
    """

    entities: int
    relations: int
    source: torch.Tensor
    relation: torch.Tensor
    target: torch.Tensor
    target_start: torch.Tensor
    by_source: torch.Tensor
    source_start: torch.Tensor
    by_relation: torch.Tensor
    piece_start: torch.Tensor
    relation_piece: torch.Tensor

    def __len__(self) -> int:
        return len(self.source)


def make_edges(
    source: torch.Tensor, relation: torch.Tensor, target: torch.Tensor, entities: int, relations: int
) -> Edges:
    """source, relation, target: int64 [E], on one device. Raises ValueError for ids that are out of range."""
    if any(len(x) and not (0 <= int(x.min()) <= int(x.max()) < entities) for x in (source, target)):
        raise ValueError(f"sources and targets must lie in 0..{entities - 1}")
    if len(relation) and not 0 <= int(relation.min()) <= int(relation.max()) < relations:
        raise ValueError(f"relations must lie in 0..{relations - 1}")
    order = torch.argsort(source, stable=True)
    for key in (relation, target):
        order = order[torch.argsort(key[order], stable=True)]
    source, relation, target = source[order], relation[order], target[order]
    count = torch.bincount(relation, minlength=relations)
    pieces = (count + _PIECE - 1) // _PIECE
    relation_piece = _starts(pieces)
    of = torch.repeat_interleave(pieces)
    within = torch.arange(len(of), device=of.device) - relation_piece[of]
    piece_start = _starts(count)[of] + within * _PIECE
    end = torch.tensor([len(source)], device=of.device)
    return Edges(
        entities,
        relations,
        source.int(),
        relation.int(),
        target.int(),
        _starts(torch.bincount(target, minlength=entities)),
        torch.argsort(source, stable=True).int(),
        _starts(torch.bincount(source, minlength=entities)),
        torch.argsort(relation, stable=True).int(),
        torch.cat([piece_start, end]),
        relation_piece,
    )


def available(dim: int, block: int = 1) -> bool:
    """Whether the kernels compile here for vectors of `dim` and blocks of `block`."""
    return load("messages", D=dim, S=block) is not None


def basis_messages(
    h: torch.Tensor, coefficients: torch.Tensor, weight: torch.Tensor, edges: Edges, fused: bool = True
) -> torch.Tensor:
    """Sums of neighbours a basis: h float32 [N, d], coefficients float32 [R, B], weight float32 [E] -> [N, B, d].

    `weight` has no gradient. fused: use the compiled kernel on the CPU.
    """
    if fused and h.device.type == "cpu" and available(h.shape[1]):
        return _compiled("basis", h, coefficients, weight, edges)
    share = weight[:, None] * coefficients[edges.relation.long()]
    heard = share[:, :, None] * h[edges.source.long(), None]
    return h.new_zeros(edges.entities, *heard.shape[1:]).index_add(0, edges.target, heard)


def block_messages(
    h: torch.Tensor, blocks: torch.Tensor, weight: torch.Tensor, edges: Edges, fused: bool = True
) -> torch.Tensor:
    """Sums of neighbours, each through its relation's blocks: h float32 [N, d], weight float32 [E] -> [N, d].

    blocks: float32 [R, d / s, s, s]; blocks[r, n, i, o] leads from input i to output o of the n-th s numbers.
    `weight` has no gradient. fused: use the compiled kernel on the CPU.
    """
    if fused and h.device.type == "cpu" and available(h.shape[1], blocks.shape[-1]):
        return _compiled("block", h, blocks, weight, edges)
    order = edges.by_relation.long()
    sources = h[edges.source[order].long()].view(len(order), *blocks.shape[1:3])
    # A relation at a time, or every edge would need a copy of its matrix.
    start = edges.piece_start[edges.relation_piece].tolist()
    parts = [
        torch.einsum("eni,nio->eno", sources[low:high], blocks[r])
        for r, (low, high) in enumerate(itertools.pairwise(start))
        if high > low
    ]
    if not parts:
        return torch.zeros_like(h)
    heard = torch.cat(parts).flatten(1) * weight[order, None]
    return torch.zeros_like(h).index_add(0, edges.target[order], heard)


class _Graph(ctypes.Structure):
    """`Graph` of messages.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("entities", "relations", "pieces", "bases", "threads")),
        *((name, ctypes.c_void_p) for name in ("source", "relation", "target", "target_start")),
        *((name, ctypes.c_void_p) for name in ("by_source", "source_start", "by_relation")),
        *((name, ctypes.c_void_p) for name in ("piece_start", "relation_piece", "weight", "h", "matrix")),
    ]


def _compiled(
    kind: Kind, h: torch.Tensor, matrix: torch.Tensor, weight: torch.Tensor, edges: Edges
) -> torch.Tensor:
    if len(h) != edges.entities or len(matrix) != edges.relations or weight.shape != edges.source.shape:
        raise ValueError(
            f"{edges.entities} entities, {edges.relations} relations and {len(edges)} edges do not fit "
            f"{len(h)} vectors, {len(matrix)} matrices and {len(weight)} weights"
        )
    out: torch.Tensor = _function().apply(h, matrix, weight, edges, kind)
    return out


def _graph(h: torch.Tensor, matrix: torch.Tensor, weight: torch.Tensor, edges: Edges, bases: int) -> _Graph:
    e = edges
    return _Graph(
        e.entities,
        e.relations,
        len(e.piece_start) - 1,
        bases,
        thread_count(),
        *(
            t.data_ptr()
            for t in (e.source, e.relation, e.target, e.target_start, e.by_source, e.source_start)
        ),
        *(t.data_ptr() for t in (e.by_relation, e.piece_start, e.relation_piece)),
        checked(weight, torch.float32, 1).data_ptr(),
        checked(h, torch.float32, 2).data_ptr(),
        checked(matrix, torch.float32, matrix.dim()).data_ptr(),
    )


@functools.cache
def _function() -> Any:
    """The autograd function, made on first use because torch is loaded late."""

    class Messages(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, h: torch.Tensor, matrix: torch.Tensor, weight: torch.Tensor, edges: Edges, kind: Kind
        ) -> torch.Tensor:
            h, matrix, weight = h.contiguous(), matrix.contiguous(), weight.contiguous()
            ctx.save_for_backward(h, matrix, weight)
            ctx.edges, ctx.kind = edges, kind
            dim, library = h.shape[1], _library(kind, h, matrix)
            bases = matrix.shape[1]
            out = h.new_empty((len(h), bases, dim) if kind == "basis" else (len(h), dim))
            graph = _graph(h, matrix, weight, edges, bases)
            run = library.kgkit_messages_basis if kind == "basis" else library.kgkit_messages_block
            run(ctypes.byref(graph), pointer(out))
            return out

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
            h, matrix, weight = ctx.saved_tensors
            edges, d_out = ctx.edges, gradients[0].contiguous()
            library, bases = _library(ctx.kind, h, matrix), matrix.shape[1]
            d_h, d_matrix = torch.empty_like(h), torch.empty_like(matrix)
            graph = _graph(h, matrix, weight, edges, bases)
            if ctx.kind == "basis":
                run, scratch = library.kgkit_messages_basis_gradients, h.new_empty(len(edges), bases)
            else:
                run = library.kgkit_messages_block_gradients
                scratch = h.new_empty(len(edges.piece_start) - 1, matrix[0].numel())
            run(ctypes.byref(graph), *(pointer(t) for t in (d_out, scratch, d_h, d_matrix)))
            return d_h, d_matrix, None, None, None

    return Messages


def _library(kind: Kind, h: torch.Tensor, matrix: torch.Tensor) -> ctypes.CDLL:
    library = load("messages", D=h.shape[1], S=1 if kind == "basis" else matrix.shape[-1])
    if library is None:
        raise RuntimeError("compiled kernels are not available")
    return library


def _starts(counts: torch.Tensor) -> torch.Tensor:
    """int64 [n] -> where each begins when they lie one behind another, and the end: int64 [n + 1]."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
