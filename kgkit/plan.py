"""What an ingest would do: `kgkit ingest --dry-run`. Reads a little of each source, and writes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kgkit.align.step import AlignStep
from kgkit.ingest import halfway, named_sources, remembered
from kgkit.narrow import aligned_items
from kgkit.records import (
    Alignments,
    AttributeFacts,
    Facts,
    Features,
    Kept,
    Progress,
    Purchases,
    Reject,
    Skipped,
)

if TYPE_CHECKING:
    from kgkit.connector import Connector
    from kgkit.recipe import SourceSpec
    from kgkit.store.port import GraphStore

SAMPLE = 2.0  # seconds that are read of each source
# Rows a second into a store, nodes included, on two cores (benchmarks.ingest); machines differ by a factor of two.
_RATES = {"ladybug": 300_000, "neo4j": 20_000}
_KINDS = {
    Facts: "facts",
    Purchases: "purchases",
    Alignments: "alignments",
    Features: "attributes",
    AttributeFacts: "attributes that are entities",
}


@dataclass(frozen=True)
class SourcePlan:
    """One source. `state`: "new", "unchanged" (would be skipped), "changed", or "interrupted" (would go on).

    `rows` and `seconds` are estimates from the first part of the files (exact rows when that was all of them, see
    `whole`); `kinds` are the estimated records by kind. For an unchanged source they are empty.
    """

    connector: str
    source: str
    files: list[str]
    bytes: int
    state: str
    rows: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    whole: bool = False
    seconds: float = 0.0


def plan(
    sources: Sequence[SourceSpec | AlignStep], store: GraphStore | None, *, force: bool = False
) -> list[SourcePlan]:
    """The sources in the order in which they would be ingested. store: None for an embedded graph that is not there yet.

    Raises ConnectorError for a file that cannot be read.
    """
    dialect = store.capabilities.dialect if store is not None else "ladybug"
    return [
        _one(source, name, part, store, dialect, force)
        for source in sources
        if not isinstance(source, AlignStep)
        for name, part in named_sources(source.connector, source.config)
    ]


def _one(
    source: SourceSpec, name: str, config: Any, store: GraphStore | None, dialect: str, force: bool
) -> SourcePlan:
    connector = source.connector
    files = connector.files(config)
    known: dict[str, Any] = {}
    mark = ""
    if store is not None:
        # Items that a source before this one will align are not known yet, so that the state is a guess then.
        items = None if source.narrow is None else aligned_items(store, source.narrow.item_core, some=False)
        known, mark = remembered(store, connector, name, config, source.narrow, items)
    if known and not force and known.get("fingerprint") == mark:
        state = "unchanged"
    elif known.get("partial") == halfway(mark):
        state = "interrupted"
    else:
        state = "changed" if known else "new"
    about: dict[str, Any] = {
        "connector": connector.name,
        "source": name,
        "files": [str(path) for path in files],
        "bytes": sum(path.stat().st_size for path in files if path.is_file()),
        "state": state,
    }
    if state != "unchanged":
        passes = 1 if source.narrow is None else source.narrow.hops
        about |= _estimate(connector, config, dialect, passes)
    return SourcePlan(**about)


def _estimate(connector: Connector, config: Any, dialect: str, passes: int) -> dict[str, Any]:
    """Reads for SAMPLE seconds and draws the line on. What is near the items cannot be known: all counts."""
    kinds: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    rows = rejected = done = total = 0
    whole, began = True, time.monotonic()
    for record in connector.read(config):
        if isinstance(record, Progress):
            rows += record.rows
            # A folder's files each count from nothing: what was done of an earlier one stays done.
            done, total = max(done, record.done), max(total, record.total)
        elif isinstance(record, Skipped):
            left_out[record.why] += record.rows
        elif isinstance(record, Reject):
            rejected += 1
        elif not isinstance(record, Kept):
            kinds[_KINDS[type(record)]] += record.table.num_rows
        if time.monotonic() - began > SAMPLE and done and total:
            whole = done >= total
            break
    spent = time.monotonic() - began
    times = 1.0 if whole else total / done
    return {
        "rows": round(rows * times),
        "kinds": {k: round(n * times) for k, n in kinds.items()},
        "left_out": {k: round(n * times) for k, n in left_out.items()},
        "rejected": round(rejected * times),
        "whole": whole,
        "seconds": round(spent * times * passes + sum(kinds.values()) * times / _RATES[dialect], 1),
    }
