"""Last.FM as every benchmark of training sees it: ingested into an embedded store, extracted by Cypher, split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import empty_store, ingest_file
from kgkit.config import make_config
from kgkit.evaluate.splits import Split
from kgkit.extract import extract
from kgkit.graph import TrainingGraph
from kgkit.model import Recommender
from kgkit.registry import load_model
from kgkit.run import Run
from kgkit.store.port import GraphStore

POSITIVES = 21_173


@contextmanager
def lastfm_store(data: Path) -> Iterator[GraphStore]:
    """An embedded store with Last.FM in it, gone afterwards."""
    folder = data / "lastfm"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there: give the folder of the data sets with --data")
    with empty_store("ladybug") as store:
        ingest_file(store, "kgcn", folder)
        yield store


def lastfm_graph(data: Path) -> TrainingGraph:
    """The training graph. Stops unless it has the positives that the papers' code finds."""
    with lastfm_store(data) as store:
        graph = extract(store)
    if len(graph.interactions) != POSITIVES:
        raise SystemExit(
            f"{len(graph.interactions):,} positives in Last.FM where {POSITIVES:,} were expected"
        )
    return graph


def fitted(
    plugin: str, graph: TrainingGraph, split: Split, options: Mapping[str, Any]
) -> tuple[Recommender, list[dict[str, Any]]]:
    """A trained model and the trace of its epochs (`train_s` is the training alone)."""
    cls = load_model(plugin)
    assert issubclass(cls, Recommender)
    model = cls(make_config(cls.Config, options))
    with TemporaryDirectory(prefix="kgkit-bench-") as folder:
        run = Run.create(Path(folder), plugin, dict(options))
        model.fit(graph, split, run)
        return model, run.trace()
