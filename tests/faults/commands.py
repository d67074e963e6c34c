"""The writing commands of the embedded store, each with a graph to begin with: what the fault tests stop half-way."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kgkit.copy import copy_graph
from kgkit.ingest import ingest
from kgkit.registry import load_connector
from kgkit.store import ladybug_redirect, ladybug_write
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors
from kgkit.testing.contract_write import facts, nodes

# Of the bulk roads, so that they are taken by graphs of some thousand rows.
SMALL = {"nodes": 40, "edges": 150}
WHEN = "2024-05-01T10:00:00Z"


@dataclass(frozen=True)
class Size:
    users: int
    items: int
    pairs: int

    def bulk_from_here(self) -> None:
        """Lets graphs of this size take the bulk roads, where they would not by themselves."""
        if self.pairs < ladybug_write.COPY_EDGES_FROM:
            ladybug_write.COPY_FROM = SMALL["nodes"]
            ladybug_write.COPY_EDGES_FROM = ladybug_redirect.COPY_EDGES_FROM = SMALL["edges"]


@dataclass(frozen=True)
class Command:
    """before: makes the graph that there is; run: the command. Both may be given again.

    at_once: whether a graph in between is never seen.
    """

    before: Callable[[LadybugStore, Size, Path], None]
    run: Callable[[LadybugStore, Size, Path], object]
    at_once: bool = True


def _pairs(size: Size, seed: int = 5) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    rows = [(rng.randrange(size.users), int(size.items * rng.random() ** 2)) for _ in range(size.pairs)]
    return [(f"u{u}", f"p{p}") for u, p in rows]


def _ingest(store: GraphStore, connector: str, path: Path, text: str) -> None:
    path.write_text(text)
    reader = load_connector(connector)()
    ingest(reader, reader.Config(paths=(path,)), store, buffer=1000)


def purchases(store: LadybugStore, size: Size, folder: Path) -> None:
    text = "user,item\n" + "".join(f"{u},{p}\n" for u, p in _pairs(size))
    _ingest(store, "purchases", folder / "orders.csv", text)


def triples(store: LadybugStore, size: Size, folder: Path) -> None:
    lines = [f"e{i}\tr{i % 7}\tv{i * 31 % (size.items // 3)}\n" for i in range(size.items)] * 2
    more = [f"v{i % 97}\tof{i % 3}\te{i * 7 % size.items}\n" for i in range(size.pairs // 2)]
    _ingest(store, "triples", folder / "facts.tsv", "".join(lines + more))


def alignment(store: LadybugStore, size: Size, folder: Path) -> None:
    _ingest(
        store,
        "alignment",
        folder / "align.tsv",
        "".join(f"p{i}\te{i}\n" for i in range(size.items) if i % 10),
    )


def features(store: LadybugStore, size: Size, folder: Path) -> None:
    rows = "".join(f"p{i},Thing {i},{i % 90}\n" for i in range(size.items))
    _ingest(store, "features", folder / "items.csv", "item,name,price\n" + rows)


def moved(store: LadybugStore, size: Size, folder: Path) -> None:
    """Every other item goes to its neighbour's entity."""
    items = [i for i in range(size.items) if i % 10]
    store.align(
        pa.table({"item": [f"p{i}" for i in items], "entity": [f"e{i}" for i in items[::-1]]}), move=True
    )


def _everything(store: LadybugStore, size: Size, folder: Path) -> None:
    triples(store, size, folder)
    purchases(store, size, folder)
    alignment(store, size, folder)


def _unaligned(store: LadybugStore, size: Size, folder: Path) -> None:
    triples(store, size, folder)
    purchases(store, size, folder)
    other(store, size, folder)


def _recommended(size: Size, seed: int) -> Answers:
    rows = sorted(set(_pairs(size, seed)))
    entity = [f"e{p[1:]}" if int(p[1:]) % 10 else f"item:{p}" for _, p in rows]
    scores = np.random.default_rng(seed).random(len(rows))
    return Answers("RECOMMENDED", pa.table({"head": [u for u, _ in rows], "tail": entity, "score": scores}))


def _completed(size: Size, seed: int) -> Answers:
    ends = [(f"e{i}", f"v{i * seed % 97}") for i in range(size.items)]
    table = {"head": [h for h, _ in ends], "relation": ["r1"] * len(ends), "tail": [t for _, t in ends]}
    return Answers("COMPLETED", pa.table({**table, "score": np.arange(len(ends)) / seed}))


def _vectors(size: Size, seed: int) -> list[Vectors]:
    ids = pa.array([f"e{i}" for i in range(size.items)])
    return [Vectors("Entity", ids, np.full((size.items, 4), seed, dtype=np.float32))]


def _train(store: LadybugStore, size: Size, name: str, plugin: str, seed: int) -> None:
    weights = {"filter": np.full((3, 5), seed, dtype=np.float32)}
    answers = [_recommended(size, seed), _completed(size, seed)]
    store.replace_answers(RunRecord(name, plugin, WHEN), _vectors(size, seed), answers, weights)


def other(store: LadybugStore, size: Size, folder: Path) -> None:
    """A run of another plugin, of which nobody may take anything; of stubs, too."""
    users = pa.concat_tables(store.read_nodes("User", []))["id"].combine_chunks()
    tails = pa.concat_tables(store.read_nodes("Entity", [], having="item_id"))["id"].combine_chunks()
    tails = tails.take(pa.array(np.arange(len(users)) * 7 % len(tails)))
    table = pa.table({"head": users, "tail": tails, "score": np.arange(len(users)) / 7})
    store.replace_answers(RunRecord("o1", "other", WHEN), [], [Answers("RECOMMENDED", table)])


def first_run(store: LadybugStore, size: Size, folder: Path) -> None:
    _train(store, size, "a1", "kgcn", 2)


def second_run(store: LadybugStore, size: Size, folder: Path) -> None:
    _train(store, size, "a2", "kgcn", 3)


def complete(store: LadybugStore, size: Size, folder: Path) -> None:
    store.update_answers("a1", [_completed(size, 5)])


def erase(store: LadybugStore, size: Size, folder: Path) -> None:
    store.erase_run("a1")


def copy(store: LadybugStore, size: Size, folder: Path) -> None:
    """Out of a graph that stands by."""
    with LadybugStore(folder / "full.lbug", read_only=True) as source:
        copy_graph(source, store, merge=True)


def full(store: LadybugStore, size: Size, folder: Path) -> None:
    """Makes the graph that stands by; the one of the command is empty."""
    if not (folder / "full.lbug").exists():
        with LadybugStore(folder / "full.lbug") as source:
            _with_two_runs(source, size, folder)


def write_vectors(store: LadybugStore, size: Size, folder: Path) -> None:
    store.write_vectors("embedding_x", _vectors(size, 7)[0])


def upsert(store: LadybugStore, size: Size, folder: Path) -> None:
    """What is there is changed, and as much is added, in the store's own calls."""
    ids = [f"e{i}" for i in range(2 * size.items)]
    store.upsert_nodes("Entity", nodes(*ids, kind=[f"k{i % 5}" for i in range(len(ids))]))
    rows = [(f"e{i}", f"r{i % 9}", f"v{i * 31 % 97}") for i in range(2 * size.items)]
    store.upsert_edges("FACT", facts(*rows, source=["s"] * len(rows)), missing="create")


def delete(store: LadybugStore, size: Size, folder: Path) -> None:
    store.delete_nodes("Entity", [f"e{i}" for i in range(0, size.items, 3)])


def _with_two_runs(store: LadybugStore, size: Size, folder: Path) -> None:
    _everything(store, size, folder)
    other(store, size, folder)
    first_run(store, size, folder)


def _with_one_run(store: LadybugStore, size: Size, folder: Path) -> None:
    _everything(store, size, folder)
    other(store, size, folder)


def _nothing(store: LadybugStore, size: Size, folder: Path) -> None:
    pass


COMMANDS: dict[str, Command] = {
    "ingest purchases": Command(triples, purchases, at_once=False),
    "ingest triples": Command(purchases, triples, at_once=False),
    "ingest features": Command(_everything, features, at_once=False),
    "ingest alignment": Command(_unaligned, alignment, at_once=False),
    "align --move": Command(_with_two_runs, moved, at_once=False),
    "upsert": Command(_everything, upsert, at_once=False),
    "train, first run": Command(_with_one_run, first_run),
    "train, later run": Command(_with_two_runs, second_run),
    "complete": Command(_with_two_runs, complete),
    "runs erase": Command(_with_two_runs, erase),
    "vectors": Command(_everything, write_vectors, at_once=False),
    "copy": Command(full, copy, at_once=False),
    "delete nodes": Command(_everything, delete),
    "clear": Command(_with_two_runs, lambda store, size, folder: store.clear()),
}


def rows_of(store: GraphStore) -> dict[str, set[Any]]:
    """A graph as sets of rows, by label and type. Raises AssertionError when a node or relationship is there twice."""
    from kgkit.testing.graph_dump import dump

    return {
        kind: {(key, tuple(sorted((n, str(v)) for n, v in row.items()))) for key, row in rows.items()}
        for kind, rows in dump(store).items()
    }
