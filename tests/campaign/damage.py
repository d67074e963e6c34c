"""Files of the embedded engine cut short, zeroed or with a flipped bit: what becomes of the graph, sorted by outcome.

`trials` takes a `verify`: what is asked whether a graph is whole, such as `kgkit check`. By default a graph is opened as
every command opens it, and read whole.
"""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from campaign.kills import mixed
from campaign.machine import sequences
from campaign.model import Graph, Refused
from campaign.nursery import FAILED, HUNG, KILLED, REFUSED, SAID, Nursery
from campaign.registry import Counts, Effort
from campaign.steps import Op, on_model, on_store, resolve
from kgkit.errors import KgkitError
from kgkit.store.open import open_store
from kgkit.testing.graph_dump import Dump, dump

# What may come of it. Only the first three are good: an earlier graph only of a log, whose end nobody can know.
SAME, EARLIER, ERROR = "same graph", "earlier graph", "clear error"
SILENT, TRACEBACK, DIED, ENDLESS = "another graph without a word", "traceback", "died", "endless"
SECONDS = 60  # after which a trial hangs
KINDS = ("cut", "zeros", "flip")

Verify = Callable[
    [Path], list[str]
]  # what is wrong with a graph; raises KgkitError where it cannot be opened


@dataclass(frozen=True)
class Damage:
    """What is done to a file: everything from `at` on cut off, 4 KiB of zeros there, or the lowest bit flipped."""

    file: str  # ending of its name: "" or ".wal"
    kind: str
    at: int

    def do(self, path: Path) -> None:
        path = Path(f"{path}{self.file}")
        with path.open("r+b") as file:
            file.seek(self.at)
            if self.kind == "cut":
                file.truncate(self.at)
            elif self.kind == "zeros":
                file.write(bytes(min(4096, path.stat().st_size - self.at)))
            else:
                byte = file.read(1)[0]
                file.seek(self.at)
                file.write(bytes([byte ^ 1]))


@dataclass
class Pristine:
    """A graph's file with a log beside it, and all graphs that it held after some step; the last is the true one."""

    path: Path
    held: list[Dump]


def pristine(folder: Path, number: int, nursery: Nursery) -> Pristine:
    """A small graph of all kinds in the file, and the last steps in its log only, as a killed writer leaves them."""
    path = folder / "pristine.lbug"
    how, said = nursery.call(_make, path, number)
    assert how == KILLED, said
    return Pristine(path, pickle.loads(path.with_suffix(".held").read_bytes()))


def _make(path: Path, number: int, ready: Callable[[], object]) -> None:
    """In a child: fills a graph, writes what it held after each step of the log to `.held`, and dies."""
    held, graph = list[Dump](), Graph()
    drawn = [step for sequence in sequences(10, number) for step, _ in sequence if step[0] != "clear"]
    into_log = [step for step in drawn if step[0] in ("upsert_nodes", "upsert_edges", "purchases")]
    store = open_store(path)
    for i, step in enumerate([*drawn, *into_log]):
        if i == len(drawn):
            store._engine.checkpoint()
            store._engine.rows("CALL auto_checkpoint=false")
        for op in resolve(_renamed(step) if i >= len(drawn) else step, graph):
            after = graph.copy()
            with suppress(Refused):
                on_model(after, op)
                on_store(store, op)
                graph = after
        if i >= len(drawn) - 1:
            held.append(dump(store))
    path.with_suffix(".held").write_bytes(pickle.dumps(held))
    os.kill(os.getpid(), signal.SIGKILL)


def _renamed(step: Op) -> Op:
    """The same step on users, sources and values of another kind, so that it changes the graph again."""
    rows = [
        {k: f"{v}'" if k in ("head", "source", "id") else v for k, v in row.items()}
        for row in step[1]["rows"]
    ]
    return step[0], {**step[1], "rows": rows, **({"missing": "create"} if "missing" in step[1] else {})}


def damages(whole: Pristine, count: int, random: Random) -> Iterator[Damage]:
    """So many for the file and so many for its log, at offsets anywhere."""
    for file in ("", ".wal"):
        size = Path(f"{whole.path}{file}").stat().st_size
        for i in range(count):
            yield Damage(file, KINDS[i % len(KINDS)], random.randrange(size))


def trial(
    whole: Pristine, damage: Damage, folder: Path, nursery: Nursery, verify: Verify | None
) -> tuple[str, str]:
    """An outcome and its line."""
    path = folder / "damaged.lbug"
    for file in folder.glob("damaged.lbug*"):
        file.unlink()
    for ending in ("", ".wal"):
        shutil.copy(f"{whole.path}{ending}", f"{path}{ending}")
    damage.do(path)
    how, said = nursery.call(_look, path, verify, limit=SECONDS)
    if how == SAID:
        if said == whole.held[-1]:
            return SAME, ""
        steps = itertools.pairwise(whole.held)
        earlier = any(not mixed(old, new, said, True) for old, new in steps)
        return (EARLIER if earlier else SILENT), ""
    return {REFUSED: ERROR, FAILED: TRACEBACK, KILLED: DIED, HUNG: ENDLESS}[how], str(said)


def _look(path: Path, verify: Verify | None, ready: Callable[[], object]) -> Dump:
    """In a child: what the graph holds."""
    if verify is not None and (wrong := verify(path)):
        raise KgkitError(wrong[0])
    with open_store(path) as store:
        return dump(store)


def trials(folder: Path, count: int, number: int, verify: Verify | None = None) -> Counts:
    """Damages a graph's file and its log `count` times each; what is neither right nor one clear line fails."""
    counts, random = Counts(), Random(number)
    with Nursery() as nursery:
        whole = pristine(folder, number, nursery)
        for damage in damages(whole, count, random):
            outcome, line = trial(whole, damage, folder, nursery, verify)
            counts.tried += 1
            counts.note(f"{outcome} ({damage.file or 'file'})")
            good = (SAME, ERROR, EARLIER) if damage.file else (SAME, ERROR)
            if outcome not in good or "\n" in line:
                counts.failures.append(f"seed {number}, {damage}: {outcome} {line}")
    return counts


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    """As every command opens a graph."""
    for number in range(effort.number, effort.number + 2):
        folder = effort.folder / f"damage{number}"
        folder.mkdir()
        yield f"cuts, zeros and flips, graph {number}", trials(folder, effort.of(40), number)
