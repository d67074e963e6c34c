"""complete, predict and neighbours on a small shop whose facts real models were trained on, for a few epochs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import toygraph
import typer
from typer.testing import CliRunner

from kgkit import pipeline, predict
from kgkit.cli import complete as complete_command
from kgkit.cli import neighbours as neighbours_command
from kgkit.cli import predict as predict_command
from kgkit.cli import runs as runs_command
from kgkit.errors import ConfigError, KgkitError, StoreError
from kgkit.missing import SIDES, Side
from kgkit.model import LinkPredictor
from kgkit.nn.similarity import crossed
from kgkit.run import Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore
from kgkit.testing.contract_write import facts

app = typer.Typer()
for module in (complete_command, predict_command, neighbours_command, runs_command):
    module.register(app)

STORE, RUNS, GENRE = "toy.lbug", Path("runs"), "film.film.genre"
LACKING = [f"m.9{i}" for i in range(5)]  # films with actors and no genre
SHORT = {"dim": 6, "epochs": 2, "validate_every": 2}


def _train(store: GraphStore, plugin: str, **more: Any) -> Run:
    return pipeline.train(store, plugin, SHORT | more, pipeline.TrainOptions(runs=RUNS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_store(STORE) as store:
            toygraph.fill(store)
            rows = [
                (film, "film.film.actor", f"p.{i + j:02}") for i, film in enumerate(LACKING) for j in (0, 9)
            ]
            store.upsert_edges("FACT", facts(*rows), missing="create")
            store.upsert_nodes("Entity", pa.table({"id": LACKING, "name": [f"Lost {i}" for i in range(5)]}))
            _train(store, "distmult")
    return folder


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own for each test, in the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KGKIT_STORE", STORE)
    return tmp_path


@pytest.fixture
def store(shop: Path) -> Iterator[GraphStore]:
    with open_store(STORE) as opened:
        yield opened


def run(*words: str, fails: type[KgkitError] | None = None) -> str:
    result = CliRunner().invoke(app, list(words))
    if fails is not None:
        assert isinstance(result.exception, fails), (result.output, result.exception)
        return str(result.exception)
    assert result.exception is None, (result.output, result.exception)
    return result.stdout


def completed() -> list[dict[str, Any]]:
    with open_store(STORE, read_only=True) as graph:
        return [row for table in graph.read_edges("COMPLETED") for row in table.to_pylist()]


def test_complete_writes_replaces_and_is_taken_back(shop: Path) -> None:
    done = json.loads(run("complete", "--plugin", "distmult", "--relations", GENRE, "--top", "3", "--json"))
    assert done["completed"] == done["written"]["COMPLETED"] == 15
    rows = completed()
    assert {r["head"] for r in rows} == set(LACKING)
    assert all(
        r["relation"] == GENRE and r["tail"].startswith("g.") and r["run"] == done["run"] for r in rows
    )
    assert sorted(r["rank"] for r in rows) == sorted([1, 2, 3] * 5)
    assert done["shown"][0]["head_name"].startswith("Lost ")
    recorded = json.loads((RUNS / done["run"] / "run.json").read_text())["completed"]
    assert recorded["relations"][GENRE] == {"tail_questions": 5, "tail_candidates": 4, "completed": 15}

    out = run("complete", "--run", done["run"], "--relations", GENRE, "--top", "1", "--limit", "2")
    assert "5 facts completed of 5 questions, 3 not shown" in out
    assert len(completed()) == 5
    assert "taken back" in run("runs", "erase", done["run"])
    assert completed() == []


def test_answers_are_taken_back_without_the_runs_folder(shop: Path, store: GraphStore) -> None:
    id = json.loads(run("complete", "-p", "distmult", "--relations", GENRE, "--json"))["run"]
    shutil.rmtree(RUNS / id)
    assert "no run 'nothing'" in run("runs", "erase", "nothing", fails=ConfigError)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("KGKIT_STORE")
        assert f"no run {id!r} in {RUNS}" in run("runs", "erase", id, fails=ConfigError)
    assert "no run" in run("runs", "erase", id, "--keep-graph", fails=ConfigError)
    assert completed()
    assert "it had no folder" in run("runs", "erase", id[:-2])
    assert completed() == []
    assert not any(table.num_rows for table in store.read_nodes("Run", []))


def test_complete_without_writing(shop: Path) -> None:
    out = run(
        "complete", "-p", "distmult", "--no-write-back", "--side", "both", "--calibration", "isotonic", "-q"
    )
    assert "facts completed" in out and "COMPLETED written" not in out
    assert completed() == []


def test_what_was_completed_is_no_reason_to_train_again(store: GraphStore) -> None:
    before = pipeline.restored(store, Run.open(RUNS, "distmult"))[1].fingerprint
    run("complete", "--plugin", "distmult", "--relations", GENRE)
    assert pipeline.restored(store, Run.open(RUNS, "distmult"))[1].fingerprint == before


def test_complete_refuses(shop: Path) -> None:
    run_id = list_runs(RUNS)[0]["id"]
    assert "kgkit train --plugin transe" in run("complete", "--plugin", "transe", fails=ConfigError)
    assert "recommendation" in run("complete", "--plugin", "ease", fails=ConfigError)
    assert "either --plugin" in run("complete", fails=ConfigError)
    assert "either --plugin" in run("complete", "--plugin", "distmult", "--run", run_id, fails=ConfigError)
    message = run("complete", "-p", "distmult", "--relations", "film.film.gener", fails=ConfigError)
    assert "Did you mean film.film.genre" in message
    assert "names no relation" in run("complete", "-p", "distmult", "--relations", ",", fails=ConfigError)
    message = run(
        "complete", "-p", "distmult", "--relations", GENRE, "--min-probability", "0.5", fails=ConfigError
    )
    assert "too few validation answers" in message
    with open_store(STORE) as graph:
        graph.upsert_edges("FACT", facts(("m.90", GENRE, "g.1")))
    assert "has changed since run" in run("complete", "-p", "distmult", fails=ConfigError)
    with open_store(STORE) as graph:
        _train(graph, "distmult")
    assert "replaced by a later run" in run("complete", "--run", run_id, fails=StoreError)
    assert completed() == []


ROADS: dict[str, dict[str, Any]] = {
    "distmult": {"reciprocal": True},
    "transe": {"norm": "l2"},
    "rotate": {},
    "rgcn": {},
    "transr": {"relation_dim": 4},
    "transr-reciprocal": {"relation_dim": 4, "reciprocal": True},
    "conve": {"image_height": 2, "filters": 3},
    "convtranse": {"filters": 3},
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("side", SIDES)
def test_predictions_are_the_models(store: GraphStore, road: str, side: Side) -> None:
    plugin = road.partition("-")[0]
    run_id = _train(store, plugin, **ROADS[road]).id
    standing = predict.standing_run(store, plugin)
    assert standing.id == run_id
    given = predict.find_entity(store, "3" if side == "tail" else "g.1")
    found = predict.predict(store, standing, given, GENRE, side, top=1000)
    model, graph, _ = pipeline.restored(store, Run.open(RUNS, run_id))
    assert isinstance(model, LinkPredictor)
    entity, r = torch.tensor([graph.entities.index(given.id)]), torch.tensor([graph.relations.index(GENRE)])
    query = model.tail_queries(entity, r) if side == "tail" else model.head_queries(r, entity)
    candidates = model.candidates(int(r) if model.relational else None)
    score = crossed(model.similarity, query, candidates)[0].numpy()
    rows = [graph.entities.index(p.node.id) for p in found]
    np.testing.assert_allclose([p.score for p in found], score[rows], atol=1e-5)
    of = graph.triples.relation == int(r)
    ends = (graph.triples.tail if side == "tail" else graph.triples.head)[of]
    assert sorted(rows) == sorted(set(ends.tolist()))
    assert [p.rank for p in found] == list(range(1, len(rows) + 1))
    given_end = (graph.triples.head if side == "tail" else graph.triples.tail)[of]
    known = set(ends[given_end == int(entity)].tolist())
    assert known and {row for row, p in zip(rows, found, strict=True) if p.known} == known
    new = predict.predict(store, standing, given, GENRE, side, top=1000, new_only=True)
    assert {p.node.id for p in new} == {p.node.id for p in found if not p.known}
    # Out of the graph or out of the folder, the answer is the same.
    for types in (True, False):
        asked = predict.Question(given, GENRE, side, most=1000, observed=types)
        of_model = dict(predict.from_model(store, Run.open(RUNS, run_id), asked))
        assert len(of_model) == (len(set(ends.tolist())) if types else len(graph.entities))
        assert dict(predict.from_graph(store, model, standing, asked)) == pytest.approx(of_model, abs=1e-5)


@pytest.mark.neo4j
def test_predictions_out_of_a_server_are_the_models(
    neo4j_store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toygraph.fill(neo4j_store)
    for road in ("distmult", "transe", "rotate", "transr", "conve"):
        run_id = _train(neo4j_store, road, **ROADS[road]).id
        standing = predict.standing_run(neo4j_store, road)
        model, _, _ = pipeline.restored(neo4j_store, Run.open(RUNS, run_id))
        assert isinstance(model, LinkPredictor)
        for side, text in (("tail", "3"), ("head", "g.1")):
            given = predict.find_entity(neo4j_store, text)
            for observed in (True, False):
                asked = predict.Question(given, GENRE, side, 1000, observed)  # type: ignore[arg-type]
                of_model = dict(predict.from_model(neo4j_store, Run.open(RUNS, run_id), asked))
                found = dict(predict.from_graph(neo4j_store, model, standing, asked))
                assert found == pytest.approx(of_model, abs=1e-5)


def test_predict_and_neighbours_print(shop: Path) -> None:
    out = run("predict", "--head", "Lost 3", "--relation", GENRE)
    assert out.startswith("(Lost 3, film.film.genre, ?)") and out.count("g.") == 4 and "known" not in out
    out = run("predict", "--tail", "g.2", "--relation", GENRE, "--top", "70")
    assert out.count("known") == 17  # items 2, 6, .. 66
    asked = json.loads(run("predict", "--head", "2", "-r", GENRE, "--no-types", "--new-only", "--json"))
    assert asked["head"] == "m.002" and not any(a["known"] for a in asked["answers"])
    assert asked["head"] not in {a["id"] for a in asked["answers"]}
    near = json.loads(run("neighbours", "m.002", "--k", "5", "--json"))["neighbours"]
    cosines = [n["cosine"] for n in near]
    assert len(near) == 5 and cosines == sorted(cosines, reverse=True) and near[0]["id"] != "m.002"
    assert run("neighbours", "Film 2").startswith("near Film 2")


def test_predict_asks_the_only_model_that_predicts_facts(store: GraphStore) -> None:
    pipeline.train(store, "kgcn", {"epochs": 1, "dim": 4}, pipeline.TrainOptions(runs=RUNS))
    assert "several runs" in run("neighbours", "2", fails=ConfigError)
    asked = json.loads(run("predict", "--head", "2", "-r", GENRE, "--json"))
    assert asked["run"].startswith("distmult-")
    assert "does not predict facts" in run(
        "predict", "--head", "2", "-r", GENRE, "-p", "kgcn", fails=ConfigError
    )
    _train(store, "transe")
    assert "several runs" in run("predict", "--head", "2", "-r", GENRE, fails=ConfigError)


def test_predict_and_neighbours_refuse(store: GraphStore) -> None:
    assert "Did you mean film.film.genre" in run(
        "predict", "--head", "2", "-r", "film.genre", fails=ConfigError
    )
    assert "either --head" in run("predict", "-r", GENRE, fails=ConfigError)
    message = run("predict", "--head", "lost", "-r", GENRE, fails=ConfigError)
    assert "no entity has the id, item id or exact name 'lost'" in message and "Lost 0 (m.90)" in message
    store.upsert_nodes("Entity", pa.table({"id": ["m.91"], "name": ["Lost 0"]}))
    assert "(m.90, m.91)" in run("neighbours", "Lost 0", fails=ConfigError)
    store.upsert_edges("FACT", facts(("new", "later", "m.90")), missing="create")
    assert "'new' has no vector" in run("predict", "--head", "new", "-r", GENRE, fails=ConfigError)
    assert "'later' has no vector" in run("predict", "--head", "m.90", "-r", "later", fails=ConfigError)
    assert "no answers of plugin transe" in run("neighbours", "2", "-p", "transe", fails=ConfigError)
    _train(store, "transe")
    assert "several runs" in run("neighbours", "2", fails=ConfigError)
    store.erase_run(predict.standing_run(store, "transe").id)
    store.erase_run(predict.standing_run(store, "distmult").id)
    assert "has no embeddings yet" in run("neighbours", "2", fails=ConfigError)


_RUN = """
import sys
from kgkit.cli.main import app
for words in (["neighbours", "2"], ["predict", "--head", "2", "-r", "film.film.genre"]):
    app([*words, "--plugin", sys.argv[1]], standalone_mode=False)
print("HEAVY", sorted({"torch", "scipy", "sklearn"} & set(sys.modules)))
"""


@pytest.mark.parametrize("plugin", ["distmult", "transr", "conve"])
def test_quick_answers_need_no_torch(shop: Path, plugin: str) -> None:
    if plugin != "distmult":
        with open_store(STORE) as store:
            _train(store, plugin, **ROADS[plugin])
    shutil.rmtree(RUNS)  # the graph is all it takes
    done = subprocess.run([sys.executable, "-c", _RUN, plugin], capture_output=True, text=True)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def test_a_graph_of_an_earlier_kgkit_is_answered_from_the_folder(shop: Path) -> None:
    with open_store(STORE) as store:
        path = _train(store, "conve", **ROADS["conve"]).folder / "model.npz"
        asked = ("predict", "--head", "2", "-r", GENRE, "-p", "conve")
        out = run(*asked)
        store.query("MATCH (w:Weights) DELETE w", write=True)
        told: list[str] = []
        standing, given = predict.standing_run(store, "conve"), predict.find_entity(store, "2")
        predict.predict(store, standing, given, GENRE, "tail", runs=RUNS, tell=told.append)
    assert len(told) == 1 and "not all weights of conve are in the graph" in told[0]
    # Of torch, whose last digit may be another than that of the numbers in the graph.
    again, first = run(*asked).split(), out.split()
    assert len(again) == len(first)
    for now, before in zip(again, first, strict=True):
        assert now == before or float(now) == pytest.approx(float(before), rel=1e-4)
    path.write_bytes(path.read_bytes()[:-40])
    assert "model.npz: it is not the file" in run(*asked, fails=ConfigError)
    path.unlink()
    assert "train again" in run(*asked, fails=ConfigError)
    assert "no run" in run(*asked, "--runs", "elsewhere", fails=ConfigError)
