"""The queries of the models that score a fact by vectors alone, and which similarity each compares them with.

    model        tail query (h, r)    head query (r, t)    similarity    paper
    transe-l1    h + r                t - r                l1            Bordes et al. 2013
    transe-l2    h + r                t - r                l2            Bordes et al. 2013
    distmult     h * r                t * r                dot           Yang et al. 2015
    complex      h r                  t conj(r)            dot           Trouillon et al. 2016, Eq. 9: Re<h, r, conj(t)>
    rotate       h r, |r_i| = 1       t conj(r)            modulus       Sun et al. 2019: -sum_i |h_i r_i - t_i|

Complex vectors have their real parts in the first half, their imaginary parts in the second. RotatE's relations are
phases, half as long as an entity's vector: r = (cos phase, sin phase).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from kgkit.lazy import torch

if TYPE_CHECKING:
    from kgkit.nn.similarity import Similarity

Interaction = Literal["transe-l1", "transe-l2", "distmult", "complex", "rotate"]
SIMILARITY: Mapping[Interaction, Similarity] = {
    "transe-l1": "l1",
    "transe-l2": "l2",
    "distmult": "dot",
    "complex": "dot",
    "rotate": "modulus",
}


def relation_vectors(interaction: Interaction, relations: torch.Tensor) -> torch.Tensor:
    """What acts on an entity's vector: RotatE's phases [..., d / 2] -> [..., d]; of other models the same [..., d]."""
    return torch.cat([relations.cos(), relations.sin()], -1) if interaction == "rotate" else relations


def tail_query(interaction: Interaction, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    """What (h, r, ?) asks: heads and `relation_vectors` [..., d] -> [..., d]."""
    if interaction in ("transe-l1", "transe-l2"):
        return heads + relations
    return heads * relations if interaction == "distmult" else _product(heads, relations, 1)


def head_query(interaction: Interaction, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
    """What (?, r, t) asks: `relation_vectors` and tails [..., d] -> [..., d]."""
    if interaction in ("transe-l1", "transe-l2"):
        return tails - relations
    return tails * relations if interaction == "distmult" else _product(tails, relations, -1)


def _product(x: torch.Tensor, y: torch.Tensor, sign: int) -> torch.Tensor:
    """x y for sign 1, x conj(y) for sign -1, over complex numbers."""
    a, b = x.chunk(2, -1)
    c, d = y.chunk(2, -1)
    d = sign * d
    return torch.cat([a * c - b * d, a * d + b * c], -1)
