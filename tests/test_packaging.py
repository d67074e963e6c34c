"""The distribution: a built wheel brings plugins and connectors, and an outside plugin travels the same road."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _pip_install(target: Path, what: Path) -> None:
    # The environment already holds every dependency and the build backend, pinned: nothing may be fetched here.
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
         "--target", str(target), str(what)],
        check=True,
    )  # fmt: skip


def _kgkit(path: Path, *arguments: str) -> str:
    """Runs kgkit with `path` before everything else, away from the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", "from kgkit.cli.main import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_brings_plugins_and_connectors(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    site = tmp_path / "site"
    _pip_install(site, next(tmp_path.glob("kgkit-*.whl")))
    listed = json.loads(_kgkit(site, "plugins", "--json"))
    assert {"kgcn", "kgnn_ls", "popularity", "itemknn", "ease"} <= {m["name"] for m in listed["models"]}
    assert {"purchases", "triples", "alignment", "features", "recbole", "kgcn"} <= {
        c["name"] for c in listed["connectors"]
    }
    # The compiled kernels' sources travel too: without them every user would silently train slowly.
    assert list((site / "kgkit" / "native").glob("*.c"))
    where = subprocess.run(
        [sys.executable, "-c", "import kgkit, kgkit_plugins.kgcn as p; print(kgkit.__file__, p.__file__)"],
        env={**os.environ, "PYTHONPATH": str(site)}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.count(str(site)) == 2


def test_the_editable_install_brings_plugins_and_connectors() -> None:
    from kgkit.registry import names

    assert {"kgcn", "kgnn_ls", "popularity", "itemknn", "ease"} <= set(names("kgkit.models"))
    assert {"purchases", "triples", "alignment", "features", "recbole", "kgcn"} <= set(
        names("kgkit.connectors")
    )


@pytest.mark.slow
def test_an_outside_plugin_installs_and_trains(tmp_path: Path, toy_store_path: Path) -> None:
    site = tmp_path / "site"
    copy = tmp_path / "kgkit-mf"  # setuptools leaves build files beside the sources
    copy.mkdir()
    for file in (ROOT / "examples" / "kgkit-mf").glob("*.*"):
        (copy / file.name).write_bytes(file.read_bytes())
    _pip_install(site, copy)
    listed = json.loads(_kgkit(site, "plugins", "--json"))
    assert "mf" in {m["name"] for m in listed["models"]}
    out = _kgkit(
        site, "train", "--plugin", "mf", "--store", str(toy_store_path), "--runs", str(tmp_path / "runs"),
        "--epochs", "3", "--batch-size", "32", "--json",
    )  # fmt: skip
    record = json.loads(out)
    assert record["status"] == "finished"
    assert record["versions"]["kgkit-mf"] == "0.1.0"
    assert 0 <= record["metrics"]["test"]["auc"] <= 1
    assert record["written"]["RECOMMENDED"] > 0
