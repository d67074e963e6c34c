"""From a trained model into the graph: embeddings, what it answers, and the run itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kgkit.evaluate.ranking import csr_of, top_items
from kgkit.ledger import with_written
from kgkit.model import LinkPredictor
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors

if TYPE_CHECKING:
    from kgkit.graph import TrainingGraph
    from kgkit.model import Model, Recommender
    from kgkit.run import Run


def write_back(
    store: GraphStore, model: Model, graph: TrainingGraph, run: Run, answers: list[Answers]
) -> dict[str, int]:
    """Replaces the plugin's earlier vectors and answers at once, and returns the rows written by kind."""
    weights = model.extra_weights()
    packed = isinstance(model, LinkPredictor)  # `kgkit.predict` compares them by the thousand
    vectors = [
        Vectors(label, graph.nodes[label].ids, matrix, packed=packed and label == "Entity")
        for label, matrix in model.embeddings().items()
    ] + [
        Vectors(label, graph.nodes[label].ids, matrix, table)
        for label, tables in weights.items()
        for table, matrix in (tables.items() if label else ())
    ]
    written = Counter({f"{part.label}.embedding": len(part.ids) for part in vectors if not part.table})
    for said in answers:
        written[said.kind] += said.table.num_rows
    return store.replace_answers(run_node(run, written), vectors, answers, weights.get("", {}))


def run_node(run: Run, written: Mapping[str, int]) -> RunRecord:
    """The run as the graph remembers it. written: relationships by kind, embeddings by label (`LABEL.embedding`)."""
    record = run.record
    return RunRecord(
        id=run.id,
        plugin=record["plugin"],
        created=record["created"],
        params=json.dumps(record["parameters"]),
        metrics=json.dumps(record["metrics"]),
        provenance=json.dumps(
            with_written(
                {
                    k: record.get(k)
                    for k in ("data", "split", "seed", "extraction", "versions", "recommended")
                },
                written,
            )
        ),
    )


def recommendations(model: Recommender, graph: TrainingGraph, top: int) -> pa.Table:
    """The best `top` items of every user. Columns head (user id), tail (item's node id), score, rank (from 1).

    Every purchase is masked, so what is recommended is new to the user; an item that the model knows nothing about is left
    out. Equal scores draw lots by the model's seed. The score is the predicted probability of a purchase where the model
    gives one.
    """
    bought = graph.interactions
    mask = csr_of(bought.user, bought.item, len(graph.users))
    users = np.arange(len(graph.users), dtype=np.int64)
    items, scores = top_items(model, users, min(top, len(graph.items)), mask, seed=model.config.seed)
    if model.logits:
        scores = (1.0 / (1.0 + np.exp(-scores.astype(np.float64)))).astype(np.float32)
    there = items >= 0
    rows, ranks = np.nonzero(there)
    return pa.table(
        {
            "head": graph.users.keys(rows),
            "tail": graph.items.keys(items[there]),
            "score": scores[there].astype(np.float64),
            "rank": (ranks + 1).astype(np.int64),
        }
    )


def shortfall(found: pa.Table, graph: TrainingGraph, top: int) -> dict[str, int]:
    """How many users there are, how many got fewer than `top` recommendations, and how many of these none."""
    best = found["rank"].to_numpy()
    users = len(graph.users)
    return {
        "users": users,
        "fewer": users - int((best == top).sum()),
        "none": users - int((best == 1).sum()),
    }
