"""A training graph: dense-id numpy arrays, and the id lists that lead back to the database.

Arrays hold dense ids, the database holds the source's own keys, and the id lists are the only bridge. Dense ids are
ranks among the sorted keys, so the same facts give the same arrays from every store, and so the same run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.lazy import np

if TYPE_CHECKING:
    import pyarrow as pa

    from kgkit.arrays import Bytes, Doubles, Ints


@dataclass(frozen=True)
class IdMap:
    """Keys by dense id. ids: string [N], sorted."""

    ids: pa.Array

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self.ids.to_pylist())}

    def index(self, key: str) -> int:
        """Dense id of a key. Raises ConfigError when there is none."""
        try:
            return self._index[key]
        except KeyError:
            raise ConfigError(f"no id {key!r} among the {len(self)} of this graph") from None

    def keys(self, dense: Ints) -> pa.Array:
        """The keys, string [B], of dense ids int64 [B]."""
        import pyarrow as pa

        return self.ids.take(pa.array(dense))


@dataclass(frozen=True)
class Interactions:
    """Who bought what, one row a pair, sorted by user, then item.

    user, item: int64 [I] dense ids of users and items; count: int64 [I] purchases;
    last: int64 [I] seconds since 1970 (0: unknown); rating: float64 [I] (NaN: unknown).
    """

    user: Ints
    item: Ints
    count: Ints
    last: Ints
    rating: Doubles

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Triples:
    """Facts (head, relation, tail) by dense id, int64 [T] each, distinct, sorted by head, relation, tail.

    split: int8 [T], places in `kgkit.schema.SPLITS` (0 train, 1 valid, 2 test), -1 for facts without a label;
    time: int64 [T], seconds since 1970, 0 for unknown. Both None unless extraction was asked for labels.
    """

    head: Ints
    relation: Ints
    tail: Ints
    split: Bytes | None = None
    time: Ints | None = None

    def __len__(self) -> int:
        return len(self.head)


@dataclass(frozen=True)
class Neighbours:
    """Undirected adjacency in CSR, parallel edges kept: each fact is seen from both of its ends.

    start: int64 [N + 1]; entity, relation: int64 [2T], those of node n at start[n]:start[n + 1].
    """

    start: Ints
    entity: Ints
    relation: Ints


@dataclass(frozen=True)
class TrainingGraph:
    """What a plugin trains on. item_entity: int64 [items], the entity that each item is."""

    users: IdMap
    items: IdMap  # keys are node ids of the Entity nodes that are items
    entities: IdMap
    relations: IdMap
    item_entity: Ints
    interactions: Interactions
    triples: Triples

    @property
    def nodes(self) -> dict[str, IdMap]:
        """The nodes that have vectors, by label."""
        return {"User": self.users, "Entity": self.entities, "Relation": self.relations}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything above: two graphs of one fingerprint train to the same metrics."""
        digest = hashlib.blake2b(digest_size=16)
        for ids in (self.users, self.items, self.entities, self.relations):
            digest.update(str(len(ids)).encode())
            # Lengths as well as text, so that ("ab", "c") and ("a", "bc") differ.
            keys = ids.ids.to_pylist()
            digest.update(np.fromiter(map(len, keys), np.int64, len(keys)).data)
            digest.update("".join(keys).encode())
        it, tr = self.interactions, self.triples
        for array in (it.user, it.item, it.count, it.last, it.rating, tr.head, tr.relation, tr.tail):
            digest.update(np.ascontiguousarray(array).data)
        for name, labels in (("split", tr.split), ("time", tr.time)):
            if labels is not None:
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(labels).data)
        return digest.hexdigest()

    @cached_property
    def neighbours(self) -> Neighbours:
        """The knowledge graph as undirected adjacency (KGCN, section 3.2, footnote 2)."""
        t, n = self.triples, len(self.entities)
        near = np.concatenate([t.head, t.tail])
        far = np.concatenate([t.tail, t.head])
        relation = np.concatenate([t.relation, t.relation])
        order = np.argsort(near, kind="stable")
        start = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(near, minlength=n), out=start[1:])
        return Neighbours(start, far[order], relation[order])

    def require(self) -> TrainingGraph:
        """Raises EmptyExtraction unless there is something to recommend from."""
        if len(self.interactions) == 0:
            raise EmptyExtraction(
                "the interactions query found no purchases: ingest some (`kgkit ingest purchases ...`) or widen "
                "--interactions-query"
            )
        return self


def distinct(keys: Ints) -> Ints:
    """Each key once, ascending. np.unique hashes integers, a hundred times slower than sorting millions of them."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys


def ranges(low: Ints, high: Ints) -> Ints:
    """low, high: int64 [N] -> low[0] ... high[0] - 1, low[1] ... high[1] - 1, and so on in one array."""
    length = high - low
    before = np.cumsum(length) - length
    return np.repeat(low - before, length) + np.arange(length.sum())
