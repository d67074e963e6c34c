"""Runs a connector without a store and puts what it yields together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgkit.config import make_config
from kgkit.records import Facts, Features, Kept, Progress, Purchases, Reject, Skipped
from kgkit.registry import load_connector

SHARED = Path(__file__).parents[3] / "shared" / "data"


@dataclass
class Collected:
    """Rows as dictionaries by kind; features by what they are of."""

    facts: list[dict[str, Any]] = field(default_factory=list)
    purchases: list[dict[str, Any]] = field(default_factory=list)
    alignments: list[dict[str, Any]] = field(default_factory=list)
    features: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    steps: list[Kept] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rows: int = 0


def collect(name: str, *paths: Path, **options: Any) -> Collected:
    """Everything that `kgkit ingest NAME PATHS` would write."""
    connector = load_connector(name)()
    out = Collected()
    for record in connector.read(make_config(connector.Config, {"paths": paths, **options})):
        if isinstance(record, Reject):
            out.rejects.append(record)
        elif isinstance(record, Skipped):
            out.skipped[record.why] += record.rows
        elif isinstance(record, Progress):
            out.rows += record.rows
        elif isinstance(record, Kept):
            out.steps.append(record)
        elif isinstance(record, Features):
            out.features.setdefault(record.of, []).extend(record.table.to_pylist())
        else:
            kind = (
                out.facts
                if isinstance(record, Facts)
                else out.purchases
                if isinstance(record, Purchases)
                else None
            )
            (out.alignments if kind is None else kind).extend(record.table.to_pylist())
    return out
