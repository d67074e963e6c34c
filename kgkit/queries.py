"""What models read from the graph, as named queries.

A plugin names the ones it needs (`Model.queries`); a store turns each into the fastest Cypher it has
(`GraphStore.edge_cypher` shows it). People may put their own Cypher in place of one, to narrow the subgraph.
Answers of models (COMPLETED, RECOMMENDED) have no query here, so they cannot come back as training input.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeQuery:
    """All relationships of one kind. `columns` are what people's own query in its place has to return."""

    name: str
    kind: str
    properties: tuple[str, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()


TRIPLES = EdgeQuery("triples", "FACT", ("rid",), ("head", "relation", "tail"), ("split", "time"))
PURCHASES = EdgeQuery(
    "interactions", "PURCHASED", ("count", "last", "rating"), ("user", "item"), ("count", "last", "rating")
)
