"""Alignment as a step of a recipe: proposed, written as tables, and what is accepted applied - or a reviewed table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from kgkit.align.apply import Applied, apply_rows, read_linkage
from kgkit.align.candidates import Options, read_pool
from kgkit.align.matchers import propose
from kgkit.align.table import ACCEPTED, read_accepted, write_proposal
from kgkit.fingerprint import fingerprint
from kgkit.rejects import RejectsFile

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore


@dataclass(frozen=True)
class AlignStep:
    """Either `out`, the table that is written (its accepted rows are applied), or `accept`, one that was reviewed."""

    out: Path | None = None
    accept: Path | None = None
    linkage: tuple[Path, ...] = ()
    options: Options = field(default_factory=Options)

    @property
    def name(self) -> str:
        path = self.accept or self.out
        assert path is not None
        return path.name


@dataclass(frozen=True)
class AlignReport:
    """What a step did; `proposed` counts rows by status."""

    source: str
    unchanged: bool = False
    proposed: dict[str, int] = field(default_factory=dict)
    applied: Applied | None = None

    def summary(self) -> str:
        """A few lines for a person."""
        if self.unchanged or self.applied is None:
            return f"{self.source}: aligned already, and nothing has changed since (--force does it again)"
        a = self.applied
        lines = [
            f"{self.source}: {a.aligned:,} items aligned, {a.unchanged:,} were already, {a.moved:,} moved"
        ]
        if self.proposed:
            lines.append("  proposed: " + ", ".join(f"{n:,} {status}" for status, n in self.proposed.items()))
        if a.conflicts:
            lines.append(f"  conflicts: {a.conflicts:,} alignments that contradict others, not applied")
        return "\n".join(lines)


def run(
    step: AlignStep,
    store: GraphStore,
    listing: RejectsFile,
    *,
    max_rejects: str = "0.1%",
    force: bool = False,
    after: Sequence[str] = (),
    tell: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> AlignReport:
    """Does a step unless it was done and no linkage or option, and none of the sources `after` which it comes, changed.

    after: ids of `Source` nodes.
    Raises ConnectorError for a file that cannot be read, ConfigError for options that do not fit the graph.
    """
    identity = f"align:{step.name}"
    sources = {
        row["id"]: row["fingerprint"]
        for table in store.read_nodes("Source", ["fingerprint"])
        for row in table.to_pylist()
    }
    files = [step.accept] if step.accept else list(step.linkage)
    marks = {name: sources.get(name) for name in after}
    mark = fingerprint(files, {"options": dataclasses.asdict(step.options), "sources": marks})
    if sources.get(identity) == mark and not force:
        return AlignReport(step.name, unchanged=True)
    proposed: dict[str, int] = {}
    if step.accept is not None:
        pairs = read_accepted(step.accept).pairs
    else:
        assert step.out is not None
        links = read_linkage(step.linkage, listing, max_rejects) if step.linkage else None
        rows = propose(read_pool(store, step.options), links, step.options, tell).rows
        write_proposal(step.out, rows)
        for row in rows:
            proposed[row.status] = proposed.get(row.status, 0) + 1
        pairs = [(row.item, row.entity) for row in rows if row.status == ACCEPTED]
    applied = apply_rows(store, pairs, step.name, listing)
    done = {"id": [identity], "connector": ["align"], "fingerprint": [mark], "rows": [len(pairs)]}
    store.upsert_nodes("Source", pa.table(done))
    return AlignReport(step.name, proposed=proposed, applied=applied)
