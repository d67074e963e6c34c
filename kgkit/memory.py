"""What the process holds of the machine's memory, and giving back what is free of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

EVERY = 0.25  # seconds between two looks at what a statement holds


def resident() -> int:
    """Bytes of memory that the process holds; 0 where the system (Linux) does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def let_go() -> None:
    """Hands memory that is free to the system, where the C library (glibc's) knows how."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def lean(bound: int) -> Iterator[None]:
    """Hands free memory back again and again while the process holds more than `bound` bytes.

    For long calls of compiled code that let go of the interpreter's lock: what they free little by little stays with
    the C library otherwise, until they return.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            if resident() > bound:
                let_go()

    thread = threading.Thread(target=watch, name="kgkit-lean", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
