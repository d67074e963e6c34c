"""How runs and metrics look to a person: shared by train, evaluate, runs and demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADLINE = ("auc", "f1", "recall@10", "recall@20", "precision@10", "ndcg@10", "hit@10", "mrr")


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
    """A run a row."""
    rows = []
    for r in records:
        test = r.get("metrics", {}).get("test", {})
        rows.append(
            [
                r["id"],
                r["plugin"],
                r["status"],
                r["created"],
                _figure(test.get("auc")),
                _figure(test.get("recall@20")),
            ]
        )
    return ["run", "plugin", "status", "created", "test auc", "test recall@20"], rows


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
