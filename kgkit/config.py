"""Typed options: a plugin's or connector's frozen dataclass is its documentation, its validation and its command line.

    @dataclass(frozen=True)
    class Config:
        dim: int = option(16, "embedding size d", ge=1)
        aggregator: str = option("sum", "how a node and its neighbours are joined", choices=("sum", "concat"))

Field types may be int, float, str, bool, Path, those `| None`, and `tuple[str, ...]` (an option that may be repeated).
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from kgkit.errors import ConfigError

_META = "kgkit"
C = TypeVar("C")


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
) -> Any:
    """A dataclass field with help text and bounds. Without `default` the option is required."""
    meta = {
        _META: {"help": help, "ge": ge, "gt": gt, "le": le, "lt": lt, "choices": choices, "metavar": metavar}
    }
    if default is MISSING:
        return dataclasses.field(metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True)
class OptionInfo:
    """One option of a config class, as help pages and errors show it."""

    name: str
    type: type
    many: bool
    optional: bool
    default: Any
    help: str
    bounds: dict[str, float]
    choices: tuple[str, ...] | None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        return self.default is MISSING

    def bounds_text(self) -> str:
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        parts = [f"{signs[k]} {v:g}" for k, v in self.bounds.items()]
        if self.choices:
            parts.append("one of " + ", ".join(self.choices))
        return ", ".join(parts)

    def type_text(self) -> str:
        return self.type.__name__ + ("..." if self.many else "")


def options_of(cls: type) -> list[OptionInfo]:
    """The options of a config dataclass, in the order written (inherited ones first)."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        hint, many, optional = hints[field.name], False, False
        if get_origin(hint) in (Union, types.UnionType):
            args = [a for a in get_args(hint) if a is not type(None)]
            hint, optional = args[0], True
        if get_origin(hint) is tuple:
            hint, many = get_args(hint)[0], True
        meta: Mapping[str, Any] = field.metadata.get(_META, {})
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        found.append(
            OptionInfo(
                name=field.name,
                type=hint,
                many=many,
                optional=optional,
                default=default,
                help=meta.get("help", ""),
                bounds={k: meta[k] for k in ("ge", "gt", "le", "lt") if meta.get(k) is not None},
                choices=tuple(meta["choices"]) if meta.get("choices") else None,
            )
        )
    return found


def make_config(cls: type[C], values: Mapping[str, Any], *, what: str = "option") -> C:
    """Turns text or typed values into a checked instance of `cls`.

    Raises ConfigError for an unknown, missing, ill-typed or out-of-range option; the message lists the right ones.
    """
    infos = {o.name: o for o in options_of(cls)}
    # A file's keys have no dashes.
    shown = {o.name: o.flag if what == "option" else o.name for o in infos.values()}
    clean: dict[str, Any] = {}
    for raw_name, value in values.items():
        name = raw_name.lstrip("-").replace("-", "_")
        if name not in infos:
            raise ConfigError(unknown_name(what, raw_name, shown.values()))
        clean[name] = _convert(infos[name], value)
    missing = [shown[o.name] for o in infos.values() if o.required and o.name not in clean]
    if missing:
        raise ConfigError(f"missing {what} {', '.join(missing)}")
    return cls(**clean)


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The one wording for 'no such X': names the closest match and lists all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {what} {name!r}.{hint} Known: {', '.join(known) or 'none'}"


def _convert(info: OptionInfo, value: Any) -> Any:
    if info.many:
        items = [value] if isinstance(value, (str, Path)) else list(value)
        return tuple(_scalar(info, v) for v in items)
    if value is None or (info.optional and value == "none"):
        if info.optional:
            return None
        raise ConfigError(f"{info.flag} needs a value of type {info.type_text()}")
    return _scalar(info, value)


def _scalar(info: OptionInfo, value: Any) -> Any:
    try:
        if info.type is bool:
            text = str(value).lower()
            if text not in ("true", "false", "1", "0", "yes", "no"):
                raise ValueError
            typed: Any = text in ("true", "1", "yes")
        elif info.type is int and isinstance(value, float):
            raise ValueError
        else:
            typed = info.type(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{info.flag} needs a value of type {info.type_text()}, got {value!r}") from None
    checks = {
        "ge": lambda bound: typed >= bound,
        "gt": lambda bound: typed > bound,
        "le": lambda bound: typed <= bound,
        "lt": lambda bound: typed < bound,
    }
    if any(not checks[name](bound) for name, bound in info.bounds.items()) or (
        info.choices is not None and typed not in info.choices
    ):
        raise ConfigError(f"{info.flag} must be {info.bounds_text()}, got {value!r}")
    return typed
