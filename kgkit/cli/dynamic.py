"""Options that are known only once a plugin or connector is: words typed -> values, and values -> a help section."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import typer

from kgkit.config import OptionInfo, options_of, unknown_name
from kgkit.errors import ConfigError


def parse_extra(arguments: Sequence[str], cls: type, positional: str | None = None) -> dict[str, Any]:
    """Turns `--dim 16 --dim=16 --flag --no-flag PATH...` into values for `kgkit.config.make_config(cls, ...)`.

    An option of many values may be repeated; `positional` names the one that takes words without a flag. Raises
    ConfigError for an unknown option, one without its value, or one given twice; the message lists the right ones.
    """
    infos = {o.flag: o for o in options_of(cls) if o.name != positional}
    values: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if positional is None or (word.startswith("-") and len(word) > 1):
                raise ConfigError(_unexpected(word, infos, positional))
            values.setdefault(positional, []).append(word)
            continue
        flag, equals, given = word.partition("=")
        info, negated = _match(flag.replace("_", "-"), infos)
        if info is None:
            known = [_shown(o) for o in infos.values()]
            raise ConfigError(unknown_name("option", flag, known))
        value: Any
        if equals:
            value = given
        elif info.type is bool:
            value = not negated
        elif words and not (words[0].startswith("--") and len(words[0]) > 2):
            value = words.pop(0)
        else:
            raise ConfigError(f"{flag} needs a value of type {info.type_text()}")
        if info.many:
            values.setdefault(info.name, []).append(value)
        elif info.name in values:
            raise ConfigError(f"{flag} is given twice")
        else:
            values[info.name] = value
    return values


def _match(flag: str, infos: dict[str, OptionInfo]) -> tuple[OptionInfo | None, bool]:
    if flag in infos:
        return infos[flag], False
    opposite = infos.get("--" + flag.removeprefix("--no-")) if flag.startswith("--no-") else None
    return (opposite, True) if opposite is not None and opposite.type is bool else (None, False)


def _unexpected(word: str, infos: dict[str, OptionInfo], positional: str | None) -> str:
    if word.startswith("-") or positional is not None:
        return unknown_name("option", word, [_shown(o) for o in infos.values()])
    return f"unexpected word {word!r}: options begin with --; known: {', '.join(_shown(o) for o in infos.values())}"


def _shown(info: OptionInfo) -> str:
    return f"{info.flag}/--no-{info.flag[2:]}" if info.type is bool else info.flag


def option_rows(cls: type, positional: str | None = None) -> list[dict[str, Any]]:
    """The options as plain values, for tables and JSON: name, flag, type, required, default, bounds, choices, help."""
    return [
        {
            "name": o.name,
            "flag": "PATH..." if o.name == positional else _shown(o),
            "type": o.type_text(),
            "required": o.required,
            "default": None if o.required else _plain(o.default),
            "bounds": o.bounds_text(),
            "choices": list(o.choices) if o.choices else None,
            "help": o.help,
        }
        for o in options_of(cls)
    ]


def options_help(cls: type, title: str, positional: str | None = None) -> None:
    """Prints the options of a config class as a section of a help page."""
    typer.echo(f"{title}:")
    rows = option_rows(cls, positional)
    heads = [row["flag"] + ("" if row["type"] == "bool" else f" {row['type'].upper()}") for row in rows]
    width = min(max(map(len, heads)), 34)
    for head, row in zip(heads, rows, strict=True):
        notes = [row["bounds"]] if row["bounds"] else []
        if row["required"]:
            notes.append("required")
        elif row["default"] not in (None, []):
            notes.append(f"default: {row['default']}")
        text = row["help"] + (f"  [{'; '.join(notes)}]" if notes else "")
        space = max(40, shutil.get_terminal_size().columns - width - 6)
        first, *rest = textwrap.wrap(text, space) or [""]
        typer.echo(f"  {head:<{width}}  {first}")
        for line in rest:
            typer.echo(" " * (width + 4) + line)


def help_option(section: Callable[[list[str]], None], text: str) -> Any:
    """An eager --help that goes on with a section for the words typed after the command, as they were typed."""

    def show(context: typer.Context, wanted: bool) -> None:
        if not wanted:
            return
        typer.echo(context.get_help() + "\n")
        typed = sys.argv[1:]
        section(typed[typed.index(context.info_name) + 1 :] if context.info_name in typed else [])
        raise typer.Exit

    return typer.Option("--help", is_eager=True, callback=show, help=text)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
