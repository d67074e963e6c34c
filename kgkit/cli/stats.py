"""`kgkit stats`: what a graph holds."""

from __future__ import annotations

import json

import typer

from kgkit.cli.options import JsonOption, StoreOption


def register(app: typer.Typer) -> None:
    app.command()(stats)


def stats(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Count nodes, relationships, and facts by relation."""
    from kgkit.cli.output import print_table
    from kgkit.store.open import open_store

    with open_store(store, read_only=True) as opened:
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
