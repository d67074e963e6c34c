"""Candidates counted against true answers: compiled and in torch, both against a loop over candidates in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kgkit.native import answers
from kgkit.native.answers import Asked, count_answers
from kgkit.native.build import load
from kgkit.nn import similarity as similarities
from kgkit.nn.similarity import SIMILARITIES, Candidates


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setenv("KGKIT_NATIVE", "0")
    elif load("answers") is None:
        pytest.skip("no C compiler here")
    return str(request.param)


def vectors(rng, shape, similarity):
    """Multiples of 1/4, which all ways of adding add exactly; roots are not, and leave real numbers to `modulus`."""
    drawn = rng.normal(size=shape)
    return torch.tensor(drawn if similarity == "modulus" else np.round(drawn * 4) / 4, dtype=torch.float32)


def asked(rng, queries, n, most_facts=3, most_known=9):
    rows = [
        np.sort(rng.choice(n, rng.integers(1, min(n, most_known) + 1), replace=False)) for _ in range(queries)
    ]
    true = [rng.choice(row, rng.integers(0, min(len(row), most_facts) + 1), replace=False) for row in rows]
    return Asked(
        np.cumsum([0, *map(len, true)]),
        np.concatenate(true),
        np.cumsum([0, *map(len, rows)]),
        np.concatenate(rows),
    )


def naive_score(similarity, q, e):
    x = q.astype(np.float64) - e
    if similarity == "dot":
        return (q.astype(np.float64) * e).sum(-1)
    if similarity == "l1":
        return -np.abs(x).sum(-1)
    if similarity == "modulus":
        half = x.shape[-1] // 2
        return -np.abs(x[..., :half] + 1j * x[..., half:]).sum(-1)
    squared = (x * x).sum(-1)
    return -squared if similarity == "l2-squared" else -np.sqrt(squared)


def naive(similarity, queries, table, bias, a):
    found = []
    for b, q in enumerate(queries.numpy()):
        scores = naive_score(similarity, q, table.numpy()) + (0 if bias is None else bias.numpy())
        scores[np.isnan(scores)] = -np.inf
        known = set(a.known[a.known_start[b] : a.known_start[b + 1]].tolist())
        for t in a.answer[a.start[b] : a.start[b + 1]].tolist():
            left = [j for j in range(len(table)) if j not in known]
            others = [j for j in range(len(table)) if j != t]
            found.append(
                [sum(scores[j] > scores[t] for j in left), sum(scores[j] == scores[t] for j in left)]
            )
            found[-1] += [
                sum(scores[j] > scores[t] for j in others),
                sum(scores[j] == scores[t] for j in others),
            ]
    return np.array(found, dtype=np.int64).reshape(-1, 4).T.tolist()


def as_lists(counts):
    return [c.tolist() for c in (counts.better, counts.equal, counts.raw_better, counts.raw_equal)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("queries", "n", "dim"), [(9, 130, 6), (1, 1, 2), (17, 48, 34), (8, 900, 4)])
def test_counts_are_those_of_a_loop(way, similarity, biased, queries, n, dim):
    rng = np.random.default_rng(n)
    table = vectors(rng, (n, dim), similarity)
    table[n // 2 :] = table[: n - n // 2].clone()  # every vector twice, far apart: exact ties
    bias = torch.tensor(rng.integers(-4, 5, n) / 4, dtype=torch.float32) if biased else None
    q, a = vectors(rng, (queries, dim), similarity), asked(rng, queries, n)
    found = as_lists(count_answers(similarity, q, Candidates(table, bias), a, raw=True))
    assert found == naive(similarity, q, table, bias, a)
    without = count_answers(similarity, q, Candidates(table, bias), a)
    assert [without.better.tolist(), without.equal.tolist()] == found[:2] and without.raw_better is None


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_equal_vectors_tie_whatever_is_beside_them(similarity):
    """Real numbers, 700 copies of the answer over several tiles and every lane: their rounding must be the same."""
    if load("answers") is None:
        pytest.skip("no C compiler here")
    rng = np.random.default_rng(0)
    n, dim = 3000, 202
    table = torch.tensor(rng.normal(size=(n, dim)), dtype=torch.float32)
    copies = rng.choice(n, 700, replace=False)
    table[copies] = table[copies[0]].clone()
    q = torch.tensor(rng.normal(size=(11, dim)), dtype=torch.float32)
    one = np.arange(12)
    a = Asked(one, np.resize(copies, 11), one, np.resize(copies, 11))
    assert count_answers(similarity, q, Candidates(table), a).equal.tolist() == [699] * 11


def test_many_true_answers_of_one_query(way):
    """More than a panel holds, and all but two candidates known."""
    n = 200
    table = torch.arange(n, dtype=torch.float32)[:, None]
    true = np.arange(1, n - 1)
    a = Asked(np.array([0, len(true)]), true, np.array([0, len(true)]), true)
    found = count_answers("l1", torch.tensor([[-1.0]]), Candidates(table), a, raw=True)
    assert found.better.tolist() == [1] * len(true)  # candidate 0 alone is neither known nor farther
    assert found.raw_better.tolist() == true.tolist()
    assert not found.equal.any() and not found.raw_equal.any()


def test_no_number_counts_as_minus_infinity(way):
    """Of candidates 1, NaN, 3, NaN, 5 the NaN come last and tie with each other, not with numbers."""
    table = torch.tensor([1.0, torch.nan, 3.0, torch.nan, 5.0])[:, None]
    a = Asked(np.array([0, 5]), np.arange(5), np.array([0, 5]), np.arange(5))
    raw = count_answers("dot", torch.ones(1, 1), Candidates(table), a, raw=True)
    assert raw.raw_better.tolist() == [2, 3, 1, 3, 0]
    assert raw.raw_equal.tolist() == [0, 1, 0, 1, 0]
    everything = count_answers("dot", torch.full((1, 1), torch.nan), Candidates(table), a, raw=True)
    assert everything.raw_better.tolist() == [0] * 5 and everything.raw_equal.tolist() == [4] * 5


def test_threads_change_nothing():
    if load("answers") is None:
        pytest.skip("no C compiler here")
    rng = np.random.default_rng(3)
    table, q = torch.randn(5000, 20), torch.randn(70, 20)
    a, before, found = asked(rng, 70, 5000), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(as_lists(count_answers("modulus", q, Candidates(table), a, raw=True)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_nothing_asked(way):
    none, start = np.zeros(0, np.int64), np.zeros(1, np.int64)
    found = count_answers(
        "l1", torch.zeros(0, 4), Candidates(torch.zeros(3, 4)), Asked(start, none, start, none)
    )
    assert found.better.tolist() == found.equal.tolist() == []


@pytest.mark.parametrize(
    ("start", "answer", "known_start", "known", "message"),
    [
        ([0, 1], [3], [0, 1], [3], "0..2"),
        ([0, 1], [-1], [0, 1], [-1], "0..2"),
        ([0, 2], [1], [0, 1], [1], "CSR"),
        ([0, 1, 1], [1], [0, 1], [1], "same queries"),
        ([0, 1], [1], [0, 2], [2, 1], "ascend"),
        ([0, 1], [1], [0, 2], [1, 1], "ascend"),
        ([0, 1], [1], [0, 1], [2], "among the known"),
        ([0, 1], [1], [0, 0], [], "among the known"),
    ],
)
def test_wrong_indices_raise(start, answer, known_start, known, message):
    a = Asked(*(np.array(x, dtype=np.int64) for x in (start, answer, known_start, known)))
    with pytest.raises(ValueError, match=message):
        count_answers("dot", torch.zeros(len(start) - 1, 2), Candidates(torch.zeros(3, 2)), a)


def test_shapes_that_do_not_fit_raise():
    one = np.array([0, 1])
    a = Asked(one, one[:1], one, one[:1])
    for q, table, bias in ((2, (3, 4), 3), (1, (3, 5), 3), (1, (3, 4), 2)):
        with pytest.raises(ValueError, match=r"fit|bias"):
            count_answers("dot", torch.zeros(q, 4), Candidates(torch.zeros(table), torch.zeros(bias)), a)
    with pytest.raises(ValueError, match="even"):
        count_answers("modulus", torch.zeros(1, 3), Candidates(torch.zeros(3, 3)), a)


def most_memory(work):
    """Bytes that the process grew by at most during `work`, and then what it holds."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    except OSError:
        pytest.skip("no peak of memory that can be set back")

    def read(name):
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
        return int(line.split()[1]) << 10

    before = read("VmRSS")
    work()
    return read("VmHWM") - before


def test_compiled_memory_does_not_grow_with_candidates():
    if load("answers") is None:
        pytest.skip("no C compiler here")
    rng = np.random.default_rng(0)
    n, queries, dim = 100_000, 64, 4
    table, q, a = torch.randn(n, dim), torch.randn(queries, dim), asked(rng, queries, n)
    count_answers("dot", q[:8], Candidates(table[:99]), asked(rng, 8, 99))  # loads what is loaded once
    grown = most_memory(lambda: count_answers("dot", q, Candidates(table), a, raw=True))
    assert grown < 8 << 20  # all scores at once would be 26 MB


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_twin_keeps_to_the_memory(similarity, monkeypatch):
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    rng = np.random.default_rng(0)
    n, queries, dim, memory = 2000, 60, 6, 1 << 19
    table, q, a = (
        vectors(rng, (n, dim), similarity),
        vectors(rng, (queries, dim), similarity),
        asked(rng, queries, n),
    )
    made = []

    def crossed(similarity, some, candidates):
        scores = similarities.crossed(similarity, some, candidates)
        made.append(scores.numel())
        return scores

    expected = as_lists(count_answers(similarity, q, Candidates(table), a, raw=True))
    monkeypatch.setattr(answers, "crossed", crossed)
    found = as_lists(count_answers(similarity, q, Candidates(table), a, raw=True, memory=memory))
    assert found == expected
    # Six numbers a score, and of differences of complex vectors as many a coordinate.
    assert max(made) * 24 * (dim if similarity == "modulus" else 1) <= memory
    assert sum(made) == n * queries


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_counts_on_a_gpu_are_those_of_the_cpu(similarity):
    rng = np.random.default_rng(0)
    table, q, a = vectors(rng, (500, 8), similarity), vectors(rng, (40, 8), similarity), asked(rng, 40, 500)
    expected = as_lists(count_answers(similarity, q, Candidates(table), a, raw=True))
    found = count_answers(similarity, q.cuda(), Candidates(table.cuda()), a, raw=True)
    assert as_lists(found) == expected


def test_the_twin_is_what_computes_without_a_compiler(monkeypatch):
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    monkeypatch.setattr(answers, "_compiled", None)
    one = np.array([0, 1])
    found = count_answers(
        "dot", torch.ones(1, 1), Candidates(torch.tensor([[1.0], [2.0]])), Asked(one, one[:1], one, one[:1])
    )
    assert found.better.tolist() == [1]
