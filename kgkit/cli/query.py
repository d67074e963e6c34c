"""`kgkit query`: people's Cypher against a graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kgkit.cli.options import StoreOption
from kgkit.errors import ConfigError

_TYPES = ("str", "int", "float", "bool", "json")


def register(app: typer.Typer) -> None:
    app.command()(query)


def query(
    cypher: Annotated[
        str, typer.Argument(help="One Cypher statement; '-' reads it from the standard input.")
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="Value of $NAME; may be repeated. A VALUE that reads as JSON (42, true, null, [1, 2]) is that, "
            "anything else is text. Ids are text: NAME:str=42 keeps it so; also :int, :float, :bool, :json.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", help="table, csv, json or parquet; from the suffix of --output if not given."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to the screen.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Let the statement change the graph.")] = False,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Let the statement reach beyond the graph: files of the machine (LOAD FROM, LOAD CSV), procedures of any "
            "kind, other databases of the server.",
        ),
    ] = False,
    for_spreadsheets: Annotated[
        bool,
        typer.Option(
            "--for-spreadsheets",
            help="In CSV, put an apostrophe before each text that a spreadsheet would take for a formula: one that begins "
            "with = + - @, a tab or a carriage return. Such ids are then no longer those of the graph.",
        ),
    ] = False,
    store: StoreOption = None,
) -> None:
    """Run one Cypher statement and show its rows.

    Read-only unless --write, and of the graph only unless --files. Example:

    kgkit query 'MATCH (u:User {id: $user})-[r:RECOMMENDED]->(i) RETURN i.name, r.score ORDER BY r.rank' -p user:str=42
    """
    import sys

    from kgkit.cli.output import format_of, say, to_format
    from kgkit.store.open import open_store

    format = format_of(format, output)
    if for_spreadsheets and format != "csv":
        raise ConfigError(f"--for-spreadsheets is for CSV, not for {format}: add --format csv")
    text = sys.stdin.read() if cypher == "-" else cypher
    params = dict(parse_param(given) for given in param or [])
    with open_store(store, read_only=not write) as opened:
        result = opened.query(text, params, write=write, files=files)
        if not result.columns:
            list(result.rows)
            say("done", err=True)
            return
        rows = to_format(result.columns, result.rows, format, output, for_spreadsheets)
    if output is not None:
        say(f"{rows:,} rows to {output}", err=True)


def parse_param(given: str) -> tuple[str, Any]:
    """NAME=VALUE or NAME:TYPE=VALUE to a name and a value. Raises ConfigError for anything else."""
    name, equals, text = given.partition("=")
    name, colon, type_ = name.partition(":")
    name = name.removeprefix("$")
    if not equals or not name.isidentifier() or (colon and type_ not in _TYPES):
        raise ConfigError(
            f"--param {given!r}: use NAME=VALUE or NAME:TYPE=VALUE with a type of {', '.join(_TYPES)}"
        )
    try:
        if type_ == "str":
            return name, text
        if type_ in ("int", "float"):
            return name, int(text) if type_ == "int" else float(text)
        if type_ == "bool":
            return name, {"true": True, "false": False}[text.lower()]
        return name, json.loads(text)
    except (ValueError, KeyError):
        if not type_:
            return name, text
        raise ConfigError(f"--param {given!r}: {text!r} is no {type_}") from None
