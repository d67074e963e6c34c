"""torch and numpy, imported on first use.

Plugins write `from kgkit.lazy import np, torch`, so that listing them, showing their options and every `--help` stay
fast: importing torch takes seconds, numpy as long as all the rest. A type checker sees the real modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch as torch
else:

    class _LazyModule:
        """Stands for a module and imports it when an attribute is first asked for."""

        def __init__(self, name: str) -> None:
            self.__name__ = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self.__name__), attribute)

    np = _LazyModule("numpy")
    torch = _LazyModule("torch")

__all__ = ["np", "torch"]
