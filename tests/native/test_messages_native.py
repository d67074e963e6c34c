"""Messages of a relational graph convolution: by hand, and the compiled kernels against torch and autograd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kgkit.native.messages import Edges, available, basis_messages, block_messages, make_edges


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread is faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PLACES = [pytest.param(True, id="compiled"), pytest.param(False, id="torch")]


def needs(fused: bool, dim: int, block: int = 1) -> None:
    if fused and not available(dim, block):
        pytest.skip("no C compiler here")


def some_edges(n: int = 30, relations: int = 5, count: int = 3000) -> tuple[Edges, torch.Tensor]:
    """Edges among 30 entities, so that some relations need several pieces and one has no edge; a third weighs 0."""
    g = torch.Generator().manual_seed(4)
    source, target = (torch.randint(n - 1, (count,), generator=g) for _ in range(2))
    relation = torch.randint(relations - 1, (count,), generator=g)
    weight = torch.rand(count, generator=g) * (torch.rand(count, generator=g) > 1 / 3)
    return make_edges(source, relation, target, n, relations), weight


def naive(h: torch.Tensor, matrices: torch.Tensor, weight: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Every edge's own matrix product, matrices [R, d, d'], added one by one."""
    out = torch.zeros(len(h), matrices.shape[2], dtype=torch.float64)
    for e in range(len(edges)):
        s, r, t = (int(x[e]) for x in (edges.source, edges.relation, edges.target))
        out[t] += weight[e].double() * (h[s].double() @ matrices[r].double())
    return out


@pytest.mark.parametrize("fused", PLACES)
def test_messages_by_hand(fused: bool) -> None:
    needs(fused, 2)
    # 0 -r0-> 2, 1 -r1-> 2, 2 -r0-> 0, given out of order.
    edges = make_edges(torch.tensor([1, 2, 0]), torch.tensor([1, 0, 0]), torch.tensor([2, 0, 2]), 3, 2)
    assert edges.target.tolist() == [0, 2, 2]
    assert edges.source.tolist() == [2, 0, 1]
    h = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    weight = torch.tensor([1.0, 0.5, 2.0])
    a = torch.tensor([[1.0, 10.0], [3.0, -1.0]])
    heard = basis_messages(h, a, weight, edges, fused)
    # Entity 2, basis 0: 0.5 * 1 * (1, 2) + 2 * 3 * (3, 4); basis 1: 0.5 * 10 * (1, 2) + 2 * -1 * (3, 4).
    assert heard.tolist() == [[[5, 6], [50, 60]], [[0, 0], [0, 0]], [[18.5, 25.0], [-1.0, 2.0]]]
    # Input (1, 2) through [[1, 2], [3, 4]] is (7, 10).
    q = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, 1.0], [0.0, 0.0]]]])
    if not fused or available(2, 2):
        through = block_messages(h, q, weight, edges, fused)
        assert through.tolist() == [[23.0, 34.0], [0.0, 0.0], [3.5, 11.0]]


@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize("dim", [7, 32])
def test_basis_messages_equal_a_matrix_an_edge(dim: int, fused: bool) -> None:
    needs(fused, dim)
    edges, weight = some_edges(count=400)
    g = torch.Generator().manual_seed(1)
    h, a = torch.randn(30, dim, generator=g), torch.randn(5, 3, generator=g)
    bases = torch.randn(3, dim, dim, generator=g)
    found = basis_messages(h, a, weight, edges, fused).flatten(1) @ bases.flatten(0, 1)
    expected = naive(h, torch.einsum("rb,bio->rio", a, bases), weight, edges)
    assert torch.allclose(found.double(), expected, atol=1e-4)


@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize(("dim", "size"), [(6, 3), (20, 5), (32, 8)])
def test_block_messages_equal_a_matrix_an_edge(dim: int, size: int, fused: bool) -> None:
    needs(fused, dim, size)
    edges, weight = some_edges(count=400)
    g = torch.Generator().manual_seed(1)
    h, q = torch.randn(30, dim, generator=g), torch.randn(5, dim // size, size, size, generator=g)
    found = block_messages(h, q, weight, edges, fused)
    expected = naive(h, torch.stack([torch.block_diag(*blocks) for blocks in q]), weight, edges)
    assert torch.allclose(found.double(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["basis", "block"])
def test_compiled_gradients_are_autograds_and_need_no_thread_count(kind: str) -> None:
    needs(True, 20, 5 if kind == "block" else 1)
    edges, weight = some_edges()
    g = torch.Generator().manual_seed(2)
    h = torch.randn(30, 20, generator=g)
    matrix = torch.randn(5, 3, generator=g) if kind == "basis" else torch.randn(5, 4, 5, 5, generator=g)
    run = basis_messages if kind == "basis" else block_messages

    def results(fused: bool, threads: int) -> list[torch.Tensor]:
        torch.set_num_threads(threads)
        leaves = [h.clone().requires_grad_(), matrix.clone().requires_grad_()]
        out = run(*leaves, weight, edges, fused)
        slope = torch.arange(out.numel()).view(out.shape).float().sin()
        return [out.detach(), *torch.autograd.grad((out * slope).sum(), leaves)]

    one, two, twin = results(True, 1), results(True, 2), results(False, 1)
    for a, b, c in zip(one, two, twin, strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(a, c, rtol=1e-4, atol=1e-3)
    assert one[2][4].abs().sum() == 0, "a relation without edges"


def test_what_does_not_fit_is_refused() -> None:
    one = torch.tensor([1])
    with pytest.raises(ValueError, match=r"0\.\.0"):
        make_edges(one, one * 0, one, 1, 1)
    with pytest.raises(ValueError, match=r"relations must lie in 0\.\.0"):
        make_edges(one, one, one, 2, 1)
    if available(4):
        with pytest.raises(ValueError, match="do not fit"):
            basis_messages(
                torch.zeros(3, 4), torch.zeros(1, 1), torch.ones(1), make_edges(one, one * 0, one, 2, 1)
            )
