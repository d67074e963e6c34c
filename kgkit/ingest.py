"""Runs a connector into a store: gathers batches, resolves item ids, writes nodes before relationships.

Every write may be repeated, and the node `Source` that says "done" comes last, so that a run that was killed at any
moment is simply run again; of a large source it tells how many records are in the graph, and the next run goes on
after them. Nothing depends on the order of sources: an item that no alignment names yet is the stub
`item:<id>`, which `GraphStore.align` folds into its entity.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from kgkit import ledger
from kgkit.ahead import ahead
from kgkit.errors import ConfigError, ConnectorError, StoppedError
from kgkit.fingerprint import fingerprint
from kgkit.ids import Sound
from kgkit.ingest_writer import STREAMED, Writer
from kgkit.narrow import Narrow, Narrowed, aligned_items, steps_json
from kgkit.records import Data, Kept, Record, Skipped
from kgkit.rejects import Rejects, RejectsFile, parse_limit

if TYPE_CHECKING:
    from kgkit.connector import Connector
    from kgkit.store.port import GraphStore

# How input is cut into records. What an interrupted run said of its progress holds for its own number only, so this
# goes up whenever a connector cuts otherwise: 2 since N-Triples come in blocks of 4 MiB, 3 since
# rows end where quotes close.
_CUT = 3

Stoppable = Callable[[], AbstractContextManager[Callable[[], bool]]]


@dataclass(frozen=True)
class Step:
    """How far an ingest is: rows done in this phase, and bytes or rows done of how many (total 0: unknown)."""

    source: str
    phase: str
    rows: int
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class SourceReport:
    """What became of one source.

    `unchanged`: it was in the graph already and was not read again. `resumed`: rows that an interrupted run had
    written, which were read over. `left_out` counts well-formed rows that options
    or the format's rules leave out; `written` counts rows that made something new, by kind; `matched` those that were
    there already. `steps`: what was left after each hop, and each round of a k-core. `notes`: which columns were
    taken, and what is doubtful.
    """

    source: str
    unchanged: bool = False
    rows: int = 0
    resumed: int = 0
    rejected: int = 0
    conflicts: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    matched: dict[str, int] = field(default_factory=dict)
    steps: list[Kept] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def summary(self) -> str:
        """A few lines for a person."""
        if self.unchanged:
            return f"{self.source}: already in the graph, unchanged (--force does it again)"
        rate = f", {self.rows / self.seconds:,.0f}/s" if self.seconds > 0 else ""
        lines = [f"{self.source}: {self.rows:,} rows in {self.seconds:.1f} s{rate}"]
        lines += [f"  {note}" for note in self.notes]
        if self.resumed:
            lines.append(f"  went on after {self.resumed:,} rows that an interrupted run had written")
        new = ", ".join(f"{n:,} {kind}" for kind, n in self.written.items() if n)
        old = ", ".join(f"{n:,} {kind}" for kind, n in self.matched.items() if n)
        lines.append(f"  new: {new or 'nothing'}" + (f"; there already: {old}" if old else ""))
        for step in self.steps:
            counts = ", ".join(f"{n:,} {what}" for what, n in step.counts().items())
            lines.append(f"  {step.step}: {counts or 'nothing'}")
        lines += [f"  left out: {n:,} rows, {why}" for why, n in self.left_out.items()]
        if self.rejected:
            lines.append(f"  rejected: {self.rejected:,} malformed rows")
        if self.conflicts:
            lines.append(
                f"  conflicts: {self.conflicts:,} alignments that contradict earlier ones, not applied"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did, a part for every source; `rejects_file` is set when something was listed in it."""

    connector: str
    sources: list[SourceReport]
    rejects_file: str | None = None

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [source.summary() for source in self.sources]
        return "\n".join(
            lines + ([f"rejected rows are listed in {self.rejects_file}"] if self.rejects_file else [])
        )


def ingest(
    connector: Connector,
    config: Any,
    store: GraphStore,
    *,
    max_rejects: str | int = "0.1%",
    rejects: Path | RejectsFile | None = None,
    force: bool = False,
    narrow: Narrow | None = None,
    on_progress: Callable[[Step], None] | None = None,
    stoppable: Stoppable = lambda: nullcontext(lambda: False),
    buffer: int = 5_000_000,
) -> IngestReport:
    """Brings what a connector reads into a store.

    Every path is a source of its own unless the config names the source or the connector says otherwise
    (`Connector.whole`), so that a file that is given again, alone or with others, never counts twice. A source whose
    files and options are unchanged is skipped unless `force`. `max_rejects` is a share of the rows ("0.1%") or a
    number; malformed rows are listed in the file `rejects`, which several calls may share.
    `narrow` keeps the part of each source that is near the graph's items.
    What `stoppable` gives is asked between records whether to end here; it is entered when a source begins to be read,
    and left when that ends. `buffer` is how many rows are held before they are written.

    Raises ConnectorError, TooManyRejects, ConfigError, StoreError, and StoppedError when it was to end; whatever was
    valid until then is kept, and the same command goes on from there.
    """
    parse_limit(str(max_rejects))  # before anything is read
    listing = rejects if isinstance(rejects, RejectsFile) else RejectsFile(rejects)
    sources = list(named_sources(connector, config))
    with listing, _system_memory():
        reports = [
            _one(
                connector,
                name,
                part,
                store,
                Rejects(max_rejects, listing),
                force,
                narrow,
                on_progress,
                stoppable,
                buffer,
            )
            for name, part in sources
        ]
    return IngestReport(connector.name, reports, str(listing.path) if listing.listed else None)


def named_sources(connector: Connector, config: Any) -> Iterator[tuple[str, Any]]:
    """The sources of one command with the config of each: a path each, unless the config names one source."""
    paths = getattr(config, "paths", ())
    whole = connector.whole or getattr(config, "source", None) is not None or len(paths) < 2
    parts = (
        [config] if whole else [dataclasses.replace(config, paths=(path,)) for path in dict.fromkeys(paths)]
    )
    names = [connector.source(part) for part in parts]
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        what = f"several sources are called {twins[0]!r}"
        raise ConfigError(f"{what}: ingest them one by one, each with a --source NAME of its own")
    yield from zip(names, parts, strict=True)


def _one(
    connector: Connector,
    name: str,
    config: Any,
    store: GraphStore,
    rejects: Rejects,
    force: bool,
    narrow: Narrow | None,
    on_progress: Callable[[Step], None] | None,
    stoppable: Stoppable,
    buffer: int,
) -> SourceReport:
    began = time.monotonic()
    identity = f"{connector.name}:{name}"

    def tell(phase: str, rows: int, done: int = 0, total: int = 0) -> None:
        if on_progress is not None:
            on_progress(Step(name, phase, rows, done, total))

    tell("checking", 0)
    items = None if narrow is None else aligned_items(store, narrow.item_core)
    known, mark = remembered(store, connector, name, config, narrow, items)
    known = {} if force else known
    if known.get("fingerprint") == mark:
        return SourceReport(name, unchanged=True)
    # An interrupted read of the same files gave the same records in the same order.
    written = int(known.get("records") or 0) if known.get("partial") == halfway(mark) else 0

    def flushed(records: int) -> None:
        far = {
            "id": [identity],
            "connector": [connector.name],
            "partial": [halfway(mark)],
            "records": [records],
        }
        store.upsert_nodes("Source", pa.table(far))

    left_out: Counter[str] = Counter()
    writer = Writer(store, identity, buffer, tell, flushed)
    resumed = 0
    steps: list[Kept] = []
    with _kept(writer), stoppable() as stop:

        def go_on(phase: str, rows: int, done: int, total: int) -> None:
            tell(phase, rows, done, total)
            if stop():
                raise StoppedError(f"{name}: stopped after {rows:,} rows")

        records = connector.read(config)
        if narrow is not None and items is not None:
            records = iter(Narrowed(connector, config, narrow, items, go_on))
        # Of files only: a pipe may keep its reader waiting for ever.
        if all(path.is_file() for path in connector.files(config)):
            records = ahead(records)
        records = _sound(records, connector.files(config), name)
        for record in rejects.sifted(records, lambda p: go_on("reading", rejects.rows, p.done, p.total)):
            if isinstance(record, Kept):
                steps.append(record)
            elif isinstance(record, Skipped):
                left_out[record.why] += record.rows
            elif written > 0 and isinstance(record, STREAMED):
                written -= 1
                resumed += record.table.num_rows
                writer.skip()
            else:
                writer.add(record)
    writer.finish()
    for conflict in writer.conflicts:
        rejects.listing.add(conflict)
    done = {"id": [identity], "connector": [connector.name], "fingerprint": [mark], "rows": [rejects.rows]}
    done |= {"partial": [""], "records": [0], "steps": [steps_json(steps)]}
    ledger.record(store, identity, writer.created["PURCHASED"] + writer.matched["PURCHASED"])
    store.upsert_nodes("Source", pa.table(done))
    return SourceReport(
        name,
        rows=rejects.rows,
        resumed=resumed,
        steps=steps,
        rejected=rejects.count,
        conflicts=len(writer.conflicts),
        left_out=dict(left_out),
        written=dict(writer.created),
        matched=dict(writer.matched),
        notes=list(rejects.notes),
        seconds=time.monotonic() - began,
    )


def _sound(records: Iterator[Record], files: list[Path], source: str) -> Iterator[Record]:
    sound = Sound(files, source)
    for record in records:
        if isinstance(record, Data):
            yield from sound.of(record)
        else:
            yield record


@contextmanager
def _system_memory() -> Iterator[None]:
    """Arrow takes its memory from the C library, which gives it back: its own pool keeps a tenth more at the peak."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


@contextmanager
def _kept(writer: Writer) -> Iterator[None]:
    """What a source gave before it turned out to be broken, or was to end, is stored before the error goes on."""
    try:
        yield
    except StoppedError:
        writer.keep()
        raise
    except ConnectorError:
        writer.finish()
        raise


def halfway(mark: str) -> str:
    """What the graph says of a source, by its fingerprint, while it is not all there."""
    return f"{mark}-{_CUT}"


def remembered(
    store: GraphStore,
    connector: Connector,
    name: str,
    config: Any,
    narrow: Narrow | None = None,
    items: pa.Array | None = None,
) -> tuple[dict[str, Any], str]:
    """What the graph knows of a source (fingerprint, partial, records; empty when nothing), and its fingerprint now.

    A narrowed source is another one when the items, from which its search begins, are others.
    """
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "paths"}
    if narrow is not None and items is not None:
        settings |= {"narrow": dataclasses.asdict(narrow), "items": items.to_pylist()}
    mark = fingerprint(connector.files(config), {"connector": connector.name, **settings})
    identity = f"{connector.name}:{name}"
    for table in store.read_nodes("Source", ["fingerprint", "partial", "records"]):
        for row in table.filter(pc.equal(table["id"], identity)).to_pylist():
            return row, mark
    return {}, mark
