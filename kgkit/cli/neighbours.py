"""`kgkit neighbours ENTITY`: what is near an entity by the vectors that a run wrote into the graph."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kgkit.cli.options import AnsweringPlugin, AnsweringRun, JsonOption, StoreOption
from kgkit.cli.output import say


def register(app: typer.Typer) -> None:
    app.command()(neighbours)


def neighbours(
    entity: Annotated[str, typer.Argument(help="Its id, item id or exact name.")],
    store: StoreOption = None,
    plugin: AnsweringPlugin = None,
    run: AnsweringRun = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the entities nearest to one, by the cosine of a trained model's vectors."""
    from kgkit import predict
    from kgkit.cli.output import print_table
    from kgkit.store.open import open_store

    with open_store(store, read_only=True) as graph:
        standing = predict.standing_run(graph, plugin, run)
        node = predict.find_entity(graph, entity)
        found = predict.neighbours(graph, node, k, standing)
    if as_json:
        near = [{"id": n.id, "name": n.name, "item_id": n.item_id, "cosine": c} for n, c in found]
        say(
            json.dumps(
                {"entity": node.id, "run": standing.id, "neighbours": near}, indent=2, ensure_ascii=False
            )
        )
        return
    rows = [[rank, n.name, n.item_id, n.id, f"{c:.4f}"] for rank, (n, c) in enumerate(found, 1)]
    print_table(
        ["rank", "name", "item", "id", "cosine"], rows, title=f"near {node.name or node.id}, {standing.id}"
    )
