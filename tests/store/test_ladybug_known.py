"""What is kept of where nodes stand is never older than the graph: after every kind of write, look-ups are those of a
store that was opened anew."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kgkit.errors import StoreError
from kgkit.store.ladybug import LadybugStore
from kgkit.store.ladybug_known import offsets_of_ids


def nodes(ids: list[str]) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.string())})


def facts(pairs: list[tuple[str, str]]) -> pa.Table:
    heads, tails = (pa.array(end, pa.string()) for end in zip(*pairs, strict=True))
    return pa.table({"head": heads, "relation": pa.array(["r"] * len(pairs)), "tail": tails})


def check(store: LadybugStore) -> None:
    """Compares with what the engine says of every node, and of ids that are none."""
    engine = store._writer
    there = {row[0]: row[1] for row in engine.rows("MATCH (n:Entity) RETURN n.id, offset(id(n))")}
    asked = [*there, "nobody", *(f"gone{i}" for i in range(5))]
    found = offsets_of_ids(engine, "Entity", pa.array(asked))
    assert found.tolist() == [there.get(id, -1) for id in asked]


@pytest.mark.parametrize(
    "bounds",
    [{}, {"ladybug_engine.LARGE": 4, "ladybug_engine.ROOM": -1 << 40}, {"ladybug_known.MOST": 50}],
    ids=["usual", "short of memory", "too many to keep"],
)
def test_after_every_write(tmp_path: Path, bounds: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bounds.items():
        monkeypatch.setattr(f"kgkit.store.{name}", value)
    rng = np.random.default_rng(0)
    with LadybugStore(tmp_path / "g") as store:
        number = 0
        alive: list[str] = []
        for step in range(40 if bounds else 120):
            kind = rng.integers(0, 7)
            some = [alive[i] for i in rng.permutation(len(alive))[:5]]
            new = [f"n{number + i}" for i in range(int(rng.integers(1, 5000 if step % 20 == 0 else 6)))]
            if kind == 0:
                store.upsert_nodes("Entity", nodes([*new, *some]))
                alive, number = alive + new, number + len(new)
            elif kind == 1 and some:
                store.delete_nodes("Entity", some)
                alive = [id for id in alive if id not in some]
            elif kind == 2 and some:
                pairs = list(zip(new, [some[0]] * len(new), strict=True))
                store.upsert_edges("FACT", facts(pairs), missing="create")
                alive, number = alive + new, number + len(new)
            elif kind == 3:
                store.query("CREATE (:Entity {id: $id})", {"id": new[0]}, write=True)
                alive, number = [*alive, new[0]], number + 1
            elif kind == 4 and some:
                store.query("MATCH (n:Entity {id: $id}) DETACH DELETE n", {"id": some[0]}, write=True)
                alive.remove(some[0])
            elif kind == 5:
                table = pa.table({"item": [f"i{step}"], "entity": [new[0]]})
                store.align(table)
                alive, number = [*alive, new[0]], number + 1
            else:
                with pytest.raises(StoreError):
                    store.upsert_edges("FACT", facts([(new[0], "nobody")]), missing="error")
            check(store)
        store.clear()
        check(store)


def test_after_a_transaction_that_failed(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "g") as store:
        store.upsert_nodes("Entity", nodes(["a", "b"]))
        check(store)
        engine = store._writer

        def fail() -> None:
            with engine.transaction():
                store.upsert_nodes("Entity", nodes(["c", "d"]))
                assert offsets_of_ids(engine, "Entity", pa.array(["a", "c"])).min() >= 0
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        check(store)
        store.upsert_nodes("Entity", nodes(["e"]))
        check(store)


@pytest.mark.parametrize(
    "bounds",
    [
        {"ladybug_known.PASS_RATIO": 0},
        {"ladybug_known.PASS_RATIO": 0, "ladybug_write.FAR_ROWS": 2, "ladybug_engine.LARGE": 4},
        {"ladybug_known.SCAN_RATIO": 1, "ladybug_write.UPDATE_ROWS": 40, "ladybug_write.FAR_ROWS": 9},
        {"ladybug_known.SCAN_RATIO": 1 << 20, "ladybug_write.UPDATE_ROWS": 7},
        {"ladybug_known.MOST": 50, "ladybug_known.READ_ROWS": 30, "ladybug_known.ASK_ROWS": 3},
        {"ladybug_known.MOST": 50, "ladybug_known.SCAN_RATIO": 0, "ladybug_known.ASK_ROWS": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("within", [False, True], ids=["", "transaction"])
def test_nodes_are_updated_whatever_way_they_are_found(
    tmp_path: Path, bounds: dict[str, int], within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bounds.items():
        monkeypatch.setattr(f"kgkit.store.{name}", value)
    rng = np.random.default_rng(0)
    expected: dict[str, dict[str, object]] = {}
    with LadybugStore(tmp_path / "g") as store:
        for step in range(12):
            ids = [f"n{i}" for i in rng.permutation(400)[: int(rng.integers(1, 200))]] + ["n0", "n0"]
            names = [None if rng.random() < 0.3 else f"name {step} {rng.integers(3)}" for _ in ids]
            sizes = [None if rng.random() < 0.3 else int(rng.integers(3)) for _ in ids]
            table = pa.table(
                {"id": ids, "name": pa.array(names, pa.string()), "size": pa.array(sizes, pa.int64())}
            )
            with store._writer.transaction() if within else contextlib.nullcontext():
                written = store.upsert_nodes("Entity", table)
            last = {row["id"]: row for row in table.to_pylist()}
            assert written.created == len(last.keys() - expected.keys())
            assert written.created + written.matched == len(last)
            for id, row in last.items():
                held = expected.setdefault(id, {"name": None, "size": None})
                held |= {k: v for k, v in row.items() if k != "id" and v is not None}
            if step == 5:
                store.delete_nodes("Entity", [id for id in expected if id.endswith("3")])
                expected = {id: row for id, row in expected.items() if not id.endswith("3")}
            found = store.query("MATCH (n:Entity) RETURN n.id, n.name, n.size").rows
            assert {id: {"name": name, "size": size} for id, name, size in found} == expected
