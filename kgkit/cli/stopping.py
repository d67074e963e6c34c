"""Ctrl-C, SIGTERM or SIGHUP at a command that should store what it has, or say how it ended, before it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MESSAGE = b"\nstopping as soon as what can be gone on from is stored (once more: at once)\n"


class Stop:
    """By which signal an end was asked for, if by any."""

    def __init__(self) -> None:
        self.by: int | None = None

    def __call__(self) -> bool:
        return self.by is not None

    @contextmanager
    def heeded(self) -> Iterator[Stop]:
        """Within, the first signal is kept here, and the second does what signals do. Elsewhere than on the main thread,
        where Python allows no handlers, all do; one that the process ignores, as below nohup, it goes on ignoring."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {n: handler for n, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def heed(number: int, frame: Any) -> None:
            self.by = number
            restore()
            os.write(2, _MESSAGE)  # whatever the stream was in the middle of

        for number in before:
            signal.signal(number, heed)
        try:
            yield self
        finally:
            restore()


class Stopped(KeyboardInterrupt):
    """Ctrl-C by another signal; `str` names it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def raising() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise Stopped as Ctrl-C raises KeyboardInterrupt; a second one does what signals do.

    Elsewhere than on the main thread, and where the process ignores them, as below nohup, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {n: handler for n, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def stop(number: int, frame: Any) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
