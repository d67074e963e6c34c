"""What the process holds, and giving back what is free of it, on the systems that tell."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator

import numpy as np
import pytest

from kgkit.memory import lean, let_go, resident

SIZE, PIECES = 32 << 10, 3_000  # too small for the C library to hand each back by itself
MOST = SIZE * PIECES


@pytest.fixture
def freed() -> Iterator[None]:
    """Memory that is free, and that the C library keeps."""
    libc = ctypes.CDLL(None)
    if resident() == 0 or not hasattr(libc, "malloc_trim"):
        pytest.skip("this system does not tell, or its C library has nothing to hand back")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pieces = [libc.malloc(SIZE) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, SIZE)
    for piece in pieces[:-1]:
        libc.free(piece)
    yield  # what lies above keeps the heap from shrinking
    libc.free(pieces[-1])


def test_resident_grows_with_what_is_held() -> None:
    if not (before := resident()):
        pytest.skip("this system does not tell")
    held = np.ones(64 << 20, dtype=np.uint8)
    assert resident() - before > len(held) // 2


def test_what_is_free_is_let_go(freed: None) -> None:
    before = resident()
    let_go()
    assert before - resident() > MOST // 2


@pytest.mark.parametrize(("bound", "lets_go"), [(1, True), (1 << 50, False)])
def test_a_long_call_above_its_bound_is_kept_lean(freed: None, bound: int, lets_go: bool) -> None:
    before = resident()
    with lean(bound):
        deadline = time.monotonic() + (10 if lets_go else 0.6)
        while time.monotonic() < deadline and not (gone := before - resident() > MOST // 2):
            time.sleep(0.05)
    assert gone == lets_go
