"""The distribution: a built wheel brings plugins and connectors, and an outside plugin travels the same road."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def _pulled_in(name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, str]]:
    """Names and versions of all that a distribution requires here, and what that requires in turn, as installed."""
    found: set[tuple[str, str]] = set()
    asked, left = set(), [(canonicalize_name(name), extras)]
    while left:
        name, extras = left.pop()
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in ("", *extras)):
                other = canonicalize_name(wanted.name)
                found.add((other, metadata.version(other)))
                left.append((other, frozenset(wanted.extras)))
    return found


@pytest.mark.slow
def test_the_sbom_names_every_pinned_runtime_package(tmp_path: Path) -> None:
    """Beside the wheel; what is installed here is an independent count of what a user gets."""
    subprocess.run(
        [
            "make",
            "-C",
            str(ROOT),
            "-o",
            "setup",
            f"BIN={Path(sys.executable).parent}",
            "dist",
            f"DIST={tmp_path}",
        ],
        check=True,
        capture_output=True,
    )
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".whl", ".json"]
    bom = json.loads(next(tmp_path.glob("kgkit-*.cdx.json")).read_text())
    assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["name"] == "kgkit"
    named = {(canonicalize_name(c["name"]), c["version"]) for c in bom["components"]}
    installed = _pulled_in("kgkit")
    assert {"torch", "neo4j", "ladybug", "numpy", "urllib3"} <= {name for name, _ in installed}
    assert installed <= named
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    pinned = {(canonicalize_name(n), v) for n, v in re.findall(r"^([\w.-]+)==([^ ;]+)", lock, re.M)}
    assert named <= pinned
    assert not {"pytest", "mypy", "bandit"} & {name for name, _ in named}
    assert {c["purl"] for c in bom["components"]} == {f"pkg:pypi/{name}@{version}" for name, version in named}


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
