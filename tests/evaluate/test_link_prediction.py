"""Ranks of facts against a loop over facts and entities; the metrics by hand; what each filter holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from kgkit.errors import ConfigError
from kgkit.evaluate import link_ranking
from kgkit.evaluate.link_prediction import (
    by_category,
    by_relation,
    evaluate_links,
    link_metrics,
    rank_facts,
    relation_categories,
    validation_link_metric,
)
from kgkit.evaluate.link_ranking import FactRanks, SideRanks
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.model import LinkPredictor
from kgkit.native.build import load
from kgkit.nn.similarity import SIMILARITIES, Candidates, paired

ENTITIES, RELATIONS, DIM = 40, 4, 6


class Tables(LinkPredictor):
    """Queries are h + r and t - r (of another r, as reciprocal models have). Relational: candidates move by r."""

    def __init__(self, similarity="l1", seed=0, biased=False, relational=False, entities=ENTITIES):
        super().__init__(None)
        rng = np.random.default_rng(seed)

        def drawn(
            *shape,
        ):  # multiples of 1/2: exact sums, many ties. Roots are not exact: real numbers for `modulus`
            x = rng.normal(size=shape)
            return torch.tensor(x if similarity == "modulus" else np.round(2 * x) / 2, dtype=torch.float32)

        self.similarity, self.relational = similarity, relational
        self.entity = drawn(entities, DIM).requires_grad_()
        self.tail_r, self.head_r, self.moved = (drawn(RELATIONS, DIM) for _ in range(3))
        self.bias = drawn(entities) if biased else None
        self.asked, self.tables = [], []

    def tail_queries(self, heads, relations):
        self.asked.append(list(zip(heads.tolist(), relations.tolist(), strict=True)))
        return self.entity[heads] + self.tail_r[relations]

    def head_queries(self, relations, tails):
        self.asked.append(list(zip(relations.tolist(), tails.tolist(), strict=True)))
        return self.entity[tails] - self.head_r[relations]

    def candidates(self, relation=None):
        self.tables.append(relation)
        return Candidates(self.entity + self.moved[relation] if self.relational else self.entity, self.bias)

    def fit(self, graph, split, run):
        raise NotImplementedError

    restore = fit


def triples(rows):
    rows = np.array(sorted(set(map(tuple, rows))), dtype=np.int64).reshape(-1, 3)
    return Triples(*(np.ascontiguousarray(rows[:, c]) for c in range(3)))


def rows_of(part):
    return list(zip(part.head.tolist(), part.relation.tolist(), part.tail.tolist(), strict=True))


@pytest.fixture(scope="module")
def split():
    """Dense enough that queries have several known answers. Entities 36-39 are in test alone."""
    rng = np.random.default_rng(1)
    keys = rng.choice(36 * RELATIONS * 36, 900, replace=False)
    rows = [(k // (RELATIONS * 36), k // 36 % RELATIONS, k % 36) for k in keys.tolist()]
    test = [*rows[850:], (36, 0, 1), (2, 1, 37), (38, 3, 39)]
    return TripleSplit(triples(rows[:800]), triples(rows[800:850]), triples(test), ENTITIES, RELATIONS)


def slow_ranks(model, facts, known):
    """[side][kind] -> float64 [F], one fact and one entity at a time."""
    everything = {fact for part in (facts, *known) for fact in rows_of(part)}
    found = {(side, raw): [] for side in ("tail", "head") for raw in (False, True)}
    with torch.no_grad():
        for h, r, t in rows_of(facts):
            of = torch.tensor
            for side, query, answer in (
                ("tail", model.tail_queries(of([h]), of([r])), t),
                ("head", model.head_queries(of([r]), of([t])), h),
            ):
                scores = paired(model.similarity, query, model.candidates(r)).tolist()
                for raw in (False, True):
                    others = [
                        scores[e]
                        for e in range(ENTITIES)
                        if e != answer
                        and (raw or ((h, r, e) if side == "tail" else (e, r, t)) not in everything)
                    ]
                    better, equal = (
                        sum(s > scores[answer] for s in others),
                        sum(s == scores[answer] for s in others),
                    )
                    found[side, raw].append((better, equal, len(others) + 1))
    return {key: np.array(value).T for key, value in found.items()}


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setenv("KGKIT_NATIVE", "0")
    elif load("answers") is None:
        pytest.skip("no C compiler here")
    return request.param


@pytest.mark.parametrize(
    ("similarity", "more"),
    [
        *((s, {}) for s in SIMILARITIES),
        ("dot", {"biased": True}),
        ("l2-squared", {"relational": True, "biased": True}),
    ],
)
def test_ranks_are_those_of_a_loop(way, split, similarity, more):
    model = Tables(similarity, **more)
    known = [split.train, split.valid]
    found = rank_facts(model, split.test, known, raw=True)
    slow = slow_ranks(model, split.test, known)
    for name, side in (("tail", found.tail), ("head", found.head)):
        better, equal, candidates = slow[name, False]
        np.testing.assert_array_equal(side.better, better)
        np.testing.assert_array_equal(side.equal, equal)
        np.testing.assert_array_equal(side.candidates, candidates)
        np.testing.assert_array_equal(side.ranks(), 1 + better + equal / 2)
        np.testing.assert_array_equal(side.ranks("optimistic"), 1 + better)
        np.testing.assert_array_equal(side.ranks("pessimistic"), 1 + better + equal)
        np.testing.assert_array_equal(side.ranks(raw=True), 1 + slow[name, True][0] + slow[name, True][1] / 2)
    if similarity in ("l1", "dot"):
        assert found.tail.equal.any()  # ties were there to be counted


@pytest.mark.parametrize("relational", [False, True])
def test_facts_share_queries_and_relations_share_candidates(split, relational):
    model = Tables(relational=relational)
    rank_facts(model, split.test, [split.train])
    asked = [query for block in model.asked for query in block]
    pairs = {(h, r) for h, r, _ in rows_of(split.test)}, {(r, t) for _, r, t in rows_of(split.test)}
    assert len(asked) == len(pairs[0]) + len(pairs[1]) < 2 * len(split.test)
    relations = sorted(set(split.test.relation.tolist()))
    assert model.tables == (2 * relations if relational else [None, None])


@pytest.mark.parametrize("relational", [False, True])
def test_memory_bounds_the_queries_made_at_once(way, split, relational):
    model = Tables(relational=relational)
    expected = rank_facts(model, split.test, [split.train], raw=True)
    model.asked.clear()
    memory = 3 * link_ranking._BYTES_A_QUERY
    found = rank_facts(model, split.test, [split.train], memory=memory, raw=True)
    assert max(map(len, model.asked)) == 3
    np.testing.assert_array_equal(found.ranks(), expected.ranks())
    np.testing.assert_array_equal(found.ranks(raw=True), expected.ranks(raw=True))


def test_a_constant_model_ranks_in_the_middle(way, split):
    model = Tables()
    model.entity = torch.zeros(ENTITIES, DIM)
    ranks = rank_facts(model, split.test, [split.train])
    both = np.concatenate([ranks.tail.candidates, ranks.head.candidates])
    np.testing.assert_array_equal(ranks.ranks(), (both + 1) / 2)
    found = link_metrics(ranks, split.test, split)
    assert found["amri"] == pytest.approx(0)
    assert (found["mrr_optimistic"], found["hits@10_optimistic"]) == (1, 1)
    assert found["mrr_pessimistic"] == pytest.approx((1 / both).mean())


@pytest.mark.parametrize("where", ["queries", "some candidates"])
def test_a_model_of_nan_does_not_win(way, split, where):
    model = Tables()
    if where == "queries":
        model.tail_r, model.head_r = model.tail_r * torch.nan, model.head_r * torch.nan
    else:
        model.entity = model.entity.detach().clone()
        model.entity[split.test.tail] = torch.nan  # all the right answers
    found = link_metrics(rank_facts(model, split.test, [split.train]), split.test, split)
    assert found["mrr_tail"] < 0.2 and found["hits@1"] < 0.1  # a draw among the entities


def test_raw_ranks_must_be_asked_for(split):
    ranks = rank_facts(Tables(), split.test, [])
    with pytest.raises(ValueError, match="raw=True"):
        ranks.ranks(raw=True)
    assert "raw_mrr" not in link_metrics(ranks, split.test, split)


def by_hand():
    """Two facts; tail ranks 1 and 11 (ten better), head ranks 3 (two better) and 1, 2 or 3 (two ties)."""
    ints = np.array
    tail = SideRanks(ints([0, 10]), ints([0, 0]), ints([21, 21]), ints([1, 10]), ints([0, 0]))
    head = SideRanks(ints([2, 0]), ints([0, 2]), ints([11, 11]), ints([2, 4]), ints([0, 0]))
    return FactRanks(tail, head)


def test_metrics_by_hand():
    facts = triples([(0, 0, 1), (0, 1, 2)])
    split = TripleSplit(triples([(0, 0, 1)]), triples([]), facts, 3, 2)  # entity 2 is unseen
    found = link_metrics(by_hand(), facts, split)
    expected = {
        "mrr": (1 + 1 / 11 + 1 / 3 + (1 + 1 / 2 + 1 / 3) / 3) / 4,
        "mr": 17 / 4,
        "hits@1": (1 + 1 / 3) / 4,
        "hits@3": 3 / 4,
        "hits@10": 3 / 4,
        "amri": 1 - (17 / 4 - 1) / ((11 + 11 + 6 + 6) / 4 - 1),
        "mrr_tail": (1 + 1 / 11) / 2,
        "mrr_head": (1 / 3 + (1 + 1 / 2 + 1 / 3) / 3) / 2,
        "mrr_optimistic": (1 + 1 / 11 + 1 / 3 + 1) / 4,
        "mrr_pessimistic": (1 + 1 / 11 + 1 / 3 + 1 / 3) / 4,
        "hits@10_optimistic": 3 / 4,
        "hits@10_pessimistic": 3 / 4,
        "mrr_seen": (1 + 1 / 3) / 2,
        "mr_seen": 2,
        "hits@1_seen": 1 / 2,
        "hits@3_seen": 1,
        "hits@10_seen": 1,
        "raw_mrr": (1 / 2 + 1 / 11 + 1 / 3 + 1 / 5) / 4,
        "raw_mr": 21 / 4,
        "raw_hits@10": 3 / 4,
        "ranked_facts": 2,
        "unseen_facts": 1,
    }
    assert found == pytest.approx(expected)


def test_rows_by_relation_and_category_by_hand():
    facts, categories = triples([(0, 0, 1), (0, 1, 2)]), ["1-N", "unseen"]
    first = {
        "facts": 1,
        "mrr": (1 + 1 / 3) / 2,
        "mrr_head": 1 / 3,
        "mrr_tail": 1,
        "hits@10": 1,
        "hits@10_head": 1,
    }
    rows = by_relation(by_hand(), facts, categories)
    assert [(r["relation"], r["category"]) for r in rows] == [(0, "1-N"), (1, "unseen")]
    assert (
        first.items() <= {k: pytest.approx(v) if k != "category" else v for k, v in rows[0].items()}.items()
    )
    assert (rows[1]["hits@10_tail"], rows[1]["hits@10_head"], rows[1]["hits@10"]) == (0, 1, 0.5)
    rows = by_category(by_hand(), facts, ["N-N", "N-N"])
    assert [(r["category"], r["relations"], r["facts"]) for r in rows] == [("N-N", 2, 2)]
    assert rows[0]["mrr_tail"] == pytest.approx((1 + 1 / 11) / 2)


def test_categories_by_the_rule_of_one_and_a_half():
    one_one = [(h, 0, h + 10) for h in range(4)]
    to_many = [(0, 1, t) for t in (1, 2)] + [(3, 1, 4)]  # 3 facts of 2 heads: 1.5 tails a head is many
    from_many = [(t, 2, h) for h, _, t in to_many]
    many = [(h, 3, t) for h in (0, 1) for t in (2, 3)]
    nearly = [(0, 4, t) for t in (1, 2)] + [(h, 4, h + 1) for h in (3, 5, 7)]  # 5 facts of 4 heads: 1.25
    train = triples(one_one + to_many + from_many + many + nearly)
    assert relation_categories(train, 6) == ["1-1", "1-N", "N-1", "N-N", "1-1", "unseen"]


def test_each_part_has_its_own_filter(split):
    model = Tables()
    found = evaluate_links(model, split, raw=True)
    for part, known in (("valid", [split.train]), ("test", [split.train, split.valid])):
        facts = getattr(split, part)
        slow = slow_ranks(model, facts, known)
        places = [
            (b, e)
            for side in ("tail", "head")
            for b, e in zip(*(count.tolist() for count in slow[side, False][:2]), strict=True)
        ]
        expected = [np.mean([1 / rank for rank in range(1 + b, 2 + b + e)]) for b, e in places]
        assert found.metrics[part]["mrr"] == pytest.approx(np.mean(expected))
        assert found.metrics[part]["ranked_facts"] == len(facts)
    assert (found.metrics["valid"]["unseen_facts"], found.metrics["test"]["unseen_facts"]) == (0, 3)
    assert sum(row["facts"] for row in found.relations) == len(split.test)
    assert sum(row["facts"] for row in found.categories) == len(split.test)
    json.dumps([found.metrics, found.relations, found.categories], allow_nan=False)


def test_empty_parts_have_no_metrics_and_no_nan(split):
    empty = TripleSplit(triples([]), triples([]), triples([]), ENTITIES, RELATIONS)
    found = evaluate_links(Tables(), empty, raw=True)
    assert found.metrics == {part: {"ranked_facts": 0, "unseen_facts": 0} for part in ("valid", "test")}
    assert found.relations == found.categories == []
    none_seen = TripleSplit(triples([]), split.valid, split.test, ENTITIES, RELATIONS)
    values = evaluate_links(Tables(), none_seen).metrics["test"]
    assert "mrr_seen" not in values and not any(map(math.isnan, values.values()))


def test_selection_sees_no_test_fact(split):
    model = Tables()
    expected = evaluate_links(model, split).metrics["valid"]
    other = TripleSplit(split.train, split.valid, split.train, ENTITIES, RELATIONS)
    for name in ("mrr", "amri", "hits@1", "hits@10"):
        assert validation_link_metric(model, other, name) == pytest.approx(expected[name])
    assert 0 < validation_link_metric(model, other, "hits@7") <= expected["hits@10"]


def test_selection_on_facts_drawn_by_seed(split):
    model = Tables()
    drawn = [validation_link_metric(model, split, "mrr", most=10, seed=s) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    model.asked.clear()
    validation_link_metric(model, split, "mrr", most=10)
    assert {r for block in model.asked[:1] for _, r in block} <= set(range(RELATIONS))
    assert sum(map(len, model.asked)) <= 20
    everything = validation_link_metric(model, split, "mrr", most=len(split.valid))
    assert everything == validation_link_metric(model, split, "mrr")


def test_unknown_or_undefined_selection_is_refused(split):
    for name in ("mmr", "hits@0", "hits@x", "hits", "auc", "hits@", "mrr@3"):
        with pytest.raises(ConfigError, match="no validation metric"):
            validation_link_metric(Tables(), split, name)
    with pytest.raises(ConfigError, match="amri"):
        validation_link_metric(Tables(), split, "mr")
    with pytest.raises(ConfigError, match="validation facts"):
        validation_link_metric(Tables(), TripleSplit(split.train, triples([]), split.test, 40, 4), "mrr")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ranks_on_a_gpu_are_those_of_the_cpu(split, similarity):
    model = Tables(similarity)
    expected = rank_facts(model, split.test, [split.train]).ranks()
    for name in ("entity", "tail_r", "head_r", "moved"):
        setattr(model, name, getattr(model, name).detach().cuda())
    np.testing.assert_array_equal(rank_facts(model, split.test, [split.train]).ranks(), expected)
