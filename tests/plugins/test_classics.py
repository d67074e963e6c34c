"""Popularity, ItemKNN and EASE: numbers worked by hand, and slow versions beside the fast ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kgkit_plugins import ease, itemknn, popularity
from kgkit_plugins.ease import EASE
from kgkit_plugins.itemknn import ItemKNN
from kgkit_plugins.popularity import Popularity

from kgkit.config import make_config
from kgkit.errors import ConfigError
from kgkit.evaluate.protocol import evaluate
from kgkit.evaluate.ranking import lots
from kgkit.evaluate.splits import LabelledPairs, Split, split_pairs
from kgkit.testing.toy import toy_graph

CLASSICS = [Popularity, ItemKNN, EASE]
# Rows are users. Items 0 and 1 go together, item 2 is for user 2 only, nobody bought item 3.
X = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=np.float32)


def split_of(x):
    """All of x in training, with a negative beside it that no classic may count."""
    user, item = np.nonzero(x)
    train = LabelledPairs(
        np.append(user, 3), np.append(item, 3), np.append(np.ones(len(user)), 0).astype(np.float32)
    )
    nothing = LabelledPairs(user[:0], item[:0], np.empty(0, dtype=np.float32))
    return Split(train, nothing, nothing, *x.shape)


def fitted(cls, split, **options):
    model = cls(make_config(cls.Config, {"tune": False, **options} if cls is not Popularity else options))
    model.fit(None, split, None)
    return model


def test_popularity_counts_training_purchases():
    model = fitted(Popularity, split_of(X))
    assert model.score_items(torch.tensor([0, 3])).tolist() == [[3, 2, 1, 0], [3, 2, 1, 0]]
    assert model.score_pairs(torch.tensor([0, 1]), torch.tensor([2, 0])).tolist() == [1, 3]


def test_itemknn_by_hand():
    # |x_0| = sqrt 3, |x_1| = sqrt 2, |x_2| = 1; <x_0, x_1> = 2, <x_0, x_2> = 1, <x_1, x_2> = 0; shrink 1.
    a, b = 2 / (math.sqrt(6) + 1), 1 / (math.sqrt(3) + 1)
    model = fitted(ItemKNN, split_of(X), neighbours=3, shrink=1, weighting="none")
    expected = [[a, a, b, 0], [a, a, b, 0], [b, a, b, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(model.score_items(torch.arange(4)), expected, rtol=1e-6)
    # With one neighbour, item 0 looks at item 1 only, so that user 2 (items 0 and 2) says nothing of item 0.
    nearest = fitted(ItemKNN, split_of(X), neighbours=1, shrink=1, weighting="none")
    np.testing.assert_allclose(nearest.score_items(torch.tensor([2])), [[0, a, b, 0]], rtol=1e-6)


@pytest.fixture
def purchases():
    rng = np.random.default_rng(2)
    return (rng.random((60, 25)) < rng.uniform(0.05, 0.5, 25)).astype(np.float32)


@pytest.mark.parametrize("weighting", ["none", "tf-idf"])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
def test_itemknn_is_that_of_a_loop(purchases, weighting, shrink, monkeypatch):
    monkeypatch.setattr(itemknn, "_BLOCK", 100)  # four items at a time
    model = fitted(ItemKNN, split_of(purchases), neighbours=5, shrink=shrink, weighting=weighting)
    users, items = purchases.shape
    x = purchases.astype(np.float64)
    if weighting == "tf-idf":
        rarity = np.log(items / np.maximum(purchases.sum(1), 1))
        x = x * rarity[:, None]
        x /= np.sqrt((x[purchases > 0] ** 2).mean())
    weights = np.zeros((items, items))
    drawn = lots(np.arange(items), torch.arange(items), 0).tolist()
    for i in range(items):
        norm = [np.linalg.norm(x[:, i]) * np.linalg.norm(x[:, j]) + shrink for j in range(items)]
        sim = [x[:, i] @ x[:, j] / norm[j] if i != j else 0 for j in range(items)]
        for j in sorted(range(items), key=lambda j: (-np.float32(sim[j]), -drawn[i][j]))[:5]:
            weights[i, j] = sim[j]
    np.testing.assert_allclose(model.score_items(torch.arange(users)), purchases @ weights.T, atol=1e-5)


def test_ease_eq8_by_hand():
    # Two items, G = [[2, 1], [1, 1]], l2 = 1: P = [[2, -1], [-1, 3]] / 5, so B_01 = 1/3 and B_10 = 1/2.
    model = fitted(
        EASE,
        split_of(
            np.array([[1, 1], [1, 0], [0, 0], [0, 0]], dtype=np.float32)[:, [0, 1, 1, 1]] * [1, 1, 0, 0]
        ),
        l2=1,
    )
    np.testing.assert_allclose(model.weights[:2, :2], [[0, 1 / 3], [1 / 2, 0]], rtol=1e-6)
    np.testing.assert_allclose(model.score_items(torch.tensor([0]))[0, :2], [1 / 2, 1 / 3], rtol=1e-6)


def test_ease_is_that_of_the_inverse_and_optimal(purchases):
    l2, x = 7.0, purchases.astype(np.float64)
    model = fitted(EASE, split_of(purchases), l2=l2)
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    np.testing.assert_allclose(model.weights, np.eye(len(p)) - p @ np.diag(1 / np.diag(p)), atol=1e-6)
    # Eq. 4: at the optimum, the gradient is 0 off the diagonal.
    b = model.weights.double().numpy()
    gradient = x.T @ (x @ b - x) + l2 * b
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-4)


def test_ease_refuses_more_memory_than_allowed(purchases):
    with pytest.raises(ConfigError, match=r"25 items, over --max-gib 1e-06"):
        fitted(EASE, split_of(purchases), max_gib=1e-6)


@pytest.mark.parametrize("cls", CLASSICS)
def test_pairs_score_as_in_the_ranking(cls, purchases):
    model = fitted(cls, split_of(purchases))
    user, item = (torch.from_numpy(a.ravel()) for a in np.indices(purchases.shape))
    table = model.score_items(torch.arange(len(purchases)))
    assert table.dtype == torch.float32 and table.shape == purchases.shape
    np.testing.assert_allclose(model.score_pairs(user, item), table.ravel(), atol=1e-6)
    assert model.score_pairs(user, item).dtype == torch.float32


@pytest.mark.parametrize("cls", CLASSICS)
def test_test_pairs_are_not_seen(cls):
    graph = toy_graph(users=30, items=20, entities=40, interactions=200)
    split = split_pairs(graph, seed=0)
    blind = Split(split.train, split.valid, split.valid, split.users, split.items)
    tables = []
    for s in (split, blind):
        model = cls(cls.Config())
        model.fit(graph, s, None)
        tables.append(model.score_items(torch.arange(30)))
    torch.testing.assert_close(tables[0], tables[1], rtol=0, atol=0)
    assert 0 <= evaluate(model, split, batch_size=16)["test"]["auc"] <= 1


@pytest.mark.parametrize(("cls", "option"), [(ItemKNN, "shrink"), (EASE, "l2")])
def test_tuning_records_what_it_picked(cls, option):
    graph = toy_graph(users=30, items=20, entities=40, interactions=200)
    split = split_pairs(graph, seed=0)
    model = cls(make_config(cls.Config, {option: 12.5}))
    model.fit(graph, split, None)
    assert 0 < model.chosen["valid_recall@20"] <= 1
    again = fitted(cls, split, **{k: v for k, v in model.chosen.items() if not k.startswith("valid")})
    torch.testing.assert_close(again.score_items(torch.arange(30)), model.score_items(torch.arange(30)))


def test_modules_offer_their_models():
    assert [m.register_models()[0].name for m in (popularity, itemknn, ease)] == [
        "popularity",
        "itemknn",
        "ease",
    ]
