"""Negatives: never a known fact, the ends in the right proportion, the same for a seed, and masks that are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kgkit.errors import ConfigError
from kgkit.graph import Triples
from kgkit.train.negatives import KnownFacts, NegativeSampler, head_chance

CPU = torch.device("cpu")
N, R = 20, 3


def random_facts(n: int = 100, seed: int = 0) -> Triples:
    rng = np.random.default_rng(seed)
    rows = np.unique(np.stack([rng.integers(0, s, n) for s in (N, R, N)], 1), axis=0)
    return Triples(*(np.ascontiguousarray(rows[:, i]) for i in range(3)))


def as_set(facts: Triples) -> set[tuple[int, int, int]]:
    return set(zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True))


def tensors(facts: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(facts.head), torch.from_numpy(facts.relation), torch.from_numpy(facts.tail)


def corrupted(facts: Triples, negatives: torch.Tensor, at_head: torch.Tensor) -> list[tuple[int, int, int]]:
    rows = zip(*(t.tolist() for t in (*tensors(facts), negatives, at_head)), strict=True)
    return [(e, r, t) if swap else (h, r, e) for h, r, t, found, swap in rows for e in found]


@pytest.mark.parametrize("sampler", ["uniform", "bernoulli"])
def test_a_filtered_negative_is_never_a_fact(sampler: str) -> None:
    facts = random_facts()
    drawn = NegativeSampler(facts, N, R, CPU, sampler).corrupt(
        *tensors(facts), 20, torch.Generator().manual_seed(1)
    )
    rows = corrupted(facts, *drawn)
    assert len(rows) == 20 * len(facts) and not set(rows) & as_set(facts)
    unfiltered = NegativeSampler(facts, N, R, CPU, sampler, filtered=False).corrupt(
        *tensors(facts), 20, torch.Generator().manual_seed(1)
    )
    assert set(corrupted(facts, *unfiltered)) & as_set(facts), "a test that could not fail"


def test_where_everything_is_known_a_draw_ends() -> None:
    """Every entity is a tail of (0, r) and every one a head of (r, 0)."""
    every = np.arange(4)
    facts = Triples(np.append(0 * every, every), np.zeros(8, np.int64), np.append(every, 0 * every))
    negatives, _ = NegativeSampler(facts, 4, 1, CPU).corrupt(
        *(torch.zeros(1, dtype=torch.int64) for _ in range(3)), 5, torch.Generator()
    )
    assert negatives.shape == (1, 5) and ((negatives >= 0) & (negatives < 4)).all()


def test_bernoulli_chance_by_hand() -> None:
    """Relation 0: one head with four tails, so tph 4, hpt 1 and 4 / 5; 1: three facts of two heads and two tails, tph and
    hpt 3 / 2; 2: four heads of one tail, 1 / 5; 3 has no fact."""
    rows = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 1, 1), (0, 1, 2), (3, 1, 2)]
    rows += [(h, 2, 5) for h in (0, 1, 2, 3)]
    facts = Triples(*np.array(rows).T.copy())
    np.testing.assert_allclose(head_chance(facts, 4, 6), [0.8, 0.5, 0.2, 0.5], rtol=1e-6)


def test_ends_are_replaced_in_that_proportion() -> None:
    facts = Triples(np.zeros(4000, np.int64), np.zeros(4000, np.int64), np.arange(4000) % 4 + 1)
    for sampler, expected in (("uniform", 0.5), ("bernoulli", 0.8)):  # tph 4000, hpt 1000
        s = NegativeSampler(facts, 6, 1, CPU, sampler, filtered=False)
        _, at_head = s.corrupt(*tensors(facts), 1, torch.Generator().manual_seed(2))
        assert at_head.float().mean() == pytest.approx(expected, abs=0.03)


def test_the_same_for_a_seed() -> None:
    facts = random_facts()
    sampler = NegativeSampler(facts, N, R, CPU)
    first, again, other = (
        sampler.corrupt(*tensors(facts), 3, torch.Generator().manual_seed(s)) for s in (5, 5, 6)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    shared = [sampler.shared(6, torch.Generator().manual_seed(s)).tolist() for s in (5, 5, 6)]
    assert shared[0] == shared[1] != shared[2]


@pytest.mark.parametrize("at_head", [False, True])
def test_the_mask_of_shared_negatives_is_right(at_head: bool) -> None:
    facts = random_facts()
    sampler, known = NegativeSampler(facts, N, R, CPU), as_set(facts)
    shared = sampler.shared(9, torch.Generator().manual_seed(3))
    assert (shared.diff() > 0).all() and len(shared) <= 9
    h, r, t = tensors(facts)
    given = t if at_head else h
    mask = sampler.countable(given, r, shared, at_head)
    assert mask is not None
    for row, (e, relation) in enumerate(zip(given.tolist(), r.tolist(), strict=True)):
        for column, other in enumerate(shared.tolist()):
            fact = (other, relation, e) if at_head else (e, relation, other)
            assert bool(mask[row, column]) == (fact not in known)
    assert 0 < int(mask.sum()) < mask.numel()
    assert NegativeSampler(facts, N, R, CPU, filtered=False).countable(given, r, shared, at_head) is None


def test_known_facts_and_answers() -> None:
    facts = random_facts()
    known, all_ = KnownFacts(facts, N, R, CPU), as_set(facts)
    every = torch.cartesian_prod(torch.arange(N), torch.arange(R), torch.arange(N)).T.contiguous()
    found = known(*every)
    assert {tuple(row) for row in every.T[found].tolist()} == all_
    given, relations = torch.tensor([0, 5, 5]), torch.tensor([1, 2, 2])
    for at_head in (False, True):
        row, entity = known.answers(given, relations, at_head)
        for i, (e, r) in enumerate(zip(given.tolist(), relations.tolist(), strict=True)):
            expected = {(h if at_head else t) for h, q, t in all_ if q == r and (t if at_head else h) == e}
            assert set(entity[row == i].tolist()) == expected


def test_too_many_entities_are_refused() -> None:
    with pytest.raises(ConfigError, match="too many to tell facts apart"):
        KnownFacts(random_facts(), 3_000_000_000, 3, CPU)
