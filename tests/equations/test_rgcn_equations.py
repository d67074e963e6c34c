"""R-GCN's equations, against numbers worked by hand and the double sum of Eq. 2 written as loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kgkit_plugins.rgcn import RGCN

from kgkit.config import make_config
from kgkit.errors import ConfigError
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import Triples
from kgkit.testing.toy import toy_graph

TRAIN = [(0, 0, 1), (0, 0, 2), (2, 1, 1), (3, 1, 1)]


def facts(rows: list[tuple[int, int, int]]) -> Triples:
    return Triples(*np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy())


def made(**settings: Any) -> Any:
    """R-GCN over five entities, the last without facts, and two relations; a test fact that must stay unheard."""
    model = RGCN(make_config(RGCN.Config, {"device": "cpu", "seed": 1, **settings}))
    model.prepare(toy_graph(), TripleSplit(facts(TRAIN), facts([]), facts([(4, 0, 3)]), 5, 2))
    return model


def by_loops(m: Any) -> np.ndarray:
    """Eq. 2 as it is written, with W_r of Eq. 3 or Eq. 4."""
    p = {k: v.numpy().astype(float) for k, v in m.parameters.items()}
    near: dict[tuple[int, int], list[int]] = {}  # N_i^r; relation r + 2 is the inverse of r
    for h, r, t in TRAIN:
        near.setdefault((t, r), []).append(h)
        near.setdefault((h, r + 2), []).append(t)
    x = p["entity"]
    for layer in range(m.config.layers):
        out = x @ p[f"loop_{layer}"]
        for (i, r), others in near.items():
            if m.config.decomposition == "basis":
                w = np.einsum("b,bio->io", p[f"coefficients_{layer}"][r], p[f"bases_{layer}"])
            else:
                s = m.config.block_size
                w = np.zeros((len(x[0]), len(x[0])))
                for n, block in enumerate(p[f"blocks_{layer}"][r]):
                    w[n * s : (n + 1) * s, n * s : (n + 1) * s] = block
            c = len(others)
            if m.config.normalise == "entity":
                c = sum(len(js) for (k, _), js in near.items() if k == i)
            for j in others:
                out[i] += x[j] @ w / c
        x = np.maximum(out, 0) if layer < m.config.layers - 1 else out
    return x


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("normalise", ["relation", "entity"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("decomposition", ["basis", "block"])
def test_the_encoder_is_the_double_sum(decomposition: str, fused: bool, normalise: str, layers: int) -> None:
    settings = {"decomposition": decomposition, "normalise": normalise, "layers": layers, "fused": fused}
    m = made(dim=6, bases=3, block_size=3, **settings)
    assert np.allclose(m.scoring["entity"].numpy(), by_loops(m), atol=1e-5)


def test_by_hand() -> None:
    m = made(dim=2, bases=1, normalise="relation")
    p = m.parameters
    p["entity"][:] = torch.tensor([[1.0, 0], [0, 1], [2, 2], [4, 0], [7, 7]])
    p["loop_0"][:] = torch.eye(2)
    p["bases_0"][0] = torch.tensor([[0.0, 1], [1, 0]])  # swaps the two numbers
    p["coefficients_0"][:] = torch.tensor([[1.0], [10], [100], [1000]])
    m.settle()
    # Entity 1 hears 0 by relation 0 and the mean of 2 and 3 by relation 1: (0, 1) + 1 (0, 1) + 10 ((2, 6) / 2).
    assert m.scoring["entity"][1].tolist() == [10, 32]
    # Entity 0 hears the mean of 1 and 2 by the inverse of relation 0: (1, 0) + 100 ((1, 0) + (2, 2)) / 2.
    assert m.scoring["entity"][0].tolist() == [151, 100]
    assert m.scoring["entity"][4].tolist() == [7, 7], "no training fact: its self-loop alone"
    p["relation"][1] = torch.tensor([2.0, -1.0])
    m.settle()
    # Eq. 6: 151 * 2 * 10 - 100 * 1 * 32, from either side.
    h, r, t = torch.tensor([0]), torch.tensor([1]), torch.tensor([1])
    table = m.candidates().table
    assert float(m.tail_queries(h, r)[0] @ table[1]) == float(m.head_queries(r, t)[0] @ table[0]) == -180


def test_queries_need_no_torch() -> None:
    m = made(dim=4)
    p = {k: v.numpy() for k, v in m.scoring.items()}
    found = m.tail_query(p, np.array([0, 1]), np.array([1, 0]))
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, m.tail_queries(torch.tensor([0, 1]), torch.tensor([1, 0])).numpy())


def test_edges_left_out_do_not_count_and_self_loops_are_made_up_for() -> None:
    m = made(dim=2, bases=1, edge_dropout=0.5, loop_dropout=0.5)
    torch.manual_seed(3)
    m.training = True
    weights = [m.edge_weights() for _ in range(50)]
    own = m.self_loop(m.parameters, 0, m.parameters["entity"])
    m.training = False
    target = m.edges.target.long()
    for weight in weights:
        total = torch.zeros(5).index_add(0, target, weight)
        kept = torch.zeros(5).index_add(0, target, (weight > 0).float())
        assert torch.allclose(total, (kept > 0).float()), "what is kept of a neighbourhood is a mean"
    share = float(torch.stack(weights).gt(0).float().mean())
    assert 0.35 < share < 0.65
    whole = m.self_loop(m.parameters, 0, m.parameters["entity"])
    assert all(torch.equal(a, b * 0) or torch.allclose(a, b * 2) for a, b in zip(own, whole, strict=True))
    assert len(m.edge_weights().unique()) > 1
    assert (m.edge_weights() > 0).all(), "all edges outside training"


def test_the_penalty_is_the_mean_of_squares() -> None:
    m = made(dim=2, l2=0.5)
    p = {
        "entity": torch.tensor([[1.0, 2.0], [0.0, 4.0]]),
        "relation": torch.tensor([[3.0, 1.0]]),
    }
    one = torch.tensor([0])
    # (1 + 4) / 2 + (9 + 1) / 2 + (0 + 16) / 2 = 15.5, halved.
    assert float(m.penalty(p, one, one, one + 1)) == pytest.approx(7.75)


def test_blocks_must_fit() -> None:
    with pytest.raises(ConfigError, match="not a multiple of --block-size 4"):
        made(dim=6, decomposition="block", block_size=4)
