"""How runs and metrics look to a person: shared by commands that print them and by the page of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADLINE = (
    "auc", "f1", "recall@10", "recall@20", "precision@10", "ndcg@10", "hit@10",
    "mrr", "mr", "hits@1", "hits@3", "hits@10", "mrr_seen", "hits@10_seen",
)  # fmt: skip


def metric_rows(
    metrics: Mapping[str, Mapping[str, float]], every: bool = False
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table: a metric a row, a part of the split a column."""
    parts = [p for p in ("train", "valid", "test") if p in metrics]
    names = list(dict.fromkeys(name for p in parts for name in metrics[p]))
    if not every:
        names = [n for n in HEADLINE if n in names]
    rows = [[n, *(_figure(metrics[p].get(n)) for p in parts)] for n in names]
    return ["metric", *parts], rows


def run_rows(records: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """A run a row, with the test metrics that any of them has."""
    shown: tuple[str, ...] = ("auc", "recall@20", "mrr", "hits@10")
    tests = [r.get("metrics", {}).get("test", {}) for r in records]
    shown = tuple(name for name in shown if any(name in test for test in tests)) or shown[:2]
    rows = [
        [
            r["id"],
            r["plugin"],
            _status(r),
            r["created"],
            _from_here(r.get("store", "")),
            *(_figure(test.get(name)) for name in shown),
        ]
        for r, test in zip(records, tests, strict=True)
    ]
    return ["run", "plugin", "status", "created", "store", *(f"test {name}" for name in shown)], rows


def _status(record: Mapping[str, Any]) -> str:
    """A run of another machine cannot be asked whether it still runs: its host is named."""
    host = record.get("process", {}).get("host")
    elsewhere = record["status"] == "running" and host not in (None, platform.node())
    return f"running on {host}" if elsewhere else str(record["status"])


def _from_here(store: str) -> str:
    """A store as it may be typed in the current folder: a path below that without the folder."""
    here = Path.cwd()
    return str(Path(store).relative_to(here)) if Path(store).is_relative_to(here) else store


def validation_name(line: Mapping[str, Any]) -> str | None:
    """The key of the validation metric in a line of the trace; None for an epoch that was not validated."""
    return next((k for k in line if k.startswith("valid_") and k != "valid_s"), None)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
