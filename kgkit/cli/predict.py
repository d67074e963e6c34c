"""`kgkit predict`: what completes one fact, from the vectors that a run wrote into the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli.options import AnsweringPlugin, AnsweringRun, JsonOption, RunsOption, StoreOption
from kgkit.cli.output import say

if TYPE_CHECKING:
    from kgkit.missing import Side


def register(app: typer.Typer) -> None:
    app.command()(predict)


def predict(
    relation: Annotated[str, typer.Option("--relation", "-r", help="Name of the relation.")],
    head: Annotated[
        str | None, typer.Option("--head", help="Asks for tails. Id, item id or exact name of an entity.")
    ] = None,
    tail: Annotated[
        str | None, typer.Option("--tail", help="Asks for heads. Id, item id or exact name of an entity.")
    ] = None,
    store: StoreOption = None,
    plugin: AnsweringPlugin = None,
    run: AnsweringRun = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many.")] = 10,
    types: Annotated[
        bool, typer.Option("--types/--no-types", help="Only entities that stand at that end of the relation.")
    ] = True,
    new_only: Annotated[bool, typer.Option("--new-only", help="Without facts that the graph has.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show the likeliest tails of a head and a relation, or heads of a relation and a tail."""
    from kgkit import predict as quick
    from kgkit.cli.output import print_table
    from kgkit.errors import ConfigError
    from kgkit.store.open import open_store

    if (head is None) == (tail is None):
        raise ConfigError("give either --head ENTITY (to ask for tails) or --tail ENTITY (to ask for heads)")
    side: Side = "tail" if head is not None else "head"
    with open_store(store, read_only=True) as graph:
        standing = quick.standing_run(graph, plugin, run, facts=True)
        given = quick.find_entity(graph, head if head is not None else tail or "")
        found = quick.predict(
            graph, standing, given, relation, side, top=top, types=types, new_only=new_only, runs=runs,
            tell=lambda message: say(f"note: {message}", err=True),
        )  # fmt: skip
    if as_json:
        answers = [
            {"rank": p.rank, "id": p.node.id, "name": p.node.name, "item_id": p.node.item_id, "score": p.score,
             "known": p.known}
            for p in found
        ]  # fmt: skip
        asked = {"head" if side == "tail" else "tail": given.id, "relation": relation, "run": standing.id}
        say(json.dumps({**asked, "answers": answers}, indent=2, ensure_ascii=False))
        return
    name = given.name or given.id
    asked_in_words = f"({name}, {relation}, ?)" if side == "tail" else f"(?, {relation}, {name})"
    rows = [
        [p.rank, p.node.name, p.node.item_id, p.node.id, p.score, "known" if p.known else ""] for p in found
    ]
    print_table(["rank", "name", "item", "id", "score", ""], rows, title=f"{asked_in_words}, {standing.id}")
