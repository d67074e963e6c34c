"""Random sequences of everything that a store can do, compared with the model after every step."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from campaign.engines import LIMITS, SERVED, Opened, emptied, started
from campaign.model import Graph
from campaign.registry import Counts, Effort
from campaign.steps import Op, check, resolve, steps
from kgkit.copy import copy_graph
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore
from kgkit.testing.graph_dump import dump

Steps = Sequence[tuple[Op, str]]  # each with what follows it: "", or one of these
AFTER = ("again", "reopen", "copy")


def sequences(count: int, number: int, most: int = 14) -> list[Steps]:
    """Sequences of steps, the same for the same seed `number`."""
    after = st.sampled_from(["", "", "", "", "", *AFTER])
    drawn: list[Steps] = []

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )  # fmt: skip
    @given(st.lists(st.tuples(steps(), after), min_size=3, max_size=most))
    def draw(sequence: Steps) -> None:
        drawn.append(sequence)

    draw()
    return drawn


def play(opened: Opened, sequence: Steps, folder: Path) -> int:
    """Plays a sequence on an empty graph; steps done. Raises AssertionError where store and model differ."""
    graph, store, done = Graph(), opened(), 0
    try:
        for step, after in sequence:
            for _ in range(1 + (after == "again")):
                for op in resolve(step, graph):
                    check(store, graph, op)
                    same(store, graph, op)
                    done += 1
            if after == "reopen":
                store.close()
                store = opened()
                same(store, graph, after)
            elif after == "copy":
                copied(store, graph, folder)
        assert store.stats() == graph.stats()
    finally:
        store.close()
    return done


def same(store: GraphStore, graph: Graph, what: object) -> None:
    """Asserts that a store holds what the model does."""
    found = graph.settle(dump(store))
    assert found == [], f"after {what}: " + "; ".join(found[:5])


def copied(store: GraphStore, graph: Graph, folder: Path) -> None:
    """A copy in an embedded graph is the same; and copied back over the original, it changes nothing."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as inner,
        open_store(Path(inner) / "copy.lbug") as other,
    ):
        copy_graph(store, other)
        same(other, graph, "a copy")
        copy_graph(other, store, merge=True)
        same(store, graph, "a copy back")


def shortest(fails: Callable[[Steps], Any], sequence: Steps) -> Steps:
    """Leaves steps out for as long as what is left fails, too."""
    at = 0
    while at < len(sequence):
        less = [*sequence[:at], *sequence[at + 1 :]]
        if fails(less):
            sequence = less
        else:
            at += 1
    return sequence


def search(new: Callable[[], Opened], folder: Path, played: Iterable[Steps]) -> Counts:
    """Plays sequences, each on a graph of its own; of one that fails, the shortest that does."""
    counts = Counts()

    def failure(sequence: Steps) -> str:
        try:
            counts.tried += play(new(), sequence, folder)
        except Exception as error:  # any: it is the outcome that this looks for
            return f"{type(error).__name__}: {error}"
        return ""

    for sequence in played:
        if failure(sequence):
            less = shortest(failure, sequence)
            counts.failures.append(f"{failure(less)} {less}")
    return counts


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    """Steps on each engine."""
    with ExitStack() as stack:
        info = stack.enter_context(started(effort.folder)) if effort.servers else None
        for engine, usual in itertools.chain(
            zip(LIMITS, (150, 150, 150), strict=True), zip(SERVED, (60, 30), strict=True)
        ):
            if engine in LIMITS or info is not None:
                with emptied(engine, effort.folder, info) as new:
                    played = sequences(effort.of(usual), effort.number)
                    yield f"steps on {engine}", search(new, effort.folder, played)
