"""`kgkit plugins`: which models and connectors there are, and everything about one of them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kgkit.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Adds the command group."""
    group = typer.Typer(help="Models and connectors: list them, show one.", invoke_without_command=True)
    group.callback()(list_all)
    group.command("show")(show)
    app.add_typer(group, name="plugins")


def list_all(context: typer.Context, as_json: JsonOption = False) -> None:
    """Lists models and connectors, installed packages' included."""
    if context.invoked_subcommand is not None:
        return
    from kgkit.cli.output import print_table
    from kgkit.registry import CONNECTORS, MODELS, cards

    models, connectors = cards(MODELS), cards(CONNECTORS)
    if as_json:
        described = {
            "models": [
                {"name": c.name, "about": c.about, "package": c.distribution, **c.details} for c in models
            ],
            "connectors": [{"name": c.name, "about": c.about, "package": c.distribution} for c in connectors],
        }
        typer.echo(json.dumps(described, indent=2))
        return
    print_table(
        ["model", "task", "paper", "package"],
        [[c.name, c.details.get("task", ""), c.details.get("paper", ""), c.distribution] for c in models],
        title="models: kgkit train --plugin NAME",
    )
    print_table(
        ["connector", "reads", "package"],
        [[c.name, c.about, c.distribution] for c in connectors],
        title="connectors: kgkit ingest NAME PATH...",
    )


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model or connector; one that is both is shown twice.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Shows the options with defaults and bounds, and a model's published settings by data set."""
    from kgkit.cli.dynamic import options_help
    from kgkit.config import unknown_name
    from kgkit.errors import PluginError
    from kgkit.registry import CONNECTORS, MODELS, names

    groups = [group for group in (MODELS, CONNECTORS) if name in names(group)]
    if not groups:
        raise PluginError(unknown_name("plugin or connector", name, [*names(MODELS), *names(CONNECTORS)]))
    described = [_described(group, name) for group in groups]
    if as_json:
        typer.echo(json.dumps([document for _, document in described], indent=2))
        return
    for cls, document in described:
        typer.echo(f"{document['kind']} {name} ({document['package']})")
        if document.get("paper"):
            typer.echo(f"  {document['paper']}")
        if document.get("about"):
            typer.echo(f"  {document['about']}")
        positional = "paths" if document["kind"] == "connector" else None
        options_help(cls.Config, "Options", positional)
        for data_set, settings in document.get("published", {}).items():
            words = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in settings.items())
            typer.echo(f"published settings for {data_set}: {words}")


def _described(group: str, name: str) -> tuple[Any, dict[str, Any]]:
    from kgkit.cli.dynamic import option_rows
    from kgkit.registry import MODELS, cards, load_connector, load_model

    card = next(c for c in cards(group) if c.name == name)
    document: dict[str, Any] = {
        "name": name,
        "about": card.about,
        "package": card.distribution,
        **card.details,
    }
    if group == MODELS:
        model = load_model(name)
        document |= {"kind": "model", "options": option_rows(model.Config)}
        document["published"] = {data: dict(settings) for data, settings in model.published.items()}
        return model, document
    connector = load_connector(name)
    return connector, document | {"kind": "connector", "options": option_rows(connector.Config, "paths")}
