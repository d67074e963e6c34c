"""Compiled distances of every query to every candidate, and their gradients, against torch's."""

from __future__ import annotations

import pytest
import torch

from kgkit.native.build import load
from kgkit.native.distance import Distance, crossed_similarity
from kgkit.nn.similarity import Candidates, crossed, paired

SIZES = [(1, 1, 2), (3, 33, 14), (9, 31, 100), (17, 600, 200), (600, 5, 34)]


@pytest.fixture(autouse=True)
def needs_compiler() -> None:
    if load("distance") is None:
        pytest.skip("no C compiler here")


def vectors(rows: int, n: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers in halves, so that many differences are zero exactly, where the gradient is zero."""
    g = torch.Generator().manual_seed(dim)
    queries, table = ((torch.randn(size, dim, generator=g) * 2).round() / 2 for size in (rows, n))
    return queries.requires_grad_(), table.requires_grad_()


@pytest.mark.parametrize(("rows", "n", "dim"), [*SIZES, (4, 40, 1), (5, 20, 7)])
@pytest.mark.parametrize("kind", ["l1", "modulus"])
def test_scores_and_gradients_are_autograds(kind: Distance, rows: int, n: int, dim: int) -> None:
    if dim % 2 and kind == "modulus":
        pytest.skip("complex vectors are of even size")
    queries, table = vectors(rows, n, dim)
    weight = torch.randn(rows, n)
    expected = paired(kind, queries[:, None], Candidates(table))
    gradients = torch.autograd.grad((expected * weight).sum(), [queries, table])
    found = crossed_similarity(kind, queries, table)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), [queries, table]), gradients, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


def test_worked_by_hand() -> None:
    """(3 + 4i) is 5 from 0, and |3| + |4| = 7; the gradients of minus that are the unit vector, and the signs."""
    query, table = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.zeros(1, 2)
    for kind, score, gradient in (("modulus", -5.0, [-0.6, -0.8]), ("l1", -7.0, [-1.0, -1.0])):
        found = crossed(kind, query, Candidates(table))  # type: ignore[arg-type]
        assert found.item() == pytest.approx(score)
        (by_query,) = torch.autograd.grad(found.sum(), query)
        torch.testing.assert_close(by_query, torch.tensor([gradient]))


@pytest.mark.parametrize("kind", ["l1", "modulus"])
def test_threads_do_not_change_the_result(kind: Distance) -> None:
    queries, table = vectors(70, 300, 100)
    weight, results, before = torch.randn(70, 300), [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found = crossed_similarity(kind, queries, table)
        assert found is not None
        results.append([found, *torch.autograd.grad((found * weight).sum(), [queries, table])])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_odd_strides_and_nothing_at_all() -> None:
    queries, table = vectors(6, 9, 8)
    every_other = queries[::2, :]
    expected = paired("l1", every_other[:, None], Candidates(table))
    found = crossed("l1", every_other, Candidates(table, torch.ones(9)))
    torch.testing.assert_close(found, expected + 1)
    (one,) = torch.autograd.grad(found.sum(), table)  # a weight that is one number, expanded
    (other,) = torch.autograd.grad(expected.sum(), table)
    torch.testing.assert_close(one, other)
    assert crossed("l1", queries[:0], Candidates(table)).shape == (0, 9)


def test_without_a_compiler_torch_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, table = vectors(6, 9, 8)
    compiled = {kind: crossed(kind, queries, Candidates(table)) for kind in ("l1", "modulus")}  # type: ignore[arg-type]
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    for kind, expected in compiled.items():
        torch.testing.assert_close(crossed(kind, queries, Candidates(table)), expected)  # type: ignore[arg-type]
