"""Vectors of Neo4j's entities compared with a query: by the server, or handed out for others to do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kgkit.lazy import np, pa
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j_connection import Connection, in_parallel, value_of

if TYPE_CHECKING:
    from kgkit.arrays import Floats

SESSIONS = 2
_AT_ONCE = 200_000  # entities that are looked through, and whose vectors are held, at once


def best_scored(
    connection: Connection,
    prop: str,
    query: Sequence[float],
    similarity: str,
    k: int,
    bias: str | None,
    relation: str | None,
    side: str,
    native: bool,
) -> list[tuple[str, float]]:
    """`GraphStore.best_scored`."""
    text = cypher.best_scored(prop, len(query), similarity, bias, relation, side, native)
    given = {"query": list(query), "opposite": [-x for x in query], "relation": relation}
    parts = in_parallel(
        lambda part: connection.read(text, **given, part=part, parts=SESSIONS, k=k, few=4 * k + 20),
        range(SESSIONS),
        SESSIONS,
    )
    found = [(r["id"], float(r["score"])) for part in parts for r in value_of(part)]
    return sorted(found, key=lambda scored: (-scored[1], scored[0]))[:k]


def vectors_at(
    connection: Connection, prop: str, relation: str | None, side: str, native: bool
) -> Iterator[tuple[pa.Array, Floats]]:
    """`GraphStore.vectors_at`. Packed as bytes where they are: a list comes as numbers of 9 bytes, one by one."""
    text = cypher.vectors_at(prop, relation, side, native)
    entities = connection.read(cypher.COUNT_NODES.format(label="Entity"))[0]["n"]
    parts = SESSIONS * (1 + entities // _AT_ONCE)

    def read(part: int) -> tuple[pa.Array, Floats]:
        record = connection.read(text, relation=relation, part=part, parts=parts)[0]
        found = record["vectors"]
        if all(isinstance(v, bytes) for v in found):
            matrix = np.frombuffer(b"".join(found), dtype="<f4").reshape(len(found), -1 if found else 0)
        else:
            plain = [np.frombuffer(v, dtype="<f4") if isinstance(v, bytes) else v for v in found]
            matrix = np.array(plain, dtype=np.float32)
        return pa.array(record["ids"], pa.string()), matrix

    for first in range(0, parts, SESSIONS):
        for done in in_parallel(read, range(first, first + SESSIONS), SESSIONS):
            ids, matrix = value_of(done)
            if len(ids):
                yield ids, matrix
