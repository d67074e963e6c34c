"""Completion: the facts that a graph lacks, as a link predictor sees them, with probabilities."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kgkit.config import unknown_name
from kgkit.errors import ConfigError
from kgkit.evaluate.calibration import METHODS, brier, calibrate, expected_calibration_error
from kgkit.evaluate.ranking import UserItems, best_items, csr_of
from kgkit.graph import Triples
from kgkit.lazy import np, torch
from kgkit.missing import SIDES, Questions, Side, Slots
from kgkit.nn.similarity import crossed

if TYPE_CHECKING:
    import pyarrow as pa

    from kgkit.arrays import Bools, Doubles, Floats, Ints
    from kgkit.evaluate.triple_split import TripleSplit
    from kgkit.graph import TrainingGraph
    from kgkit.model import LinkPredictor

log = logging.getLogger(__name__)

_BYTES_A_SCORE = 48  # of a score itself, its sort key and what is made on the way


@dataclass(frozen=True)
class CompletionOptions:
    """What is asked. relations: names, all when empty; top: answers kept per question; memory: bytes of scores at once.

    types, all_heads: see `kgkit.missing.Slots.questions`. min_score and min_probability leave answers out.
    """

    relations: tuple[str, ...] = ()
    side: Literal["tail", "head", "both"] = "tail"
    top: int = 5
    min_score: float | None = None
    min_probability: float | None = None
    types: bool = True
    all_heads: bool = False
    calibration: Literal["platt", "isotonic", "none"] = "platt"
    memory: int = 512 << 20

    def __post_init__(self) -> None:
        for name, known in (("side", (*SIDES, "both")), ("calibration", (*METHODS, "none"))):
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(f"--{name}", getattr(self, name), known))
        if self.top < 1:
            raise ConfigError(f"--top must be at least 1, got {self.top}")
        if self.min_probability is not None and not 0 <= self.min_probability <= 1:
            raise ConfigError(f"--min-probability must be between 0 and 1, got {self.min_probability:g}")
        if self.min_probability is not None and self.calibration == "none":
            raise ConfigError("--min-probability needs --calibration platt or isotonic")


@dataclass(frozen=True)
class Found:
    """Answers as dense ids: head, relation, tail, rank (from 1) int64 [N]; score float64 [N]."""

    head: Ints
    relation: Ints
    tail: Ints
    score: Doubles
    rank: Ints

    def __len__(self) -> int:
        return len(self.head)

    def take(self, rows: Ints | Bools) -> Found:
        return Found(self.head[rows], self.relation[rows], self.tail[rows], self.score[rows], self.rank[rows])


@dataclass(frozen=True)
class Completion:
    """Completed facts by dense id, the likeliest first, and what was counted on the way.

    probability: float64 [N], or None. figures: JSON, as it goes into the run's record.
    """

    found: Found
    probability: Doubles | None
    figures: dict[str, Any] = field(default_factory=dict)

    def table(self, graph: TrainingGraph) -> pa.Table:
        """As `Answers("COMPLETED", ...)` wants it: head, relation, tail (string ids), score, rank, probability."""
        import pyarrow as pa

        f = self.found
        columns = {
            "head": graph.entities.keys(f.head),
            "relation": graph.relations.keys(f.relation),
            "tail": graph.entities.keys(f.tail),
            "score": f.score,
            "rank": f.rank,
        }
        if self.probability is not None:
            columns["probability"] = self.probability
        return pa.table(columns)


def complete(
    model: LinkPredictor,
    graph: TrainingGraph,
    split: TripleSplit,
    options: CompletionOptions = CompletionOptions(),
    tell: Callable[[str], None] = lambda message: None,
) -> Completion:
    """The best answers to all questions that the graph leaves open about some relations.

    Facts that the graph has, whatever part of the split they are in, are never answers; nor is an entity that no
    training fact names, since its vector is as it was drawn. `rank` is a fact's place among the answers to its
    question. A fact that both sides find is kept once, as the likelier says.

    The probability of an answer: the share of answers of such a score that turn out right when the same is asked of
    the heads (or tails) of validation facts, with these facts hidden and all else that the graph knows left out. So it
    speaks of heads that do have such a fact, counts as wrong what is true and nowhere in the graph, and is as honest as
    validation facts are like missing ones. Its Brier score and expected calibration error are measured on test facts.

    Raises ConfigError for a relation that the graph does not have, and for --min-probability when there are too few
    validation facts for probabilities; without it they are left out with a warning.
    """
    slots = Slots(graph, split.seen)
    asked: tuple[Side, ...] = SIDES if options.side == "both" else (options.side,)
    parts: list[Found] = []
    chances: list[Doubles | None] = []
    figures: dict[str, Any] = {"questions": 0, "relations": {}, "calibration": {}}
    unseen = len(graph.entities) - int(split.seen.sum())
    figures["entities_without_training_facts"] = unseen
    relations = _relations(graph, options.relations)
    for side in asked:
        chance, figures["calibration"][side] = _calibrated(
            model, graph, split, slots, relations, side, options
        )
        if chance is None and options.calibration != "none":
            if options.min_probability is not None:
                raise ConfigError(f"--min-probability: {figures['calibration'][side]['why']}")
            log.warning("no probabilities for %ss: %s", side, figures["calibration"][side]["why"])
        for relation in relations:
            name = graph.relations.ids[relation].as_py()
            tell(f"{name}: {side}s")
            questions = slots.questions(relation, side, types=options.types, all_heads=options.all_heads)
            found = answers(model, questions, graph.triples, options.top, options.memory)
            figures["questions"] += len(questions)
            counts = figures["relations"].setdefault(name, {})
            counts[f"{side}_questions"], counts[f"{side}_candidates"] = (
                len(questions),
                len(questions.candidates),
            )
            p = chance(found.score) if chance else None
            keep = np.ones(len(found), dtype=bool)
            if options.min_score is not None:
                keep &= found.score >= options.min_score
            if p is not None and options.min_probability is not None:
                keep &= p >= options.min_probability
            parts.append(found.take(keep))
            chances.append(None if p is None else p[keep])
    found, p = _joined(parts, chances, graph)
    figures["completed"] = len(found)
    counted = np.bincount(found.relation, minlength=len(graph.relations))
    for relation in relations:
        figures["relations"][graph.relations.ids[relation].as_py()]["completed"] = int(counted[relation])
    return Completion(found, p, figures)


def answers(
    model: LinkPredictor, questions: Questions, known: Triples, top: int, memory: int = 512 << 20
) -> Found:
    """The best `top` answers to each question, without facts that are known. Equal scores draw lots by the model's seed.

    memory: bytes of scores, and what ranking needs beside them, that are held at once.
    """
    q, c = len(questions), len(questions.candidates)
    best = min(top, c)
    items, scores = np.full((q, best), -1, dtype=np.int64), np.zeros((q, best), dtype=np.float32)
    if q and c:
        mask = _mask(questions, known)
        with torch.no_grad():
            candidates = model.candidates(questions.relation if model.relational else None)
            candidates = candidates.take(torch.from_numpy(questions.candidates).to(candidates.table.device))
            # The modulus compares element by element, and so holds a vector a score.
            a_score = _BYTES_A_SCORE + (
                16 * candidates.table.shape[1] if model.similarity == "modulus" else 0
            )
            block = max(1, memory // (a_score * c))
            for at in range(0, q, block):
                rows = np.arange(at, min(at + block, q))
                items[rows], scores[rows] = _block(model, questions, rows, candidates, best, mask.of(rows))
    there = (items >= 0) & np.isfinite(scores)
    row, place = np.nonzero(there)
    given, answer = questions.given[row], questions.candidates[items[there]]
    head, tail = (given, answer) if questions.side == "tail" else (answer, given)
    relation = np.full(len(row), questions.relation, dtype=np.int64)
    return Found(head, relation, tail, scores[there].astype(np.float64), place + 1)


def _block(
    model: LinkPredictor, questions: Questions, rows: Ints, candidates: Any, best: int, mask: UserItems
) -> tuple[Ints, Floats]:
    """The best candidates (places among them) of some questions, and their scores: [B, best] each."""
    given = torch.from_numpy(questions.given[rows])
    relation = torch.full_like(given, questions.relation)
    ask = (
        model.tail_queries(given, relation)
        if questions.side == "tail"
        else model.head_queries(relation, given)
    )
    found = crossed(model.similarity, ask, candidates).float()
    asking = questions.given[rows] * 2 + (questions.side == "head")
    places, scores = best_items(found, best, asking, model.config.seed + questions.relation, mask)
    return places.cpu().numpy(), scores.cpu().numpy()


def _mask(questions: Questions, known: Triples) -> UserItems:
    """By question, the places of the candidates that are no answers: known facts, and perhaps itself."""
    given, answer = questions.facts(known)
    if not questions.reflexive:
        given, answer = (np.concatenate([ends, questions.given]) for ends in (given, answer))
    row, asked = _places(questions.given, given)
    place, there = _places(questions.candidates, answer)
    both = asked & there
    return csr_of(row[both], place[both], len(questions))


def _places(ids: Ints, wanted: Ints) -> tuple[Ints, Bools]:
    """Where ids [W] are among ascending ones [N], int64 [W], and whether they are, bool [W]."""
    at = np.minimum(np.searchsorted(ids, wanted), max(len(ids) - 1, 0))
    return at, (ids[at] == wanted if len(ids) else np.zeros(len(wanted), dtype=bool))


def _relations(graph: TrainingGraph, names: Sequence[str]) -> list[int]:
    known: list[str] = graph.relations.ids.to_pylist()
    index = {name: i for i, name in enumerate(known)}
    for name in names:
        if name not in index:
            raise ConfigError(unknown_name("relation", name, known))
    return sorted({index[name] for name in names}) if names else list(range(len(known)))


# -- probabilities -----------------------------------------------------------------------------------------------


def _calibrated(
    model: LinkPredictor,
    graph: TrainingGraph,
    split: TripleSplit,
    slots: Slots,
    relations: Iterable[int],
    side: Side,
    options: CompletionOptions,
) -> tuple[Callable[[Doubles], Doubles] | None, dict[str, Any]]:
    """A side's function from score to probability, fitted on validation facts, and how good it is on test facts."""
    if options.calibration == "none":
        return None, {"method": "none"}
    relations = list(relations)
    judged = {
        part: _judged(model, graph, getattr(split, part), split.seen, slots, relations, side, options)
        for part in ("valid", "test")
    }
    scores, right = judged["valid"]
    figures: dict[str, Any] = {
        "method": options.calibration,
        "valid_answers": len(right),
        "valid_right": int(right.sum()),
    }
    try:
        chance = calibrate(options.calibration, scores, right)
    except ConfigError as error:
        return None, {**figures, "why": str(error)}
    scores, right = judged["test"]
    figures |= {"test_answers": len(right), "test_right": int(right.sum())}
    if len(right):
        p = chance(scores)
        figures["brier"] = round(brier(p, right), 6)
        # What always saying the share of right answers would get: above it, the probabilities are worth nothing.
        figures["brier_of_the_mean"] = round(float(right.mean() * (1 - right.mean())), 6)
        figures["ece"] = round(expected_calibration_error(p, right), 6)
    return chance, figures


def _judged(
    model: LinkPredictor,
    graph: TrainingGraph,
    part: Triples,
    seen: Bools,
    slots: Slots,
    relations: Iterable[int],
    side: Side,
    options: CompletionOptions,
) -> tuple[Doubles, Bools]:
    """The answers when a part's facts are asked for as completion would: scores float64 [N], right bool [N]."""
    n, r = len(graph.entities), len(graph.relations)
    held = _keys(part, n, r)
    known = graph.triples
    hidden = np.isin(_keys(known, n, r), held)
    others = Triples(known.head[~hidden], known.relation[~hidden], known.tail[~hidden])
    scores, right = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for relation in relations:
        asked = slots.questions(relation, side, types=options.types, all_heads=True)
        given = np.unique(asked.facts(part)[0])
        questions = Questions(relation, side, given[seen[given]], asked.candidates, asked.reflexive)
        found = answers(model, questions, others, options.top, options.memory)
        scores.append(found.score)
        right.append(np.isin(_keys(found, n, r), held))
    return np.concatenate(scores), np.concatenate(right)


def _keys(facts: Triples | Found, entities: int, relations: int) -> Ints:
    """One integer a fact, int64 [N]."""
    return (facts.head * relations + facts.relation) * entities + facts.tail


def _joined(
    parts: list[Found], chances: list[Doubles | None], graph: TrainingGraph
) -> tuple[Found, Doubles | None]:
    """All answers, the likeliest first, each fact once. Probabilities only if all have them."""
    whole = Found(
        *(
            np.concatenate([getattr(p, f) for p in parts])
            for f in ("head", "relation", "tail", "score", "rank")
        )
    )
    given = [p for p in chances if p is not None]
    p = np.concatenate(given) if len(given) == len(chances) else None
    best = whole.score if p is None else p
    order = np.lexsort((whole.tail, whole.head, whole.relation, -whole.score, -best))
    keys = _keys(whole, len(graph.entities), len(graph.relations))[order]
    order = order[np.sort(np.unique(keys, return_index=True)[1])]
    return whole.take(order), None if p is None else p[order]
