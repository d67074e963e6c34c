"""Values with control characters, on a pipe and on a terminal; cells that a spreadsheet would run; names in pages."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from kgkit.report.html import paragraph, table
from kgkit.store.ladybug import LadybugStore
from kgkit.testing.contract_write import facts, nodes

HOSTILE = "\x1b[31mred \x1b[2J\x7f\x9b2J\u202egnp"
SHOWN = r"\x1b[31mred \x1b[2J\x7f\x9b2J\u202egnp"
IDS = "MATCH (u:User) RETURN u.id AS id ORDER BY id"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.kg"
    with LadybugStore(path) as store:
        store.upsert_nodes("User", nodes(HOSTILE, "=1+1", "-2", "@x"))
        store.upsert_edges("FACT", facts(("a", HOSTILE, "b")), missing="create")
    return path


def piped(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "kgkit", *map(str, args)], capture_output=True, check=False)


def on_terminal(*args: str | Path) -> str:
    """What a command writes to a terminal, standard error included."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "kgkit", *map(str, args)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ):
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return seen.decode()


def test_pipe_and_file_get_the_bytes(graph: Path, tmp_path: Path) -> None:
    for format in ("csv", "table"):
        assert HOSTILE.encode() in piped("query", IDS, "-f", format, "--store", graph).stdout
    file = tmp_path / "x.csv"
    assert piped("query", IDS, "-o", file, "--store", graph).returncode == 0
    assert file.read_bytes() == piped("query", IDS, "-f", "csv", "--store", graph).stdout


def test_terminal_shows_control_characters(graph: Path) -> None:
    commands: list[tuple[str, ...]] = [("query", IDS), ("query", IDS, "-f", "csv"), ("stats",)]
    commands.append(("query", f"MATCH (n:`{HOSTILE}`) RETURN n"))
    for command in commands:
        seen = on_terminal(*command, "--store", str(graph))
        assert SHOWN in seen, (command, seen)
        assert not any(sign in seen for sign in "\x1b\x7f\x9b\u202e"), (command, seen)


def test_cells_for_spreadsheets(graph: Path) -> None:
    cypher = "MATCH (u:User) WHERE size(u.id) < 5 RETURN u.id AS id, -1 AS n ORDER BY id"
    asked = piped("query", cypher, "-f", "csv", "--for-spreadsheets", "--store", graph)
    assert asked.stdout.decode() == "id,n\n'-2,-1\n'=1+1,-1\n'@x,-1\n"
    assert (
        piped("query", cypher, "-f", "csv", "--store", graph).stdout.decode()
        == "id,n\n-2,-1\n=1+1,-1\n@x,-1\n"
    )
    refused = piped("query", cypher, "-f", "json", "--for-spreadsheets", "--store", graph)
    assert refused.returncode == 1 and b"--format csv" in refused.stderr


def test_ending_that_nobody_writes(graph: Path, tmp_path: Path) -> None:
    refused = piped("query", IDS, "-o", tmp_path / "recs.xlsx", "--store", graph)
    assert (
        refused.returncode == 1 and b".xlsx" in refused.stderr and b".csv, .json, .parquet" in refused.stderr
    )
    assert not (tmp_path / "recs.xlsx").exists()


def test_pages_escape_names() -> None:
    name = "<script>alert('1')</script>\"&`<b>`"
    page = table([name, "n"], [[name, name]], name) + paragraph(name)
    assert "<script" not in page and "<b>" not in page and page.count("&lt;script&gt;") == 5
