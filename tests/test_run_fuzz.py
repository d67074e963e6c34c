"""Damaged files in run folders: whatever reads them gives the right answer, or one line that names the file.

KGKIT_FUZZ says how many trials there are, KGKIT_FUZZ_SEED by which seed: `KGKIT_FUZZ=5000 pytest tests/test_run_fuzz.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toygraph
from typer.testing import CliRunner

from kgkit import pipeline, predict
from kgkit.cli.main import app
from kgkit.errors import KgkitError
from kgkit.missing import SIDES
from kgkit.pipeline import TrainOptions
from kgkit.run import Run
from kgkit.store.open import open_store

TRIALS = int(os.environ.get("KGKIT_FUZZ", 120))
SEED = int(os.environ.get("KGKIT_FUZZ_SEED", 1))
CHUNKS = 6  # tests that the trials are spread over
SETTINGS: dict[str, dict[str, Any]] = {
    "kgcn": {"dim": 4, "epochs": 2, "neighbours": 2, "device": "cpu"},
    "distmult": {"dim": 4, "epochs": 2, "device": "cpu"},
    "stopped": {"dim": 4, "epochs": 3, "device": "cpu"},
}
COMMANDS = {
    "kgcn": ("list", "show", "report", "evaluate"),
    "distmult": ("list", "show", "report", "evaluate", "complete", "predict"),
    "stopped": ("list", "show", "report", "evaluate", "complete", "resume"),
}
ODD = (
    None, True, -1, 0, 3, 1.5, 1e308, float("nan"), float("inf"),
    10**30, 10**400, "", "x", "\ud800", "a\0b", [], {}, [[]], {"x": 1},
)  # fmt: skip


@dataclass(frozen=True)
class Home:
    """A graph, and a folder of whole runs by name ("kgcn", "distmult", "stopped"), whose ids are in `ids`."""

    store: Path
    runs: Path
    ids: Mapping[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("fuzz")
    store, runs, ids = folder / "toy.lbug", folder / "runs", {}

    def stop(event: str, data: Mapping[str, Any]) -> None:
        if event == "epoch" and data["epoch"] == 2:
            raise KeyboardInterrupt

    with open_store(store) as graph:
        toygraph.fill(graph)
        options = TrainOptions(runs=runs, write_back=False)
        for name in ("kgcn", "distmult"):
            ids[name] = pipeline.train(graph, name, SETTINGS[name], options).id
        with contextlib.suppress(KeyboardInterrupt):
            pipeline.train(graph, "distmult", SETTINGS["stopped"], options, stop)
    (ids["stopped"],) = {path.name for path in runs.iterdir()} - set(ids.values())
    return Home(store, runs, ids)


def outcome(home: Home, runs: Path, run: str, command: str) -> tuple[str, str]:
    """What a command answers ("" where it failed), without what differs from one time to the next; and what it said.

    Anything but an answer and an expected error is raised.
    """
    if command == "predict":
        try:
            with open_store(home.store, read_only=True) as graph:
                asked = predict.Question(
                    predict.find_entity(graph, "m.003"), "film.film.genre", SIDES[0], 5, True
                )
                return repr(predict.from_model(graph, Run.open(runs, run), asked)), ""
        except KgkitError as error:
            return "", str(error)
    page, at = runs.parent / "page.html", ["--runs", str(runs)]
    words = {
        "list": ["runs", *at],
        "show": ["runs", "show", run, *at],
        "report": ["report", run, *at, "--out", str(page)],
        "evaluate": ["evaluate", run, *at, "--json"],
        "complete": ["complete", "--run", run, "--json", "--no-write-back", "--store", str(home.store), *at],
        "resume": ["train", "--resume", run, "--json", *at],
    }[command]
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, KgkitError):
        return "", str(done.exception)
    if done.exception is not None:
        raise done.exception
    if command == "report":
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page.read_text()), done.stderr
    if command == "complete":
        return re.sub(r'"(restore|complete)": [\d.]+', "", done.stdout), done.stderr
    if command == "resume":
        return json.dumps(json.loads(done.stdout)["metrics"]), done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def whole(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """The answers from folders that nobody damaged."""
    answers = {}
    for name, commands in COMMANDS.items():
        for command in commands:
            copy = tmp_path_factory.mktemp("whole") / "runs"
            shutil.copytree(home.runs, copy)
            answers[name, command], _ = outcome(home, copy, home.ids[name], command)
            refused = name == "stopped" and command in ("evaluate", "complete")
            assert bool(answers[name, command]) != refused, (name, command)
    return answers


# -- damage ----------------------------------------------------------------------------------------------------------


def cut(rng: random.Random, path: Path, others: list[Path]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def flip(rng: random.Random, path: Path, others: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def zeros(rng: random.Random, path: Path, others: list[Path]) -> None:
    data, at = bytearray(path.read_bytes()), 0
    at = rng.randrange(len(data))
    length = min(rng.choice((1, 64, 4096)), len(data) - at)
    data[at : at + length] = bytes(length)
    path.write_bytes(data)


def noise(rng: random.Random, path: Path, others: list[Path]) -> None:
    path.write_bytes(rng.randbytes(rng.choice((0, 1, 100, 5000))))


def longer(rng: random.Random, path: Path, others: list[Path]) -> None:
    data = path.read_bytes()
    path.write_bytes(data + rng.choice((data, b"\0" * 100, b"{}\n")))


def swapped(rng: random.Random, path: Path, others: list[Path]) -> None:
    shutil.copy(rng.choice(others), path)


def gone(rng: random.Random, path: Path, others: list[Path]) -> None:
    path.unlink()


def folder(rng: random.Random, path: Path, others: list[Path]) -> None:
    path.unlink()
    path.mkdir()


def nested(rng: random.Random, path: Path, others: list[Path]) -> None:
    path.write_text("[" * 100_000)


def other_values(rng: random.Random, path: Path, others: list[Path]) -> None:
    """Another value, or none, somewhere in a document or in a line of the trace."""
    if path.suffix not in (".json", ".jsonl"):
        return flip(rng, path, others)
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(changed(rng, json.loads(lines[at])))
    path.write_text("\n".join(lines) + "\n")
    return None


def changed(rng: random.Random, value: Any, within: str = "") -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if rng.random() < 0.2:
            del value[key]
        else:
            value[key] = changed(rng, value[key], within or str(key))
        return value
    # A record without a sum that asks for 10**30 dimensions is as valid as one that asks for ten.
    odd = [v for v in ODD if within != "parameters" or not isinstance(v, int | float)]
    return rng.choice(odd)


DAMAGE: tuple[Callable[[random.Random, Path, list[Path]], None], ...] = (
    cut, cut, flip, flip, flip, zeros, noise, longer, swapped, gone, folder, nested,
    other_values, other_values, other_values,
)  # fmt: skip


def unseal(folder: Path) -> None:
    """Makes it a run of an earlier version: no sums in its record."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in ("sha256", "files")}))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_damage_is_named_or_changes_nothing(
    home: Home, whole: dict[tuple[str, str], str], tmp_path: Path, chunk: int
) -> None:
    for trial in range(chunk, TRIALS, CHUNKS):
        rng = random.Random(SEED * 1_000_003 + trial)
        name = rng.choice(list(COMMANDS))
        runs = tmp_path / str(trial) / "runs"
        shutil.copytree(home.runs, runs)
        target = runs / home.ids[name]
        sums = name == "stopped" or rng.random() < 0.7
        if not sums:
            unseal(target)
        files = sorted(path for path in target.iterdir() if path.is_file())
        path = rng.choice([*files, target / "run.json"])
        others = [p for p in sorted(runs.glob("*/*")) if p.is_file() and p != path]
        damage = rng.choice(DAMAGE)
        damage(rng, path, others)
        command = rng.choice(COMMANDS[name])
        what = f"trial {trial}: {damage.__name__} {path.name} of {name}, {'sums' if sums else 'no sums'}, {command}"
        try:
            answer, said = outcome(home, runs, home.ids[name], command)
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        if not answer:
            assert said and "\n" not in said.strip(), what
        unsummed = name == "stopped" and path.name == "trace.jsonl"  # a run that is not at its end
        if sums and not unsummed and answer != whole[name, command]:
            if path.name == "run.json" and not path.is_file():
                continue  # the run is not there
            assert path.name in said, f"{what}: another answer without a word: {said}"
        shutil.rmtree(tmp_path / str(trial))
