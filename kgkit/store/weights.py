"""A model's weights that belong to no node (filters, projections), as nodes `Weights` of at most a MiB each.

In parts, because a server sends forty properties of a MiB in a quarter of the time of one of forty MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kgkit.errors import StoreError
from kgkit.lazy import np, pa

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.store.port import GraphStore

_PART = 1 << 18  # numbers


def rows(run: str, weights: Mapping[str, Floats]) -> pa.Table:
    """The nodes of a run's arrays, float32 of any shape: columns id and the properties of `Weights`."""
    out: dict[str, list[object]] = {name: [] for name in ("id", "run", "name", "shape", "part", "data")}
    for name, array in weights.items():
        flat = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
        for part, start in enumerate(range(0, max(len(flat), 1), _PART)):
            data = flat[start : start + _PART].tobytes() or None  # no bytes are not the same on every engine
            row = (f"{run}/{name}/{part}", run, name, " ".join(map(str, array.shape)), part, data)
            for column, value in zip(out.values(), row, strict=True):
                column.append(value)
    return pa.table(out)


def read(store: GraphStore, run: str) -> dict[str, Floats]:
    """A run's arrays by name, float32; none where the graph holds none."""
    try:
        found = store.query(
            "MATCH (w:Weights) WHERE w.run = $run RETURN w.name, w.shape, w.part, w.data", {"run": run}
        )
    except StoreError:
        if not list(store.read_nodes("Weights", [])):  # a graph that an earlier kgkit made has no such nodes
            return {}
        raise
    parts: dict[tuple[str, str], dict[int, bytes]] = {}
    for name, shape, part, data in found.rows:  # sorted here: an engine would carry all the bytes along
        parts.setdefault((name, shape), {})[part] = data or b""
    return {
        name: np.frombuffer(b"".join(data[part] for part in sorted(data)), dtype="<f4").reshape(
            [int(n) for n in shape.split()]
        )
        for (name, shape), data in parts.items()
    }
