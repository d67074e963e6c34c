"""`kgkit stats`: what a graph holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli.options import JsonOption, StoreOption

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore


def register(app: typer.Typer) -> None:
    app.command()(stats)


def stats(
    store: StoreOption = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Write a page about the graph: one HTML file, warnings included."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count nodes, relationships, and facts by relation."""
    from kgkit.cli.output import print_table
    from kgkit.store.open import open_store

    if report is not None:
        _check_writable(report)
    with open_store(store, read_only=True) as opened:
        if report is not None:
            _report(opened, report, as_json)
            return
        found = opened.stats()
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print_table(["label", "nodes"], [[k, f"{n:,}"] for k, n in found["nodes"].items()])
    typer.echo()
    print_table(["type", "relationships"], [[k, f"{n:,}"] for k, n in found["relationships"].items()])
    if found["relations"]:
        typer.echo()
        ordered = sorted(found["relations"].items(), key=lambda item: (-item[1], item[0]))
        print_table(["relation", "facts"], [[k, f"{n:,}"] for k, n in ordered])


def _report(store: GraphStore, file: Path, as_json: bool) -> None:
    """Writes the page; prints one line about it, or the page's figures and warnings as JSON."""
    import dataclasses
    from datetime import UTC, datetime

    from kgkit.report.checks import findings
    from kgkit.report.figures import graph_figures
    from kgkit.report.graph_page import graph_page

    figures = graph_figures(store)
    _write(file, graph_page(figures, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")))
    warnings = findings(figures)
    if as_json:
        document = dataclasses.asdict(figures) | {"warnings": [dataclasses.asdict(w) for w in warnings]}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    nodes, edges = figures.counts["nodes"], figures.counts["relationships"]
    typer.echo(
        f"{file}: {nodes['Entity']:,} entities, {edges['FACT']:,} facts, {figures.coverage.purchases:,} purchases, "
        f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
    )


def _check_writable(file: Path) -> None:
    """Raises ConfigError at once rather than after minutes of reading."""
    from kgkit.errors import ConfigError

    if file.is_dir():
        raise ConfigError(f"--report {file}: is a folder; name a file in it, such as {file / 'graph.html'}")
    if not file.parent.is_dir():
        raise ConfigError(
            f"--report {file}: there is no folder {file.parent}; make it first (mkdir -p {file.parent})"
        )
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError(f"--report {file}: cannot be written: permission denied")


def _write(file: Path, text: str) -> None:
    from kgkit.errors import ConfigError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:  # a full disk, say
        raise ConfigError(f"--report {file}: cannot be written: {error.strerror}") from None
