"""Scores and gradients of facts with their own corruptions: what a step of training by sampled negatives needs.

    batch = score_batch("transe-l1", entity, relation, heads, relations, tails, corrupted, corrupt_head)
    loss = (margin + batch.negative - batch.positive[:, None]).relu().mean()   # any loss of the scores, in torch
    gradients = batch.gradients(d_positive, d_negative)                        # what autograd says of that loss

The gradients are those of the rows that the batch touches, so a step costs what the batch costs, however many entities
there are. On the CPU compiled code computes them; elsewhere, and without a compiler, `kgkit.nn` and autograd do.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Protocol

from kgkit.lazy import torch
from kgkit.native.build import load
from kgkit.native.tensors import checked, pointer
from kgkit.native.threads import thread_count
from kgkit.nn.interactions import SIMILARITY, Interaction, head_query, relation_vectors, tail_query
from kgkit.nn.similarity import Candidates, paired

KINDS = tuple(SIMILARITY)  # in the order of the enum in triples.c
_PIECE = 64  # as in triples.c
_WORTH_THREADS = 100_000  # numbers of a batch


@dataclass(frozen=True)
class Gradients:
    """Of the rows that a batch touched: rows int64 [U], ascending and distinct, and their gradients float32 [U, ...]."""

    entity_rows: torch.Tensor
    entity: torch.Tensor
    relation_rows: torch.Tensor
    relation: torch.Tensor


class ScoredBatch(Protocol):
    """Scores of B facts and of their K corruptions each, without autograd's record."""

    positive: torch.Tensor  # float32 [B]
    negative: torch.Tensor  # float32 [B, K]

    def gradients(self, d_positive: torch.Tensor, d_negative: torch.Tensor) -> Gradients:
        """From the loss's derivatives by the scores, float32 [B] and [B, K], to those by the tables' rows.

        The tables must still be as they were when the batch was scored.
        """


def available(dim: int) -> bool:
    """Whether the kernels compile here for vectors of `dim`."""
    return load("triples", D=dim) is not None


def score_batch(
    interaction: Interaction,
    entity: torch.Tensor,
    relation: torch.Tensor,
    heads: torch.Tensor,
    relations: torch.Tensor,
    tails: torch.Tensor,
    corrupted: torch.Tensor,
    corrupt_head: torch.Tensor,
    fused: bool = True,
) -> ScoredBatch:
    """Scores facts and their corruptions, by the similarity of queries and answers (`kgkit.nn.interactions`).

    entity: float32 [N, d]; relation: float32 [R, d], RotatE's phases [R, d / 2]. heads, relations, tails: int64 [B].
    corrupted: int64 [B, K], the entities that take the head's place where corrupt_head (bool [B]), else the tail's.
    fused: use the compiled kernel on the CPU. Raises ValueError where shapes, types or indices do not fit.
    """
    dim = entity.shape[1]
    complex_numbers = interaction in ("complex", "rotate")
    if complex_numbers and dim % 2:
        raise ValueError(f"{interaction} needs an even number of dimensions, got {dim}")
    if relation.shape[1] != (dim // 2 if interaction == "rotate" else dim):
        raise ValueError(f"{interaction}: relations of {relation.shape[1]} do not fit entities of {dim}")
    if corrupted.dim() != 2 or any(len(t) != len(heads) for t in (relations, tails, corrupted, corrupt_head)):
        raise ValueError("heads, relations, tails, corrupted and corrupt_head must be of equal length")
    anchor, answer = torch.where(corrupt_head, torch.stack([tails, heads]), torch.stack([heads, tails]))
    slots = torch.cat([anchor[:, None], answer[:, None], corrupted], 1)
    entity, relation = entity.detach(), relation.detach()
    if fused and entity.device.type == "cpu" and dim and available(dim):
        return _Compiled(interaction, entity, relation, slots, relations, corrupt_head)
    return _ByTorch(interaction, entity, relation, slots, relations, corrupt_head)


class _ByTorch:
    """The twin: the rows of the batch become leaves of autograd's graph."""

    def __init__(
        self,
        interaction: Interaction,
        entity: torch.Tensor,
        relation: torch.Tensor,
        slots: torch.Tensor,
        relations: torch.Tensor,
        asks_head: torch.Tensor,
    ) -> None:
        self._entity_rows, slot = torch.unique(slots, return_inverse=True)
        self._relation_rows, at = torch.unique(relations, return_inverse=True)
        self._entity = entity[self._entity_rows].requires_grad_()
        self._relation = relation[self._relation_rows].requires_grad_()
        with torch.enable_grad():
            x, r = self._entity[slot[:, 0]], relation_vectors(interaction, self._relation)[at]
            query = torch.where(
                asks_head[:, None], head_query(interaction, r, x), tail_query(interaction, x, r)
            )
            answers = Candidates(self._entity[slot[:, 1:]])
            self._score = paired(SIMILARITY[interaction], query[:, None], answers)
        self.positive, self.negative = self._score.detach()[:, 0], self._score.detach()[:, 1:]

    def gradients(self, d_positive: torch.Tensor, d_negative: torch.Tensor) -> Gradients:
        weight = torch.cat([d_positive[:, None], d_negative], 1)
        entity, relation = torch.autograd.grad(
            self._score, [self._entity, self._relation], weight, retain_graph=True
        )
        return Gradients(self._entity_rows, entity, self._relation_rows, relation)


class _BatchStruct(ctypes.Structure):
    """`Batch` of triples.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "facts", "slots", "threads")),
        *((n, ctypes.c_void_p) for n in ("entity", "relation", "slot", "relation_at", "asks_head")),
        *((name, ctypes.c_void_p) for name in ("query", "score")),
    ]


class _GroupsStruct(ctypes.Structure):
    """`Groups` of triples.c."""

    _fields_ = [
        ("rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("row", "start", "order", "piece", "piece_row")),
        *((name, ctypes.c_void_p) for name in ("piece_first", "partial", "gradient")),
    ]


class _Groups:
    """Keys sorted, and the place where each distinct key's gradient is summed."""

    def __init__(self, library: ctypes.CDLL, keys: torch.Tensor, limit: int, what: str) -> None:
        n = keys.numel()
        if n >= 2**31 or limit >= 2**31:
            raise ValueError("compiled kernels take fewer than 2**31 rows and slots")
        library.kgkit_triples_group.restype = ctypes.c_int64
        self._order, self.at = _ints(n), _ints(n)
        rows, self._start, scratch = torch.empty(n, dtype=torch.int64), _ints(n + 1), _ints(3 * n)
        found = library.kgkit_triples_group(
            pointer(keys),
            ctypes.c_int64(n),
            ctypes.c_int64(limit),
            *(pointer(t) for t in (self._order, rows, self._start, self.at, scratch)),
        )
        if found < 0:
            raise ValueError(f"{what} must lie in 0..{limit - 1}")
        self.rows = rows[:found].clone()

    def struct(self, dim: int) -> tuple[_GroupsStruct, torch.Tensor, list[torch.Tensor]]:
        """As the kernel takes it; the gradient that it fills, [rows, dim]; scratch to be kept alive meanwhile."""
        n, rows = self._order.numel(), len(self.rows)
        gradient = torch.empty(rows, dim)
        pieces = rows + n // _PIECE + 1
        scratch = [_ints(rows + 1), _ints(pieces), _ints(pieces), torch.empty(2 * (n // _PIECE) + 2, dim)]
        used = (self.rows, self._start, self._order, *scratch, gradient)
        return _GroupsStruct(rows, *(t.data_ptr() for t in used)), gradient, scratch


class _Compiled:
    def __init__(
        self,
        interaction: Interaction,
        entity: torch.Tensor,
        relation: torch.Tensor,
        slots: torch.Tensor,
        relations: torch.Tensor,
        asks_head: torch.Tensor,
    ) -> None:
        dim = entity.shape[1]
        library = load("triples", D=dim)
        if library is None:
            raise RuntimeError("compiled kernels are not available")
        self._library, self._interaction = library, interaction
        facts, width = slots.shape
        self._entities = _Groups(library, checked(slots, torch.int64, 2), len(entity), "entities")
        self._relations = _Groups(
            library, checked(relations.contiguous(), torch.int64, 1), len(relation), "relations"
        )
        self._phase = relation[self._relations.rows]
        self._vectors = relation_vectors(interaction, self._phase)
        self._query, self._score = torch.empty(facts, dim), torch.empty(facts, width - 1)
        self._kept = (
            checked(entity, torch.float32, 2),
            checked(self._vectors, torch.float32, 2),
            slots,
            self._relations.at,
            checked(asks_head.contiguous(), torch.bool, 1),
            self._query,
            self._score,
        )
        self._batch = _BatchStruct(
            KINDS.index(interaction),
            facts,
            width,
            thread_count() if slots.numel() * dim >= _WORTH_THREADS else 1,
            *(t.data_ptr() for t in self._kept),
        )
        library.kgkit_triples_score(ctypes.byref(self._batch))
        self.positive, self.negative = self._score[:, 0], self._score[:, 1:]

    def gradients(self, d_positive: torch.Tensor, d_negative: torch.Tensor) -> Gradients:
        weight = torch.cat([d_positive[:, None], d_negative], 1).detach()
        if weight.shape != self._score.shape:
            raise ValueError(
                f"derivatives of {list(weight.shape)} scores do not fit {list(self._score.shape)}"
            )
        dim = self._query.shape[1]
        entities, entity, kept = self._entities.struct(dim)
        relations, relation, also_kept = self._relations.struct(dim)
        query_gradient = torch.empty_like(self._query)
        self._library.kgkit_triples_gradients(
            ctypes.byref(self._batch),
            pointer(checked(weight, torch.float32, 2)),
            pointer(query_gradient),
            ctypes.byref(entities),
            ctypes.byref(relations),
        )
        del kept, also_kept
        if self._interaction == "rotate":  # d cos = -sin, d sin = cos
            real, imaginary = relation.chunk(2, 1)
            relation = imaginary * self._phase.cos() - real * self._phase.sin()
        return Gradients(self._entities.rows, entity, self._relations.rows, relation)


def _ints(n: int) -> torch.Tensor:
    return torch.empty(n, dtype=torch.int32)
