"""`kgkit copy` between the two engines and back: the road from the laptop to the server loses nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import toygraph

from kgkit.copy import copy_graph
from kgkit.extract import extract
from kgkit.store.open import open_store
from kgkit.store.port import Answers, GraphStore, RunRecord, Vectors
from kgkit.testing.graph_dump import Dump, dump


def _whole(store: GraphStore) -> Dump:
    """All of a graph but the settings of its store; vectors as the single precision that they are."""
    found = {label: rows for label, rows in dump(store).items() if label != "Kgkit"}
    for rows in found.values():
        for row in rows.values():
            for name, value in row.items():
                if isinstance(value, list):
                    row[name] = np.asarray(value, dtype=np.float32).tolist()
    return found


def _answer(store: GraphStore) -> None:
    ids = pa.array([f"m.{i:03}" for i in range(20)])
    matrix = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)
    best = pa.table({"head": ["u0", "u1"], "tail": ["m.003", "item:75"], "score": [0.9, 0.1], "rank": [1, 2]})
    more = pa.table(
        {"head": ["m.001"], "tail": ["g.3"], "relation": ["film.film.genre"], "score": [0.75], "rank": [1]}
    )
    run = RunRecord("run-1", "kgcn", "2024-01-01T00:00:00+00:00", '{"dim": 6}', '{"test": {}}', "{}")
    store.replace_answers(
        run,
        [Vectors("Entity", ids, matrix, packed=True), Vectors("Entity", ids, matrix[:, :1], "entity_bias")],
        [Answers("RECOMMENDED", best), Answers("COMPLETED", more)],
        {"filters": matrix.reshape(4, 5, 6), "none": matrix[:0]},
    )


@pytest.mark.neo4j
def test_there_and_back(store: GraphStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "laptop.lbug") as laptop:
        toygraph.fill(laptop)
        _answer(laptop)
        labelled = {"head": ["g.0", "p.01"], "tail": ["g.1", "c.1"], "relation": ["like", "person.born_in"]}
        laptop.upsert_edges("FACT", pa.table({**labelled, "split": ["test", None], "time": [None, 86_400]}))
        whole, fingerprint = _whole(laptop), extract(laptop).fingerprint
        copy_graph(laptop, store)
        assert _whole(store) == whole
        assert extract(store).fingerprint == fingerprint
    with open_store(tmp_path / "back.lbug") as back:
        copy_graph(store, back)
        assert _whole(back) == whole
        assert extract(back).fingerprint == fingerprint
        assert back.stats() == store.stats()
