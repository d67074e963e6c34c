"""What can be done to a graph store, as plain data: drawn by hypothesis, done to a store and to the model alike.

A step speaks of few nodes, so that steps meet. `resolve` makes it an operation on a given graph (of a purchased item: the
node that stands for it there), which is pickled to processes that are to be killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from campaign.model import STUB, Graph, Refused, Row, Vector
from kgkit.errors import StoreError
from kgkit.schema import EDGES
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors

Op = tuple[str, dict[str, Any]]
USERS = [f"u{i}" for i in range(4)]
ENTITIES = [f"e{i}" for i in range(6)]
ITEMS = ["0", "1", "2", "3"]
STUBS = [STUB + item for item in ITEMS]
RELATIONS = ["by", "of", "like/it"]
SOURCES = ["shop", "web"]
PLUGINS = ["kgcn", "my-model.v2"]
NODE_TYPES = {
    "id": pa.string(), "name": pa.string(), "item_id": pa.string(), "price": pa.float64(), "size": pa.int64(),
    "age": pa.int64(), "vip": pa.bool_(), "connector": pa.string(), "rows": pa.int64(),
}  # fmt: skip
TEXT = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
ATOMIC = ("align", "replace_answers", "update_answers", "erase_run")  # a kill leaves all of it or nothing


# -- drawing -----------------------------------------------------------------------------------------------------


def _rows(most: int, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=most)


def _maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


_user, _item, _relation = st.sampled_from(USERS), st.sampled_from(ITEMS), st.sampled_from(RELATIONS)
_plain = st.sampled_from(ENTITIES)
# Facts may speak of an item's stub at one end: at both, two of them could meet on their way to entities in any order.
_any = st.sampled_from(ENTITIES + STUBS)
_missing = st.sampled_from(["error", "skip", "create", "create", "create"])
_name, _number = _maybe(["A", "B", "Łódź", ""]), st.integers(0, 9)
_score = st.sampled_from([0.5, 0.25, -1.0, 1e-300])


def _op(name: str, **given: Any) -> st.SearchStrategy[Op]:
    drawn = {k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in given.items()}
    return st.tuples(st.just(name), st.fixed_dictionaries(drawn))


def _facts() -> st.SearchStrategy[Op]:
    labels = {
        "relation": _relation,
        "source": _maybe(SOURCES),
        "split": _maybe(["train", "test"]),
        "time": _maybe([0, -5, 2**40]),
    }
    ends = st.tuples(_any, _plain) | st.tuples(_plain, _any)
    rows = _rows(6, ends=ends, **labels).map(
        lambda rows: [
            {"head": r["ends"][0], "tail": r["ends"][1], **{k: v for k, v in r.items() if k != "ends"}}
            for r in rows
        ]
    )
    return _op("upsert_edges", kind="FACT", rows=rows, missing=_missing)


@st.composite
def _vectors(draw: st.DrawFn) -> list[Vector]:
    """Of some labels, with another table now and then; ids that nobody has among them."""
    out = []
    for label, ids in (("Entity", ENTITIES + STUBS), ("User", USERS), ("Relation", [*RELATIONS, "nobody"])):
        some = draw(st.lists(st.sampled_from(ids), unique=True, max_size=5))
        size = draw(st.integers(1, 3))
        if not some:
            continue
        value = draw(st.integers(0, 9))
        rows = tuple(tuple(float(value + i + j) for j in range(size)) for i in range(len(some)))
        out.append(Vector(label, tuple(some), rows, packed=label == "Entity" and draw(st.booleans())))
        if label == "Entity" and draw(st.booleans()):
            out.append(Vector(label, tuple(some), tuple((float(i),) for i in range(len(some))), "bias"))
    return out


def _recommended() -> st.SearchStrategy[list[Row]]:
    return st.lists(
        st.fixed_dictionaries({"head": _user, "tail": _any, "score": _score, "rank": _number}), max_size=6
    )


def _completed() -> st.SearchStrategy[list[Row]]:
    columns = {"head": _plain, "tail": _plain, "relation": _relation, "score": _score}
    return st.lists(st.fixed_dictionaries({**columns, "probability": _maybe([0.5])}), max_size=6)


def _answers(most: int = 2) -> st.SearchStrategy[dict[str, list[Row]]]:
    return st.fixed_dictionaries({}, optional={"RECOMMENDED": _recommended(), "COMPLETED": _completed()})


def steps() -> st.SearchStrategy[Op]:
    """One step. Those that build a graph up come more often than those that take it down."""
    entity_rows = _rows(6, id=_any, name=_name, price=_maybe([0.0, 1.5]), size=_maybe([0, 2**53]))
    user_rows = _rows(4, id=_user, age=_maybe([0, 41]), vip=_maybe([True, False]))
    sources = _rows(2, id=st.sampled_from(SOURCES), connector=_maybe(["purchases"]), rows=_maybe([7]))
    attributes = _rows(4, head=_user, tail=_plain, relation=_relation, source=_maybe(SOURCES))
    bought = _rows(
        6,
        head=_user,
        item=_item,
        source=st.sampled_from(SOURCES),
        count=_maybe([1, 5]),
        rating=_maybe([4.5]),
    )
    aligned = st.lists(st.tuples(_item, _any), min_size=1, max_size=5)
    weights = st.fixed_dictionaries({}, optional={"filters": st.integers(0, 9), "none": st.just(-1)})
    run = st.fixed_dictionaries({"plugin": st.sampled_from(PLUGINS), "number": st.integers(0, 2)})
    building = [
        _op("upsert_nodes", label="Entity", rows=entity_rows),
        _op("upsert_nodes", label="User", rows=user_rows),
        _op("upsert_nodes", label="Source", rows=sources),
        _facts(),
        _facts(),
        _op("upsert_edges", kind="HAS_ATTRIBUTE", rows=attributes, missing=_missing),
        _op("purchases", rows=bought, titles=st.dictionaries(_item, _name, max_size=3)),
        _op("purchases", rows=bought, titles=st.dictionaries(_item, _name, max_size=3)),
        _op("align", rows=aligned, move=st.booleans()),
        _op("align", rows=aligned, move=st.just(True)),
        _op("replace_answers", run=run, vectors=_vectors(), answers=_answers(), weights=weights),
        _op("replace_answers", run=run, vectors=_vectors(), answers=_answers(), weights=weights),
        _op("update_answers", run=run, answers=_answers()),
        _op(
            "write_vectors",
            prop="embedding_x",
            ids=st.lists(_any, unique=True, min_size=1, max_size=6),
            value=_number,
        ),
    ]
    taking = [
        _op("erase_run", run=run),
        _op("delete_nodes", label="Entity", ids=st.lists(_any, max_size=2)),
        _op("delete_nodes", label="User", ids=st.lists(_user, max_size=2)),
        _op("clear"),
    ]
    return st.one_of(*building, *building, *taking)


# -- from a step to an operation on a graph -----------------------------------------------------------------------


def resolve(step: Op, graph: Graph) -> list[Op]:
    """The operations on this graph that a step says: purchases go to the nodes that stand for their items, by two."""
    name, given = step
    if "run" in given:
        plugin, number = given["run"]["plugin"], given["run"]["number"]
        run = {"id": f"{plugin}-{number}", "plugin": plugin, "created": "2024-05-01", "params": "{}"}
        run |= {"metrics": f'{{"n": {number}}}', "provenance": "{}"}
        given = {**given, "run": run if name == "replace_answers" else run["id"]}
    if name == "purchases":
        items = sorted({row["item"] for row in given["rows"]} | set(given["titles"]))
        nodes = [
            {"id": graph.place_of(item), "item_id": item, "name": given["titles"].get(item)} for item in items
        ]
        rows = [
            {"tail": graph.place_of(row["item"]), **{k: v for k, v in row.items() if k != "item"}}
            for row in given["rows"]
        ]
        return [
            ("upsert_nodes", {"label": "Entity", "rows": nodes}),
            ("upsert_edges", {"kind": "PURCHASED", "rows": rows, "missing": "create"}),
        ]
    return [(name, given)]


# -- an operation on the model ------------------------------------------------------------------------------------


def on_model(graph: Graph, op: Op) -> Any:
    """Changes the model and returns what the store is to return. Raises Refused."""
    name, given = op
    if name == "replace_answers":
        return graph.replace_answers(
            given["run"],
            given["vectors"],
            given["answers"],
            _weight_rows(given["run"]["id"], given["weights"]),
        )
    if name == "update_answers":
        return graph.update_answers(given["run"], given["answers"])
    if name == "erase_run":
        return graph.erase_run(given["run"])
    if name == "write_vectors":
        return graph.write_vectors(given["prop"], _vector(given))
    return getattr(graph, name)(**given)


def _vector(given: Mapping[str, Any]) -> Vector:
    rows = tuple((float(given["value"]), float(i), 1.0) for i in range(len(given["ids"])))
    return Vector("Entity", tuple(given["ids"]), rows)


def _weights(weights: Mapping[str, int]) -> dict[str, Any]:
    return {n: np.full((2, max(v, 0)), v, dtype=np.float32) for n, v in weights.items()}


def _weight_rows(run: str, weights: Mapping[str, int]) -> dict[str, Row]:
    out: dict[str, Row] = {}
    for name, array in _weights(weights).items():
        row: Row = {"run": run, "name": name, "shape": f"2 {array.shape[1]}", "part": 0}
        out[f"{run}/{name}/0"] = {**row, **({"data": array.tobytes()} if array.size else {})}
    return out


# -- the same on a store ------------------------------------------------------------------------------------------


def on_store(store: GraphStore, op: Op) -> Any:
    """Does an operation and returns what the store says, in the model's form. Raises StoreError."""
    name, given = op
    if name == "upsert_nodes":
        done = store.upsert_nodes(given["label"], _table(given["rows"], NODE_TYPES))
        return done.created, done.matched
    if name == "upsert_edges":
        types = {"head": pa.string(), "tail": pa.string(), **_types(given["kind"])}
        done = store.upsert_edges(given["kind"], _table(given["rows"], types), missing=given["missing"])
        return done.created, done.matched, done.skipped
    if name == "align":
        table = _table([dict(zip(("item", "entity"), row, strict=True)) for row in given["rows"]], _PAIR)
        said = store.align(table, move=given["move"])
        conflicts = {(row["item"], row["entity"]) for row in said.conflicts.to_pylist()}
        counts = {n: getattr(said, n) for n in ("aligned", "unchanged", "folded", "moved")}
        return {**counts, "conflicts": conflicts}
    if name == "replace_answers":
        parts = [_port_vectors(part) for part in given["vectors"]]
        return store.replace_answers(
            RunRecord(**given["run"]), parts, _port_answers(given["answers"]), _weights(given["weights"])
        )
    if name == "update_answers":
        return store.update_answers(given["run"], _port_answers(given["answers"]))
    if name == "write_vectors":
        return store.write_vectors(given["prop"], _port_vectors(_vector(given)))
    if name == "erase_run":
        return store.erase_run(given["run"])
    return getattr(store, name)(**given)


_PAIR = {"item": pa.string(), "entity": pa.string()}


def _types(kind: str) -> dict[str, pa.DataType]:
    return {name: TEXT[of] for name, of in EDGES[kind].properties.items()}


def _table(rows: Sequence[Row], types: Mapping[str, pa.DataType]) -> pa.Table:
    names = [n for n in types if any(n in row for row in rows)] or list(types)
    return pa.table({n: pa.array([row.get(n) for row in rows], types[n]) for n in names})


def _port_vectors(part: Vector) -> Vectors:
    matrix = np.array(part.rows, dtype=np.float32)
    return Vectors(part.label, pa.array(part.ids), matrix, part.table, part.packed)


def _port_answers(answers: Mapping[str, Sequence[Row]]) -> list[Answers]:
    ends = {"head": pa.string(), "tail": pa.string()}
    return [
        Answers(kind, _table(rows, {**ends, **{n: t for n, t in _types(kind).items() if n != "run"}}))
        for kind, rows in answers.items()
    ]


def compared(op: Op, said: Any) -> Any:
    """A result without what the port leaves open: kinds of which nothing was written may be left out."""
    return {k: v for k, v in said.items() if v} if op[0] in ("replace_answers", "update_answers") else said


def check(store: GraphStore, graph: Graph, op: Op) -> None:
    """Does an operation to both and compares what they say. Raises AssertionError."""
    try:
        want = on_model(graph, op)
    except Refused:
        try:
            said = on_store(store, op)
        except StoreError:
            return
        raise AssertionError(f"{op} was not refused: {said}") from None
    said = on_store(store, op)
    assert compared(op, said) == compared(op, want), f"{op} said {said} instead of {want}"
