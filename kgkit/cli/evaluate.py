"""`kgkit evaluate RUN`: a stored model's metrics on its stored split, computed afresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kgkit.cli.options import JsonOption, RunsOption, StoreOption
from kgkit.cli.output import say


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    runs: RunsOption = Path("runs"),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute a run's metrics again from its stored model and split."""
    from kgkit.cli.output import print_table
    from kgkit.pipeline import evaluate_again
    from kgkit.report.metrics import metric_rows
    from kgkit.run import Run
    from kgkit.store.open import open_store

    opened = Run.open(runs, run)
    with open_store(opened.store(store), read_only=True, create=False) as graph:
        metrics = evaluate_again(graph, opened)
    if as_json:
        say(json.dumps({"run": opened.id, "metrics": metrics}, indent=2))
    else:
        print_table(*metric_rows(metrics, every=True), title=opened.id)
