"""Scores and gradients of corrupted facts against autograd's, compiled and not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kgkit.native import triples as native
from kgkit.native.triples import score_batch
from kgkit.nn.interactions import SIMILARITY, Interaction, head_query, relation_vectors, tail_query
from kgkit.nn.similarity import Candidates, paired

KINDS = list(SIMILARITY)
PLACES = [pytest.param(True, id="compiled"), pytest.param(False, id="torch")]
Facts = tuple[torch.Tensor, ...]


@pytest.fixture(autouse=True)
def needs_compiler(request: pytest.FixtureRequest) -> None:
    if "compiled" in request.node.name and not native.available(8):
        pytest.skip("no C compiler here")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread is faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tables(kind: Interaction, dim: int, entities: int = 30, relations: int = 4) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(dim)
    return [
        torch.randn(entities, dim, generator=g),
        torch.randn(relations, dim // 2 if kind == "rotate" else dim, generator=g),
    ]


def facts(n: int, k: int, entities: int = 30, relations: int = 4) -> Facts:
    """heads, relations, tails, corrupted, corrupt_head. Entities repeat, also within a fact."""
    g = torch.Generator().manual_seed(n)
    heads, tails = torch.randint(entities, (2, n), generator=g)
    return (
        heads,
        torch.randint(relations, (n,), generator=g),
        tails,
        torch.randint(entities, (n, k), generator=g),
        torch.rand(n, generator=g) < 0.5,
    )


def by_autograd(
    kind: Interaction, entity: torch.Tensor, relation: torch.Tensor, f: Facts
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores as they are written in papers: each fact's query for the side that is corrupted."""
    vectors, acting = entity.unbind(), relation_vectors(kind, relation).unbind()
    positive, negative = [], []
    for h, r, t, wrong, ask_head in zip(*(part.tolist() for part in f), strict=True):
        query = (
            head_query(kind, acting[r], vectors[t]) if ask_head else tail_query(kind, vectors[h], acting[r])
        )
        answers = torch.stack([vectors[e] for e in (h if ask_head else t, *wrong)])
        scores = paired(SIMILARITY[kind], query, Candidates(answers))
        positive.append(scores[0])
        negative.append(scores[1:])
    return torch.stack(positive), torch.stack(negative)


@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "k"), [(1, 1), (7, 5), (8, 0), (8, 1), (100, 1), (200, 5)])
def test_scores_and_gradients_are_autograds(kind: Interaction, dim: int, k: int, fused: bool) -> None:
    if dim % 2 and kind in ("complex", "rotate"):
        pytest.skip("complex vectors are of even size")
    entity, relation = (t.requires_grad_() for t in tables(kind, dim))
    f = facts(40, k)
    positive, negative = by_autograd(kind, entity, relation, f)
    batch = score_batch(kind, entity, relation, *f, fused=fused)
    torch.testing.assert_close(batch.positive, positive.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch.negative, negative.detach(), rtol=1e-5, atol=1e-5)

    d_positive, d_negative = torch.randn(40), torch.randn(40, k)
    d_negative[::3] = 0  # corruptions that keep the margin
    ((positive * d_positive).sum() + (negative * d_negative).sum()).backward()
    found = batch.gradients(d_positive, d_negative)
    for table, rows, gradient in (
        (entity, found.entity_rows, found.entity),
        (relation, found.relation_rows, found.relation),
    ):
        assert table.grad is not None and (rows.diff() > 0).all()
        whole = torch.zeros_like(table).index_copy(0, rows, gradient)
        torch.testing.assert_close(whole, table.grad, rtol=1e-4, atol=2e-4)


def test_worked_by_hand() -> None:
    """RotatE turns (3 + 4i) by a right angle to (-4 + 3i); (-4 + 0i) is 3 away; the phase's gradient is of the turn."""
    entity, relation = torch.tensor([[3.0, 4.0], [-4.0, 0.0]]), torch.tensor([[torch.pi / 2]])
    one = (torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    batch = score_batch(
        "rotate", entity, relation, *one, torch.empty(1, 0, dtype=torch.int64), torch.tensor([False])
    )
    torch.testing.assert_close(batch.positive, torch.tensor([-3.0]))
    found = batch.gradients(torch.ones(1), torch.empty(1, 0))
    # The distance is that of (-4, 3) to (-4, 0), its gradient by the query (0, 1); turned back by -90 degrees, (1, 0).
    torch.testing.assert_close(found.entity, torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
    # d query / d phase = i (-4 + 3i) = -3 - 4i; so the distance shrinks by 4, and the score grows by 4.
    torch.testing.assert_close(found.relation, torch.tensor([[4.0]]))


@pytest.mark.parametrize("fused", PLACES)
@pytest.mark.parametrize("kind", ["transe-l1", "transe-l2", "rotate"])
def test_a_distance_of_zero_has_no_gradient(kind: Interaction, fused: bool) -> None:
    entity, relation = torch.zeros(3, 4), torch.zeros(1, 2 if kind == "rotate" else 4)
    zero = torch.tensor([0])
    f = (zero, zero, torch.tensor([1]), torch.tensor([[2]]), torch.tensor([True]))
    found = score_batch(kind, entity, relation, *f, fused=fused).gradients(torch.ones(1), -torch.ones(1, 1))
    assert (found.entity == 0).all() and (found.relation == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_the_result_compiled(kind: Interaction) -> None:
    """Few relations and entities, so that rows collect hundreds of slots in several pieces."""
    entity, relation = tables(kind, 8, entities=50, relations=2)
    f = facts(6000, 2, entities=50, relations=2)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        batch = score_batch(kind, entity, relation, *f)
        found = batch.gradients(torch.ones(6000), -torch.ones(6000, 2))
        results.append((batch.positive, batch.negative, found.entity, found.relation))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    twin = score_batch(kind, entity, relation, *f, fused=False)
    found = twin.gradients(torch.ones(6000), -torch.ones(6000, 2))
    torch.testing.assert_close(results[0][2], found.entity, rtol=1e-3, atol=5e-3)
    torch.testing.assert_close(results[0][3], found.relation, rtol=1e-3, atol=5e-3)


def test_many_rows_sort_in_several_passes_compiled() -> None:
    """Row numbers beyond 2^22 take three digits of the radix sort."""
    entity, relation = torch.randn(5_000_000, 1), torch.randn(1, 1)
    f = facts(500, 1, entities=len(entity), relations=1)
    batch = score_batch("distmult", entity, relation, *f)
    found = batch.gradients(torch.ones(500), torch.ones(500, 1))
    heads, _, tails, corrupted, _ = f
    assert torch.equal(found.entity_rows, torch.cat([heads, tails, corrupted[:, 0]]).unique())


@pytest.mark.parametrize("fused", PLACES)
def test_what_does_not_fit_is_refused(fused: bool) -> None:
    entity, relation = tables("distmult", 8)
    heads, relations, tails, corrupted, side = facts(5, 1)
    with pytest.raises((ValueError, IndexError)):
        score_batch("distmult", entity, relation, heads + 30, relations, tails, corrupted, side, fused)
    with pytest.raises((ValueError, IndexError)):
        score_batch("distmult", entity, relation, heads, relations + 4, tails, corrupted, side, fused)
    with pytest.raises(ValueError, match="equal length"):
        score_batch("distmult", entity, relation, heads, relations, tails, corrupted[1:], side, fused)
    with pytest.raises(ValueError, match="even"):
        score_batch("complex", entity[:, 1:], relation, heads, relations, tails, corrupted, side, fused)
    with pytest.raises(ValueError, match="fit"):
        score_batch("rotate", entity, relation, heads, relations, tails, corrupted, side, fused)


@pytest.mark.parametrize("fused", PLACES)
def test_an_empty_batch(fused: bool) -> None:
    entity, relation = tables("distmult", 8)
    batch = score_batch("distmult", entity, relation, *facts(0, 2), fused=fused)
    found = batch.gradients(torch.empty(0), torch.empty(0, 2))
    assert batch.negative.shape == (0, 2) and found.entity.shape == (0, 8) and found.relation.shape == (0, 8)
