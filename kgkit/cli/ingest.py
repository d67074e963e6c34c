"""`kgkit ingest`: a connector, or a recipe of several, into a store."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgkit.cli import output
from kgkit.cli.dynamic import help_option
from kgkit.cli.options import BulkOption, JsonOption, QuietOption, StoreOption

if TYPE_CHECKING:
    from kgkit.align.step import AlignReport, AlignStep
    from kgkit.ingest import IngestReport, Step
    from kgkit.recipe import SourceSpec


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
    from_items: Annotated[
        bool,
        typer.Option(
            "--from-items", help="Only facts near the items that are aligned with entities (--hops)."
        ),
    ] = False,
    hops: Annotated[
        int | None, typer.Option("--hops", metavar="N", help="With --from-items: how near. [default: 2]")
    ] = None,
    item_core: Annotated[
        int | None,
        typer.Option(
            "--item-core", metavar="N", help="With --from-items: users that an item must have. [default: 0]"
        ),
    ] = None,
    entity_core: Annotated[
        int | None,
        typer.Option("--entity-core", metavar="N", help="With --from-items: facts that an entity must have."),
    ] = None,
    relation_core: Annotated[
        int | None,
        typer.Option(
            "--relation-core", metavar="N", help="With --from-items: facts that a relation must have."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and about how long it would take.")
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

    near = {"hops": hops, "item_core": item_core, "entity_core": entity_core, "relation_core": relation_core}
    if recipe is not None:
        from kgkit.recipe import read_recipe

        if context.args:
            raise ConfigError(
                f"--recipe takes no options of connectors: write {' '.join(context.args)} into the file"
            )
        plan = read_recipe(recipe)
        if from_items or any(n is not None for n in near.values()):
            raise ConfigError(
                "--recipe says for each source what to keep of it: write from_items = true into it"
            )
        store, sources = store or plan.store, plan.sources
    else:
        from kgkit.cli.dynamic import parse_extra
        from kgkit.config import make_config
        from kgkit.recipe import SourceSpec, narrowing
        from kgkit.registry import load_connector

        assert name is not None
        connector = load_connector(name)()
        values = parse_extra(context.args, connector.Config, positional="paths")
        if not values.get("paths"):
            raise ConfigError(
                f"kgkit ingest {name} needs a file or folder after its name; see kgkit ingest {name} --help"
            )
        narrow = narrowing(from_items, **near)
        sources = [SourceSpec(connector, make_config(connector.Config, values), narrow)]

    if dry_run:
        _tell_plan(store, sources, force, as_json)
        return

    from kgkit.align.step import AlignStep
    from kgkit.align.step import run as align
    from kgkit.bulk import bulk_road
    from kgkit.cli.stopping import Stop
    from kgkit.errors import StoppedError
    from kgkit.ingest import ingest as run
    from kgkit.rejects import RejectsFile
    from kgkit.store.open import open_store

    def say(message: str) -> None:
        if not quiet:
            output.say(message, err=True)

    files = (
        file
        for source in sources
        if not isinstance(source, AlignStep)
        for file in source.connector.files(source.config)
    )
    reports: list[IngestReport | AlignReport] = []
    before: list[str] = []  # sources that an alignment comes after
    listing = RejectsFile(rejects)
    stop = Stop()
    try:
        with (
            listing,
            open_store(store, relationship_types=relationship_types) as opened,
            bulk_road(opened, files, bulk, say) as graph,
            reporter(quiet) as progress,
        ):
            for source in sources:
                if isinstance(source, AlignStep):
                    aligned = align(
                        source,
                        graph,
                        listing,
                        max_rejects=max_rejects,
                        force=force,
                        after=before,
                        tell=_steps_of(source, progress),
                    )
                    reports.append(aligned)
                    if not as_json:
                        output.say(aligned.summary())
                    continue
                report = run(
                    source.connector,
                    source.config,
                    graph,
                    narrow=source.narrow,
                    max_rejects=max_rejects,
                    rejects=listing,
                    force=force,
                    on_progress=progress,
                    stoppable=stop.heeded,
                )
                reports.append(report)
                before += [f"{report.connector}:{part.source}" for part in report.sources]
                if not as_json:
                    output.say(report.summary())
    except (KeyboardInterrupt, StoppedError):  # click would end without a word
        output.say("interrupted: what was written stays, and the same command goes on from there", err=True)
        raise typer.Exit(128 + (stop.by or signal.SIGINT)) from None
    if as_json:
        output.say(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))


def _steps_of(step: AlignStep, progress: Callable[[Step], None] | None) -> Callable[[str, int, int], None]:
    from kgkit.ingest import Step

    def tell(phase: str, done: int, total: int) -> None:
        if progress is not None:
            progress(Step(step.name, phase, done, done, total))

    return tell


def _tell_plan(
    store: str | None, sources: Sequence[SourceSpec | AlignStep], force: bool, as_json: bool
) -> None:
    from kgkit.cli.output import print_table
    from kgkit.plan import plan
    from kgkit.store.open import embedded_path, open_store

    path = embedded_path(store)
    if path is not None and not path.exists():
        plans = plan(sources, None, force=force)
    else:
        with open_store(store, read_only=True) as graph:
            plans = plan(sources, graph, force=force)
    if as_json:
        output.say(json.dumps([dataclasses.asdict(p) for p in plans], indent=2, ensure_ascii=False))
        return
    rows = []
    for p in plans:
        about = "" if p.whole else "about "
        read = "" if p.state == "unchanged" else f"{about}{p.rows:,} rows"
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in p.kinds.items())
        rows.append([p.source, p.connector, p.state, f"{p.bytes / 1e6:,.1f} MB", read, kinds])
    print_table(["source", "connector", "state", "size", "to read", "to write"], rows)
    for p in plans:
        for why, n in p.left_out.items():
            output.say(f"{p.source}: would leave out {n:,} rows, {why}")
        if p.rejected:
            output.say(f"{p.source}: would reject {p.rejected:,} malformed rows")
    output.say(f"about {sum(p.seconds for p in plans):,.0f} s in all; nothing was written")


def _section(words: list[str]) -> None:
    from kgkit.cli.dynamic import options_help
    from kgkit.registry import CONNECTORS, cards, load_connector

    name = next((w for w in words if not w.startswith("-")), None)
    if name is not None:
        connector = load_connector(name)
        options_help(connector.Config, f"Options of {name}: {connector.about}", positional="paths")
        return
    output.say("Connectors (kgkit ingest NAME --help lists their options):")
    for card in cards(CONNECTORS):
        output.say(f"  {card.name:<12} {card.about}")
