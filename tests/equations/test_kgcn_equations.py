"""The equations of KGCN (arXiv 1904.12575) on numbers worked by hand, and as plain loops over small graphs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from kgkit_plugins.kgcn import KGCN

from kgkit.graph import Neighbours
from kgkit.nn import kg_conv
from kgkit.testing.toy import toy_graph, toy_split

U = torch.tensor([[1.0, 0.0]])
RELATIONS = torch.tensor([[[[math.log(3), 0.0], [0.0, 0.0]]]])  # [B 1, n 1, K 2, d 2]
NEAR = torch.tensor([[[[4.0, 0.0], [0.0, 4.0]]]])


def model(**options: Any) -> KGCN:
    """KGCN on a toy graph, prepared."""
    graph = toy_graph()
    made = KGCN(KGCN.Config(**{"dim": 4, "neighbours": 3, "device": "cpu", **options}))
    made.prepare(graph, toy_split(graph))
    return made


def test_eq1_score_is_the_inner_product() -> None:
    """u = (1, 0), r = (ln 3, 0), (0, 0): scores ln 3 and 0; the authors' mean halves them (d = 2)."""
    assert kg_conv.user_relation_scores(U, RELATIONS, "paper").flatten().tolist() == pytest.approx(
        [math.log(3), 0]
    )
    assert kg_conv.user_relation_scores(U, RELATIONS, "authors").flatten().tolist() == pytest.approx(
        [math.log(3) / 2, 0]
    )


def test_eq3_weights_are_the_softmax_over_neighbours() -> None:
    """e^(ln 3) / (e^(ln 3) + e^0) = 3/4."""
    scores = kg_conv.user_relation_scores(U, RELATIONS, "paper")
    assert kg_conv.normalised(scores).flatten().tolist() == pytest.approx([3 / 4, 1 / 4])


def test_eq2_neighbourhood_is_the_weighted_sum() -> None:
    """3/4 (4, 0) + 1/4 (0, 4) = (3, 1); the authors' mean over K = 2 neighbours gives (1.5, 0.5)."""
    weights = torch.tensor([[[3 / 4, 1 / 4]]])
    assert kg_conv.neighbourhood(weights, NEAR, "paper").flatten().tolist() == pytest.approx([3, 1])
    assert kg_conv.neighbourhood(weights, NEAR, "authors").flatten().tolist() == pytest.approx([1.5, 0.5])


OWN, HOOD = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 1.0])
SWAP, BIAS = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, 0.0])


def test_eq4_sum_aggregator() -> None:
    """(1, -2) + (3, 1) = (4, -1), swapped (-1, 4), plus (0.5, 0) = (-0.5, 4); ReLU leaves (0, 4)."""
    assert kg_conv.aggregate("sum", OWN, HOOD, SWAP, BIAS, last=False).tolist() == [0, 4]


def test_eq5_concat_aggregator() -> None:
    """(1, -2, 3, 1) by rows that pick 1 and 3, then -2 and 1: (4, -1), plus (0.5, 0) = (4.5, -1) -> (4.5, 0)."""
    pick = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert kg_conv.aggregate("concat", OWN, HOOD, pick, BIAS, last=False).tolist() == [4.5, 0]


def test_eq6_neighbor_aggregator() -> None:
    """(3, 1) swapped (1, 3), plus (0.5, 0) = (1.5, 3)."""
    assert kg_conv.aggregate("neighbor", OWN, HOOD, SWAP, BIAS, last=False).tolist() == [1.5, 3]


def test_section_4_3_the_last_iteration_ends_in_tanh() -> None:
    """The sum of Eq. 4's test, (-0.5, 4), through tanh instead of ReLU."""
    out = kg_conv.aggregate("sum", OWN, HOOD, SWAP, BIAS, last=True)
    assert out.tolist() == pytest.approx([math.tanh(-0.5), math.tanh(4)])


def test_eq7_prediction_is_the_inner_product() -> None:
    """(1, 2) . (3, 0.5) = 4."""
    assert kg_conv.predict(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])).item() == 4


def test_eq8_l2_is_half_the_squared_norm_without_biases() -> None:
    """Tables of 2, 3, 1, 4 ones: 10 / 2 = 5; the bias of 7 does not count."""
    p = {
        "user": torch.ones(1, 2),
        "entity": torch.ones(3, 1),
        "relation": torch.ones(1, 1),
        "weight": torch.ones(1, 2, 2),
        "bias": torch.full((1, 1), 7.0),
    }
    assert kg_conv.squared_norm(p).item() == 5


def test_table2_kgcn_avg_is_the_plain_mean_in_both_arithmetics() -> None:
    """Two neighbours (4, 0), (0, 4) without scores: (2, 2)."""
    relations, linked = torch.zeros(1, 1, 2, dtype=torch.int64), torch.ones(1, 1)
    for arithmetic in ("paper", "authors"):
        conv = kg_conv.Convolution(1, "avg", arithmetic)
        weights = kg_conv.edge_weights({}, U, relations, linked, conv)
        assert kg_conv.neighbourhood(weights, NEAR, arithmetic).flatten().tolist() == [2, 2]


def test_section_3_2_sampling_without_replacement_when_there_are_enough() -> None:
    """Node 0 has 5 neighbours (K = 3: distinct), node 1 has 2 (with replacement), node 2 has none."""
    graph = Neighbours(
        np.array([0, 5, 7, 7]), np.array([0, 1, 2, 1, 2, 0, 2]), np.array([0, 1, 2, 3, 4, 5, 6])
    )
    seen = set()
    for seed in range(50):
        s = kg_conv.sample_neighbours(graph, 3, torch.Generator().manual_seed(seed))
        first = s.relation[0].tolist()
        assert len(set(first)) == 3 and set(first) <= {0, 1, 2, 3, 4}
        assert set(s.relation[1].tolist()) <= {5, 6}
        pairs = dict(enumerate(graph.entity.tolist()))
        assert [pairs[r] for r in first] == s.entity[0].tolist()
        assert s.linked.tolist() == [1, 1, 0] and s.entity[2].tolist() == [2, 2, 2]
        seen |= set(first)
    assert seen == {0, 1, 2, 3, 4}


def test_section_3_2_sampling_is_uniform() -> None:
    """Each of 5 neighbours is among 3 sampled in 3/5 of 4,000 nodes, within 4 standard deviations."""
    n = 4000
    graph = Neighbours(np.arange(n + 1) * 5, np.tile(np.arange(5), n), np.tile(np.arange(5), n))
    s = kg_conv.sample_neighbours(graph, 3, torch.Generator().manual_seed(0))
    share = np.bincount(s.entity.flatten().numpy(), minlength=5) / n
    assert np.abs(share - 0.6).max() < 4 * math.sqrt(0.24 / n)


def test_algorithm1_receptive_field_is_a_tree_of_samples() -> None:
    """Node i's neighbours are i + 1 and i + 2 (modulo 5): 0 -> 1 2 -> 2 3, 3 4."""
    nodes = torch.arange(5)
    entity = torch.stack([(nodes + 1) % 5, (nodes + 2) % 5], 1)
    field = kg_conv.receptive_field(kg_conv.Sampled(entity, entity * 10, torch.ones(5)), torch.tensor([0]), 2)
    assert [level.tolist() for level in field.entities] == [[[0]], [[1, 2]], [[2, 3, 3, 4]]]
    assert [level.tolist() for level in field.relations] == [[[[10, 20]]], [[[20, 30], [30, 40]]]]


def slow_vector(m: KGCN, user: int, entity: int, order: int) -> list[float]:
    """e^u[order] by Algorithm 1 as written: plain recursion and Python floats."""
    p, d, c = {k: v.tolist() for k, v in m.parameters.items()}, m.config.dim, m.config
    own_vector = p["entity"][entity] if order == 0 else slow_vector(m, user, entity, order - 1)
    if order == 0:
        return list(own_vector)
    near, relation = m.sampled.entity[entity].tolist(), m.sampled.relation[entity].tolist()
    mean_of_dot = d if c.arithmetic == "authors" else 1
    scores = [
        math.fsum(a * b for a, b in zip(p["user"][user], p["relation"][r], strict=True)) for r in relation
    ]
    exponentials = [math.exp(s / mean_of_dot) for s in scores]
    weights = [x / sum(exponentials) for x in exponentials]
    if c.arithmetic == "authors":
        weights = [w / len(near) for w in weights]
    if c.aggregator == "avg":
        weights = [1 / len(near)] * len(near)
    if m.sampled.linked[entity] == 0:
        weights = [0.0] * len(near)
    vectors = [slow_vector(m, user, e, order - 1) for e in near]
    hood = [math.fsum(w * v[j] for w, v in zip(weights, vectors, strict=True)) for j in range(d)]
    joined = {
        "concat": own_vector + hood,
        "neighbor": hood,
    }.get(c.aggregator, [a + b for a, b in zip(own_vector, hood, strict=True)])
    matrix, bias = p["weight"][order - 1], p["bias"][order - 1]
    linear = [
        math.fsum(x * row[j] for x, row in zip(joined, matrix, strict=True)) + bias[j] for j in range(d)
    ]
    return [math.tanh(x) if order == c.depth else max(x, 0.0) for x in linear]


@pytest.mark.parametrize(
    ("aggregator", "arithmetic", "hops"),
    list(itertools.product(kg_conv.AGGREGATORS, kg_conv.ARITHMETICS, (1, 2, 3))),
)
def test_algorithm1_as_plain_loops(aggregator: str, arithmetic: str, hops: int) -> None:
    """Every prediction of a small random graph, isolated items among its items, to 1e-5."""
    m = model(aggregator=aggregator, arithmetic=arithmetic, depth=hops)
    m.parameters["bias"] = torch.linspace(-0.3, 0.3, hops * 4).view(hops, 4)
    users, items = torch.arange(3).repeat_interleave(10), torch.arange(10).repeat(3)
    expected = []
    for u, i in zip(users.tolist(), items.tolist(), strict=True):
        vector = slow_vector(m, u, int(m.item_entity[i]), hops)
        expected.append(
            math.fsum(a * b for a, b in zip(m.parameters["user"][u].tolist(), vector, strict=True))
        )
    assert 0 in m.sampled.linked[m.item_entity]
    torch.testing.assert_close(
        m.logit(m.parameters, users, items), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("aggregator", "hops"), list(itertools.product(kg_conv.AGGREGATORS, (1, 2, 3))))
def test_eq7_for_every_item_equals_eq7_for_each(aggregator: str, hops: int) -> None:
    """One pass over shared entities gives what a tree under every item gives, in any chunks."""
    m = model(aggregator=aggregator, depth=hops, arithmetic="paper")
    users = torch.arange(12)
    each = m.logit(m.parameters, users.repeat_interleave(10), torch.arange(10).repeat(12)).view(12, 10)
    for floats in (1, 1 << 20):
        every = kg_conv.score_items(m.parameters, m.sampled, m.item_entity, users, m.conv, floats)
        torch.testing.assert_close(every, each, atol=1e-6, rtol=1e-5)


def test_eq8_loss_is_cross_entropy_plus_weighted_l2() -> None:
    m = model(l2=0.5)
    users, items, labels = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([1.0, 0.0])
    y = torch.sigmoid(m.logit(m.parameters, users, items)).tolist()
    expected = -(math.log(y[0]) + math.log(1 - y[1])) / 2
    expected += (
        0.5 * sum(float((m.parameters[t] ** 2).sum()) for t in ("user", "entity", "relation", "weight")) / 2
    )
    assert m.loss(m.parameters, users, items, labels).item() == pytest.approx(expected, rel=1e-5)


def test_tables_are_glorot_uniform_over_their_shape() -> None:
    """Bound sqrt(6 / (rows + d)), reached within a hundredth; biases zero; a seed gives the same tables."""
    conv = kg_conv.Convolution(2, "concat")
    p = kg_conv.initial(3000, 1000, 50, 16, conv, torch.Generator().manual_seed(1))
    bound = math.sqrt(6 / 3016)
    assert 0.99 * bound < p["user"].abs().max() <= bound
    assert p["weight"].shape == (2, 32, 16) and p["weight"].abs().max() <= math.sqrt(6 / 48)
    assert not p["bias"].any()
    again = kg_conv.initial(3000, 1000, 50, 16, conv, torch.Generator().manual_seed(1))
    assert all(torch.equal(p[k], again[k]) for k in p)


def test_receptive_field_names_the_hops_to_extract() -> None:
    assert model(depth=2).receptive_field() == 2


def test_published_settings_are_those_of_table_1() -> None:
    """Every row makes a valid config; Last.FM's are the defaults."""
    from kgkit.config import make_config

    for values in KGCN.published.values():
        make_config(KGCN.Config, values)
    assert make_config(KGCN.Config, KGCN.published["last.fm"]) == KGCN.Config()
