"""Whether a graph is whole: its file, keys, ends and numbers, and what its sources and runs say that they wrote.

The same on every engine, by reading alone. Memory is bounded: what is read comes by parts (`kgkit.doubles`). The embedded
engine's file is compared with its seal besides (`kgkit.store.ladybug_seal`), and every node is looked up by its id, since
that engine's key index loses keys now and then.

What cannot be found: a value that changed without a trace, in a graph that was never sealed; on a server, a page that its
own checker would find (`neo4j-admin database check`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from kgkit.doubles import doubled
from kgkit.errors import KgkitError
from kgkit.ledger import (
    FOLDED,
    TOTALS,
    Ledger,
    accept_answers,
    keep_ledger,
    read_ledger,
    record,
    written_by,
)
from kgkit.schema import EDGES, NODES, EdgeKind, embedding_property, identifier

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore

log = logging.getLogger(__name__)

LOOK_UP = 20_000  # ids a query
SAMPLE = 2_000  # of them, of a label, when it has to be quick
COPY = "make a new graph of it (kgkit copy --from THIS --to ANOTHER)"
RESTORE = "restore a backup (kgkit backup restore FILE), or make the graph anew by giving its ingests again"
ACCEPT = "if it was deleted on purpose, kgkit check --accept"
# Of hostile files, whatever the reading of one may end in.
_UNREADABLE = (KgkitError, MemoryError, ValueError, KeyError, IndexError, pa.ArrowException)

Tell = Callable[[str, int, int], None]  # what is looked at, rows done, of how many


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what to do. `what` is a word to sort by: file, log, ids, keys, ends,
    source, total, run, relation, index, item, unreadable, unsure."""

    what: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.text}: {self.remedy}"


@dataclass
class Report:
    """What a check found. `notes` are no faults; `unsure` says why it cannot be told whether the graph is whole."""

    store: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool | None:
        """None where it cannot be told."""
        return False if self.findings else None if self.unsure else True

    @property
    def exit_code(self) -> int:
        """0 whole, 1 not, 2 cannot tell."""
        return {True: 0, False: 1, None: 2}[self.whole]

    def found(self, what: str, text: str, remedy: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(what, text, remedy))


def check(store: GraphStore, *, quick: bool = False, tell: Tell = lambda what, done, total: None) -> Report:
    """Looks through an open graph. quick: counts, sources, and a sample of ids, without reading all nodes and facts."""
    report = Report(store.uri)
    with _readable(report, "the graph's counts"):
        report.counts = store.counts()
        ledger = read_ledger(store)
        _totals(report, ledger)
        _interrupted(report, store)
        if quick:
            _purchases(report, ledger, _by_source(store))
        for label in NODES:
            with _readable(report, f"{label} nodes"):
                _nodes(report, store, label, tell, SAMPLE if quick else None)
        if not quick:
            written: dict[str, Counter[str]] = {}
            for kind in EDGES.values():
                with _readable(report, kind.type):
                    written[kind.type] = _relationships(report, store, kind, tell)
            if "PURCHASED" in written:
                _purchases(report, ledger, written.pop("PURCHASED"))
            with _readable(report, "items"):
                _items(report, store, tell)
            with _readable(report, "relations"):
                _relations(report, store)
            with _readable(report, "runs"):
                _runs(report, store, {k: written[k] for k in EDGES if EDGES[k].answer and k in written})
        if store.counts() != report.counts:
            report.unsure.append("somebody wrote meanwhile: check again when nobody does")
    return report


def accept(store: GraphStore) -> None:
    """Notes that what the graph holds now is what it is to hold: purchases of each source, totals, answers of each run."""
    by_source = _by_source(store)
    ledger = read_ledger(store)
    ledger.purchases = {s: n for s in ledger.purchases if (n := by_source[s])}
    keep_ledger(store, ledger)
    record(store, afresh=True)
    for kind in (kind.type for kind in EDGES.values() if kind.answer):
        rows = store.query(f"MATCH ()-[r:{identifier(kind)}]->() RETURN r.run, count(*)").rows
        accept_answers(store, kind, {run: int(n) for run, n in rows})


def after_unclean_end(store: GraphStore) -> None:
    """For a writer that opens a graph which its last writer had not closed: looks at it quickly, and logs one line."""
    report = check(store, quick=True)
    begin = f"{store.uri}: its last writer ended before it had closed it"
    if report.findings:
        first = report.findings[0]
        more = f" (and {len(report.findings) - 1} more: kgkit check)" if len(report.findings) > 1 else ""
        log.warning("%s; %s%s", begin, first, more)
    else:
        held = ", ".join(f"{n:,} {kind}" for kind, n in report.counts.items() if n) or "nothing"
        log.warning("%s; at a quick look it is whole: %s (kgkit check looks at all)", begin, held)


@contextlib.contextmanager
def _readable(report: Report, what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        report.found("unreadable", f"{what} cannot be read ({text})", RESTORE)


# -- what was written ------------------------------------------------------------------------------------------------


def _totals(report: Report, ledger: Ledger) -> None:
    if not ledger.totals:
        report.notes.append(
            "no totals to compare with: an earlier kgkit wrote this graph, or nothing was ingested"
        )
    if ledger.aligning:
        report.notes.append(
            f"an alignment was interrupted: {', '.join(FOLDED)} are not compared before it is given again"
        )
    for kind in TOTALS:
        there, told = report.counts.get(kind, 0), ledger.totals.get(kind, 0)
        if there < told and not (ledger.aligning and kind in FOLDED):
            report.found(
                "total",
                f"{told - there:,} of {told:,} {kind} are gone",
                f"restore a backup (kgkit backup restore FILE), or give the ingests again with --force; {ACCEPT}",
            )


def _interrupted(report: Report, store: GraphStore) -> None:
    for table in store.read_nodes("Source", ["partial", "records"]):
        for row in table.to_pylist():
            if row["partial"]:
                report.found(
                    "source", f"{row['id']} is not at its end", "give the same ingest again: it goes on"
                )


def _by_source(store: GraphStore) -> Counter[str]:
    """PURCHASED by source."""
    rows = store.query("MATCH (:User)-[r:PURCHASED]->(:Entity) RETURN r.source, count(*)").rows
    return Counter({source: int(n) for source, n in rows if source is not None})


def _purchases(report: Report, ledger: Ledger, there: Mapping[str, int]) -> None:
    for source, told in ledger.purchases.items():
        if there.get(source, 0) < told:
            again = f"give it again (kgkit ingest {source.partition(':')[0]} FILES --force)"
            text = f"{source} has {there.get(source, 0):,} of {told:,} PURCHASED"
            report.found(
                "source", text, f"{again}, or restore a backup (kgkit backup restore FILE); {ACCEPT}"
            )


def _runs(report: Report, store: GraphStore, answers: Mapping[str, Counter[str]]) -> None:
    runs = {
        row["id"]: row
        for table in store.read_nodes("Run", ["plugin", "current", "provenance"])
        for row in table.to_pylist()
    }
    for kind, there in answers.items():
        for run, n in there.items():
            if run in runs and not runs[run]["current"]:
                report.found(
                    "run", f"{n:,} {kind} are of {run}, which a later run replaced", f"kgkit runs erase {run}"
                )
            elif run not in runs:
                report.notes.append(f"{n:,} {kind} name a run {run!r} that the graph does not know")
    for id, run in runs.items():
        if not run["current"]:
            continue
        for what, told in written_by(run["provenance"]).items():
            label, _, vectors = what.partition(".")
            there_now = _vectors(store, label, run["plugin"]) if vectors else answers.get(what, {}).get(id, 0)
            if there_now >= told or (not vectors and what not in answers):
                continue
            text = f"{id} has {there_now:,} of {told:,} {f'embeddings of {label}' if vectors else what}"
            # Stubs that were folded since have none of their own any more.
            folded = label == "Entity" or (what in EDGES and EDGES[what].source == "Entity")
            if folded and 2 * there_now >= told:
                report.notes.append(f"{text}: an alignment may have folded the others")
            else:
                again = f"train again (kgkit train --plugin {run['plugin']} --write-back)"
                report.found("run", text, f"{again}, or restore a backup (kgkit backup restore FILE)")


def _vectors(store: GraphStore, label: str, plugin: str) -> int:
    """Nodes that have an embedding of a plugin."""
    name = identifier(embedding_property(plugin))
    try:
        rows = store.query(f"MATCH (n:{identifier(label)}) WHERE n.{name} IS NOT NULL RETURN count(*)").rows
        return int(next(iter(rows))[0])
    except KgkitError:  # nobody has it
        return 0


# -- keys and ends ---------------------------------------------------------------------------------------------------


def _nodes(report: Report, store: GraphStore, label: str, tell: Tell, sample: int | None) -> None:
    """Ids of a label: none null, empty or doubled, and each found by a look-up; of the first `sample` only the last."""
    total = int(next(iter(store.query(f"MATCH (n:{identifier(label)}) RETURN count(*)").rows))[0])
    seen = nulls = empty = lost = 0
    some = ""
    for table in store.read_nodes(label, []):
        ids = table["id"].combine_chunks()
        seen += len(ids)
        nulls += ids.null_count
        empty += pc.sum(pc.equal(pc.binary_length(ids), 0)).as_py() or 0
        ids = ids.drop_null()
        for start in range(0, len(ids) if sample is None else min(sample, len(ids)), LOOK_UP):
            asked = ids.slice(start, LOOK_UP).unique()
            found = _looked_up(store, label, asked)
            if len(found) < len(asked):
                missed = asked.filter(pc.invert(pc.is_in(asked, found)))
                lost, some = lost + len(missed), some or missed[0].as_py()
        tell(f"{label} nodes", seen, total)
        if sample is not None:
            break
    if lost:
        report.found(
            "index",
            f"{lost:,} {label} nodes are not found by their id, such as {some!r}",
            f"{COPY}, or {RESTORE}",
        )
    if sample is not None:
        return
    if seen != total:
        report.found("unreadable", f"of {total:,} {label} nodes {seen:,} can be read", RESTORE)
    if nulls or empty:
        delete = f"MATCH (n:{label}) WHERE coalesce(n.id, '') = '' DETACH DELETE n"
        report.found("ids", f"{nulls + empty:,} {label} nodes have no id", f'kgkit query --write "{delete}"')
    again = doubled(lambda: store.read_nodes(label, []), ["id"], total)
    if again.keys:
        names = ", ".join(repr(key[0]) for key in again.some)
        report.found("ids", f"{again.keys:,} ids are of several {label} nodes, such as {names}", RESTORE)


def _looked_up(store: GraphStore, label: str, ids: pa.Array) -> pa.Array:
    """Those of some ids that the store finds when it is asked for them."""
    cypher = f"UNWIND $ids AS x MATCH (n:{identifier(label)} {{id: x}}) RETURN x"
    return pa.array([row[0] for row in store.query(cypher, {"ids": ids.to_pylist()}).rows], pa.string())


def _relationships(report: Report, store: GraphStore, kind: EdgeKind, tell: Tell) -> Counter[str]:
    """Keys and ends of a type: none doubled, none missing. Returns how many there are by source, or by run."""
    total = report.counts[kind.type]
    by = "run" if kind.answer else "source"
    columns = list(dict.fromkeys([*kind.key, by]))
    names: Counter[str] = Counter()
    seen = nulls = 0
    for table in store.read_edges(kind.type, columns):
        seen += table.num_rows
        nulls += sum(table[key].null_count for key in kind.key)
        for pair in table[by].combine_chunks().value_counts().to_pylist():
            names[pair["values"]] += pair["counts"]
        tell(kind.type, seen, total)
    if seen != total:
        report.found(
            "ends",
            f"{total - seen:,} of {total:,} {kind.type} lack an end, or lead not from {kind.source} to {kind.target}",
            RESTORE,
        )
    if nulls:
        report.notes.append(
            f"{nulls:,} {kind.type} have no {' or no '.join(kind.key)}, so kgkit did not write them"
        )
    key = ["head", "tail", *kind.key]
    again = doubled(lambda: store.read_edges(kind.type, list(kind.key)), key, total)
    if again.keys:
        some = "; ".join(", ".join(map(str, found)) for found in again.some)
        report.found(
            "keys",
            f"{again.keys:,} {kind.type} are there several times, such as {some}",
            f"{COPY}, or {RESTORE}",
        )
    return Counter({name: n for name, n in names.items() if name is not None})


def _items(report: Report, store: GraphStore, tell: Tell) -> None:
    """No item is two entities."""
    seen = 0
    for table in store.read_nodes("Entity", ["item_id"], having="item_id"):
        seen += table.num_rows
        tell("items", seen, 0)
    again = doubled(lambda: store.read_nodes("Entity", ["item_id"], having="item_id"), ["item_id"], seen)
    if again.keys:
        some = ", ".join(repr(key[0]) for key in again.some)
        report.found(
            "item",
            f"{again.keys:,} items are several entities, such as {some}",
            "say which one: kgkit align",
        )


def _relations(report: Report, store: GraphStore) -> None:
    """Every relation has a number of its own, and every fact that of its relation."""
    rows = [row for table in store.read_nodes("Relation", ["rid"]) for row in table.to_pylist()]
    of: dict[str, int | None] = {row["id"]: row["rid"] for row in rows}
    numbers = Counter(rid for rid in of.values() if rid is not None)
    for name, rid in of.items():
        if rid is None or numbers[rid] > 1:
            report.found(
                "relation",
                f"{name} has {'no number' if rid is None else f'the number {rid} of another'}",
                RESTORE,
            )
    if store.capabilities.relationship_types == "native":  # facts have no number there
        return
    unlike: Counter[str | None] = Counter()
    for relation, rid, n in store.query(
        "MATCH (:Entity)-[r:FACT]->(:Entity) RETURN r.relation, r.rid, count(*)"
    ).rows:
        if rid is None:
            report.notes.append(f"{n:,} FACT of {relation} have no rid, so kgkit did not write them")
        elif of.get(relation) != rid:
            unlike[relation] += int(n)
    for called, n in unlike.items():
        what = "is not registered" if called not in of else "has another number"
        report.found("relation", f"{n:,} FACT are of {called}, which {what}", f"{COPY}, or {RESTORE}")
