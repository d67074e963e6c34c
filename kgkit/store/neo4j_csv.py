"""A graph, read through the port, as the CSV files that Neo4j's offline importer takes.

Nodes have numbers: those that the source has for them, label by label, or else here from 0 on, in the files' order. These
are the importer's own for them ("actual"), so that it keeps no table of ids, and looks none up for the ends of
relationships: half of its time where nodes are millions. A text is quoted and a null is not, which is how the importer
tells an empty text from none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from kgkit import disk
from kgkit.arrays import Ints
from kgkit.errors import StoreError
from kgkit.schema import EDGES, NODES, PACKED, SCHEMA_VERSION, identifier, is_other_table, vector_property
from kgkit.store.neo4j_write import native_type, plain_column
from kgkit.store.port import NUMBER, GraphStore

BETWEEN = "\x1f"  # elements of a list, labels of a node: the separator that ASCII has for it
_OTHERWISE = "--bulk never writes it over Bolt"
_SCALARS = {"string": pa.string(), "long": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}


@dataclass
class Export:
    """What was written: `files` are the importer's arguments; the rest is to be found again after the import.

    `rows` counts by label and type, `longest` is the size in bytes of the longest value.
    """

    files: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    relationships: int = 0
    properties: int = 0
    longest: int = 0
    multiline: list[str] = field(default_factory=list)
    vectors: set[tuple[str, str]] = field(default_factory=set)  # label, property

    def arguments(self) -> list[str]:
        """Of `database import full`, to be run in the files' folder."""
        out = ["--id-type=actual", f"--array-delimiter=U+{ord(BETWEEN):04X}", *self.files]
        out.append(f"--read-buffer-size={max(4 << 20, 4 * self.longest)}")
        if self.multiline:
            out += [f"--multiline-fields={','.join(self.multiline)}", "--multiline-fields-format=v2"]
        return out


def export(
    source: GraphStore, folder: Path, relationship_types: str, report: Callable[[str, int], None]
) -> Export:
    """Writes all nodes and relationships of `source`; facts as `relationship_types` ("property", "native") says.

    `report` hears of every label and type once it is written. Raises StoreError for values that a CSV file cannot
    say, and for names that cannot be relationship types.
    """
    done = Export()
    numbered = source.numbered
    ends: dict[str, _Numbers] = {}
    free = 0  # the next number
    for label in NODES:
        if label == "Kgkit":
            tables = _settings(source, relationship_types)
        else:
            tables = source.read_nodes(label) if numbered is None else numbered.numbered_nodes(label)
        ends[label] = _Numbers(free)
        free = _nodes(done, folder, label, tables, ends[label], keep=numbered is None)
        report(label, done.rows.get(label, 0))
    rids = _rids(source)
    for kind in EDGES.values():
        both = ends[kind.source], ends[kind.target]
        native = relationship_types == "native" and kind.type == "FACT"
        read = source.read_edges if numbered is None else numbered.numbered_edges
        tables = (_edges(t, kind.type, both, rids, native) for t in _large(read(kind.type)))
        option = "--relationships=" if native else f"--relationships={kind.type}="
        rows = _write(done, folder, kind.type, option, tables)
        done.relationships += rows
        report(kind.type, rows)
    return done


# -- nodes -------------------------------------------------------------------------------------------------------


def _settings(source: GraphStore, relationship_types: str) -> Iterator[pa.Table]:
    """The nodes Kgkit: the new graph's own settings, and whatever else the source remembers."""
    own = {"schema": SCHEMA_VERSION, "relationship_types": relationship_types}
    more = {r["id"]: r["value"] for t in source.read_nodes("Kgkit", ["value"]) for r in t.to_pylist()}
    merged = {**more, **own}
    yield pa.table({"id": list(merged), "value": pa.array(list(merged.values()), pa.string())})


def _nodes(
    done: Export, folder: Path, label: str, tables: Iterable[pa.Table], ends: _Numbers, *, keep: bool
) -> int:
    """Writes the nodes of a label; returns the next number that none has. keep: `ends` have to know their ids."""
    free = ends.first

    def columns() -> Iterator[pa.Table]:
        nonlocal free
        for table in _short(tables):
            if NUMBER in table.column_names:
                numbers = pc.add(plain_column(table, NUMBER), ends.first)
                table = table.drop_columns([NUMBER])
            else:
                numbers = pa.array(np.arange(free, free + table.num_rows))
            free = max(free, 1 + (pc.max(numbers).as_py() or 0))
            done.nodes += table.num_rows
            if keep:
                ends.keep(plain_column(table, "id").cast(pa.string()))
            out = {":ID": numbers}
            if label == "Entity":
                item = (
                    pc.is_valid(plain_column(table, "item_id"))
                    if "item_id" in table.column_names
                    else pa.repeat(False, table.num_rows)
                )
                out[":LABEL"] = pc.if_else(item, f"Entity{BETWEEN}Item", "Entity")
            for name in table.column_names:
                identifier(name)
                header, column = _column(f"{label}.{name}", plain_column(table, name))
                out[f"{name}:{header}"] = column
                if header == "float[]":
                    done.vectors.add((label, name))
                    if label == "Entity" and name.startswith("embedding_") and not is_other_table(name):
                        packed = vector_property(name, PACKED)
                        out[f"{packed}:byte[]"] = _packed(plain_column(table, name))
            yield pa.table(out)

    _write(done, folder, label, "--nodes=" if label == "Entity" else f"--nodes={label}=", columns())
    return free


def _short(tables: Iterable[pa.Table], most: int = 32 << 20) -> Iterator[pa.Table]:
    """Tables in parts of so many bytes: vectors and bytes, written as text, take ten times as much."""
    for table in tables:
        rows = max(1, most * table.num_rows // max(1, table.nbytes))
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows)


def _column(what: str, column: pa.Array) -> tuple[str, pa.Array]:
    """The importer's type of a property, and the values as they are to be written."""
    type_ = column.type
    if pa.types.is_null(type_):
        return "string", column.cast(pa.string())
    if pa.types.is_binary(type_):
        given = [np.frombuffer(value, dtype=np.int8) for value in column.drop_null().to_pylist()]
        numbers = pa.array(np.concatenate([np.zeros(0, np.int8), *given])).cast(pa.string())
        return "byte[]", _joined(numbers, np.array([len(value) for value in given], dtype=np.int64), column)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return _lists(what, column)
    header = _header(what, type_)
    column = column.cast(_SCALARS[header])
    return header, _java_floats(column) if header == "double" else column


def _header(what: str, type_: pa.DataType) -> str:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "string"
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "long"
    if pa.types.is_floating(type_):
        return "double"
    raise StoreError(f"{what} holds values of type {type_}, which a bulk load cannot carry: {_OTHERWISE}")


def _java_floats(column: pa.Array) -> pa.Array:
    """Floats as they are, unless some are not finite: those have other names in Java."""
    if pc.all(pc.is_finite(column)).as_py() is not False:
        return column
    text = pc.replace_substring(column.cast(pa.string()), "inf", "Infinity")
    return pc.replace_substring(text, "nan", "NaN")


def _lists(what: str, column: pa.Array) -> tuple[str, pa.Array]:
    """Lists as texts. Floats are vectors: single precision, as `write_vectors` stores them."""
    given = column.drop_null()
    values = pc.list_flatten(given)
    floats = pa.types.is_floating(values.type)
    text = (_java_floats(values.cast(pa.float32())) if floats else values).cast(pa.string())
    lengths = pc.list_value_length(given).to_numpy(zero_copy_only=False)
    ambiguous = values.null_count or (lengths == 0).any()
    if not ambiguous and not floats:
        ambiguous = pc.any(pc.or_(pc.equal(text, ""), pc.match_substring(text, BETWEEN))).as_py()
    if ambiguous:
        raise StoreError(f"{what} holds empty lists, or empty or control characters in them: {_OTHERWISE}")
    header = "float[]" if floats else f"{_header(what, values.type)}[]"
    return header, _joined(text, lengths, column)


def _joined(texts: pa.Array, lengths: Ints, column: pa.Array) -> pa.Array:
    """Each list's texts as one; null where the column is. lengths: of the lists that are there."""
    offsets = pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), BETWEEN)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return joined.take(pa.array(np.cumsum(valid) - 1, mask=~valid))


def _packed(column: pa.Array) -> pa.Array:
    """Vectors as the bytes of their numbers in single precision, Java's, which have a sign."""
    given = column.drop_null()
    numbers = np.asarray(pc.list_flatten(given), dtype="<f4").view(np.int8)
    lengths = 4 * pc.list_value_length(given).to_numpy(zero_copy_only=False)
    return _joined(pa.array(numbers).cast(pa.string()), lengths, column)


# -- relationships -----------------------------------------------------------------------------------------------


class _Numbers:
    """Of nodes of a label, as the ends of relationships. first: what is added to those that the source has for them."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._kept: list[pa.Array] = []
        self._dictionary = self._rows = pa.array([], pa.string())

    def keep(self, ids: pa.Array) -> None:
        """Takes the ids, string [N], of nodes that are numbered in this order, `first` and on."""
        self._kept.append(ids)

    @functools.cached_property
    def _ids(self) -> pa.Array:
        return pa.concat_arrays([pa.array([], pa.string()), *self._kept])

    def of(self, column: pa.ChunkedArray, kind: str) -> pa.Array:
        """int64 [E], of nodes that are told by number or by id. Raises StoreError for ends that are no node."""
        if pa.types.is_integer(column.type):
            rows = column.combine_chunks()
        else:
            parts = [self._chunk(chunk) for chunk in column.chunks]
            rows = pa.concat_arrays([pa.array([], pa.int32()), *parts]).cast(pa.int64())
        if rows.null_count:
            raise StoreError(f"{rows.null_count:,} relationships {kind} have an end without an id")
        return pc.add(rows, self.first)

    def _chunk(self, ids: pa.Array) -> pa.Array:
        if not pa.types.is_dictionary(ids.type):
            return pc.index_in(ids.cast(pa.string()), self._ids)
        # All tables may share one: then each of its ids is looked up once, and not once a relationship.
        if not self._dictionary.equals(ids.dictionary):
            self._dictionary, self._rows = ids.dictionary, pc.index_in(ids.dictionary, self._ids)
        return self._rows.take(ids.indices).cast(pa.int32())


def _rids(source: GraphStore) -> tuple[pa.Array, pa.Array]:
    """Names of relations and their numbers."""
    tables = list(source.read_nodes("Relation", ["rid"]))
    if not tables:
        return pa.array([], pa.string()), pa.array([], pa.int64())
    table = pa.concat_tables(tables)
    return plain_column(table, "id").cast(pa.string()), plain_column(table, "rid").cast(pa.int64())


def _edges(
    table: pa.Table,
    kind: str,
    ends: tuple[_Numbers, _Numbers],
    rids: tuple[pa.Array, pa.Array],
    native: bool,
) -> pa.Table:
    out = {}
    for header, name, end in ((":START_ID", "head", ends[0]), (":END_ID", "tail", ends[1])):
        out[header] = end.of(table[name], kind)
    for name in table.column_names:
        if name in ("head", "tail", "rid"):
            continue
        column = plain_column(table, name)
        if name == "relation" and kind == "FACT":
            names = column.dictionary_encode()
            known = pc.index_in(names.dictionary, rids[0])
            if native:
                for relation in names.dictionary.to_pylist():
                    native_type(relation)
                out[":TYPE"] = column
                continue
            numbers = rids[1].take(known)
            if numbers.null_count or column.null_count:
                raise StoreError("some facts have no relation that the graph knows: ingest them again")
            out["rid:long"] = numbers.take(names.indices)
        header, values = _column(f"{kind}.{name}", column)
        out[f"{name}:{header}"] = values
    return pa.table(out)


def _large(tables: Iterator[pa.Table], rows: int = 500_000) -> Iterator[pa.Table]:
    """Tables joined to larger ones: each is matched with all ids, if nodes have no numbers, at a price of its own."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(t.num_rows for t in held) >= rows:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


# -- files -------------------------------------------------------------------------------------------------------


def _write(done: Export, folder: Path, name: str, option: str, tables: Iterable[pa.Table]) -> int:
    """One file; returns its rows. Nothing is written, and no argument made, for no rows."""
    rows, path = 0, folder / f"{name}.csv"
    writer: Any = None
    broken = False
    with disk.writing(path, "the files for Neo4j's importer"):
        try:
            for table in tables:
                if table.num_rows == 0:
                    continue
                if writer is None:
                    writer = pacsv.CSVWriter(path, table.schema)
                writer.write_table(table)
                rows += table.num_rows
                for header in table.column_names:
                    column = table[header]
                    if not header.startswith(":"):
                        done.properties += table.num_rows - column.null_count
                    if pa.types.is_string(column.type):
                        texts = pc.unique(column)  # relations and sources come again and again
                        done.longest = max(done.longest, pc.max(pc.binary_length(texts)).as_py() or 0)
                        broken = broken or pc.any(pc.match_substring_regex(texts, r"[\r\n]")).as_py() or False
        finally:
            if writer is not None:
                writer.close()
    if rows:
        done.files.append(option + path.name)
        done.rows[name] = rows
        if broken:
            done.multiline.append(path.name)
    return rows
