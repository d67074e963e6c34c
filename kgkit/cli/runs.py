"""`kgkit runs`: what was trained, with what and how well; and taking a run back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli.options import JsonOption, RunsOption, StoreOption
from kgkit.cli.output import say
from kgkit.errors import ConfigError

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore

app = typer.Typer(help="List training runs, show one, or take one back.", invoke_without_command=True)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs")


@app.callback()
def runs(context: typer.Context, runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List training runs, oldest first."""
    context.obj = runs
    if context.invoked_subcommand is not None:
        return
    from kgkit.cli.output import print_table
    from kgkit.report.metrics import run_rows
    from kgkit.run import list_runs

    damaged: list[str] = []
    records = list_runs(runs, lambda error: damaged.append(str(error)))
    for line in damaged:
        say(f"damaged: {line}", err=True)
    if as_json:
        say(json.dumps(records, indent=2))
    elif not records:
        say(f"no runs in {runs}: train one with `kgkit train --plugin kgnn_ls`")
    else:
        print_table(*run_rows(records))


@app.command()
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    runs: RunsOption | None = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: parameters, data, versions, timings, metrics, and its epochs."""
    from kgkit.cli.output import print_table
    from kgkit.report.metrics import metric_rows, validation_name
    from kgkit.run import Run

    opened = Run.open(runs or context.obj, run)
    trace = opened.trace()
    if as_json:
        say(json.dumps({**opened.record, "trace": trace}, indent=2))
        return
    record = opened.record
    for key in (
        "id",
        "plugin",
        "paper",
        "status",
        "error",
        "created",
        "store",
        "seed",
        "best_epoch",
        "split",
    ):
        if record.get(key) is not None:
            say(f"{key:<12}{record[key]}")
    for key in ("parameters", "chosen", "data", "versions", "timings", "written"):
        if record.get(key):
            say(f"{key:<12}" + ", ".join(f"{k} {v}" for k, v in record[key].items()))
    if done := record.get("completed"):
        say(f"{'completed':<12}{done['completed']:,} facts of {done['questions']:,} questions")
    for name, cypher in record.get("extraction", {}).get("queries", {}).items():
        say(f"{name:<12}{' '.join(cypher.split())}")
    if record["metrics"]:
        print_table(*metric_rows(record["metrics"], every=True), title="metrics")
    if trace:
        select = next(filter(None, map(validation_name, trace)), "validation")
        rows = [
            [
                t["epoch"],
                *(f"{v:.5f}" for v in t["loss"].values()),
                f"{t[select]:.4f}" if select in t else "",
                t["train_s"],
            ]
            for t in trace
        ]
        print_table(
            ["epoch", *(f"loss ({k})" for k in trace[0]["loss"]), select, "seconds"], rows, title="epochs"
        )


@app.command()
def erase(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(help="Run id, or a beginning of it that names no other and reaches into its date."),
    ],
    runs: RunsOption | None = None,
    store: StoreOption = None,
    keep_graph: Annotated[bool, typer.Option("--keep-graph", help="Only remove the run's folder.")] = False,
) -> None:
    """Take a run back: what it wrote into the graph, and its folder; from the graph alone where the folder is gone."""
    from kgkit.errors import DamagedRun
    from kgkit.run import Run, pick, run_ids
    from kgkit.store.open import open_store

    where: Path = runs or context.obj
    _check_meant(run, run_ids(where), f"in {where}")
    try:
        opened = Run.open(where, run)
    except DamagedRun as error:
        if store is None and not keep_graph:
            raise
        opened = Run(where / pick(where, run), {"id": pick(where, run), "written": {"perhaps": 0}})
        typer.echo(f"damaged: {error}", err=True)
    except ConfigError as error:
        if store is None or keep_graph:
            raise
        with open_store(store, create=False) as graph:
            id = _written_run(graph, run, str(error))
            _take_back(graph, id)
        say(f"{id} erased (it had no folder)")
        return
    if opened.record.get("status") == "running":
        process = opened.record["process"]
        raise ConfigError(
            f"run {opened.id} is running as process {process['pid']} of {process['host']}: stop that first"
        )
    if not keep_graph and opened.record.get("written"):
        with open_store(opened.store(store), create=False) as graph:
            _take_back(graph, opened.id)
    opened.erase()
    say(f"{opened.id} erased")


def _check_meant(run: str, there: list[str], where: str) -> None:
    """Raises ConfigError for what is no id and no beginning of one that reaches into the date: a plugin's name, say.

    As with git and docker the rest of an id may be left out, but not all that tells a plugin's runs apart: whoever
    types the name of the plugin has perhaps forgotten that it has another run.
    """
    found = [id for id in there if id.startswith(run)]
    if found and run not in there and not re.search(r"-\d{4,}", run):
        raise ConfigError(
            f"{run!r} names no run: what is erased is named by its id, or a beginning of it that reaches into the "
            f"date; {where} begin so: {', '.join(found)}"
        )


def _written_run(graph: GraphStore, run: str, folders: str) -> str:
    """The id of the one run in the graph that begins so. Raises ConfigError, saying what there is in `folders` too."""
    there: list[str] = [row["id"] for table in graph.read_nodes("Run", []) for row in table.to_pylist()]
    _check_meant(run, there, f"in {graph.uri}")
    found = [id for id in there if id == run] or [id for id in there if id.startswith(run)]
    if len(found) == 1:
        return found[0]
    what = "several runs start with" if found else "no run"
    raise ConfigError(f"{folders}; {what} {run!r} in {graph.uri}: {', '.join(found or there) or 'none'}")


def _take_back(graph: GraphStore, id: str) -> None:
    say(f"{graph.erase_run(id):,} answers of {id} taken back from {graph.uri}")
