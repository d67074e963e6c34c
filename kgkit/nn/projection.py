"""Vectors multiplied by matrices of their own relations (TransR: Lin et al. 2015, Eq. 7).

A copy of a matrix for each vector would take k d numbers a fact, 400 MB for 10,000 at k = d = 100. Sorted by relation, a
block of vectors shares one, and all blocks are one batch of matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    from kgkit.nn.either import Either

    Tensor = torch.Tensor

# Vectors that share a copy of a matrix: with more, rare relations have many zeros; with fewer, matrices many copies.
_BLOCK = 32


def projected(matrices: Any, vectors: Any, relations: Any) -> Either:
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
    """The same for rows: [R, k, d], [B, d], int64 [B] -> [B, k].

    Each relation's rows fill blocks of their own, the last one up with zeros.
    """
    d, device = vectors.shape[1], vectors.device
    count = torch.bincount(relations, minlength=len(matrices))
    blocks = (count + _BLOCK - 1) // _BLOCK
    of = torch.repeat_interleave(torch.arange(len(matrices), device=device), blocks)
    order = torch.argsort(relations, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=device)
    # Where a relation's blocks begin, less where its rows do in the order.
    place += ((blocks.cumsum(0) - blocks) * _BLOCK - (count.cumsum(0) - count))[relations]
    padded = vectors.new_zeros(len(of) * _BLOCK, d).index_copy(0, place, vectors).view(len(of), _BLOCK, d)
    # An embedding's gradient is summed in the order of the blocks, whatever the number of threads.
    copies = torch.nn.functional.embedding(of, matrices.flatten(1)).view(len(of), *matrices.shape[1:])
    found = torch.bmm(padded, copies.transpose(1, 2))
    return found.flatten(0, 1)[place]  # index_select's gradient takes ten times as long
