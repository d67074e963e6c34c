"""What models say, into Neo4j: one transaction that takes the old answers out and puts the new ones in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from neo4j.exceptions import DriverError, Neo4jError

from kgkit.arrays import Floats, Ints
from kgkit.errors import RetryableStoreError, StoreError
from kgkit.schema import (
    EDGES,
    NODES,
    PACKED,
    embedding_property,
    identifier,
    is_vector_property,
    vector_property,
)
from kgkit.store import neo4j_cypher as cypher
from kgkit.store.neo4j_connection import Connection, parameters
from kgkit.store.neo4j_read import key_map, label_of, with_vector
from kgkit.store.neo4j_write import (
    NewEdges,
    columns_codes,
    create_batches,
    joint_key,
    plain_column,
    run_batches,
    text_column,
    vector_rows,
)
from kgkit.store.port import Answers, RunRecord, Vectors, check_current
from kgkit.store.rows import last_rows
from kgkit.store.weights import rows as weight_rows

LABELS = tuple(kind.label for kind in NODES.values() if kind.vectors)  # the nodes that have embeddings
KINDS = tuple(kind.type for kind in EDGES.values() if kind.answer)
_BATCH = 20_000
_WEIGHTS = 8  # of a MiB each, a statement


class Nodes:
    """Ids and handles of labels, read once each."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._maps = connection, dict[str, tuple[pa.Array, Ints]]()

    def handles(self, label: str, ids: pa.Array) -> Ints:
        """int64 [K], -1 for ids that are not there."""
        if label not in self._maps:
            self._maps[label] = key_map(self._connection, label)
        known, handles = self._maps[label]
        rows = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy(zero_copy_only=False)
        return (
            np.where(rows < 0, -1, handles[rows]) if len(handles) else np.full(len(ids), -1, dtype=np.int64)
        )


def replace_answers(
    connection: Connection,
    run: RunRecord,
    vectors: Iterable[Vectors],
    answers: Iterable[Answers],
    weights: Mapping[str, Floats],
) -> dict[str, int]:
    """See GraphStore.replace_answers.

    The client holds one batch at a time; the server holds the transaction until it is committed. Raises
    RetryableStoreError, with nothing changed, when the server goes away.
    """
    embedding = embedding_property(run.plugin)
    nodes = Nodes(connection)
    had = _having(connection, embedding)
    written: dict[str, int] = {"embeddings": 0}
    with connection.unmanaged() as tx:
        tx.run(cypher.LOCK_WRITER).consume()
        runs = [r["id"] for r in tx.run(cypher.RUNS_OF_PLUGIN, plugin=run.plugin)] + [run.id]
        for kind in KINDS:
            tx.run(_text(cypher.DELETE_ANSWERS.format(type=identifier(kind))), runs=runs).consume()
        kept: dict[tuple[str, str], list[Ints]] = {}
        for part in vectors:
            prop = vector_property(embedding, part.table)
            handles = _set_vectors(tx, nodes, part, prop)
            for name in (prop, vector_property(prop, PACKED))[: 1 + part.packed]:
                kept.setdefault((part.label, name), []).append(handles)
            written["embeddings"] += 0 if part.table else len(handles)
        for (label, prop), handles in had.items():
            now = np.concatenate([np.zeros(0, dtype=np.int64), *kept.get((label, prop), [])])
            _remove(tx, np.setdiff1d(handles, now), prop)
        for kind, n in _write_edges(tx, nodes, run.id, answers).items():
            written[kind] = written.get(kind, 0) + n
        tx.run(cypher.DELETE_WEIGHTS, runs=runs).consume()
        if weights:
            table = weight_rows(run.id, weights)
            text = _text(cypher.upsert_nodes("Weights", table.column_names[1:], [], item=False))
            for start in range(0, table.num_rows, _WEIGHTS):
                rows = [list(row.values()) for row in table.slice(start, _WEIGHTS).to_pylist()]
                tx.run(text, parameters({"rows": rows})).consume()
        tx.run(cypher.RETIRE_RUNS, plugin=run.plugin).consume()
        properties = {k: getattr(run, k) for k in ("plugin", "created", "params", "metrics", "provenance")}
        tx.run(cypher.WRITE_RUN, id=run.id, properties=properties).consume()
        _commit(connection, tx, run.id, {k: written.get(k, 0) for k in KINDS}, run.id in runs[:-1])
    return written


def update_answers(connection: Connection, run_id: str, answers: Iterable[Answers]) -> dict[str, int]:
    """See GraphStore.update_answers: one transaction."""
    nodes, parts = Nodes(connection), list(answers)
    for part in parts:
        _check_kind(part.kind)
    with connection.unmanaged() as tx:
        tx.run(cypher.LOCK_WRITER).consume()
        found = tx.run(cypher.RUN, id=run_id).single()
        check_current(run_id, found["current"] if found else None)
        for kind in {part.kind for part in parts}:
            tx.run(_text(cypher.DELETE_ANSWERS.format(type=identifier(kind))), runs=[run_id]).consume()
        written = _write_edges(tx, nodes, run_id, parts)
        _commit(connection, tx, run_id, written, True)
    return written


def _write_edges(
    tx: neo4j.Transaction, nodes: Nodes, run_id: str, answers: Iterable[Answers]
) -> dict[str, int]:
    """Creates relationships of a run; rows by kind."""
    written: dict[str, int] = {}
    for answer in answers:
        edges = _edges(nodes, answer)
        run_batches(tx, create_batches(answer.kind, edges, extra={"run": run_id}))
        written[answer.kind] = written.get(answer.kind, 0) + len(edges)
    return written


def _commit(
    connection: Connection, tx: neo4j.Transaction, run_id: str, written: Mapping[str, int], replaced: bool
) -> None:
    """Commits; when the answer is lost, looks whether it happened.

    written: relationships by kind; replaced: whether the run may have had others, as many perhaps, before.
    """

    def ask(text: str, **params: Any) -> list[neo4j.Record]:
        return list(tx.run(_text(text), params))

    held = answers_of(ask, written, run_id) if replaced else {}
    try:
        tx.commit()
    except (DriverError, Neo4jError) as error:
        trouble = connection.translate(error)
        if not isinstance(trouble, RetryableStoreError):
            raise trouble from error
        connection.settle()
        rows = connection.read(cypher.RUN, id=run_id)
        now = answers_of(connection.read, written, run_id)
        if replaced and not any(n for n, _ in held.values()):
            raise RetryableStoreError(
                f"{trouble} Run {run_id} may have been written or not: run the same command again."
            ) from error
        there = now == held if replaced else {kind: n for kind, (n, _) in now.items()} == written
        if not (rows and rows[0]["current"] and there):
            raise RetryableStoreError(f"{trouble} Nothing of run {run_id} was written.") from error


def answers_of(
    ask: Callable[..., list[neo4j.Record]], kinds: Iterable[str], run_id: str
) -> dict[str, tuple[int, int | None]]:
    """How many relationships of some kinds a run wrote, and the handle of the first."""
    out = {}
    for kind in kinds:
        row = ask(cypher.COUNT_ANSWERS.format(type=identifier(kind)), run=run_id)[0]
        out[kind] = (int(row["n"]), row["first"])
    return out


def _set_vectors(tx: neo4j.Transaction, nodes: Nodes, vectors: Vectors, prop: str) -> Ints:
    """Sets the vectors of nodes that exist, and returns their handles."""
    if len(vectors.ids) == 0:
        return np.zeros(0, dtype=np.int64)
    handles = nodes.handles(vectors.label, vectors.ids)
    rows = last_rows(columns_codes(vectors.ids))
    rows = rows[handles[rows] >= 0]
    text = cypher.SET_PACKED_BY_HANDLE if vectors.packed else cypher.SET_VECTORS_BY_HANDLE
    text = _text(text.format(label=label_of(vectors.label), packed=identifier(vector_property(prop, PACKED))))
    batches = vector_rows(vectors, rows[np.argsort(handles[rows])], handles, packed=vectors.packed)
    run_batches(tx, ((text, {"rows": batch, "prop": prop}) for batch in batches))
    return handles[rows]


def _having(connection: Connection, embedding: str) -> dict[tuple[str, str], Ints]:
    """The handles of nodes that have vectors of a model, by label and property."""
    names = [r["name"] for r in connection.read(cypher.PROPERTY_KEYS)]
    return {
        (label, name): with_vector(connection, label, name)[0]
        for label in LABELS
        for name in names
        if is_vector_property(name, embedding)
    }


def _remove(tx: neo4j.Transaction | neo4j.ManagedTransaction, handles: Ints, prop: str) -> None:
    text = _text(cypher.REMOVE_PROPERTY.format(prop=identifier(prop)))
    for start in range(0, len(handles), _BATCH):
        tx.run(text, parameters({"handles": handles[start : start + _BATCH].tolist()})).consume()


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise StoreError(f"{kind} is not what a model may write: answers are {', '.join(KINDS)}")


def _edges(nodes: Nodes, answers: Answers) -> NewEdges:
    """The rows of an answer by handle, the last of each key. Raises StoreError for unknown ends or properties."""
    _check_kind(answers.kind)
    kind, table = EDGES[answers.kind], answers.table
    ends = []
    for column, label in (("head", kind.source), ("tail", kind.target)):
        ids = text_column(table, column, kind.type)
        handles = nodes.handles(label, ids)
        if (handles < 0).any():
            unknown = ids[int(np.argmin(handles))].as_py()
            raise StoreError(f"{kind.type}: {unknown!r} is not the id of any {label} in the graph")
        ends.append(handles)
    columns = {k: text_column(table, k, kind.type) for k in kind.key if k != "run"}
    for name in table.column_names:
        if name in ("head", "tail", "run", *columns):
            continue
        if name not in kind.properties:
            raise StoreError(f"{kind.type} has no property {name!r}: it has {', '.join(kind.properties)}")
        columns[name] = plain_column(table, name)
    edges = NewEdges(ends[0], ends[1], columns)
    if len(edges) == 0:
        return edges
    codes = [columns_codes(columns[k]) for k in kind.key if k != "run"]
    return edges.take(last_rows(joint_key([edges.source, edges.target, *codes])))


def erase_run(connection: Connection, run_id: str) -> int:
    """See GraphStore.erase_run: one transaction."""
    found = connection.read(cypher.RUN, id=run_id)
    current = found and found[0]["current"]
    embedding = embedding_property(found[0]["plugin"]) if current else ""
    vectors = _having(connection, embedding) if current else {}

    told = 0  # by an attempt whose commit may have happened, although its answer was lost

    def work(tx: neo4j.ManagedTransaction) -> int:
        nonlocal told
        removed = 0
        for kind in KINDS:
            text = _text(cypher.DELETE_ANSWERS.format(type=identifier(kind)))
            removed += tx.run(text, runs=[run_id]).consume().counters.relationships_deleted
        for (_, prop), handles in vectors.items():
            _remove(tx, handles, prop)
            removed += len(handles) if prop == embedding else 0
        tx.run(cypher.DELETE_WEIGHTS, runs=[run_id]).consume()
        removed += tx.run(cypher.DELETE_RUN, id=run_id).consume().counters.nodes_deleted
        told = removed or told
        return told

    return connection.transaction(work)


def _text(text: str) -> Any:
    return text
