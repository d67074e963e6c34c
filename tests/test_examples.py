"""The examples and the README's commands, as a person would type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LASTFM = ROOT.parent / "shared" / "data" / "lastfm"


def kgkit(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kgkit", *arguments],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_recipe_of_a_bookshop(tmp_path: Path) -> None:
    recipe = str(ROOT / "examples" / "recipes" / "bookshop" / "kg.toml")
    kgkit(tmp_path, "ingest", "--recipe", recipe, "--store", "shop.lbug", "--quiet")
    stats = json.loads(kgkit(tmp_path, "stats", "--store", "shop.lbug", "--json"))
    assert stats["nodes"]["User"] == 3
    assert stats["nodes"]["Item"] == 5
    assert stats["relationships"]["FACT"] == 7
    assert stats["relationships"]["PURCHASED"] == 7  # ada's two of January are one, February's another
    query = (
        "MATCH (u:User {id: 'ada'})-[p:PURCHASED]->(i:Entity)-[f:FACT]->(e:Entity) "
        "WHERE f.relation = 'book.book.author' RETURN i.name AS name, e.id AS author, sum(p.count) AS bought "
        "ORDER BY name"
    )
    rows = json.loads(kgkit(tmp_path, "query", query, "--store", "shop.lbug", "--format", "json"))
    assert rows == [
        {"name": "Dune", "author": "p.herbert", "bought": 3},
        {"name": "Dune Messiah", "author": "p.herbert", "bought": 1},
    ]
    again = kgkit(tmp_path, "ingest", "--recipe", recipe, "--store", "shop.lbug", "--quiet")
    assert again.count("unchanged") == 5
    assert json.loads(kgkit(tmp_path, "stats", "--store", "shop.lbug", "--json")) == stats


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not LASTFM.is_dir(), reason="the public Last.FM folder is not beside the checkout")
def test_the_readmes_own_data_example(tmp_path: Path) -> None:
    store = ("--store", "lastfm.lbug")
    assert "21,173 PURCHASED" in kgkit(tmp_path, "ingest", "kgcn", str(LASTFM), *store, "--quiet")
    stats = json.loads(kgkit(tmp_path, "stats", *store, "--json"))
    assert (stats["nodes"]["Entity"], stats["nodes"]["Item"], stats["nodes"]["User"]) == (9366, 3846, 1872)
    assert len(stats["relations"]) == 60
    record = json.loads(kgkit(tmp_path, "train", "--plugin", "kgnn_ls", "--seed", "1", *store, "--json"))
    assert 0.77 < record["metrics"]["test"]["auc"] < 0.83  # the authors' code: .8039 +- .0048
    assert record["written"]["RECOMMENDED"] == 18_720
    cypher = "MATCH (u:User {id: '2'})-[r:RECOMMENDED]->(i:Entity) RETURN r.rank, i.item_id, r.score ORDER BY r.rank"
    assert len(json.loads(kgkit(tmp_path, "query", cypher, *store, "--format", "json"))) == 10
    assert record["id"] in kgkit(tmp_path, "runs")
    again = json.loads(kgkit(tmp_path, "evaluate", record["id"], "--json"))
    assert again["metrics"] == record["metrics"]
    kgkit(tmp_path, "runs", "erase", record["id"])
    assert json.loads(kgkit(tmp_path, "stats", *store, "--json"))["relationships"]["RECOMMENDED"] == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "--plugin", "kgcm", "--store", "x.lbug"], ["kgcm", "Did you mean kgcn"]),
        (["train", "--plugin", "kgcn", "--store", "x.lbug"], ["no graph at", "kgkit ingest"]),
        (["train", "--plugin", "kgcn", "--dims", "3", "--store", "x.lbug"], ["--dims", "--dim"]),
        (["train", "--plugin", "kgcn", "--dim", "0", "--store", "x.lbug"], ["--dim", ">= 1"]),
        (["train", "--store", "x.lbug"], ["--plugin"]),
        (["train", "--resume", "nothing"], ["no run 'nothing'"]),
        (["evaluate", "nothing"], ["no run 'nothing'"]),
        (["stats"], ["--store", "KGKIT_STORE"]),
        (["stats", "--store", "gopher://x"], ["gopher", "bolt://"]),
        (["stats", "--store", "bolt://localhost:1"], ["localhost:1"]),
        (["ingest", "purchases", "missing.csv", "--store", "x.lbug"], ["missing.csv"]),
        (["ingest", "purchase", "a.csv", "--store", "x.lbug"], ["Did you mean purchases"]),
        (["query", "RETURN 1", "--store", "x.lbug"], ["no graph at"]),
        (["demo", "--data", "nowhere"], ["ml-100k.inter"]),
        (["copy", "--from", "x.lbug", "--to", "y.lbug"], ["no graph at"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_gets_one_clear_line(tmp_path: Path, command: list[str], words: list[str]) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("KGKIT_STORE", "KGKIT_RUNS")}
    env["NEO4J_PASSWORD"] = "secret"
    done = subprocess.run(
        [sys.executable, "-m", "kgkit", *command], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode not in (0, -9)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]
    assert "secret" not in done.stderr


def test_the_recipe_for_prospects(tmp_path: Path) -> None:
    recipe = str(ROOT / "examples" / "recipes" / "prospects" / "kg.toml")
    said = kgkit(tmp_path, "ingest", "--recipe", recipe, "--store", "p.lbug", "--quiet")
    assert "left out: 1 rows, of users with fewer rows than --min-user-rows" in said
    assert "left out: 2 rows, outside --since and --until" in said
    stats = json.loads(kgkit(tmp_path, "stats", "--store", "p.lbug", "--json"))
    assert (stats["nodes"]["User"], stats["nodes"]["Item"]) == (2, 4)
    assert stats["relationships"]["PURCHASED"] == 5  # ada's tea is one of two
    assert stats["relationships"]["HAS_ATTRIBUTE"] == 4
    assert stats["relations"] == {"genre": 5, "maker": 3}
    query = (
        "MATCH (:User {id: 'ada'})-[:HAS_ATTRIBUTE]->(a:Entity)<-[:HAS_ATTRIBUTE]-(u:User) WHERE u.id <> 'ada' "
        "RETURN u.id AS user, a.name AS shared"
    )
    rows = json.loads(kgkit(tmp_path, "query", query, "--store", "p.lbug", "--format", "json"))
    assert rows == [{"user": "ben", "shared": "north"}]
