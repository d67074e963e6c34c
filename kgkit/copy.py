"""A whole graph from one store to another, through the port alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.bulk import chosen, relationships
from kgkit.errors import StoreError
from kgkit.ledger import read_ledger, record
from kgkit.schema import EDGES, NODES, is_other_table
from kgkit.store.port import GraphStore, Vectors

# Settings of the target itself (its schema version, how it stores facts) are not overwritten by those of the source.
_ORDER = ("Relation", "Run", "Weights", "User", "Entity")
_MANY_ROWS = (
    2_000_000  # relationships an upsert: every upsert reads what is there, so few large ones are best
)


def copy_graph(
    source: GraphStore,
    target: GraphStore,
    *,
    merge: bool = False,
    bulk: str = "never",
    say: Callable[[str], None] = lambda message: None,
    report: Callable[[str, int], None] = lambda kind, rows: None,
) -> dict[str, int]:
    """Copies nodes, vectors and relationships, those that models wrote included; returns rows by label and type.

    A target that holds something is refused unless `merge`: then nodes and relationships of the same key are updated.
    bulk: "auto" takes the target's `bulk_loader` where it pays, "always" wherever it can, and `say` is told why.
    `report` hears of every batch. Raises StoreError when the target is not empty, is the source, or cannot be loaded
    in bulk although it always should.
    """
    if not merge and (held := _holds(target)):
        raise StoreError(f"{target.uri} is not empty ({held}): give another one, or --merge to add to it")
    if bulk != "never":
        loader, why = chosen(target, relationships(source), bulk)
        if why:
            say(why if loader is None else f"through Neo4j's offline importer, {why}")
        if loader is not None:
            return loader.load(source, say, report)
    done: dict[str, int] = {}

    def count(kind: str, rows: int) -> None:
        done[kind] = done.get(kind, 0) + rows
        report(kind, rows)

    settings = [t.filter(pc.not_equal(t["id"], "schema")) for t in source.read_nodes("Kgkit")]
    target.ensure_schema()  # its own settings come first
    known = _ids(target, "Kgkit")
    for table in settings:
        fresh = table.filter(pc.invert(pc.is_in(table["id"], known)))
        target.upsert_nodes("Kgkit", fresh)
        count("Kgkit", fresh.num_rows)
    for label in _ORDER:
        if label == "Relation" and merge and _ids(target, "Relation"):
            continue  # its facts bring their relations along, under the target's own numbers
        for table in source.read_nodes(label):
            vectors = [c for c in table.column_names if _is_vector(table[c].type)]
            target.upsert_nodes(label, table.drop(vectors))
            for name in vectors:
                count("vectors", _copy_vectors(target, label, name, table))
            count(label, table.num_rows)
    for kind in EDGES:
        for table in _gathered(source.read_edges(kind)):
            target.upsert_edges(kind, table)
            count(kind, table.num_rows)
    for table in source.read_nodes("Source"):  # last: they say that all the rest is there
        target.upsert_nodes("Source", table)
        count("Source", table.num_rows)
    if merge and read_ledger(target).totals:  # else it is the source's, and what was copied has to be as much
        record(target)
    return {kind: rows for kind, rows in done.items() if rows}


def _holds(store: GraphStore) -> str:
    """What a store holds besides its settings, in a few words; empty for an empty store."""
    counts = {
        label: sum(t.num_rows for t in store.read_nodes(label, [])) for label in NODES if label != "Kgkit"
    }
    return ", ".join(f"{n:,} {label}" for label, n in counts.items() if n)


def _ids(store: GraphStore, label: str) -> pa.Array:
    parts = [t["id"].combine_chunks() for t in store.read_nodes(label, [])]
    return pa.concat_arrays(parts) if parts else pa.array([], pa.string())


def _is_vector(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_) or pa.types.is_large_list(type_)
    return bool(is_list and pa.types.is_floating(type_.value_type))


def _copy_vectors(target: GraphStore, label: str, name: str, table: pa.Table) -> int:
    given = table.filter(pc.is_valid(table[name]))
    if given.num_rows == 0:
        return 0
    flat = np.asarray(pc.list_flatten(given[name]), dtype=np.float32)
    if len(flat) % given.num_rows:
        raise StoreError(f"{label}.{name} holds vectors of different lengths: they cannot be copied")
    ids = given["id"].combine_chunks()
    # Which models need them packed, their plugins know, and not the graph.
    packed = label == "Entity" and not is_other_table(name)
    return target.write_vectors(name, Vectors(label, ids, flat.reshape(given.num_rows, -1), packed=packed))


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Bounded tables joined to larger ones."""
    parts: list[pa.Table] = []
    for table in tables:
        parts.append(table)
        if sum(p.num_rows for p in parts) >= _MANY_ROWS:
            yield pa.concat_tables(parts, promote_options="default")
            parts = []
    if parts:
        yield pa.concat_tables(parts, promote_options="default")
