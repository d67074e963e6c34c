"""`kgkit ingest`: a connector, or a recipe of several, into a store."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from kgkit.cli.dynamic import help_option
from kgkit.cli.options import BulkOption, JsonOption, QuietOption, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    # The connector's options are known only once its name is: click lets them through, `parse_extra` checks them.
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(add_help_option=False, context_settings=settings)(ingest)


def ingest(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME PATH...", help="Connector, then files or folders.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="TOML file that names several sources.")
    ] = None,
    store: StoreOption = None,
    relationship_types: Annotated[
        str | None,
        typer.Option(
            "--relationship-types",
            metavar="property|native",
            help="On Neo4j, at the first ingest: facts as FACT {relation}, or typed by their own relation name.",
        ),
    ] = None,
    max_rejects: Annotated[
        str, typer.Option("--max-rejects", metavar="SHARE|N", help="Malformed rows at which a source fails.")
    ] = "0.1%",
    rejects: Annotated[
        Path, typer.Option("--rejects", metavar="FILE", help="Where malformed rows are listed.")
    ] = Path("kgkit-rejects.tsv"),
    force: Annotated[
        bool, typer.Option("--force", help="Ingest sources again that have not changed.")
    ] = False,
    bulk: BulkOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    help: Annotated[
        bool,
        help_option(lambda words: _section(words), "Show this message (after NAME: its options too)."),
    ] = False,
) -> None:
    """Bring purchases, facts, alignments and attributes into a graph. Ingesting twice changes nothing."""
    from kgkit.errors import ConfigError

    if name is not None and name.startswith("-"):
        raise ConfigError("the connector's name comes first: kgkit ingest NAME PATH... --options")
    if (name is None) == (recipe is None):
        from kgkit.registry import CONNECTORS, names

        raise ConfigError(
            f"give a connector and its files, or --recipe FILE; connectors: {', '.join(names(CONNECTORS))}"
        )

    from kgkit.cli.progress import reporter

    if recipe is not None:
        from kgkit.recipe import read_recipe

        if context.args:
            raise ConfigError(
                f"--recipe takes no options of connectors: write {' '.join(context.args)} into the file"
            )
        plan = read_recipe(recipe)
        store, sources = store or plan.store, plan.sources
    else:
        from kgkit.cli.dynamic import parse_extra
        from kgkit.config import make_config
        from kgkit.registry import load_connector

        assert name is not None
        connector = load_connector(name)()
        values = parse_extra(context.args, connector.Config, positional="paths")
        if not values.get("paths"):
            raise ConfigError(
                f"kgkit ingest {name} needs a file or folder after its name; see kgkit ingest {name} --help"
            )
        sources = [(connector, make_config(connector.Config, values))]

    from kgkit.bulk import bulk_road
    from kgkit.ingest import ingest as run
    from kgkit.rejects import RejectsFile
    from kgkit.store.open import open_store

    def say(message: str) -> None:
        if not quiet:
            typer.echo(message, err=True)

    files = (file for connector, config in sources for file in connector.files(config))
    reports = []
    listing = RejectsFile(rejects)
    try:
        with (
            listing,
            open_store(store, relationship_types=relationship_types) as opened,
            bulk_road(opened, files, bulk, say) as graph,
            reporter(quiet) as progress,
        ):
            for connector, config in sources:
                report = run(
                    connector,
                    config,
                    graph,
                    max_rejects=max_rejects,
                    rejects=listing,
                    force=force,
                    on_progress=progress,
                )
                reports.append(report)
                if not as_json:
                    typer.echo(report.summary())
    except KeyboardInterrupt:  # click would end without a word
        typer.echo("interrupted: what was written stays, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))


def _section(words: list[str]) -> None:
    from kgkit.cli.dynamic import options_help
    from kgkit.registry import CONNECTORS, cards, load_connector

    name = next((w for w in words if not w.startswith("-")), None)
    if name is not None:
        connector = load_connector(name)
        options_help(connector.Config, f"Options of {name}: {connector.about}", positional="paths")
        return
    typer.echo("Connectors (kgkit ingest NAME --help lists their options):")
    for card in cards(CONNECTORS):
        typer.echo(f"  {card.name:<12} {card.about}")
