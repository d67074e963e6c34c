"""`kgkit complete`: the facts that a graph lacks, by a trained model, into the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgkit.cli.options import JsonOption, QuietOption, RunsOption, StoreOption
from kgkit.cli.output import say

if TYPE_CHECKING:
    from kgkit.complete import Completion
    from kgkit.graph import TrainingGraph
    from kgkit.store.port import GraphStore


def register(app: typer.Typer) -> None:
    app.command()(complete)


def complete(
    plugin: Annotated[
        str | None,
        typer.Option("--plugin", "-p", help="Complete by the latest run of this model on the store."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Complete by this run: its id, or its beginning."),
    ] = None,
    relations: Annotated[
        str | None, typer.Option("--relations", metavar="A,B,..", help="Names of relations; without it all.")
    ] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
    side: Annotated[
        str,
        typer.Option(
            "--side",
            metavar="tail|head|both",
            help="Ask for tails of heads that lack one, or heads of tails.",
        ),
    ] = "tail",
    top: Annotated[int, typer.Option("--top", min=1, help="Answers kept for each question.")] = 5,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Leave out answers below.")] = None,
    min_probability: Annotated[
        float | None, typer.Option("--min-probability", metavar="P", help="Leave out answers less likely.")
    ] = None,
    types: Annotated[
        bool,
        typer.Option(
            "--types/--no-types",
            help="Ask and answer with entities of the kind that the relation has; else with all.",
        ),
    ] = True,
    all_heads: Annotated[
        bool, typer.Option("--all-heads", help="Ask of those too that have some fact of the relation.")
    ] = False,
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration", metavar="platt|isotonic|none", help="How a score becomes a probability."
        ),
    ] = "platt",
    write_back: Annotated[
        bool, typer.Option("--write-back/--no-write-back", help="Put COMPLETED relationships into the graph.")
    ] = True,
    memory: Annotated[
        int, typer.Option("--memory", min=1, metavar="MIB", help="MiB of scores held at once.")
    ] = 512,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Rows shown, the likeliest.")] = 20,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Complete facts: score what heads lack, calibrate, write COMPLETED relationships. A later call replaces them."""
    from kgkit.complete import CompletionOptions
    from kgkit.completion_run import complete_run, run_to_complete
    from kgkit.errors import ConfigError
    from kgkit.store.open import open_store

    if plugin is not None and run is not None:
        raise ConfigError("give either --plugin NAME or --run RUN")
    names = tuple(name.strip() for name in (relations or "").split(",") if name.strip())
    if relations is not None and not names:
        raise ConfigError("--relations names no relation: leave it out for all of them")
    options = CompletionOptions(
        relations=names, side=side, top=top, min_score=min_score, min_probability=min_probability,  # type: ignore[arg-type]
        types=types, all_heads=all_heads, calibration=calibration, memory=memory << 20,  # type: ignore[arg-type]
    )  # fmt: skip

    def tell(message: str) -> None:
        if not (quiet or as_json):
            say(f"{message} ...", err=True)

    with open_store(store, read_only=not write_back, create=False) as graph:
        opened = run_to_complete(graph, runs, plugin, run)
        found, training = complete_run(graph, opened, options, write_back=write_back, tell=tell)
        rows = _rows(graph, found, training, limit)
    done = opened.record["completed"]
    if as_json:
        shown = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        say(json.dumps({"run": opened.id, **done, "shown": shown}, indent=2, ensure_ascii=False))
        return
    _summary(opened.id, done, rows)


_COLUMNS = ("head", "head_name", "relation", "tail", "tail_name", "score", "probability", "rank")


def _rows(store: GraphStore, found: Completion, graph: TrainingGraph, limit: int) -> list[list[Any]]:
    """The first rows, with names."""
    from kgkit.predict import named_nodes

    rows = found.table(graph).slice(0, limit).to_pylist()
    nodes = named_nodes(store, sorted({row[end] for row in rows for end in ("head", "tail")})) if rows else {}
    for row in rows:
        row |= {"head_name": nodes[row["head"]].name, "tail_name": nodes[row["tail"]].name}
    return [[row.get(column) for column in _COLUMNS] for row in rows]


def _summary(run: str, done: dict[str, Any], rows: list[list[Any]]) -> None:
    from kgkit.cli.output import print_table

    if rows:
        people = [
            [head_name or head, relation, tail_name or tail, score, probability, rank]
            for head, head_name, relation, tail, tail_name, score, probability, rank in rows
        ]
        print_table(["head", "relation", "tail", "score", "probability", "rank"], people)
    left = done["completed"] - len(rows)
    say(
        f"{done['completed']:,} facts completed of {done['questions']:,} questions"
        + (f", {left:,} not shown (--limit)" if left else "")
        + (f"; {done['written']['COMPLETED']:,} COMPLETED written, run {run}" if done["written"] else "")
    )
    for side, c in done["calibration"].items():
        if "brier" in c:
            say(
                f"probabilities of {side}s ({c['method']}, {c['valid_answers']:,} validation answers): on test facts "
                f"Brier {c['brier']:.4f} (the mean alone {c['brier_of_the_mean']:.4f}), ECE {c['ece']:.4f}"
            )
        elif "why" in c:
            say(f"no probabilities of {side}s: {c['why']}")
