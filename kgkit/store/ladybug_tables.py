"""The graph's tables in the embedded engine, and Arrow tables made fit for them: types, names, keys."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kgkit.errors import StoreError
from kgkit.lazy import np, pa, pc
from kgkit.schema import EDGES, NODES, SCHEMA_VERSION, EdgeKind, NodeKind, identifier
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_parts import SIDE, TYPE_MACRO, next_part, parts_for, parts_of

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Ints

_ENGINE_TYPES = {"string": "STRING", "int64": "INT64", "float64": "DOUBLE", "bool": "BOOL", "binary": "BLOB"}
_ARROW_NAMES = {engine: arrow for arrow, engine in _ENGINE_TYPES.items()}

# Types have several tables, of which earlier kgkits do not know (or, in version 2, of facts' only): these have to keep off.
VERSION = "3"
_VERSIONS = (SCHEMA_VERSION, "2", VERSION)

# Functions of Cypher that the engine lacks; macros are stored with the graph.
_MACROS = {
    "TYPE": TYPE_MACRO,
    "TOINTEGER": "toInteger(x) AS CAST(x AS INT64)",
    "TOFLOAT": "toFloat(x) AS CAST(x AS DOUBLE)",
    "TOSTRING": "toString(x) AS CAST(x AS STRING)",
}


@functools.cache
def _numbered() -> pa.DataType:
    """Texts as a dictionary."""
    return pa.dictionary(pa.int32(), pa.string())


def node_kind(label: str) -> NodeKind:
    """The label's description. Raises StoreError for a label that is not of the schema."""
    if label not in NODES:
        raise StoreError(f"unknown label {label!r}: the graph has {', '.join(sorted(NODES))}")
    return NODES[label]


def pattern(kind: EdgeKind) -> str:
    """(a)-[r]->(b) with the kind's labels."""
    return f"(a:{identifier(kind.source)})-[r:{identifier(kind.type)}]->(b:{identifier(kind.target)})"


def edge_kind(kind: str) -> EdgeKind:
    """The relationship type's description. Raises StoreError for one that is not of the schema."""
    if kind not in EDGES:
        raise StoreError(f"unknown relationship type {kind!r}: the graph has {', '.join(sorted(EDGES))}")
    return EDGES[kind]


def create_tables(engine: Engine) -> None:
    """Makes tables and macros, and leaves those that are there. Raises StoreError for a graph of another version."""
    found = tables(engine)
    for node in NODES.values():
        if node.label not in found:
            columns = "".join(f", {identifier(p)} {_ENGINE_TYPES[t]}" for p, t in node.properties.items())
            engine.rows(
                f"CREATE NODE TABLE IF NOT EXISTS {identifier(node.label)}(`id` STRING PRIMARY KEY{columns})"
            )
    for edge in EDGES.values():
        if edge.type not in found:
            _create_edge_table(engine, edge, edge.type)
            continue
        for name in lacking(engine, edge):
            for table in edge_tables(engine, edge):
                engine.rows(
                    f"ALTER TABLE {identifier(table)} ADD {identifier(name)} {edge_columns(edge)[name]}"
                )
    if check_version(engine) == VERSION:
        return
    macros = {row[0].upper() for row in engine.rows("CALL SHOW_MACROS() RETURN *")}
    with contextlib.nullcontext() if engine.in_transaction else engine.transaction():
        for name, text in _MACROS.items():
            if name in macros:  # an earlier kgkit's
                engine.rows(f"DROP MACRO {name}")
            engine.rows(f"CREATE MACRO {text}")
        engine.rows("MERGE (k:Kgkit {id: 'schema'}) SET k.value = $v", {"v": VERSION})


def _create_edge_table(engine: Engine, kind: EdgeKind, name: str) -> None:
    columns = "".join(f", {identifier(p)} {t}" for p, t in edge_columns(kind).items())
    ends = f"FROM {identifier(kind.source)} TO {identifier(kind.target)}"
    engine.rows(f"CREATE REL TABLE IF NOT EXISTS {identifier(name)}({ends}{columns})")


def edge_tables(engine: Engine, kind: EdgeKind) -> tuple[str, ...]:
    """The tables of a relationship type (`kgkit.store.ladybug_parts`)."""
    return (kind.type, *parts_for(engine.parts, kind.type))


def count_edges(engine: Engine, name: str) -> int:
    """Relationships in one table of a type."""
    return int(engine.rows(f"MATCH ()-[r:{identifier(name)}]->() RETURN count(*)", one_table=True)[0][0])


def add_part(engine: Engine, kind: EdgeKind) -> str:
    """Makes one more table of a type that may have several, and returns its name."""
    name = next_part(engine.parts, kind.type)
    _create_edge_table(engine, kind, name)
    engine.parts = (*engine.parts, name)
    return name


def fill_aside(
    engine: Engine, kind: EdgeKind, name: str, table: pa.Table, *, few_pages: bool = False
) -> None:
    """Copies relationships into a table that is nobody's until `put_in_place` calls it `name`.

    When it returns, they are in the file. What a process leaves that is killed before, the next writer drops.
    table: columns head, tail (string ids), then properties.
    """
    aside = name + SIDE
    engine.rows(f"DROP TABLE IF EXISTS {identifier(aside)}")
    _create_edge_table(engine, kind, aside)
    names = [c for c in edge_columns(kind) if c in table.column_names]
    nodes = sum(engine.count(label) for label in {kind.source, kind.target})
    engine.copy(lambda: aside, table.select(["head", "tail", *names]), nodes, few_pages=few_pages)


def put_in_place(engine: Engine, name: str, instead_of: str | None = None) -> None:
    """Shows the table that `fill_aside` filled, and drops the one whose place it takes; within a transaction."""
    assert engine.in_transaction
    if instead_of is not None:
        drop_table(engine, instead_of)
    engine.rows(f"ALTER TABLE {identifier(name + SIDE)} RENAME TO {identifier(name)}")
    engine.parts = parts_of([*engine.parts, name])


def drop_table(engine: Engine, name: str) -> None:
    """Takes a relationship table away, and what it holds."""
    engine.rows(f"DROP TABLE {identifier(name)}")
    engine.parts = tuple(part for part in engine.parts if part != name)


@contextlib.contextmanager
def filling(engine: Engine) -> Iterator[None]:
    """Drops what was being filled when an error comes, if that can be done; the next writer does it otherwise."""
    drop_leftovers(engine)
    try:
        yield
    except BaseException:
        with contextlib.suppress(StoreError):
            drop_leftovers(engine)
        raise


def drop_leftovers(engine: Engine) -> None:
    """Drops tables and vector properties that a killed process was filling."""
    for name in tables(engine):
        if name.endswith(SIDE):
            engine.rows(f"DROP TABLE {identifier(name)}")
    for label in NODES:
        for name in node_columns(engine, label, side=True):
            if name.endswith(SIDE):
                engine.rows(f"ALTER TABLE {identifier(label)} DROP {identifier(name)}")


def tables(engine: Engine) -> set[str]:
    """Labels and relationship types that have a table."""
    return {row[1] for row in engine.rows("CALL SHOW_TABLES() RETURN *")}


def check_version(engine: Engine) -> str | None:
    """The schema version of a file; None where it has none yet.

    Raises StoreError for a file that is no graph of kgkit, or one of another schema version.
    """
    if "Kgkit" not in tables(engine):
        raise StoreError(
            f"{engine.path} is a database, but not a graph of kgkit: make one with `kgkit ingest`"
        )
    found = engine.rows("MATCH (k:Kgkit {id: 'schema'}) RETURN k.value")
    if found and found[0][0] not in _VERSIONS:
        raise StoreError(
            f"{engine.path} has schema version {found[0][0]}, this kgkit knows versions {', '.join(_VERSIONS)}: use the "
            "kgkit that wrote it, or ingest again"
        )
    return found[0][0] if found else None


def some_without_rid(engine: Engine) -> bool:
    """Whether a fact has none: those of people's own Cypher need not, all others have one."""
    if not engine.all_have_rids:
        found = engine.rows("MATCH (:Entity)-[r:FACT]->(:Entity) WHERE r.rid IS NULL RETURN 1 LIMIT 1")
        engine.all_have_rids = not found and not engine.read_only  # a reader does not know who writes
        return bool(found)
    return False


def edge_columns(kind: EdgeKind) -> dict[str, str]:
    """Properties of a relationship table with the engine's types."""
    columns = {p: _ENGINE_TYPES[t] for p, t in kind.properties.items()}
    if kind.type == "FACT":
        columns["rid"] = "INT64"  # small integer of the relation: extraction reads it 3x as fast as the name
    return columns


def lacking(engine: Engine, kind: EdgeKind) -> list[str]:
    """Properties that the table of a relationship type, made before the schema had them, does not have yet."""
    have = {row[1] for row in engine.rows(f"CALL TABLE_INFO('{kind.type}') RETURN *")}
    return [name for name in edge_columns(kind) if name not in have]


def node_columns(engine: Engine, label: str, *, side: bool = False) -> dict[str, str]:
    """Properties that nodes of a label have now, with the engine's types, without `id`.

    `side` adds those that are still being filled.
    """
    rows = engine.rows(f"CALL TABLE_INFO('{node_kind(label).label}') RETURN *")
    return {r[1]: r[2] for r in rows if r[1] != "id" and (side or not r[1].endswith(SIDE))}


def declare(engine: Engine, label: str, types: Mapping[str, str]) -> None:
    """Adds properties that an open label does not have yet. Raises StoreError for a closed label or a clash."""
    kind = node_kind(label)
    have = node_columns(engine, label)
    folded = {name.casefold(): name for name in ("id", *have)}
    for name, type_ in types.items():
        if name in have:
            continue
        if name.endswith(SIDE) or name.startswith("_"):
            raise StoreError(
                f"{name!r} cannot be a property: names with leading '_' and ending {SIDE!r} are taken"
            )
        if name.casefold() in folded:
            raise StoreError(
                f"{label} has a property {folded[name.casefold()]!r}, and the embedded engine does not tell it from "
                f"{name!r}: rename one of the two, or write to a Neo4j (an ingest or copy with --bulk never, as the "
                "bulk road goes through the embedded engine)"
            )
        if not kind.open and not (kind.vectors and type_.startswith("FLOAT[")):
            raise StoreError(f"{label} has no property {name!r}: it has {', '.join(kind.properties)}")
        engine.rows(f"ALTER TABLE {identifier(label)} ADD {identifier(name)} {type_}")
        folded[name.casefold()] = name


def engine_type(name: str, type_: pa.DataType) -> str | None:
    """The engine's type for an Arrow type; None for a column of nulls. Raises StoreError for types it cannot keep."""
    if pa.types.is_dictionary(type_):
        return engine_type(name, type_.value_type)
    if pa.types.is_null(type_):
        return None
    if pa.types.is_boolean(type_):
        return "BOOL"
    if pa.types.is_integer(type_):
        return "INT64"
    if pa.types.is_floating(type_):
        return "DOUBLE"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "STRING"
    if pa.types.is_binary(type_):
        return "BLOB"
    if pa.types.is_fixed_size_list(type_) and pa.types.is_floating(type_.value_type):
        return f"FLOAT[{type_.list_size}]"
    raise StoreError(
        f"property {name!r} has type {type_}: use string, int64, float64, bool or a vector of floats"
    )


def fit(name: str, column: pa.ChunkedArray, type_: str, *, numbered: bool = False) -> pa.Array:
    """A column in the Arrow type of the engine's `type_`, in one piece. Raises StoreError when a value has no place.

    With `numbered` texts that come as a dictionary stay one, which the engine's COPY takes.
    """
    if numbered and type_ == "STRING" and column.num_chunks and column.type == _numbered():
        return column.unify_dictionaries().combine_chunks()
    wanted = pa.type_for_alias(_ARROW_NAMES[type_]) if type_ in _ARROW_NAMES else None
    if wanted is None:
        size = int(type_.removesuffix("]").rpartition("[")[2] or 0)
        wanted = pa.list_(pa.float32(), size) if size else column.type
    try:
        fitted = column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(
            f"property {name!r} holds {type_} in the graph, and the new values are {column.type}: {error}"
        ) from None
    # to_numpy and the like want one chunk; combining no chunks would lose the type.
    return fitted.combine_chunks() if fitted.num_chunks else pa.array([], wanted)


def keys(name: str, table: pa.Table, *, numbered: bool = False) -> pa.Array:
    """A column of ids or keys as one string array. Raises StoreError when absent, or with nulls or empty strings.

    numbered: see `fit`.
    """
    if name not in table.column_names:
        raise StoreError(f"the table lacks the column {name!r}; it has {', '.join(table.column_names)}")
    column = fit(name, table[name], "STRING", numbered=numbered)
    texts = column.dictionary if column.type == _numbered() else column
    if column.null_count or (len(texts) and pc.min(pc.binary_length(texts)).as_py() == 0):
        raise StoreError(f"column {name!r} holds an id that is null or empty")
    return column


def codes(column: pa.Array, vocabulary: pa.Array) -> Ints:
    """Positions of values in a vocabulary; -1 for those that are not in it."""
    found = pc.index_in(column, vocabulary)
    return np.asarray(pc.fill_null(found, -1), dtype=np.int64)


def combine(columns: Sequence[tuple[Ints, Ints]]) -> tuple[
    Ints, Ints
]:  # fmt: skip
    """One int64 for each row of several small non-negative integers: equal if and only if all of them are.

    columns: pairs (of new rows [N], of stored rows [M]); returns the pair of combined keys.
    """
    new, old = columns[0]
    for more_new, more_old in columns[1:]:
        size = 1 + int(max(more_new.max(initial=0), more_old.max(initial=0)))
        if (1 + int(max(new.max(initial=0), old.max(initial=0)))) * size >= 2**62:
            both = np.unique(np.concatenate([new, old]), return_inverse=True)[1]
            new, old = both[: len(new)], both[len(new) :]
        new, old = new * size + more_new, old * size + more_old
    return new, old


def differs(new: pa.ChunkedArray, old: pa.ChunkedArray, rows: Ints, old_rows: Ints) -> Bools:
    """bool [M]: where a new value, in row `rows`, is given and is not the stored one, in row `old_rows`."""
    if pa.types.is_string(new.type) or pa.types.is_dictionary(new.type):
        # Relationships' strings repeat: comparing their numbers in a dictionary takes a fraction of the time.
        given: Bools = np.asarray(pc.is_valid(new), dtype=bool)[rows]
        now, before = shared_codes(new, old)
        given &= now[rows] != before[old_rows]
        return given
    return unequal(new.take(pa.array(rows)), old.take(pa.array(old_rows)))


def unequal(new: pa.ChunkedArray, old: pa.ChunkedArray) -> Bools:
    """bool [N]: where a new value is given and is not the stored one, in the same row. A given vector always counts."""
    given: Bools = np.asarray(pc.is_valid(new), dtype=bool)
    if not pa.types.is_fixed_size_list(new.type):
        given &= np.asarray(pc.fill_null(pc.not_equal(new, old), True), dtype=bool)
    return given


def shared_codes(new: pa.ChunkedArray, old: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """Small non-negative integers for the strings of two columns, equal where the strings are; 0 is null."""
    encoded = [c.dictionary_encode() for c in (*new.chunks, *old.chunks)]
    encoded = pa.chunked_array(encoded, _numbered()).unify_dictionaries()
    parts = [np.asarray(pc.fill_null(c.indices, -1), dtype=np.int64) for c in encoded.chunks]
    both = np.concatenate([np.zeros(0, dtype=np.int64), *parts]) + 1
    return both[: len(new)], both[len(new) :]


def positional(table: pa.Table) -> pa.Table:
    """Columns c0, c1, ..: names that can clash neither with variables nor with keywords."""
    return table.rename_columns([f"c{i}" for i in range(table.num_columns)]).combine_chunks()
