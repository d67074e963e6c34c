"""What each relation of a graph is like: how many facts and ends, its category, its hubs, and its inverses.

All counting is done on sorted int64 keys, in chunks where pairs of facts are looked at.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kgkit.arrays import Ints
from kgkit.graph import ranges

MANY = (
    1.5  # ends per other end, on average, from which TransE (Bordes et al. 2013, section 4.3) calls a side N
)
HUB_SHARE, HUB_FACTS = (
    0.25,
    100,
)  # an entity with more of a relation's facts is a hub, if the relation has so many
INVERSE_SHARE, INVERSE_FACTS = 0.8, 5  # of the facts of the rarer relation, if it has so many
_PAIRS = 5_000_000  # pairs of facts looked at together


@dataclass(frozen=True)
class RelationFigures:
    """One relation. `heads`, `tails` are distinct; `category` is 1-1, 1-N, N-1 or N-N (heads per tail, tails per
    head); `share` is of all facts."""

    name: str
    facts: int
    heads: int
    tails: int
    heads_per_tail: float
    tails_per_head: float
    category: str
    share: float


@dataclass(frozen=True)
class Hub:
    """An entity that is the head or tail (`side`) of many of a relation's facts. `row` is its row in the node index."""

    relation: str
    side: str
    facts: int
    share: float
    row: int
    id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Inverse:
    """`matched` facts (h, relation, t) have a fact (t, inverse, h). A relation that is its own inverse is symmetric."""

    relation: str
    facts: int
    inverse: str
    inverse_facts: int
    matched: int


@dataclass(frozen=True)
class RelationFinds:
    """What stands out. The lists are cut to examples; the numbers say how many there are in all."""

    one_tail: list[Hub]
    one_tail_total: int
    hubs: list[Hub]
    hubs_total: int
    inverses: list[Inverse]
    inverses_total: int

    def named(self, label: Callable[[int], tuple[str, str]]) -> RelationFinds:
        """The same with ids and names of entities by their rows."""

        def one(hub: Hub) -> Hub:
            id, name = label(hub.row)
            return dataclasses.replace(hub, id=id, name=name)

        return dataclasses.replace(
            self, one_tail=[one(h) for h in self.one_tail], hubs=[one(h) for h in self.hubs]
        )


def relation_figures(
    head: Ints, rid: Ints, tail: Ints, n: int, names: Mapping[int, str], examples: int
) -> tuple[list[RelationFigures], RelationFinds, Ints]:
    """Figures of each relation, most facts first; what stands out; and the rows of the entities in that.

    head, tail: int64 [T] rows among n entities; rid: int64 [T] numbers of relations, named by `names`.
    """
    counts = np.bincount(rid)
    present = np.flatnonzero(counts)
    dense = np.cumsum(counts > 0) - 1
    relation, facts = dense[rid] if len(rid) else rid, counts[present]
    label = [names.get(r, f"(relation {r})") for r in present.tolist()]
    total = max(len(rid), 1)

    heads, head_hubs, _ = _ends(relation, head, n, facts, label, "head")
    tails, tail_hubs, one_tail = _ends(relation, tail, n, facts, label, "tail")
    found = []
    for i, name in enumerate(label):
        per_tail, per_head = float(facts[i] / tails[i]), float(facts[i] / heads[i])
        category = f"{_side(per_tail)}-{_side(per_head)}"
        ends = int(heads[i]), int(tails[i])
        found.append(
            RelationFigures(name, int(facts[i]), *ends, per_tail, per_head, category, float(facts[i] / total))
        )
    found.sort(key=lambda r: (-r.facts, r.name))

    hubs = sorted(head_hubs + tail_hubs, key=lambda h: (-h.facts, h.relation, h.side))
    one_tail.sort(key=lambda h: (-h.facts, h.relation))
    inverses = _inverses(head, relation, tail, n, facts, label)
    finds = RelationFinds(
        one_tail[:examples], len(one_tail), hubs[:examples], len(hubs), inverses[:examples], len(inverses)
    )
    rows = np.array([h.row for h in finds.one_tail + finds.hubs], dtype=np.int64)
    return found, finds, np.unique(rows)


def _side(average: float) -> str:
    return "1" if average < MANY else "N"


def _ends(
    relation: Ints, end: Ints, n: int, facts: Ints, label: list[str], side: str
) -> tuple[Ints, list[Hub], list[Hub]]:
    """Distinct ends of each relation, hubs among them, and the ends that are a relation's only one."""
    if len(end) == 0:
        return np.zeros(0, dtype=np.int64), [], []
    key, length = _runs(np.sort(relation * n + end))
    of, row = np.divmod(key, n)
    distinct_ends = np.bincount(of, minlength=len(label))

    def hub(run: int) -> Hub:
        r = int(of[run])
        return Hub(label[r], side, int(length[run]), float(length[run] / facts[r]), int(row[run]))

    alone = (distinct_ends[of] == 1) & (facts[of] > 1)
    large = (length > HUB_SHARE * facts[of]) & (facts[of] >= HUB_FACTS) & ~alone
    return (
        distinct_ends,
        [hub(run) for run in np.flatnonzero(large).tolist()],
        [hub(run) for run in np.flatnonzero(alone).tolist()],
    )


def _runs(ordered: Ints) -> tuple[Ints, Ints]:
    """Distinct values of a sorted array, and how often each occurs."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else ordered
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


def _inverses(head: Ints, relation: Ints, tail: Ints, n: int, facts: Ints, label: list[str]) -> list[Inverse]:
    """Pairs of relations of which one mostly repeats the other with head and tail exchanged, most facts first."""
    width = len(label)
    matched: Counter[int] = Counter()
    for codes in _opposite(head, relation, tail, n, width):
        matched.update(dict(zip(*(part.tolist() for part in _runs(np.sort(codes))), strict=True)))
    both: Counter[tuple[int, int]] = Counter()
    for code, times in matched.items():
        r, s = divmod(code, width)
        both[min(r, s), max(r, s)] += times * (2 if r == s else 1)
    found = []
    for (r, s), times in both.items():
        fewest = int(min(facts[r], facts[s]))
        if fewest >= INVERSE_FACTS and times >= INVERSE_SHARE * fewest:
            found.append(Inverse(label[r], int(facts[r]), label[s], int(facts[s]), times))
    return sorted(found, key=lambda i: (-i.matched, i.relation))


def _opposite(head: Ints, relation: Ints, tail: Ints, n: int, width: int) -> Iterator[Ints]:
    """Codes r * width + s of all pairs of facts (a, r, b) and (b, s, a) with a < b, in chunks."""
    apart = head != tail
    head, relation, tail = head[apart], relation[apart], tail[apart]
    backward = head > tail
    pair = np.minimum(head, tail) * n + np.maximum(head, tail)
    order = np.argsort(pair * 2 + backward)  # an unordered pair's facts together, the forward ones first
    pair, relation = pair[order], relation[order]
    _, size = _runs(pair)
    start = np.cumsum(size) - size
    forward = np.add.reduceat(~backward[order], start, dtype=np.int64) if len(start) else size
    mixed = (forward > 0) & (forward < size)
    start, forward, size = start[mixed], forward[mixed], size[mixed]
    if len(start) == 0:
        return
    work = np.cumsum(forward * (size - forward))
    cuts = np.searchsorted(work, np.arange(_PAIRS, work[-1] + _PAIRS, _PAIRS), side="left") + 1
    low = 0
    for high in np.minimum(cuts, len(start)).tolist():
        if high <= low:
            continue
        first, middle, last = start[low:high], (start + forward)[low:high], (start + size)[low:high]
        back = ranges(middle, last)
        times = np.repeat(forward[low:high], last - middle)  # forward facts to each backward one
        begin = np.repeat(first, last - middle)
        yield relation[ranges(begin, begin + times)] * width + np.repeat(relation[back], times)
        low = high
