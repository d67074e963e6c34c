"""Stops the embedded store's writing commands before every write, and fills its disk at every size.

    python -m tests.faults.disk [COMMAND ...] [--every N] [--size USERS,ITEMS,PAIRS] [--how kill|torn|full]

A process with `disk.c` loaded forks one for each trial: it opens a copy of the graph, and is killed before its Nth write
to it (torn: with half of that write done), or finds the disk full after so many bytes. Then the graph is opened again: it
has to hold all that it held before and still would, and what it holds more has to be the command's; and the command given
again has to end with the graph that it makes undisturbed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kgkit.errors import KgkitError
from kgkit.store.ladybug import LadybugStore
from tests.faults.commands import COMMANDS, Size, rows_of

HERE = Path(__file__).parent
HOWS = ("kill", "torn", "full")
FULL = "disk is full"


def build(folder: Path) -> Path:
    """Compiles `disk.c`; raises CalledProcessError where that cannot be done."""
    library = folder / "disk.so"
    if not library.exists():
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "disk.c", "-ldl"], check=True)
    return library


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The campaign in a process that has `disk.c` loaded."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.disk", *arguments],
        env={**os.environ, "LD_PRELOAD": str(build(folder)), "TMPDIR": str(folder)},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
    )


class Trials:
    """The trials of one command. `graph` is a copy of `base` in each."""

    def __init__(self, name: str, size: Size, folder: Path, shim: ctypes.CDLL) -> None:
        self.command, self.size, self.folder, self._shim = COMMANDS[name], size, folder, shim
        folder.mkdir()
        self.base, self.graph = folder / "base.lbug", folder / "graph.lbug"
        self.before = self._done(self._make)
        self._fresh()
        self.writes, self.growth, self.after = self._done(self._undisturbed)

    def _done(self, work: Callable[[], Any]) -> Any:
        found = self._child(work)
        if found is None or isinstance(found, str):
            raise SystemExit(f"undisturbed: {found or 'killed'}")
        return found

    def _make(self) -> Any:
        with LadybugStore(self.base) as store:
            self.command.before(store, self.size, self.folder)
        with LadybugStore(self.base) as store:
            return rows_of(store)

    def _undisturbed(self) -> Any:
        before = self.base.stat().st_size
        self._arm(-1)
        with LadybugStore(self.graph) as store:
            self.command.run(store, self.size, self.folder)
        writes = self._shim.disk_seen()
        self._arm(-1, watch=False)
        with LadybugStore(self.graph) as store:
            return writes, self.graph.stat().st_size - before, rows_of(store)

    def _arm(self, die: int, half: bool = False, room: int = -1, watch: bool = True) -> None:
        self._shim.disk_arm(
            os.fsencode(self.graph if watch else ""), ctypes.c_long(die), int(half), ctypes.c_long(room)
        )

    def _fresh(self) -> None:
        for file in self.folder.glob("graph.lbug*"):
            file.unlink()
        shutil.copy(self.base, self.graph)

    def _child(self, work: Callable[[], Any]) -> Any:
        """What `work` returns in a process of its own; the text of its error, or None when it was killed."""
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reads)
                try:
                    answer = work()
                except KgkitError as error:
                    answer = str(error)
                except BaseException as error:
                    answer = f"{type(error).__name__}: {error}"
                with os.fdopen(writes, "wb") as pipe:
                    pickle.dump(answer, pipe)
            finally:
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            got = pipe.read()
        os.waitpid(pid, 0)
        return pickle.loads(got) if got else None

    def trial(self, how: str, at: int) -> str:
        """How it ended: "before", "between" or "after" when all was well; else what was wrong."""
        self._fresh()

        def disturbed() -> None:
            self._arm(at if how != "full" else -1, how == "torn", at if how == "full" else -1)
            with LadybugStore(self.graph) as store:
                self.command.run(store, self.size, self.folder)

        said = self._child(disturbed)
        if how == "full" and said is not None and (FULL not in said or "\n" in said):
            return f"WRONG: said {said[-300:]!r}"
        found = self._child(lambda: self._read())
        if isinstance(found, str) or found is None:
            return f"WRONG: cannot be opened: {found}"
        for kind in self.before:
            lost = (self.before[kind] & self.after[kind]) - found[kind]
            if lost:
                return f"WRONG: lost {len(lost)} {kind}, such as {next(iter(lost))}"
        state = "between" if found not in (self.before, self.after) else "before"
        if state == "between" and self.command.at_once:
            return "WRONG: half done " + str({k: len(v) for k, v in found.items() if v != self.before[k]})
        again = self._child(lambda: self._again())
        if isinstance(again, str) or again is None:
            return f"WRONG: given again: {again}"
        for kind in self.after:
            if again[kind] != self.after[kind]:
                wrong = again[kind] ^ self.after[kind]
                return f"WRONG: given again, {len(wrong)} {kind} differ, such as {sorted(wrong, key=str)[:2]}"
        return "after" if found == self.after else state

    def _read(self) -> Any:
        with LadybugStore(self.graph) as store:
            return rows_of(store)

    def _again(self) -> Any:
        with LadybugStore(self.graph) as store:
            if not (self.command.at_once and rows_of(store) == self.after):
                self.command.run(store, self.size, self.folder)
        return self._read()


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    p.add_argument("--most", type=int, default=0, help="trials of a command in each way; 0: every write")
    p.add_argument("--size", default="60,90,900", help="users, items and purchases of the graph")
    p.add_argument("--how", choices=HOWS, action="append")
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args(arguments)
    size = Size(*map(int, options.size.split(",")))
    size.bulk_from_here()
    shim = ctypes.CDLL(None)
    if not hasattr(shim, "disk_arm"):
        raise SystemExit("run it by tests.faults.disk.run, or with LD_PRELOAD=disk.so")
    wrong = 0
    print(f"{'command':18} {'how':5} {'writes':>6} {'trials':>6}  outcomes")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.commands or COMMANDS:
            trials = Trials(name, size, Path(folder) / name.replace(" ", "-"), shim)
            for how in options.how or HOWS:
                points = _points(how, trials, options.most, options.seed)
                outcomes = Counter(trials.trial(how, at) for at in points)
                bad = {k: n for k, n in outcomes.items() if k.startswith("WRONG")}
                wrong += sum(bad.values())
                good = ", ".join(f"{k} {n}" for k, n in sorted(outcomes.items()) if k not in bad)
                print(f"{name:18} {how:5} {trials.writes:6} {len(points):6}  {good}", flush=True)
                for text, n in sorted(bad.items()):
                    print(f"    {n} x {text}", flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


def _points(how: str, trials: Trials, most: int, seed: int) -> list[int]:
    if how == "full":  # bytes
        end = max(trials.growth * 2, 1 << 16)
        every = list(range(0, end, 4096))
    else:
        every = list(range(1, trials.writes + 1))
    if most and len(every) > most:
        every = sorted(random.Random(seed).sample(every, most))
    return every


if __name__ == "__main__":
    sys.exit(main())
