"""Runs from end to end on a toy graph: reproducible, resumable, recorded, written back, taken back."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from processes import hears_control_c
from toygraph import purchases

from kgkit import pipeline
from kgkit.config import make_config
from kgkit.errors import ConfigError, NonFiniteLoss, PluginError
from kgkit.ingest import ingest
from kgkit.pipeline import TrainOptions
from kgkit.registry import load_connector
from kgkit.run import Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

SMALL = {"epochs": 6, "batch_size": 64, "dim": 8, "neighbours": 4, "learning_rate": 0.01, "seed": 3}


@pytest.fixture
def graph(toy_store_path: Path) -> Iterator[GraphStore]:
    with open_store(toy_store_path) as store:
        yield store


def _settings(plugin: str) -> dict[str, Any]:
    return SMALL if plugin.startswith("kg") else {"seed": 3}


@pytest.mark.parametrize("plugin", ["kgcn", "kgnn_ls", "popularity", "itemknn", "ease"])
def test_every_plugin_trains_evaluates_and_writes_back(
    graph: GraphStore, tmp_path: Path, plugin: str
) -> None:
    run = pipeline.train(graph, plugin, _settings(plugin), TrainOptions(runs=tmp_path, top=5))
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["metrics"]["test"]["auc"] > 0.5, "worse than chance on a graph with taste in it"
    assert set(record["timings"]) >= {"extract", "train", "evaluate", "write_back"}
    assert record["data"]["fingerprint"]
    assert record["split"]
    assert record["peak_memory"] > 2**20
    assert "MATCH" in record["extraction"]["queries"]["interactions"]
    written = graph.query("MATCH (u:User)-[r:RECOMMENDED]->(i:Entity) RETURN u.id, i.item_id, r.rank, r.run")
    rows = list(written.rows)
    assert len(rows) == record["written"]["RECOMMENDED"] > 0
    assert {row[3] for row in rows} == {run.id}
    assert not {(u, i) for u, i, _, _ in rows} & set(purchases()), "recommends what was bought"
    assert {row[2] for row in rows} <= set(range(1, 6))
    node = list(graph.query("MATCH (r:Run {id: $id}) RETURN r.metrics, r.current", {"id": run.id}).rows)
    assert json.loads(node[0][0]) == record["metrics"]
    assert node[0][1] is True


@pytest.mark.parametrize("plugin", ["itemknn", "ease"])
def test_what_a_model_knows_nothing_about_is_left_out_and_said(tmp_path: Path, plugin: str) -> None:
    """Twenty users share nine items, a to i; of thirty others each bought an item of his own."""
    log = tmp_path / "log.csv"
    shared = [f"u{u:02d},{item}" for u in range(20) for at, item in enumerate("abcdefghi") if (u + at) % 3]
    log.write_text("user,item\n" + "\n".join([*shared, *(f"v{v:02d},own{v}" for v in range(30))]) + "\n")
    told = []
    with open_store(tmp_path / "graph.lbug") as store:
        connector = load_connector("purchases")()
        ingest(connector, make_config(connector.Config, {"paths": (log,)}), store)
        run = pipeline.train(
            store, plugin, {}, TrainOptions(runs=tmp_path / "runs", top=3), lambda e, d: told.append((e, d))
        )
        rows = [
            *store.query("MATCH (u:User)-[r:RECOMMENDED]->(i:Entity) RETURN u.id, i.item_id, r.score").rows
        ]
        kept = store.query("MATCH (r:Run) RETURN r.provenance").rows
        provenance = json.loads(next(iter(kept))[0])
    got = Counter(user for user, _, _ in rows)
    assert len(got) > 15 and got.keys() <= {f"u{u:02d}" for u in range(20)}
    assert {item for _, item, _ in rows} <= set("abcdefghi") and all(score for _, _, score in rows)
    fewer, none = 50 - sum(n == 3 for n in got.values()), 50 - len(got)
    assert (
        run.record["recommended"] == provenance["recommended"] == {"users": 50, "fewer": fewer, "none": none}
    )
    (line,) = [line for event, data in told if event == "notes" for line in data["lines"]]
    assert line.startswith(f"{fewer} of 50 users got fewer than 3 recommendations, {none} of them none: ")
    assert plugin in line and "--plugin popularity" in line


def test_a_seed_gives_the_same_metrics_again(graph: GraphStore, tmp_path: Path) -> None:
    options = TrainOptions(runs=tmp_path, write_back=False)
    first, second = (pipeline.train(graph, "kgnn_ls", SMALL, options) for _ in range(2))
    other = pipeline.train(graph, "kgnn_ls", {**SMALL, "seed": 4}, options)
    assert first.record["metrics"] == second.record["metrics"]
    assert first.record["split"] == second.record["split"]
    assert other.record["split"] != first.record["split"]


@pytest.mark.parametrize("after", [1, 3, 5])
@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_run_ends_with_the_same_metrics(
    graph: GraphStore, tmp_path: Path, after: int, fused: bool
) -> None:
    settings = {**SMALL, "fused": fused}
    options = TrainOptions(runs=tmp_path, write_back=False)
    whole = pipeline.train(graph, "kgcn", settings, options)

    def stop(event: str, data: Mapping[str, Any]) -> None:
        if event == "epoch" and data["epoch"] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(graph, "kgcn", settings, options, stop)
    record = list_runs(tmp_path)[-1]
    assert record["status"] == "interrupted"
    resumed = pipeline.resume(graph, Run.open(tmp_path, record["id"]))
    assert resumed.record["metrics"] == whole.record["metrics"]
    assert [t["epoch"] for t in resumed.trace()] == list(range(1, SMALL["epochs"] + 1))
    assert [t["loss"] for t in resumed.trace()] == [t["loss"] for t in whole.trace()]


def test_resuming_on_another_graph_is_refused(graph: GraphStore, tmp_path: Path) -> None:
    def stop(event: str, data: Mapping[str, Any]) -> None:
        if event == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(graph, "kgcn", SMALL, TrainOptions(runs=tmp_path), stop)
    graph.delete_nodes("User", ["u0"])
    with pytest.raises(ConfigError, match="changed"):
        pipeline.resume(graph, Run.open(tmp_path, "kgcn"))


def test_a_finished_run_is_not_resumed(graph: GraphStore, tmp_path: Path) -> None:
    run = pipeline.train(graph, "popularity", {}, TrainOptions(runs=tmp_path, write_back=False))
    with pytest.raises(ConfigError, match="finished"):
        pipeline.resume(graph, run)


def test_a_second_run_replaces_the_first_ones_answers(graph: GraphStore, tmp_path: Path) -> None:
    options = TrainOptions(runs=tmp_path, top=4)
    first = pipeline.train(graph, "kgcn", SMALL, options)
    other = pipeline.train(graph, "popularity", {}, options)
    second = pipeline.train(graph, "kgcn", {**SMALL, "seed": 9}, options)
    runs = {
        row[0] for row in graph.query("MATCH (:User)-[r:RECOMMENDED]->(:Entity) RETURN DISTINCT r.run").rows
    }
    assert runs == {second.id, other.id}
    current = dict(graph.query("MATCH (r:Run) RETURN r.id, r.current").rows)
    assert current == {first.id: False, other.id: True, second.id: True}
    ids, vectors = graph.read_vectors("Entity", "embedding_kgcn")
    assert vectors.shape == (len(ids), SMALL["dim"])
    graph.erase_run(second.id)
    runs = {
        row[0] for row in graph.query("MATCH (:User)-[r:RECOMMENDED]->(:Entity) RETURN DISTINCT r.run").rows
    }
    assert runs == {other.id}
    assert graph.read_vectors("Entity", "embedding_kgcn")[1].size == 0


def test_the_stored_model_gives_its_metrics_again(graph: GraphStore, tmp_path: Path) -> None:
    for plugin in ("kgnn_ls", "itemknn"):
        run = pipeline.train(graph, plugin, _settings(plugin), TrainOptions(runs=tmp_path, write_back=False))
        assert pipeline.evaluate_again(graph, Run.open(tmp_path, run.id)) == run.record["metrics"]


def test_the_same_run_is_found_and_a_changed_graph_is_noticed(graph: GraphStore, tmp_path: Path) -> None:
    options = TrainOptions(runs=tmp_path)
    run = pipeline.train(graph, "kgcn", SMALL, options)
    found = pipeline.same_run(graph, "kgcn", SMALL, options)
    assert found is not None
    assert found.id == run.id
    assert pipeline.same_run(graph, "kgcn", {**SMALL, "dim": 4}, options) is None
    graph.delete_nodes("User", ["u1"])
    assert pipeline.same_run(graph, "kgcn", SMALL, options) is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_non_finite_loss_names_epoch_and_phase(graph: GraphStore, tmp_path: Path, fused: bool) -> None:
    settings = {**SMALL, "learning_rate": 1e30, "fused": fused, "epochs": 3}
    with pytest.raises(NonFiniteLoss, match=r"epoch \d, phase 'pairs'"):
        pipeline.train(graph, "kgcn", settings, TrainOptions(runs=tmp_path, write_back=False))
    assert list_runs(tmp_path)[-1]["status"] == "failed"


def test_early_stopping_keeps_the_best_epoch(graph: GraphStore, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 200, "patience": 2, "learning_rate": 0.1}
    run = pipeline.train(graph, "kgcn", settings, TrainOptions(runs=tmp_path, write_back=False))
    trace = run.trace()
    assert len(trace) < 200
    scores = [t["valid_auc"] for t in trace]
    assert run.record["best_epoch"] == 1 + scores.index(max(scores))
    assert len(trace) == run.record["best_epoch"] + 2
    assert math.isclose(run.record["metrics"]["valid"]["auc"], max(scores), rel_tol=1e-9)


def test_an_unknown_plugin_or_option_is_named(graph: GraphStore, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="Did you mean kgcn"):
        pipeline.train(graph, "kgcm", {}, TrainOptions(runs=tmp_path))
    with pytest.raises(ConfigError, match="Did you mean --dim"):
        pipeline.train(graph, "kgcn", {"dims": 3}, TrainOptions(runs=tmp_path))
    with pytest.raises(ConfigError, match=">= 1"):
        pipeline.train(graph, "kgcn", {"dim": 0}, TrainOptions(runs=tmp_path))
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_training_process_can_be_resumed(toy_store_path: Path, tmp_path: Path, number: int) -> None:
    runs, settings = tmp_path / "runs", {**SMALL, "epochs": 400}
    flags = [a for k, v in settings.items() for a in (f"--{k.replace('_', '-')}", str(v))]
    command = [sys.executable, "-m", "kgkit", "train", "--plugin", "kgcn", "--store", str(toy_store_path),
               "--runs", str(runs), "--no-write-back", "--quiet", *flags]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_control_c)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        len(p.read_text()) > 400 for p in runs.glob("*/trace.jsonl")
    ):
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    assert "Traceback" not in said
    assert ("--resume kgcn-" in said) == (number == signal.SIGINT)
    with open_store(toy_store_path) as store:
        stopped = Run.open(runs, "kgcn")
        assert 0 < len(stopped.trace()) < 400
        resumed = pipeline.resume(store, stopped)
        whole = pipeline.train(
            store, "kgcn", settings, TrainOptions(runs=tmp_path / "whole", write_back=False)
        )
    assert resumed.record["metrics"] == whole.record["metrics"]
