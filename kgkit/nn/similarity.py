"""How well a candidate answers a query, by the five measures that link prediction uses; higher is likelier.

A query is what (head, relation) asks of the tail, or (relation, tail) of the head, as a vector of the candidates' size:
TransE's h + r, DistMult's h * r. So a model is a way to make queries, a table of candidates and one of these measures,
and training, ranking and completion need to know no more of it.

    dot          <q, e> + b_e
    l1           -|q - e|_1
    l2           -|q - e|_2
    l2-squared   -|q - e|_2^2
    modulus      -sum_i |q_i - e_i| over complex numbers; the first half of a vector is real, the second imaginary
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kgkit.lazy import torch
from kgkit.native.distance import crossed_similarity
from kgkit.nn.either import halves

if TYPE_CHECKING:
    Tensor = torch.Tensor

Similarity = Literal["dot", "l1", "l2", "l2-squared", "modulus"]
SIMILARITIES: tuple[Similarity, ...] = ("dot", "l1", "l2", "l2-squared", "modulus")
# Under the root where a difference is zero, so that its gradient is zero and not NaN.
_TINY = 1e-30


@dataclass(frozen=True)
class Candidates:
    """What queries are compared with. table: float32 [N, d]; bias: float32 [N], added to the score, or None.

    Of torch, or of numpy.
    """

    table: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Tensor) -> Candidates:
        """Those of some rows, int64 [...] -> table [..., d], bias [...]."""
        return Candidates(self.table[rows], None if self.bias is None else self.bias[rows])


def paired(similarity: Similarity, queries: Tensor, candidates: Candidates) -> Tensor:
    """Scores of queries and candidates that belong together, broadcast: [..., d] and [..., d] -> [...].

    Arrays of torch, or of numpy.
    """
    e = candidates.table
    if similarity == "dot":
        score = (queries * e).sum(-1)
    elif similarity == "modulus":
        real, imaginary = halves(queries - e)
        score = -((real**2 + imaginary**2 + _TINY) ** 0.5).sum(-1)
    elif similarity == "l1":
        score = -abs(queries - e).sum(-1)
    else:
        squared = ((queries - e) ** 2).sum(-1)
        score = -squared if similarity == "l2-squared" else -((squared + _TINY) ** 0.5)
    return score if candidates.bias is None else score + candidates.bias


def crossed(similarity: Similarity, queries: Tensor, candidates: Candidates) -> Tensor:
    """Scores of every query with every candidate: [B, d] and [N, d] -> [B, N]; l1 and modulus compiled on the CPU."""
    e = candidates.table
    if similarity == "dot":
        score = queries @ e.T
    elif similarity == "l2" or similarity == "l2-squared":
        # |q - e|^2 by one matrix product; rounding may take it below zero.
        squares = queries.square().sum(1, keepdim=True) + e.square().sum(1)
        squared = torch.addmm(squares, queries, e.T, alpha=-2).clamp_min(0)
        score = -squared if similarity == "l2-squared" else -(squared + _TINY).sqrt()
    elif (compiled := crossed_similarity(similarity, queries, e)) is not None:
        score = compiled
    elif similarity == "l1":
        score = -torch.cdist(queries, e, p=1)
    else:
        score = paired(similarity, queries[:, None], Candidates(e))
    return score if candidates.bias is None else score + candidates.bias
