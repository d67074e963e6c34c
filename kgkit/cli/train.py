"""`kgkit train`: a plugin on a store; the plugin's own options come from its typed config."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgkit.cli.dynamic import help_option
from kgkit.cli.options import JsonOption, QuietOption, RunsOption, StoreOption

if TYPE_CHECKING:
    from kgkit.run import Observer, Run


def register(app: typer.Typer) -> None:
    app.command(
        add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
    )(train)


def train(
    context: typer.Context,
    plugin: Annotated[
        str | None, typer.Option("--plugin", "-p", help="Model to train; see `kgkit plugins`.")
    ] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with an unfinished run.")
    ] = None,
    hops: Annotated[
        str | None,
        typer.Option(
            "--hops",
            metavar="N|auto",
            help="Only facts within N hops of the items (auto: as far as the model sees).",
        ),
    ] = None,
    triples_query: Annotated[
        str | None,
        typer.Option(
            "--triples-query",
            metavar="CYPHER",
            help="Your own facts: must return head, relation, tail (ids).",
        ),
    ] = None,
    interactions_query: Annotated[
        str | None,
        typer.Option(
            "--interactions-query", metavar="CYPHER", help="Your own purchases: must return user, item (ids)."
        ),
    ] = None,
    write_back: Annotated[
        bool, typer.Option("--write-back/--no-write-back", help="Put the answers into the graph.")
    ] = True,
    top: Annotated[int, typer.Option("--top", min=0, help="Recommendations per user to write back.")] = 10,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="given|random|by-relation|by-time",
            help="How facts are parted; without it by their labels if any have one, else random.",
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option("--ratios", metavar="A:B:C", help="Training, validation, test: 6:2:2; of facts 8:1:1."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Of facts, unfiltered ranks beside the filtered ones.")
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", metavar="RUN", help="Begin with the vectors of another run."),
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", min=16, metavar="MIB", help="MiB of scores held while ranking.")
    ] = 512,
    keep_checkpoint: Annotated[
        bool, typer.Option("--keep-checkpoint", help="Keep the checkpoint of the finished run too.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    help: Annotated[
        bool,
        help_option(lambda words: _section(words), "Show this message (with --plugin: its options too)."),
    ] = False,
) -> None:
    """Train a model on a graph: extract by Cypher, split, train, select on validation, test once, write back, record."""
    from kgkit.cli.dynamic import parse_extra
    from kgkit.config import make_config
    from kgkit.errors import ConfigError
    from kgkit.registry import load_model

    if (plugin is None) == (resume is None):
        raise ConfigError("give either --plugin NAME (see `kgkit plugins`) or --resume RUN")
    if resume is not None and context.args:
        raise ConfigError(f"--resume takes a run's own options: leave out {' '.join(context.args)}")
    parameters = {}
    if plugin is not None:
        config = load_model(plugin).Config
        parameters = parse_extra(context.args, config)
        make_config(config, parameters)  # wrong options are named before any store is opened

    from kgkit import pipeline
    from kgkit.cli.stopping import Stopped, raising
    from kgkit.run import Run
    from kgkit.store.open import open_store

    told, begun = observer(quiet or as_json), ""

    def observe(event: str, data: Mapping[str, Any]) -> None:
        nonlocal begun
        begun = data["id"] if event == "run" else begun
        told(event, data)

    try:
        with raising():
            if resume is not None:
                opened = Run.open(runs, resume)
                with open_store(opened.store(store), create=False) as graph:
                    run = pipeline.resume(graph, opened, observe)
            else:
                assert plugin is not None
                options = pipeline.TrainOptions(
                    runs=runs, write_back=write_back, top=top, memory=memory << 20,
                    hops=hops, triples_query=triples_query, interactions_query=interactions_query,
                    split=split, ratios=ratios, raw=raw, init_from=init_from, keep_checkpoint=keep_checkpoint,
                )  # fmt: skip
                with open_store(store, read_only=not write_back, create=False) as graph:
                    run = pipeline.train(graph, plugin, parameters, options, observe)
    except KeyboardInterrupt as stop:
        if begun:
            flags = Run(runs / begun, {"id": begun}).flags
            typer.echo(f"interrupted: `kgkit train --resume {flags}` goes on from the last epoch", err=True)
        raise typer.Exit(128 + stop.number if isinstance(stop, Stopped) else 130) from None
    if as_json:
        typer.echo(json.dumps(run.record, indent=2))
    else:
        summary(run)


def _section(words: list[str]) -> None:
    from kgkit.cli.dynamic import options_help
    from kgkit.registry import load_model

    named = [w.removeprefix("--plugin=") for w in words if w.startswith("--plugin=")]
    named += [after for word, after in itertools.pairwise(words) if word in ("--plugin", "-p")]
    if named:
        options_help(load_model(named[0]).Config, f"Options of {named[0]}")
    else:
        typer.echo("Add --plugin NAME to see that model's own options; `kgkit plugins` lists the names.")


def observer(quiet: bool) -> Observer:
    """Tells of stages and epochs on standard error."""
    from kgkit.report.metrics import validation_name

    def observe(event: str, data: Mapping[str, Any]) -> None:
        if quiet:
            return
        if event == "stage":
            typer.echo(f"{data['name']} ...", err=True)
        elif event == "data":
            counts = [f"{n:,} {word}" for word, n in data.items() if isinstance(n, int) and n]
            typer.echo("  " + ", ".join(counts), err=True)
        elif event == "notes":
            for line in data["lines"]:
                typer.echo(f"  {line}", err=True)
        elif event == "epoch":
            losses = ", ".join(f"{k} {v:.4f}" for k, v in data["loss"].items())
            metric = validation_name(data)
            seen = f"{metric} {data[metric]:.4f}  " if metric else ""
            best = "  *" if data.get("best_epoch") == data["epoch"] else ""
            typer.echo(
                f"  epoch {data['epoch']}/{data['epochs']}  loss {losses}  {seen}{data['train_s']:.2f} s{best}",
                err=True,
            )

    return observe


def summary(run: Run) -> None:
    """What a person wants to see of a finished run."""
    from kgkit.cli.output import print_table
    from kgkit.report.metrics import metric_rows

    record = run.record
    print_table(*metric_rows(record["metrics"]), title=f"{record['plugin']}: metrics")
    written = ", ".join(f"{n:,} {kind}" for kind, n in record.get("written", {}).items())
    typer.echo(f"run     {run.id}  ({', '.join(f'{k} {v:.2f} s' for k, v in record['timings'].items())})")
    if written:
        typer.echo(f"wrote   {written} into {record['store']}")
    typer.echo(f"next    kgkit runs show {run.id}")
