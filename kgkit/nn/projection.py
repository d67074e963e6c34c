"""Vectors multiplied by matrices of their own relations, as one product a relation (TransR: Lin et al. 2015, Eq. 7).

A gather of a matrix a vector would take k d numbers a fact, 400 MB a batch of 10,000 at k = d = 100, and be bound by
memory. Sorted by relation, each relation's vectors are one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    Tensor = torch.Tensor

_BLOCK = 32  # vectors that are multiplied together where there are too many relations for a product each
_FEW = 64  # relations, up to which each has its own


def projected(matrices: Any, vectors: Any, relations: Any) -> Any:
    """M_r x. matrices: float32 [R, k, d]; vectors: [..., d]; relations: int64 [...], or one for all -> [..., k].

    Arrays of torch, with gradient, or of numpy.
    """
    if np.ndim(relations) == 0:
        return vectors @ matrices[relations].T
    if isinstance(vectors, np.ndarray):
        return (matrices[relations] @ vectors[..., None])[..., 0]
    shape = vectors.shape[:-1]
    found = grouped(matrices, vectors.reshape(-1, vectors.shape[-1]), relations.reshape(-1))
    return found.view(*shape, found.shape[-1])


def grouped(matrices: Tensor, vectors: Tensor, relations: Tensor) -> Tensor:
    """The same for rows: [R, k, d], [B, d], int64 [B] -> [B, k]."""
    count = torch.bincount(relations, minlength=len(matrices))
    order = torch.argsort(relations, stable=True)
    if len(matrices) <= _FEW:
        parts = torch.split(vectors.index_select(0, order), count.tolist())
        found = torch.cat([x @ m.T for x, m in zip(parts, matrices.unbind(), strict=True)])
        return found.index_select(0, _inverse(order))
    # Blocks of one relation's rows each, the last of a relation filled up with zeros.
    blocks = (count + _BLOCK - 1) // _BLOCK
    shift = (blocks.cumsum(0) - blocks) * _BLOCK - (count.cumsum(0) - count)
    place = _inverse(order) + shift[relations]
    of = torch.repeat_interleave(torch.arange(len(matrices), device=order.device), blocks)
    padded = vectors.new_zeros(len(of) * _BLOCK, vectors.shape[1]).index_copy(0, place, vectors)
    found = torch.bmm(
        padded.view(len(of), _BLOCK, vectors.shape[1]), matrices.index_select(0, of).transpose(1, 2)
    )
    return found.flatten(0, 1).index_select(0, place)


def _inverse(order: Tensor) -> Tensor:
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return inverse
