"""The page of a run: examples worked by hand, projections, what is left out without a store, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from click.testing import Result
from test_report import Page
from typer.testing import CliRunner

from kgkit import pipeline
from kgkit.cli import report as report_command
from kgkit.errors import ConfigError
from kgkit.evaluate.triple_split import TripleSplit
from kgkit.extract import Extraction, extract
from kgkit.graph import Triples
from kgkit.model import LinkPredictor, ModelConfig
from kgkit.nn.similarity import Candidates
from kgkit.pipeline import TrainOptions
from kgkit.queries import TRIPLES
from kgkit.report.charts import Series, scatter
from kgkit.report.run_figures import completions, principal_plane, run_figures
from kgkit.report.run_page import run_page
from kgkit.run import Run
from kgkit.store.open import open_store
from kgkit.testing.contract_write import facts, nodes

SMALL: dict[str, dict[str, Any]] = {
    "distmult": {"epochs": 4, "dim": 8, "batch_size": 64, "validate_every": 2, "learning_rate": 0.05},
    "kgcn": {"epochs": 2, "batch_size": 64, "dim": 8, "neighbours": 4, "learning_rate": 0.01},
}


def trained(store: Path, plugin: str, runs: Path) -> Run:
    with open_store(store) as opened:
        return pipeline.train(
            opened, plugin, SMALL.get(plugin, {}), TrainOptions(runs=runs, write_back=False)
        )


class Said(LinkPredictor):
    """Scores by a table: scores[relation, side][given, candidate], side 0 for tails. Queries are its rows."""

    similarity = "dot"

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__(ModelConfig())
        self.scores = scores

    def tail_queries(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        return self.scores[relations, 0, heads]

    def head_queries(self, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        return self.scores[relations, 1, tails]

    def candidates(self, relation: int | None = None) -> Candidates:
        return Candidates(torch.eye(self.scores.shape[-1]))

    def fit(self, graph: Any, split: Any, run: Any) -> None:
        raise NotImplementedError

    restore = fit


def test_completions_by_hand(tmp_path: Path) -> None:
    """Facts 0-1, 0-2, 3-1 of one relation: training, test, test; entity 0 has a name, and 4 no fact."""
    with open_store(tmp_path / "g.lbug") as store:
        store.upsert_nodes("Entity", nodes("e0", "e4", name=["Zero & Co", None], item_id=[None, None]))
        store.upsert_edges(
            "FACT", facts(("e0", "r", "e1"), ("e0", "r", "e2"), ("e3", "r", "e1"), ("e4", "s", "e4")), missing="create"
        )  # fmt: skip
        graph = extract(store, Extraction((TRIPLES,)))
        assert graph.entities.ids.to_pylist() == ["e0", "e1", "e2", "e3", "e4"]

        def part(*rows: tuple[int, int, int]) -> Triples:
            return Triples(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

        split = TripleSplit(part((0, 0, 1)), part(), part((0, 0, 2), (3, 0, 1)), 5, 2)
        scores = torch.zeros(2, 2, 5, 5)
        scores[0, 0, 0] = torch.tensor([0.0, 9.0, 5.0, 1.0, 0.0])  # (e0, r, ?): e1 is known, so e2: right
        scores[0, 0, 3] = torch.tensor([3.0, 2.0, 1.0, 0.0, 7.0])  # (e3, r, ?): e4, e0, then the true e1
        scores[0, 1, 2] = torch.tensor(
            [4.0, 0.0, 0.0, 0.0, 0.0]
        )  # (?, r, e2): e0: right, the same fact again
        scores[0, 1, 1] = torch.tensor(
            [8.0, 6.0, 0.0, -1.0, 0.0]
        )  # (?, r, e1): e0 is known, so e1; e3 is last
        found = completions(store, Said(scores), graph, split, np.random.default_rng(0))
    assert (found.right_total, found.questions, found.facts, found.of) == (2, 4, 2, 2)
    assert [(c.head, c.relation, c.tail, c.asked, c.score) for c in found.right] == [
        ("Zero & Co", "r", "e2", "tail", 5.0)
    ]
    assert [(c.head, c.tail, c.asked, c.score, c.truth, c.place) for c in found.wrong] == [
        ("e3", "e4", "tail", 7.0, "e1", 3), ("e1", "e1", "head", 6.0, "e3", 4),
    ]  # fmt: skip


def test_principal_plane_of_a_stretched_cross() -> None:
    """Points at +-4 on one axis and +-1 on another: variances 16 and 1 of 17, and the axes come back."""
    points = np.array([[0, 5, 4], [0, 5, -4], [1, 5, 0], [-1, 5, 0]], dtype=np.float32)
    xy, shares = principal_plane(points)
    assert shares == pytest.approx((16 / 17, 1 / 17))
    assert np.abs(xy) == pytest.approx(np.array([[4, 0], [4, 0], [0, 1], [0, 1]]), abs=1e-6)
    assert xy.max(axis=0) == pytest.approx([4, 1])
    still, none = principal_plane(np.ones((3, 2), dtype=np.float32))
    assert not still.any() and none == (0, 0)


def test_labelled_points_are_all_drawn_with_their_names() -> None:
    drawing = scatter([Series("a", [1, 1], [2, 2], ["<one>", "two"]), Series("b", [3], [4])], "x", "y")
    assert drawing.count("<circle") == 3  # two points and the legend's
    assert "<title>&lt;one&gt;</title>" in drawing and "<title>two</title>" in drawing


def test_page_of_a_link_predictor(toy_store_path: Path, tmp_path: Path) -> None:
    run = trained(toy_store_path, "distmult", tmp_path / "runs")
    figures = run_figures(run)
    assert figures.missing == "" and figures.completions is not None and figures.projection is not None
    shown = figures.projection
    assert sum(len(g.x) for g in shown.groups) == shown.drawn == shown.of > 100
    names = {label for group in shown.groups for label in group.labels}
    assert "Film 3" in names and "g.1" in names  # by name, else by id
    assert {g.name for g in shown.groups} >= {"tail of film.film.genre", "others"}
    text = run_page(figures, "today")
    page = Page(text)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", text)
    for heading in (
        "Run",
        "Learning curve",
        "Metrics",
        "By relation",
        "Leaks",
        "Completions",
        "Embeddings",
        "Details",
    ):
        assert f">{heading}</h2>" in text, heading
    assert "film.film.actor" in text and "Recommendations" not in text
    ranking = run.load_json("ranking.json")
    assert [r["mrr"] for r in figures.relations] == [r["mrr"] for r in ranking["relations"]]
    assert run_page(run_figures(run), "today") == text  # drawn by the run's seed


@pytest.mark.parametrize("plugin", ["kgcn", "itemknn"])
def test_page_of_a_recommender(toy_store_path: Path, tmp_path: Path, plugin: str) -> None:
    run = trained(toy_store_path, plugin, tmp_path / "runs")
    figures = run_figures(run)
    assert figures.missing == "" and len(figures.users) == 5
    for user in figures.users:
        named = [name for name, _, _ in user.items]
        assert len(named) == 10 and all(name.startswith("Film ") for name in named)
        assert not set(named) & set(user.bought)
        assert [hit for _, _, hit in user.items] == [name in user.later for name in named]
        assert [score for _, score, _ in user.items] == sorted((s for _, s, _ in user.items), reverse=True)
    text = run_page(figures, "today")
    Page(text)
    assert "Recommendations</h2>" in text and "Completions</h2>" not in text and "Leaks</h2>" not in text
    assert ("Learning curve</h2>" in text) == ("Embeddings</h2>" in text) == (plugin == "kgcn")


def run_command(*args: str | Path) -> Result:
    app = typer.Typer()
    report_command.register(app)
    return CliRunner().invoke(app, [str(a) for a in args])


def test_command_with_the_graph_changed_gone_or_the_run_unfinished(
    toy_store_path: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    run = trained(toy_store_path, "distmult", runs)
    done = run_command("distmult", "--runs", runs)
    assert done.exception is None and done.output.startswith(str(run.folder / "report.html"))
    assert "Embeddings</h2>" in (run.folder / "report.html").read_text()

    with open_store(toy_store_path) as store:
        more = pa.table({"head": ["m.001"], "tail": ["g.2"], "relation": ["film.film.genre"]})
        store.upsert_edges("FACT", more, missing="create")
    page = tmp_path / "page.html"
    done = run_command(run.id, "--runs", runs, "--out", page)
    assert done.exception is None and "has changed since" in done.output
    text = page.read_text()
    assert "has changed since" in text and "Embeddings</h2>" not in text and "Completions</h2>" not in text
    assert "film.film.actor" in text and "Learning curve</h2>" in text  # relations by name without the graph

    done = run_command(run.id, "--runs", runs, "--out", page, "--store", tmp_path / "none.lbug")
    assert done.exception is None and "none.lbug" in page.read_text()
    assert not (tmp_path / "none.lbug").exists()

    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(
        json.dumps({**record, "status": "failed", "error": "<boom>", "sha256": None})
    )
    done = run_command(run.id, "--runs", runs, "--out", page)
    assert done.exception is None and "&lt;boom&gt;" in page.read_text()
    Page(page.read_text())


def test_command_errors(tmp_path: Path) -> None:
    done = run_command("nothing", "--runs", tmp_path)
    assert isinstance(done.exception, ConfigError) and "no run" in str(done.exception)
    run = Run.create(tmp_path, "kgcn", {"seed": 0})
    for out, wording in ((tmp_path, "is a folder"), (tmp_path / "no" / "page.html", "there is no folder")):
        done = run_command(run.id, "--runs", tmp_path, "--out", out)
        assert isinstance(done.exception, ConfigError) and wording in str(done.exception)
        assert str(done.exception).startswith("--out")
