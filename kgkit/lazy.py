"""torch, numpy and pyarrow, imported on first use.

Plugins write `from kgkit.lazy import np, torch`, so that listing them, showing their options and every `--help` stay
fast: importing torch takes seconds, numpy or pyarrow as long as all the rest. A type checker sees the real modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import torch as torch


class LazyModule:
    """Stands for a module and imports it when an attribute is first asked for."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)


if not TYPE_CHECKING:
    np = LazyModule("numpy")
    pa = LazyModule("pyarrow")
    pc = LazyModule("pyarrow.compute")
    torch = LazyModule("torch")


@contextmanager
def missing(*names: str) -> Iterator[None]:
    """Lets what is imported within find these modules missing, unless they are there already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


__all__ = ["LazyModule", "missing", "np", "pa", "pc", "torch"]
