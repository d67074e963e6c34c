"""ComplEx by numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kgkit_plugins.complex import ComplEx

from kgkit.config import make_config
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples

# Two complex numbers a vector: real parts, then imaginary parts.
H = [1.0, 2.0, 3.0, -1.0]  # 1 + 3i, 2 - i
R = [0.5, -1.0, 2.0, 1.0]  # 0.5 + 2i, -1 + i
T = [-1.0, 4.0, 1.0, 2.0]  # -1 + i, 4 + 2i
# h r = (0.5 - 6) + (2 + 1.5) i = -5.5 + 3.5i and (-2 + 1) + (2 + 1) i = -1 + 3i.
# Times conj(t): (-5.5 + 3.5i)(-1 - i) = 9 + 2i and (-1 + 3i)(4 - 2i) = 2 + 14i. The real parts sum to 11.
SCORE = 11.0


def model(reciprocal: bool = False, l2: float = 0.0) -> ComplEx:
    options = {"dim": 2, "reciprocal": reciprocal, "n3": 0.0, "l2": l2, "device": "cpu"}
    m = ComplEx(make_config(ComplEx.Config, options))
    one = Triples(*(np.array([i]) for i in (0, 0, 1)))
    m.prepare(None, TripleSplit(one, one, one, 2, 1))
    relations = [R, [1.0, 0.0, 0.0, 1.0]] if reciprocal else [R]
    m.parameters = {"entity": torch.tensor([H, T]), "relation": torch.tensor(relations)}
    return m


H_, R_, T_ = (torch.tensor([i]) for i in (0, 0, 1))


def test_eq9_by_hand() -> None:
    m = model()
    assert m.tail_query(m.parameters, H_, R_).tolist() == [[-5.5, -1.0, 3.5, 3.0]]
    assert m.score(m.parameters, H_, R_, T_).tolist() == [SCORE]


def test_eq11_by_hand_is_eq9() -> None:
    (hr, hi), (rr, ri), (tr, ti) = (np.split(np.array(v), 2) for v in (H, R, T))
    four = [(rr * hr * tr).sum(), (rr * hi * ti).sum(), (ri * hr * ti).sum(), -(ri * hi * tr).sum()]
    assert four == pytest.approx([-8.5, 3.5, 6.0, 10.0])
    assert sum(four) == pytest.approx(SCORE)


def test_the_head_query_gives_the_same_score() -> None:
    m = model()
    # t conj(r) = (-1 + i)(0.5 - 2i) = 1.5 + 2.5i and (4 + 2i)(-1 - i) = -2 - 6i; with conj(h): 9 and 2 again.
    query = m.head_query(m.parameters, R_, T_)
    assert query.tolist() == [[1.5, -2.0, 2.5, -6.0]]
    assert float(query[0] @ m.parameters["entity"][0]) == pytest.approx(SCORE)


def test_a_reciprocal_head_query_is_the_tail_query_of_the_second_relation() -> None:
    m = model(reciprocal=True)
    # t (1, i) = (-1 + i, (4 + 2i) i = -2 + 4i).
    assert m.head_query(m.parameters, R_, T_).tolist() == [[-1.0, -2.0, 1.0, 4.0]]


def test_it_tells_a_fact_from_its_reverse() -> None:
    m = model()
    # t r conj(h): (-2.5 - 1.5i)(1 - 3i) = -7 + 6i and (-6 + 2i)(2 + i) = -14 - 2i.
    assert m.score(m.parameters, T_, R_, H_).tolist() == [-21.0]


def test_n3_weighs_moduli() -> None:
    """|3 + 4i| = 5 and |5 + 12i| = 13: 125 + 2197."""
    assert model().cubes(torch.tensor([[3.0, 5.0, 4.0, 12.0]])).tolist() == [125.0 + 2197.0]
    zero = torch.zeros(1, 4, requires_grad=True)
    model().cubes(zero).sum().backward()  # type: ignore[no-untyped-call]
    assert zero.grad is not None and (zero.grad == 0).all()


def test_l2_is_twice_the_authors_lambda() -> None:
    """Theirs are the means of squares of real parts and of imaginary ones, each over half as many numbers."""
    m = model(l2=0.06)
    theirs = sum(float((half**2).mean()) for v in (H, R, T) for half in np.split(np.array(v), 2))
    assert float(m.penalty(m.parameters, H_, R_, T_)) == pytest.approx(0.03 * theirs)


def test_numpy_answers_as_torch_does() -> None:
    m = model()
    p = {k: v.numpy() for k, v in m.parameters.items()}
    found = m.tail_query(p, np.array([0]), np.array([0]))  # type: ignore[arg-type]
    assert isinstance(found, np.ndarray) and found.tolist() == [[-5.5, -1.0, 3.5, 3.0]]


def test_dim_counts_complex_numbers() -> None:
    m = model(reciprocal=True)
    m.prepare(m.graph, m.split)
    assert {k: tuple(v.shape) for k, v in m.parameters.items()} == {"entity": (2, 4), "relation": (2, 4)}
    assert {k: v.shape for k, v in m.embeddings().items()} == {"Entity": (2, 4), "Relation": (1, 8)}


@pytest.mark.parametrize("name", ComplEx.published)
def test_published_settings_are_valid(name: str) -> None:
    make_config(ComplEx.Config, ComplEx.published[name])
