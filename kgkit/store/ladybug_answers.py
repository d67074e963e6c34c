"""What models write into the embedded engine: vectors in slices, runs that replace each other at one instant.

Measured: filling a vector column costs super-linear time in the rows between two checkpoints, and a checkpoint cannot
be part of a transaction; nor can a COPY, which the log does not hold. So vectors are filled into a side property
`<property>__next`, a few thousand rows and a checkpoint at a time, and relationships are copied into a table of their own
`<type>_<n>__next`, where nobody looks. One last transaction drops the old ones and puts the new ones in their place (DROP
and RENAME take part in transactions). What a killed process left is dropped by the next writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from kgkit.arrays import Floats
from kgkit.errors import StoreError
from kgkit.schema import (
    EDGES,
    NODES,
    PACKED,
    embedding_property,
    identifier,
    is_vector_property,
    vector_property,
)
from kgkit.store.ladybug_compare import key_codes, plain_ends
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_parts import SIDE, next_part
from kgkit.store.ladybug_tables import (
    combine,
    count_edges,
    declare,
    drop_table,
    edge_kind,
    fill_aside,
    filling,
    node_columns,
    node_kind,
    put_in_place,
)
from kgkit.store.ladybug_write import add_nodes, edge_table, lookup, resolve_ends, runs_of_parts
from kgkit.store.packed import pack
from kgkit.store.port import Answers, RunRecord, Vectors, check_current
from kgkit.store.rows import last_rows
from kgkit.store.weights import rows as weight_rows

SLICE = 5_000  # vectors between two checkpoints


def write_vectors(engine: Engine, prop: str, vectors: Vectors) -> int:
    """`GraphStore.write_vectors`. Vectors of another length than before take the place of all of them."""
    matrix = _checked(vectors)
    type_ = f"FLOAT[{matrix.shape[1]}]"
    identifier(prop)
    have = node_columns(engine, vectors.label).get(prop)
    if have is not None and not have.startswith("FLOAT["):
        raise StoreError(
            f"{vectors.label} has a property {prop!r} of type {have}: no vectors can be kept there"
        )
    packed = vector_property(prop, PACKED)
    was_packed = packed in node_columns(engine, vectors.label)
    # All vectors of a property are packed, or none is.
    keep = vectors.packed and (was_packed or have != type_)
    if was_packed and (have != type_ or not keep):
        _drop(engine, vectors.label, packed)
        was_packed = False
    if have is not None and have != type_:
        _drop(engine, vectors.label, prop)
    if have != type_:
        declare(engine, vectors.label, {prop: type_})
    if keep and not was_packed:
        declare(engine, vectors.label, {packed: "BLOB"})
    return _fill(engine, prop, packed if keep else "", vectors)


def replace_answers(
    engine: Engine,
    run: RunRecord,
    vectors: Iterable[Vectors],
    answers: Iterable[Answers],
    weights: Mapping[str, Floats],
) -> dict[str, int]:
    """`GraphStore.replace_answers`."""
    embedding = embedding_property(run.plugin)
    tables = _answer_tables(engine, run.id, answers)
    written: dict[str, int] = {}
    sides: dict[tuple[str, str], str] = {}  # the engine's type by label and property
    forms: dict[tuple[str, str], bool] = {}  # whether packed, by the same
    with filling(engine):
        for part in vectors:
            matrix = _checked(part)
            type_ = f"FLOAT[{matrix.shape[1]}]"
            if not node_kind(part.label).vectors:
                raise StoreError(f"{part.label} nodes have no vectors")
            prop = vector_property(embedding, part.table)
            before = sides.get((part.label, prop), type_)
            if before != type_:
                raise StoreError(f"vectors of {part.label} have different lengths: {before} and {type_}")
            packed = vector_property(prop, PACKED) if part.packed else ""
            if forms.setdefault((part.label, prop), part.packed) != part.packed:
                raise StoreError(f"some vectors of {part.label} are packed, and others are not")
            for name, kind in ((prop, type_), (packed, "BLOB")):
                if name:
                    sides[part.label, name] = kind
                    side = identifier(name + SIDE)
                    engine.rows(f"ALTER TABLE {identifier(part.label)} ADD IF NOT EXISTS {side} {kind}")
            filled = _fill(engine, prop + SIDE, packed and packed + SIDE, part)
            if not part.table:
                written["embeddings"] = written.get("embeddings", 0) + filled
        places = _fill_tables(engine, tables)
        with engine.transaction():
            _swap(engine, run, embedding, list(sides), places)
            if weights:
                add_nodes(engine, "Weights", weight_rows(run.id, weights))
    engine.checkpoint()
    return written | {kind: table.num_rows for kind, table in tables.items()}


def update_answers(engine: Engine, run_id: str, answers: Iterable[Answers]) -> dict[str, int]:
    """`GraphStore.update_answers`."""
    found = engine.rows("MATCH (r:Run {`id`: $run}) RETURN r.`current`", {"run": run_id})
    check_current(run_id, found[0][0] if found else None)
    tables = _answer_tables(engine, run_id, answers)
    with filling(engine):
        places = _fill_tables(engine, tables)
        with engine.transaction():
            _delete_answers(engine, [run_id], list(tables))
            for name in places:
                put_in_place(engine, name)
    engine.checkpoint()
    return {kind: table.num_rows for kind, table in tables.items()}


def _fill_tables(engine: Engine, tables: Mapping[str, pa.Table]) -> list[str]:
    """Copies answers, by kind, into tables that are nobody's yet; returns the names that they will have."""
    places = []
    for kind, table in tables.items():
        if table.num_rows:
            places.append(next_part(engine.parts, kind))
            fill_aside(engine, edge_kind(kind), places[-1], table)
    return places


def erase_run(engine: Engine, run_id: str) -> int:
    """`GraphStore.erase_run`."""
    found = engine.rows("MATCH (r:Run {`id`: $run}) RETURN r.plugin, r.`current`", {"run": run_id})
    if not found:
        return 0
    plugin, current = found[0]
    removed = 1
    with engine.transaction():
        removed += _delete_answers(engine, [run_id])
        if current:
            embedding = embedding_property(plugin)
            for label in NODES:
                for prop in _vector_properties(engine, label, embedding):
                    query = f"MATCH (n:{identifier(label)}) WHERE n.{identifier(prop)} IS NOT NULL RETURN count(*)"
                    removed += int(engine.rows(query)[0][0]) if prop == embedding else 0
                    _drop(engine, label, prop)
        _delete_weights(engine, [run_id])
        engine.rows("MATCH (r:Run {`id`: $run}) DELETE r", {"run": run_id})
    return removed


def _checked(vectors: Vectors) -> np.ndarray:
    matrix = np.ascontiguousarray(vectors.matrix, dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != len(vectors.ids) or matrix.shape[1] == 0:
        raise StoreError(
            f"vectors of {vectors.label}: {len(vectors.ids)} ids and a matrix of shape {matrix.shape}"
        )
    return matrix


def _fill(engine: Engine, prop: str, packed: str, vectors: Vectors) -> int:
    """Sets a declared vector property, and another one as bytes unless `packed` is "", in slices, each checkpointed.

    Returns how many nodes have it now.
    """
    label, ids, matrix = vectors.label, vectors.ids.cast(pa.string()), _checked(vectors)
    dictionary = ids.dictionary_encode()
    rows = last_rows(np.asarray(dictionary.indices, dtype=np.int64))
    offsets, _ = lookup(engine, label, ids.take(pa.array(rows)))
    rows = rows[offsets >= 0][np.argsort(offsets[offsets >= 0], kind="stable")]  # in the order of the file
    for start in range(0, len(rows), SLICE):
        part = rows[start : start + SLICE]
        flat = pa.array(matrix[part].reshape(-1))
        columns = {
            "c0": ids.take(pa.array(part)),
            "c1": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
        }
        values = f"n.{identifier(prop)} = c1"
        if packed:
            columns["c2"] = pa.array(pack(matrix[part]), pa.binary())
            values += f", n.{identifier(packed)} = c2"
        engine.rows(
            f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) SET {values}", {"t": pa.table(columns)}
        )
        engine.checkpoint()
    return len(rows)


def _vector_properties(engine: Engine, label: str, embedding: str) -> list[str]:
    return [name for name in node_columns(engine, label) if is_vector_property(name, embedding)]


def _delete_weights(engine: Engine, runs: list[str]) -> None:
    engine.rows("MATCH (w:Weights) WHERE w.run IN $runs DELETE w", {"runs": runs})


def _drop(engine: Engine, label: str, prop: str) -> None:
    engine.rows(f"ALTER TABLE {identifier(label)} DROP {identifier(prop)}")


def _answer_tables(engine: Engine, run_id: str, answers: Iterable[Answers]) -> dict[str, pa.Table]:
    """The relationships to write by kind, checked: known ends, one row a key."""
    parts: dict[str, list[pa.Table]] = {}
    for part in answers:
        kind = edge_kind(part.kind)
        if not kind.answer:
            raise StoreError(
                f"{part.kind} is for what was observed: answers are {', '.join(_answer_kinds())}"
            )
        given = part.table.drop(["run"]) if "run" in part.table.column_names else part.table
        run_column = pa.array([run_id], pa.string()).take(pa.array(np.zeros(given.num_rows, dtype=np.int64)))
        checked = edge_table(kind, given.append_column("run", run_column))
        parts.setdefault(part.kind, []).append(plain_ends(checked))
    out = {}
    for name, tables in parts.items():
        kind = edge_kind(name)
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        columns = list(
            zip(resolve_ends(engine, kind, table, "error"), (np.zeros(0, np.int64),) * 2, strict=True)
        )
        for key in kind.key:
            columns.append(key_codes(table[key], table[key].slice(0, 0)))
        out[name] = table.take(pa.array(last_rows(combine(columns)[0])))
    return out


def _answer_kinds() -> list[str]:
    return [kind.type for kind in EDGES.values() if kind.answer]


def _delete_answers(engine: Engine, runs: list[str], kinds: list[str] | None = None) -> int:
    """Takes away the relationships of some runs, of all kinds unless given, and returns how many they were."""
    removed = 0
    for kind in _answer_kinds() if kinds is None else kinds:
        for run, name in list(runs_of_parts(engine, edge_kind(kind))):
            if run is None or run in runs:
                removed += count_edges(engine, name)
                drop_table(engine, name)
        # What people made by hand, and an earlier kgkit.
        match = f"MATCH ()-[r:{identifier(kind)}]->() WHERE r.run IN $runs"
        by_hand = int(engine.rows(f"{match} RETURN count(*)", {"runs": runs}, one_table=True)[0][0])
        if by_hand:
            removed += by_hand
            engine.rows(f"{match} DELETE r", {"runs": runs}, one_table=True)
    return removed


def _swap(
    engine: Engine,
    run: RunRecord,
    embedding: str,
    sides: Iterable[tuple[str, str]],
    places: Iterable[str],
) -> None:
    """The instant at which the new answers take the place of the old; within a transaction.

    sides: label and property of vectors that were filled; places: names of tables that were.
    """
    before = engine.rows("MATCH (r:Run) WHERE r.plugin = $plugin RETURN r.`id`", {"plugin": run.plugin})
    runs = sorted({run.id, *(row[0] for row in before)})
    _delete_answers(engine, runs)
    _delete_weights(engine, runs)
    engine.rows("MATCH (r:Run) WHERE r.plugin = $plugin SET r.`current` = false", {"plugin": run.plugin})
    engine.rows(
        "MERGE (r:Run {`id`: $id}) SET r.plugin = $plugin, r.created = $created, r.`current` = true, "
        "r.params = $params, r.metrics = $metrics, r.provenance = $provenance",
        {
            "id": run.id,
            "plugin": run.plugin,
            "created": run.created,
            "params": run.params,
            "metrics": run.metrics,
            "provenance": run.provenance,
        },
    )
    for name in places:
        put_in_place(engine, name)
    for label in NODES:
        for prop in _vector_properties(engine, label, embedding):
            _drop(engine, label, prop)
    for label, prop in sides:
        side = identifier(prop + SIDE)
        engine.rows(f"ALTER TABLE {identifier(label)} RENAME {side} TO {identifier(prop)}")
