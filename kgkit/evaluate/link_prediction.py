"""What a link prediction run reports: metrics of ranks, of relations and categories, of a split, and for selection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kgkit.errors import ConfigError
from kgkit.evaluate.link_ranking import MEMORY, FactRanks, Kind, rank_facts
from kgkit.evaluate.places import Places
from kgkit.graph import Triples, distinct
from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools
    from kgkit.evaluate.triple_split import TripleSplit
    from kgkit.model import LinkPredictor

KS = (1, 3, 10)
EXTREMES: tuple[Kind, ...] = ("optimistic", "pessimistic")
CATEGORIES = ("1-1", "1-N", "N-1", "N-N")
UNSEEN = "unseen"  # in place of a category, for a relation that has no training fact
SELECTABLE = "mrr, amri, hits@K"  # what a model may be selected by: higher is better
_MANY = 1.5  # entities on average, from which a side of a relation is N
_DRAW = 3  # of each seed, its own stream for every purpose

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinkEvaluation:
    """What is reported of a model. Plain lists and dicts that JSON takes.

    metrics: {"valid": {...}, "test": {...}} of `link_metrics`; relations, categories: rows of `by_relation` and
    `by_category` about the test facts.
    """

    metrics: dict[str, dict[str, float]]
    relations: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)


def evaluate_links(
    model: LinkPredictor, split: TripleSplit, *, memory: int = MEMORY, raw: bool = False
) -> LinkEvaluation:
    """Ranks validation facts, filtered by training and validation, and test facts, filtered by all three.

    memory: bytes to hold at once; see `rank_facts`. raw: unfiltered metrics too.
    """
    valid = rank_facts(model, split.valid, [split.train], memory=memory, raw=raw)
    test = rank_facts(model, split.test, [split.train, split.valid], memory=memory, raw=raw)
    categories = relation_categories(split.train, split.relations)
    return LinkEvaluation(
        {"valid": link_metrics(valid, split.valid, split), "test": link_metrics(test, split.test, split)},
        by_relation(test, split.test, categories),
        by_category(test, split.test, categories),
    )


def validation_link_metric(
    model: LinkPredictor,
    split: TripleSplit,
    name: str,
    *,
    memory: int = MEMORY,
    most: int | None = None,
    seed: int = 0,
) -> float:
    """The metric "mrr", "amri" or "hits@K" on validation facts, filtered by training and validation only.

    most: of more validation facts than that, so many are ranked, drawn by `seed`. Raises ConfigError for another name
    and where there are no validation facts.
    """
    measure, _, k = name.partition("@")
    if measure == "mr":
        raise ConfigError(
            "mr falls as a model gets better: select by amri, the mean rank as a share, or by mrr"
        )
    if name not in ("mrr", "amri") and not (measure == "hits" and k.isdecimal() and int(k)):
        raise ConfigError(f"no validation metric {name!r} of link prediction: there are {SELECTABLE}")
    facts = split.valid
    if not len(facts):
        raise ConfigError(
            f"{name} is not defined without validation facts: give some with --split, or train without selection"
        )
    if most is not None and len(facts) > most:
        drawn = np.sort(np.random.default_rng([seed, _DRAW]).choice(len(facts), most, replace=False))
        facts = Triples(facts.head[drawn], facts.relation[drawn], facts.tail[drawn])
    ranks = rank_facts(model, facts, [split.train, split.valid], memory=memory)
    if measure == "hits":
        return _hits(ranks.places(), int(k))
    return _measures(ranks.places(), ranks).get(name, 0.0)


def link_metrics(ranks: FactRanks, facts: Triples, split: TripleSplit) -> dict[str, float]:
    """Metrics of F ranked facts over both sides, filtered, ties at their average unless the name says otherwise.

        mrr, mr, hits@1, hits@3, hits@10     mean of 1 / rank, of rank, share of ranks up to K: of each fact the expected
                                             value over all orders of the candidates with its score
        amri                                 1 - (mr - 1) / (expected mr - 1): 1 is perfect, 0 is chance
                                             (Berrendorf et al., arXiv 2002.06914), of as many candidates as there were
        mrr_head, mrr_tail                   heads asked for, tails asked for
        mrr_, hits@10_ optimistic, pessimistic   ties all won, all lost
        mrr_, mr_, hits@K_ seen              without facts that name an entity which no training fact names
        ranked_facts, unseen_facts           how many there are, and how many of those
        raw_mrr, raw_mr, raw_hits@10         with known answers as candidates, where `ranks` has them

    What is not defined (of no facts, say) is left out, so that every value is a number.
    """
    both = ranks.places()
    seen = split.seen[facts.head] & split.seen[facts.tail]
    metrics = _measures(both, ranks)
    if len(both):
        metrics |= {"mrr_head": _mrr(ranks.head.places()), "mrr_tail": _mrr(ranks.tail.places())}
        for kind in EXTREMES:
            extreme = ranks.places(kind)
            metrics[f"mrr_{kind}"], metrics[f"hits@10_{kind}"] = _mrr(extreme), _hits(extreme, 10)
    metrics |= {f"{name}_seen": value for name, value in _measures(both.take(np.tile(seen, 2))).items()}
    if ranks.tail.raw_better is not None and len(both):
        raw = ranks.places(raw=True)
        metrics |= {"raw_mrr": _mrr(raw), "raw_mr": _mr(raw), "raw_hits@10": _hits(raw, 10)}
    return {**metrics, "ranked_facts": float(len(facts)), "unseen_facts": float((~seen).sum())}


def relation_categories(train: Triples, relations: int) -> list[str]:
    """1-1, 1-N, N-1 or N-N for each relation, by training facts (TransE: Bordes et al., NIPS 2013, section 4.3).

    A side is N from 1.5 entities on average: heads of a (relation, tail) for the first, tails of a (head, relation)
    for the second. A relation without facts is "unseen".
    """
    entities = 1 + max((int(ids.max()) for ids in (train.head, train.tail) if len(ids)), default=0)
    facts = np.bincount(train.relation, minlength=relations)
    many = []
    for given in (train.tail, train.head):
        pairs = distinct(train.relation * entities + given) // entities
        many.append(facts >= _MANY * np.bincount(pairs, minlength=relations))
    names = np.array(CATEGORIES)[2 * many[0] + many[1]]
    return [str(name) for name in np.where(facts > 0, names, UNSEEN)]


def by_relation(ranks: FactRanks, facts: Triples, categories: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each relation with facts, by dense id.

    relation (dense id), category, facts; mrr, hits@10 of both sides, and the same with _head and _tail.
    """
    return [
        {"relation": r, "category": categories[r], **_row(ranks, facts.relation == r)}
        for r in distinct(facts.relation).tolist()
    ]


def by_category(ranks: FactRanks, facts: Triples, categories: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each category with facts, as `by_relation` has them; relations: how many of the facts' are in it."""
    category = np.array(categories)[facts.relation]
    rows = []
    for name in (*CATEGORIES, UNSEEN):
        inside = category == name
        if inside.any():
            relations = len(distinct(facts.relation[inside]))
            rows.append({"category": name, "relations": relations, **_row(ranks, inside)})
    return rows


def _row(ranks: FactRanks, inside: Bools) -> dict[str, Any]:
    row: dict[str, Any] = {"facts": int(inside.sum())}
    sides = {"head": ranks.head.places().take(inside), "tail": ranks.tail.places().take(inside)}
    both = Places.joined([*sides.values()])
    row["mrr"], row["hits@10"] = _mrr(both), _hits(both, 10)
    for side, found in sides.items():
        row[f"mrr_{side}"], row[f"hits@10_{side}"] = _mrr(found), _hits(found, 10)
    return row


def _measures(both: Places, ranks: FactRanks | None = None) -> dict[str, float]:
    """mrr, mr and hits of places; with the candidates of `ranks` also amri."""
    if not len(both):
        return {}
    found = {"mrr": _mrr(both), "mr": _mr(both)}
    found |= {f"hits@{k}": _hits(both, k) for k in KS}
    if ranks is not None:
        # A rank drawn at random among n candidates is (n + 1) / 2 on average.
        expected = (float(np.mean([ranks.tail.candidates.mean(), ranks.head.candidates.mean()])) + 1) / 2
        if expected > 1:
            found["amri"] = 1 - (found["mr"] - 1) / (expected - 1)
    return found


def _mrr(places: Places) -> float:
    return float(places.reciprocal().mean())


def _mr(places: Places) -> float:
    return float(places.mean_rank().mean())


def _hits(places: Places, k: int) -> float:
    return float(places.within(k).mean())


__all__ = [
    "MEMORY",
    "FactRanks",
    "LinkEvaluation",
    "by_category",
    "by_relation",
    "evaluate_links",
    "link_metrics",
    "rank_facts",
    "relation_categories",
    "validation_link_metric",
]
