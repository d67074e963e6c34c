"""`kgkit report RUN`: one page about a training run, with nothing to load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgkit.cli.options import RunsOption, StoreOption
from kgkit.cli.output import say


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to; report.html in the run's folder without it."
        ),
    ] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a page about a run: curves, metrics, metrics by relation, examples by name, and a picture of its vectors.

    Examples and vectors need the graph as it was; without it the page comes without them, and says so.
    """
    from datetime import UTC, datetime

    from kgkit.cli.output import check_writable, write_text
    from kgkit.run import Run

    opened = Run.open(runs, run)
    file = out or opened.folder / "report.html"
    check_writable("--out", file)

    from kgkit.report.run_figures import run_figures
    from kgkit.report.run_page import run_page

    figures = run_figures(opened, store)
    write_text("--out", file, run_page(figures, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")))
    if figures.missing:
        say(f"without examples and embeddings: {figures.missing}", err=True)
    say(f"{file}: {opened.id}, {opened.record['status']}, {len(figures.trace):,} epochs")
