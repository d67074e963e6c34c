"""Names that are nearly equal: trigram blocking, then rapidfuzz on the pairs that are left; memory stays bounded.

Comparing 20,000 items with a million entities outright is 2e10 comparisons. Here every item is looked up by its rarest
trigrams only: a pair is compared when it shares enough of them, which leaves some pairs in a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from kgkit.align.normalise import arabic, numbers
from kgkit.arrays import Floats, Ints

BUCKETS = 1 << 20  # trigrams by hash: two that meet there only mean a comparison more
RAREST = 10  # trigrams of an item that it is looked up by
SHARED = 0.3  # of which so many must be shared: a typing error spoils three at most
PAIRS = 4_000_000  # shared trigrams counted at once: some 100 MB
ROWS = 50_000  # entities taken apart at once
KEPT = 50  # best pairs of an item: enough to tell the best from the next when creators rule some out
HELD = 4_000_000  # scored pairs held before only the best are kept


@dataclass(frozen=True)
class Pairs:
    """Scored pairs. item, entity: int64 [P], positions among the keys given; score: float32 [P], 0 to 100."""

    item: Ints
    entity: Ints
    score: Floats


def near(
    items: pa.Array,
    entities: pa.Array,
    allowed: Callable[[Ints, Ints], np.ndarray],
    least: float,
    tell: Callable[[int], None] = lambda rows: None,
) -> Pairs:
    """The pairs whose `rapidfuzz.fuzz.ratio` is at least `least`, the `KEPT` best of each item, best first.

    items, entities: string [I], [E] keys; `allowed` says of positions [P] in both which pairs may be (bool [P]); `tell`
    hears how many entities are done. Pairs that differ in a number are left out. A pair that shares too few of the
    item's rarest trigrams is not found; at a ratio of 80 and above that is rare (see `SHARED`).
    """
    from rapidfuzz import fuzz, process

    items, entities = (
        pa.array([arabic(k) for k in side.to_pylist()], pa.string()) for side in (items, entities)
    )
    index, need = _index(items, entities)
    lengths = [np.asarray(pc.utf8_length(side), dtype=np.int64) for side in (items, entities)]
    found: list[Pairs] = []
    held = 0
    for item, entity in _blocks(entities, index, need, tell):
        short = np.minimum(lengths[0][item], lengths[1][entity])
        keep = 200.0 * short >= least * (lengths[0][item] + lengths[1][entity])  # the ratio cannot be more
        keep[keep] = allowed(item[keep], entity[keep])
        item, entity = item[keep], entity[keep]
        left, right = items.take(pa.array(item)).to_pylist(), entities.take(pa.array(entity)).to_pylist()
        score = process.cpdist(left, right, scorer=fuzz.ratio, score_cutoff=least, dtype=np.float32)
        close = [i for i in np.flatnonzero(score >= least).tolist() if numbers(left[i]) == numbers(right[i])]
        found.append(Pairs(item[close], entity[close], score[close]))
        held += len(close)
        if held > HELD:
            found = [_best(found)]
            held = len(found[0].item)
    return _best(found)


def _best(parts: list[Pairs]) -> Pairs:
    """The `KEPT` best pairs of each item, best first, in the order of items."""
    item = np.concatenate([np.zeros(0, dtype=np.int64), *(p.item for p in parts)])
    entity = np.concatenate([np.zeros(0, dtype=np.int64), *(p.entity for p in parts)])
    score = np.concatenate([np.zeros(0, dtype=np.float32), *(p.score for p in parts)])
    order = np.lexsort((entity, -score, item))
    ordered = item[order]
    order = order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < KEPT]
    return Pairs(item[order], entity[order], score[order])


def _index(items: pa.Array, entities: pa.Array) -> tuple[csr_matrix, Ints]:
    """The rarest trigrams of each item, [BUCKETS, I] of ones, and how many of them a pair must share, int64 [I]."""
    seen = np.zeros(BUCKETS, dtype=np.int64)
    step = max(ROWS, len(entities) // 4 // ROWS * ROWS)  # a quarter of the entities tells how rare they are
    for start in range(0, len(entities), step):
        seen += np.bincount(_trigrams(entities.slice(start, ROWS))[1], minlength=BUCKETS)
    row, gram = _trigrams(items)
    order = np.lexsort((gram, seen[gram], row))
    row, gram = row[order], gram[order]
    first = np.searchsorted(row, np.arange(len(items)))
    keep = np.arange(len(row)) - first[row] < RAREST
    row, gram = row[keep], gram[keep]
    has = np.bincount(row, minlength=len(items))
    need = np.maximum(np.minimum(has, 2), np.ceil(SHARED * has)).astype(np.int64)
    ones = np.ones(len(row), dtype=np.int32)
    return csr_matrix((ones, (gram, row)), shape=(BUCKETS, len(items))), need


def _blocks(
    entities: pa.Array, index: csr_matrix, need: Ints, tell: Callable[[int], None]
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (item, entity) that share enough trigrams, a bounded number at a time."""
    cost_of = np.diff(index.indptr)
    for start in range(0, len(entities), ROWS):
        part = entities.slice(start, ROWS)
        row, gram = _trigrams(part)
        cost = np.cumsum(np.bincount(row, weights=cost_of[gram], minlength=len(part)))
        cuts = np.searchsorted(cost, np.arange(1, int(cost[-1]) // PAIRS + 1) * PAIRS)
        ends = np.unique(np.append(cuts, len(part)))
        begin = 0
        for end in ends[ends > 0].tolist():
            lo, hi = np.searchsorted(row, [begin, end])
            ones = np.ones(hi - lo, dtype=np.int32)
            block = csr_matrix((ones, (row[lo:hi] - begin, gram[lo:hi])), shape=(end - begin, BUCKETS))
            shared = (block @ index).tocoo()
            enough = shared.data >= need[shared.col]
            yield shared.col[enough].astype(np.int64), shared.row[enough].astype(np.int64) + start + begin
            begin = end
        tell(start + len(part))


def _trigrams(keys: pa.Array) -> tuple[Ints, Ints]:
    """Distinct trigrams (of bytes, with a blank before and after) as rows, int64 [T], and buckets, int64 [T]; sorted."""
    padded = pc.binary_join_element_wise(" ", keys, " ", "").cast(pa.large_binary())
    offsets = np.frombuffer(padded.buffers()[1], dtype=np.int64)[
        padded.offset : padded.offset + len(keys) + 1
    ]
    data = np.frombuffer(padded.buffers()[2] or b"", dtype=np.uint8)[offsets[0] : offsets[-1]].astype(
        np.int64
    )
    if len(data) < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    row = np.repeat(np.arange(len(keys), dtype=np.int64), np.diff(offsets))
    gram = (data[:-2] << 16) | (data[1:-1] << 8) | data[2:]
    within = row[:-2] == row[2:]
    bucket = ((gram * 2654435761) >> 12) % BUCKETS
    packed = np.unique(row[:-2][within] * BUCKETS + bucket[within])
    return packed // BUCKETS, packed % BUCKETS
