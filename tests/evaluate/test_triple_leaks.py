"""The leak check against a naive count in plain Python, on facts with known leaks, and on WN18RR."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kgkit.errors import LeakError
from kgkit.evaluate.triple_leaks import find_leaks, leak_lines
from kgkit.evaluate.triple_split import TripleSplit, count_unseen
from kgkit.graph import Triples

WN18RR = Path(__file__).parents[3] / "shared" / "data" / "wn18rr"
Row = tuple[int, int, int]


def part(rows: list[Row]) -> Triples:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Triples(columns[:, 0], columns[:, 1], columns[:, 2])


def split_of(
    train: list[Row], valid: list[Row], test: list[Row], entities: int = 20, relations: int = 4
) -> TripleSplit:
    return TripleSplit(part(train), part(valid), part(test), entities, relations)


def names(split: TripleSplit) -> list[str]:
    return [f"r{i}" for i in range(split.relations)]


def rows_of(facts: Triples) -> list[Row]:
    return list(zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True))


def naive(split: TripleSplit, held_out: Triples) -> dict[str, int]:
    train = set(rows_of(split.train))
    others = range(split.relations)
    symmetric = {(h, r, t) for h, r, t in rows_of(held_out) if h != t and (t, r, h) in train}
    inverse = {
        (h, r, t)
        for h, r, t in rows_of(held_out)
        if h != t and any((t, q, h) in train for q in others if q != r)
    }
    duplicate = {
        (h, r, t) for h, r, t in rows_of(held_out) if any((h, q, t) in train for q in others if q != r)
    }
    return {
        "facts": len(held_out),
        "symmetric": len(symmetric),
        "inverse": len(inverse),
        "duplicate": len(duplicate),
        "any": len(symmetric | inverse | duplicate),
    }


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_a_naive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, relations = 9, 4  # crowded, with loops
    rows = np.unique(np.stack([rng.integers(0, s, 150) for s in (n, relations, n)], 1), axis=0)
    rng.shuffle(rows)
    rows = [tuple(row) for row in rows.tolist()]
    split = split_of(rows[:-40], rows[-40:-20], rows[-20:], n, relations)
    found = find_leaks(split, names(split), threshold=0.0)
    for name, held_out in (("valid", split.valid), ("test", split.test)):
        counts = naive(split, held_out)
        assert found[name] == {**counts, "share": counts["any"] / 20}
    every = set(rows)
    sizes = [sum(r == q and h != t for h, r, t in every) for q in range(relations)]
    for row in found["inverse"]:
        a, b = (int(row[k][1:]) for k in ("relation", "other"))
        both = sum(r == a and h != t and (t, b, h) in every for h, r, t in every)
        assert row["facts"] == both
        assert (row["share"], row["other_share"]) == (both / sizes[a], both / sizes[b])
        given = [
            (h, r, t)
            for h, r, t in rows_of(split.test)
            if h != t and r in (a, b) and (t, a + b - r, h) in set(rows_of(split.train))
        ]
        assert row["test"] == len(given)
    for row in found["symmetric"]:
        a = int(row["relation"][1:])
        both = sum(r == a and h != t and (t, a, h) in every for h, r, t in every)
        assert (row["facts"], row["share"]) == (both, both / sizes[a])
    assert sum(row["test"] for row in found["symmetric"]) <= found["test"]["symmetric"]


def test_an_inverse_pair_as_in_wn18() -> None:
    """hypernym and hyponym: each test fact of the one stands in training as the other."""
    up = [(i, 0, i + 1) for i in range(10)]
    down = [(t, 1, h) for h, _, t in up]
    split = split_of([*up[:8], *down[2:], (0, 2, 5)], [up[8]], [up[9], *down[:2]])
    found = find_leaks(split, ["hypernym", "hyponym", "part_of", "unused"])
    assert found["inverse"] == [
        {
            "relation": "hypernym",
            "other": "hyponym",
            "facts": 10,
            "share": 1.0,
            "other_share": 1.0,
            "valid": 1,
            "test": 3,
        }
    ]
    assert found["symmetric"] == found["duplicate"] == []
    assert found["test"] == {"facts": 3, "symmetric": 0, "inverse": 3, "duplicate": 0, "any": 3, "share": 1.0}
    text = "\n".join(leak_lines(found))
    assert "hypernym says the reverse of hyponym: 10 facts, 100.0 % of the first's" in text
    assert "3 of 3 test facts (100.0 %)" in text and "MRR of up to 1.00" in text and "FB15k-237" in text
    assert json.loads(json.dumps(found)) == found


def test_a_small_relation_inside_a_large_one_is_found() -> None:
    large = [(i, 0, j) for i in range(5) for j in range(5, 10)]
    small = [(h, 1, t) for h, _, t in large[:5]]
    found = find_leaks(split_of([*large, *small[:3]], [small[3]], [small[4]]), ["knows", "likes", "x", "y"])
    assert found["duplicate"] == [
        {
            "relation": "knows",
            "other": "likes",
            "facts": 5,
            "share": 0.2,
            "other_share": 1.0,
            "valid": 1,
            "test": 1,
        }
    ]
    assert leak_lines(found)[0].startswith(
        "knows says the same as likes: 5 facts, 20.0 % of the first's and 100.0 %"
    )


def test_a_symmetric_relation_is_named_apart() -> None:
    ring = [(i, 3, (i + 1) % 10) for i in range(10)]
    back = [(t, r, h) for h, r, t in ring]
    loop = (15, 3, 15)  # neither round nor symmetric
    found = find_leaks(split_of([*ring, *back[4:], loop], back[:2], back[2:4]), ["a", "b", "c", "similar_to"])
    assert found["symmetric"] == [
        {"relation": "similar_to", "facts": 20, "share": 1.0, "valid": 2, "test": 2}
    ]
    assert found["inverse"] == found["duplicate"] == []
    assert leak_lines(found)[0] == (
        "similar_to is symmetric: 100.0 % of its facts stand both ways round; 2 test facts are known from training by it"
    )


def test_nothing_found_is_said_in_one_sentence() -> None:
    found = find_leaks(split_of([(0, 0, 1), (1, 0, 2)], [(2, 0, 3)], [(3, 0, 4)]), ["r0"] * 4)
    assert found["test"]["share"] == 0
    assert leak_lines(found) == ["no test fact stands in training turned round or under another relation"]


def test_many_pairs_are_counted_and_not_listed() -> None:
    rows = [(i, r, i + 1) for r in range(8) for i in range(4)] + [
        (i + 1, r, i) for r in range(8) for i in range(4)
    ]
    found = find_leaks(split_of(rows, [(0, 0, 9)], [(0, 1, 9)], relations=8), [f"r{i}" for i in range(8)])
    assert len(found["inverse"]) == 28
    lines = leak_lines(found)
    assert "and 23 more such pairs" in lines and "and 3 more symmetric relations" in lines


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([(0, 0, 1), (1, 1, 2)], [(1, 1, 2)], r"1 facts both in train and in test \(the first: head 1, relation r1, tail 2"),
        ([(0, 0, 1), (0, 0, 1)], [(1, 1, 2)], "1 facts more than once in train"),
    ],
)  # fmt: skip
def test_facts_of_two_parts_are_an_error(train: list[Row], test: list[Row], message: str) -> None:
    split = split_of(train, [(5, 0, 6)], test)
    with pytest.raises(LeakError, match=message):
        find_leaks(split, names(split))


@pytest.mark.shared_data
@pytest.mark.skipif(not WN18RR.is_dir(), reason="the public data sets are not beside the checkout")
def test_wn18rr_gives_a_third_of_its_test_facts_away() -> None:
    """Known figures: 34.7 % of the test facts have their reverse in training, 210 name an entity never trained."""
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    parts = []
    for name in ("train", "valid", "test"):
        lines = (line.split("\t") for line in (WN18RR / f"{name}.txt").read_text().splitlines())
        rows = [
            (
                entities.setdefault(h, len(entities)),
                relations.setdefault(r, len(relations)),
                entities.setdefault(t, len(entities)),
            )
            for h, r, t in lines
        ]
        parts.append(part(rows))
    split = TripleSplit(*parts, len(entities), len(relations))
    found = find_leaks(split, list(relations))
    assert found["test"]["facts"] == 3134
    assert round(100 * found["test"]["symmetric"] / 3134, 1) == 34.7
    assert [row["relation"] for row in found["symmetric"]] == [
        "_derivationally_related_form", "_verb_group", "_similar_to"
    ]  # fmt: skip
    assert found["inverse"] == found["duplicate"] == []  # that is what was taken out of WN18
    assert count_unseen(split) == {"train": 0, "valid": 210, "test": 210}
    assert "1,086 (34.7 %) turned round in the same relation" in "\n".join(leak_lines(found))
