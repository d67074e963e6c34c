"""Steps on some rows against torch's optimisers with sparse gradients, and the compiled kernel against its twin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from kgkit.native import rows as native
from kgkit.train.row_optimiser import Name, RowOptimiser

PLACES = [pytest.param(True, id="compiled"), pytest.param(False, id="torch")]


@pytest.fixture(autouse=True)
def needs_compiler(request: pytest.FixtureRequest) -> None:
    if "compiled" in request.node.name and not native.available():
        pytest.skip("no C compiler here")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread is faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps(n: int, shape: tuple[int, ...], count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Distinct rows and gradients of several steps; about a third of the rows each."""
    g = torch.Generator().manual_seed(3)
    made = []
    for _ in range(count):
        rows = torch.randperm(n, generator=g)[: max(1, n // 3)]
        made.append((rows, torch.randn(len(rows), *shape, generator=g)))
    return made


def by_torch(
    optimiser: torch.optim.Optimizer, table: torch.Tensor, row_steps: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    for rows, gradient in row_steps:
        table.grad = torch.sparse_coo_tensor(rows[None], gradient, table.shape)
        optimiser.step()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize("shape", [(1,), (7,), (100,), (200,), (3, 5)])
@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
def test_rows_move_as_by_torch(name: Name, shape: tuple[int, ...], fused: bool) -> None:
    start = torch.randn(60, *shape)
    expected = start.clone().requires_grad_()
    other: dict[str, Any] = {
        "adam": torch.optim.SparseAdam,
        "adagrad": torch.optim.Adagrad,
        "sgd": torch.optim.SGD,
    }
    moves = steps(60, shape)
    by_torch(other[name]([expected], lr=0.05), expected, moves)
    table = start.clone()
    optimiser = RowOptimiser(name, {"entity": table}, lr=0.05, fused=fused)
    for rows, gradient in moves:
        optimiser.begin_step()
        optimiser.update("entity", rows, gradient)
    torch.testing.assert_close(table, expected.detach(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize("shape", [(5000,), (33, 7)])
@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
def test_a_whole_tensor_moves_as_by_torch(name: Name, shape: tuple[int, ...], fused: bool) -> None:
    """Small gradients, so that where epsilon stands makes a difference."""
    expected = torch.randn(shape).requires_grad_()
    weight = expected.detach().clone()
    other: dict[str, Any] = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
    peer = other[name]([expected], lr=0.01)
    optimiser = RowOptimiser(name, {"weight": weight}, lr=0.01, fused=fused)
    for _ in range(4):
        expected.grad = 1e-7 * torch.randn(shape)
        peer.step()
        optimiser.begin_step()
        optimiser.update("weight", None, expected.grad)
    torch.testing.assert_close(weight, expected.detach(), rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("fused", PLACES)
def test_norms_bind_touched_rows_only(fused: bool) -> None:
    """By SGD with rate 1 and gradient 0 the row (3, 4) stays or goes to (0.6, 0.8); zeros stay zeros."""
    start = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [3.0, 4.0]])
    tables = {"most": start.clone(), "unit": start.clone()}
    optimiser = RowOptimiser(
        "sgd", tables, lr=1.0, max_norm={"most": 1.0}, unit_norm={"unit": 1.0}, fused=fused
    )
    optimiser.begin_step()
    for table in tables:
        optimiser.update(table, torch.tensor([0, 1, 2]), torch.zeros(3, 2))
    torch.testing.assert_close(tables["most"], torch.tensor([[0.6, 0.8], [0.3, 0.4], [0, 0], [3, 4]]))
    torch.testing.assert_close(tables["unit"], torch.tensor([[0.6, 0.8], [0.6, 0.8], [0, 0], [3, 4]]))


@pytest.mark.parametrize("fused", PLACES)
def test_a_resumed_run_goes_on_as_if_never_stopped(fused: bool) -> None:
    start, moves = torch.randn(40, 6), steps(40, (6,))

    def run(optimiser: RowOptimiser, part: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for rows, gradient in part:
            optimiser.begin_step()
            optimiser.update("entity", rows, gradient)

    whole = start.clone()
    run(RowOptimiser("adam", {"entity": whole}, lr=0.1, fused=fused), moves)
    table = start.clone()
    first = RowOptimiser("adam", {"entity": table}, lr=0.1, fused=fused)
    run(first, moves[:3])
    second = RowOptimiser("adam", {"entity": table}, lr=9.0, fused=fused)
    second.load_state_dict(first.state_dict())
    run(second, moves[3:])
    assert torch.equal(table, whole)


def test_a_state_of_another_table_is_refused() -> None:
    saved = RowOptimiser("adam", {"entity": torch.zeros(3, 2)}, lr=0.1).state_dict()
    with pytest.raises(ValueError, match=r"entity\.mean"):
        RowOptimiser("adam", {"entity": torch.zeros(4, 2)}, lr=0.1).load_state_dict(saved)
    with pytest.raises(ValueError, match="not of adagrad"):
        RowOptimiser("adagrad", {"entity": torch.zeros(3, 2)}, lr=0.1).load_state_dict(saved)


@pytest.mark.parametrize(("rows", "shape"), [([0, 3], (2, 2)), ([-1], (1, 2)), ([0], (2, 2)), ([0], (1, 3))])
def test_rows_and_gradients_that_do_not_fit_are_refused_compiled(
    rows: list[int], shape: tuple[int, int]
) -> None:
    optimiser = RowOptimiser("adam", {"entity": torch.zeros(3, 2)}, lr=0.1)
    optimiser.begin_step()
    with pytest.raises(ValueError):
        optimiser.update("entity", torch.tensor(rows), torch.zeros(shape))


def test_threads_do_not_change_the_result_compiled() -> None:
    start, moves = torch.randn(9000, 64), steps(9000, (64,), count=2)
    tables = [start.clone(), start.clone()]
    for table, threads in zip(tables, (1, 3), strict=True):
        torch.set_num_threads(threads)
        optimiser = RowOptimiser("adam", {"entity": table}, lr=0.1, max_norm={"entity": 1.0})
        for rows, gradient in moves:
            optimiser.begin_step()
            optimiser.update("entity", rows, gradient)
    assert all(torch.equal(a, b) for a, b in itertools.pairwise(tables))
