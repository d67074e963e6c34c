"""Progress on standard error: a bar with rate and remaining time on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kgkit.cli.output import say, visible

if TYPE_CHECKING:
    from kgkit.ingest import Step

EVERY = 5.0  # seconds between lines when nobody watches a terminal


@contextmanager
def reporter(quiet: bool = False, every: float = EVERY) -> Iterator[Callable[[Step], None] | None]:
    """Gives the `on_progress` of `kgkit.ingest.ingest`, None when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as observe:
            yield observe
    else:
        yield _lines(every)


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    # Gone when done: the summary on standard output is what stays.
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, tuple[TaskID, float]] = {}

        def observe(step: Step) -> None:
            name = f"{step.source}: {step.phase}"
            if name not in tasks:
                for task, _ in tasks.values():
                    progress.update(task, visible=False)
                tasks[name] = progress.add_task(visible(name), total=None, rows=0, rate=0.0), time.monotonic()
            task, began = tasks[name]
            rate = step.rows / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=step.done, total=step.total or None, rows=step.rows, rate=rate)

        yield observe


def _lines(every: float) -> Callable[[Step], None]:
    began = last = time.monotonic()
    current = ""

    def observe(step: Step) -> None:
        nonlocal began, last, current
        now = time.monotonic()
        name = f"{step.source}: {step.phase}"
        if name != current:
            current, began, last = name, now, now
        if now - last < every:
            return
        last = now
        line = f"{name}: {step.rows:,} rows, {step.rows / (now - began):,.0f}/s"
        if step.total and step.done:
            left = (now - began) * (step.total - step.done) / step.done
            line += f", {100 * step.done / step.total:.0f} %, {left:.0f} s left"
        say(line, err=True)

    return observe
