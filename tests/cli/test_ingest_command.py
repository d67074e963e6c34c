"""`kgkit ingest` and `kgkit plugins` as people run them: exit codes, one-line errors, JSON, recipes, progress, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import hears_control_c
from typer.testing import CliRunner

from kgkit.cli.main import app
from kgkit.cli.stopping import Stop
from kgkit.ingest import Step


def kgkit(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kgkit", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\na,1,5\nb,2,3\n")
    return path


def test_ingest_says_what_it_did_and_does_it_once(log: Path, tmp_path: Path) -> None:
    store = tmp_path / "graph.lbug"
    done = kgkit("ingest", "purchases", log, "--store", store, "--min-rating", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "log.csv: 2 rows" in done.stdout
    assert "left out: 1 rows, below --min-rating" in done.stdout
    again = kgkit("ingest", "purchases", log, "--store", store, "--min-rating=4", "--json", cwd=tmp_path)
    report = json.loads(again.stdout)
    assert report[0]["sources"][0]["unchanged"]
    assert not (tmp_path / "kgkit-rejects.tsv").exists()


def test_rejects_file_and_limit(log: Path, tmp_path: Path) -> None:
    with log.open("a") as file:
        file.write("c,3\n")
    store = tmp_path / "graph.lbug"
    line = failed(kgkit("ingest", "purchases", log, "--store", store, cwd=tmp_path))
    assert "log.csv, line 4: 1 of 3 rows are malformed, more than --max-rejects 0.1%" in line
    assert "kgkit-rejects.tsv" in line
    listed = (tmp_path / "kgkit-rejects.tsv").read_text().splitlines()
    assert listed[1].split("\t")[1:] == ["4", "2 columns where 3 are expected", "c,3"]
    done = kgkit(
        "ingest", "purchases", log, "--store", store, "--max-rejects", 1, "--rejects", "r.tsv", cwd=tmp_path
    )
    assert done.returncode == 0
    assert "rejected: 1 malformed rows" in done.stdout
    assert (tmp_path / "r.tsv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a connector and its files, or --recipe FILE; connectors: adjacency, alignment, features"),
        (["purchses", "x"], "unknown connector 'purchses'. Did you mean purchases?"),
        (["purchases"], "kgkit ingest purchases needs a file or folder"),
        (["purchases", "none.csv"], "none.csv: no such file"),
        (
            ["purchases", "{log}", "--min-ratng", "4"],
            "unknown option '--min-ratng'. Did you mean --min-rating?",
        ),
        (
            ["purchases", "{log}", "--min-rating", "high"],
            "--min-rating needs a value of type float, got 'high'",
        ),
        (["purchases", "{log}", "--user", "buyer"], "unknown column 'buyer'"),
        (
            ["triples", "{log}", "--header"],
            "no column for head (the file has user, item, rating): name it by --head",
        ),
        (["purchases", "{log}", "--max-rejects", "few"], "--max-rejects must be a share such as 0.1%"),
        (["--min-rating", "4", "purchases"], "the connector's name comes first: kgkit ingest NAME PATH..."),
        (["--recipe", "none.toml"], "recipe none.toml: No such file"),
        (["purchases", "{log}", "--recipe", "x.toml"], "give a connector and its files, or --recipe FILE"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(
    words: list[str], message: str, log: Path, tmp_path: Path
) -> None:
    filled = [w.format(log=log) for w in words]
    assert message in failed(kgkit("ingest", *filled, "--store", tmp_path / "graph.lbug", cwd=tmp_path))


RECIPE = """
store = "shop.lbug"

[[source]]
connector = "purchases"
paths = ["log.csv"]
min_rating = 4

[[source]]
connector = "alignment"
paths = ["link.txt"]
"""


def test_a_recipe_runs_its_sources_in_order_relative_to_itself(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link.txt").write_text("1\tm.1\n")
    (tmp_path / "kg.toml").write_text(RECIPE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = kgkit("ingest", "--recipe", tmp_path / "kg.toml", "--json", cwd=elsewhere, KGKIT_STORE="")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert [r["connector"] for r in reports] == ["purchases", "alignment"]
    assert (tmp_path / "shop.lbug").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "min_rating",
            "min_ratings",
            "kg.toml, source 1 (purchases): unknown key 'min_ratings'. Did you mean",
        ),
        ('"purchases"', '"purchase"', "unknown connector 'purchase'. Did you mean purchases?"),
        ('connector = "alignment"\n', "", 'source 2: connector = "NAME" is missing'),
        ("min_rating = 4", 'min_rating = "x"', "--min-rating needs a value of type float"),
        ("store =", "stores =", "unknown key 'stores'. Did you mean store?"),
        ("[[source]]", "[[sources]]", "unknown key 'sources'. Did you mean source?"),
        ('store = "shop.lbug"', "store = ", "kg.toml: Invalid value (at line 2"),
    ],
)
def test_a_wrong_recipe_is_an_error_before_anything_is_done(
    old: str, new: str, message: str, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "kg.toml").write_text(RECIPE.replace(old, new))
    assert message in failed(kgkit("ingest", "--recipe", tmp_path / "kg.toml", cwd=tmp_path))
    assert not (tmp_path / "shop.lbug").exists()


def _big(folder: Path, rows: int) -> Path:
    path = folder / "big.csv"
    with path.open("w") as file:
        file.write("user,item\n")
        for i in range(rows // 1000):
            file.write("".join(f"u{(i * 7919 + j) % 99991},i{j * 31 % 1009}\n" for j in range(1000)))
    return path


@pytest.mark.slow
def test_control_c_is_a_clean_end_and_the_next_run_finishes(tmp_path: Path) -> None:
    path, store = _big(tmp_path, 2_000_000), tmp_path / "graph.lbug"
    words = [sys.executable, "-m", "kgkit", "ingest", "purchases", str(path), "--store", str(store)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen(words, cwd=tmp_path, text=True, preexec_fn=hears_control_c, **pipes)
    while not store.exists() and child.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    assert child.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("interrupted: what was written stays")
    assert "Traceback" not in errors


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals are heard, as at a terminal; processes in the background may begin with them ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_of_facts_what_was_read_is_stored_first(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 1000)
    path = tmp_path / "kg.txt"
    path.write_text("".join(f"m.{i}\tr.{i % 7}\tm.{i // 2}\n" for i in range(2_000)))
    words = ["ingest", "triples", str(path), "--store", str(tmp_path / "graph.lbug"), "--json"]
    monkeypatch.chdir(tmp_path)

    @contextlib.contextmanager
    def reporter(quiet: bool) -> Iterator[Callable[[Step], None]]:
        def reported(step: Step) -> None:
            if step.phase == "reading" and step.rows > 500:
                os.kill(os.getpid(), number)

        yield reported

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        patched.setattr("kgkit.cli.progress.reporter", reporter)
        stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 128 + number
    assert "stopping as soon as" in capfd.readouterr().err
    assert stopped.stderr.startswith("interrupted: what was written stays")
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(app, words)
    report = json.loads(done.stdout)[0]["sources"][0]
    assert 500 <= report["resumed"] < 1000
    assert report["resumed"] + report["written"]["FACT"] == 2_000


@pytest.mark.usefixtures("heard")
def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stop().heeded() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.by == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_help_lists_a_connectors_options() -> None:
    done = kgkit("ingest", "recbole", "--help")
    assert done.returncode == 0
    assert "--name-column" in done.stdout
    assert "--max-rejects" in done.stdout


def test_plugins_are_listed_and_shown() -> None:
    listed = json.loads(kgkit("plugins", "--json").stdout)
    assert {"kgcn", "kgnn_ls"} <= {m["name"] for m in listed["models"]}
    assert all(c["about"] for c in listed["connectors"])
    shown = json.loads(kgkit("plugins", "show", "purchases", "--json").stdout)
    options = {o["name"]: o for o in shown[0]["options"]}
    assert options["min_rating"]["type"] == "float"
    both = json.loads(kgkit("plugins", "show", "kgcn", "--json").stdout)
    assert [d["kind"] for d in both] == ["model", "connector"]
    assert both[0]["published"]["last.fm"]["neighbours"] == 8
    assert "purchase logs" in kgkit("plugins").stdout
    assert "published settings for last.fm" in kgkit("plugins", "show", "kgcn").stdout
    assert "unknown plugin or connector 'kgcm'. Did you mean kgcn?" in failed(
        kgkit("plugins", "show", "kgcm")
    )


def test_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "kg.txt").write_text("a\tr\tb\na\tr\n" + "".join(f"x{i}\tr\ty\n" for i in range(2000)))
    (tmp_path / "log.csv").write_text("user,item,rating\nu,1,5\nv,2,1\n")
    (tmp_path / "kg.toml").write_text(
        '[[source]]\nconnector = "triples"\npaths = ["kg.txt"]\n'
        '[[source]]\nconnector = "purchases"\npaths = ["log.csv"]\nmin_rating = 2\n'
    )
    given = ("ingest", "--recipe", "kg.toml", "--store", "g.lbug", "--quiet")
    said = kgkit(*given, "--dry-run", cwd=tmp_path)
    assert not (tmp_path / "g.lbug").exists()
    assert "nothing was written" in said.stdout
    assert "log.csv: would leave out 1 rows, below --min-rating" in said.stdout
    assert "kg.txt: would reject 1 malformed rows" in said.stdout
    kgkit(*given, cwd=tmp_path)
    (tmp_path / "log.csv").write_text("user,item,rating\nu,1,5\n")
    plans = json.loads(kgkit(*given, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert [p["state"] for p in plans] == ["unchanged", "changed"]
    assert (plans[1]["rows"], plans[1]["kinds"], plans[1]["whole"]) == (1, {"purchases": 1}, True)
