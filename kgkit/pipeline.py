"""A run from end to end: extract, split, train, select on validation, test once, write back, record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgkit.config import make_config
from kgkit.errors import ConfigError, KgkitError
from kgkit.extract import Extraction, extract
from kgkit.graph import TrainingGraph
from kgkit.handover import vectors_of
from kgkit.model import Model, Task
from kgkit.registry import load_model
from kgkit.run import Observer, Run, list_runs, peak_memory, versions
from kgkit.store.port import GraphStore
from kgkit.tasks import steps_of
from kgkit.writeback import write_back


@dataclass(frozen=True)
class TrainOptions:
    """What is asked of a run beside the plugin's own options."""

    runs: Path = Path("runs")
    write_back: bool = True
    top: int = 10  # recommendations per user
    memory: int = 512 << 20  # bytes of scores held at once while ranking
    split: str | None = (
        None  # how facts are parted: given, random, by-relation, by-time (None: given or random)
    )
    ratios: str | None = None  # "8:1:1": training, validation, test
    raw: bool = False  # unfiltered ranks of facts beside the filtered ones
    init_from: str | None = None  # the run whose vectors the model begins with
    hops: str | None = None  # None: all facts; "auto": the model's receptive field; or a number
    triples_query: str | None = None
    interactions_query: str | None = None


def train(
    store: GraphStore,
    plugin: str,
    parameters: Mapping[str, Any],
    options: TrainOptions = TrainOptions(),
    observe: Observer = lambda event, data: None,
) -> Run:
    """Trains a plugin on a store and returns the finished run.

    Raises PluginError, ConfigError, EmptyExtraction, LeakError, NonFiniteLoss, StoreError; the run's folder then says
    "failed", and a KeyboardInterrupt leaves it "interrupted" with a checkpoint to resume from.
    """
    model = _model(plugin, parameters)
    run = Run.create(
        options.runs,
        plugin,
        dataclasses.asdict(model.config),
        paper=str(model.paper),
        store=store.uri,
        options=_recorded(options),
        extraction=_described(store, model, options),
    )
    run.observe = observe
    return _go(store, model, run, options)


def resume(store: GraphStore, run: Run, observe: Observer = lambda event, data: None) -> Run:
    """Goes on with an unfinished run from its last checkpoint, to the same metrics as if it had not stopped."""
    if run.record["status"] == "finished":
        raise ConfigError(f"run {run.id} is finished: see it with `kgkit runs show {run.id}`")
    run.observe, run.resume = observe, True
    options = TrainOptions(runs=run.folder.parent, **run.record["options"])
    run.update(status="running", error=None)
    return _go(store, _model(run.record["plugin"], run.record["parameters"]), run, options)


def same_run(
    store: GraphStore, plugin: str, parameters: Mapping[str, Any], options: TrainOptions = TrainOptions()
) -> Run | None:
    """The latest finished run of this plugin with these parameters and options on this very graph, if its answers stand.

    Training it again would give the same metrics, so callers may skip it.
    """
    model = _model(plugin, parameters)
    wanted = {
        "plugin": plugin,
        "status": "finished",
        "parameters": dataclasses.asdict(model.config),
        "options": _recorded(options),
        "versions": versions(plugin),
    }
    found = [r for r in list_runs(options.runs) if all(r.get(k) == v for k, v in wanted.items())]
    if not found or _extract(store, model, options).fingerprint != found[-1]["data"]["fingerprint"]:
        return None
    run = Run.open(options.runs, found[-1]["id"])
    if options.write_back:
        standing = store.query("MATCH (r:Run) WHERE r.id = $id RETURN r.current", {"id": run.id})
        if [tuple(row) for row in standing.rows] != [(True,)]:
            return None
    return run


def evaluate_again(store: GraphStore, run: Run) -> dict[str, dict[str, float]]:
    """The metrics of a run's stored model on its stored split, computed afresh."""
    model, _, split = restored(store, run)
    return steps_of(model).evaluate(model, split, TrainOptions(**run.record["options"]), run)


def restored(store: GraphStore, run: Run) -> tuple[Model, TrainingGraph, Any]:
    """A finished run's model as it was trained, with its graph and split.

    Raises ConfigError when the graph has changed since.
    """
    model = _model(run.record["plugin"], run.record["parameters"])
    graph = _extract(store, model, TrainOptions(**run.record["options"]))
    if graph.fingerprint != run.record["data"]["fingerprint"]:
        raise ConfigError(
            f"{store.uri} has changed since run {run.id}: its model speaks of another graph; train anew"
        )
    split = run.load_split(steps_of(model).load_split)
    model.restore(graph, split, run)
    return model, graph, split


def _go(store: GraphStore, model: Model, run: Run, options: TrainOptions) -> Run:
    steps = steps_of(model)
    run.observe("run", {"id": run.id})
    with _status(run):
        run.observe("stage", {"name": "extract"})
        with run.timed("extract"):
            graph = _extract(store, model, options)
        found = {
            "fingerprint": graph.fingerprint,
            "users": len(graph.users),
            "items": len(graph.items),
            "interactions": len(graph.interactions),
            "entities": len(graph.entities),
            "relations": len(graph.relations),
            "triples": len(graph.triples),
        }
        if run.resume and run.record.get("data", found) != found:
            raise ConfigError(
                f"the graph has changed since run {run.id} began: it cannot be resumed; train anew"
            )
        run.update(data=found)
        run.observe("data", found)
        with run.timed("split"):
            split = steps.split(model, graph, options, run)
            run.save_split(split, steps.save_split)
        if options.init_from is not None and not run.resume:
            model.start = vectors_of(store, options.init_from, options.runs, graph)
        run.observe("stage", {"name": "train"})
        with run.timed("train"):
            model.fit(graph, split, run)
        run.observe("stage", {"name": "evaluate"})
        with run.timed("evaluate"):
            run.record["metrics"] = steps.evaluate(model, split, options, run)
        run.record["chosen"] = getattr(model, "chosen", {})
        if options.write_back:
            run.observe("stage", {"name": "write back"})
            with run.timed("write_back"):
                run.record["written"] = write_back(
                    store, model, graph, run, steps.answers(model, graph, options, run)
                )
        run.record["peak_memory"] = peak_memory()
    return run


@contextmanager
def _status(run: Run) -> Iterator[None]:
    """Leaves how a run ended in its record."""
    try:
        yield
    except KeyboardInterrupt:
        run.update(status="interrupted")
        raise
    except Exception as error:
        run.update(status="failed", error=str(error) if isinstance(error, KgkitError) else repr(error))
        raise
    run.update(status="finished")


def _model(plugin: str, parameters: Mapping[str, Any]) -> Model:
    cls = load_model(plugin)
    return cls(make_config(cls.Config, parameters))


def _extract(store: GraphStore, model: Model, options: TrainOptions) -> TrainingGraph:
    return extract(
        store,
        Extraction(
            model.queries,
            _hops(model, options),
            options.triples_query,
            options.interactions_query,
            labels=model.task == Task.LINK_PREDICTION,
        ),
    )


def _hops(model: Model, options: TrainOptions) -> int | None:
    if options.hops == "auto":
        return model.receptive_field()
    if options.hops is None:
        return None
    if not options.hops.isdigit():
        raise ConfigError(f"--hops must be a number or auto, got {options.hops!r}")
    return int(options.hops)


def _recorded(options: TrainOptions) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(options).items() if k != "runs"}


def _described(store: GraphStore, model: Model, options: TrainOptions) -> dict[str, Any]:
    """The queries as the store sends them, for the record."""
    own = {"triples": options.triples_query, "interactions": options.interactions_query}
    queries = {q.name: own[q.name] or store.edge_cypher(q.kind, q.properties) for q in model.queries}
    return {"queries": queries, "hops": _hops(model, options)}
