"""Filtered ranking of facts: where the true tail stands among all entities as tails, and the true head as heads.

Other known answers of the same query are no candidates (the filtered setting of TransE: Bordes et al., NIPS 2013,
section 4.2). Among equal scores a fact has every place with the same chance (realistic), so that a model gains nothing by
scoring everything alike; the best place (optimistic) and the worst (pessimistic) are reported beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kgkit.evaluate.places import Places
from kgkit.graph import Triples, distinct
from kgkit.lazy import np, torch
from kgkit.native.answers import Asked, count_answers

if TYPE_CHECKING:
    from kgkit.arrays import Doubles, Ints
    from kgkit.model import LinkPredictor

Kind = Literal["realistic", "optimistic", "pessimistic"]
Side = Literal["tail", "head"]
MEMORY = 512 << 20
# Budgeted for making one query: a convolution's feature maps. A query that is ready takes 12 bytes a dimension.
_BYTES_A_QUERY = 1 << 16


@dataclass(frozen=True)
class SideRanks:
    """How each of F facts stands on one side, int64 [F] each.

    better: candidates with a higher score; equal: others with the same; candidates: how many there were, the true
    one among them. raw_...: with other known answers as candidates, None unless asked for.
    """

    better: Ints
    equal: Ints
    candidates: Ints
    raw_better: Ints | None = None
    raw_equal: Ints | None = None

    def places(self, kind: Kind = "realistic", raw: bool = False) -> Places:
        """Where the F facts stand. Raises ValueError for raw ranks that were not made."""
        better, equal = (self.raw_better, self.raw_equal) if raw else (self.better, self.equal)
        if better is None or equal is None:
            raise ValueError("raw ranks were not asked for: rank_facts(..., raw=True)")
        if kind == "realistic":
            return Places(better, equal)
        return Places(better if kind == "optimistic" else better + equal, np.zeros_like(equal))

    def ranks(self, kind: Kind = "realistic", raw: bool = False) -> Doubles:
        """Expected ranks, float64 [F], from 1. Raises ValueError for raw ranks that were not made."""
        return self.places(kind, raw).mean_rank()


@dataclass(frozen=True)
class FactRanks:
    """How F facts stand when their tails are asked for, and when their heads are."""

    tail: SideRanks
    head: SideRanks

    def __len__(self) -> int:
        return len(self.tail.better)

    def places(self, kind: Kind = "realistic", raw: bool = False) -> Places:
        """Of 2F: all tails, then all heads."""
        return Places.joined([self.tail.places(kind, raw), self.head.places(kind, raw)])

    def ranks(self, kind: Kind = "realistic", raw: bool = False) -> Doubles:
        """Expected ranks, float64 [2F], from 1: all tails, then all heads."""
        return self.places(kind, raw).mean_rank()


def rank_facts(
    model: LinkPredictor,
    facts: Triples,
    known: Sequence[Triples],
    *,
    memory: int = MEMORY,
    raw: bool = False,
) -> FactRanks:
    """Ranks F facts on both sides, each among all entities but the other answers that `known` facts give.

    known: facts of the filter; the facts themselves need not be among them. Facts of one (head, relation) share a
    query, and so do facts of one (relation, tail). A score of NaN counts as minus infinity.
    memory: bytes to hold at once beside the model, the filter's facts and the ranks; of queries on the CPU, where
    scores are compared as they are made, and of scores elsewhere (one query's at least).
    """
    return FactRanks(
        _side(model, "tail", facts, known, memory, raw), _side(model, "head", facts, known, memory, raw)
    )


def _side(
    model: LinkPredictor, side: Side, facts: Triples, known: Sequence[Triples], memory: int, raw: bool
) -> SideRanks:
    n = len(facts)
    found = [np.zeros(n, dtype=np.int64) for _ in range(4 if raw else 2)]
    candidates = np.zeros(n, dtype=np.int64)
    radix = _entities([facts, *known])
    queries, order, asked = _asked(side, facts, known, radix)
    table = None if model.relational else model.candidates()
    for low, high in _blocks(queries // radix, model.relational, memory):
        relation, given = np.divmod(queries[low:high], radix)
        if model.relational and (low == 0 or queries[low - 1] // radix != relation[0]):
            table = None  # before the next one is made
            table = model.candidates(int(relation[0]))
        assert table is not None
        r, e = torch.from_numpy(relation), torch.from_numpy(given)
        with torch.no_grad():
            vectors = model.tail_queries(e, r) if side == "tail" else model.head_queries(r, e)
        some = asked.part(low, high)
        counts = count_answers(model.similarity, vectors, table, some, raw=raw, memory=memory)
        rows = order[asked.start[low] : asked.start[high]]
        parts = [counts.better, counts.equal, counts.raw_better, counts.raw_equal]
        for all_of_it, part in zip(found, parts, strict=False):
            assert part is not None
            all_of_it[rows] = part
        candidates[rows] = np.repeat(1 + len(table) - np.diff(some.known_start), np.diff(some.start))
    return SideRanks(found[0], found[1], candidates, *found[2:])


def _entities(parts: Sequence[Triples]) -> int:
    """One more than the largest entity id."""
    return 1 + max((int(ids.max()) for p in parts for ids in (p.head, p.tail) if len(ids)), default=0)


def _asked(side: Side, facts: Triples, known: Sequence[Triples], radix: int) -> tuple[Ints, Ints, Asked]:
    """Distinct queries [B] as relation * radix + entity, the facts [F] in their order, and true and known answers."""

    def split(part: Triples) -> tuple[Ints, Ints]:
        given, wanted = (part.head, part.tail) if side == "tail" else (part.tail, part.head)
        return part.relation * radix + given, wanted

    key, wanted = split(facts)
    order = np.argsort(key, kind="stable")
    queries = distinct(key)
    pairs = []
    for part in (facts, *known):
        asking, answer = split(part)
        at = np.searchsorted(queries, asking)
        asks = np.zeros(len(at), dtype=bool)
        there = at < len(queries)
        asks[there] = queries[at[there]] == asking[there]
        pairs.append(at[asks] * radix + answer[asks])
    row, answer = np.divmod(distinct(np.concatenate(pairs)), radix)
    return (
        queries,
        order,
        Asked(
            start=np.append(np.searchsorted(key[order], queries), len(key)),
            answer=wanted[order],
            known_start=np.searchsorted(row, np.arange(len(queries) + 1)),
            known=answer,
        ),
    )


def _blocks(relation: Ints, relational: bool, memory: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries to make at once, relation int64 [B] ascending; of one relation each for `relational` models."""
    step = max(1, memory // _BYTES_A_QUERY)
    n = len(relation)
    cuts = [0, *(np.flatnonzero(np.diff(relation)) + 1).tolist(), n] if relational else [0, n]
    for low, high in itertools.pairwise(cuts):
        for at in range(low, high, step):
            yield at, min(at + step, high)
