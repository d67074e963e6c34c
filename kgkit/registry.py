"""Finds plugins and connectors by their entry points: lists them without importing, loads the chosen one, refuses twins."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from kgkit import hookspecs
from kgkit.config import unknown_name
from kgkit.errors import PluginError

if TYPE_CHECKING:
    from kgkit.connector import Connector
    from kgkit.model import Model

MODELS, CONNECTORS = "kgkit.models", "kgkit.connectors"
_WORDS = {MODELS: "plugin", CONNECTORS: "connector"}


@dataclass(frozen=True)
class Card:
    """What a list shows of a plugin or connector. `details` holds task and paper of a model."""

    name: str
    about: str
    distribution: str
    details: dict[str, str] = field(default_factory=dict)


def names(group: str) -> dict[str, EntryPoint]:
    """The names of a group ("kgkit.models" or "kgkit.connectors"), sorted, with their entry points; imports none.

    Raises PluginError when two distributions offer one name, and says which.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda p: p.name):
        twin = found.get(point.name)
        # One distribution may be on the path twice (a checkout and its installed copy): that is no twin.
        if twin is not None and _distribution(twin) != _distribution(point):
            raise PluginError(
                f"two packages offer a {_WORDS[group]} called {point.name!r}: {_distribution(twin)} and "
                f"{_distribution(point)}; uninstall one of them"
            )
        found.setdefault(point.name, point)
    return found


def load_model(name: str) -> type[Model]:
    """The Model class of that name. Raises PluginError when it is unknown or breaks its contract."""
    from kgkit.model import Model

    found: type[Model] = _load(MODELS, name, "register_models", Model)
    return found


def load_connector(name: str) -> type[Connector]:
    """The Connector class of that name. Raises PluginError when it is unknown or breaks its contract."""
    from kgkit.connector import Connector

    found: type[Connector] = _load(CONNECTORS, name, "register_connectors", Connector)
    return found


def _load(group: str, name: str, hook: str, base: type) -> Any:
    points = names(group)
    word = _WORDS[group]
    if name not in points:
        raise PluginError(unknown_name(word, name, points))
    point = points[name]
    manager = pluggy.PluginManager("kgkit")
    manager.add_hookspecs(hookspecs)
    try:
        module = point.load()
    except ImportError as error:
        raise PluginError(f"{word} {name!r} of {_distribution(point)} cannot be imported: {error}") from error
    manager.register(module, name=f"{group}:{name}")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{word} {name!r} of {_distribution(point)}: {error}") from None
    classes = [cls for offered in getattr(manager.hook, hook)() for cls in offered]
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise PluginError(
                f"{word} {name!r}: {hook} must return subclasses of {base.__name__}, got {cls!r}"
            )
        if getattr(cls, "name", None) == name:
            return cls
    have = ", ".join(repr(getattr(cls, "name", "?")) for cls in classes) or "none"
    raise PluginError(
        f"{point.value} of {_distribution(point)} offers no {word} called {name!r} (it has {have}): "
        "the entry point and the class must have the same name"
    )


def cards(group: str) -> list[Card]:
    """A card for every name of a group. Modules are read, not imported, wherever their attributes are literals."""
    found = []
    for name, point in names(group).items():
        attributes = _attributes(point, name)
        if attributes is None:
            cls = load_model(name) if group == MODELS else load_connector(name)
            attributes = {
                k: str(getattr(cls, k)) for k in ("about", "task", "paper") if getattr(cls, k, None)
            }
        details = {k: v for k, v in attributes.items() if k != "about"}
        found.append(Card(name, attributes.get("about", ""), _distribution(point), details))
    return found


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _attributes(point: EntryPoint, name: str) -> dict[str, str] | None:
    """about, task and paper of the class with that name, from the module's source; None when it cannot be told."""
    try:
        spec = importlib.util.find_spec(point.module)  # imports the parent package only
        source = Path(spec.origin).read_text() if spec and spec.origin else ""
        tree = ast.parse(source)
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        values = dict(filter(None, map(_assignment, node.body)))
        if _literal(values.get("name")) != name:
            continue
        about = _literal(values.get("about")) or (ast.get_docstring(tree) or "").split("\n\n")[0].replace(
            "\n", " "
        )
        attributes = {"about": about}
        task, paper = values.get("task"), values.get("paper")
        if isinstance(task, ast.Attribute):
            attributes["task"] = task.attr.lower().replace("_", "-")
        if isinstance(paper, ast.Call):
            text = _paper(paper)
            if text is None:
                return None
            attributes["paper"] = text
        return attributes
    return None


def _assignment(node: ast.stmt) -> tuple[str, ast.expr] | None:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return None


def _literal(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _paper(call: ast.Call) -> str | None:
    from kgkit.model import Paper

    try:
        arguments = [ast.literal_eval(a) for a in call.args]
        return str(Paper(*arguments, **{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}))
    except (ValueError, TypeError):
        return None
