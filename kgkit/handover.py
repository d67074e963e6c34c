"""Vectors of one run as the beginning of another: out of the graph where they stand written back, else out of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.errors import ConfigError
from kgkit.schema import embedding_property

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.graph import IdMap, TrainingGraph
    from kgkit.store.port import GraphStore


def vectors_of(store: GraphStore, run: str, runs: Path, graph: TrainingGraph) -> dict[str, Floats]:
    """A run's vectors for the nodes of `graph`: by label, float32 [rows, d] in the order of the dense ids.

    run: its id, or the beginning of it. Vectors in the graph go by node id, so that the graph may have changed since;
    those of a run that another has followed come from its folder, for the very graph it was trained on.
    Raises ConfigError for an unknown run, for entities without a vector, for a checkpoint of another graph.
    """
    found = list(
        store.query(
            "MATCH (r:Run) WHERE r.id STARTS WITH $run RETURN r.id, r.plugin, r.current", {"run": run}
        ).rows
    )
    if len(found) > 1:
        raise ConfigError(f"--init-from: several runs start with {run!r}: {', '.join(r[0] for r in found)}")
    if found and found[0][2]:
        id, plugin, _ = found[0]
        vectors = {}
        for label, wanted in graph.nodes.items():
            ids, matrix = store.read_vectors(label, embedding_property(plugin))
            if len(ids) and len(wanted):
                vectors[label] = _aligned(id, label, wanted, ids, matrix)
        if vectors:
            return vectors
    return _from_folder(run, runs, graph)


def _aligned(run: str, label: str, wanted: IdMap, ids: pa.Array, matrix: Floats) -> Floats:
    """The rows of `matrix` in the order of `wanted`."""
    at = pc.index_in(wanted.ids, ids if isinstance(ids, pa.Array) else ids.combine_chunks())
    if missing := at.null_count:
        first = wanted.ids.filter(pc.is_null(at))[0].as_py()
        raise ConfigError(
            f"--init-from: {missing:,} of {len(wanted):,} {label} nodes have no vector of run {run} (the first: "
            f"{first}): train it again on this graph, or leave them out by --triples-query"
        )
    return np.ascontiguousarray(matrix[np.asarray(at)])


def _from_folder(run: str, runs: Path, graph: TrainingGraph) -> dict[str, Floats]:
    from kgkit.pipeline import model_of
    from kgkit.run import Run
    from kgkit.tasks import steps_of

    opened = Run.open(runs, run)
    record = opened.record
    if record.get("data", {}).get("fingerprint") != graph.fingerprint:
        raise ConfigError(
            f"--init-from: run {opened.id} was trained on another graph and its vectors are not in this one: train it "
            "again on this graph with --write-back"
        )
    model = model_of(opened)
    model.restore(graph, opened.load_split(steps_of(model).load_split), opened)
    return model.embeddings()
