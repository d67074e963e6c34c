"""What the kinds of models do differently within a run: how data are parted, what is measured, what is written back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kgkit.config import unknown_name
from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.evaluate import protocol, splits, triple_leaks, triple_split
from kgkit.evaluate.link_prediction import evaluate_links
from kgkit.model import LinkPredictor, Model, Recommender, Task
from kgkit.store.port import Answers
from kgkit.writeback import recommendations, shortfall

if TYPE_CHECKING:
    from kgkit.graph import TrainingGraph
    from kgkit.pipeline import TrainOptions
    from kgkit.run import Run


@dataclass(frozen=True)
class Steps:
    """The steps of a run that depend on the model's task.

    check: raises ConfigError for options that no graph could satisfy.
    split: parts the graph's data, and refuses a split that leaks; what it noticed goes into the run's record.
    evaluate: metrics by part; tables too long for the record go into files of the run's folder, if a run is given.
    """

    check: Callable[[Any, TrainOptions], None]
    split: Callable[[Any, TrainingGraph, TrainOptions, Run], Any]
    save_split: Callable[[Any, IO[bytes]], None]
    load_split: Callable[[Path], Any]
    evaluate: Callable[[Any, Any, TrainOptions, Run | None], dict[str, dict[str, float]]]
    answers: Callable[[Any, TrainingGraph, TrainOptions, Run], list[Answers]]


def steps_of(model: Model) -> Steps:
    """Raises ConfigError for a task that cannot be trained on its own."""
    try:
        return _STEPS[model.task]
    except KeyError:
        raise ConfigError(f"{model.name} is a {model.task} model, which this command cannot train") from None


def ratios_of(options: TrainOptions, default: tuple[int, int, int]) -> tuple[int, int, int]:
    """The ratio of training, validation and test. Raises ConfigError for anything but three positive numbers."""
    if options.ratios is None:
        return default
    words = options.ratios.split(":")
    if len(words) != 3 or not all(w.isdigit() and int(w) for w in words):
        raise ConfigError(f"--ratios must be three positive numbers such as 8:1:1, got {options.ratios!r}")
    train, valid, test = (int(w) for w in words)
    return train, valid, test


# -- recommenders ------------------------------------------------------------------------------------------------


def _check_pairs(model: Recommender, options: TrainOptions) -> None:
    if options.split not in (None, "random"):
        raise ConfigError(
            f"--split {options.split} is for models of facts: {model.name} parts purchases at random"
        )
    ratios_of(options, (6, 2, 2))


def _split_pairs(model: Recommender, graph: TrainingGraph, options: TrainOptions, run: Run) -> splits.Split:
    split = splits.split_pairs(graph.require(), model.config.seed, ratios_of(options, (6, 2, 2)))
    splits.check_leaks(split, graph)
    return split


def _evaluate_pairs(
    model: Recommender, split: splits.Split, options: TrainOptions, run: Run | None
) -> dict[str, dict[str, float]]:
    return protocol.evaluate(
        model,
        split,
        batch_size=getattr(model.config, "batch_size", 128),
        memory=options.memory,
        seed=model.config.seed,
    )


def _recommended(model: Recommender, graph: TrainingGraph, options: TrainOptions, run: Run) -> list[Answers]:
    if not options.top:
        return []
    found = recommendations(model, graph, options.top)
    short = run.record["recommended"] = shortfall(found, graph, options.top)
    if short["fewer"]:
        if model.unknown is None:
            why = "they bought nearly all there is"
        else:
            why = f"{model.name} knows nothing in favour of other items for them"
            if model.name != "popularity":
                why += " (`kgkit train --plugin popularity` answers everyone)"
        few, none, users = (f"{short[name]:,}" for name in ("fewer", "none", "users"))
        said = (
            f"{few} of {users} users got fewer than {options.top} recommendations, {none} of them none: {why}"
        )
        run.observe("notes", {"lines": [said]})
    return [Answers("RECOMMENDED", found)]


# -- link predictors ---------------------------------------------------------------------------------------------


def _check_facts(model: LinkPredictor, options: TrainOptions) -> None:
    if options.split not in (None, *triple_split.HOW):
        raise ConfigError(unknown_name("--split", options.split, triple_split.HOW))
    ratios_of(options, (8, 1, 1))


def _split_facts(
    model: LinkPredictor, graph: TrainingGraph, options: TrainOptions, run: Run
) -> triple_split.TripleSplit:
    if not len(graph.triples):
        raise EmptyExtraction(
            "the graph has no facts to learn from: ingest some (`kgkit ingest triples ...`) or widen --triples-query"
        )
    split = triple_split.split_triples(graph, options.split, ratios_of(options, (8, 1, 1)), model.config.seed)
    names = graph.relations.ids.to_pylist()
    run.save_json("relations.json", names)  # by dense id, so that ranking.json can be read without the store
    found = triple_leaks.find_leaks(split, names)
    run.record["leaks"] = found
    run.observe("notes", {"lines": triple_leaks.leak_lines(found)})
    return split


def _evaluate_facts(
    model: LinkPredictor, split: triple_split.TripleSplit, options: TrainOptions, run: Run | None
) -> dict[str, dict[str, float]]:
    found = evaluate_links(model, split, memory=options.memory, raw=options.raw)
    if run is not None:
        run.save_json("ranking.json", {"relations": found.relations, "categories": found.categories})
    return found.metrics


_STEPS = {
    Task.RECOMMENDATION: Steps(
        _check_pairs, _split_pairs, splits.save, splits.load, _evaluate_pairs, _recommended
    ),
    Task.LINK_PREDICTION: Steps(
        _check_facts,
        _split_facts,
        triple_split.save,
        triple_split.load,
        _evaluate_facts,
        lambda model, graph, options, run: [],
    ),
}
