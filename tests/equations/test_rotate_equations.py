"""RotatE by numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kgkit_plugins.rotate import RotatE

from kgkit.config import make_config
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples

# Two complex numbers an entity: real parts, then imaginary parts.
H = [3.0, 1.0, 4.0, 0.0]  # 3 + 4i, 1
R = [math.pi / 2, math.pi]  # times i, times -1
T = [-4.0, 2.0, 0.0, 4.0]  # -4, 2 + 4i
# h o r = -4 + 3i and -1. From t: 3i, of modulus 3, and -3 - 4i, of modulus 5.
SCORE = -8.0


def model(**options: object) -> RotatE:
    m = RotatE(make_config(RotatE.Config, {"dim": 2, "device": "cpu", **options}))
    one = Triples(*(np.array([i]) for i in (0, 0, 1)))
    m.prepare(None, TripleSplit(one, one, one, 2, 1))
    relations = [R, [0.0, math.pi / 2]] if m.config.reciprocal else [R]
    m.parameters = {"entity": torch.tensor([H, T]), "relation": torch.tensor(relations)}
    return m


H_, R_, T_ = (torch.tensor([i]) for i in (0, 0, 1))


def test_the_distance_by_hand() -> None:
    m = model()
    query = m.tail_query(m.parameters, H_, R_)
    torch.testing.assert_close(query, torch.tensor([[-4.0, -1.0, 3.0, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(m.score(m.parameters, H_, R_, T_), torch.tensor([SCORE]))


def test_turning_back_keeps_the_distance() -> None:
    m = model()
    # t times -i and -1: 4i, -2 - 4i. From h: 3 + 0i of modulus 3, and 3 + 4i of modulus 5.
    query = m.head_query(m.parameters, R_, T_)
    torch.testing.assert_close(query, torch.tensor([[0.0, -2.0, 4.0, -4.0]]), atol=1e-6, rtol=0)


def test_a_reciprocal_head_query_turns_by_the_second_relation() -> None:
    m = model(reciprocal=True)
    # t times 1 and i: -4, (2 + 4i) i = -4 + 2i.
    query = m.head_query(m.parameters, R_, T_)
    torch.testing.assert_close(query, torch.tensor([[-4.0, -4.0, 0.0, 2.0]]), atol=1e-6, rtol=0)


def test_tables_begin_as_in_the_authors_code() -> None:
    """gamma 6 and d 50: entities within 8 / 50, angles within a half turn."""
    m = RotatE(make_config(RotatE.Config, {"dim": 50, "margin": 6.0, "device": "cpu"}))
    one = Triples(*(np.array([i]) for i in (0, 0, 1)))
    m.prepare(None, TripleSplit(one, one, one, 300, 40))
    entity, relation = m.parameters["entity"], m.parameters["relation"]
    assert entity.shape == (300, 100) and relation.shape == (40, 50)
    assert 0.159 < entity.abs().max() <= 0.16
    assert 3.1 < relation.abs().max() <= math.pi
    assert m.rates() == {"relation": pytest.approx(math.pi / 0.16)}
    assert {k: v.shape for k, v in m.embeddings().items()} == {"Entity": (300, 100), "Relation": (40, 50)}


@pytest.mark.parametrize("fused", [True, False])
def test_one_step_turns_an_angle_by_its_rate(fused: bool) -> None:
    """Adam's first step is the rate whatever the gradient: entities by 0.001, angles by 0.001 pi d / (gamma + 2)."""
    m = model(learning_rate=0.001, margin=30.0, negatives=8, loss="margin", fused=fused, filtered=False)
    before = {k: v.clone() for k, v in m.parameters.items()}
    m.epoch_begins(torch.Generator().manual_seed(1))
    m.steps.run(m.make_optimiser(), torch.tensor([0]))
    angle = (m.parameters["relation"] - before["relation"]).abs()
    assert angle.max() == pytest.approx(0.001 * math.pi / 16, rel=5e-3)
    assert (m.parameters["entity"] - before["entity"]).abs().max() == pytest.approx(0.001, rel=1e-2)


def test_n3_weighs_entities_alone() -> None:
    """|3 + 4i|^3 + 1 + |-4|^3 + |2 + 4i|^3 = 125 + 1 + 64 + 20^1.5."""
    m = model()
    assert float(m.nuclear(m.parameters, H_, R_, T_)) == pytest.approx(190 + 20**1.5)


def test_numpy_answers_as_torch_does() -> None:
    m = model()
    p = {k: v.numpy() for k, v in m.parameters.items()}
    found = m.head_query(p, np.array([0]), np.array([1]))  # type: ignore[arg-type]
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, [[0.0, -2.0, 4.0, -4.0]], atol=1e-6)


@pytest.mark.parametrize("name", RotatE.published)
def test_published_settings_are_valid(name: str) -> None:
    make_config(RotatE.Config, RotatE.published[name])
