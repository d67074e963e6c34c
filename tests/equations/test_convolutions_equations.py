"""ConvE's and Conv-TransE's equations, against numbers worked by hand and a convolution written as loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kgkit_plugins.conve import ConvE
from kgkit_plugins.convtranse import ConvTransE

from kgkit.config import make_config
from kgkit.errors import ConfigError
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.testing.toy import toy_graph


def facts(*rows: tuple[int, int, int]) -> Triples:
    return Triples(*np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy())


def made(cls: Any, **settings: Any) -> Any:
    """A model over three entities and one relation, which is two with its inverse."""
    model = cls(make_config(cls.Config, {"device": "cpu", "seed": 1, **settings}))
    model.prepare(toy_graph(), TripleSplit(facts((0, 0, 1), (1, 0, 2)), facts(), facts(), 3, 1))
    return model


def plain(p: dict[str, torch.Tensor]) -> None:
    """Batch norms that do nothing: mean 0, and variance 1 but for the epsilon of 1e-5 that they add."""
    for name, tensor in p.items():
        if name.startswith("running_variance"):
            tensor.fill_(1 - 1e-5)


def test_conve_by_hand() -> None:
    m = made(ConvE, dim=6, image_height=2, filters=1)
    p = m.parameters
    plain(p)
    p["entity"][0] = torch.tensor([1.0, 2, 3, 4, 5, 6])
    p["relation"][0] = torch.tensor([1.0, 0, 1, 0, 1, 0])
    # [h; r] is 4 x 3:   1 2 3     the filter takes the middle column's sum, less the bottom right corner
    #                    4 5 6     rows 0-2: 2 + 5 + 0 - 1 = 6
    #                    1 0 1     rows 1-3: 5 + 0 + 1 - 0 = 6, less a bias of 0.5 each
    #                    0 1 0
    p["filters"][0, 0] = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 1, -1]])
    p["filters_bias"][0] = -0.5
    maps = m.feature_maps(p, torch.tensor([0]), torch.tensor([0]))
    assert maps.tolist() == [[[[5.5], [5.5]]]]
    p["projection"].zero_()
    p["projection"][0], p["projection"][1] = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.0])
    p["projection_bias"].zero_()
    query = m.tail_query(p, torch.tensor([0]), torch.tensor([0]))
    assert query[0].tolist() == pytest.approx([16.5, 0, 0, 0, 0, 0])  # ReLU takes the second one's -5.5
    p["entity"][2] = torch.tensor([2.0, 9, 9, 9, 9, 9])
    p["entity_bias"][2] = 0.25
    score = m.score(p, torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert float(score) == pytest.approx(33.25)


def test_the_inverse_relation_asks_for_heads() -> None:
    m = made(ConvE, dim=12, image_height=3, filters=2)
    r, e = torch.tensor([0, 0]), torch.tensor([2, 1])
    assert torch.equal(m.head_queries(r, e), m.tail_queries(e, r + 1))


def test_conv_transe_by_hand() -> None:
    m = made(ConvTransE, dim=3, filters=2, width=3)
    p = m.parameters
    plain(p)
    p["entity"][0] = torch.tensor([1.0, 2, 3])
    p["relation"][0] = torch.tensor([10.0, -20, 30])
    p["filters"].zero_()
    p["filters"][0, :, 1] = 1  # h + r: TransE's translation
    p["filters"][1, 0, 0], p["filters"][1, 1, 2] = 1, 0.1  # h from the left, a tenth of r from the right
    p["filters_bias"].zero_()
    maps = m.feature_maps(p, torch.tensor([0]), torch.tensor([0]))
    assert maps[0].flatten().tolist() == pytest.approx([11, 0, 33, 0, 4, 2])  # f takes -18 and -2
    p["projection"].zero_()
    p["projection"][2] = torch.tensor([1.0, 1, 1, 1, 1, 1])
    p["projection_bias"].fill_(0.5)
    query = m.tail_query(p, torch.tensor([0]), torch.tensor([0]))
    assert query[0].tolist() == pytest.approx([0.5, 0.5, 50.5])


@pytest.mark.parametrize("cls", [ConvE, ConvTransE])
def test_feature_maps_equal_loops(cls: Any) -> None:
    m = made(cls, dim=12, filters=3, **({"image_height": 3} if cls is ConvE else {"width": 5}))
    p = m.parameters
    plain(p)
    heads, relations = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 1])
    found = m.feature_maps(p, heads, relations)
    h, r, w = (p[k].numpy().astype(float) for k in ("entity", "relation", "filters"))
    expected = np.zeros(found.shape)
    for b, (e, k) in enumerate(zip(heads, relations, strict=True)):
        if cls is ConvE:
            image = np.concatenate([h[e].reshape(3, 4), r[k].reshape(3, 4)])
            for c, y, x in np.ndindex(expected.shape[1:]):
                expected[b, c, y, x] = (image[y : y + 3, x : x + 3] * w[c, 0]).sum()
        else:
            padded = np.pad(np.stack([h[e], r[k]]), ((0, 0), (2, 2)))
            for c, n in np.ndindex(expected.shape[1:]):
                expected[b, c, n] = (padded[:, n : n + 5] * w[c]).sum()
    bias = p["filters_bias"].numpy().reshape(1, -1, *[1] * (found.dim() - 2))
    assert np.allclose(found.numpy(), np.maximum(expected + bias, 0), atol=1e-5)


def test_batch_norm_follows_the_batch_in_training_and_the_running_moments_after() -> None:
    m = made(ConvTransE, dim=4, filters=2, hidden_dropout=0.0, feature_dropout=0.0)
    p = m.parameters
    heads, relations = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])
    both = torch.stack([p["entity"][heads], p["relation"][relations]], 1)
    before = m.tail_queries(heads, relations)
    assert torch.equal(before, m.tail_queries(heads, relations)), "evaluation changes nothing"
    m.training = True
    query = m.tail_query(p, heads, relations)
    m.training = False
    # The running mean moves a tenth of the way to the batch's; the projection has mean 0, so half of it is cut.
    assert torch.allclose(p["running_mean_input"], 0.1 * both.mean((0, 2)), atol=1e-6)
    assert torch.allclose(
        p["running_variance_input"], 0.9 + 0.1 * both.transpose(1, 2).reshape(-1, 2).var(0), atol=1e-6
    )
    assert ((query > 0).any(0) & (query == 0).any(0)).all()
    assert not torch.equal(before, m.tail_queries(heads, relations)), "the running moments are what scores"


def test_one_query_alone_can_be_trained_on() -> None:
    m = made(ConvE, dim=6, image_height=2, filters=1)
    m.training = True
    query = m.tail_query(m.parameters, torch.tensor([0]), torch.tensor([0]))
    assert query.isfinite().all()


def test_queries_asked_at_once_are_answered_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    m = made(ConvE, dim=12, image_height=3, filters=2)
    heads = torch.arange(3).repeat(5)
    whole = m.tail_queries(heads, heads % 2)
    monkeypatch.setattr("kgkit.train.conv_query_model._MOST", 4 * m.feature_count())
    assert torch.allclose(m.tail_queries(heads, heads % 2), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (ConvE, {"dim": 200, "image_height": 7}, "not a multiple of --image-height 7"),
        (ConvE, {"dim": 4, "image_height": 2}, "no room for a 3 x 3 filter"),
        (ConvE, {"dim": 6, "image_height": 2, "reciprocal": False}, "leave --reciprocal on"),
        (ConvTransE, {"width": 4}, "--width 4 must be odd"),
    ],
)
def test_settings_that_make_no_model(cls: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(cls, **settings)
