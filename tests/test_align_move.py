"""Items that move between entities: the rules against a naive reading of them, and kills in the middle of a move."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgkit.names import Names
from kgkit.store.align_plan import plan, renamed, touched
from kgkit.store.open import open_store
from kgkit.testing.graph_dump import dump


def test_whatever_is_asked_the_plan_is_one_to_one_and_leaves_nothing_unsaid() -> None:
    rng = random.Random(4)
    moved = refused = 0
    for _ in range(400):
        entities = [f"e{i}" for i in range(7)]
        held = dict(zip(rng.sample("abcdefg", 5), rng.sample(entities, 5), strict=True))  # item: entity
        rows = [(rng.choice("abcdefgh"), rng.choice([*entities, "item:a"])) for _ in range(rng.randrange(9))]
        for move in (False, True):
            found = plan(rows, held, {e: i for i, e in held.items()}, move)
            after = {**held, **found.said}
            assert len(set(after.values())) == len(after), "one item for one entity"
            refusals = {(c["item"], c["entity"]) for c in found.conflicts}
            assert refusals | set(found.said.items()) == set(rows)
            assert refusals.isdisjoint(found.said.items())
            assert found.left == {i: held[i] for i, e in found.said.items() if held.get(i, e) != e}
            assert found.unchanged == sum(held.get(i) == e for i, e in found.said.items())
            assert move or not found.left
            again = plan(found.said.items(), after, {e: i for i, e in after.items()}, move)
            assert again.unchanged == len(found.said) and not again.conflicts, (
                "doing it twice changes nothing"
            )
            moved, refused = moved + len(found.left), refused + len(refusals)
    assert moved > 200 and refused > 200


def test_whatever_moves_names_are_those_of_the_item_and_the_entity() -> None:
    rng = random.Random(6)
    for _ in range(200):
        title = {i: rng.choice(("T", f"T{i}", None)) for i in "abcd"}
        own = {f"e{i}": rng.choice(("T", "Ta", f"O{i}", None)) for i in range(6)}
        entity_of: dict[str, str] = {}
        called = {e: Names(name) for e, name in own.items()} | {
            f"item:{i}": Names(t) for i, t in title.items()
        }
        for _ in range(6):
            rows = [(rng.choice("abcd"), rng.choice([*own, "item:a"])) for _ in range(rng.randrange(1, 5))]
            item_of: dict[str, str | None] = {e: i for i, e in entity_of.items()}
            todo = plan(rows, {i: e for i, e in entity_of.items() if e != f"item:{i}"}, item_of, True)
            called |= renamed(todo, item_of, {e: called[e] for e in touched(todo) if e in called})
            for item, entity in todo.said.items():
                entity_of[item] = entity
                if entity != f"item:{item}":
                    called.pop(f"item:{item}", None)  # as folding a stub does
            for item, entity in entity_of.items():
                stub = entity == f"item:{item}"
                right = Names(title[item]) if stub else Names.of(title[item], own[entity])
                assert called.get(entity, Names()) == right
            for entity in own.keys() - set(entity_of.values()):
                assert called[entity] == Names(own[entity])


def test_a_refusal_is_never_without_need() -> None:
    """Every refused row meets another accepted or earlier row, a stub, or an entity whose item stays."""
    rng = random.Random(8)
    for _ in range(300):
        held = dict(zip(rng.sample("abcdef", 4), rng.sample(range(6), 4), strict=True))
        now = {item: f"e{e}" for item, e in held.items()}
        items = rng.sample("abcdef", 5)
        rows = [(item, f"e{e}") for item, e in zip(items, rng.sample(range(6), 5), strict=True)]
        found = plan(rows, now, {e: i for i, e in now.items()}, True)
        stays = {e: i for i, e in now.items() if found.said.get(i, e) == e}
        for conflict in found.conflicts:
            assert stays[conflict["entity"]] != conflict["item"]


_CHILD = """
import sys
import pyarrow as pa
from kgkit.store.open import open_store
with open_store(sys.argv[1]) as store:
    print("go", flush=True)
    for turn in range(1, 100):
        pairs = [(str(i), f"e{(i + turn) % N}") for i in range(N)]
        store.align(pa.table({"item": [p[0] for p in pairs], "entity": [p[1] for p in pairs]}), move=True)
""".replace("N", "2000")


@pytest.mark.parametrize("delay", [0.1, 0.35, 0.7])
def test_a_kill_leaves_every_purchase_with_its_item(tmp_path: Path, delay: float) -> None:
    import pyarrow as pa

    n, path = 2000, tmp_path / "g.lbug"
    with open_store(path) as store:
        ids = [f"e{i}" for i in range(n)]
        store.upsert_nodes(
            "Entity", pa.table({"id": ids, "name": ids, "item_id": [str(i) for i in range(n)]})
        )
        sold = {"head": [f"u{i}" for i in range(n)], "tail": ids, "source": ["s"] * n, "count": range(n)}
        store.upsert_edges("PURCHASED", pa.table({k: list(v) for k, v in sold.items()}), missing="create")
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"go\n"
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    with open_store(path) as store:
        got = dump(store)
    item_of = {entity: node["item_id"] for entity, node in got["Entity"].items()}
    assert len(set(item_of.values())) == len(item_of) == n
    turns = {(int(entity[1:]) - int(item)) % n for entity, item in item_of.items()}
    assert len(turns) == 1, "all items have moved, or none"
    assert len(got["PURCHASED"]) == n
    assert all(item_of[e] == u[1:] == str(p["count"]) for (u, e, _), p in got["PURCHASED"].items())
