"""`kgkit copy`: a whole graph from one store to another."""

from __future__ import annotations

from typing import Annotated

import typer

from kgkit.cli import output
from kgkit.cli.options import BulkOption, QuietOption


def register(app: typer.Typer) -> None:
    app.command()(copy)


def copy(
    source: Annotated[str, typer.Option("--from", metavar="STORE", help="Where the graph is.")],
    target: Annotated[
        str, typer.Option("--to", metavar="STORE", help="Where it goes; must be empty, or --merge.")
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to what the target holds, updating what has the same key.")
    ] = False,
    bulk: BulkOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Copy a graph between the embedded engine and Neo4j, or within one: facts, purchases, runs, vectors, answers."""
    from kgkit.cli.output import print_table
    from kgkit.copy import copy_graph
    from kgkit.errors import ConfigError
    from kgkit.store.open import open_store

    if source == target:
        raise ConfigError("--from and --to are the same store")

    def report(kind: str, rows: int) -> None:
        if not quiet:
            output.say(f"{kind}: {rows:,} rows", err=True)

    def say(message: str) -> None:
        if not quiet:
            output.say(message, err=True)

    with open_store(source, read_only=True) as here, open_store(target) as there:
        done = copy_graph(here, there, merge=merge, bulk=bulk, say=say, report=report)
    if not quiet:
        print_table(["copied", "rows"], [[kind, f"{rows:,}"] for kind, rows in done.items()])
