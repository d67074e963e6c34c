"""Quick answers from vectors that stand in the graph: who is near an entity, what completes a fact. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgkit.config import make_config, unknown_name
from kgkit.errors import ConfigError, PluginError
from kgkit.lazy import np
from kgkit.missing import Side
from kgkit.model import LinkPredictor
from kgkit.registry import load_model
from kgkit.schema import embedding_property, identifier, is_packed, is_vector_property, vector_property
from kgkit.store import weights

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.run import Run
    from kgkit.store.port import GraphStore
    from kgkit.train.kge_model import KGEModel

_BIAS = "entity_bias"  # the table of KGEModel.answers


@dataclass(frozen=True)
class Node:
    """An entity as people know it; name and item_id are empty where it has none."""

    id: str
    name: str = ""
    item_id: str = ""


@dataclass(frozen=True)
class Standing:
    """A run whose vectors stand in the graph."""

    id: str
    plugin: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """An answer to (h, r, ?) or (?, r, t). known: whether the graph has that fact; rank from 1, among all answers."""

    node: Node
    score: float
    rank: int
    known: bool


@dataclass(frozen=True)
class Question:
    """(given, relation, ?) for side "tail", (?, relation, given) for "head"; observed: only entities seen at that end."""

    given: Node
    relation: str
    side: Side
    most: int
    observed: bool


def standing_run(
    store: GraphStore, plugin: str | None = None, run: str | None = None, *, facts: bool = False
) -> Standing:
    """The run that answers: of a plugin, or by id (its beginning does), or the only one there is.

    facts: where several could answer, only models that predict facts count. Raises ConfigError when there is none, or
    more than one.
    """
    rows = [
        Standing(r[0], r[1], json.loads(r[2]))
        for r in store.query(
            "MATCH (r:Run) WHERE r.`current` = true RETURN r.id, r.plugin, r.params ORDER BY r.id"
        ).rows
    ]
    if not rows:
        raise ConfigError(
            f"{store.uri} has no embeddings yet: train a model first, such as `kgkit train --plugin distmult`"
        )
    found = [
        r for r in rows if (plugin is None or r.plugin == plugin) and (run is None or r.id.startswith(run))
    ]
    if facts and len(found) > 1:
        found = [r for r in found if _predicts_facts(r.plugin)] or found
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{r.plugin} ({r.id})" for r in rows)
    if found:
        raise ConfigError(
            f"several runs have their answers in {store.uri}: {there}; pick one with --plugin or --run"
        )
    wanted = f"run {run}" if run is not None else f"plugin {plugin}"
    raise ConfigError(
        f"no answers of {wanted} stand in {store.uri}, only of {there}: train it with "
        f"`kgkit train --plugin {plugin or 'NAME'}`"
    )


def _predicts_facts(plugin: str) -> bool:
    try:
        return issubclass(load_model(plugin), LinkPredictor)
    except PluginError:  # no longer installed
        return False


def find_entity(store: GraphStore, text: str) -> Node:
    """The entity with this id, else this item_id, else exactly this name. Raises ConfigError for none, or several."""
    # By id there is an index; the others are one look at all entities, those of that item_id first.
    for where in ("n.id = $text", "n.item_id = $text OR n.name = $text"):
        rows = store.query(
            f"MATCH (n:Entity) WHERE {where} RETURN n.id, n.name, n.item_id "
            "ORDER BY coalesce(n.item_id, '') = $text DESC, n.id LIMIT 6",
            {"text": text},
        ).rows
        nodes = [_node(row) for row in rows]
        for prop in ("id", "item_id", "name"):
            found = [n for n in nodes if getattr(n, prop) == text]
            if len(found) == 1:
                return found[0]
            if found:
                ids = ", ".join(n.id for n in found[:5]) + (", ..." if len(found) > 5 else "")
                raise ConfigError(f"several entities have the {prop} {text!r}: give one of their ids ({ids})")
    near = store.query(
        "MATCH (n:Entity) WHERE toLower(n.name) CONTAINS toLower($text) RETURN n.id, n.name, n.item_id "
        "ORDER BY size(n.name), n.id LIMIT 5",
        {"text": text},
    ).rows
    names = "; ".join(f"{n.name} ({n.id})" for n in map(_node, near))
    raise ConfigError(
        f"no entity has the id, item id or exact name {text!r}"
        + (f". Names that contain it: {names}" if names else "")
    )


def neighbours(store: GraphStore, node: Node, k: int, run: Standing) -> list[tuple[Node, float]]:
    """The k entities nearest to one by the cosine of a run's vectors, best first."""
    found = store.similar("Entity", node.id, k, embedding_property(run.plugin))
    named = named_nodes(store, [id for id, _ in found])
    return [(named[id], cosine) for id, cosine in found]


def predict(
    store: GraphStore,
    run: Standing,
    given: Node,
    relation: str,
    side: Side,
    *,
    top: int = 10,
    types: bool = True,
    new_only: bool = False,
    runs: Path = Path("runs"),
    tell: Callable[[str], None] = lambda message: None,
) -> list[Prediction]:
    """The best answers to (given, relation, ?), side "tail", or (?, relation, given), side "head".

    Candidates are the entities observed at that end of the relation; without `types` all that have a vector.
    `new_only` leaves out what the graph knows, and ranks the rest. A model that cannot answer from the
    graph does so from the run's folder in `runs`, and `tell` hears of it. Raises ConfigError for a relation or an entity
    without vectors, and for a model that does not predict facts.
    """
    cls = load_model(run.plugin)
    if not issubclass(cls, LinkPredictor):
        raise ConfigError(f"{run.plugin} is a {cls.task} model, which does not predict facts: try distmult")
    model = cls(make_config(cls.Config, run.parameters))
    known = _ends(store, relation, side, given)
    out = (known if new_only else set()) | ({given.id} - known)
    asked = Question(given, relation, side, most=top + len(out), observed=types)
    try:
        found = from_graph(store, model, run, asked)
    except KeyError:
        from kgkit.run import Run

        tell(f"not all weights of {run.plugin} are in the graph: answering from the folder of run {run.id}")
        found = from_model(store, Run.open(runs, run.id), asked)
    best = [(id, score) for id, score in found if id not in out][:top]
    named = named_nodes(store, [id for id, _ in best])
    return [Prediction(named[id], score, rank, id in known) for rank, (id, score) in enumerate(best, 1)]


def from_graph(
    store: GraphStore, model: LinkPredictor, run: Standing, asked: Question
) -> list[tuple[str, float]]:
    """The best answers by what the run wrote into the graph, with scores.

    Raises KeyError where that does not suffice: for a model whose equations are not KGEModel's, or an earlier kgkit's.
    """
    from kgkit.nn.similarity import paired
    from kgkit.train.kge_model import KGEModel

    if not isinstance(model, KGEModel):
        raise KeyError(run.plugin)
    prop, relation = embedding_property(run.plugin), asked.relation if asked.observed else None
    # First, as a server reads while the query is being made, and numpy imported.
    fetched = store.vectors_at(prop, relation, asked.side, bias=vector_property(prop, _BIAS))
    p: Any = _Tables(store, run, model, asked)
    biased = _BIAS in p
    first: Any = np.zeros(1, dtype=np.int64)  # the only row of these tables
    tail = asked.side == "tail"
    query: Any = model.tail_query(p, first, first) if tail else model.head_query(p, first, first)
    best: list[tuple[str, float]] = []
    for ids, p[model.tables()["Entity"]], more in fetched:
        if biased:
            p[_BIAS] = more
        candidates: Any = model.answers(p, slice(None), np.int64(0))
        best += _best(asked, ids, np.asarray(paired(model.similarity, query, candidates)))
    return _ordered(asked, best)


class _Tables(dict[str, Any]):
    """A model's tables as its equations take them, by name: with the rows of one entity and of one relation.

    Those that belong to no node are read when the first of them is asked for. Raises ConfigError when the entity or the
    relation has no vector of the run, KeyError for a table that the graph does not have.
    """

    def __init__(self, store: GraphStore, run: Standing, model: KGEModel, asked: Question) -> None:
        self._store, self._run = store, run
        embedding = embedding_property(run.plugin)
        rows = store.query(
            "MATCH (n:Entity), (r:Relation) WHERE n.id = $id AND r.id = $relation RETURN n, r",
            {"id": asked.given.id, "relation": asked.relation},
        ).rows
        ends = zip(("Entity", "Relation"), (asked.given.id, asked.relation), strict=True)
        for (label, id), node in zip(ends, next(iter(rows), ({}, {})), strict=True):
            if embedding not in node:
                raise _no_vector(store, id, run, asked)
            for name, vector in node.items():
                if not is_vector_property(name, embedding) or is_packed(name):
                    continue
                table = name.removeprefix(embedding).removeprefix(".") or model.tables()[label]
                self[table] = np.array([vector], dtype=np.float32)
                if label == "Relation" and model.config.reciprocal:  # both stand beside each other
                    self[table] = np.concatenate(np.split(self[table], 2, axis=1))

    def __missing__(self, name: str) -> Any:
        self.update(weights.read(self._store, self._run.id))
        return dict(self)[name]


def _no_vector(store: GraphStore, id: str, run: Standing, asked: Question) -> ConfigError:
    """Why there is none: no such relation, or none when the run was trained."""
    names = [row[0] for row in store.query("MATCH (r:Relation) RETURN r.id ORDER BY r.id").rows]
    if asked.relation not in names:
        return ConfigError(unknown_name("relation", asked.relation, names))
    return ConfigError(
        f"{id!r} has no vector of run {run.id}: its facts came later, or were left out; train again"
    )


def from_model(store: GraphStore, run: Run, asked: Question) -> list[tuple[str, float]]:
    """The same by torch, from the run's folder, for every model, in seconds.

    Raises ConfigError when the graph has changed since the run.
    """
    import torch

    from kgkit.nn.similarity import crossed
    from kgkit.pipeline import restored

    model, graph, _ = restored(store, run)
    assert isinstance(model, LinkPredictor)
    entity, rel = (
        torch.tensor([m.index(name)])
        for m, name in ((graph.entities, asked.given.id), (graph.relations, asked.relation))
    )
    query = model.tail_queries(entity, rel) if asked.side == "tail" else model.head_queries(rel, entity)
    candidates = model.candidates(int(rel) if model.relational else None)
    scores = crossed(model.similarity, query, candidates)[0].float().cpu().numpy()
    ids = graph.entities.ids.to_pylist()
    if not asked.observed:
        return _best(asked, ids, scores)
    observed = _ends(store, asked.relation, asked.side)
    rows = [row for row, id in enumerate(ids) if id in observed]
    return _best(asked, [ids[row] for row in rows], scores[rows])


def _best(asked: Question, ids: list[str], scores: Floats) -> list[tuple[str, float]]:
    """The best ids with their scores, float32 [N]."""
    rows = np.flatnonzero(scores == scores)
    if len(rows) > asked.most:  # all that are as good as the last
        rows = rows[scores[rows] >= np.partition(scores[rows], -asked.most)[-asked.most]]
    return _ordered(asked, [(ids[row], float(scores[row])) for row in rows.tolist()])


def _ordered(asked: Question, scored: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The best of them, the best first. Equal scores draw lots, by a hash of question and answer."""
    question = f"{asked.given.id}\0{asked.relation}\0{asked.side}\0"

    def place(answer: tuple[str, float]) -> tuple[float, bytes]:
        lot = hashlib.blake2b((question + answer[0]).encode(errors="surrogatepass"), digest_size=8)
        return -answer[1], lot.digest()

    return sorted(scored, key=place)[: asked.most]


def _ends(store: GraphStore, relation: str, side: Side, given: Node | None = None) -> set[str]:
    """The ids observed at an end of a relation; with `given`, of facts that have it at the other end."""
    native = store.capabilities.relationship_types == "native"
    type_ = identifier(relation) if native else "FACT"
    asked, other = ("b", "a") if side == "tail" else ("a", "b")
    where = [] if native else ["f.relation = $relation"]
    where += [] if given is None else [f"{other}.id = $given"]
    query = f"MATCH (a:Entity)-[f:{type_}]->(b:Entity) " + (f"WHERE {' AND '.join(where)} " if where else "")
    params: dict[str, Any] = {} if native else {"relation": relation}
    params |= {} if given is None else {"given": given.id}
    # One list instead of rows, each of which costs the driver as much as a hundred strings.
    return {
        id for (ids,) in store.query(f"{query}RETURN collect(DISTINCT {asked}.id)", params).rows for id in ids
    }


def named_nodes(store: GraphStore, ids: Sequence[str]) -> dict[str, Node]:
    """Entities by id."""
    if not ids:
        return {}
    rows = store.query(
        "MATCH (n:Entity) WHERE n.id IN $ids RETURN n.id, n.name, n.item_id", {"ids": list(ids)}
    ).rows
    return {row[0]: _node(row) for row in rows}


def _node(row: Sequence[Any]) -> Node:
    return Node(row[0], row[1] or "", row[2] or "")
