"""Compiled CPU kernels, built on first use with the system's C compiler; each has a torch or numpy twin."""

from __future__ import annotations

from kgkit.native.rank import rank_positives

__all__ = ["rank_positives"]
