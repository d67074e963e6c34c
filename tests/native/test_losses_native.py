"""Losses of whole rows of scores against torch's, in double precision."""

from __future__ import annotations

import math

import pytest
import torch

from kgkit.native.build import load
from kgkit.native.losses import bce_with_logits_rows, by_torch, cross_entropy_rows

LOSSES = {"bce": bce_with_logits_rows, "softmax": cross_entropy_rows}


@pytest.fixture(autouse=True)
def needs_compiler() -> None:
    if load("losses") is None:
        pytest.skip("no C compiler here")


def problem(rows: int, n: int, spread: float = 8.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, and 0 to 5 distinct positives a row."""
    g = torch.Generator().manual_seed(n)
    counts = torch.randint(0, min(n, 5) + 1, (rows,), generator=g)
    items = [torch.randperm(n, generator=g)[: int(count)] for count in counts]
    start = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return torch.randn(rows, n, generator=g) * spread, start, torch.cat(items)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 7), (5, 1024), (9, 2500)])
@pytest.mark.parametrize("kind", list(LOSSES))
def test_losses_and_gradients_are_torchs(kind: str, rows: int, n: int, smoothing: float) -> None:
    scores, start, items = problem(rows, n)
    exact = scores.double().requires_grad_()
    expected = by_torch(kind, exact, start, items, smoothing)
    weight = torch.rand(rows)
    (expected * weight).sum().backward()
    assert exact.grad is not None
    scores.requires_grad_()
    found = LOSSES[kind](scores, start, items, smoothing)
    torch.testing.assert_close(found, expected.float().detach(), rtol=2e-6, atol=2e-5)
    (gradient,) = torch.autograd.grad((found * weight).sum(), scores)
    torch.testing.assert_close(gradient, exact.grad.float(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("kind", list(LOSSES))
def test_the_gradient_in_place_of_the_scores(kind: str) -> None:
    _, start, items = problem(6, 50)
    queries, table = torch.randn(6, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    plain = LOSSES[kind](queries @ table.T, start, items, scale=0.02).sum()
    expected = torch.autograd.grad(plain, [queries, table])
    found = LOSSES[kind](queries @ table.T, start, items, scale=0.02, overwrite=True).sum()
    assert torch.equal(found, plain)
    for one, other in zip(torch.autograd.grad(found, [queries, table]), expected, strict=True):
        torch.testing.assert_close(one, other)
    kept = LOSSES[kind]((queries @ table.T).exp(), start, items, overwrite=True).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()  # exp keeps its result, which is gone


def test_worked_by_hand() -> None:
    """Scores 0 and log 3: sigmoids 1/2 and 3/4, softmax 1/4 and 3/4; the first is positive."""
    scores = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    start, items = torch.tensor([0, 1]), torch.tensor([0])
    bce = bce_with_logits_rows(scores, start, items)
    assert bce.item() == pytest.approx(-math.log(1 / 2) - math.log(1 / 4))
    torch.testing.assert_close(torch.autograd.grad(bce.sum(), scores)[0], torch.tensor([[-0.5, 0.75]]))
    softmax = cross_entropy_rows(scores, start, items)
    assert softmax.item() == pytest.approx(math.log(4))
    torch.testing.assert_close(torch.autograd.grad(softmax.sum(), scores)[0], torch.tensor([[-0.75, 0.75]]))


@pytest.mark.parametrize("kind", list(LOSSES))
def test_great_scores_stay_finite_and_nan_shows(kind: str) -> None:
    start, items = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    scores = torch.tensor([[300.0, -300.0, -1e30], [1.0, math.nan, 2.0]], requires_grad=True)
    loss = LOSSES[kind](scores, start, items)
    assert loss[0].item() == pytest.approx(0.0, abs=1e-6) and math.isnan(loss[1].item())
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    torch.testing.assert_close(gradient[0], torch.zeros(3))


@pytest.mark.parametrize("kind", list(LOSSES))
def test_threads_and_records_do_not_change_the_result(kind: str) -> None:
    scores, start, items = problem(40, 3000)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        own = scores.clone().requires_grad_()
        loss = LOSSES[kind](own, start, items, 0.1)
        results.append((loss.detach(), torch.autograd.grad(loss.sum(), own)[0]))
        with torch.no_grad():
            assert torch.equal(LOSSES[kind](own, start, items, 0.1), loss)
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_wrong_positives_raise() -> None:
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="positives must lie"):
        bce_with_logits_rows(scores, torch.tensor([0, 1, 2]), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="starts rise"):
        cross_entropy_rows(scores, torch.tensor([0, 2, 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="3 starts"):
        cross_entropy_rows(scores, torch.tensor([0, 1]), torch.tensor([0]))
