"""Who could stand at an end of a relation: a world of films and people, worked by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kgkit.graph import IdMap, Interactions, TrainingGraph, Triples
from kgkit.missing import Slots

# f0-f3 are films with a director; f0-f2 have a genre; g* genres, p* people. p0 and f9 have a name, as all have.
FACTS = [
    *(("f0", "directed_by", "p0"), ("f1", "directed_by", "p0"), ("f2", "directed_by", "p1"), ("f3", "directed_by", "p1")),
    *(("f0", "genre", "g0"), ("f1", "genre", "g0"), ("f2", "genre", "g1")),
    *((x, "name", "n0") for x in ("f0", "f1", "f2", "f3", "f9", "g0", "g1", "p0", "p1", "p2", "p3", "p4", "p5")),
    ("p0", "born_in", "c0"),
    ("p0", "likes", "p0"),
]  # fmt: skip


def graph_of(facts: list[tuple[str, str, str]], items: tuple[str, ...] = ()) -> TrainingGraph:
    """A graph of facts by name, without purchases."""
    entities = sorted({x for h, _, t in facts for x in (h, t)} | set(items))
    relations = sorted({r for _, r, _ in facts})
    rows = np.array(sorted((entities.index(h), relations.index(r), entities.index(t)) for h, r, t in facts))
    nobody = np.zeros(0, dtype=np.int64)
    return TrainingGraph(
        users=IdMap(pa.array([], pa.string())),
        items=IdMap(pa.array(sorted(items), pa.string())),
        entities=IdMap(pa.array(entities)),
        relations=IdMap(pa.array(relations)),
        item_entity=np.array([entities.index(i) for i in sorted(items)], dtype=np.int64),
        interactions=Interactions(nobody, nobody, nobody, nobody, nobody.astype(np.float64)),
        triples=Triples(*(np.ascontiguousarray(rows[:, i], dtype=np.int64) for i in range(3))),
    )


def asked(graph: TrainingGraph, relation: str, side: str, **how: bool) -> tuple[list[str], list[str]]:
    seen = np.ones(len(graph.entities), dtype=bool)
    how = {"types": True, "all_heads": False} | how
    r = graph.relations.index(relation)
    q = Slots(graph, seen).questions(r, side, types=how["types"], all_heads=how["all_heads"])  # type: ignore[arg-type]
    return graph.entities.keys(q.given).to_pylist(), graph.entities.keys(q.candidates).to_pylist()


def test_what_has_a_director_could_have_a_genre_and_what_has_a_name_could_not() -> None:
    assert asked(graph_of(FACTS), "genre", "tail") == (["f3"], ["g0", "g1"])


def test_all_heads_and_no_types() -> None:
    graph = graph_of(FACTS)
    assert asked(graph, "genre", "tail", all_heads=True)[0] == ["f0", "f1", "f2", "f3"]
    everyone = graph.entities.ids.to_pylist()
    given, candidates = asked(graph, "genre", "tail", types=False)
    assert given == [e for e in everyone if e not in ("f0", "f1", "f2")] and candidates == everyone


def test_heads_are_asked_for_tails_that_lack_them() -> None:
    graph = graph_of([*FACTS, ("g2", "genre_of", "f0"), ("g0", "genre_of", "f0"), ("g1", "genre_of", "f2")])
    given, candidates = asked(graph, "genre", "head")
    assert given == ["g2"] and candidates == ["f0", "f1", "f2"]


def test_being_an_item_counts_as_a_slot() -> None:
    items = (
        "f0",
        "f1",
        "f3",
        "f9",
    )  # half of them and more have a genre, and most of what has one is among them
    assert asked(graph_of(FACTS, items), "genre", "tail")[0] == ["f3", "f9"]
    assert asked(graph_of(FACTS, ("p2", "p3", "f9")), "genre", "tail")[0] == ["f3"]


def test_who_is_not_seen_neither_asks_nor_answers() -> None:
    graph = graph_of(FACTS)
    seen = np.ones(len(graph.entities), dtype=bool)
    seen[[graph.entities.index("f3"), graph.entities.index("g1")]] = False
    q = Slots(graph, seen).questions(graph.relations.index("genre"), "tail", types=True, all_heads=True)
    assert graph.entities.keys(q.given).to_pylist() == ["f0", "f1", "f2"]
    assert graph.entities.keys(q.candidates).to_pylist() == ["g0"]


@pytest.mark.parametrize(("relation", "reflexive"), [("likes", True), ("directed_by", False)])
def test_reflexive_relations_are_those_with_such_a_fact(relation: str, reflexive: bool) -> None:
    graph = graph_of(FACTS)
    seen = np.ones(len(graph.entities), dtype=bool)
    q = Slots(graph, seen).questions(graph.relations.index(relation), "tail", types=False, all_heads=True)
    assert q.reflexive is reflexive
