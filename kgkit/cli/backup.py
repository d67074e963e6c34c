"""`kgkit backup`: a copy of a whole embedded graph, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kgkit.cli.options import QuietOption, StoreOption
from kgkit.cli.output import say

app = typer.Typer(
    help="Copy an embedded graph to a file, and put such a copy in its place again.", no_args_is_help=True
)
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The copy; its seal is FILE.seal.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="backup")


@app.command()
def create(
    file: FileArgument,
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Copy the graph as its last commit left it. Refuses while somebody writes it, and where it is damaged."""
    from kgkit.store.ladybug_backup import back_up

    with _progress(quiet) as tell:
        size = back_up(
            _path(store, f"kgkit copy --from {store} --to {file}"), file, replace_it=force, tell=tell
        )
    say(f"{file}: {size:,} bytes, compared with the graph")


@app.command()
def restore(
    file: FileArgument,
    store: StoreOption = None,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Also a FILE without a seal, which cannot be told to be whole.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the graph that is replaced, as STORE.replaced.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Put a copy in the place of the graph, after a look at all of it. What was there stays until the copy is in place."""
    from kgkit.store.ladybug_backup import restore as put_back

    with _progress(quiet) as tell:
        path = _path(store, f"kgkit copy --from {file} --to {store}")
        kept = put_back(file, path, unsealed=unsealed, keep=keep, tell=tell)
    say(f"{path} is {file} again" + (f"; what was there is {kept}" if kept else ""))


def _path(store: str | None, instead: str) -> Path:
    """The file of an embedded graph. Raises ConfigError for a server's."""
    from kgkit.errors import ConfigError
    from kgkit.store.open import embedded_path

    path = embedded_path(store)
    if path is None:
        raise ConfigError(
            "a server keeps backups of its own (neo4j-admin database dump, while it is stopped); or, as an embedded graph: "
            + instead
        )
    return path


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    from kgkit.cli.progress import reporter
    from kgkit.ingest import Step

    with reporter(quiet, every=2.0) as progress:

        def tell(what: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Step("backup", what, done, done, total))

        yield tell
