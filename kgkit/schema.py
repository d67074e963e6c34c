"""The graph's labels, relationship types, keys and properties: the one place that names them.

    (:User {id}) -[:PURCHASED {source, count, first, last, rating}]-> (:Entity {id, name, item_id, ..})
        name: what people see, of an item its title; entity_name: the entity's own name, where the title is another;
        name_of: whose an entity's name is, "item" or "both" alike; nothing where it is its own (kgkit.names)
    (:Entity) -[:FACT {relation, rid, source, split, time}]-> (:Entity)
    (:User)   -[:HAS_ATTRIBUTE {relation, source}]-> (:Entity)     what is known of people: age group, region
    (:Entity) -[:COMPLETED {relation, score, probability, rank, run}]-> (:Entity)
    (:User)   -[:RECOMMENDED {score, rank, run}]-> (:Entity)
    (:Run {id, plugin, created, current, params, metrics, provenance})
    (:Weights {id, run, name, shape, part, data})     what a run's model needs beside vectors of nodes (kgkit.store.weights)
    (:Relation {id, rid})     the vocabulary of FACT, with the small integers that extraction reads
    (:Source {id, connector, fingerprint, rows, steps})     what was ingested to its end, so that it is not done twice;
        {partial, records}: of what, and how far, an ingest has come that is not at its end
    (:Kgkit {id, value})      settings of the graph itself: schema version, how facts are stored

Vectors of nodes are properties: `embedding_<plugin>`, and `embedding_<plugin>.<table>` of what else a model has for each
node (`vector_property`).

`source` is the id of the Source that told of a relationship. Of a fact that came with a benchmark's or a clock's label,
`split` is train, valid or test, and `time` is seconds since 1970.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kgkit.errors import StoreError

SCHEMA_VERSION = "1"


@dataclass(frozen=True)
class NodeKind:
    """A label whose nodes are keyed by string `id`. `properties` maps fixed ones to "string", "int64", "float64", "bool"
    or "binary"."""

    label: str
    properties: dict[str, str]
    open: bool = False  # people's own attributes (features) may be added
    vectors: bool = False  # models may put embeddings there


@dataclass(frozen=True)
class EdgeKind:
    """A relationship type. Two edges are the same if ends and `key` properties are equal."""

    type: str
    source: str
    target: str
    key: tuple[str, ...]
    properties: dict[str, str]  # includes the key
    answer: bool = False  # written by models: never read by a training extraction
    rare: tuple[str, ...] = ()  # properties that most graphs do not have, and that none pays for then


NODES = {
    n.label: n
    for n in (
        NodeKind("User", {}, open=True, vectors=True),
        NodeKind(
            "Entity",
            {"name": "string", "item_id": "string", "entity_name": "string", "name_of": "string"},
            open=True,
            vectors=True,
        ),
        NodeKind("Relation", {"rid": "int64"}, vectors=True),
        NodeKind(
            "Run",
            {
                "plugin": "string",
                "created": "string",
                "current": "bool",
                "params": "string",
                "metrics": "string",
                "provenance": "string",
            },
        ),
        NodeKind(
            "Weights",
            {"run": "string", "name": "string", "shape": "string", "part": "int64", "data": "binary"},
        ),
        NodeKind(
            "Source",
            {
                "connector": "string",
                "fingerprint": "string",
                "rows": "int64",
                "steps": "string",
                "partial": "string",
                "records": "int64",
            },
        ),
        NodeKind("Kgkit", {"value": "string"}),
    )
}

EDGES = {
    e.type: e
    for e in (
        EdgeKind(
            "FACT",
            "Entity",
            "Entity",
            ("relation",),
            {"relation": "string", "source": "string", "split": "string", "time": "int64"},
            rare=("split", "time"),
        ),
        EdgeKind(
            "HAS_ATTRIBUTE", "User", "Entity", ("relation",), {"relation": "string", "source": "string"}
        ),
        EdgeKind(
            "PURCHASED",
            "User",
            "Entity",
            ("source",),
            {"source": "string", "count": "int64", "first": "int64", "last": "int64", "rating": "float64"},
        ),
        EdgeKind(
            "COMPLETED",
            "Entity",
            "Entity",
            ("relation", "run"),
            {
                "relation": "string",
                "score": "float64",
                "probability": "float64",
                "rank": "int64",
                "run": "string",
            },
            answer=True,
        ),
        EdgeKind(
            "RECOMMENDED",
            "User",
            "Entity",
            ("run",),
            {"score": "float64", "rank": "int64", "run": "string"},
            answer=True,
        ),
    )
}

SPLITS = ("train", "valid", "test")  # what FACT.split may say
# Bytes of UTF-8 that an id or the name of a relation may have, `item:` included.
# A server's index took 8,160 and refused 8,167.
MAX_ID_BYTES = 8_000
ITEM_PREFIX = "item:"  # id of an item that no alignment names (yet)


def embedding_property(plugin: str) -> str:
    """The node property that holds a plugin's vectors, e.g. `embedding_kgnn_ls`."""
    return "embedding_" + re.sub(r"\W", "_", plugin)


PACKED = "packed"  # table of the vectors once more, as bytes of float32, beside those that a server stores as numbers


def is_packed(prop: str) -> bool:
    """Whether a property holds vectors as bytes."""
    return is_other_table(prop) and prop.endswith(f".{PACKED}")


def vector_property(embedding: str, table: str = "") -> str:
    """The node property of another table of the model whose vectors are in `embedding`, e.g. a bias; "": of these."""
    return f"{embedding}.{table}" if table else embedding


def is_other_table(prop: str) -> bool:
    """Whether a vector property is that of another table than the embedding."""
    return prop.startswith("embedding_") and "." in prop


def is_vector_property(name: str, embedding: str) -> bool:
    """Whether a property holds vectors of the model whose embeddings are in `embedding`."""
    return name == embedding or name.startswith(f"{embedding}.")


_IDENTIFIER = re.compile(r"[\w./:\-]+")


def identifier(name: str) -> str:
    """Quotes a label, relationship type or property name for Cypher: the only function that may do so.

    An allow-list, because Cypher decodes unicode escapes before it parses, so that doubling back-ticks alone can be
    broken out of. Raises StoreError for anything else.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be used as a name in the graph: use letters, digits, '_', '.', '/', ':' and '-'"
        )
    return f"`{name}`"
