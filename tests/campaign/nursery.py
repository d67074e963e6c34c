"""A process that has all modules and no graph, and forks a child for each call: children that may be killed, and die.

A fork takes milliseconds where a new process takes a second. The nursery itself never opens a graph, so it has no threads.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kgkit.errors import KgkitError

ROOT = Path(__file__).resolve().parents[1]
SAID, REFUSED, FAILED, KILLED, HUNG = "said", "refused", "failed", "killed", "hung"


class Nursery:
    """Use as a context manager."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def call(
        self, function: Callable[..., Any], *args: Any, kill_after: float = -1.0, limit: float = 120.0
    ) -> tuple[str, Any]:
        """Calls `function(*args, ready)` in a child; function and arguments are pickled.

        kill_after: seconds after the function has called `ready` that the child is killed; negative: not.
        Returns SAID and its value, REFUSED and the message of a KgkitError, FAILED and another exception as text, KILLED
        and the signal's number, or HUNG after `limit` seconds.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((function, args, kill_after, limit), self._process.stdin)
        self._process.stdin.flush()
        answer: tuple[str, Any] = pickle.load(self._process.stdout)
        return answer


def _child(function: Callable[..., Any], args: tuple[Any, ...], sink: int) -> None:
    try:
        answer = SAID, function(*args, lambda: os.write(sink, b"!"))
    except KgkitError as error:
        answer = REFUSED, str(error)
    except BaseException as error:
        answer = FAILED, f"{type(error).__name__}: {error}"
    with os.fdopen(sink, "wb") as pipe:
        pipe.write(b"=" + pickle.dumps(answer))
    os._exit(0)


def _read(source: int, child: int, kill_after: float, limit: float) -> bytes:
    """All that a child writes; it is killed in the meantime where it is to be, or when its time is over."""
    out, deadline = b"", time.monotonic() + limit
    while True:
        if out == b"!" and kill_after >= 0:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
            kill_after = -1.0
        if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            return b"?"
        part = os.read(source, 1 << 20)
        if not part:
            return out
        out += part


def _nursery() -> None:
    import campaign.damage
    import campaign.kills  # noqa: F401
    import kgkit.store.ladybug
    import kgkit.store.ladybug_align
    import kgkit.store.ladybug_answers  # noqa: F401

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, args, kill_after, limit = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            _child(function, args, sink)
        os.close(sink)
        said = _read(source, child, kill_after, limit)
        os.close(source)
        status = os.waitpid(child, 0)[1]
        answer: tuple[str, Any] = (KILLED, status & 127)
        if said == b"?":
            answer = HUNG, limit
        elif not os.WIFSIGNALED(status):
            answer = pickle.loads(said.partition(b"=")[2])
        pickle.dump(answer, out)
        out.flush()


if __name__ == "__main__":
    _nursery()
