"""Every writing command of the embedded store, killed before its writes, and with a disk that fills (`tests/faults`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from campaign.registry import Counts, Effort

ROOT = Path(__file__).parents[2]
LARGE = "8000,1000,200000"  # users, items and purchases that take the bulk roads by themselves


def campaign(effort: Effort) -> Iterator[tuple[str, Counts]]:
    sys.path.insert(0, str(ROOT))
    from tests.faults import disk
    from tests.faults.commands import COMMANDS

    for name in COMMANDS:
        most = ["--most", str(effort.of(40)), "--seed", str(effort.number)]
        yield f"{name}, small", _counts(disk.run([name, *most], effort.folder))
    for name in ("ingest alignment", "train, later run"):
        most = ["--most", str(effort.of(8)), "--seed", str(effort.number), "--size", LARGE]
        yield f"{name}, 200,000 purchases", _counts(disk.run([name, *most], effort.folder))


def _counts(done: subprocess.CompletedProcess[str]) -> Counts:
    """The rows of the table that `tests.faults.disk` prints."""
    counts = Counts()
    for line in done.stdout.splitlines()[1:-1]:
        if " x WRONG: " in line:
            number, _, text = line.strip().partition(" x ")
            counts.failures += [text] * int(number)
        else:
            words = line[18:].split(None, 3)
            counts.tried += int(words[2])
            for outcome in words[3].split(", ") if len(words) > 3 else []:
                state, _, number = outcome.rpartition(" ")
                counts.notes[state] = counts.notes.get(state, 0) + int(number)
    if not done.stdout.endswith(" wrong\n"):
        counts.failures.append(done.stderr.strip().rpartition("\n")[2])
    return counts
