"""Processes killed with SIGKILL in the middle of a step on the embedded engine, at a numbered statement or any moment.

The step is done by a child of a `Nursery`. Afterwards the graph is the model
before or after the step; for steps that promise less it is a mix of the two, node by node and relationship by
relationship. Giving the step again leads to the model after it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from campaign.engines import LIMITS, limits
from campaign.machine import Steps, sequences
from campaign.model import Graph, Refused, Row
from campaign.nursery import KILLED, SAID, Nursery
from campaign.registry import Counts, Effort
from campaign.steps import ATOMIC, Op, compared, on_model, on_store, resolve
from kgkit.schema import NODES
from kgkit.store.open import open_store
from kgkit.testing.graph_dump import Dump, dump


@dataclass(frozen=True)
class Kill:
    """When: before (or after) the statement of this number that the child gives the engine, or after seconds."""

    statement: int = -1
    after: bool = False
    seconds: float = -1.0
    checkpoints: bool = True  # whether the engine moves its log into the file by itself


def killed_in(engine: str, path: Path, op: Op, kill: Kill, ready: Callable[[], object]) -> Any:
    """In a child: does the operation, and is killed on the way, perhaps; what the store says."""
    with limits(engine), open_store(path) as store:
        if not kill.checkpoints:
            store._engine.rows("CALL auto_checkpoint=false")
        ready()
        _count_statements(kill)
        return on_store(store, op)


def _count_statements(kill: Kill) -> None:
    """Makes the engine's statement of that number the last that this process gives."""
    import ladybug

    left = kill.statement
    if left < 0:
        return

    def counted(run: Any) -> Any:
        def execute(self: Any, *args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1 and not kill.after:
                os.kill(os.getpid(), signal.SIGKILL)
            value = run(self, *args, **more)
            if left == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        return execute

    for name in ("execute", "query_as_arrow"):
        setattr(ladybug.Connection, name, counted(getattr(ladybug.Connection, name)))


# -- what may be there after a kill -------------------------------------------------------------------------------


def allowed(op: Op, before: Graph, after: Graph, found: Dump, bulk: bool) -> list[str]:
    """Why the graph is neither of the two, nor, where the port promises no more, between them; empty if it is.

    bulk: of so many nodes at once some may have some of their new properties.
    """
    if before.same(found) or after.same(found):
        return []
    if op[0] == "align" and before.same(_without_new_entities(op, before, found)):
        return []
    if op[0] in ATOMIC:
        return [
            f"half of {op[0]}: " + "; ".join((before.copy().settle(found) + after.copy().settle(found))[:6])
        ]
    return mixed({**before.nodes, **before.edges}, {**after.nodes, **after.edges}, found, bulk)


def mixed(old: Dump, new: Dump, found: Dump, by_property: bool) -> list[str]:
    """What in a graph is neither as in `old` nor as in `new`: nodes and relationships, or properties of nodes."""
    lines = []
    for kind in old.keys() | new.keys():
        have, was, to_be = (some.get(kind, {}) for some in (found, old, new))
        for key in {**was, **to_be, **have}:
            states = (was.get(key), to_be.get(key))
            node = kind in NODES and by_property
            if have.get(key) not in states and not (node and _between(have.get(key), *states)):
                lines.append(f"{kind} {key!r}: {have.get(key)} is neither {states[0]} nor {states[1]}")
    return lines


def _without_new_entities(op: Op, before: Graph, found: Dump) -> Dump:
    """An alignment's entities may be there, bare, before their items come to them."""
    new = {entity for _, entity in op[1]["rows"]} - before.nodes["Entity"].keys()
    kept = {id: row for id, row in found["Entity"].items() if row or id not in new}
    return {**found, "Entity": kept}


def _between(have: Row | None, old: Row | None, new: Row | None) -> bool:
    """Whether a node has of each property what it had or what it is to have."""
    if have is None:
        return old is None or new is None
    names = {**have, **(old or {}), **(new or {})}
    return all(have.get(n) in ((old or {}).get(n), (new or {}).get(n)) for n in names)


@dataclass
class Sequence:
    """A graph in a file and its model. Every step is killed, looked at, and given again."""

    engine: str
    path: Path
    nursery: Nursery
    random: Random
    graph: Graph = field(default_factory=Graph)
    killed: int = 0
    tried: int = 0

    def step(self, op: Op) -> list[str]:
        """What is wrong after a kill and after the step was given again; empty if nothing."""
        before, after = self.graph, self.graph.copy()
        try:
            want = on_model(after, op)
        except Refused:
            return []
        kill = self._kill()
        self.tried += 1
        how, said = self.nursery.call(killed_in, self.engine, self.path, op, kill, kill_after=kill.seconds)
        self.killed += how == KILLED
        if how not in (KILLED, SAID):
            return [f"{op} {how}: {said}"]
        if how == SAID and compared(op, said) != compared(op, want):
            return [f"{op} said {said} instead of {want}"]
        try:
            with limits(self.engine), open_store(self.path) as store:
                found = dump(store)
                wrong = after.copy().settle(found)
                if how == KILLED:
                    wrong = allowed(op, before, after, found, "COPY_FROM" in LIMITS[self.engine])
                if wrong:
                    return [f"{kill} in {op}", *wrong]
                on_store(store, op)
                wrong = self._again(before, after, op, found, dump(store))
        except Exception as error:  # any: it is the outcome that this looks for
            return [f"{kill} in {op}: {type(error).__name__}: {error}"]
        return [f"given again after {kill} in {op}", *wrong] if wrong else []

    def _again(self, before: Graph, after: Graph, op: Op, killed: Dump, found: Dump) -> list[str]:
        """The step again leads to what it leads to from the graph that the kill left."""
        if after.same(killed) and not before.same(killed):
            after.settle(killed)
            on_model(after, op)
        wrong = after.settle(found)
        self.graph = after
        return wrong

    def _kill(self) -> Kill:
        checkpoints = self.random.random() < 0.7
        if self.random.random() < 0.7:
            number = int(self.random.expovariate(1 / 7))
            return Kill(statement=number, after=self.random.random() < 0.5, checkpoints=checkpoints)
        return Kill(seconds=self.random.uniform(0, 0.08), checkpoints=checkpoints)


def kills(engine: str, folder: Path, played: Iterable[Steps], number: int) -> Counts:
    """Kills every step of some sequences."""
    counts = Counts()
    with Nursery() as nursery:
        for i, steps in enumerate(played):
            sequence = Sequence(engine, folder / f"killed{i}.lbug", nursery, Random(f"{number}/{i}"))
            for op in (op for step, _ in steps for op in resolve(step, sequence.graph)):
                if wrong := sequence.step(op):
                    counts.failures.append(f"{engine}, seed {number}, sequence {i}: " + "; ".join(wrong[:4]))
                    break
            counts.tried += sequence.killed
    return counts


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    """Kills on each variant of the embedded engine."""
    for engine in LIMITS:
        folder = effort.folder / engine
        folder.mkdir()
        yield (
            f"kills on {engine}",
            kills(engine, folder, sequences(effort.of(100), effort.number), effort.number),
        )
