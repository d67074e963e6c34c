"""`kgkit stats`: what a graph holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli.options import JsonOption, StoreOption
from kgkit.cli.output import say

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
    from kgkit.cli.output import check_writable, print_table
    from kgkit.store.open import open_store

    if report is not None:
        check_writable("--report", report)
    with open_store(store, read_only=True) as opened:
        if report is not None:
            _report(opened, report, as_json)
            return
        found = opened.stats()
    if as_json:
        say(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print_table(["label", "nodes"], [[k, f"{n:,}"] for k, n in found["nodes"].items()])
    say()
    print_table(["type", "relationships"], [[k, f"{n:,}"] for k, n in found["relationships"].items()])
    if found["relations"]:
        say()
        ordered = sorted(found["relations"].items(), key=lambda item: (-item[1], item[0]))
        print_table(["relation", "facts"], [[k, f"{n:,}"] for k, n in ordered])


def _report(store: GraphStore, file: Path, as_json: bool) -> None:
    """Writes the page; prints one line about it, or the page's figures and warnings as JSON."""
    import dataclasses
    from datetime import UTC, datetime

    from kgkit.cli.output import write_text
    from kgkit.report.checks import findings
    from kgkit.report.figures import graph_figures
    from kgkit.report.graph_page import graph_page

    figures = graph_figures(store)
    write_text("--report", file, graph_page(figures, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")))
    warnings = findings(figures)
    if as_json:
        document = dataclasses.asdict(figures) | {"warnings": [dataclasses.asdict(w) for w in warnings]}
        say(json.dumps(document, indent=2, ensure_ascii=False))
        return
    nodes, edges = figures.counts["nodes"], figures.counts["relationships"]
    say(
        f"{file}: {nodes['Entity']:,} entities, {edges['FACT']:,} facts, {figures.coverage.purchases:,} purchases, "
        f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
    )
