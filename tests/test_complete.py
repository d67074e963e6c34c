"""Completion against a naive twin, and its promises: nothing known, nothing untrained, honest probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from kgkit.complete import CompletionOptions, answers, complete
from kgkit.errors import ConfigError
from kgkit.evaluate.ranking import lots
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.graph import TrainingGraph, Triples
from kgkit.missing import SIDES, Side, Slots
from kgkit.model import LinkPredictor, ModelConfig, Paper
from kgkit.nn.similarity import SIMILARITIES, Candidates, Similarity, paired
from kgkit.run import Run
from kgkit.testing.toy import toy_graph


@dataclass(frozen=True)
class _Config(ModelConfig):
    pass


class Fixed(LinkPredictor):
    """DistMult's queries h * r over vectors that are given, compared by any of the similarities."""

    name, Config = "fixed", _Config
    paper = Paper("Yang et al.", 2015, "ICLR", "Embedding Entities and Relations")

    def __init__(self, entities: np.ndarray, relations: np.ndarray, similarity: Similarity = "dot") -> None:
        super().__init__(_Config())
        self.similarity = similarity
        self.e, self.r = torch.from_numpy(entities).float(), torch.from_numpy(relations).float()

    def fit(self, graph: TrainingGraph, split: Any, run: Run) -> None: ...

    def restore(self, graph: TrainingGraph, split: TripleSplit, run: Run) -> None: ...

    def tail_queries(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        return self.e[heads] * self.r[relations]

    def head_queries(self, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        return self.e[tails] * self.r[relations]

    def candidates(self, relation: int | None = None) -> Candidates:
        return Candidates(self.e)


def split_of(graph: TrainingGraph, seed: int = 0, held: float = 0.2) -> TripleSplit:
    """Facts parted at random: `held` of them for each of valid and test."""
    t, draw = graph.triples, np.random.default_rng(seed).random(len(graph.triples))
    parts = [draw >= 2 * held, draw < held, (draw >= held) & (draw < 2 * held)]
    cut = [Triples(t.head[p], t.relation[p], t.tail[p]) for p in parts]
    return TripleSplit(*cut, len(graph.entities), len(graph.relations))


def random_model(graph: TrainingGraph, similarity: Similarity = "dot", dim: int = 4) -> Fixed:
    rng = np.random.default_rng(5)
    # Whole numbers, so that ties are frequent and every order of summing gives the same score.
    return Fixed(
        rng.integers(-2, 3, (len(graph.entities), dim)),
        rng.integers(-2, 3, (len(graph.relations), dim)),
        similarity,
    )


def known(graph: TrainingGraph) -> set[tuple[int, int, int]]:
    t = graph.triples
    return set(zip(t.head.tolist(), t.relation.tolist(), t.tail.tolist(), strict=True))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("types", "memory"), [(True, 1 << 20), (False, 1)])
def test_answers_equal_a_naive_twin(similarity: Similarity, side: Side, types: bool, memory: int) -> None:
    graph = toy_graph(entities=25, relations=3, triples=80)
    model, facts = random_model(graph, similarity), known(graph)
    slots = Slots(graph, np.ones(25, dtype=bool))
    for r in range(3):
        asked = slots.questions(r, side, types=types, all_heads=True)
        found = answers(model, asked, graph.triples, 4, memory)
        expected = []
        for given in asked.given.tolist():
            scored = []
            asking = np.array([2 * given + (side == "head")])
            drawn = lots(asking, torch.arange(len(asked.candidates)), model.config.seed + r)
            for other, lot in zip(asked.candidates.tolist(), drawn[0].tolist(), strict=True):
                h, t = (given, other) if side == "tail" else (other, given)
                if (h, r, t) in facts or (h == t and not any((e, r, e) in facts for e in range(25))):
                    continue
                score = paired(similarity, model.e[given] * model.r[r], Candidates(model.e[other]))
                scored.append((-round(float(score), 4), -lot, h, t))
            expected += [(h, r, t, k) for k, (_, _, h, t) in enumerate(sorted(scored)[:4], 1)]
        got = zip(
            found.head.tolist(),
            found.relation.tolist(),
            found.tail.tolist(),
            found.rank.tolist(),
            strict=True,
        )
        assert list(got) == expected


@pytest.mark.parametrize("side", ["tail", "head", "both"])
def test_nothing_known_nothing_untrained_nothing_twice(side: Any) -> None:
    graph = toy_graph(entities=40, relations=3, triples=60)
    split = split_of(graph, held=0.3)
    assert not split.seen.all()
    done = complete(
        random_model(graph), graph, split,
        CompletionOptions(side=side, types=False, all_heads=True, calibration="none", top=7),
    )  # fmt: skip
    facts = set(
        zip(done.found.head.tolist(), done.found.relation.tolist(), done.found.tail.tolist(), strict=True)
    )
    assert len(facts) == len(done.found) > 0
    assert not facts & known(graph)
    assert split.seen[done.found.head].all() and split.seen[done.found.tail].all()
    assert (np.diff(done.found.score) <= 0).all()
    assert done.figures["completed"] == len(facts)
    assert done.figures["entities_without_training_facts"] == int((~split.seen).sum())
    assert done.table(graph).column_names == ["head", "relation", "tail", "score", "rank"]


def world(films: int = 500, genres: int = 6) -> tuple[TrainingGraph, Fixed]:
    """Films with genres and directors who keep to a genre; ten films lack the genre that their director tells."""
    from test_missing import graph_of

    rng = np.random.default_rng(1)
    facts = []
    for f in range(films):
        kind = f % genres
        facts.append((f"f{f:03}", "directed_by", f"p{kind}{rng.integers(5)}"))
        if f >= 10:
            facts.append((f"f{f:03}", "genre", f"g{kind if rng.random() < 0.8 else rng.integers(genres)}"))
    graph = graph_of(facts)
    vectors = np.zeros((len(graph.entities), genres))
    for i, name in enumerate(graph.entities.ids.to_pylist()):
        vectors[i, int(name[1:]) % genres if name[0] == "f" else int(name[1])] = 1.0
    vectors += rng.normal(0, 0.2, vectors.shape)
    return graph, Fixed(vectors, np.ones((2, genres)))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_are_the_share_that_is_right(method: Any) -> None:
    graph, model = world()
    split = split_of(graph, seed=2)
    done = complete(model, graph, split, CompletionOptions(relations=("genre",), top=3, calibration=method))
    figures = done.figures["calibration"]["tail"]
    assert figures["brier"] < 0.7 * figures["brier_of_the_mean"]
    assert figures["ece"] < 0.12
    assert figures["valid_right"] > 30 and figures["test_answers"] > 90
    assert done.probability is not None and (np.diff(done.probability) <= 0).all()
    # The films that lack a genre have theirs first, and with the likeliest of the three.
    assert done.figures["relations"]["genre"]["tail_questions"] == len(done.found) // 3
    first = done.found.take(done.found.rank == 1)
    heads, tails = graph.entities.keys(first.head).to_pylist(), graph.entities.keys(first.tail).to_pylist()
    assert all(int(h[1:]) < 10 and int(h[1:]) % 6 == int(t[1:]) for h, t in zip(heads, tails, strict=True))
    some = complete(
        model, graph, split,
        CompletionOptions(relations=("genre",), top=3, calibration=method, min_probability=0.5, min_score=0.6),
    )  # fmt: skip
    assert some.probability is not None and 0 < len(some.found) < len(done.found)
    assert some.probability.min() >= 0.5 and some.found.score.min() >= 0.6


def test_too_small_a_validation_set(caplog: pytest.LogCaptureFixture) -> None:
    graph, model = world(films=40)
    split = split_of(graph, held=0.05)
    done = complete(model, graph, split, CompletionOptions(relations=("genre",)))
    assert done.probability is None and "too few validation answers" in caplog.text
    with pytest.raises(ConfigError, match="--min-probability: too few validation answers"):
        complete(model, graph, split, CompletionOptions(relations=("genre",), min_probability=0.5))


def test_wrong_options() -> None:
    graph, model = world(films=40)
    with pytest.raises(ConfigError, match=r"unknown relation 'gener'\. Did you mean genre"):
        complete(model, graph, split_of(graph), CompletionOptions(relations=("gener",)))
    for wrong, message in (
        ({"side": "tails"}, "Did you mean tail"),
        ({"calibration": "plat"}, "Did you mean platt"),
        ({"top": 0}, "--top"),
        ({"min_probability": 1.5}, "between 0 and 1"),
        ({"min_probability": 0.5, "calibration": "none"}, "needs --calibration"),
    ):
        with pytest.raises(ConfigError, match=message):
            CompletionOptions(**wrong)  # type: ignore[arg-type]
