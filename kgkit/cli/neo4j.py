"""`kgkit neo4j`: a Neo4j server on this machine, for those who want one without installing it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kgkit.cli.options import JsonOption

app = typer.Typer(
    help="Run a Neo4j server on this machine, without Docker or Java. Then use --store neo4j-managed.",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="neo4j")


@app.command()
def start(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Bolt port, on 127.0.0.1 only.")
    ] = 7687,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="Java heap, such as 2g. [default: half of the memory, up to 4g]"
        ),
    ] = None,
    page_cache: Annotated[
        str | None,
        typer.Option(
            "--page-cache",
            metavar="SIZE",
            help="Memory for the graph's pages. [default: an eighth of the memory, from 512m to 4g]",
        ),
    ] = None,
) -> None:
    """Start the server, and wait until it answers. The first time fetches about 150 MB."""
    from kgkit import server

    before = server.status()
    info = server.start(
        port=port, memory=memory, page_cache=page_cache, say=lambda message: typer.echo(message, err=True)
    )
    typer.echo(f"Neo4j {'runs already' if before else 'is ready'} at {info.uri}: use --store neo4j-managed")
    _describe(info.username, str(info.password_file))


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Say whether the server runs, where it listens, and where its password is. Exit code 1 when it does not run."""
    from kgkit import server

    info = server.status()
    if as_json:
        shown = (
            None if info is None else {k: v if isinstance(v, int) else str(v) for k, v in vars(info).items()}
        )
        typer.echo(json.dumps({"running": info is not None, "server": shown}, indent=2))
    elif info is None:
        typer.echo(f"not running (data in {server.home_dir()}): start it with `kgkit neo4j start`")
    else:
        typer.echo(f"running at {info.uri} (process {info.pid}, data in {info.home}, log {info.log})")
        _describe(info.username, str(info.password_file))
    if info is None:
        raise typer.Exit(1)


@app.command()
def stop() -> None:
    """Stop the server; its data stay."""
    from kgkit import server

    typer.echo("stopped" if server.stop() else "not running")


def _describe(username: str, password_file: str) -> None:
    """How to get in with other tools, without showing the password."""
    typer.echo(f"other tools: user {username}, password in {password_file}")
