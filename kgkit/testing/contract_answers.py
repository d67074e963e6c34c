"""The part of the store contract about answers: vectors, runs that replace each other, runs taken back."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from kgkit.errors import LeakError, StoreError
from kgkit.extract import Extraction, extract
from kgkit.store import weights
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors
from kgkit.testing.contract_write import facts, nodes
from kgkit.testing.graph_dump import dump


def vectors(label: str, ids: list[str], matrix: npt.ArrayLike) -> Vectors:
    """Vectors from plain values; matrix: float32 [N, d]."""
    return Vectors(label, pa.array(ids, pa.string()), np.asarray(matrix, dtype=np.float32))


def recommended(*rows: tuple[str, str, float, int]) -> Answers:
    """RECOMMENDED from (user, entity, score, rank)."""
    names = ("head", "tail", "score", "rank")
    return Answers("RECOMMENDED", pa.table({n: [r[i] for r in rows] for i, n in enumerate(names)}))


def completed(*rows: tuple[str, str, str, float]) -> Answers:
    """COMPLETED from (head, relation, tail, score)."""
    names = ("head", "relation", "tail", "score")
    return Answers("COMPLETED", pa.table({n: [r[i] for r in rows] for i, n in enumerate(names)}))


def _run(name: str, plugin: str = "kgcn") -> RunRecord:
    return RunRecord(name, plugin, "2024-05-01T10:00:00Z", json.dumps({"lr": 0.1}), '{"auc": 0.9}', "{}")


def _base(store: GraphStore) -> None:
    store.upsert_nodes("User", nodes("u", "v"))
    store.upsert_edges("FACT", facts(("a", "r", "b"), ("b", "r", "c")), missing="create")


def _read(store: GraphStore, label: str, prop: str) -> dict[str, list[float]]:
    ids, matrix = store.read_vectors(label, prop)
    assert matrix.dtype == np.float32 and matrix.shape[0] == len(ids)
    return dict(zip(ids.to_pylist(), matrix.tolist(), strict=True))


class AnswerContract:
    """write_vectors, read_vectors, similar, replace_answers, erase_run."""

    def test_vectors_round_trip(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes(*(f"n{i}" for i in range(50))))
        rng = np.random.default_rng(1)
        matrix = rng.normal(size=(30, 7)).astype(np.float32)
        ids = [f"n{i}" for i in rng.permutation(60)[:30]]
        known = [i for i in ids if int(i[1:]) < 50]
        assert store.write_vectors("embedding_x", vectors("Entity", ids, matrix)) == len(known)
        expected = {i: matrix[ids.index(i)].tolist() for i in known}
        assert _read(store, "Entity", "embedding_x") == expected
        read = {
            row["id"]: row["embedding_x"]
            for table in store.read_nodes("Entity")
            for row in table.to_pylist()
            if row["embedding_x"] is not None
        }
        assert read == expected

    def test_vectors_partly_written_again_and_other_dimension(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a", "b", "c"))
        store.write_vectors("embedding_x", vectors("Entity", ["a", "b"], np.ones((2, 3))))
        store.write_vectors("embedding_x", vectors("Entity", ["b", "c"], np.zeros((2, 3)) + 2))
        assert _read(store, "Entity", "embedding_x") == {"a": [1.0] * 3, "b": [2.0] * 3, "c": [2.0] * 3}
        store.write_vectors("embedding_x", vectors("Entity", ["c"], np.full((1, 5), 0.5)))
        assert _read(store, "Entity", "embedding_x") == {"c": [0.5] * 5}

    def test_vectors_of_nobody(self, store: GraphStore) -> None:
        store.upsert_nodes("Entity", nodes("a"))
        ids, matrix = store.read_vectors("Entity", "embedding_x")
        assert len(ids) == 0 and matrix.shape == (0, 0) and matrix.dtype == np.float32
        assert store.write_vectors("embedding_x", vectors("Entity", ["nobody"], np.ones((1, 2)))) == 0

    def test_similar_is_plain_cosine(self, store: GraphStore) -> None:
        rng = np.random.default_rng(2)
        ids = [f"n{i:02d}" for i in range(40)]
        matrix = rng.normal(size=(40, 8)).astype(np.float32)
        store.upsert_nodes("Entity", nodes(*ids, "without"))
        store.write_vectors("embedding_x", vectors("Entity", ids, matrix))
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        cosine = unit @ unit[5]
        cosine[5] = -2.0
        best = np.argsort(-cosine)[:6]
        got = store.similar("Entity", "n05", 6, "embedding_x")
        assert [g[0] for g in got] == [ids[i] for i in best]
        np.testing.assert_allclose([g[1] for g in got], cosine[best], rtol=1e-3, atol=1e-4)
        assert len(store.similar("Entity", "n05", 1000, "embedding_x")) == 39
        for missing in ("nobody", "without"):
            with pytest.raises(StoreError, match=missing):
                store.similar("Entity", missing, 3, "embedding_x")

    @pytest.mark.parametrize("packed", [True, False])
    def test_vectors_of_those_at_an_end(self, store: GraphStore, packed: bool) -> None:
        rng = np.random.default_rng(4)
        ids = [f"n{i:02d}" for i in range(20)]
        matrix = rng.normal(size=(15, 6)).astype(np.float32)
        store.upsert_nodes("Entity", nodes(*ids))
        store.upsert_edges("FACT", facts(*((ids[i], "s", ids[i + 1]) for i in range(11, 17))))
        given = Vectors("Entity", pa.array(ids[:15]), matrix, packed=packed)
        store.write_vectors("embedding_x", given)

        def at(*asked: str | None) -> dict[str, list[float]]:
            parts = list(store.vectors_at("embedding_x", *asked))  # type: ignore[arg-type]
            assert all(part.dtype == np.float32 and len(part) == len(keys) for keys, part, _ in parts)
            assert all(bias is None for _, _, bias in parts)
            return {id: v for keys, part, _ in parts for id, v in zip(keys, part.tolist(), strict=True)}

        every = dict(zip(ids, matrix.tolist(), strict=False))
        assert at() == every
        assert at("s", "tail") == {id: every[id] for id in ids[12:15]}
        assert at("s", "head") == {id: every[id] for id in ids[11:15]}
        assert at("unheard") == {} and list(store.vectors_at("embedding_nobody")) == []
        added = np.arange(10, dtype=np.float32)
        store.write_vectors("embedding_x.bias", vectors("Entity", ids[3:13], added[:, None]))
        for keys, part, bias in store.vectors_at("embedding_x", bias="embedding_x.bias"):
            assert bias is not None and bias.dtype == np.float32
            expected = dict(zip(ids[3:13], added, strict=True))
            for id, vector, number in zip(keys, part.tolist(), bias, strict=True):
                assert vector == every[id]
                assert number == expected[id] if id in expected else np.isnan(number)
        # Other vectors in their place, of all and of some: nothing old is handed out.
        for rows, other, again in ((15, 6, not packed), (15, 4, packed), (4, 4, not packed)):
            matrix = rng.normal(size=(rows, other)).astype(np.float32)
            given = Vectors("Entity", pa.array(ids[:rows]), matrix, packed=again)
            store.write_vectors("embedding_x", given)
            every = {**(every if rows < 15 else {}), **dict(zip(ids, matrix.tolist(), strict=False))}
            assert at() == every
        whole = dump(store)["Entity"]
        assert {k: row["embedding_x"] for k, row in whole.items() if "embedding_x" in row} == every
        assert not any(name.endswith("packed") for t in store.read_nodes("Entity") for name in t.column_names)

    def test_first_run(self, store: GraphStore) -> None:
        _base(store)
        written = store.replace_answers(
            _run("r1"),
            [vectors("Entity", ["a", "b"], np.ones((2, 4))), vectors("User", ["u"], np.ones((1, 4)))],
            [recommended(("u", "a", 0.5, 1), ("u", "b", 0.25, 2)), completed(("a", "r", "c", 0.75))],
        )
        assert written == {"embeddings": 3, "RECOMMENDED": 2, "COMPLETED": 1}
        got = dump(store)
        assert got["RECOMMENDED"] == {
            ("u", "a", "r1"): {"score": 0.5, "rank": 1, "run": "r1"},
            ("u", "b", "r1"): {"score": 0.25, "rank": 2, "run": "r1"},
        }
        assert got["COMPLETED"] == {("a", "c", "r", "r1"): {"relation": "r", "score": 0.75, "run": "r1"}}
        assert got["Run"] == {
            "r1": {
                "plugin": "kgcn",
                "created": "2024-05-01T10:00:00Z",
                "current": True,
                "params": '{"lr": 0.1}',
                "metrics": '{"auc": 0.9}',
                "provenance": "{}",
            }
        }
        assert _read(store, "Entity", "embedding_kgcn") == {"a": [1.0] * 4, "b": [1.0] * 4}
        assert _read(store, "User", "embedding_kgcn") == {"u": [1.0] * 4}

    def test_second_run_replaces_the_first_and_leaves_other_plugins(self, store: GraphStore) -> None:
        _base(store)
        store.replace_answers(
            _run("other", "my-model.v2"),
            [vectors("Entity", ["a"], np.full((1, 2), 9))],
            [recommended(("u", "c", 0.1, 1))],
        )
        store.replace_answers(
            _run("r1"),
            [vectors("Entity", ["a", "b"], np.ones((2, 4))), vectors("User", ["u", "v"], np.ones((2, 4)))],
            [recommended(("u", "a", 0.5, 1)), completed(("a", "r", "c", 0.75))],
        )
        store.replace_answers(
            _run("r2"),
            [vectors("Entity", ["b", "c"], np.zeros((2, 6)) + 3)],
            [recommended(("v", "b", 0.75, 1))],
        )
        got = dump(store)
        assert set(got["RECOMMENDED"]) == {("u", "c", "other"), ("v", "b", "r2")} and got["COMPLETED"] == {}
        assert {k: v["current"] for k, v in got["Run"].items()} == {"other": True, "r1": False, "r2": True}
        assert _read(store, "Entity", "embedding_kgcn") == {"b": [3.0] * 6, "c": [3.0] * 6}
        assert _read(store, "User", "embedding_kgcn") == {}
        assert _read(store, "Entity", "embedding_my_model_v2") == {"a": [9.0] * 2}

    def test_same_run_again(self, store: GraphStore) -> None:
        _base(store)
        for score in (0.5, 0.25):
            store.replace_answers(_run("r1"), [], [recommended(("u", "a", score, 1))])
        got = dump(store)
        assert got["RECOMMENDED"] == {("u", "a", "r1"): {"score": 0.25, "rank": 1, "run": "r1"}}
        assert got["Run"]["r1"]["current"] is True

    def test_empty_answers(self, store: GraphStore) -> None:
        _base(store)
        store.replace_answers(_run("r1"), [], [recommended(("u", "a", 0.5, 1))])
        store.replace_answers(_run("r2"), [], [])
        got = dump(store)
        assert got["RECOMMENDED"] == {} and got["Run"]["r2"]["current"] is True

    def test_a_failed_run_changes_nothing(self, store: GraphStore) -> None:
        _base(store)
        store.replace_answers(
            _run("r1"), [vectors("Entity", ["a"], np.ones((1, 4)))], [recommended(("u", "a", 0.5, 1))]
        )
        before = dump(store)
        with pytest.raises(StoreError, match="nobody"):
            store.replace_answers(
                _run("r2"),
                [vectors("Entity", ["b"], np.ones((1, 4)))],
                [recommended(("u", "nobody", 0.5, 1))],
            )
        assert dump(store) == before
        with pytest.raises(StoreError, match="FACT"):
            store.replace_answers(_run("r2"), [], [Answers("FACT", facts(("a", "r", "b")))])

    def test_updated_answers_leave_everything_else_of_the_run(self, store: GraphStore) -> None:
        _base(store)
        store.replace_answers(_run("other", "ease"), [], [completed(("a", "r", "c", 0.5))])
        store.replace_answers(
            _run("r1"), [vectors("Entity", ["a"], np.ones((1, 4)))], [recommended(("u", "a", 0.5, 1))]
        )
        before = dump(store)
        columns = {"head": ["a", "b"], "relation": ["r", "s"], "tail": ["c", "a"], "score": [1.5, 0.5]}
        more = {"probability": [0.75, 0.25], "rank": [1, 2]}
        table = pa.table({**columns, **more})
        assert store.update_answers("r1", [Answers("COMPLETED", table)]) == {"COMPLETED": 2}
        got = dump(store)
        assert got["COMPLETED"][("a", "c", "r", "r1")] == {
            "relation": "r", "score": 1.5, "probability": 0.75, "rank": 1, "run": "r1",
        }  # fmt: skip
        assert {key[3] for key in got["COMPLETED"]} == {"r1", "other"} and len(got["COMPLETED"]) == 3
        assert store.update_answers("r1", [completed(("b", "r", "a", 0.25))]) == {"COMPLETED": 1}
        got = dump(store)
        assert set(got["COMPLETED"]) == {("a", "c", "r", "other"), ("b", "a", "r", "r1")}
        assert {k: v for k, v in got.items() if k != "COMPLETED"} == {
            k: v for k, v in before.items() if k != "COMPLETED"
        }
        assert store.update_answers("r1", [Answers("COMPLETED", table.slice(0, 0))]) == {"COMPLETED": 0}
        assert dump(store) == before
        store.update_answers("r1", [completed(("b", "r", "a", 0.25))])
        assert store.erase_run("r1") >= 3
        got = dump(store)
        assert set(got["COMPLETED"]) == {("a", "c", "r", "other")} and got["RECOMMENDED"] == {}

    def test_answers_of_a_run_that_does_not_stand_are_not_updated(self, store: GraphStore) -> None:
        _base(store)
        for name in ("r1", "r2"):
            store.replace_answers(_run(name), [], [completed(("a", "r", "c", 0.5))])
        before = dump(store)
        with pytest.raises(StoreError, match="replaced by a later run"):
            store.update_answers("r1", [completed(("b", "r", "c", 0.5))])
        with pytest.raises(StoreError, match="nobody"):
            store.update_answers("nobody", [completed(("b", "r", "c", 0.5))])
        with pytest.raises(StoreError, match="unknown-node"):
            store.update_answers("r2", [completed(("b", "r", "unknown-node", 0.5))])
        with pytest.raises(StoreError, match="FACT"):
            store.update_answers("r2", [Answers("FACT", facts(("a", "r", "b")))])
        assert dump(store) == before

    def test_relations_have_vectors_of_their_own_length(self, store: GraphStore) -> None:
        _base(store)
        store.upsert_edges("FACT", facts(("a", "s", "c")))
        for name, value in (("r1", 1.0), ("r2", 2.0)):
            entity = vectors("Entity", ["a", "b", "c"], np.full((3, 2), value))
            relation = vectors("Relation", ["r", "s"], np.full((2, 3), value))
            written = store.replace_answers(_run(name), [entity, relation], [])
            assert written["embeddings"] == 5
            assert _read(store, "Relation", "embedding_kgcn") == {"r": [value] * 3, "s": [value] * 3}
        store.upsert_edges("FACT", facts(("a", "t", "b")))  # a relation without a vector among them
        assert store.write_vectors("embedding_x", vectors("Relation", ["t"], np.ones((1, 5)))) == 1
        assert _read(store, "Relation", "embedding_x") == {"t": [1.0] * 5}
        store.erase_run("r2")
        assert _read(store, "Relation", "embedding_kgcn") == {}
        assert _read(store, "Entity", "embedding_kgcn") == {}
        assert set(dump(store)["FACT"]) == {
            ("a", "b", "r"),
            ("b", "c", "r"),
            ("a", "c", "s"),
            ("a", "b", "t"),
        }

    def test_all_weights_of_a_run_come_and_go_together(self, store: GraphStore) -> None:
        _base(store)
        rng = np.random.default_rng(5)
        arrays = {
            "filters": rng.normal(size=(2, 3, 4)),
            "one": np.array(0.5),
            "long/name": rng.normal(size=300_001),
            "none": np.zeros((0, 3)),
        }
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        ids = pa.array(["a", "b", "c"])

        def write(run: str, tables: list[str], weights: list[str], plugin: str = "kgcn") -> None:
            parts = [Vectors("Entity", ids, np.full((3, 2), len(run), np.float32), packed="packed" in tables)]
            parts += [Vectors("Entity", ids, np.ones((3, 1), np.float32), t) for t in tables if t != "packed"]
            parts.append(Vectors("Relation", pa.array(["r"]), np.ones((1, 5_000), np.float32), "matrix"))
            written = store.replace_answers(_run(run, plugin), parts, [], {n: arrays[n] for n in weights})
            assert written == {"embeddings": 3}

        def there() -> tuple[set[str], set[str]]:
            found = dump(store)
            assert set(_read(store, "Relation", "embedding_kgcn.matrix")) <= {"r"}
            return (
                {name for row in found["Entity"].values() for name in row},
                {row["run"] for row in found["Weights"].values()},
            )

        write("r1", ["entity_bias", "packed"], list(arrays))
        assert there() == ({"embedding_kgcn", "embedding_kgcn.entity_bias"}, {"r1"})
        found = weights.read(store, "r1")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == np.float32 and found[name].shape == array.shape
            np.testing.assert_array_equal(found[name], array)
        write("other", [], ["one"], "kgcn_2")
        write("r2", ["other"], ["one"])
        names = {"embedding_kgcn", "embedding_kgcn.other", "embedding_kgcn_2"}
        assert there() == (names, {"other", "r2"})
        assert weights.read(store, "r1") == {} and weights.read(store, "r2").keys() == {"one"}
        assert {
            id: v
            for k, m, _ in store.vectors_at("embedding_kgcn")
            for id, v in zip(k, m.tolist(), strict=True)
        } == {id: [2.0, 2.0] for id in "abc"}
        assert store.erase_run("r2") == 4
        assert there() == ({"embedding_kgcn_2"}, {"other"})
        assert list(store.vectors_at("embedding_kgcn")) == []
        store.clear()
        assert weights.read(store, "other") == {}

    def test_completed_facts_never_come_back_as_training_input(self, store: GraphStore) -> None:
        _base(store)
        store.upsert_nodes("Entity", nodes("a", item_id=["1"]))

        def read() -> tuple[str, int, int]:
            index = store.node_index("Entity")
            everything = store.edges("FACT", index, index, properties=("rid",))
            near = store.facts_around(np.arange(len(index)), 2, index)
            return extract(store).fingerprint, len(everything.source), len(near.source)

        before = read()
        store.replace_answers(_run("r1"), [], [completed(("a", "r", "c", 0.75))])
        store.update_answers("r1", [completed(("a", "r", "c", 0.75), ("c", "s", "a", 0.5))])
        assert read() == before
        said = "MATCH (h:Entity)-[c:COMPLETED]->(t:Entity) RETURN h.id AS head, c.relation AS relation, t.id AS tail"
        with pytest.raises(LeakError, match="COMPLETED"):
            extract(store, Extraction(triples_query=said))

    def test_facts_are_never_touched(self, store: GraphStore) -> None:
        _base(store)
        before = dump(store)["FACT"]
        store.replace_answers(_run("r1"), [], [completed(("a", "r", "b", 0.75))])
        store.erase_run("r1")
        assert dump(store)["FACT"] == before

    def test_erase_run(self, store: GraphStore) -> None:
        _base(store)
        before = dump(store)
        store.replace_answers(
            _run("r1"),
            [vectors("Entity", ["a"], np.ones((1, 4)))],
            [recommended(("u", "a", 0.5, 1), ("v", "a", 0.5, 1))],
        )
        store.replace_answers(_run("other", "ease"), [], [recommended(("u", "b", 0.5, 1))])
        assert store.erase_run("r1") >= 3
        got = dump(store)
        assert set(got["RECOMMENDED"]) == {("u", "b", "other")} and set(got["Run"]) == {"other"}
        assert _read(store, "Entity", "embedding_kgcn") == {}
        assert store.erase_run("r1") == 0
        store.erase_run("other")
        assert dump(store) == before

    def test_erasing_an_old_run_leaves_the_vectors_of_the_new(self, store: GraphStore) -> None:
        _base(store)
        for name, value in (("r1", 1.0), ("r2", 2.0)):
            store.replace_answers(
                _run(name),
                [vectors("Entity", ["a"], np.full((1, 2), value))],
                [recommended(("u", "a", 0.5, 1))],
            )
        assert store.erase_run("r1") >= 1
        assert _read(store, "Entity", "embedding_kgcn") == {"a": [2.0] * 2}
        assert set(dump(store)["RECOMMENDED"]) == {("u", "a", "r2")}
