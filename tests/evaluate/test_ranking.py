"""The full ranking against a slow one, user by user, and the protocol around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kgkit.errors import ConfigError
from kgkit.evaluate import ranking
from kgkit.evaluate.protocol import choose, evaluate, validation_metric
from kgkit.evaluate.ranking import best_items, csr_of, lots, rank_metrics, top_items
from kgkit.evaluate.splits import LabelledPairs, Split
from kgkit.model import Recommender

USERS, ITEMS = 40, 30
KS = (1, 3, 10, 50)  # 50: more than there are items


class Table(Recommender):
    """Scores by a table [users, items]."""

    def __init__(self, table, logits=False):
        super().__init__(None)
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.asked = []
        self.logits = logits

    def fit(self, graph, split, run):
        raise NotImplementedError

    def score_pairs(self, users, items):
        return self.table[users, items]

    def score_items(self, users):
        self.asked.append(len(users))
        return self.table[users]


def random_split(seed=0):
    """Users 0-4 have no training pair, users 5-9 only negatives in training, users 10-14 no test positive."""
    rng = np.random.default_rng(seed)
    keys = rng.choice(USERS * ITEMS, 600, replace=False)
    user, item, label = keys // ITEMS, keys % ITEMS, (rng.random(600) < 0.5).astype(np.float32)
    part = rng.choice(3, 600, p=[0.6, 0.2, 0.2])
    part[user < 5] = 2
    label[(user >= 5) & (user < 10) & (part == 0)] = 0
    label[(user >= 10) & (user < 15) & (part == 2)] = 0
    parts = [LabelledPairs(user[part == p], item[part == p], label[part == p]) for p in range(3)]
    return Split(*parts, users=USERS, items=ITEMS)


@pytest.fixture(params=["distinct", "tied"])
def model(request):
    table = np.random.default_rng(5).normal(size=(USERS, ITEMS))
    return Table(table if request.param == "distinct" else np.round(table))


def of_user(pairs, u, positives=True):
    return set(pairs.item[(pairs.user == u) & ((pairs.label > 0) | (not positives))].tolist())


def groups_of(scores, left, wanted):
    """Candidates of equal score together, best first: how many are better, how many there are, how many are wanted."""
    found, better = [], 0
    for score in sorted({float(scores[i]) for i in left}, reverse=True):
        tied = [i for i in left if float(scores[i]) == score]
        found.append((better, len(tied), len(wanted & set(tied))))
        better += len(tied)
    return found


def slow_metrics(table, split, part, ks):
    """Expected values, by exact binomials: a group's wanted items lie anywhere among its places."""
    rows, theirs = [], []
    for u in range(split.users):
        wanted = of_user(getattr(split, part), u)
        if not wanted:
            continue
        record = of_user(split.train, u, positives=False)
        by_mask = [
            groups_of(table[u], [i for i in range(split.items) if i not in mask], wanted)
            for mask in (of_user(split.train, u), record)
        ]
        hits = [
            {k: sum(t * min(max(k - b, 0), m) / m for b, m, t in groups) for k in ks} for groups in by_mask
        ]
        better, size, right = next(group for group in by_mask[0] if group[2])
        row = {
            "mrr": sum(
                math.comb(size - 1 - x, right - 1) / math.comb(size, right) / (1 + better + x)
                for x in range(size - right + 1)
            )
        }
        for k in ks:
            row[f"recall@{k}"] = hits[0][k] / len(wanted)
            row[f"precision@{k}"] = hits[0][k] / k
            row[f"hit@{k}"] = 1 - math.prod(
                math.comb(m - t, min(max(k - b, 0), m)) / math.comb(m, min(max(k - b, 0), m))
                for b, m, t in by_mask[0]
            )
            ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
            gain = sum(
                t / m / math.log2(place + 2) for b, m, t in by_mask[0] for place in range(b, min(b + m, k))
            )
            row[f"ndcg@{k}"] = gain / ideal
        rows.append(row)
        if record:
            theirs.append({f"authors_recall@{k}": hits[1][k] / len(wanted) for k in ks})
    found = {name: np.mean([r[name] for r in rows]) for name in rows[0]}
    found |= {name: np.mean([r[name] for r in theirs]) for name in theirs[0]}
    return found | {"ranked_users": len(rows), "authors_users": len(theirs)}


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("memory", [1 << 30, 200_000], ids=["one block", "many blocks"])
def test_metrics_are_those_of_a_loop_over_users(model, part, compiled, memory, monkeypatch):
    if not compiled:
        monkeypatch.setattr(ranking, "rank_positives", lambda *a: None)
    split = random_split()
    found = rank_metrics(model, split, part=part, ks=KS, memory=memory)
    expected = slow_metrics(model.table, split, part, KS)
    assert expected["authors_users"] < expected["ranked_users"] or part == "valid"
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    # Fewer than 100 users are eligible: all of them are drawn.
    assert found["authors_recall@10_100users"] == pytest.approx(expected["authors_recall@10"])
    assert max(model.asked) * ITEMS * 1024 <= memory


def test_metrics_by_hand():
    # Items score 5, 4, 3, 2, 1; item 0 is bought, items 1 and 4 are wanted: ranks 0 and 3 of the four others.
    one = np.ones(1, dtype=np.float32)
    zero = np.zeros(1, dtype=np.int64)
    test = LabelledPairs(np.zeros(2, dtype=np.int64), np.array([1, 4]), np.ones(2, dtype=np.float32))
    train = LabelledPairs(zero, zero, one)
    split = Split(train, train, test, users=1, items=5)
    found = rank_metrics(Table([[5, 4, 3, 2, 1]]), split, ks=(1, 2, 4))
    assert (found["recall@1"], found["recall@2"], found["recall@4"]) == (0.5, 0.5, 1.0)
    assert (found["precision@1"], found["precision@2"], found["precision@4"]) == (1.0, 0.5, 0.5)
    assert found["mrr"] == found["hit@1"] == 1.0
    assert found["ndcg@4"] == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))


def test_a_model_of_equal_scores_gains_nothing_from_ties():
    split = random_split()
    found = rank_metrics(Table(np.zeros((USERS, ITEMS))), split, ks=(10,))
    left = ITEMS - np.array([len(of_user(split.train, u)) for u in range(USERS) if of_user(split.test, u)])
    assert found["recall@10"] == pytest.approx((10 / left).mean())


@pytest.mark.parametrize("compiled", [True, False])
def test_scores_that_are_no_numbers_rank_last(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(ranking, "rank_positives", lambda *a: None)
    found = rank_metrics(Table(np.full((USERS, ITEMS), np.nan)), random_split(), ks=(1,))
    assert found["recall@1"] < 0.1  # a draw among some 20 candidates


def test_no_positives_no_metrics(caplog):
    split = random_split()
    none = LabelledPairs(split.test.user, split.test.item, np.zeros_like(split.test.label))
    found = rank_metrics(Table(np.zeros((USERS, ITEMS))), Split(split.train, split.valid, none, USERS, ITEMS))
    assert math.isnan(found["recall@20"]) and math.isnan(found["authors_recall@20_100users"])
    assert found["ranked_users"] == 0
    assert "no user has a positive" in caplog.text


def test_hundred_users_are_drawn_by_seed():
    rng = np.random.default_rng(0)
    n = 300
    pairs = [
        LabelledPairs(np.arange(n), rng.integers(low, low + 10, n), np.ones(n, dtype=np.float32))
        for low in (0, 10, 20)
    ]
    split, model = Split(*pairs, users=n, items=30), Table(rng.normal(size=(n, 30)))
    drawn = [rank_metrics(model, split, ks=(10,), seed=s)["authors_recall@10_100users"] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert round(drawn[0] * 100, 6) == int(round(drawn[0] * 100, 6))  # one wanted item for each of 100 users


@pytest.mark.parametrize("memory", [1 << 30, 100_000])
def test_top_items_are_the_best_unmasked(model, memory):
    bought = random_split().train
    mask = csr_of(bought.user, bought.item, USERS)
    users = np.array([3, 0, 17, 39])
    items, scores = top_items(model, users, ITEMS, mask, memory, seed=8)
    drawn = lots(users, torch.arange(ITEMS), 8).tolist()
    for row, u in enumerate(users):
        left = [i for i in range(ITEMS) if i not in of_user(bought, u, positives=False)]
        best = sorted(left, key=lambda i: (-float(model.table[u, i]), -drawn[row][i]))
        padding = ITEMS - len(best)
        assert items[row].tolist() == best + [-1] * padding
        np.testing.assert_array_equal(scores[row, : len(best)], model.table[u, best].numpy())
        assert np.isneginf(scores[row, len(best) :]).all()
    few, _ = top_items(model, users, 5, mask, seed=8)
    np.testing.assert_array_equal(few, items[:, :5])
    assert items.dtype == np.int64 and scores.dtype == np.float32


def test_top_items_beyond_all_items_are_padded():
    one = np.array([0])
    items, scores = top_items(Table([[1.0, -3.0, -0.0, 0.0]]), one, 6, csr_of(one, np.array([3]), 1), seed=0)
    assert items.tolist() == [[0, 2, 1, -1, -1, -1]]
    assert scores[0, :3].tolist() == [1.0, 0.0, -3.0]
    nobody = np.array([], dtype=np.int64)
    assert top_items(Table([[1.0]]), nobody, 2, csr_of(one, one, 1), seed=0)[0].shape == (0, 2)


@pytest.mark.parametrize(
    "kinds", [[-1.0, 0.0, -0.0, 2.5, math.inf, -math.inf, math.nan], [1.0, 2.0], [math.nan]]
)
@pytest.mark.parametrize("n", [1, 4, 12])
def test_the_best_are_those_of_sorting(kinds, n):
    """Rows with ties and without beside each other; NaN comes after all numbers, and what is left out never."""
    rng = np.random.default_rng(n)
    scores = rng.choice(np.array(kinds, dtype=np.float32), (60, 12))
    scores[::3] = rng.normal(size=(20, 12))
    user, item = np.nonzero(rng.random((60, 12)) < 0.3)
    out, rows = torch.from_numpy(rng.random((60, 12)) < 0.1), rng.permutation(1000)[:60]
    mask, lot = csr_of(user, item, 60), lots(rows, torch.arange(12), 5).tolist()
    found, values = best_items(torch.from_numpy(scores), n, rows, 5, mask, out)
    for b in range(60):
        gone = set(mask.of(np.array([b])).items.tolist()) | set(np.flatnonzero(out[b].numpy()).tolist())
        order = sorted(
            set(range(12)) - gone,
            key=lambda i: (
                math.isnan(scores[b, i]),
                -np.nan_to_num(scores[b, i], nan=0.0, posinf=9, neginf=-9),
                -lot[b][i],
            ),
        )[:n]
        assert found[b].tolist() == order + [-1] * (n - len(order))
        np.testing.assert_array_equal(values[b, : len(order)].numpy(), scores[b, order])
        assert (values[b, len(order) :] == -torch.inf).all()


def test_zeros_of_either_sign_tie():
    users = np.arange(200)
    best, _ = best_items(torch.tensor([[-0.0, 0.0]]).expand(200, 2), 1, users, 0)
    assert 60 < int(best.sum()) < 140


def test_what_is_unknown_is_left_out():
    """And what is worse than that: item 2, which the model would rather not."""
    model = Table([[0.5, 0.0, -1.0, 0.0, 0.1]])
    one = np.array([0])
    assert top_items(model, one, 5, csr_of(one, one, 1), seed=0)[0][0, [0, 3]].tolist() == [4, 2]
    model.unknown = 0.0
    items, scores = top_items(model, one, 5, csr_of(one, one, 1), seed=0)
    assert items.tolist() == [[4, -1, -1, -1, -1]] and scores[0, 0] == np.float32(0.1)


def test_csr_is_distinct_and_ascending():
    csr = csr_of(np.array([2, 0, 2, 2]), np.array([5, 1, 3, 5]), 4)
    assert (csr.start.tolist(), csr.items.tolist()) == ([0, 1, 1, 3, 3], [1, 3, 5])
    assert csr.of(np.array([2, 1, 0])).items.tolist() == [3, 5, 1]


def test_evaluate_reports_every_part(model):
    split = random_split()
    found = evaluate(model, split, batch_size=32, seed=0)
    assert set(found) == {"train", "valid", "test"}
    assert {"auc", "f1", "auc_batch_mean", "f1_batch_mean"} == set(found["train"])
    assert {"auc", "recall@20", "ndcg@20", "mrr", "authors_recall@100_100users"} <= set(found["test"])
    assert not any(math.isnan(v) for values in found.values() for v in values.values())
    assert "recall@20" not in evaluate(model, split, batch_size=32, ranking=False)["test"]
    assert "auc_batch_mean" not in evaluate(model, split, batch_size=10_000)["test"]


def test_selection_sees_validation_only(model):
    split = random_split()
    other = Split(split.train, split.valid, split.train, USERS, ITEMS)
    expected = slow_metrics(model.table, split, "valid", (20,))
    for name in ("recall@20", "ndcg@20", "mrr"):
        assert validation_metric(model, other, name) == pytest.approx(expected[name])
    assert validation_metric(model, other, "auc") == evaluate(model, split, batch_size=8)["valid"]["auc"]


def test_unknown_or_undefined_selection_is_refused(model):
    split = random_split()
    for name in ("reacll@20", "recall@0", "recall@x", "rmse"):
        with pytest.raises(ConfigError, match="no validation metric"):
            validation_metric(model, split, name)
    empty = LabelledPairs(split.valid.user, split.valid.item, np.zeros_like(split.valid.label))
    for name in ("auc", "recall@20"):
        with pytest.raises(ConfigError, match="not defined"):
            validation_metric(model, Split(split.train, empty, split.test, USERS, ITEMS), name)


def test_choose_leaves_the_winner_in_place():
    split = random_split()
    good = torch.zeros(USERS, ITEMS)
    wanted = split.valid.positives()
    good[wanted.user, wanted.item] = 1
    model = Table(torch.zeros(USERS, ITEMS))

    def use(table):
        model.table = table

    chosen = choose(model, split, [{"x": 0}, {"x": 1}, {"x": -1}], lambda s: good * s["x"], use)
    assert chosen == {"x": 1, "valid_recall@20": 1.0}
    assert model.table.max() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_ranks_on_a_gpu_are_those_of_the_cpu(model):
    split = random_split()
    expected = rank_metrics(model, split)
    model.table = model.table.cuda()
    found = rank_metrics(model, split)
    assert found == pytest.approx(expected, abs=1e-9)
