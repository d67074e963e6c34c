"""TransR by numbers worked by hand, and the grouped projection beside a matrix product a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kgkit_plugins.transr import TransR

from kgkit.config import make_config
from kgkit.errors import ConfigError
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.nn.projection import projected

H, T = [0.5, 0.2, 0.1], [0.1, 0.4, 0.3]  # d = 3
R = [0.3, -0.1]  # k = 2
M = [[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]
# M h = (0.5 + 0.2, 0.2 - 0.1) = (0.7, 0.1); M t = (0.1 + 0.6, 0.4 - 0.3) = (0.7, 0.1).
# M h + r - M t = (0.3, -0.1): squared 0.1, L1 0.4.
H_, R_, T_ = (torch.tensor([i]) for i in (0, 0, 1))


def model(**options: Any) -> TransR:
    m = TransR(make_config(TransR.Config, {"dim": 3, "relation_dim": 2, "device": "cpu", **options}))
    one = Triples(*(np.array([i]) for i in (0, 0, 1)))
    m.prepare(None, TripleSplit(one, one, one, 2, 1))
    r, matrix = torch.tensor([R]), torch.tensor(M).reshape(1, 6)
    if m.config.reciprocal:
        r, matrix = torch.cat([r, 2 * r]), torch.cat([matrix, torch.eye(2, 3).reshape(1, 6)])
    m.parameters = {"entity": torch.tensor([H, T]), "relation": r, "relation_matrix": matrix}
    m.settle()
    return m


@pytest.mark.parametrize(("norm", "expected"), [("l2-squared", -0.1), ("l1", -0.4)])
def test_eq7_and_eq8_by_hand(norm: str, expected: float) -> None:
    m = model(norm=norm)
    torch.testing.assert_close(m.project(m.parameters, H_, R_), torch.tensor([[0.7, 0.1]]))
    torch.testing.assert_close(m.tail_query(m.parameters, H_, R_), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(m.score(m.parameters, H_, R_, T_), torch.tensor([expected]))


def test_the_head_query_by_hand() -> None:
    m = model()
    torch.testing.assert_close(m.head_query(m.parameters, R_, T_), torch.tensor([[0.4, 0.2]]))
    # The second relation: projected by the identity, (0.1, 0.4), plus 2 r.
    m = model(reciprocal=True)
    torch.testing.assert_close(m.head_query(m.parameters, R_, T_), torch.tensor([[0.7, 0.2]]))


def test_projections_stay_in_the_unit_ball() -> None:
    """M (1.5, 1, 1) = (3.5, 0); of length 1, (1, 0)."""
    m = model()
    m.parameters["entity"] = torch.tensor([[1.5, 1.0, 1.0]])
    torch.testing.assert_close(m.project(m.parameters, H_, R_), torch.tensor([[1.0, 0.0]]))
    m = model(ball=False)
    m.parameters["entity"] = torch.tensor([[1.5, 1.0, 1.0]])
    torch.testing.assert_close(m.project(m.parameters, H_, R_), torch.tensor([[3.5, 0.0]]))


def test_candidates_are_what_the_relation_sees() -> None:
    m = model()
    torch.testing.assert_close(m.candidates(0).table, torch.tensor([[0.7, 0.1], [0.7, 0.1]]))
    p: Any = {k: v.numpy() for k, v in m.parameters.items()}
    np.testing.assert_allclose(m.answers(p, slice(None), 0).table, [[0.7, 0.1]] * 2, rtol=1e-6)
    np.testing.assert_allclose(m.tail_query(p, np.array([0]), np.array([0])), [[1.0, 0.0]], atol=1e-7)  # type: ignore[arg-type]


def test_facts_and_negatives_together_score_as_each_alone() -> None:
    m = random_model(entities=20, relations=5)
    g = torch.Generator().manual_seed(3)
    facts = torch.stack([torch.randint(n, (12,), generator=g) for n in (20, 5, 20)])
    negatives, at_head = torch.randint(20, (12, 3), generator=g), torch.rand(12, generator=g) < 0.5
    positive, negative = m.scores(m.parameters, facts, negatives, at_head)
    alone, each = super(TransR, m).scores(m.parameters, facts, negatives, at_head)
    torch.testing.assert_close(positive, alone)
    torch.testing.assert_close(negative, each)


def random_model(entities: int, relations: int, **options: Any) -> TransR:
    m = TransR(make_config(TransR.Config, {"dim": 6, "relation_dim": 4, "device": "cpu", **options}))
    rng = np.random.default_rng(0)
    facts = Triples(*(rng.integers(0, n, 60) for n in (entities, relations, entities)))
    m.prepare(None, TripleSplit(facts, facts, facts, entities, relations))
    m.parameters["relation_matrix"] = torch.randn(relations, 24, generator=torch.Generator().manual_seed(2))
    return m


@pytest.mark.parametrize("relations", [1, 7, 100])
def test_projection_is_that_of_each_alone_with_its_gradients(relations: int) -> None:
    """Some relations have no vector, some more than a block of them."""
    g = torch.Generator().manual_seed(relations)
    matrices = torch.randn(relations, 4, 6, generator=g, requires_grad=True)
    vectors = torch.randn(90, 2, 6, generator=g, requires_grad=True)
    of = torch.randint(relations, (90, 2), generator=g)
    of[:40] = relations // 2
    weight = torch.randn(90, 2, 4, generator=g)
    found = projected(matrices, vectors, of)
    expected = torch.einsum("bnkd,bnd->bnk", matrices[of], vectors)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), (matrices, vectors)),
        torch.autograd.grad((expected * weight).sum(), (matrices, vectors)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    by_numpy = projected(matrices.detach().numpy(), vectors.detach().numpy(), of.numpy())
    np.testing.assert_allclose(by_numpy, expected.detach(), atol=1e-5)
    one_for_all = projected(matrices, vectors, torch.tensor(relations // 2))
    torch.testing.assert_close(one_for_all[:40], expected[:40], atol=1e-5, rtol=1e-5)


def test_no_vectors_at_all() -> None:
    for relations in (3, 100):
        found = projected(torch.randn(relations, 4, 6), torch.randn(0, 6), torch.zeros(0, dtype=torch.int64))
        assert found.shape == (0, 4)


def test_a_step_touches_only_the_batch() -> None:
    m = random_model(
        entities=30, relations=5, batch_size=4, optimiser="adam", margin=100.0, filtered=False, negatives=1
    )
    before = {k: v.clone() for k, v in m.parameters.items()}
    m.epoch_begins(torch.Generator().manual_seed(1))
    rows = torch.tensor([0, 1, 2, 3])
    named = set(m.steps.facts[1, rows].tolist())
    m.steps.run(m.make_optimiser(), rows)
    for table in ("relation", "relation_matrix"):
        changed = (m.parameters[table] != before[table]).any(1)
        assert set(changed.nonzero()[:, 0].tolist()) == named
    assert 0 < int((m.parameters["entity"] != before["entity"]).any(1).sum()) <= 12
    assert m.parameters["entity"].norm(dim=1).max() < 1 + 1e-5


def test_it_begins_at_the_identity() -> None:
    m = TransR(make_config(TransR.Config, {"dim": 3, "relation_dim": 2, "device": "cpu"}))
    one = Triples(*(np.array([i]) for i in (0, 0, 1)))
    m.prepare(None, TripleSplit(one, one, one, 2, 2))
    assert m.parameters["relation_matrix"].tolist() == [[1, 0, 0, 0, 1, 0]] * 2
    torch.testing.assert_close(m.parameters["entity"].norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shared": True}, "cannot share negatives"),
        ({"training": "1-vs-all", "loss": "cross-entropy"}, "cannot score all entities at once"),
        ({"training": "k-vs-all", "loss": "cross-entropy"}, "--training sampled"),
    ],
)
def test_what_every_relation_sees_differently_cannot_be_shared(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        model(**options)


@pytest.mark.parametrize("name", TransR.published)
def test_published_settings_are_valid(name: str) -> None:
    make_config(TransR.Config, TransR.published[name])
