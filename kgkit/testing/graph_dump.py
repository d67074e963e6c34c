"""A whole graph as plain dictionaries, so that two graphs can be compared with `==`."""

from __future__ import annotations

from typing import Any

from kgkit.schema import EDGES, NODES
from kgkit.store.port import GraphStore

Dump = dict[str, dict[Any, dict[str, Any]]]


def dump(store: GraphStore) -> Dump:
    """Everything in a graph: {label: {id: properties}} and {type: {(source, target, *key): properties}}.

    Nulls are left out, as engines differ in whether they store them, and so is `rid`, which depends on the
    order in which relations were first seen. Raises AssertionError when a relationship is there twice.
    """
    out: Dump = {}
    for label in NODES:
        nodes = out.setdefault(label, {})
        for table in store.read_nodes(label):
            for row in table.to_pylist():
                key = row.pop("id")
                assert key not in nodes, f"{label} {key!r} is there twice"
                nodes[key] = _present(row)
    for kind in EDGES.values():
        edges = out.setdefault(kind.type, {})
        for table in store.read_edges(kind.type):
            for row in table.to_pylist():
                ends = (row.pop("head"), row.pop("tail"), *(row[k] for k in kind.key))
                assert ends not in edges, f"{kind.type} {ends} is there twice"
                edges[ends] = _present(row)
    return out


def difference(one: Dump, other: Dump) -> list[str]:
    """How two graphs differ, a line for each node or relationship that is not the same; empty when they are equal."""
    return [
        f"{kind} {key!r}: {one.get(kind, {}).get(key)} instead of {other.get(kind, {}).get(key)}"
        for kind in sorted(one.keys() | other.keys())
        for key in {**one.get(kind, {}), **other.get(kind, {})}
        if one.get(kind, {}).get(key) != other.get(kind, {}).get(key)
    ]


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None and k != "rid"}
