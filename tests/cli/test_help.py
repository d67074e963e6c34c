"""Every --help answers, and none imports torch, whose import takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = [
    [], ["ingest"], ["ingest", "purchases"], ["ingest", "recbole"], ["train"], ["train", "--plugin", "kgnn_ls"],
    ["train", "--plugin", "ease"], ["evaluate"], ["runs"], ["runs", "show"], ["runs", "erase"], ["query"], ["stats"],
    ["copy"], ["plugins"], ["plugins", "show"], ["neo4j"], ["neo4j", "start"], ["neo4j", "status"], ["neo4j", "stop"],
    ["align"], ["demo"], ["complete"], ["predict"], ["neighbours"], ["report"],
]  # fmt: skip

_RUN = """
import sys
sys.argv[0] = "kgkit"
from kgkit.cli.main import main
try:
    main()
finally:
    heavy = sorted({"torch", "pyarrow", "scipy", "pandas", "numpy", "pydantic"} & set(sys.modules))
    print("HEAVY", heavy, file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_answers_without_heavy_imports(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert "HEAVY []" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "words"), [
    (["train", "--plugin", "kgnn_ls"], ["--dim", "--ls-weight", "--neighbours", "--seed", "--hops"]),
    (["ingest", "purchases"], ["--user", "--item", "--min-rating", "--since"]),
])  # fmt: skip
def test_help_lists_the_options_of_a_plugin_or_connector(command: list[str], words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "kgkit", *command, "--help"], capture_output=True, text=True)
    for word in words:
        assert word in done.stdout


def test_shell_completion_offers_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        env={**os.environ, "_KGKIT_COMPLETE": "complete_bash", "COMP_WORDS": "kgkit tr", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
    )
    assert "train" in done.stdout.split()


def test_commands_that_train_end_without_a_word_about_leaks() -> None:
    pytest.importorskip("triton")
    imports = "import torch, triton\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + _RUN, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("kgkit ")
    assert "leaked" not in done.stderr
