"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="KGKIT_STORE",
        show_envvar=True,
        metavar="STORE",
        help="Path of an embedded graph, bolt:// or neo4j:// URI, or neo4j-managed.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs", envvar="KGKIT_RUNS", show_envvar=True, metavar="DIR", help="Folder of training runs."
    ),
]
AnsweringPlugin = Annotated[
    str | None, typer.Option("--plugin", "-p", help="Whose vectors; needed when several models have some.")
]
AnsweringRun = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="Whose vectors, by run id or its beginning.")
]
BulkOption = Annotated[
    str,
    typer.Option(
        "--bulk",
        metavar="auto|always|never",
        help="Neo4j's offline importer, for an empty neo4j-managed; auto: where it pays.",
    ),
]
