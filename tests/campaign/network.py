"""Faults of the network between kgkit and Neo4j, during every kind of command, through `proxy.Proxy`.

A chain of actions builds a graph. A fault comes once in each of them: it then succeeds, and the graph is that of an
undisturbed chain; or it raises one line, and given again it leads there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from proxy import Fault, Proxy

from campaign.engines import on_server, started
from campaign.registry import Counts, Effort
from kgkit.errors import KgkitError
from kgkit.ingest import ingest
from kgkit.recipe import read_recipe
from kgkit.server import ServerInfo
from kgkit.store import neo4j, neo4j_connection
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors
from kgkit.testing.graph_dump import Dump, difference, dump

Action = Callable[[GraphStore], Any]
# kind, at the commit: all faults that the chain is played with. The last lasts until the action has given up.
FAULTS = (
    ("refuse", False), ("cut", False), ("cut", True), ("lost", False), ("lost", True), ("latency", False),
    ("stall", False), ("stall", True), ("trickle", False), ("garbage", False), ("garbage", True),
)  # fmt: skip
FOR_GOOD = 10**6  # times that a fault comes which lasts


def write_sources(folder: Path, rows: int, number: int) -> Path:
    """Purchases before their alignment, facts among the same entities, and a recipe of all."""
    rng = Random(number)
    users, items, entities = rows // 6 + 2, rows // 4 + 2, rows // 3 + 2
    bought = "".join(f"u{rng.randrange(users)},i{rng.randrange(items)}\n" for _ in range(rows))
    (folder / "log.csv").write_text("user,item\n" + bought)
    facts = (
        f"m.{rng.randrange(entities)}\tr.{rng.randrange(5)}\tm.{rng.randrange(entities)}\n"
        for _ in range(rows)
    )
    (folder / "kg.txt").write_text("".join(facts))
    (folder / "link.txt").write_text("".join(f"i{i}\tm.{i}\n" for i in range(items // 2)))
    parts = (("purchases", "log.csv"), ("triples", "kg.txt"), ("alignment", "link.txt"))
    text = "".join(f'[[source]]\nconnector = "{name}"\npaths = ["{file}"]\n' for name, file in parts)
    (folder / "kg.toml").write_text(text)
    return folder / "kg.toml"


def actions(recipe: Path, rows: int) -> dict[str, Action]:
    """What is done to the graph, one after another."""
    sources = read_recipe(recipe).sources
    items = (rows // 4 + 2) // 2

    def told(at: int) -> Action:
        return lambda store: ingest(sources[at].connector, sources[at].config, store)

    def answers(first: int, kinds: Sequence[str]) -> list[Answers]:
        heads = [f"u{i}" for i in range(12)]
        recommended = {
            "head": heads,
            "tail": [f"m.{(first + i) % items}" for i in range(12)],
            "score": [0.5] * 12,
            "rank": [1] * 12,
        }
        tails = [f"m.{i % items}" for i in range(12)]
        completed = {
            "head": [f"m.{(first + i) % items}" for i in range(12)],
            "tail": tails,
            "relation": ["r.0"] * 12,
            "score": [0.25] * 12,
        }
        tables = {"RECOMMENDED": recommended, "COMPLETED": completed}
        return [Answers(kind, pa.table(tables[kind])) for kind in kinds]

    def replaced(run: str, first: int) -> Action:
        ids = pa.array([f"m.{i}" for i in range(items)])
        matrix = np.full((items, 4), first, dtype=np.float32)
        return lambda store: store.replace_answers(
            RunRecord(run, "kgcn", "2024"),
            [Vectors("Entity", ids, matrix, packed=True)],
            answers(first, ("RECOMMENDED", "COMPLETED")),
            {"filters": np.full(3, first, dtype=np.float32)},
        )

    # The bought ones among m.0 .. change places in a ring.
    ring = pa.table(
        {"item": [f"i{i}" for i in range(items)], "entity": [f"m.{(i + 1) % items}" for i in range(items)]}
    )
    return {
        "ingest purchases": told(0),
        "ingest triples": told(1),
        "ingest alignment": told(2),
        "replace_answers": replaced("r1", 1),
        "replace_answers again": replaced("r2", 2),
        "update_answers": lambda store: store.update_answers("r2", answers(5, ("COMPLETED",))),
        "align, moving": lambda store: store.align(ring, move=True),
        "read": dump,
        "delete_nodes": lambda store: store.delete_nodes("User", ["u0", "u1", "u2"]),
        "erase_run": lambda store: store.erase_run("r2"),
        "clear": lambda store: store.clear(),
    }


@dataclass(frozen=True)
class Undisturbed:
    """What an action leads to: the graph, what it says, and the bytes that it sends."""

    graph: Dump
    said: Any
    sent: int


def plain(said: Any) -> Any:
    """A result in a form that can be compared."""
    if hasattr(said, "conflicts") and isinstance(said.conflicts, pa.Table):
        return (said.aligned, said.unchanged, said.folded, said.moved, said.conflicts.to_pylist())
    if isinstance(said, Mapping):
        return dict(said)
    return said if isinstance(said, int) else None


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """How long a server that is away is waited for."""
    before = neo4j.RETRIES, neo4j_connection.PATIENCE
    neo4j.RETRIES = neo4j_connection.PATIENCE = seconds
    try:
        yield
    finally:
        neo4j.RETRIES, neo4j_connection.PATIENCE = before


class Chains:
    """The chain undisturbed, and with faults. rows: of each source."""

    def __init__(self, info: ServerInfo, folder: Path, rows: int, number: int) -> None:
        self._info, self._upstream = info, int(info.uri.rsplit(":", 1)[1])
        self._actions = actions(write_sources(folder, rows, number), rows)
        self._random = Random(number)
        self._whole: dict[str, Undisturbed] = {}
        self._clear()
        with Proxy(self._upstream) as proxy:
            for name, action in self._actions.items():
                proxy.sent = 0
                with on_server(info, port=proxy.port) as store:
                    said = plain(action(store))
                    sent = proxy.sent
                    self._whole[name] = Undisturbed(self._dump(), said, sent)

    def _clear(self) -> None:
        with on_server(self._info) as store:
            store.clear()

    def _dump(self) -> Dump:
        with on_server(self._info) as store:
            return dump(store)

    def play(self, kind: str, at_commit: bool, lasting: bool, counts: Counts) -> None:
        """One chain with that fault in every action; failures and outcomes go to `counts`."""
        self._clear()
        for name, action in self._actions.items():
            whole, counts.tried = self._whole[name], counts.tried + 1
            fault = Fault(
                kind,
                after=self._random.randrange(max(1, whole.sent)),
                at_commit=at_commit,
                times=FOR_GOOD if lasting else 1,
            )
            with Proxy(self._upstream, patience=2) as proxy:
                proxy.arm(fault)
                outcome = self._once(proxy, action, whole)
                if outcome == "error":
                    proxy.fault = None
                    again = self._once(proxy, action, whole, counted=False)
                    outcome += "" if again == "right" else f", then {again}"
                came = proxy.happened > 0
            found = difference(self._dump(), whole.graph)
            counts.note(outcome if came else "without the fault")
            if found or outcome not in ("right", "error"):
                what = f"{kind}{' at the commit' if at_commit else ''}{', lasting' if lasting else ''}"
                counts.failures.append(f"{what} in {name} ({fault}): {outcome}; " + "; ".join(found[:3]))
                self._start_from(name)

    def _once(self, proxy: Proxy, action: Action, whole: Undisturbed, counted: bool = True) -> str:
        """ "right", "error" (one line), or what is wrong with it."""
        try:
            with on_server(self._info, port=proxy.port) as store:
                said = plain(action(store))
        except KgkitError as error:
            return "error" if "\n" not in str(error) else f"an error of several lines: {error}"
        except Exception as error:  # any: it is the outcome that this looks for
            return f"{type(error).__name__}: {error}"
        return "right" if not counted or said == whole.said else f"said {said} instead of {whole.said}"

    def _start_from(self, name: str) -> None:
        """The graph after that action, from the beginning."""
        self._clear()
        with on_server(self._info) as store:
            for other, action in self._actions.items():
                action(store)
                if other == name:
                    return


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    """Chains with each fault, at other places every time; and with faults that last."""
    if not effort.servers:
        return
    with started(effort.folder) as info:
        with patience(20.0):
            chains = Chains(info, effort.folder, 120, effort.number)
            for kind, at_commit in FAULTS:
                counts = Counts()
                for _ in range(effort.of(5)):
                    chains.play(kind, at_commit, False, counts)
                yield f"{kind}{' at the commit' if at_commit else ''}, once an action", counts
        with patience(2.0):
            for kind in ("refuse", "cut", "lost", "garbage"):
                counts = Counts()
                chains.play(kind, False, True, counts)
                yield f"{kind}, lasting", counts
