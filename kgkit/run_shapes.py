"""What the files of a run's folder must look like: shapes of JSON, and one function that says where a value has another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATUSES = ("running", "interrupted", "failed", "finished")
_MOST = 2**63  # whole numbers beyond it come from no run, and many a format breaks at them


@dataclass(frozen=True)
class Fields:
    """An object with these fields; those that are not `needed` may be missing, and others may be there."""

    needed: Mapping[str, Any]
    others: Mapping[str, Any] = field(default_factory=dict)


# A shape is a type (`int` means none below zero, `float` takes whole numbers too), a tuple of alternatives, [shape] for a
# list, {str: shape} for an object with any names, or Fields; `object` takes all.
_METRICS = {str: {str: float}}
_LEAK = Fields({"relation": str, "test": int, "share": float})
_PAIR = Fields({**_LEAK.needed, "other": str, "facts": int, "other_share": float})
_TESTED = Fields(dict.fromkeys(("any", "facts", "symmetric", "inverse", "duplicate"), int) | {"share": float})
_COUNTS = ("users", "items", "interactions", "entities", "relations", "triples")
RECORD = Fields(
    {
        "id": str,
        "plugin": str,
        "status": str,
        "created": str,
        "parameters": {str: object},
        "timings": {str: float},
        "metrics": _METRICS,
        "versions": {str: str},
    },
    {
        "seed": (int, None),
        "paper": str,
        "store": str,
        "split": str,
        "error": (str, None),
        "best_epoch": int,
        "peak_memory": int,
        "chosen": {str: object},
        "written": {str: int},
        "data": Fields({"fingerprint": str}, dict.fromkeys(_COUNTS, int)),
        "extraction": Fields({"queries": {str: str}}, {"hops": (int, None)}),
        "options": Fields(
            {},
            {
                **dict.fromkeys(("write_back", "raw", "keep_checkpoint"), bool),
                **dict.fromkeys(("top", "memory"), int),
                **dict.fromkeys(
                    ("split", "ratios", "init_from", "hops", "triples_query", "interactions_query"),
                    (str, None),
                ),
            },
        ),
        "leaks": Fields({"inverse": [_PAIR], "duplicate": [_PAIR], "symmetric": [_LEAK], "test": _TESTED}),
        "completed": Fields({"completed": int, "questions": int}),
        "process": Fields({"pid": int, "started": (str, None), "host": str, "boot": str}),
        "files": {str: str},
    },
)
TRACE_LINE = Fields(
    {"epoch": int, "loss": {str: float}, "train_s": float}, {"best_epoch": int, "valid_s": float}
)
_RANKED = {
    "facts": int,
    "category": str,
    **dict.fromkeys((f"{m}{side}" for m in ("mrr", "hits@10") for side in ("", "_tail", "_head")), float),
}
RANKING = Fields(
    {
        "relations": [Fields({**_RANKED, "relation": int})],
        "categories": [Fields({**_RANKED, "relations": int})],
    }
)
NAMES = [str]


def mismatch(value: Any, shape: Any, where: str = "") -> str | None:
    """Where a value is not of a shape, and what stands there instead; None where it is."""
    if shape is object:
        return None if _sound(value) else f"{where or 'it'} holds what cannot be shown"
    if isinstance(shape, tuple):
        found = [mismatch(value, one, where) for one in shape]
        return None if None in found else found[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _instead(where, "a list", value)
        inside = (mismatch(v, shape[0], f"{where}[{i}]") for i, v in enumerate(value))
        return next(filter(None, inside), None)
    if isinstance(shape, Fields | dict):
        return _object(value, shape, where)
    return _scalar(value, shape, where)


def _object(value: Any, shape: Fields | dict[Any, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return _instead(where, "an object", value)
    if isinstance(shape, dict):
        asked = [(name, shape[str]) for name in value]
    else:
        if missing := [name for name in shape.needed if name not in value]:
            return f"{_named(where, missing[0])} is missing"
        known = {**shape.needed, **shape.others}
        asked = [(name, known.get(name, object)) for name in value]
    for name, one in asked:
        if not _sound(name):
            return f"{where or 'it'} has a name that cannot be shown"
        if found := mismatch(value[name], one, _named(where, name)):
            return found
    return None


def _scalar(value: Any, shape: Any, where: str) -> str | None:
    if shape is None:
        return None if value is None else _instead(where, "nothing", value)
    if shape is str:
        return None if isinstance(value, str) and _sound(value) else _instead(where, "a text", value)
    if shape is bool:
        return None if isinstance(value, bool) else _instead(where, "true or false", value)
    if isinstance(value, bool) or not isinstance(value, int if shape is int else int | float):
        return _instead(where, "a whole number" if shape is int else "a number", value)
    fits = abs(value) < (1e300 if isinstance(value, float) else _MOST) and (shape is float or value >= 0)
    return None if fits else f"{where} is {str(value)[:24]}, no figure of a run"


def _sound(value: Any) -> bool:
    """Whether texts can be printed and passed on: no half of a surrogate pair, no NUL."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return "\0" not in value
    if isinstance(value, dict):
        return all(_sound(v) for pair in value.items() for v in pair)
    return all(map(_sound, value)) if isinstance(value, list) else True


def _named(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _instead(where: str, wanted: str, value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    seen = kinds.get(type(value), "a number")
    seen = "a text that cannot be shown" if seen == wanted else seen
    return f"{where or 'it'} is {seen} where {wanted} belongs"
