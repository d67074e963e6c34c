"""The hooks, one screen. Each returns a value, so each is tested without mocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from kgkit.connector import Connector
    from kgkit.model import Model

hookspec = pluggy.HookspecMarker("kgkit")
hookimpl = pluggy.HookimplMarker("kgkit")


@hookspec
def register_models() -> list[type[Model]]:  # type: ignore[empty-body]
    """The Model classes that this module offers (usually one)."""


@hookspec
def register_connectors() -> list[type[Connector]]:  # type: ignore[empty-body]
    """The Connector classes that this module offers (usually one)."""
