"""kgkit: what a plugin or connector author, or a notebook, imports. Importing it imports no torch."""

from __future__ import annotations

from kgkit.config import option
from kgkit.connector import Connector
from kgkit.errors import KgkitError
from kgkit.hookspecs import hookimpl
from kgkit.store.open import open_store

__version__ = "0.1.0"
__all__ = ["Connector", "KgkitError", "__version__", "hookimpl", "open_store", "option"]
