"""A run from end to end: extract, split, train, select on validation, test once, write back, record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgkit.config import make_config
from kgkit.errors import ConfigError, DiskError, KgkitError, TrainingError
from kgkit.evaluate.splits import Split
from kgkit.extract import Extraction, extract
from kgkit.graph import TrainingGraph
from kgkit.handover import vectors_of
from kgkit.model import Model, Task
from kgkit.registry import load_model
from kgkit.run import CHECKPOINT, Observer, Run, list_runs, peak_memory, versions
from kgkit.run_files import RECORD_NAME, damaged
from kgkit.store.open import embedded_path
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
    keep_checkpoint: bool = False  # of a finished run, which needs none


def train(
    store: GraphStore,
    plugin: str,
    parameters: Mapping[str, Any],
    options: TrainOptions = TrainOptions(),
    observe: Observer = lambda event, data: None,
) -> Run:
    """Trains a plugin on a store and returns the finished run.

    Raises PluginError, ConfigError, EmptyExtraction, LeakError, NonFiniteLoss, StoreError, DiskError. What fails before
    the first epoch leaves no folder, as there is nothing to go on with; later the folder says "failed", and a
    KeyboardInterrupt leaves it "interrupted", with a checkpoint to resume from.
    """
    model = _model(plugin, parameters)
    steps_of(model).check(model, options)
    run = Run.create(
        options.runs,
        plugin,
        dataclasses.asdict(model.config),
        paper=str(model.paper),
        store=address(store),
        options=_recorded(options),
        extraction=_described(store, model, options),
    )
    run.observe = observe
    return _go(store, model, run, options)


def resume(store: GraphStore, run: Run, observe: Observer = lambda event, data: None) -> Run:
    """Goes on with an unfinished run from its last checkpoint, to the same metrics as if it had not stopped."""
    status = run.record["status"]
    if status == "finished":
        raise ConfigError(f"run {run.id} is finished: see it with `kgkit runs show {run.flags}`")
    if status == "running":
        process = run.record["process"]
        raise ConfigError(
            f"run {run.id} is running as process {process['pid']} of {process['host']}: stop that first"
        )
    run.observe, run.resume = observe, True
    options, model = _options(run), model_of(run)
    try:
        run.begin_again()
    except DiskError as error:
        raise DiskError(f"{error}; {_safe(run)}") from error
    return _go(store, model, run, options)


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
        "versions": versions(plugin),
    }
    found = [
        r
        for r in list_runs(options.runs)
        if all(r.get(k) == v for k, v in wanted.items())
        and {**_recorded(options), **r["options"], "keep_checkpoint": options.keep_checkpoint}
        == _recorded(options)
    ]
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
    return steps_of(model).evaluate(model, split, _options(run), None)


def restored(store: GraphStore, run: Run) -> tuple[Model, TrainingGraph, Any]:
    """A finished run's model as it was trained, with its graph and split.

    Raises ConfigError when the run is not finished, or the graph has changed since; DamagedRun.
    """
    if run.record["status"] != "finished" or "data" not in run.record:
        raise ConfigError(
            f"run {run.id} is {run.record['status']}: finish it with `kgkit train --resume {run.flags}`"
        )
    model = model_of(run)
    graph = _extract(store, model, _options(run))
    if graph.fingerprint != run.record["data"]["fingerprint"]:
        raise ConfigError(
            f"{store.uri} has changed since run {run.id}: its model speaks of another graph; train anew"
        )
    split = run.load_split(steps_of(model).load_split)
    sizes = (
        (split.users, split.items, len(graph.users), len(graph.items))
        if isinstance(split, Split)
        else (split.entities, split.relations, len(graph.entities), len(graph.relations))
    )
    if sizes[:2] != sizes[2:]:
        raise damaged(run.folder / "split.npz", "it is over another graph than the run's")
    model.restore(graph, split, run)
    return model, graph, split


def address(store: GraphStore) -> str:
    """How a store is found again from any folder: its path from the root, or its URI."""
    path = embedded_path(store.uri)
    # A driver handed in by a program calls its store by a name that is no path.
    return str(path.resolve()) if path is not None and path.exists() else store.uri


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
        run.finish(options.keep_checkpoint)
    return run


@contextmanager
def _status(run: Run) -> Iterator[None]:
    """Leaves how a run ended in its record; of one that ended before its first epoch by a fault that has a name, nothing."""
    try:
        yield
    except KeyboardInterrupt as stop:
        run.stopped("interrupted", str(stop) or None)
        raise
    except DiskError as error:
        run.stopped("failed", str(error))
        raise DiskError(f"{error}; {_safe(run)}") from error
    except KgkitError as error:
        begun = run.resume or run.trace() or run.record["metrics"] or isinstance(error, TrainingError)
        if begun:
            run.stopped("failed", str(error))
        else:
            run.erase()
        raise
    except Exception as error:
        run.stopped("failed", repr(error))
        raise


def _safe(run: Run) -> str:
    """What of a run stands when a disk took no more, and what to do."""
    graph = "its answers are in the graph" if run.record.get("written") else "the graph is as it was"
    kept = (
        "its last checkpoint is whole" if (run.folder / CHECKPOINT).exists() else "it has no checkpoint yet"
    )
    return (
        f"run {run.id} stopped there, {kept} and {graph}: make room, then `kgkit train --resume {run.flags}`"
    )


def _model(plugin: str, parameters: Mapping[str, Any]) -> Model:
    cls = load_model(plugin)
    return cls(make_config(cls.Config, parameters))


def model_of(run: Run) -> Model:
    """The model of a run's record. Raises DamagedRun for parameters that no model could have been trained with."""
    try:
        return _model(run.record["plugin"], run.record["parameters"])
    except (ConfigError, TypeError, ValueError, OverflowError) as error:
        raise damaged(
            run.folder / RECORD_NAME, f"its parameters are none of {run.record['plugin']} ({error})"
        ) from None


def _options(run: Run) -> TrainOptions:
    """The options of a run's record. Raises DamagedRun for those that are unknown."""
    recorded = run.record.get("options", {})
    known = {f.name for f in dataclasses.fields(TrainOptions)} - {"runs"}
    if unknown := sorted(set(recorded) - known):
        raise damaged(run.folder / RECORD_NAME, f"options.{unknown[0]} is no option of this version")
    return TrainOptions(runs=run.folder.parent, **recorded)


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
