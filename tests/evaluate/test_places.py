"""Every metric of tied scores against the mean over all orders of the items, written out one by one."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from kgkit_plugins.ease import EASE
from kgkit_plugins.itemknn import ItemKNN

from kgkit import predict
from kgkit.config import make_config
from kgkit.evaluate import ctr, ranking
from kgkit.evaluate.link_prediction import link_metrics
from kgkit.evaluate.link_ranking import FactRanks, SideRanks
from kgkit.evaluate.places import Places, user_metrics
from kgkit.evaluate.ranking import best_items, csr_of, lots, rank_metrics
from kgkit.evaluate.splits import LabelledPairs, Split, split_pairs
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.model import Recommender
from kgkit.testing.toy import toy_graph

ITEMS = 7
KS = (1, 2, 3, 4, 6, 9)


class Table(Recommender):
    def __init__(self, table):
        super().__init__(None)
        self.table = torch.as_tensor(table, dtype=torch.float32)

    def fit(self, graph, split, run):
        raise NotImplementedError

    def score_pairs(self, users, items):
        return self.table[users, items]

    def score_items(self, users):
        return self.table[users]


def of_one_order(ranked, wanted):
    """The metrics of a list of items, best first."""
    at = [place for place, item in enumerate(ranked) if item in wanted]
    found = {"mrr": 1 / (1 + at[0])}
    for k in KS:
        hits = [place for place in at if place < k]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
        found |= {
            f"recall@{k}": len(hits) / len(wanted),
            f"precision@{k}": len(hits) / k,
            f"hit@{k}": float(bool(hits)),
            f"ndcg@{k}": sum(1 / math.log2(place + 2) for place in hits) / ideal,
        }
    return found


def of_all_orders(scores, masked, wanted):
    """Their mean over every order of the candidates that puts no lower score before a higher one."""
    left = [i for i in range(len(scores)) if i not in masked]
    rows = [
        of_one_order(order, wanted)
        for order in permutations(left)
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    return {name: np.mean([row[name] for row in rows]) for name in rows[0]}


def case(seed, users=12):
    """Users with scores 0, 1 or 2 for seven items, of which some are bought, some disliked, and one to three wanted."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 3, (users, ITEMS)).astype(np.float32)
    table[0], table[1] = 1, np.arange(ITEMS)  # all tied, none tied
    table[2, :3] = np.nan  # as minus infinity: tied
    train, test = [], []
    for u in range(users):
        items = rng.permutation(ITEMS).tolist()
        n = int(rng.integers(1, 4))
        test += [(u, i, 1) for i in items[:n]]
        train += [(u, items[n], 1), (u, items[n + 1], 0)]
    pairs = [
        LabelledPairs(*np.array(p, dtype=np.int64).T[:2], np.array(p, np.float32)[:, 2])
        for p in (train, test)
    ]
    return table, Split(pairs[0], pairs[0], pairs[1], users, ITEMS)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_each_metric_is_its_mean_over_all_orders(compiled, seed, monkeypatch):
    if not compiled:
        monkeypatch.setattr(ranking, "rank_positives", lambda *a: None)
    table, split = case(seed)
    found = rank_metrics(Table(table), split, ks=KS)
    mine, theirs = [], []
    for u in range(split.users):
        scores = np.nan_to_num(table[u], nan=-np.inf)
        here = split.train.user == u
        wanted = set(split.test.item[split.test.user == u].tolist())
        bought = set(split.train.item[here & (split.train.label > 0)].tolist())
        mine.append(of_all_orders(scores, bought, wanted))
        theirs.append(of_all_orders(scores, set(split.train.item[here].tolist()), wanted))
    for name in mine[0]:
        assert found[name] == pytest.approx(np.mean([row[name] for row in mine]), abs=1e-12), name
    for k in KS:
        expected = np.mean([row[f"recall@{k}"] for row in theirs])
        for name in (f"authors_recall@{k}", f"authors_recall@{k}_100users"):
            assert found[name] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("size", "right", "better"), [(2000, 7, 5), (700, 2, 0), (300, 300, 3), (257, 1, 9)])
def test_large_groups_of_ties(size, right, better):
    """By exact binomials: a draw of `right` places among `size`."""
    places = Places(np.full(right, better), np.full(right, size - 1))
    found = user_metrics(places, np.array([0, right]), (20,))
    ways = math.comb(size, right)
    first = sum(math.comb(size - 1 - x, right - 1) / ways / (better + x + 1) for x in range(size - right + 1))
    none = math.comb(size - right, 20 - better) / math.comb(size, 20 - better)
    assert found["mrr"][0] == pytest.approx(first, rel=1e-12)
    assert found["hit@20"][0] == pytest.approx(1 - none, rel=1e-12)
    assert found["recall@20"][0] == pytest.approx((20 - better) / size)


def test_nearly_equal_scores_are_no_tie():
    scores = np.array([[1, np.nextafter(np.float32(1), np.float32(2)), 0]], dtype=np.float32)
    one = np.zeros(1, dtype=np.int64)
    pairs = [LabelledPairs(one, one + item, np.ones(1, dtype=np.float32)) for item in (2, 0)]
    found = rank_metrics(Table(scores), Split(pairs[0], pairs[0], pairs[1], 1, 3), ks=(1, 2))
    assert (found["recall@1"], found["recall@2"], found["mrr"]) == (0, 1, 0.5)


def test_what_is_wanted_is_a_candidate_also_where_it_was_bought_before():
    """Items 0 and 1 tie and are wanted; item 0 stands in training too."""
    zero = np.zeros(1, dtype=np.int64)
    bought = LabelledPairs(zero, zero, np.ones(1, dtype=np.float32))
    test = LabelledPairs(np.zeros(2, dtype=np.int64), np.arange(2), np.ones(2, dtype=np.float32))
    found = rank_metrics(Table([[1, 1, 0]]), Split(bought, bought, test, 1, 3), ks=(1,))
    assert (found["recall@1"], found["hit@1"], found["mrr"], found["authors_recall@1"]) == (0.5, 1, 1, 0.5)


def test_facts_count_by_their_mean_over_all_orders():
    better, equal = np.array([0, 2, 9, 0, 1]), np.array([0, 3, 4, 11, 1])
    side = SideRanks(better, equal, np.full(5, 20), better, equal)
    facts = Triples(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64), np.ones(5, dtype=np.int64))
    split = TripleSplit(facts, facts, facts, 2, 1)
    found = link_metrics(FactRanks(side, side), facts, split)
    ranks = [range(b + 1, b + e + 2) for b, e in zip(better.tolist(), equal.tolist(), strict=True)]
    expected = {
        "mrr": np.mean([np.mean([1 / r for r in rs]) for rs in ranks]),
        "mr": np.mean([np.mean(rs) for rs in ranks]),
        **{f"hits@{k}": np.mean([np.mean([r <= k for r in rs]) for rs in ranks]) for k in (1, 3, 10)},
        "mrr_optimistic": np.mean([1 / min(rs) for rs in ranks]),
        "mrr_pessimistic": np.mean([1 / max(rs) for rs in ranks]),
        "hits@10_pessimistic": np.mean([max(rs) <= 10 for rs in ranks]),
    }
    expected |= {f"raw_{name}": expected[name] for name in ("mrr", "mr", "hits@10")}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_auc_is_its_mean_over_all_orders_and_f1_needs_none():
    label, score = np.array([1, 0, 1, 0, 0, 1]), np.array([1, 1, 0, 0, 2, 2], dtype=np.float32)
    won = []
    for order in permutations(range(6)):
        if all(score[a] >= score[b] for a, b in pairwise(order)):
            at = {pair: place for place, pair in enumerate(order)}
            won.append(np.mean([at[p] < at[n] for p in (0, 2, 5) for n in (1, 3, 4)]))
    assert ctr.auc(label, score) == pytest.approx(np.mean(won))
    assert ctr.auc_batch_mean(np.tile(label, 2), np.tile(score, 2), 6) == pytest.approx(np.mean(won))
    for order in permutations(range(6)):
        some = list(order)
        assert ctr.best_threshold(label[some], score[some]) == ctr.best_threshold(label, score)
        assert ctr.f1(label[some], score[some], 1.0) == ctr.f1(label, score, 1.0)


# -- lots --------------------------------------------------------------------------------------------------------


def test_lots_are_fair_and_by_seed():
    """Of six tied items each is first, and each order comes, as often as another: chi-square, 99.9th percentiles."""
    users = np.arange(60_000)
    best, _ = best_items(torch.zeros(len(users), 6), 6, users, 3)
    for place in range(6):
        counts = np.bincount(best[:, place].numpy(), minlength=6)
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5
    orders = Counter(map(tuple, best.tolist()))
    assert len(orders) == 720 and sum((n - 60_000 / 720) ** 2 / (60_000 / 720) for n in orders.values()) < 841
    again, _ = best_items(torch.zeros(len(users), 6), 6, users, 3)
    other, _ = best_items(torch.zeros(len(users), 6), 6, users, 4)
    assert (best == again).all() and 0.1 < (best[:, 0] == other[:, 0]).float().mean() < 0.25


def test_lots_differ_within_a_row_and_do_not_hang_on_the_block():
    rows = np.array([5, 0, 123_456_789, 7])
    lot = lots(rows, torch.arange(5000), 0)
    assert all(len(set(row)) == 5000 and 0 <= min(row) <= max(row) < 2**32 for row in lot.tolist())
    assert (lots(rows[2:3], torch.arange(5000), 0)[0] == lot[2]).all()
    assert abs(np.corrcoef(lot[0].numpy(), np.arange(5000))[0, 1]) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_lots_on_a_gpu_are_those_of_the_cpu():
    rows = np.arange(100)
    assert (lots(rows, torch.arange(500, device="cuda"), 9).cpu() == lots(rows, torch.arange(500), 9)).all()


def test_predictions_of_equal_scores_draw_lots_by_the_question():
    ids, firsts = [f"e{i}" for i in range(5)], Counter()
    for given in range(1000):
        asked = predict.Question(predict.Node(f"g{given}"), "r", "tail", 3, True)
        best = predict._best(asked, ids, np.zeros(5, dtype=np.float32))
        assert len(best) == 3
        parts = [
            predict._best(asked, some, np.zeros(len(some), dtype=np.float32)) for some in (ids[3:], ids[:3])
        ]
        assert predict._ordered(asked, [*parts[0], *parts[1]]) == best
        firsts[best[0][0]] += 1
    assert min(firsts[id] for id in ids) > 150  # of 200


# -- a log that teaches nothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [ItemKNN, EASE])
@pytest.mark.parametrize("order", ["popular first", "popular last", "shuffled"])
def test_one_purchase_a_user_teaches_nothing_whatever_the_ids(cls, order):
    """3,200 users, 200 items, Zipf: what knows nothing finds 20 of 200 items, and recommends none."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 201)
    item = rng.choice(200, 3200, p=share / share.sum())
    item = {"popular first": item, "popular last": 199 - item, "shuffled": rng.permutation(200)[item]}[order]
    user = np.arange(3200)
    kept = rng.permutation(3200)
    parts = [
        LabelledPairs(user[some], item[some], np.ones(len(some), dtype=np.float32))
        for some in np.split(kept, [1920, 2560])
    ]
    split = Split(*parts, users=3200, items=200)
    model = cls(make_config(cls.Config, {}))
    model.fit(None, split, None)
    found = rank_metrics(model, split)
    assert found["recall@20"] == pytest.approx(20 / 200)
    assert model.chosen["valid_recall@20"] == pytest.approx(20 / 200)
    bought = csr_of(parts[0].user, parts[0].item, 3200)
    items, _ = ranking.top_items(model, user, 10, bought, seed=0)
    assert (items == -1).all()


def test_popularity_recommends_nothing_that_nobody_bought():
    from kgkit_plugins.popularity import Popularity

    split = split_pairs(toy_graph(users=30, items=20, entities=40, interactions=60), seed=0)
    model = Popularity(make_config(Popularity.Config, {}))
    model.fit(None, split, None)
    bought = split.train.positives()
    items, _ = ranking.top_items(model, np.arange(30), 20, csr_of(bought.user, bought.item, 30), seed=0)
    assert set(items[items >= 0].tolist()) <= set(bought.item.tolist()) < set(range(20))
