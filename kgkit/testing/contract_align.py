"""The part of the store contract about alignment: items become entities, in any order, losing nothing."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

from kgkit.errors import StoreError
from kgkit.names import COLUMNS
from kgkit.schema import ITEM_PREFIX
from kgkit.store.port import GraphStore
from kgkit.testing.contract_write import facts, nodes, purchases
from kgkit.testing.graph_dump import dump


def alignment(*rows: tuple[str, str]) -> pa.Table:
    """A table for align from (item, entity)."""
    return pa.table({"item": [r[0] for r in rows], "entity": [r[1] for r in rows]}, schema=_SCHEMA)


_SCHEMA = pa.schema([("item", pa.string()), ("entity", pa.string())])


def _load_purchases(store: GraphStore) -> None:
    """Purchases of items 1, 2 and 3 as ingest sends them: to the entity if aligned, else to a stub."""
    named = {
        row["item_id"]: row["id"]
        for table in store.read_nodes("Entity", ["item_id"], having="item_id")
        for row in table.to_pylist()
    }
    rows = [("u", "1", 2), ("u", "2", 1), ("v", "1", 1), ("v", "3", 4)]
    items = {i: named.get(i, ITEM_PREFIX + i) for i in ("1", "2", "3")}
    store.upsert_nodes("Entity", nodes(*items.values(), item_id=list(items), price=[1.5, 2.5, 3.5]))
    table = purchases(*((u, items[i], "shop", n) for u, i, n in rows))
    store.upsert_edges("PURCHASED", table, missing="create")


def _load_facts(store: GraphStore) -> None:
    store.upsert_nodes("Entity", nodes("e1", "e2", "x", name=["One", "Two", None]))
    store.upsert_edges("FACT", facts(("e1", "by", "x"), ("e2", "by", "x"), ("e1", "like", "e2")))


def _align(store: GraphStore) -> None:
    store.align(alignment(("1", "e1"), ("2", "e2")))


# Every combination of an item's title, the own name of an entity, and that of another.
_NAMES = list(itertools.product(("Title", None), ("Title", "A", None), ("Title", "B", None)))
_CASES = [(str(i), f"a{i}", f"b{i}") for i in range(len(_NAMES))]  # item, entity, another entity


def _load_named(store: GraphStore) -> None:
    """Stubs of items, and two entities for each, with `_NAMES`; no node is without a fact."""
    for column, prefix in enumerate((ITEM_PREFIX, "a", "b")):
        ids = [f"{prefix}{i}" for i in range(len(_NAMES))]
        store.upsert_nodes("Entity", nodes(*ids, name=[names[column] for names in _NAMES]))
        store.upsert_edges("FACT", facts(*((id, "of", "x") for id in ids)), missing="create")
    store.upsert_nodes(
        "Entity", nodes(*(ITEM_PREFIX + item for item, _, _ in _CASES), item_id=[i for i, _, _ in _CASES])
    )


def _whose(title: str | None, own: str | None) -> str | None:
    return None if title is None else "both" if title == own else "item"


def _names(store: GraphStore) -> dict[str, tuple[str | None, ...]]:
    """name, entity_name and name_of of each entity."""
    return {k: tuple(v.get(c) for c in COLUMNS) for k, v in dump(store)["Entity"].items()}


class AlignContract:
    """align()."""

    def test_any_order_gives_the_same_graph(self, store: GraphStore) -> None:
        dumps = []
        for order in itertools.permutations((_load_facts, _align, _load_purchases)):
            store.clear()
            for step in order:
                step(store)
            dumps.append(dump(store))
        for other in dumps[1:]:
            assert other == dumps[0]
        assert set(dumps[0]["Entity"]) == {"e1", "e2", "x", "item:3"}
        assert dumps[0]["Entity"]["e1"] == {"name": "One", "item_id": "1", "price": 1.5}
        assert dumps[0]["PURCHASED"][("v", "item:3", "shop")]["count"] == 4
        assert dumps[0]["PURCHASED"][("v", "e1", "shop")]["count"] == 1

    def test_counts(self, store: GraphStore) -> None:
        _load_facts(store)
        _load_purchases(store)
        first = store.align(alignment(("1", "e1"), ("2", "e2"), ("9", "new")))
        assert (first.aligned, first.unchanged, first.folded, first.conflicts.num_rows) == (3, 0, 2, 0)
        assert first.conflicts.column_names == ["item", "entity", "reason"]
        before = dump(store)
        again = store.align(alignment(("1", "e1"), ("2", "e2"), ("9", "new"), ("9", "new")))
        assert (again.aligned, again.folded, again.conflicts.num_rows) == (0, 0, 0) and again.unchanged >= 3
        assert dump(store) == before
        assert before["Entity"]["new"] == {"item_id": "9"}

    def test_fold_moves_every_kind_and_updates_colliding_keys(self, store: GraphStore) -> None:
        rows = [
            ("item:1", "r", "x"),
            ("x", "r", "item:1"),
            ("item:1", "r", "item:1"),
            ("item:1", "r", "item:2"),
            ("e1", "r", "x"),
            ("e1", "r", "item:1"),
        ]
        store.upsert_edges("FACT", facts(*rows, source=["a", "b", "c", "d", "old", "f"]), missing="create")
        store.upsert_edges(
            "PURCHASED",
            purchases(("u", "item:1", "s", 5), ("u", "e1", "s", 1), ("u", "item:2", "s", 3)),
            missing="create",
        )
        store.upsert_edges(
            "RECOMMENDED",
            pa.table({"head": ["u"], "tail": ["item:1"], "score": [0.5], "rank": [1], "run": ["q"]}),
        )
        store.upsert_edges(
            "COMPLETED",
            pa.table({"head": ["item:1"], "tail": ["x"], "relation": ["r"], "score": [0.25], "run": ["q"]}),
        )
        stats = store.align(alignment(("1", "e1"), ("2", "e2")))
        assert stats.folded == 2
        got = dump(store)
        assert set(got["Entity"]) == {"e1", "e2", "x"}
        assert {k: v["source"] for k, v in got["FACT"].items()} in (
            {("e1", "x", "r"): "a", ("x", "e1", "r"): "b", ("e1", "e1", "r"): o, ("e1", "e2", "r"): "d"}
            for o in "cf"
        )
        assert {k: v["count"] for k, v in got["PURCHASED"].items()} == {
            ("u", "e1", "s"): 5,
            ("u", "e2", "s"): 3,
        }
        assert got["RECOMMENDED"] == {("u", "e1", "q"): {"score": 0.5, "rank": 1, "run": "q"}}
        assert got["COMPLETED"] == {("e1", "x", "r", "q"): {"relation": "r", "score": 0.25, "run": "q"}}

    def test_fold_moves_properties_as_an_upsert_would(self, store: GraphStore) -> None:
        store.upsert_nodes(
            "Entity", nodes("item:1", "e1", name=["stub", "entity"], price=[None, 2.0], size=[3, None])
        )
        store.align(alignment(("1", "e1")))
        names = {"name": "stub", "entity_name": "entity", "name_of": "item"}
        assert dump(store)["Entity"] == {"e1": {"item_id": "1", **names, "price": 2.0, "size": 3}}

    def test_fold_keeps_an_entitys_own_name_beside_another_title(self, store: GraphStore) -> None:
        ids = [f"{prefix}{i}" for i in range(4) for prefix in ("item:", "e")]
        names = ["Same", "Same", "Title", "Own", None, "Own", "Title", None]
        store.upsert_nodes("Entity", nodes(*ids, name=names))
        store.align(alignment(*((str(i), f"e{i}") for i in range(4))))
        assert _names(store) == {
            "e0": ("Same", None, "both"),
            "e1": ("Title", "Own", "item"),
            "e2": ("Own", None, None),
            "e3": ("Title", None, "item"),
        }

    def test_conflicts(self, store: GraphStore) -> None:
        store.align(alignment(("1", "e1")))
        stats = store.align(alignment(("1", "e2"), ("2", "e1"), ("3", "e3")))
        assert stats.aligned == 1
        rows = {(r["item"], r["entity"]): r["reason"] for r in stats.conflicts.to_pylist()}
        assert set(rows) == {("1", "e2"), ("2", "e1")}
        assert "e1" in rows["1", "e2"] and "1" in rows["2", "e1"]
        assert {k: v["item_id"] for k, v in dump(store)["Entity"].items()} == {"e1": "1", "e3": "3"}

    def test_conflicts_within_one_table(self, store: GraphStore) -> None:
        stats = store.align(alignment(("1", "e1"), ("1", "e2"), ("2", "e1"), ("4", "e4")))
        assert stats.aligned == 2 and stats.conflicts.num_rows == 2
        assert {k: v["item_id"] for k, v in dump(store)["Entity"].items()} == {"e1": "1", "e4": "4"}

    def test_align_to_the_stub_itself(self, store: GraphStore) -> None:
        store.upsert_edges("PURCHASED", purchases(("u", "item:1", "s", 1)), missing="create")
        stats = store.align(alignment(("1", "item:1")))
        assert stats.folded == 0 and stats.conflicts.num_rows == 0
        got = dump(store)
        assert got["Entity"] == {"item:1": {"item_id": "1"}} and len(got["PURCHASED"]) == 1

    def test_a_move_takes_what_people_did_and_leaves_what_is_known(self, store: GraphStore) -> None:
        _load_facts(store)
        _load_purchases(store)
        _align(store)
        store.upsert_edges(
            "RECOMMENDED",
            pa.table({"head": ["v"], "tail": ["e1"], "score": [0.5], "rank": [1], "run": ["q"]}),
        )
        store.upsert_edges(
            "COMPLETED",
            pa.table({"head": ["e1"], "tail": ["x"], "relation": ["r"], "score": [0.25], "run": ["q"]}),
        )
        before = dump(store)
        assert store.align(alignment(("1", "x"))).conflicts.num_rows == 1
        assert dump(store) == before, "without move nothing moves"
        stats = store.align(alignment(("1", "x")), move=True)
        assert (stats.aligned, stats.unchanged, stats.moved, stats.conflicts.num_rows) == (0, 0, 1, 0)
        got = dump(store)
        assert got["Entity"]["e1"] == {"name": "One", "price": 1.5}
        assert got["Entity"]["x"] == {"item_id": "1"}
        assert set(got["PURCHASED"]) == {
            ("u", "x", "shop"),
            ("v", "x", "shop"),
            ("u", "e2", "shop"),
            ("v", "item:3", "shop"),
        }
        assert got["PURCHASED"][("u", "x", "shop")] == before["PURCHASED"][("u", "e1", "shop")]
        assert set(got["RECOMMENDED"]) == {("v", "x", "q")}
        assert got["FACT"] == before["FACT"] and got["COMPLETED"] == before["COMPLETED"]
        again = store.align(alignment(("1", "x")), move=True)
        assert (again.unchanged, again.moved) == (1, 0) and dump(store) == got
        assert store.stats()["nodes"]["Item"] == 3
        store.align(alignment(("1", "e1")), move=True)
        assert dump(store) == before, "and back again"

    def test_items_change_places(self, store: GraphStore) -> None:
        _load_facts(store)
        _load_purchases(store)
        _align(store)
        stats = store.align(alignment(("1", "e2"), ("3", "e1"), ("2", "new")), move=True)
        assert (stats.aligned, stats.moved, stats.folded, stats.conflicts.num_rows) == (1, 2, 1, 0)
        got = dump(store)
        assert {k: v.get("item_id") for k, v in got["Entity"].items()} == {
            "e1": "3",
            "e2": "1",
            "x": None,
            "new": "2",
        }
        counts = {k[:2]: v["count"] for k, v in got["PURCHASED"].items()}
        assert counts == {("u", "e2"): 2, ("v", "e2"): 1, ("u", "new"): 1, ("v", "e1"): 4}
        store.align(alignment(("1", "e1"), ("3", "e2")), move=True)  # a cycle of two
        swapped = {k[:2]: v["count"] for k, v in dump(store)["PURCHASED"].items()}
        assert swapped == {("u", "e1"): 2, ("v", "e1"): 1, ("u", "new"): 1, ("v", "e2"): 4}

    def test_a_move_to_an_entity_whose_item_stays_is_a_conflict(self, store: GraphStore) -> None:
        _load_facts(store)
        _load_purchases(store)
        store.align(alignment(("1", "e1"), ("2", "e2"), ("3", "x")))
        before = dump(store)
        # 1 would follow 2, which cannot go where 3 stays.
        stats = store.align(alignment(("1", "e2"), ("2", "x"), ("2", "y"), ("4", "x")), move=True)
        assert (stats.aligned, stats.moved, stats.unchanged) == (0, 0, 0)
        reasons = {(r["item"], r["entity"]): r["reason"] for r in stats.conflicts.to_pylist()}
        assert "item 3" in reasons["2", "x"] and "item 2" in reasons["1", "e2"]
        assert "earlier row" in reasons["2", "y"] and "earlier row" in reasons["4", "x"]
        assert dump(store) == before

    def test_a_left_node_that_holds_nothing_goes(self, store: GraphStore) -> None:
        store.upsert_edges("PURCHASED", purchases(("u", "item:1", "s", 5)), missing="create")
        store.align(alignment(("1", "wrong")))
        store.align(alignment(("1", "right")), move=True)
        got = dump(store)
        assert got["Entity"] == {"right": {"item_id": "1"}}
        assert list(got["PURCHASED"]) == [("u", "right", "s")]

    def test_a_title_goes_where_its_item_goes_and_an_own_name_stays(self, store: GraphStore) -> None:
        _load_facts(store)
        store.upsert_nodes("Entity", nodes("item:1", "x", name=["Title", "Own"]))
        store.align(alignment(("1", "e1")))
        assert _names(store)["e1"] == ("Title", "One", "item")
        store.align(alignment(("1", "x")), move=True)
        assert _names(store) == {
            "e1": ("One", None, None),
            "e2": ("Two", None, None),
            "x": ("Title", "Own", "item"),
        }
        store.align(alignment(("1", "item:1")), move=True)
        assert _names(store)["item:1"] == ("Title", None, None) and _names(store)["x"] == ("Own", None, None)
        store.align(alignment(("1", "wrong")), move=True)
        assert _names(store)["wrong"] == ("Title", None, "item")
        store.align(alignment(("1", "e2")), move=True)
        assert "wrong" not in _names(store), "a title is nothing that a left node holds"
        assert _names(store)["e2"] == ("Title", "Two", "item")

    def test_names_after_a_move_are_those_of_an_alignment_from_the_beginning(self, store: GraphStore) -> None:
        _load_named(store)
        pairs = [(item, to) for item, _, to in _CASES]
        store.align(alignment(*pairs))
        expected = dump(store)
        assert {e: n for e, n in _names(store).items() if e[0] == "b"} == {
            f"b{i}": (title or own, own if title and title != own else None, _whose(title, own))
            for i, (title, _, own) in enumerate(_NAMES)
        }
        store.clear()
        _load_named(store)
        store.align(alignment(*((item, left) for item, left, _ in _CASES)))
        before = dump(store)
        assert store.align(alignment(*pairs), move=True).moved == len(_CASES)
        assert dump(store) == expected
        store.align(alignment(*pairs), move=True)
        assert dump(store) == expected
        store.align(alignment(*((item, left) for item, left, _ in _CASES)), move=True)
        assert dump(store) == before, "and back again"

    def test_names_of_items_that_change_places(self, store: GraphStore) -> None:
        ends = [left for _, left, _ in _CASES]
        goals = [*ends[1:], ends[0]]  # one long cycle, and then pairs that swap
        swapped = [ends[i ^ 1] for i in range(len(ends))]
        dumps = []
        for turns in ((ends, goals, swapped), (goals,), (swapped,)):
            store.clear()
            _load_named(store)
            for turn in turns:
                pairs = [(item, entity) for (item, _, _), entity in zip(_CASES, turn, strict=True)]
                assert store.align(alignment(*pairs), move=True).conflicts.num_rows == 0
                dumps.append(dump(store))
        _, cycled, swaps, *straight = dumps
        assert [cycled, swaps] == straight

    def test_an_item_can_be_taken_back_from_its_entity(self, store: GraphStore) -> None:
        _load_facts(store)
        _load_purchases(store)
        _align(store)
        stats = store.align(alignment(("1", "item:1"), ("3", "e1"), ("2", "item:3")), move=True)
        assert (stats.moved, stats.aligned, stats.conflicts.num_rows) == (1, 1, 1)
        got = dump(store)
        assert got["Entity"]["item:1"] == {"item_id": "1"} and got["Entity"]["e1"]["item_id"] == "3"
        assert "item:3" not in got["Entity"]
        assert got["PURCHASED"][("u", "item:1", "shop")]["count"] == 2
        assert got["PURCHASED"][("v", "e1", "shop")]["count"] == 4

    def test_empty_and_bad_tables(self, store: GraphStore) -> None:
        assert store.align(alignment()).aligned == 0
        with pytest.raises(StoreError, match="entity"):
            store.align(alignment(("1", "")))
        with pytest.raises(StoreError, match="entity"):
            store.align(pa.table({"item": ["1"]}))
