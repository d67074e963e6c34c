"""The archive of Neo4j's classes: what Java saw goes in, and a Java that uses it starts with those classes mapped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kgkit import server_archive
from kgkit.server_archive import java_options, make, make_later
from kgkit.server_jars import cache_dir, class_path, java

pytestmark = pytest.mark.neo4j


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Neo4j's jars, and a cache folder without an archive."""
    found = class_path()
    monkeypatch.setattr(server_archive, "cache_dir", lambda: tmp_path / "cache")
    return found


def run_java(jars: list[Path], *more: str) -> str:
    """Runs a small program out of Neo4j's jars, and returns what it and Java said."""
    command = [java(), *java_options(java(), jars), *more, "-cp", ":".join(map(str, jars))]
    home = cache_dir()  # where there is no installation, which `--version` does not look at
    done = subprocess.run(
        [*command, "org.neo4j.cli.AdminTool", "--version"],
        env={**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_archive_of_what_was_seen(jars: list[Path], tmp_path: Path) -> None:
    for other in range(4):
        (tmp_path / "cache" / f"classes-{other}").mkdir(parents=True)
    run_java(jars)  # notes its classes
    (seen,) = cache_folder(jars).glob("seen-*.lst")
    with seen.open("a") as file:  # a process that was killed
        file.write("org/neo4j/cut/off/in/the/mid")
    assert make(java(), jars)
    assert not list(cache_folder(jars).glob("seen-*.lst"))
    assert len(list((tmp_path / "cache").glob("classes-*"))) == 3  # archives of Javas of long ago go
    loaded = run_java(jars, "-Xlog:class+load")
    (line,) = (line for line in loaded.splitlines() if "org.neo4j.cli.AdminTool source:" in line)
    assert "shared objects file" in line
    before = (cache_folder(jars) / "neo4j.jsa").stat().st_mtime_ns
    make_later(java(), jars)  # nothing to do
    assert make(java(), jars)
    assert (cache_folder(jars) / "neo4j.jsa").stat().st_mtime_ns == before


def test_archive_that_fails_is_not_tried_again(jars: list[Path]) -> None:
    java_options(java(), jars)
    (cache_folder(jars) / "seen-pid1.lst").write_text("java/lang/Object super: nonsense\n")
    assert not make(java(), jars)
    assert java_options(java(), jars) == []
    run_java(jars)
    make_later(java(), jars)
    assert not list(cache_folder(jars).glob("*.lst"))


def test_the_archives_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_archive, "cache_dir", lambda: tmp_path)
    folders = []
    for age in range(5):  # the last is the oldest
        folder = server_archive._folder(java(), [Path(f"{age}.jar")])
        folder.mkdir()
        (folder / "neo4j.jsa").touch()
        os.utime(folder, (1e9 - age, 1e9 - age))
        folders.append(folder)
    assert any("neo4j.jsa" in option for option in java_options(java(), [Path("4.jar")]))  # a server starts
    server_archive._prune(folders[2])
    assert [f.exists() for f in folders] == [True, False, True, False, True]


def cache_folder(jars: list[Path]) -> Path:
    return server_archive._folder(java(), jars)
