"""Around the matching: linkage files in, a reviewed table into the graph, a proposal against what is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from kgkit import ledger
from kgkit.align.table import ACCEPTED, Row, Share, wilson
from kgkit.config import make_config
from kgkit.records import Alignments, Reject
from kgkit.registry import load_connector
from kgkit.rejects import Rejects, RejectsFile

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore

_PAIR = pa.schema([("item", pa.string()), ("entity", pa.string())])


def read_linkage(paths: Sequence[Path], listing: RejectsFile, max_rejects: str = "0.1%") -> pa.Table:
    """What linkage files say, by the connector `alignment`: columns item, entity; malformed rows are listed.

    Raises ConnectorError for a file that cannot be read, TooManyRejects for one with too many malformed rows.
    """
    connector, parts = load_connector("alignment")(), [_PAIR.empty_table()]
    for path in paths:
        rejects = Rejects(max_rejects, listing)
        records = connector.read(make_config(connector.Config, {"paths": (path,)}))
        for record in rejects.sifted(records):
            if isinstance(record, Alignments):
                parts.append(record.table.select(["item", "entity"]).cast(_PAIR))
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class Applied:
    """What became of accepted rows. `conflicts` were not applied, and are listed among the rejects."""

    aligned: int
    unchanged: int
    moved: int
    folded: int
    conflicts: int


def apply_rows(
    store: GraphStore, pairs: Iterable[tuple[str, str]], source: str, listing: RejectsFile
) -> Applied:
    """Aligns (item, entity) pairs; an item that is another entity moves. Doing it again changes nothing.

    All in one transaction, so that a kill leaves the graph as it was or as it will be. `source` names the table in
    the list of conflicts.
    """
    items, entities = (
        (list(part) for part in zip(*pairs, strict=True)) if (pairs := list(pairs)) else ([], [])
    )
    ledger.begin_alignment(store)
    done = store.align(pa.table({"item": items, "entity": entities}, schema=_PAIR), move=True)
    for row in done.conflicts.to_pylist():
        text = f"{row['item']}\t{row['entity']}"
        listing.add(Reject(source, 0, f"alignment conflict: {row['reason']}", text))
    ledger.record(store)
    return Applied(done.aligned, done.unchanged, done.moved, done.folded, done.conflicts.num_rows)


@dataclass(frozen=True)
class Check:
    """A proposal beside a known linkage.

    precision: of the accepted items that the linkage knows, those with the right entity. recall: of all items that the
    linkage knows and an entity was looked for, those with the right entity. `unknown` accepted items are in the linkage
    not at all, and count for neither.
    """

    precision: Share
    recall: Share
    unknown: int
    by_method: dict[str, Share]


def check(rows: Iterable[Row], known: pa.Table) -> Check:
    """Compares accepted rows with a linkage (columns item, entity; any of several candidates is right)."""
    truth: dict[str, set[str]] = defaultdict(set)
    for item, entity in zip(known["item"].to_pylist(), known["entity"].to_pylist(), strict=True):
        truth[item].add(entity)
    items: set[str] = set()
    unknown = 0
    judged: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        items.add(row.item)
        if row.status == ACCEPTED and row.item in truth:
            judged[row.method].append(row.entity in truth[row.item])
        elif row.status == ACCEPTED:
            unknown += 1
    right, all_ = sum(map(sum, judged.values())), sum(map(len, judged.values()))
    return Check(
        precision=wilson(right, all_),
        recall=wilson(right, len(items & truth.keys())),
        unknown=unknown,
        by_method={method: wilson(sum(ok), len(ok)) for method, ok in sorted(judged.items())},
    )
