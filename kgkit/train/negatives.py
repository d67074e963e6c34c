"""Negatives: facts with one end replaced by an entity drawn at random, known facts avoided, all on the model's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgkit.errors import ConfigError
from kgkit.graph import distinct
from kgkit.lazy import np, torch

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.graph import Triples

    Tensor = torch.Tensor

SAMPLERS = ("uniform", "bernoulli")
_ROUNDS = 8  # of drawing again what is known; what is left then (an end that nearly all entities fit) stays


class KnownFacts:
    """The training facts of each query: one sorted key a fact, looked up by bisection."""

    def __init__(self, facts: Triples, entities: int, relations: int, device: torch.device) -> None:
        if entities**2 * relations >= 2**63:
            raise ConfigError(
                f"{entities:,} entities and {relations:,} relations: too many to tell facts apart"
            )
        self.entities, self.relations = entities, relations
        self.by_head, self.by_tail = (
            torch.from_numpy(np.sort((given * relations + facts.relation) * entities + asked)).to(device)
            for given, asked in ((facts.head, facts.tail), (facts.tail, facts.head))
        )

    def __call__(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Which of these are facts: int64 [B] each -> bool [B]."""
        key = (heads * self.relations + relations) * self.entities + tails
        at = torch.searchsorted(self.by_head, key).clamp_max_(len(self.by_head) - 1)
        found: Tensor = self.by_head[at] == key
        return found

    def answers(self, given: Tensor, relations: Tensor, at_head: bool) -> tuple[Tensor, Tensor]:
        """Known tails of (given, relation, ?), or heads of (?, relation, given): int64 [B] each.

        Returns row, int64 [A], whose answer, and entity, int64 [A].
        """
        keys = self.by_tail if at_head else self.by_head
        query = (given * self.relations + relations) * self.entities
        low, high = torch.searchsorted(keys, query), torch.searchsorted(keys, query + self.entities)
        row, at = spans(low, high - low)
        return row, keys[at] % self.entities


def spans(low: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """low, count: int64 [B] -> of the ranges low[b] .. low[b] + count[b] one after another: row b, and the number."""
    row = torch.repeat_interleave(torch.arange(len(low), device=low.device), count)
    before = count.cumsum(0) - count
    return row, torch.arange(len(row), device=low.device) + (low - before)[row]


class NegativeSampler:
    """Draws what stands in place of a fact's head or tail.

    uniform: either end with a chance of one half. bernoulli: the head with tph / (tph + hpt), from a relation's mean
    number of tails per head and heads per tail (Wang et al. 2014, TransH, section 3), so that fewer negatives are true.
    """

    def __init__(
        self,
        facts: Triples,
        entities: int,
        relations: int,
        device: torch.device,
        sampler: str = "uniform",
        filtered: bool = True,
    ) -> None:
        self.entities = entities
        self.known = KnownFacts(facts, entities, relations, device) if filtered else None
        chance = np.full(relations, 0.5, dtype=np.float32)
        if sampler == "bernoulli":
            chance = head_chance(facts, relations, entities)
        self.head_chance = torch.from_numpy(chance).to(device)

    def corrupt(
        self, heads: Tensor, relations: Tensor, tails: Tensor, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """k negatives of each of B facts, all in place of its head or all in place of its tail.

        Returns the entities, int64 [B, k], and whether they stand for the head, bool [B].
        """
        b, device = len(heads), heads.device
        at_head = torch.rand(b, generator=generator, device=device) < self.head_chance[relations]
        drawn = torch.randint(self.entities, (b, k), generator=generator, device=device)
        if self.known is None:
            return drawn, at_head
        flat = drawn.view(-1)
        open_ = torch.arange(b * k, device=device)
        for _ in range(_ROUNDS):
            fact, e = open_ // k, flat[open_]
            swap = at_head[fact]
            known = self.known(
                torch.where(swap, e, heads[fact]), relations[fact], torch.where(swap, tails[fact], e)
            )
            open_ = open_[known]
            if not len(open_):
                break
            flat[open_] = torch.randint(self.entities, (len(open_),), generator=generator, device=device)
        return drawn, at_head

    def shared(self, k: int, generator: torch.Generator) -> Tensor:
        """At most k entities that all facts of a batch take as negatives, int64 [K], distinct, ascending."""
        drawn = torch.randint(self.entities, (k,), generator=generator, device=self.head_chance.device)
        distinct_ones: Tensor = torch.unique(drawn)
        return distinct_ones

    def countable(self, given: Tensor, relations: Tensor, shared: Tensor, at_head: bool) -> Tensor | None:
        """Which shared negatives, int64 [K], are no known answers: bool [B, K]; None when known facts may be drawn."""
        if self.known is None:
            return None
        row, entity = self.known.answers(given, relations, at_head)
        at = torch.searchsorted(shared, entity).clamp_max_(len(shared) - 1)
        hit = shared[at] == entity
        mask = torch.ones(len(given), len(shared), dtype=torch.bool, device=shared.device)
        mask[row[hit], at[hit]] = False
        return mask


def head_chance(facts: Triples, relations: int, entities: int) -> Floats:
    """tph / (tph + hpt) of each relation, float32 [relations]; one half where a relation has no fact."""
    count = np.bincount(facts.relation, minlength=relations).astype(np.float64)
    heads = np.bincount(distinct(facts.relation * entities + facts.head) // entities, minlength=relations)
    tails = np.bincount(distinct(facts.relation * entities + facts.tail) // entities, minlength=relations)
    tph, hpt = count / np.maximum(heads, 1), count / np.maximum(tails, 1)
    both = tph + hpt
    return np.where(both > 0, tph / np.where(both > 0, both, 1), 0.5).astype(np.float32)
