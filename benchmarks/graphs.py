"""Generated graphs as Arrow tables: Freebase-like ids, popular entities met more often than others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def ids(prefix: str, n: int) -> pa.Array:
    """n distinct ids."""
    return pa.array([f"{prefix}{i:07d}" for i in range(n)])


def skewed(rng: np.random.Generator, n: int, size: int, power: float = 2.0) -> Ints:
    """n numbers below `size`, the small ones oftener: uniform at power 1."""
    return (rng.random(n) ** power * size).astype(np.int64)


def entities(n: int, *, items: int) -> pa.Table:
    """Nodes of label Entity; the first `items` of them are items."""
    keys = ids("m.", n)
    item = pa.array([f"sku-{i}" if i < items else None for i in range(n)], pa.string())
    return pa.table({"id": keys, "item_id": item})


def facts(n: int, entities: int, relations: int, seed: int = 0) -> pa.Table:
    """n distinct facts in random order. Columns head, tail, relation."""
    rng = np.random.default_rng(seed)
    found = np.empty(0, dtype=np.int64)
    while len(found) < n:
        draw = n - len(found) + n // 50
        head, tail = rng.integers(0, entities, draw), skewed(rng, draw, entities)
        key = (head * relations + skewed(rng, draw, relations)) * entities + tail
        found = np.unique(np.concatenate([found, key[head != tail]]))
    key = rng.permutation(found)[:n]
    rest, tail = np.divmod(key, entities)
    head, relation = np.divmod(rest, relations)
    keys = ids("m.", entities)
    names = pa.array([f"domain{r % 7}.type{r % 13}.relation_{r}" for r in range(relations)])
    columns = {"head": (keys, head), "tail": (keys, tail), "relation": (names, relation)}
    return pa.table({name: key.take(pa.array(rows)) for name, (key, rows) in columns.items()})
