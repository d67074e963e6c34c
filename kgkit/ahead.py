"""Reading ahead: the next values are made on a thread of their own while the last one is worked on.

Worth it where both sides let go of the interpreter's lock: the parsers of dumps and tables do, and so do the stores.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(values: Iterable[T], held: int = 1) -> Iterator[T]:
    """The same values in the same order, up to `held` of them made before they are asked for.

    What making a value raises is raised where that value would have come. When the reader stops early, so does the
    thread, after the value that it is making.
    """
    waiting: queue.Queue[object] = queue.Queue(held)
    stopped = threading.Event()

    def put(value: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(value, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def make() -> None:
        iterator = iter(values)
        try:
            for value in iterator:
                if not put(value):
                    break
            else:
                put(_END)
        except BaseException as error:
            put(_Raised(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=make, name="kgkit-ahead", daemon=True)
    thread.start()
    try:
        while True:
            value = waiting.get()
            if value is _END:
                return
            if isinstance(value, _Raised):
                raise value.error
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


class _Raised:
    """An exception on its way from one thread to the other."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
