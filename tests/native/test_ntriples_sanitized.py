"""The compiled N-Triples parser under AddressSanitizer, on input broken at random. KGKIT_FUZZ is the number of seconds."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import fuzz_ntriples
import pytest


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parser built with the sanitizers."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return fuzz_ntriples.build(tmp_path_factory.mktemp("sanitized"))


def test_no_byte_is_touched_out_of_bounds_and_the_twin_agrees(library: Path) -> None:
    seconds = float(os.environ.get("KGKIT_FUZZ", "6"))
    done = fuzz_ntriples.run_sanitized(library, seconds, seed=1, rounds=0)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = re.search(r"(\d+) rounds, (\d+) lines: no difference", done.stdout)
    assert found and int(found[2]) > 300, done.stdout


def test_a_parser_that_reads_one_byte_too_far_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, a sanitizer that is not at work would look like a parser without errors."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    text = fuzz_ntriples.SOURCE.read_text()
    broken = text.replace("while (p < e && (*p == ' '", "while (p <= e && (*p == ' '", 1)
    assert broken != text
    (tmp_path / "ntriples.c").write_text(broken)
    monkeypatch.setattr(fuzz_ntriples, "SOURCE", tmp_path / "ntriples.c")
    done = fuzz_ntriples.run_sanitized(fuzz_ntriples.build(tmp_path), 20, seed=1, rounds=200)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
