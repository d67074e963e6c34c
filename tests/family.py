"""A family tree as facts: a symmetric relation, two inverse ones and a composed one, which a model that works learns."""

from __future__ import annotations

import pyarrow as pa
from test_missing import graph_of

from kgkit.evaluate.triple_split import TripleSplit, split_triples
from kgkit.graph import TrainingGraph
from kgkit.store.port import GraphStore

ROOTS, CHILDREN = 4, 3
# Training that is alike for every model, whatever its defaults are.
PLAIN = {
    "optimiser": "adam", "learning_rate": 1e-3, "negatives": 1, "shared": False, "reciprocal": False, "n3": 0.0,
    "batch_size": 32, "dim": 8, "device": "cpu",
}  # fmt: skip


def family() -> list[tuple[str, str, str]]:
    """(head, relation, tail): 52 people of three generations, 228 facts."""
    facts = []
    for a in range(ROOTS):
        for b in range(CHILDREN):
            facts += [(f"p{a}{b}", "child_of", f"p{a}"), (f"p{a}", "parent_of", f"p{a}{b}")]
            facts += [(f"p{a}{b}", "sibling_of", f"p{a}{x}") for x in range(CHILDREN) if x != b]
            for c in range(CHILDREN):
                child, parent = f"p{a}{b}{c}", f"p{a}{b}"
                facts += [(child, "child_of", parent), (parent, "parent_of", child)]
                facts += [(child, "grandchild_of", f"p{a}")]
                facts += [(child, "sibling_of", f"p{a}{b}{x}") for x in range(CHILDREN) if x != c]
    return facts


def family_graph() -> tuple[TrainingGraph, TripleSplit]:
    """The tree as a training graph, split 8:1:1."""
    graph = graph_of(family())
    return graph, split_triples(graph, "random", seed=1)


def fill(store: GraphStore) -> None:
    """The tree into a store."""
    head, relation, tail = (pa.array(c, pa.string()) for c in zip(*family(), strict=True))
    store.upsert_edges("FACT", pa.table({"head": head, "tail": tail, "relation": relation}), missing="create")
