"""`kgkit check`: whether a graph is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli.options import QuietOption, StoreOption
from kgkit.cli.output import say

if TYPE_CHECKING:
    from kgkit.check import Report


def register(app: typer.Typer) -> None:
    app.command()(check)


def check(
    store: StoreOption = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Counts, sources and a sample of ids, without reading all of the graph."
        ),
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="What is in the graph now is all that there should be: note it.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Of a damaged log keep what was committed before the damage; the log is kept aside.",
        ),
    ] = False,
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="text|json", help="How to say it.")
    ] = "text",
    quiet: QuietOption = False,
) -> None:
    """Look whether a graph is whole: its file, keys and ends, and what its sources and runs say that they wrote.

    One line for each thing that is wrong, with what to do. Exit code 0: whole, 1: not whole, 2: it cannot be told.
    """
    from kgkit.check import accept as accept_it
    from kgkit.check_target import check_target
    from kgkit.cli.progress import reporter
    from kgkit.errors import ConfigError, KgkitError
    from kgkit.ingest import Step
    from kgkit.store.open import embedded_path, open_store

    if format not in ("text", "json"):
        raise ConfigError(f"unknown format {format!r}: use text or json")
    with reporter(quiet, every=2.0) as progress:

        def tell(what: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Step("check", what, done, done, total))

        try:
            if repair:
                _repair(embedded_path(store))
            if accept:
                with open_store(store, create=False) as opened:
                    accept_it(opened)
            report = check_target(store, quick=quick, tell=tell)
        except ConfigError:
            raise
        except KgkitError as error:
            say(f"error: {error}", err=True)
            raise typer.Exit(2) from None
    _show(report, format)
    raise typer.Exit(report.exit_code)


def _show(report: Report, format: str) -> None:
    if format == "json":
        told = {
            "store": report.store,
            "whole": report.whole,
            "counts": report.counts,
            "findings": [vars(finding) for finding in report.findings],
            "unsure": report.unsure,
            "notes": report.notes,
        }
        say(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for finding in report.findings:
        say(str(finding))
    for why in report.unsure:
        say(f"unsure: {why}")
    for note in report.notes:
        say(f"note: {note}")
    verdict = {True: "whole", False: "NOT whole", None: "cannot be told to be whole"}[report.whole]
    held = ", ".join(f"{n:,} {kind}" for kind, n in report.counts.items() if n) or "nothing"
    say(f"{report.store}: {verdict}" + (f": {held}" if report.counts else ""))


def _repair(path: Path | None) -> None:
    from kgkit.errors import ConfigError
    from kgkit.store.ladybug_backup import repair
    from kgkit.store.ladybug_seal import damaged_log

    if path is None:
        raise ConfigError("--repair is for the log of an embedded graph")
    if damaged_log(path) is None:
        say(f"{path} has no damaged log", err=True)
        return
    kept = ", ".join(map(str, repair(path)))
    say(f"{path} is what was committed before the damage; the log is kept as {kept}", err=True)
