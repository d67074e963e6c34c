"""The part of the store contract about getting nodes and relationships in, and out again unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from kgkit.errors import StoreError
from kgkit.store.port import GraphStore, WriteStats
from kgkit.testing.graph_dump import dump

ODD_IDS = [
    "plain",
    "with space",
    "quote'single",
    'quote"double',
    "back`tick",
    "dot.ted.name",
    "\\u0060",
    "\\",
    "new\nline",
    "tab\tbed",
    "$param",
    "{curly: 'x'}",
    "// comment",
    "é-Ünïcødé-日本-🎉",
    "NULL",
    "0",
    "-1.5",
    " leading and trailing ",
    "long" * 1000,
]

BAD_NAMES = ["x` = 1 //", "a\\u0060b", "a b", "", "x) DETACH DELETE n //", "\u0060", "a`b"]


def nodes(*ids: str, **properties: Sequence[Any]) -> pa.Table:
    """A table for upsert_nodes."""
    return pa.table(
        {"id": pa.array(list(ids), pa.string()), **{k: pa.array(v) for k, v in properties.items()}}
    )


def facts(*rows: tuple[str, str, str], **properties: Sequence[Any]) -> pa.Table:
    """A table for upsert_edges from (head, relation, tail)."""
    return pa.table(
        {
            "head": pa.array([r[0] for r in rows], pa.string()),
            "tail": pa.array([r[2] for r in rows], pa.string()),
            "relation": pa.array([r[1] for r in rows], pa.string()),
            **{k: pa.array(v) for k, v in properties.items()},
        }
    )


def purchases(*rows: tuple[str, str, str, int | None], **properties: Sequence[Any]) -> pa.Table:
    """A table for upsert_edges from (user, item, origin, count)."""
    return pa.table(
        {
            "head": pa.array([r[0] for r in rows], pa.string()),
            "tail": pa.array([r[1] for r in rows], pa.string()),
            "source": pa.array([r[2] for r in rows], pa.string()),
            "count": pa.array([r[3] for r in rows], pa.int64()),
            **{k: pa.array(v) for k, v in properties.items()},
        }
    )


class WriteContract:
    """Upserts, deletion, identifiers."""

    def test_ensure_schema_twice(self, store: GraphStore) -> None:
        store.ensure_schema()
        store.ensure_schema()
        assert {k: v for k, v in dump(store).items() if k != "Kgkit" and v} == {}

    def test_nodes_created_then_matched(self, store: GraphStore) -> None:
        table = nodes("a", "b", name=["A", None])
        assert store.upsert_nodes("Entity", table) == WriteStats(created=2)
        before = dump(store)
        assert store.upsert_nodes("Entity", table) == WriteStats(matched=2)
        assert dump(store) == before
        assert before["Entity"] == {"a": {"name": "A"}, "b": {}}

    def test_nodes_mixed_batch(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a"))
        assert store.upsert_nodes("Entity", nodes("a", "b", "c")) == WriteStats(created=2, matched=1)

    def test_empty_batches(self, store: GraphStore) -> None:
        assert store.upsert_nodes("User", nodes()) == WriteStats()
        assert store.upsert_edges("FACT", facts()) == WriteStats()

    def test_doubled_ids_last_wins(self, store: GraphStore) -> None:
        assert store.upsert_nodes("Entity", nodes("a", "b", "a", name=["1", "2", "3"])).created == 2
        assert dump(store)["Entity"] == {"a": {"name": "3"}, "b": {"name": "2"}}

    def test_null_leaves_what_is_stored(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a", "b", name=["A", "B"]))
        store.upsert_nodes("Entity", nodes("a", "b", name=[None, "new"]))
        assert dump(store)["Entity"] == {"a": {"name": "A"}, "b": {"name": "new"}}

    def test_open_properties_of_every_type(self, store: GraphStore) -> None:
        store.upsert_nodes(
            "User", nodes("u", "v", age=[30, None], height=[1.5, 2.5], city=["Łódź", None], vip=[True, False])
        )
        store.upsert_nodes("User", nodes("u", "w", order=[1, 2], **{"a/b:c-d.e": ["x", "y"]}))
        assert dump(store)["User"] == {
            "u": {"age": 30, "height": 1.5, "city": "Łódź", "vip": True, "a/b:c-d.e": "x", "order": 1},
            "v": {"height": 2.5, "vip": False},
            "w": {"a/b:c-d.e": "y", "order": 2},
        }

    def test_closed_label_refuses_unknown_property(self, store: GraphStore) -> None:
        with pytest.raises(StoreError, match="colour"):
            store.upsert_nodes("Source", nodes("s", colour=["red"]))

    def test_unknown_label_and_type(self, store: GraphStore) -> None:
        with pytest.raises(StoreError, match="Nope"):
            store.upsert_nodes("Nope", nodes("a"))
        with pytest.raises(StoreError, match="NOPE"):
            store.upsert_edges("NOPE", facts(("a", "r", "b")))

    def test_odd_ids(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes(*ODD_IDS, name=list(ODD_IDS)))
        store.upsert_edges("FACT", facts(*((i, "likes", "plain") for i in ODD_IDS)))
        got = dump(store)
        assert got["Entity"] == {i: {"name": i} for i in ODD_IDS}
        assert set(got["FACT"]) == {(i, "plain", "likes") for i in ODD_IDS}
        assert store.upsert_nodes("Entity", nodes(*ODD_IDS)) == WriteStats(matched=len(ODD_IDS))
        assert store.upsert_edges("FACT", facts(*((i, "likes", "plain") for i in ODD_IDS))).created == 0

    def test_odd_relation_names(self, store: GraphStore) -> None:
        names = ["film.film.directed_by", "has genre", "/people/person/born", "FILM", "film", "日本", "a-b:c"]
        if store.capabilities.relationship_types == "native":
            names.remove("has genre")
        store.upsert_edges("FACT", facts(*(("a", n, "b") for n in names)), missing="create")
        assert store.stats()["relations"] == dict.fromkeys(sorted(names), 1)
        assert set(dump(store)["FACT"]) == {("a", "b", n) for n in names}
        assert set(dump(store)["Relation"]) == set(names)

    @pytest.mark.parametrize("bad", [[""], [None], ["ok", ""]])
    def test_empty_and_null_ids_refused(self, store: GraphStore, bad: list[str | None]) -> None:
        with pytest.raises(StoreError, match="id"):
            store.upsert_nodes("Entity", pa.table({"id": pa.array(bad, pa.string())}))
        with pytest.raises(StoreError, match="tail"):
            store.upsert_edges(
                "FACT",
                pa.table(
                    {
                        "head": ["ok"] * len(bad),
                        "tail": pa.array(bad, pa.string()),
                        "relation": ["r"] * len(bad),
                    }
                ),
                missing="create",
            )
        assert len(dump(store)["Entity"]) == 0

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_names_that_try_injection(self, store: GraphStore, name: str) -> None:
        store.upsert_nodes("Entity", nodes("a", name=["A"]))
        with pytest.raises(StoreError):
            store.upsert_nodes("Entity", nodes("a", **{name: ["x"]}))
        with pytest.raises(StoreError):
            store.upsert_nodes(name, nodes("a"))
        with pytest.raises(StoreError):
            store.read_vectors("Entity", name)
        assert dump(store)["Entity"] == {"a": {"name": "A"}}

    def test_edges_created_then_matched(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a", "b", "c"))
        table = facts(
            ("a", "r", "b"), ("a", "s", "b"), ("b", "r", "a"), ("c", "r", "c"), source=["x", "x", None, "y"]
        )
        assert store.upsert_edges("FACT", table) == WriteStats(created=4)
        before = dump(store)
        assert before["FACT"][("a", "b", "s")] == {"relation": "s", "source": "x"}
        assert store.upsert_edges("FACT", table) == WriteStats(matched=4)
        assert store.upsert_edges("FACT", facts(("a", "r", "b"), ("a", "t", "b"))) == WriteStats(
            created=1, matched=1
        )
        before["FACT"][("a", "b", "t")] = {"relation": "t"}
        before["Relation"]["t"] = {}
        assert dump(store) == before

    def test_doubled_edges_last_wins(self, store: GraphStore) -> None:
        store.upsert_nodes("User", nodes("u"))
        store.upsert_nodes("Entity", nodes("e"))
        table = purchases(("u", "e", "s", 1), ("u", "e", "s", 2), ("u", "e", "s", 3))
        assert store.upsert_edges("PURCHASED", table).created == 1
        assert dump(store)["PURCHASED"] == {("u", "e", "s"): {"source": "s", "count": 3}}

    def test_edge_properties_updated_and_null_leaves(self, store: GraphStore) -> None:
        table = purchases(
            ("u", "e", "s", 1), ("u", "f", "s", 1), rating=[4.5, None], first=[10, 20], last=[10, 2**40]
        )
        store.upsert_edges("PURCHASED", table, missing="create")
        store.upsert_edges(
            "PURCHASED", purchases(("u", "e", "s", None), ("u", "f", "s", 7), rating=[None, 2.0])
        )
        assert dump(store)["PURCHASED"] == {
            ("u", "e", "s"): {"source": "s", "count": 1, "rating": 4.5, "first": 10, "last": 10},
            ("u", "f", "s"): {"source": "s", "count": 7, "rating": 2.0, "first": 20, "last": 2**40},
        }

    def test_facts_with_split_and_time(self, store: GraphStore) -> None:
        store.upsert_edges(
            "FACT", facts(("a", "r", "b"), ("b", "s", "c"), source=["x", "x"]), missing="create"
        )
        labels = {
            "split": ["train", None, "test", "valid"],
            "time": pa.array([None, 2**40, -5, 7], pa.int64()),
        }
        some = facts(("a", "r", "b"), ("b", "s", "c"), ("c", "r", "a"), ("c", "r", "a"), **labels)
        assert store.upsert_edges("FACT", some) == WriteStats(created=1, matched=2)
        want: dict[Any, dict[str, Any]] = {
            ("a", "b", "r"): {"relation": "r", "source": "x", "split": "train"},
            ("b", "c", "s"): {"relation": "s", "source": "x", "time": 2**40},
            ("c", "a", "r"): {"relation": "r", "split": "valid", "time": 7},  # the last of two rows
        }
        assert dump(store)["FACT"] == want
        nulls = {"split": pa.nulls(2, pa.string()), "time": pa.nulls(2)}
        store.upsert_edges("FACT", facts(("a", "r", "b"), ("c", "r", "a"), **nulls))
        assert dump(store)["FACT"] == want
        assert store.upsert_edges("FACT", facts(("a", "r", "b"), split=["test"], time=[1])).matched == 1
        want["a", "b", "r"] |= {"split": "test", "time": 1}
        assert dump(store)["FACT"] == want

    def test_two_sources_for_one_pair(self, store: GraphStore) -> None:
        store.upsert_edges("PURCHASED", purchases(("u", "e", "shop", 1)), missing="create")
        stats = store.upsert_edges("PURCHASED", purchases(("u", "e", "web", 2), ("u", "e", "shop", 5)))
        assert stats == WriteStats(created=1, matched=1)
        assert {k[2]: v["count"] for k, v in dump(store)["PURCHASED"].items()} == {"shop": 5, "web": 2}

    def test_missing_ends_error_writes_nothing(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a"))
        before = dump(store)
        with pytest.raises(StoreError, match="nobody"):
            store.upsert_edges("FACT", facts(("a", "r", "a"), ("a", "r", "nobody")))
        assert dump(store) == before

    def test_missing_ends_skip(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a", "b"))
        table = facts(("a", "r", "b"), ("a", "r", "x"), ("y", "r", "b"), ("x", "r", "y"))
        assert store.upsert_edges("FACT", table, missing="skip") == WriteStats(created=1, skipped=3)
        assert set(dump(store)["Entity"]) == {"a", "b"}

    def test_missing_ends_create(self, store: GraphStore) -> None:
        store.upsert_edges("PURCHASED", purchases(("u", "e", "s", 1), ("v", "e", "s", 1)), missing="create")
        got = dump(store)
        assert set(got["User"]) == {"u", "v"} and set(got["Entity"]) == {"e"} and len(got["PURCHASED"]) == 2

    def test_wrong_missing_word(self, store: GraphStore) -> None:
        with pytest.raises(StoreError, match="missing"):
            store.upsert_edges("FACT", facts(("a", "r", "b")), missing="perhaps")

    def test_edge_needs_its_key_and_known_properties(self, store: GraphStore) -> None:
        with pytest.raises(StoreError, match="relation"):
            store.upsert_edges("FACT", pa.table({"head": ["a"], "tail": ["b"]}), missing="create")
        with pytest.raises(StoreError, match="relation"):
            store.upsert_edges(
                "FACT",
                pa.table({"head": ["a"], "tail": ["b"], "relation": pa.array([None], pa.string())}),
                missing="create",
            )
        with pytest.raises(StoreError, match="colour"):
            store.upsert_edges("FACT", facts(("a", "r", "b"), colour=["red"]), missing="create")

    def test_chunked_and_dictionary_columns(self, store: GraphStore) -> None:
        part = nodes("a", "b", name=["A", "B"])
        more = nodes("c", name=["C"])
        table = pa.concat_tables([part, more])
        table = table.set_column(1, "name", table["name"].dictionary_encode())
        assert store.upsert_nodes("Entity", table).created == 3
        assert dump(store)["Entity"] == {"a": {"name": "A"}, "b": {"name": "B"}, "c": {"name": "C"}}

    def test_delete_nodes(self, store: GraphStore) -> None:
        store.upsert_edges("FACT", facts(("a", "r", "b"), ("b", "r", "c")), missing="create")
        assert store.delete_nodes("Entity", ["b", "nobody", "b"]) == 1
        got = dump(store)
        assert set(got["Entity"]) == {"a", "c"} and got["FACT"] == {}
        assert store.delete_nodes("Entity", []) == 0

    def test_clear(self, store: GraphStore) -> None:
        store.upsert_edges("FACT", facts(("a", "r", "b")), missing="create")
        store.upsert_nodes("User", nodes("u", age=[1]))
        store.clear()
        assert {k: v for k, v in dump(store).items() if k != "Kgkit" and v} == {}
        assert store.upsert_edges("FACT", facts(("a", "r", "b")), missing="create").created == 1

    def test_batches_larger_than_one_message(self, store: GraphStore) -> None:
        n = 25_000
        ids = [f"n{i}" for i in range(n)]
        assert store.upsert_nodes("Entity", nodes(*ids, name=ids)).created == n
        ring = facts(*((ids[i], f"r{i % 3}", ids[(i + 1) % n]) for i in range(n)))
        assert store.upsert_edges("FACT", ring) == WriteStats(created=n)
        assert store.upsert_edges("FACT", ring) == WriteStats(matched=n)
        assert store.stats()["relations"] == {"r0": 8334, "r1": 8333, "r2": 8333}
