"""What the report of a run shows beyond its record: examples by name and a picture of its vectors.

Both need the model, and so the store as it was at the training; without it, `missing` says why they are not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kgkit.complete import answers
from kgkit.errors import KgkitError
from kgkit.evaluate.ranking import UserItems, csr_of, top_items
from kgkit.graph import TrainingGraph, Triples, distinct
from kgkit.missing import SIDES, Questions, Side
from kgkit.model import LinkPredictor, Model, Recommender
from kgkit.pipeline import restored
from kgkit.predict import named_nodes
from kgkit.report.charts import COLOURS, Series
from kgkit.run_files import damaged
from kgkit.run_shapes import NAMES, RANKING
from kgkit.store.open import open_store

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Doubles, Floats, Ints
    from kgkit.evaluate.splits import LabelledPairs, Split
    from kgkit.evaluate.triple_split import TripleSplit
    from kgkit.run import Run
    from kgkit.store.port import GraphStore

EXAMPLES = 15  # completions of each sort
ASKED = 2000  # test facts whose questions are asked for examples, drawn by the run's seed
PLACES = 10  # answers to a question among which the true one is looked for
USERS, TOP, BOUGHT = 5, 10, 12  # users shown, items recommended to each, purchases named
POINTS = 1500  # vectors drawn
_DRAW = 4  # of each seed, its own stream for every purpose
# score, side asked for, relation, what was given, best answer, place of the first true answer and that answer
_Best = tuple[float, Side, int, int, int, int | None, int]


@dataclass(frozen=True)
class Completion:
    """The best answer to a question of test facts, by name. `asked` is the end that was asked for.

    truth, place: of a wrong one, a test fact's answer and its place among the answers, None beyond PLACES.
    """

    head: str
    relation: str
    tail: str
    asked: Side
    score: float
    truth: str = ""
    place: int | None = None


@dataclass(frozen=True)
class Completions:
    """The most confident completions of both sorts, and of how many questions; `facts` of all test facts were asked."""

    right: list[Completion]
    wrong: list[Completion]
    right_total: int
    questions: int
    facts: int
    of: int


@dataclass(frozen=True)
class Recommended:
    """A user by name, what they bought in training and afterwards, and what a model says: (item, score, bought after)."""

    user: str
    bought: list[str]
    bought_total: int
    later: list[str]
    items: list[tuple[str, float, bool]]


@dataclass(frozen=True)
class Projection:
    """Vectors in the plane of their two widest directions. shares: of the variance, that each direction has."""

    groups: list[Series]
    shares: tuple[float, float]
    drawn: int
    of: int


@dataclass(frozen=True)
class RunFigures:
    """All that the page of a run says. relations, categories: rows of `ranking.json`, relations with their `name`."""

    record: dict[str, Any]
    trace: list[dict[str, Any]]
    relations: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    completions: Completions | None = None
    users: list[Recommended] = field(default_factory=list)
    projection: Projection | None = None
    missing: str = ""


def run_figures(run: Run, store: Any = None) -> RunFigures:
    """Reads a run and, where it can, brings its model back. store: as `open_store` takes it; None for the recorded one.

    Never raises a KgkitError for the store's or the model's sake: `missing` holds its message. Raises DamagedRun for
    what can be shown without them.
    """
    trace = run.trace()
    ranking = run.load_json("ranking.json", RANKING) or {"relations": [], "categories": []}
    names: Sequence[str] = run.load_json("relations.json", NAMES) or []
    found: dict[str, Any] = {}
    if run.record["status"] != "finished":
        found["missing"] = f"the run is {run.record['status']}"
    else:
        try:
            with open_store(run.store(store), read_only=True, create=False) as opened:
                model, graph, split = restored(opened, run)
                names = graph.relations.ids.to_pylist()
                found = _of_model(opened, model, graph, split, int(run.record["seed"] or 0))
        except KgkitError as error:
            found["missing"] = str(error)
    for row in ranking["relations"]:
        if row["relation"] < 0 or (names and row["relation"] >= len(names)):
            raise damaged(
                run.folder / "ranking.json", f"relation {row['relation']} is none of {len(names):,}"
            )
    rows = [
        {**row, "name": names[row["relation"]] if names else f"(relation {row['relation']})"}
        for row in ranking["relations"]
    ]
    return RunFigures(run.record, trace, rows, ranking["categories"], **found)


def _of_model(store: GraphStore, model: Model, graph: TrainingGraph, split: Any, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rng = np.random.default_rng([seed, _DRAW])
    if isinstance(model, LinkPredictor):
        found["completions"] = completions(store, model, graph, split, rng)
    elif isinstance(model, Recommender):
        found["users"] = recommended(store, model, graph, split, rng)
    vectors = model.embeddings()
    if "Entity" in vectors:
        known = split.seen if isinstance(model, LinkPredictor) else None
        labels, group = _groups(graph, vectors)
        found["projection"] = projection(store, graph, vectors, known, labels, group, rng)
    return found


# -- link predictors ---------------------------------------------------------------------------------------------


def completions(
    store: GraphStore,
    model: LinkPredictor,
    graph: TrainingGraph,
    split: TripleSplit,
    rng: np.random.Generator,
) -> Completions:
    """Asks both questions of test facts (of ASKED, drawn, if there are more) and takes the best answer to each.

    It is right when it is a test fact. Answers known from training and validation are left out, as in the metrics.
    """
    n, test = len(graph.entities), split.test
    rows = np.sort(rng.permutation(len(test))[:ASKED])
    parts = (split.train, split.valid)
    head, relation, tail = (
        np.concatenate([getattr(p, f) for p in parts]) for f in ("head", "relation", "tail")
    )
    known = Triples(head, relation, tail)
    truth: dict[tuple[Side, int, int], set[int]] = {}
    for h, r, t in zip(test.head.tolist(), test.relation.tolist(), test.tail.tolist(), strict=True):
        truth.setdefault(("tail", r, h), set()).add(t)
        truth.setdefault(("head", r, t), set()).add(h)
    best: list[_Best] = []
    for r in distinct(test.relation[rows]).tolist():
        some = rows[test.relation[rows] == r]
        for side in SIDES:
            given = distinct((test.head if side == "tail" else test.tail)[some])
            asked = Questions(r, side, given, np.arange(n), True)
            found = answers(model, asked, known, PLACES)
            ends = (found.head, found.tail) if side == "tail" else (found.tail, found.head)
            first: dict[int, tuple[int, float]] = {}
            place: dict[int, tuple[int, int]] = {}
            for g, answer, score, rank in zip(
                ends[0].tolist(), ends[1].tolist(), found.score.tolist(), found.rank.tolist(), strict=True
            ):
                if rank == 1:
                    first[g] = answer, score
                if g not in place and answer in truth[side, r, g]:
                    place[g] = int(rank), answer
            for g, (answer, score) in first.items():
                rank, true = place.get(g, (None, min(truth[side, r, g])))
                best.append((score, side, r, g, answer, rank, true))
    best.sort(key=lambda b: (-b[0], *b[1:5]))
    right = _once(b for b in best if b[5] == 1)
    wrong = _once(b for b in best if b[5] != 1)
    shown = [*right, *wrong]
    label = _names(store, graph, np.array([e for b in shown for e in (b[3], b[4], b[6])], dtype=np.int64))

    def named(b: _Best) -> Completion:
        score, side, r, g, answer, rank, true = b
        head, tail = (g, answer) if side == "tail" else (answer, g)
        relation = graph.relations.ids[r].as_py()
        more = (label[true], rank) if rank != 1 else ("", None)
        return Completion(label[head], relation, label[tail], side, score, *more)

    return Completions(
        [named(b) for b in right],
        [named(b) for b in wrong],
        sum(b[5] == 1 for b in best),
        len(best),
        len(rows),
        len(test),
    )


def _once(best: Iterable[_Best]) -> list[_Best]:
    """The first EXAMPLES, each fact once, whichever of its ends was asked for."""
    kept: dict[tuple[int, int, int], _Best] = {}
    for b in best:
        _, side, r, g, answer, *_ = b
        kept.setdefault((r, g, answer) if side == "tail" else (r, answer, g), b)
        if len(kept) == EXAMPLES:
            break
    return list(kept.values())


# -- recommenders ------------------------------------------------------------------------------------------------


def recommended(
    store: GraphStore, model: Recommender, graph: TrainingGraph, split: Split, rng: np.random.Generator
) -> list[Recommended]:
    """The best items for some users with test purchases, what they bought in training and validation left out."""
    before, later = _bought([split.train, split.valid], split), _bought([split.test], split)
    users = np.flatnonzero((before.counts() > 0) & (later.counts() > 0))
    users = np.sort(rng.permutation(users)[:USERS])
    items, scores = top_items(model, users, min(TOP, len(graph.items)), before, seed=model.config.seed)
    if model.logits:
        scores = (1 / (1 + np.exp(-scores.astype(np.float64)))).astype(np.float32)
    old, new = ([kind.of(users[i : i + 1]).items for i in range(len(users))] for kind in (before, later))
    every = graph.item_entity[np.concatenate([*old, *new, items[items >= 0]])] if len(users) else users
    label = _names(store, graph, every)
    name = [*map(label.get, graph.item_entity.tolist())]
    return [
        Recommended(
            str(graph.users.ids[user].as_py()),
            [str(name[i]) for i in old[row][:BOUGHT].tolist()],
            len(old[row]),
            [str(name[i]) for i in new[row][:BOUGHT].tolist()],
            [
                (str(name[i]), score, i in set(new[row].tolist()))
                for i, score in zip(items[row].tolist(), scores[row].tolist(), strict=True)
                if i >= 0
            ],
        )
        for row, user in enumerate(users.tolist())
    ]


def _bought(parts: Sequence[LabelledPairs], split: Split) -> UserItems:
    bought = [part.positives() for part in parts]
    user, item = (np.concatenate([getattr(p, f) for p in bought]) for f in ("user", "item"))
    return csr_of(user, item, split.users)


# -- vectors -----------------------------------------------------------------------------------------------------


def projection(
    store: GraphStore,
    graph: TrainingGraph,
    vectors: dict[str, Floats],
    known: Bools | None,
    labels: list[str],
    group: Ints,
    rng: np.random.Generator,
) -> Projection | None:
    """At most POINTS entities, and users where their vectors are as long, projected by principal components.

    known: bool [entities], those to draw from (the others were never trained); labels: names of groups; group: int64
    [entities (+ users)], whose numbers they are. None for fewer than three vectors, or vectors of one dimension.
    """
    n = len(graph.entities)
    table = np.concatenate([vectors["Entity"], vectors["User"]]) if len(group) > n else vectors["Entity"]
    rows = np.arange(len(table)) if known is None else np.flatnonzero(known)
    of = len(rows)
    rows = np.sort(rng.permutation(rows)[:POINTS])
    if len(rows) < 3 or table.shape[1] < 2:
        return None
    xy, shares = principal_plane(table[rows])
    named = _names(store, graph, rows[rows < n])
    users = graph.users.keys(rows[rows >= n] - n).to_pylist() if len(group) > n else []
    label = [*(named[row] for row in rows[rows < n].tolist()), *(f"user {user}" for user in users)]
    groups = []
    for i, name in enumerate(labels):
        at = np.flatnonzero(group[rows] == i)
        if len(at):
            x, y = (xy[at, axis].tolist() for axis in (0, 1))
            groups.append(Series(name, x, y, [label[p] for p in at.tolist()]))
    return Projection(groups, shares, len(rows), of)


def principal_plane(vectors: Floats) -> tuple[Doubles, tuple[float, float]]:
    """float32 [N, d], d >= 2 -> coordinates float64 [N, 2] and the shares of the variance that they hold.

    Of each direction the sign is chosen so that the coordinate that is largest in size is positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    xy = left[:, :2] * size[:2]
    xy *= np.where(xy[np.abs(xy).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    share = size[:2] ** 2 / max(float((size**2).sum()), np.finfo(float).tiny)
    return xy, (float(share[0]), float(share[1]))


def _groups(graph: TrainingGraph, vectors: dict[str, Floats]) -> tuple[list[str], Ints]:
    """Names of groups, and the group of each entity, and of each user where their vectors are as long, int64.

    With purchases: items, other entities, users. Without: by the relation of which an entity is most often the tail.
    """
    n = len(graph.entities)
    if len(graph.items):
        group = np.ones(n, dtype=np.int64)
        group[graph.item_entity] = 0
        user = vectors.get("User")
        if user is not None and user.shape[1] == vectors["Entity"].shape[1]:
            group = np.append(group, np.full(len(user), 2))
        return ["items", "other entities", "users"], group
    t, width = graph.triples, max(len(graph.relations), 1)
    pair, times = np.unique(t.tail * width + t.relation, return_counts=True)
    tail, relation = np.divmod(pair, width)
    order = np.lexsort(
        (-relation, times)
    )  # the last assignment stays: the most frequent, then the smaller id
    of = np.full(n, -1, dtype=np.int64)
    of[tail[order]] = relation[order]
    common = [r for r, _ in Counter(of[of >= 0].tolist()).most_common(COLOURS - 1)]
    place = {r: i for i, r in enumerate(common)}
    group = np.array([place.get(r, len(common)) for r in of.tolist()], dtype=np.int64)
    return [*(f"tail of {graph.relations.ids[r].as_py()}" for r in common), "others"], group


def _names(store: GraphStore, graph: TrainingGraph, rows: Ints) -> dict[int, str]:
    """Names of entities by dense id int64 [B]; an entity without a name by its id."""
    rows = distinct(rows)
    keys = graph.entities.keys(rows).to_pylist()
    nodes = named_nodes(store, keys) if keys else {}
    return {
        row: (nodes[key].name or key) if key in nodes else key
        for row, key in zip(rows.tolist(), keys, strict=True)
    }
