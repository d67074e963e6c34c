"""Writing commands of the embedded store, killed before some of their writes, and on disks that fill: nothing is lost.

`make campaign` does the same before every write and at every size, and at sizes that take the bulk roads by themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import disk
from tests.faults.commands import COMMANDS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disk")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_lost(name: str, folder: Path) -> None:
    done = disk.run([name, "--most", "3", "--size", "40,60,500"], folder)
    assert done.returncode == 0 and done.stdout.endswith("\n0 wrong\n"), done.stdout + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 2 + len(disk.HOWS)
