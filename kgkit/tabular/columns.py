"""Which columns of a file are meant: by position, by name, by the usual names; and what a person is told of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from kgkit.config import unknown_name
from kgkit.errors import ConfigError, ConnectorError
from kgkit.records import Progress
from kgkit.tabular import Column, Layout
from kgkit.tabular.convert import convert
from kgkit.tabular.header import plain


@dataclass(frozen=True)
class Chosen:
    """The columns of one file: those that are asked for, then those of --where, each with its position."""

    columns: list[tuple[Column, int]]
    where: list[tuple[Column, int]]
    values: list[pa.Array]  # of each column of --where: the ids that it may have
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> list[tuple[Column, int]]:
        return self.columns + self.where

    def said(self) -> Progress:
        """What a person should know, before the first rows."""
        return Progress(0, notes=self.notes)


def renamed(path: Path, names: Sequence[str], layout: Layout) -> list[str]:
    """The names with --rename; an unknown one is a ConnectorError."""
    changed = list(names)
    for old, new in _pairs(layout.rename, "--rename", "OLD=NEW"):
        if old not in names:
            raise ConnectorError(unknown_name("column", old, names), path)
        changed[list(names).index(old)] = new
    return changed


def _pairs(given: Sequence[str], flag: str, form: str) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for (name, equals, _), text in zip(pairs, given, strict=True):
        if not name or not equals:
            raise ConfigError(f"{flag} must be {form}, got {text!r}")
    return [(name, value) for name, _, value in pairs]


def choose(
    path: Path,
    columns: Sequence[Column],
    names: Sequence[str],
    layout: Layout,
    header: bool = True,
    notes: Sequence[str] = (),
) -> Chosen:
    """Finds the columns in a file with these names, and says which they are."""
    found, doubts = find(path, columns, names, header, layout)
    found = [(replace(c, decimal=layout.decimal, times=layout.times), p) for c, p in found]
    wanted: dict[str, list[str]] = {}
    for name, value in _pairs(layout.where, "--where", "COLUMN=VALUE"):
        wanted.setdefault(name, []).append(value)
    where, _ = find(path, [Column(n, "id", given=n, nullable=True) for n in wanted], names, header)
    values = [convert(pa.array(v, pa.string()), Column(n, "id", nullable=True))[0] for n, v in wanted.items()]

    def shown(position: int) -> str:
        return f"{names[position]!r} ({position + 1})" if header else f"column {position + 1}"

    mapping = ", ".join(f"{c.name} = {shown(p)}" for c, p in found)
    taken = {p for _, p in [*found, *where]}
    left = [names[i] for i in range(len(names)) if i not in taken]
    rest = f"; not read: {', '.join(left[:8])}{', ..' if len(left) > 8 else ''}" if left and header else ""
    without = "" if header else ", no header"
    return Chosen(found, where, values, (f"{path.name}{without}: {mapping}{rest}", *notes, *doubts))


def find(
    path: Path,
    columns: Sequence[Column],
    names: Sequence[str],
    header: bool = True,
    layout: Layout | None = None,
) -> tuple[list[tuple[Column, int]], list[str]]:
    """The columns that the file has, with their positions, and notes; ConnectorError names the option of one that lacks.

    A file without a header has exactly the columns that are asked for, unless all are given, where files of its kind
    usually have none; where they usually have one, and nobody said that this has none, all must be given.
    """
    simple = [plain(n) for n in names]
    found: list[tuple[Column, int]] = []
    notes: list[str] = []
    for column in columns:
        position = _place(path, column, names, simple, header)
        if position is None and header and column.like and column.given is None:
            taken = {p for _, p in found}
            alike = [i for i, n in enumerate(names) if i not in taken and re.search(column.like, n.lower())]
            if len(alike) == 1:
                position = alike[0]
            elif alike:
                several = " and ".join(repr(names[i]) for i in alike[:5])
                notes.append(
                    f"warning: no {column.name} is read, as {several} may be it: say which by --{column.name}"
                )
        if position is not None:
            found.append((column, position))
        elif column.required:
            have = ", ".join(map(_shown, names)) if header else f"{len(names)} columns without names"
            flag = "--" + column.name.replace("_", "-")
            raise ConnectorError(
                f"no column for {column.name} (the file has {have}): name it by {flag}"
                + (", or use --no-header if the first line is data" if header else ""),
                path,
            )
    default = [c for c, _ in found if c.required and c.given is None and c.at is None]
    if layout is not None and not header and default:
        flags = ", ".join("--" + c.name.replace("_", "-") for c in default)
        if layout.likely_header and layout.header is None:
            raise ConnectorError(
                f"no column for {default[0].name}, as the first row holds data and no names: say which they are by "
                f"{flags} (positions from 1), or use --header",
                path,
            )
        if not layout.likely_header and len(names) != len(columns):
            wanted = ", ".join(c.name for c, _ in found)
            raise ConnectorError(
                f"{len(names)} columns where {wanted} are {len(columns)}: say which they are by {flags} (name or "
                "position)",
                path,
            )
    return found, notes


def _place(
    path: Path, column: Column, names: Sequence[str], simple: Sequence[str], header: bool
) -> int | None:
    if column.at is not None:
        return column.at
    if column.given is not None:
        if column.given.isdigit():
            if 1 <= int(column.given) <= len(names):
                return int(column.given) - 1
            raise ConnectorError(f"no column {column.given}: the file has {len(names)}", path)
        if column.given in names:
            return list(names).index(column.given)
        raise ConnectorError(unknown_name("column", column.given, names), path)
    if header:
        usual = (plain(u) for u in column.usual)
        return next((simple.index(u) for u in usual if u in simple), None)
    return column.position if column.position is not None and column.position < len(names) else None


def _shown(name: str) -> str:
    return name if name.strip() else "'' (no name)"
