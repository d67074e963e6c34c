"""From a trained model into the graph: embeddings, the best items of each user, and the run itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kgkit.evaluate.ranking import csr_of, top_items
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors

if TYPE_CHECKING:
    from kgkit.graph import TrainingGraph
    from kgkit.model import Recommender
    from kgkit.run import Run


def write_back(
    store: GraphStore, model: Recommender, graph: TrainingGraph, run: Run, top: int
) -> dict[str, int]:
    """Replaces the plugin's earlier answers at once, and returns the rows written by kind.

    Every purchase is masked, so what is recommended is new to the user. The score is the predicted probability of a
    purchase where the model gives one.
    """
    labels = {"User": graph.users.ids, "Entity": graph.entities.ids}
    vectors = [Vectors(label, labels[label], matrix) for label, matrix in model.embeddings().items()]
    answers = [Answers("RECOMMENDED", recommendations(model, graph, top))] if top else []
    record = run.record
    node = RunRecord(
        id=run.id,
        plugin=record["plugin"],
        created=record["created"],
        params=json.dumps(record["parameters"]),
        metrics=json.dumps(record["metrics"]),
        provenance=json.dumps(
            {k: record.get(k) for k in ("data", "split", "seed", "extraction", "versions")}
        ),
    )
    return store.replace_answers(node, vectors, answers)


def recommendations(model: Recommender, graph: TrainingGraph, top: int) -> pa.Table:
    """The best `top` items of every user. Columns source (user id), target (item's node id), score, rank (from 1)."""
    bought = graph.interactions
    mask = csr_of(bought.user, bought.item, len(graph.users))
    users = np.arange(len(graph.users), dtype=np.int64)
    items, scores = top_items(model, users, min(top, len(graph.items)), mask)
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
