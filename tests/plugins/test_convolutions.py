"""ConvE, Conv-TransE and R-GCN from end to end on a toy graph: learning, resuming, written back, answering."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kgkit import pipeline
from kgkit.pipeline import TrainOptions
from kgkit.predict import Node, predict, standing_run
from kgkit.run import Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

SMALL: dict[str, dict[str, Any]] = {
    "conve": {"dim": 16, "image_height": 4, "filters": 4, "batch_size": 32, "learning_rate": 0.01},
    "convtranse": {"dim": 16, "filters": 4, "batch_size": 32, "learning_rate": 0.01},
    "rgcn": {"dim": 16, "bases": 2, "batch_size": 32, "negatives": 8},
}
MODELS = [*SMALL, "rgcn block"]


def settings_of(which: str, epochs: int) -> tuple[str, dict[str, Any]]:
    plugin, _, block = which.partition(" ")
    more = {"decomposition": "block", "block_size": 4, "layers": 2} if block else {}
    return plugin, {**SMALL[plugin], **more, "epochs": epochs, "validate_every": 2, "seed": 3}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread is faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def graph(toy_store_path: Path) -> Iterator[GraphStore]:
    with open_store(toy_store_path) as store:
        yield store


@pytest.mark.parametrize("which", MODELS)
def test_it_learns_and_writes_back(graph: GraphStore, tmp_path: Path, which: str) -> None:
    plugin, settings = settings_of(which, 30)
    run = pipeline.train(graph, plugin, settings, TrainOptions(runs=tmp_path))
    record = json.loads((run.folder / "run.json").read_text())
    losses = [next(iter(line["loss"].values())) for line in run.trace()]
    assert losses[-1] < 0.8 * losses[0]
    # A random order of over a hundred entities has an MRR of about 0.05.
    assert record["metrics"]["test"]["mrr"] > 0.1
    assert pipeline.evaluate_again(graph, Run.open(tmp_path, run.id)) == record["metrics"]
    ids, vectors = graph.read_vectors("Entity", f"embedding_{plugin}")
    assert vectors.shape == (len(ids), 16)
    heard: list[str] = []
    found = predict(
        graph,
        standing_run(graph),
        Node("m.001"),
        "film.film.genre",
        "tail",
        top=4,
        runs=tmp_path,
        tell=heard.append,
    )
    assert {p.node.id for p in found} <= {"g.0", "g.1", "g.2", "g.3"}
    assert heard == [], "filters and R-GCN's encoded vectors are in the graph"
    saved = run.load_weights()
    if plugin == "rgcn":
        # What is written back is what the layers make of the table, not the table.
        order = np.argsort(np.array(ids.to_pylist()))
        assert not np.allclose(vectors[order], saved["entity"], atol=1e-3)
    else:
        assert np.abs(saved["running_mean_hidden"]).sum() > 0


@pytest.mark.parametrize("which", MODELS)
def test_a_resumed_run_ends_the_same(graph: GraphStore, tmp_path: Path, which: str) -> None:
    plugin, settings = settings_of(which, 6)
    options = TrainOptions(runs=tmp_path, write_back=False)
    whole = pipeline.train(graph, plugin, settings, options)

    def stop(event: str, data: Mapping[str, Any]) -> None:
        if event == "epoch" and data["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(graph, plugin, settings, options, stop)
    resumed = pipeline.resume(graph, Run.open(tmp_path, list_runs(tmp_path)[-1]["id"]))
    assert resumed.record["metrics"] == whole.record["metrics"]
    assert [t["loss"] for t in resumed.trace()] == [t["loss"] for t in whole.trace()]
    first, second = (r.load_weights() for r in (whole, resumed))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], name)


@pytest.mark.parametrize("plugin", ["conve", "convtranse"])
def test_it_also_trains_against_sampled_negatives(graph: GraphStore, tmp_path: Path, plugin: str) -> None:
    _, settings = settings_of(plugin, 2)
    options = TrainOptions(runs=tmp_path, write_back=False)
    run = pipeline.train(graph, plugin, {**settings, "training": "sampled", "negatives": 4}, options)
    losses = [line["loss"]["facts"] for line in run.trace()]
    assert losses[1] < losses[0]
    assert run.record["metrics"]["test"]["mrr"] > 0
