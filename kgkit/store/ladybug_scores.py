"""Vectors of the embedded engine's entities compared with a query: by the engine, or handed out for others to do it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, pa, pc
from kgkit.schema import identifier
from kgkit.store import ladybug_tables

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.store.ladybug_engine import Engine

READ_ROWS = 200_000  # entities a part of `vectors_at`
_SUM = "-list_sum(list_transform($terms, t -> {}))"
SCORES = {  # the similarities of kgkit.nn.similarity; the engine has no sum of differences of its own
    "dot": "array_inner_product(v, q)",
    "l1": _SUM.format("abs(v[t.i] - t.x)"),
    "l2": "-array_distance(v, q)",
    "l2-squared": "-array_squared_distance(v, q)",
    "modulus": _SUM.format("sqrt((v[t.i] - t.x) * (v[t.i] - t.x) + (v[t.j] - t.y) * (v[t.j] - t.y))"),
}


def best_scored(
    engine: Engine,
    prop: str,
    query: Sequence[float],
    similarity: str,
    k: int,
    bias: str | None,
    relation: str | None,
    side: str,
) -> list[tuple[str, float]]:
    """`GraphStore.best_scored`."""
    type_ = f"FLOAT[{len(query)}]"
    if ladybug_tables.node_columns(engine, "Entity").get(prop) != type_:
        return []
    params: dict[str, Any] = {"k": int(k)}
    score, given = SCORES[similarity], ""
    if "$terms" in score:
        params["terms"] = _terms(query, similarity)
    else:
        params["query"] = list(query)
        given = f", CAST($query AS {type_}) AS q"
    if bias is not None:
        score, given = f"{score} + b[1]", f"{given}, n.{identifier(bias)} AS b"
    where, more = _at_end(relation, side)
    rows = engine.rows(
        f"MATCH (n:Entity) {where}WITH n.`id` AS id, n.{identifier(prop)} AS v{given} WHERE v IS NOT NULL "
        f"WITH id, {score} AS score WHERE score = score RETURN id, score ORDER BY score DESC, id LIMIT $k",
        params | more,
    )
    return [(id, float(score)) for id, score in rows]


def vectors_at(
    engine: Engine, prop: str, relation: str | None, side: str, bias: str | None
) -> Iterator[tuple[list[str], Floats, Floats | None]]:
    """`GraphStore.vectors_at`."""
    if not ladybug_tables.node_columns(engine, "Entity").get(prop, "").startswith("FLOAT["):
        return
    where, params = _at_end(relation, side)
    more = "" if bias is None else f", n.{identifier(bias)}[1]"
    parts = 1 + engine.count("Entity") // READ_ROWS
    for part in range(parts):
        among = "" if parts == 1 else f"AND offset(id(n)) % {parts} = {part} "
        vector = f"n.{identifier(prop)}"
        found = engine.arrow(
            f"MATCH (n:Entity) {where or 'WHERE true '}{among}AND {vector} IS NOT NULL RETURN n.`id`, {vector}{more}",
            params,
        )
        if found.num_rows:
            added = (
                None if bias is None else np.asarray(found.column(2).fill_null(math.nan), dtype=np.float32)
            )
            ids, matrix = matrix_of(found)
            yield ids.to_pylist(), matrix, added


def matrix_of(found: pa.Table) -> tuple[pa.Array, Floats]:
    """Ids, string [N], and vectors, float32 [N, d], of a column of each."""
    flat = np.asarray(pc.list_flatten(found.column(1)).combine_chunks(), dtype=np.float32)
    return found.column(0).combine_chunks(), flat.reshape(found.num_rows, -1)


def _terms(query: Sequence[float], similarity: str) -> list[dict[str, Any]]:
    """What a sum goes over: places (from 1) and values. Handed in like this, the engine takes each from a column of its
    own; looked up in a list, as `q[i]` by number, the query costs as much as the vectors do."""
    if similarity == "l1":
        return [{"i": i, "x": x} for i, x in enumerate(query, 1)]
    half = len(query) // 2
    return [{"i": i + 1, "j": i + 1 + half, "x": query[i], "y": query[i + half]} for i in range(half)]


def _at_end(relation: str | None, side: str) -> tuple[str, dict[str, Any]]:
    """A condition that `n` is observed at an end of a relation, and its parameters; none for None."""
    if relation is None:
        return "", {}
    fact = "(:Entity)-[f:FACT]->(n)" if side == "tail" else "(n)-[f:FACT]->(:Entity)"
    return f"WHERE EXISTS {{ MATCH {fact} WHERE f.relation = $relation }} ", {"relation": relation}
