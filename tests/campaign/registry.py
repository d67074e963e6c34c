"""The parts of the campaign: one file a kind beside this one, each with a function `campaign`; the table of all of them.

A part is found by that function alone: `campaign(effort: Effort) -> Iterator[tuple[str, Counts]]` yields a row for each
thing that it tried, such as an engine.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import campaign
from campaign.engines import machine


@dataclass
class Counts:
    """How often something was tried and what failed, a line each. notes: other outcomes worth a word."""

    tried: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, what: str) -> None:
        self.notes[what] = self.notes.get(what, 0) + 1


@dataclass(frozen=True)
class Effort:
    """How much to do: `times` what a part does by itself, from the random seed `number`, in files of `folder`."""

    folder: Path
    times: float = 1.0
    number: int = 1
    servers: bool = True  # whether a Neo4j may be started

    def of(self, usual: int) -> int:
        return max(1, round(usual * self.times))


Part = Callable[[Effort], Iterable[tuple[str, Counts]]]


def parts(names: Iterable[str] = ()) -> dict[str, ModuleType]:
    """The modules that are parts, by name; those named, or all."""
    wanted, out = set(names), dict[str, ModuleType]()
    for found in pkgutil.iter_modules(campaign.__path__):
        if found.name.startswith("test_") or (wanted and found.name not in wanted):
            continue
        module = importlib.import_module(f"campaign.{found.name}")
        if hasattr(module, "campaign"):
            out[found.name] = module
    if unknown := wanted - out.keys():
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts())}")
    return out


def table(chosen: dict[str, ModuleType], effort: Effort) -> Iterator[str]:
    """The lines of the table, each when it is known; failures below."""
    yield f"Campaign of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {effort.number}, on {machine()}"
    yield ""
    yield "| part | what | tried | failed | seconds | also |"
    yield "|---|---|---:|---:|---:|---|"
    failures: list[str] = []
    for name, module in chosen.items():
        run: Part = module.campaign
        began = time.monotonic()
        for what, counts in run(effort):
            now = time.monotonic()
            also = ", ".join(f"{n:,} {note}" for note, n in sorted(counts.notes.items()))
            columns = (
                name,
                what,
                f"{counts.tried:,}",
                f"{len(counts.failures):,}",
                f"{now - began:,.0f}",
                also,
            )
            yield "| " + " | ".join(columns) + " |"
            failures += [f"{name}: {line}" for line in counts.failures]
            began = now
    if failures:
        yield ""
        yield from failures
