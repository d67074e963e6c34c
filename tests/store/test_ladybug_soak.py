"""A soak of the embedded engine: mixed cycles of everything, with kills, compared with a model in plain Python.

Run it longer, or from another seed, before the pinned version of the engine is changed:

    KGKIT_SOAK_CYCLES=5000 KGKIT_SOAK_SEED=7 pytest tests/store/test_ladybug_soak.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import RunRecord, Vectors
from kgkit.testing.contract_answers import recommended, vectors
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import Dump, dump

CYCLES = int(os.environ.get("KGKIT_SOAK_CYCLES", "250"))
SEED = int(os.environ.get("KGKIT_SOAK_SEED", "1"))
SECONDS = 25.0  # a plain run of the suite stops here, however slow the machine

# The killed process writes nodes and facts that the model does not know: they carry the prefix 'k', and every one of
# its batches must be there as a whole or not at all, which is checked before they are deleted again.
KILLED = """
import sys
from pathlib import Path
from kgkit.store.ladybug import LadybugStore
from kgkit.testing.contract_write import facts, nodes
store = LadybugStore(Path(sys.argv[1]))
print("go", flush=True)
for n in range(1000):
    store.upsert_nodes("Entity", nodes(*(f"k{n}-{i}" for i in range(500)), name=[f"name {i}" for i in range(500)]))
    store.upsert_edges("FACT", facts(*((f"k{n}-{i}", "killed", f"k{n}-{i + 1}") for i in range(499))))
"""


class Model:
    """What the graph should hold: `state` is compared with the dump of the store."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_
        self.state: Dump = {k: {} for k in ("User", "Entity", "FACT", "RECOMMENDED", "Run")}
        self.made = 0

    def some(self, label: str, most: int) -> list[str]:
        have = sorted(self.state[label])
        return self.random.sample(have, min(len(have), self.random.randint(0, most)))

    # -- one method a kind of cycle; each changes store and model alike --------------------------------------
    def upsert_nodes(self, store: LadybugStore) -> None:
        label = self.random.choice(["User", "Entity", "Entity"])
        fresh = [f"n{self.made + i}" for i in range(self.random.choice([1, 20, 300, 2500]))]
        self.made += len(fresh)
        ids = fresh + self.some(label, 200)
        values: dict[str, list[Any]] = {
            "name": [self.random.choice([None, f"name {self.random.randint(0, 999)}"]) for _ in ids],
            "age": [self.random.choice([None, self.random.randint(-(2**40), 2**40)]) for _ in ids],
        }
        if all(v is None for v in values["age"]):
            values["age"][0] = 1
        if all(v is None for v in values["name"]):
            values["name"][0] = "x"
        assert store.upsert_nodes(label, nodes(*ids, **values)).created == len(fresh)
        for row, id_ in enumerate(ids):
            given = {k: v[row] for k, v in values.items() if v[row] is not None}
            self.state[label].setdefault(id_, {}).update(given)

    def upsert_facts(self, store: LadybugStore) -> None:
        ids = sorted(self.state["Entity"])
        if not ids:
            return
        rows = list(
            dict.fromkeys(
                (self.random.choice(ids), f"r{self.random.randint(0, 9)}", self.random.choice(ids))
                for _ in range(self.random.choice([1, 30, 1500]))
            )
        )
        rows += [
            (h, r, t)
            for h, t, r in self.random.sample(sorted(self.state["FACT"]), min(50, len(self.state["FACT"])))
        ]
        rows = list(dict.fromkeys(rows))
        origins = [self.random.choice([None, "a", "b"]) for _ in rows]
        origins[0] = "a"
        stats = store.upsert_edges("FACT", facts(*rows, source=origins))
        assert stats.created == sum((h, t, r) not in self.state["FACT"] for h, r, t in rows)
        for (h, r, t), origin in zip(rows, origins, strict=True):
            fact = self.state["FACT"].setdefault((h, t, r), {"relation": r})
            if origin is not None:
                fact["source"] = origin

    def delete_nodes(self, store: LadybugStore) -> None:
        gone = set(self.some("Entity", 100))
        assert store.delete_nodes("Entity", sorted(gone)) == len(gone)
        self.state["Entity"] = {k: v for k, v in self.state["Entity"].items() if k not in gone}
        for kind in ("FACT", "RECOMMENDED"):
            self.state[kind] = {k: v for k, v in self.state[kind].items() if not {k[0], k[1]} & gone}

    def write_vectors(self, store: LadybugStore) -> None:
        ids = self.some("Entity", 300)
        size = self.random.choice([4, 4, 4, 7])
        if not ids:
            return
        matrix = (
            np.random.default_rng(self.random.randint(0, 9999))
            .normal(size=(len(ids), size))
            .astype(np.float32)
        )
        assert store.write_vectors("embedding_soak", vectors("Entity", ids, matrix)) == len(ids)
        if any(len(v.get("embedding_soak", [0] * size)) != size for v in self.state["Entity"].values()):
            for node in self.state["Entity"].values():
                node.pop("embedding_soak", None)
        for id_, vector in zip(ids, matrix.tolist(), strict=True):
            self.state["Entity"][id_]["embedding_soak"] = vector

    def replace_answers(self, store: LadybugStore) -> None:
        users, items = self.some("User", 20), self.some("Entity", 40)
        name = f"run{self.random.randint(0, 5)}"
        rows = [(u, i, 0.5, n) for u in users for n, i in enumerate(items)]
        parts = (
            [Vectors("User", nodes(*users)["id"].combine_chunks(), np.ones((len(users), 3), np.float32))]
            if users
            else []
        )
        store.replace_answers(RunRecord(name, "soak2", "now"), parts, [recommended(*rows)] if rows else [])
        self.state["RECOMMENDED"] = {
            (u, i, name): {"score": s, "rank": n, "run": name} for u, i, s, n in rows
        }
        for run in self.state["Run"].values():
            run["current"] = False
        self.state["Run"][name] = {
            "plugin": "soak2", "created": "now", "current": True, "params": "{}", "metrics": "{}", "provenance": "{}",
        }  # fmt: skip
        for user in self.state["User"].values():
            user.pop("embedding_soak2", None)
        for id_ in users:
            self.state["User"][id_]["embedding_soak2"] = [1.0] * 3

    def checkpoint(self, store: LadybugStore) -> None:
        store._engine.checkpoint()

    def failed_writes(self, store: LadybugStore) -> None:
        """Errors half-way through leave nothing behind."""
        ids = self.some("Entity", 5)
        rows = [(i, "r1", "nobody") for i in ids] or [("nobody", "r1", "nobody")]
        with pytest.raises(Exception, match="nobody"):
            store.upsert_edges("FACT", facts(*rows))
        engine = store._engine
        with pytest.raises(ZeroDivisionError), engine.transaction():
            engine.rows("MATCH (n:Entity) SET n.name = 'lost'")
            engine.rows("CREATE (:Entity {id: 'lost'})")
            raise ZeroDivisionError

    # -- comparing ---------------------------------------------------------------------------------------------
    def check(self, store: LadybugStore) -> None:
        got = dump(store)
        for kind, expected in self.state.items():
            assert got[kind] == expected, kind
        ids = self.some("Entity", 50)
        cypher = "MATCH (e:Entity {id: $id}) RETURN e.name"
        for id_ in ids:  # by the key index, which a full scan does not use
            assert list(store.query(cypher, {"id": id_}).rows) == [(self.state["Entity"][id_].get("name"),)]
        assert store.stats()["relationships"]["FACT"] == len(self.state["FACT"])


def kill_a_writer(path: Path, delay: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip() == "go"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()


def clean_up_after_kill(store: LadybugStore) -> None:
    batches: dict[str, int] = {}
    ids = [i for i in store.node_index("Entity").ids.to_pylist() if i.startswith("k")]
    for id_ in ids:
        batches[id_.split("-")[0]] = batches.get(id_.split("-")[0], 0) + 1
    assert set(batches.values()) <= {500}
    found = store.query("MATCH (:Entity)-[f:FACT {relation: 'killed'}]->(:Entity) RETURN count(*)")
    assert next(found.rows)[0] in (499 * len(batches), 499 * (len(batches) - 1), 0)
    assert store.delete_nodes("Entity", ids) == len(ids)


@pytest.mark.slow
def test_soak(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    model = Model(chance)
    steps = [model.upsert_nodes] * 3 + [model.upsert_facts] * 3 + [
        model.delete_nodes, model.write_vectors, model.replace_answers, model.checkpoint, model.failed_writes,
    ]  # fmt: skip
    path = tmp_path / "graph.kg"
    store = LadybugStore(path)
    deadline = time.monotonic() + (SECONDS if "KGKIT_SOAK_CYCLES" not in os.environ else 1e9)
    cycle = 0
    try:
        for cycle in range(CYCLES):
            chance.choice(steps)(store)
            if cycle % 20 == 19:
                model.check(store)
                store.close()
                if cycle % 40 == 19:
                    kill_a_writer(path, chance.uniform(0, 0.5))
                store = LadybugStore(path)
                clean_up_after_kill(store)
                model.check(store)
            if time.monotonic() > deadline:
                break
        model.check(store)
    finally:
        store.close()
    assert cycle >= 20
