"""The compiled convolution against torch: gradients, steps of Adam, scores of all items, determinism, fallback."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kgkit_plugins.kgcn import KGCN
from kgkit_plugins.kgnn_ls import KGNNLS

from kgkit.native import build
from kgkit.native import kg_conv as native
from kgkit.nn import kg_conv
from kgkit.testing.toy import toy_graph, toy_split
from kgkit.train.kg_conv_model import KGConvRecommender

GRID = list(itertools.product(kg_conv.AGGREGATORS, kg_conv.ARITHMETICS, (1, 2, 3)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread is faster on graphs of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def needs_compiler() -> None:
    if not native.available(16, 3):
        pytest.skip("no C compiler here")


def model(cls: type[KGConvRecommender], **options: Any) -> KGConvRecommender:
    graph = toy_graph(users=8, items=14, entities=20, triples=60, interactions=50)
    settings = {"dim": 16, "neighbours": 3, "device": "cpu", "l2": 1e-2, "batch_size": 16, **options}
    made = cls(cls.Config(**settings))
    made.prepare(graph, toy_split(graph))
    return made


def adam(parameters: dict[str, torch.Tensor], rate: float = 1e-2) -> torch.optim.Adam:
    return torch.optim.Adam(parameters.values(), lr=rate)


def by_torch(
    m: KGConvRecommender, order: torch.Tensor, p: dict[str, torch.Tensor], optimiser: torch.optim.Adam
) -> float:
    """What the fused epoch does, by autograd. Returns the mean loss."""
    users, items, labels = m.split.train.tensors()
    losses = []
    for rows in torch.split(order, m.config.batch_size):
        optimiser.zero_grad(set_to_none=False)
        loss = m.loss(p, users[rows], items[rows], labels[rows])
        loss.backward()
        for value in p.values():
            if value.grad is None:  # a table that the loss does not reach
                value.grad = torch.zeros_like(value)
        optimiser.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def orders(m: KGConvRecommender, epochs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.cat([torch.randperm(len(m.split.train), generator=generator) for _ in range(epochs)])


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize("cls", [KGCN, KGNNLS])
@pytest.mark.parametrize(("aggregator", "arithmetic", "hops"), GRID)
def test_a_step_has_the_gradient_of_autograd(
    cls: type[KGConvRecommender], aggregator: str, arithmetic: str, hops: int
) -> None:
    """After one step Adam's first moment is (1 - beta1) times the gradient: to 1e-5, in every table."""
    extra = {"ls_weight": 0.7} if cls is KGNNLS else {}
    m = model(cls, aggregator=aggregator, arithmetic=arithmetic, depth=hops, **extra)
    start = {k: v.clone() for k, v in m.parameters.items()}
    order, optimiser = torch.arange(16), adam(m.parameters)
    fused = m.fused_epoch()
    assert fused is not None
    loss = fused(optimiser, order)
    p = {k: v.requires_grad_() for k, v in start.items()}
    expected = by_torch(m, order, p, adam(p))
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, value in p.items():
        gradient = optimiser.state[m.parameters[name]]["exp_avg"] / 0.1
        torch.testing.assert_close(
            gradient, value.grad, atol=1e-6, rtol=1e-5, msg=lambda s, n=name: f"{n}: {s}"
        )


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (KGCN, {}),
        (KGCN, {"depth": 2, "arithmetic": "paper", "dim": 5}),
        (KGCN, {"aggregator": "concat", "depth": 2, "batch_size": 7}),
        (KGCN, {"aggregator": "neighbor", "arithmetic": "paper"}),
        (KGNNLS, {"ls_weight": 0.7}),
        (KGNNLS, {"ls_weight": 0.7, "depth": 2, "arithmetic": "paper"}),
    ],
)
def test_hundreds_of_steps_equal_torch(cls: type[KGConvRecommender], options: dict[str, Any]) -> None:
    """200 steps and more, the short batch at the end included; the optimiser's state is torch's own at the end."""
    m = model(cls, **options)
    p = {k: v.clone().requires_grad_() for k, v in m.parameters.items()}
    order, theirs, ours = orders(m, 60), adam(p), adam(m.parameters)
    fused = m.fused_epoch()
    assert fused is not None
    assert fused(ours, order) == pytest.approx(by_torch(m, order, p, theirs), rel=1e-4)
    for name, value in p.items():
        off = (value - m.parameters[name]).abs().max() / value.abs().max()
        assert off < 1e-3, name  # Adam divides by the root of a moment near 0: rounding grows there
        assert torch.equal(ours.state[m.parameters[name]]["step"], theirs.state[value]["step"])


@pytest.mark.usefixtures("needs_compiler")
def test_training_goes_on_from_torchs_state_and_back() -> None:
    """Half by torch and half compiled is all by torch: a checkpoint serves both."""
    m = model(KGCN)
    p = {k: v.clone().requires_grad_() for k, v in m.parameters.items()}
    mixed = {k: v.clone().requires_grad_() for k, v in m.parameters.items()}
    order, theirs, ours = orders(m, 4), adam(p), adam(mixed)
    half = len(order) // 2 // 16 * 16
    by_torch(m, order, p, theirs)
    by_torch(m, order[:half], mixed, ours)
    m.parameters = mixed
    fused = m.fused_epoch()
    assert fused is not None
    fused(ours, order[half:])
    for name, value in p.items():
        torch.testing.assert_close(mixed[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("needs_compiler")
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches beyond a chunk, three threads against one, twice."""
    monkeypatch.setattr(native, "_WORTH_THREADS", 0)
    results = []
    for threads in (1, 3, 3):
        torch.set_num_threads(threads)
        m = model(KGNNLS, depth=2, batch_size=3000)
        order = orders(m, 100)
        fused = m.fused_epoch()
        assert fused is not None
        fused(adam(m.parameters), order)
        results.append(m.parameters)
    assert all(torch.equal(results[0][k], other[k]) for other in results[1:] for k in other)


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize(("aggregator", "arithmetic", "hops"), GRID)
def test_scores_of_all_items_equal_the_prediction(aggregator: str, arithmetic: str, hops: int) -> None:
    m = model(KGCN, aggregator=aggregator, arithmetic=arithmetic, depth=hops)
    m.parameters["bias"] = torch.linspace(-0.3, 0.3, hops * 16).view(hops, 16)
    users, items = torch.arange(8), torch.arange(14)
    each = m.logit(m.parameters, users.repeat_interleave(14), items.repeat(8)).view(8, 14)
    torch.testing.assert_close(m.score_items(users), each, atol=2e-6, rtol=1e-5)
    pairs = m.score_pairs(users.repeat_interleave(14), items.repeat(8)).view(8, 14)
    torch.testing.assert_close(pairs, each, atol=2e-6, rtol=1e-5)


@pytest.mark.usefixtures("needs_compiler")
def test_scores_survive_relations_far_apart() -> None:
    """Scores of relations 300 apart: e^-300 is 0 in float32, yet entities that have only those keep weights."""
    m = model(KGCN, arithmetic="paper")
    m.parameters["relation"] *= torch.linspace(1, 400, len(m.parameters["relation"]))[:, None]
    users, items = torch.arange(8), torch.arange(14)
    each = m.logit(m.parameters, users.repeat_interleave(14), items.repeat(8)).view(8, 14)
    torch.testing.assert_close(m.score_items(users), each, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("needs_compiler")
def test_nan_shows() -> None:
    """A model that diverged must give NaN, not numbers."""
    m = model(KGCN)
    m.parameters["user"][3] = float("nan")
    assert m.score_items(torch.tensor([3])).isnan().all()
    assert not m.score_items(torch.tensor([2])).isnan().any()


@pytest.mark.usefixtures("needs_compiler")
def test_wrong_indices_raise() -> None:
    m = model(KGCN)
    fused = m.fused_epoch()
    assert fused is not None
    with pytest.raises(ValueError, match="indices"):
        fused(adam(m.parameters), torch.tensor([10**6]))
    with pytest.raises(ValueError, match="indices"):
        m.score_items(torch.tensor([8]))


@pytest.mark.usefixtures("needs_compiler")
def test_other_optimisers_are_refused() -> None:
    m = model(KGCN)
    fused = m.fused_epoch()
    assert fused is not None
    with pytest.raises(ValueError, match="plain Adam"):
        fused(torch.optim.Adam(m.parameters.values(), lr=1e-2, weight_decay=0.1), torch.arange(4))


def test_kgkit_native_0_leaves_torch_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    m = model(KGCN)
    assert m.fused_epoch() is None
    assert m.score_items(torch.arange(2)).shape == (2, 14)


def test_a_compiler_that_fails_leaves_torch_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log, no error."""
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path))
    build._load.cache_clear()
    try:
        with caplog.at_level(logging.INFO, "kgkit.native.build"):
            assert model(KGCN).fused_epoch() is None
            assert model(KGCN).fused_epoch() is None
        assert len(caplog.records) == 1
    finally:
        build._load.cache_clear()


@pytest.mark.usefixtures("needs_compiler")
def test_a_library_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path))
    source = Path(build.__file__).with_name("rank.c")
    first = build._build(source, ())
    stamp = first.stat().st_mtime_ns
    assert build._build(source, ()) == first and first.stat().st_mtime_ns == stamp
    assert build._build(source, ("-DOTHER=1",)) != first
    assert sorted(p.suffix for p in first.parent.iterdir()) == [".so", ".so"]
