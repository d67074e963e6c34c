"""The label smoothness term of KGNN-LS (arXiv 1905.04413) by hand, and as plain loops over small graphs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from kgkit_plugins.kgcn import KGCN
from kgkit_plugins.kgnn_ls import KGNNLS

from kgkit.nn import kg_conv
from kgkit.testing.toy import toy_graph, toy_split


def model(**options: Any) -> KGNNLS:
    """KGNN-LS on a toy graph dense in items, so that labels meet labels."""
    graph = toy_graph(users=8, items=14, entities=20, triples=60, interactions=50)
    made = KGNNLS(KGNNLS.Config(**{"dim": 4, "neighbours": 3, "device": "cpu", **options}))
    made.prepare(graph, toy_split(graph))
    return made


def known(*labels: list[float]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Labels of one receptive field by hop; what is not 0.5 is known."""
    levels = [torch.tensor([level]) for level in labels]
    return [(level, level != 0.5) for level in levels]


def test_theorem2_step1_propagates_the_weighted_labels() -> None:
    """Neighbours labelled 1 and 0 weighing 3/4 and 1/4: 3/4; the authors' mean over K = 2 gives 3/8."""
    weights = [torch.tensor([[[0.75, 0.25]]])]
    labels = known([0.5], [1.0, 0.0])
    assert kg_conv.propagated_label(labels, weights, "paper").tolist() == [0.75]
    assert kg_conv.propagated_label(labels, weights, "authors").tolist() == [0.375]


def test_theorem2_step2_resets_known_labels() -> None:
    """Hop 1: the first is known (1) and stays, the second mixes 1 and 0.5 to 0.75: 0.5 * 1 + 0.5 * 0.75 = 0.875."""
    half = torch.full((1, 1, 2), 0.5)
    weights = [half, torch.full((1, 2, 2), 0.5)]
    labels = known([0.5], [1.0, 0.5], [0.0, 0.0, 1.0, 0.5])
    assert kg_conv.propagated_label(labels, weights, "paper").tolist() == [0.875]


def test_an_entity_without_neighbours_keeps_the_unknown_label() -> None:
    assert kg_conv.propagated_label(known([0.5], [1.0]), [torch.zeros(1, 1, 1)], "paper").tolist() == [0.5]


def test_section_4_2_the_item_is_held_out_wherever_it_appears() -> None:
    """User 3 labels entity 7 with 1 and entity 2 with 0; item 7 is its own neighbour's neighbour."""
    labels = kg_conv.KnownLabels.of(np.array([3, 3]), np.array([7, 2]), np.array([1, 0], np.float32), 10)
    field = kg_conv.Field(
        [torch.tensor([[7]]), torch.tensor([[2, 4]]), torch.tensor([[7, 7, 2, 9]])],
        [torch.zeros(1, 1, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64)],
        [torch.ones(1, 1), torch.ones(1, 2)],
    )
    levels = list(kg_conv.held_out_labels(labels, torch.tensor([3]), field))
    assert [label.tolist() for label, _ in levels] == [[[0.5]], [[0.0, 0.5]], [[0.5, 0.5, 0.0, 0.5]]]
    assert [found.tolist() for _, found in levels][1:] == [[[True, False]], [[False, False, True, False]]]


def test_labels_of_large_graphs_do_not_overflow() -> None:
    """Three million users by two million entities: keys beyond 32 bits stay apart."""
    users, entities = np.array([0, 2_999_999]), np.array([1_410_065_407, 1_999_999])
    labels = kg_conv.KnownLabels.of(users, entities, np.array([1, 0], np.float32), 2_000_000_000)
    asked = labels(torch.from_numpy(users), torch.from_numpy(np.stack([entities, entities[::-1]], 1)))
    assert asked.tolist() == [[1.0, 0.5], [0.0, 0.5]]


def test_labels_prefer_a_purchase_and_know_nothing_of_strangers() -> None:
    labels = kg_conv.KnownLabels.of(np.array([0, 0]), np.array([5, 5]), np.array([0, 1], np.float32), 9)
    assert labels(torch.tensor([0, 1]), torch.tensor([[5], [5]])).tolist() == [[1.0], [0.5]]
    empty = np.zeros(0, np.int64)
    none = kg_conv.KnownLabels.of(empty, empty, np.zeros(0, np.float32), 9)
    assert none(torch.tensor([0]), torch.tensor([[5]])).tolist() == [[0.5]]


def test_eq7_takes_a_probability_in_the_paper_and_a_logit_in_the_authors_code() -> None:
    """Predicted 3/4 for a label of 1: -ln 3/4, or -ln sigmoid(3/4)."""
    predicted, label = torch.tensor([0.75]), torch.tensor([1.0])
    assert kg_conv.label_loss(predicted, label, "paper").item() == pytest.approx(-math.log(0.75))
    assert kg_conv.label_loss(predicted, label, "authors").item() == pytest.approx(
        math.log(1 + math.exp(-0.75))
    )


def test_eq7_stays_finite_at_certainty() -> None:
    """Predicted 0 for a label of 1: the loss is that of the margin, and so is the gradient zero."""
    predicted = torch.tensor([0.0], requires_grad=True)
    loss = kg_conv.label_loss(predicted, torch.tensor([1.0]), "paper")
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(kg_conv.LABEL_MARGIN), rel=1e-4)
    assert predicted.grad is not None and predicted.grad.item() == 0


def slow_label(m: KGNNLS, user: int, item: int, entity: int, hop: int) -> float:
    """Theorem 2 for one receptive field as plain recursion; `item` is held out."""
    train = m.split.train
    value = 0.5
    if entity != item:
        for u, i, y in zip(train.user, train.item, train.label, strict=True):
            if u == user and m.graph.item_entity[i] == entity:
                value = float(y)
    if hop == m.config.depth or value != 0.5 or m.sampled.linked[entity] == 0:
        return value
    p, near = m.parameters, m.sampled.entity[entity].tolist()
    scores = [float(p["user"][user] @ p["relation"][r]) for r in m.sampled.relation[entity].tolist()]
    if m.config.arithmetic == "authors":
        scores = [s / m.config.dim for s in scores]
    total = sum(math.exp(s) for s in scores)
    mixed = sum(
        math.exp(s) / total * slow_label(m, user, item, e, hop + 1) for s, e in zip(scores, near, strict=True)
    )
    return mixed / len(near) if m.config.arithmetic == "authors" else mixed


@pytest.mark.parametrize(("arithmetic", "hops"), list(itertools.product(kg_conv.ARITHMETICS, (1, 2, 3))))
def test_eq7_as_plain_loops(arithmetic: str, hops: int) -> None:
    """Every training pair's held-out label, and the mean loss, to 1e-5; some labels must differ from 0.5."""
    m = model(arithmetic=arithmetic, depth=hops)
    users, items, labels = m.split.train.tensors()
    field = m.field(items)
    weights = kg_conv.field_weights(m.parameters, m.parameters["user"][users], field, m.conv)
    predicted = kg_conv.propagated_label(
        list(kg_conv.held_out_labels(m.labels, users, field)), weights, m.conv.arithmetic
    )
    expected = []
    for u, i in zip(users.tolist(), items.tolist(), strict=True):
        entity = int(m.item_entity[i])
        expected.append(slow_label(m, u, entity, entity, 0))
    torch.testing.assert_close(predicted, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert len({round(x, 4) for x in expected}) > 5
    losses = []
    for x, y in zip(expected, labels.tolist(), strict=True):
        inside = min(max(x, 1e-4), 1 - 1e-4) if arithmetic == "paper" else 1 / (1 + math.exp(-x))
        losses.append(-math.log(inside if y else 1 - inside))
    loss = m.label_smoothness(users, field, weights, labels)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_eq8_is_kgcn_plus_the_weighted_smoothness() -> None:
    """With lambda 0 the losses of both models agree; with lambda 2 they differ by twice R."""
    plain, smooth = model(ls_weight=0.0), model(ls_weight=2.0)
    kgcn = KGCN(KGCN.Config(dim=4, neighbours=3, device="cpu"))
    kgcn.prepare(plain.graph, plain.split)
    pairs = plain.split.train.tensors()
    p = plain.parameters
    assert plain.loss(p, *pairs).item() == pytest.approx(kgcn.loss(kgcn.parameters, *pairs).item())
    field = smooth.field(pairs[1])
    weights = kg_conv.field_weights(p, p["user"][pairs[0]], field, smooth.conv)
    r = smooth.label_smoothness(pairs[0], field, weights, pairs[2]).item()
    assert smooth.loss(p, *pairs).item() - plain.loss(p, *pairs).item() == pytest.approx(2 * r, rel=1e-4)


def test_section_4_2_the_term_reaches_only_users_and_relations() -> None:
    m = model(arithmetic="paper")
    p = {k: v.clone().requires_grad_() for k, v in m.parameters.items()}
    users, items, labels = m.split.train.tensors()
    field = m.field(items)
    weights = kg_conv.field_weights(p, p["user"][users], field, m.conv)
    m.label_smoothness(users, field, weights, labels).backward()
    assert {name for name, value in p.items() if value.grad is not None} == {"user", "relation"}


def test_published_settings_are_those_of_table_8() -> None:
    """Every row makes a valid config; music's are the defaults."""
    from kgkit.config import make_config

    for values in KGNNLS.published.values():
        make_config(KGNNLS.Config, values)
    assert make_config(KGNNLS.Config, KGNNLS.published["last.fm"]) == KGNNLS.Config()
