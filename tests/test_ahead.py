"""Reading ahead on a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kgkit.ahead import ahead


def test_the_same_values_in_the_same_order() -> None:
    assert list(ahead(range(1000))) == list(range(1000))
    assert list(ahead([])) == []
    assert list(ahead([None, None], held=1)) == [None, None]


def test_values_are_made_before_they_are_asked_for() -> None:
    made = threading.Event()

    def values() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    found = ahead(values())
    assert next(found) == 1
    assert made.wait(10)
    assert list(found) == [2]


def test_an_error_comes_where_its_value_would_have() -> None:
    def values() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    found = ahead(values())
    assert next(found) == 1
    assert next(found) == 2
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_a_reader_that_stops_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def values() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    for value in ahead(values()):
        if value == 5:
            break
    assert closed.wait(10)
    assert not [t for t in threading.enumerate() if t.name == "kgkit-ahead" and t.is_alive()]
