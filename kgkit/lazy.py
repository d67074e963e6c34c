"""torch, imported on first use.

Plugins write `from kgkit.lazy import torch`, so that listing them, showing their options and every `--help` stay fast:
importing torch takes seconds. A type checker sees the real module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _LazyModule:
        """Stands for a module and imports it when an attribute is first asked for."""

        def __init__(self, name: str) -> None:
            self.__name__ = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self.__name__), attribute)

    torch = _LazyModule("torch")

__all__ = ["torch"]
