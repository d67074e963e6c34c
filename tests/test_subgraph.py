"""k-core, seed users and sets of ids, by numbers worked by hand and against counting one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kgkit.records import Kept
from kgkit.subgraph import Core, IdSet, Thresholds, k_core

# -- k-core --------------------------------------------------------------------------------------------------------


def columns(rows: list[tuple[int, ...]], width: int) -> list[np.ndarray]:
    table = np.array(rows, dtype=np.int64).reshape(-1, width)
    return [np.ascontiguousarray(table[:, i]) for i in range(width)]


def core(facts: list[tuple[int, int, int]], bought: list[tuple[int, int]], t: Thresholds) -> Core:
    return k_core(*columns(facts, 3), *columns(bought, 2), t, n_users=4, n_entities=8, n_relations=3)


# Items 0, 1, 2. Entities 3 and 4 hang on items, 5 on 4, 6 on 5; 7 is alone.
FACTS = [(0, 0, 3), (1, 0, 3), (2, 0, 3), (0, 1, 4), (1, 1, 4), (4, 2, 5), (5, 2, 6)]
BOUGHT = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2)]


def test_k_core_unravels_round_by_round() -> None:
    """User 3 goes (1 interaction) and so item 2 has 1 and goes, and so user 2; entity 6 goes, and so 5."""
    found = core(FACTS, BOUGHT, Thresholds(user=2, item=2, entity=2))
    assert found.steps == [
        Kept("before the core", users=4, items=3, interactions=7, entities=7, relations=3, facts=7),
        # user 3 is gone with 1 interaction; entity 6 with the fact 5-6
        Kept("core, round 1", users=3, items=3, interactions=6, entities=6, relations=3, facts=6),
        # item 2 is gone, an entity with one fact now, and so is 5: facts 2-3 and 4-5
        Kept("core, round 2", users=3, items=2, interactions=5, entities=4, relations=2, facts=4),
        Kept("core, round 3", users=2, items=2, interactions=4, entities=4, relations=2, facts=4),
    ]
    assert np.flatnonzero(found.users).tolist() == [0, 1]
    assert np.flatnonzero(found.items).tolist() == [0, 1]
    assert np.flatnonzero(found.entities).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(found.relations).tolist() == [0, 1]
    assert np.flatnonzero(found.facts).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(found.interactions).tolist() == [0, 1, 2, 3]


def test_items_stay_without_facts_unless_told_otherwise() -> None:
    """Relation 1 has 2 facts and relation 2 has 2: only relation 0 stays, and entity 3 by its 3 facts."""
    found = core(FACTS, BOUGHT, Thresholds(entity=2, relation=3))
    assert found.steps[-1] == Kept(
        "core, round 1", users=4, items=3, interactions=7, entities=4, relations=1, facts=3
    )
    # Now each item has one fact, which is not enough: it goes, and takes its interactions and entity 3 with it.
    strict = core(FACTS, BOUGHT, Thresholds(entity=2, relation=3, items_need_facts=True))
    assert (strict.steps[-1].items, strict.steps[-1].interactions, strict.steps[-1].entities) == (0, 0, 0)
    assert not strict.entities.any() and not strict.facts.any()


def test_k_core_of_nothing_to_drop_of_loops_and_of_nothing() -> None:
    assert len(core(FACTS, BOUGHT, Thresholds()).steps) == 1
    looped = core([(5, 0, 5)], [], Thresholds(entity=2))  # one fact, not two
    assert looped.steps[-1].facts == 0
    assert core([], [], Thresholds(10, 10, 10, 50)).steps == [Kept("before the core")]


def naive(facts: set, bought: set, t: Thresholds) -> tuple[set, set]:
    """Drops one thing at a time."""
    while True:
        users, items = [u for u, _ in bought], [i for _, i in bought]
        relations = [r for _, r, _ in facts]
        degree = {e: sum(e in (h, o) for h, _, o in facts) for e in range(30)}
        gone = next((b for b in bought if users.count(b[0]) < t.user or items.count(b[1]) < t.item), None)
        if gone is None and t.items_need_facts:
            gone = next((b for b in bought if degree[b[1]] < t.entity), None)
        if gone is not None:
            bought = bought - {gone}
            continue
        kept = {e for e in range(30) if degree[e] >= t.entity or (e in items and not t.items_need_facts)}
        lost = next(
            (f for f in facts if f[0] not in kept or f[2] not in kept or relations.count(f[1]) < t.relation),
            None,
        )
        if lost is None:
            return facts, bought
        facts = facts - {lost}


@pytest.mark.parametrize("strict", [False, True])
def test_k_core_is_the_largest_whatever_the_order(strict: bool) -> None:
    rng = np.random.default_rng(5)
    t = Thresholds(user=2, item=2, entity=3, relation=6, items_need_facts=strict)
    some = 0
    for _ in range(6):
        facts = sorted({tuple(f) for f in rng.integers(0, [30, 8, 30], (70, 3)).tolist()})
        bought = sorted({tuple(b) for b in rng.integers(0, 12, (36, 2)).tolist()})
        got = k_core(*columns(facts, 3), *columns(bought, 2), t, n_users=12, n_entities=30, n_relations=8)
        left, pairs = naive(set(facts), set(bought), t)
        assert {f for f, kept in zip(facts, got.facts, strict=True) if kept} == left
        assert {b for b, kept in zip(bought, got.interactions, strict=True) if kept} == pairs
        assert set(np.flatnonzero(got.items).tolist()) == {i for _, i in pairs}
        assert (got.steps[-1].facts, got.steps[-1].interactions) == (len(left), len(pairs))
        some += len(left)
    assert some > 0


# -- sets of ids ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["compiled", "plain"])
def ids(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IdSet:
    if request.param == "plain":
        monkeypatch.setenv("KGKIT_NATIVE", "0")
    made = IdSet()
    if request.param == "compiled" and type(made._ids).__name__ == "_Plain":
        pytest.skip("no C compiler here")
    return made


def test_id_set_takes_every_shape_of_strings(ids: IdSet) -> None:
    assert ids.contains(pa.array(["a"])).tolist() == [False]
    assert ids.add(pa.array(["m.1", "", None, "m.1", "été", "m.0123456789abcdef", "nul\0nul"])) == 5
    assert ids.add(pa.chunked_array([["m.1", "m.2"], [], ["m.3"]], pa.large_string())) == 2
    assert len(ids) == 7
    asked = pa.array(["x", "m.2", None, "", "été", "ete", "m.0123456789abcdeF", "nul", "nul\0nul"]).slice(1)
    assert ids.contains(asked).tolist() == [True, False, True, True, False, False, False, True]
    assert ids.contains(asked.dictionary_encode()).tolist() == ids.contains(asked).tolist()
    assert ids.contains(pa.nulls(2, pa.string())).tolist() == [False, False]
    assert ids.contains(pa.chunked_array([], pa.string())).tolist() == []
    assert ids.add(pa.array([], pa.string())) == 0
    expected = ["m.1", "", "été", "m.0123456789abcdef", "nul\0nul", "m.2", "m.3"]
    assert ids.to_arrow().to_pylist() == expected
    assert ids.find(asked).tolist() == [5, -1, 1, 2, -1, -1, -1, 4]
    assert ids.encode(pa.chunked_array([["m.9", "m.2"], ["m.9", "m.10", ""]])).tolist() == [7, 5, 7, 8, 1]
    assert ids.to_arrow().to_pylist() == [*expected, "m.9", "m.10"]
    with pytest.raises(ValueError, match="null"):
        ids.encode(pa.array(["m.9", None]))


def test_id_set_knows_how_long_its_texts_are(ids: IdSet) -> None:
    assert ids.text_bytes == 0
    ids.add(pa.array(["m.1", "né", "m.1", ""]))
    assert ids.text_bytes == 6
    assert ids.encode(pa.array(["m.1", "m.22"])).tolist() == [0, 3]
    assert ids.text_bytes == 10


def test_id_set_is_exact_where_hashes_collide(ids: IdSet) -> None:
    """Among 300,000 ids some ten pairs share a 32-bit hash, and some twenty absent ids share one with a member."""
    n = 300_000
    text = pa.array([f"m.{i:x}" for i in range(2 * n)])
    inside = pa.array(np.arange(2 * n) % 2 == 0)
    members = text.filter(inside)
    for start in range(0, n, 70_001):  # several growths, and ids given twice
        ids.add(members.slice(max(0, start - 10), 70_011))
    assert len(ids) == n
    assert ids.contains(text).tolist() == inside.to_pylist()
    assert ids.to_arrow().equals(members.cast(pa.large_string()))
    assert ids.encode(members).tolist() == list(range(n))
    numbers = ids.encode(text.take(pa.array(np.arange(2 * n - 1, -1, -1))))  # backwards: half of them are new
    assert numbers[0] == n
    assert sorted(numbers.tolist()) == list(range(2 * n))


def test_id_set_grows_hop_by_hop(ids: IdSet) -> None:
    """a - b - c - d: from a, one hop reaches b, two reach c."""
    head, tail = pa.array(["a", "b", "c"]), pa.array(["b", "c", "d"])
    ids.add(pa.array(["a"]))
    for reached in (["a", "b"], ["a", "b", "c"]):
        keep = pa.array(ids.contains(head) | ids.contains(tail))
        ids.add(pa.chunked_array([head.filter(keep), tail.filter(keep)]))
        assert ids.to_arrow().to_pylist() == reached


# -- seed users ----------------------------------------------------------------------------------------------------
