"""Completion as a command does it: the run's model brought back, its completed facts written, the run's record kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from kgkit.complete import Completion, CompletionOptions, complete
from kgkit.errors import ConfigError, DiskError
from kgkit.graph import TrainingGraph
from kgkit.ledger import rewriting
from kgkit.model import LinkPredictor
from kgkit.pipeline import address, restored
from kgkit.registry import load_model
from kgkit.run import Run, list_runs
from kgkit.store.open import embedded_path
from kgkit.store.port import Answers, GraphStore, check_current


def run_to_complete(store: GraphStore, runs: Path, plugin: str | None, run: str | None) -> Run:
    """A run by id, or a plugin's latest finished one on this store. Raises ConfigError when it cannot complete facts."""
    if run is not None:
        found = Run.open(runs, run)
        plugin = found.record["plugin"]
        if found.record["status"] != "finished":
            raise ConfigError(
                f"run {found.id} is {found.record['status']}: finish it with `kgkit train --resume {found.flags}`"
            )
    if plugin is None:
        raise ConfigError("give either --plugin NAME (see `kgkit plugins`) or --run RUN")
    cls = load_model(plugin)
    if not issubclass(cls, LinkPredictor):
        raise ConfigError(f"{plugin} is a {cls.task} model, which completes no facts: try --plugin distmult")
    if run is not None:
        return found
    # The graph knows its runs by whatever name it was opened; those without write-back only left the name.
    here = {row[0] for row in store.query("MATCH (r:Run) RETURN r.id").rows}
    latest = [
        r
        for r in list_runs(runs)
        if r["plugin"] == plugin
        and r["status"] == "finished"
        and (r["id"] in here or _same(r.get("store"), store))
    ]
    if not latest:
        raise ConfigError(
            f"no finished run of {plugin} on {store.uri} in {runs}: train one with "
            f"`kgkit train --plugin {plugin} --store {store.uri}`"
        )
    return Run.open(runs, latest[-1]["id"])


def _same(recorded: str | None, store: GraphStore) -> bool:
    """Whether a record speaks of this store; earlier versions wrote the path as it was typed."""
    path = embedded_path(recorded) if recorded else None
    return address(store) == (str(path.resolve()) if path is not None and path.exists() else recorded)


def complete_run(
    store: GraphStore,
    run: Run,
    options: CompletionOptions,
    *,
    write_back: bool = True,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[Completion, TrainingGraph]:
    """Completes facts by a finished run's model, and writes them in the place of those that it completed before.

    Counts, calibration and seconds go into the run's record as "completed". Raises ConfigError when the graph has
    changed since the training, StoreError when the run's answers no longer stand in the graph and are to be written,
    DiskError when only the record could not be written.
    """
    if write_back:  # before the work as well as with the writing
        rows = list(store.query("MATCH (r:Run) WHERE r.id = $id RETURN r.`current`", {"id": run.id}).rows)
        check_current(run.id, rows[0][0] if rows else None)
    seconds: dict[str, float] = {}

    def timed(what: str, since: float) -> float:
        now = time.perf_counter()
        seconds[what] = round(now - since, 4)
        return now

    at = time.perf_counter()
    tell("extract and restore")
    model, graph, split = restored(store, run)
    assert isinstance(model, LinkPredictor)
    at = timed("restore", at)
    found = complete(model, graph, split, options, tell)
    at = timed("complete", at)
    written: dict[str, int] = {}
    if write_back:
        tell(f"writing {len(found.found):,}")
        with rewriting(store, run.id) as said:
            written = store.update_answers(run.id, [Answers("COMPLETED", found.table(graph))])
            said.update(written)
        timed("write_back", at)
    found.figures["seconds"] = seconds
    try:
        run.update(completed={"options": dataclasses.asdict(options), **found.figures, "written": written})
    except DiskError as error:
        stands = "the completed facts are in the graph" if write_back else "the graph is as it was"
        raise DiskError(
            f"{error}; {stands}, only the run's record lacks their counts: make room and give the command again"
        ) from error
    return found, graph
