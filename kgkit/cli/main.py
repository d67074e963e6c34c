"""`kgkit`: puts the commands together, and turns expected errors into one line and exit code 1."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import kgkit.store.open
from kgkit import __version__, disk
from kgkit.errors import KgkitError

# A command module has `register(app)` and imports anything heavy inside its functions: --help must stay fast.
COMMANDS = (
    "ingest",
    "align",
    "train",
    "evaluate",
    "complete",
    "predict",
    "neighbours",
    "runs",
    "report",
    "query",
    "stats",
    "copy",
    "check",
    "backup",
    "plugins",
    "neo4j",
    "demo",
)


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: putting all together takes longer than many an answer."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Of a mistyped one, any may be meant.
        for name in (cmd_name,) if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                one = typer.Typer(rich_markup_mode=None)
                importlib.import_module(f"kgkit.cli.{name}").register(one)
                self.commands.update(typer.main.get_group(one).commands)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="kgkit",
    cls=Commands,
    help="Purchase logs and knowledge graphs into a graph database, models trained on it, answers back into it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help pages take twice as long to import as everything else
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kgkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Purchase logs and knowledge graphs into a graph database, models trained on it, answers back into it."""


def main() -> None:
    """Entry point of the `kgkit` script."""
    # Imports make objects by the hundred thousand that stay: looking for garbage among them is a tenth of a short
    # command's time at Python's own threshold of 700.
    gc.set_threshold(50_000, 20, 100)
    kgkit.store.open.in_command = True
    try:
        app()
    except KgkitError as error:
        from kgkit.cli.output import say

        say(f"error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:  # `kgkit query ... | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if (fault := disk.unforeseen(error)) is None:
            raise
        from kgkit.cli.output import say

        say(f"error: {fault}", err=True)
        sys.exit(1)
    finally:
        # All that is left goes with the process: on its way out the interpreter need not look through it, a tenth of a
        # short command's time. torch's extensions, though, would print what they take for leaks.
        if "torch" not in sys.modules:
            gc.freeze()
