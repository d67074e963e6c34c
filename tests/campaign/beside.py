"""Readers beside a writer that puts one set of answers in the place of another, over and over.

A reader sees one set whole, never a mix and never nothing; of facts that are being added it sees no fewer than before and
no more than after. What it may be told instead is RetryableStoreError.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from campaign.engines import on_server, started
from campaign.nursery import ROOT
from campaign.registry import Counts, Effort
from kgkit.errors import KgkitError, RetryableStoreError
from kgkit.server import ServerInfo
from kgkit.store.open import open_store
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors

USERS, FACTS = 40, 50
READERS = 2
PAUSE = 0.5  # seconds between two turns: a reader of the embedded engine must come to an end in between


def written(store: GraphStore, turn: int) -> None:
    """Answers number `turn`, all of whose scores are it, then FACTS more facts."""
    users, items = [f"u{i}" for i in range(USERS)], [f"e{(i + turn) % USERS}" for i in range(USERS)]
    table = pa.table({"head": users, "tail": items, "score": [float(turn)] * USERS, "rank": [1] * USERS})
    matrix = np.full((USERS, 4), turn, dtype=np.float32)
    vectors = Vectors("User", pa.array(users), matrix)
    store.replace_answers(RunRecord(f"r{turn}", "kgcn", "2024"), [vectors], [Answers("RECOMMENDED", table)])
    heads = [f"e{i % USERS}" for i in range(FACTS)]
    tails = [f"f{turn}-{i}" for i in range(FACTS)]
    store.upsert_edges(
        "FACT", pa.table({"head": heads, "tail": tails, "relation": ["r"] * FACTS}), missing="create"
    )


def filled(store: GraphStore) -> None:
    ids = [f"u{i}" for i in range(USERS)], [f"e{i}" for i in range(USERS)]
    store.upsert_nodes("User", pa.table({"id": ids[0]}))
    store.upsert_nodes("Entity", pa.table({"id": ids[1]}))
    written(store, 0)


def look(store: GraphStore, least: int) -> tuple[list[str], int]:
    """What is wrong with what a reader sees, and the facts that it saw; least: those that it saw before."""
    wrong = []
    answers = [row for table in store.read_edges("RECOMMENDED") for row in table.to_pylist()]
    if len(answers) != USERS or len({(row["run"], row["score"]) for row in answers}) != 1:
        wrong.append(f"{len(answers)} answers of {sorted({(row['run'], row['score']) for row in answers})}")
    asked = list(store.query("MATCH ()-[r:RECOMMENDED]->() RETURN count(*), min(r.score), max(r.score)").rows)
    if asked[0][0] != USERS or asked[0][1] != asked[0][2]:
        wrong.append(f"a query finds {asked}")
    _, matrix = store.read_vectors("User", "embedding_kgcn")
    if len(matrix) != USERS or len(np.unique(matrix)) != 1:
        wrong.append(f"{len(matrix)} vectors of values {np.unique(matrix)}")
    current = list(store.query("MATCH (r:Run) WHERE r.`current` = true RETURN count(*)").rows)
    if current != [(1,)]:
        wrong.append(f"{current} current runs")
    facts = store.stats()["relationships"]["FACT"]
    if facts < least:
        wrong.append(f"{facts} facts after {least}")
    return wrong, facts


def opened(target: str, info: ServerInfo | None) -> GraphStore:
    return on_server(info) if info is not None else open_store(target, read_only=True)


def read_for(target: str, info: ServerInfo | None, seconds: float, counts: Counts) -> None:
    """Reads until the time is over, a new store every few reads."""
    until, least = time.monotonic() + seconds, FACTS
    while time.monotonic() < until:
        try:
            with opened(target, info) as store:
                for _ in range(5):
                    wrong, least = look(store, least)
                    counts.tried += 1
                    counts.failures += wrong
        except RetryableStoreError:
            counts.note("times told to try again")
        except (KgkitError, RuntimeError) as error:
            counts.failures.append(f"{type(error).__name__}: {error}")


def beside(target: str, info: ServerInfo | None, seconds: float) -> Counts:
    """A writer in this process, readers in others."""
    args = [target, str(seconds)] + ([] if info is None else [str(info.home)])
    counts, turn = Counts(), 0
    with on_server(info) if info is not None else open_store(target) as store:
        store.clear()
        filled(store)
        readers = [
            subprocess.Popen(
                [sys.executable, "-m", "campaign.beside", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            for _ in range(READERS)
        ]
        while any(reader.poll() is None for reader in readers):
            turn += 1
            written(store, turn)
            time.sleep(PAUSE)
        facts = store.stats()["relationships"]["FACT"]
    if facts != FACTS * (turn + 1):
        counts.failures.append(f"{facts} facts after {turn + 1} times {FACTS}")
    counts.notes["times written"] = turn
    for reader in readers:
        assert reader.stdout is not None
        if reader.returncode:
            counts.failures.append(f"a reader ended with {reader.returncode}")
        for line in reader.stdout.read().splitlines():
            kind, _, text = line.partition("\t")
            if kind == "tried":
                counts.tried += int(text)
            elif kind == "failure":
                counts.failures.append(text)
            else:
                counts.notes[kind] = counts.notes.get(kind, 0) + int(text)
    if not counts.tried:
        counts.failures.append("no reader came to an end")
    return counts


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    """A minute on each engine."""
    seconds = 60 * effort.times
    yield "readers beside a writer, embedded", beside(str(effort.folder / "beside.lbug"), None, seconds)
    if effort.servers:
        with started(effort.folder) as info:
            yield "readers beside a writer, neo4j", beside(info.uri, info, seconds)


def _read(target: str, seconds: str, home: str = "") -> None:
    from kgkit import server

    counts = Counts()
    info = server.status(home=Path(home)) if home else None
    read_for(target, info, float(seconds), counts)
    print(f"tried\t{counts.tried}")
    for note, n in counts.notes.items():
        print(f"{note}\t{n}")
    for line in counts.failures[:20]:
        print(f"failure\t{line}")


if __name__ == "__main__":
    _read(*sys.argv[1:])
