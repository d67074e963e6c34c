"""`kgkit demo`: the guided tour from real data to answers queried in Cypher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

USER, MOVIE = "42", "Star Wars"
MODEL = "kgnn_ls"
BASELINES = ("popularity", "itemknn")
SETTINGS: dict[str, dict[str, Any]] = {
    # Found on the validation part of this very data: the defaults are the paper's for Last.FM.
    MODEL: {
        "seed": 0,
        "dim": 32,
        "batch_size": 1024,
        "learning_rate": 0.01,
        "epochs": 25,
        "select": "recall@20",
    },
    "popularity": {"seed": 0},
    "itemknn": {"seed": 0},
}


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the graph and the runs go.")] = Path(
        "kgkit-demo"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Local files of ml-100k instead.")
    ] = None,
) -> None:
    """MovieLens-100K and its Freebase graph, start to end: ingest, train kgnn_ls, write back, query. A minute or so."""
    from kgkit import pipeline
    from kgkit.align.audit import SHUFFLED, audit
    from kgkit.cli.output import print_table
    from kgkit.cli.progress import reporter
    from kgkit.cli.train import observer
    from kgkit.config import make_config
    from kgkit.demo import LINK, QUERIES, WHY_IDS, movielens
    from kgkit.errors import ConfigError
    from kgkit.ingest import ingest
    from kgkit.registry import load_connector
    from kgkit.store.open import open_store

    source = movielens(data)
    folder.mkdir(parents=True, exist_ok=True)
    path, runs = folder / "graph.lbug", folder / "runs"
    with open_store(path) as store:
        _title("1  Purchases, facts, alignment and titles into the embedded graph", path)
        connector = load_connector("recbole")()
        config: Any = make_config(
            connector.Config, {"paths": (source,), "min_rating": 4.0, "source": "ml-100k", "link": LINK}
        )
        with reporter(quiet=False) as progress:
            report = ingest(connector, config, store, on_progress=progress)
        typer.echo(report.summary())
        judged = audit(store)
        if judged.verdict == SHUFFLED:
            raise ConfigError(
                f"{path} holds films linked wrongly, as an earlier kgkit's demo linked them: delete {folder} and run the "
                "demo again"
            )
        typer.echo(f"alignment: {judged.sentence()}")
        _title(f"2  Train {MODEL}, and the classics on the same split", runs)
        records = {}
        for name in (MODEL, *BASELINES):
            options = pipeline.TrainOptions(runs=runs, write_back=name == MODEL)
            done = pipeline.same_run(store, name, SETTINGS[name], options)
            if done is not None:
                typer.echo(f"{name}: nothing has changed since run {done.id}")
            else:
                typer.echo(name, err=True)
                done = pipeline.train(store, name, SETTINGS[name], options, observer(quiet=False))
            records[name] = done.record
        metrics = ("auc", "recall@10", "recall@20", "ndcg@10", "precision@10", "hit@10")
        rows = [[name, *(f"{r['metrics']['test'][m]:.4f}" for m in metrics)] for name, r in records.items()]
        print_table(["model", *metrics], rows, title="test metrics, one split, all items ranked")
        _title("3  Ask the graph", None)
        for query in QUERIES:
            typer.echo("\n" + typer.style(query.cypher, dim=True))
            result = store.query(query.cypher, {k: v for k, v in _PARAMS.items() if f"${k}" in query.cypher})
            print_table(result.columns, list(result.rows), title=query.title)
            if "entity" in result.columns:
                typer.echo(WHY_IDS)
    _title("Next", None)
    typer.echo(
        f"""kgkit stats --store {path}
kgkit align --audit --store {path}
kgkit query --store {path} "MATCH (i:Entity {{name: 'Fargo'}})-[f:FACT]->(e:Entity) RETURN f.relation, e.name, e.id LIMIT 10"
kgkit train --plugin kgcn --store {path} --aggregator concat
kgkit train --plugin {MODEL} --help
kgkit runs --runs {runs}
kgkit neo4j start && kgkit copy --from {path} --to neo4j-managed"""
    )


_PARAMS = {"user": USER, "movie": MOVIE}


def _title(text: str, where: Path | None) -> None:
    typer.echo("\n" + typer.style(text, bold=True) + (f"  ({where})" if where else ""))
