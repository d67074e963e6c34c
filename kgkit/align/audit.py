"""Is an item the entity that it is aligned with? What both say of the same thing, beside what shuffled pairs say.

An item has attributes (genre, year, creator, a title), its entity has facts and a name of its own. Where the alignment
is right they go together: films that the shop calls Horror have one genre more often than others. Each attribute is
compared with each relation, then the entities are dealt out anew among the items, many times. An alignment under which
nothing goes together better than in the best of nearly all deals says nothing: its pairs might as well be drawn by lot.

Two measures of an attribute beside a relation, as deviations from the deals' mean: how unevenly values fall on the
facts' other ends (the sum of (seen - expected)^2 / expected), which needs no common words; and how many items have a
value that is the name, or the year, of a fact's other end. The largest of all is compared with the largest of each
deal, so that many attributes do not make a find by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kgkit.align.sides import Said, read_sides
from kgkit.arrays import Floats, Ints

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from kgkit.store.port import GraphStore, NodeIndex

AGREE, SHUFFLED, UNKNOWN = "agree", "as shuffled", "nothing to compare"
SHUFFLES = 199
LEVEL = 0.01  # of shuffled alignments that would be taken for a right one
FEWEST = 30  # aligned items with both an attribute and a fact, below which nothing is said
_RARE = 5  # items that a value, or a fact's other end, must have to be counted
_VALUES, _ENDS, _RELATIONS = 50, 100, 50  # at most: of an attribute, of a relation, in all
_SHOWN = 12
NAMES = "names and years that are the same"


@dataclass(frozen=True)
class Agreement:
    """An attribute beside a relation. strength: deviations above the mean of the shuffled; seen, shuffled: the measure
    itself, and its mean over the shuffled."""

    attribute: str
    relation: str
    strength: float
    seen: float
    shuffled: float


@dataclass(frozen=True)
class Together:
    """A value and the fact that goes with it best: `both` of the `items` with the value have it, `chance` if by lot."""

    attribute: str
    value: str
    relation: str
    end: str
    name: str
    items: int
    both: int
    chance: float


@dataclass(frozen=True)
class Audit:
    """aligned: items that an alignment names; compared: those looked at, at most `sides.SAMPLE`; chance: share of shuffled
    alignments that do as well, the given one counted in; best_shuffled: their largest strength; agreements: largest
    first."""

    verdict: str
    aligned: int
    compared: int
    shuffles: int = 0
    chance: float = 1.0
    strength: float = 0.0
    best_shuffled: float = 0.0
    agreements: list[Agreement] = field(default_factory=list)
    together: list[Together] = field(default_factory=list)

    def sentence(self) -> str:
        """The verdict for a person."""
        if self.verdict == UNKNOWN:
            return (
                f"{self.aligned:,} items are aligned, and fewer than {FEWEST:,} have both attributes of their own and "
                "facts that come up again: there is nothing to judge the alignment by"
            )
        beside = f"{self.compared:,} aligned items compared with {self.shuffles:,} shuffled alignments"
        if self.verdict == AGREE:
            best = self.agreements[0]
            return (
                f"items and their entities agree: {best.attribute} goes with {best.relation} by {self.strength:.1f} "
                f"deviations more than by chance (best of the shuffled: {self.best_shuffled:.1f}; {beside})"
            )
        return (
            f"aligned items and entities agree no more than shuffled ones do ({beside}; {self.chance:.0%} do as well): "
            "the alignment may name other things"
        )

    def table_of_agreements(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a person."""
        rows = [
            [a.attribute, a.relation, f"{a.strength:.1f}", f"{a.seen:,.0f}", f"{a.shuffled:,.0f}"]
            for a in self.agreements
        ]
        return ["the item's", "its entity's", "deviations", "measured", "shuffled"], rows

    def table_of_values(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a person."""
        rows = [
            [
                f"{t.attribute} = {t.value}",
                t.relation,
                t.name or t.end,
                f"{t.both:,} of {t.items:,}",
                f"{t.chance:,}",
            ]
            for t in self.together
            if self.verdict == AGREE
        ]
        return ["the item's", "its entity's", "entity", "together", "by chance"], rows


def audit(store: GraphStore, entities: NodeIndex | None = None, *, seed: int = 1) -> Audit:
    """Compares the two sides of a graph's alignment; the same seed gives the same answer.

    Reads the items' properties, the names of entities, and the facts of at most `sides.SAMPLE` items. Raises StoreError.
    """
    sides = read_sides(store, entities, seed)
    found = judge(sides.items, sides.entities, seed=seed)
    named = [
        Together(
            t.attribute, t.value, t.relation, t.end, sides.names.get(t.end, ""), t.items, t.both, t.chance
        )
        for t in found.together
    ]
    return Audit(**{**vars(found), "aligned": sides.aligned, "together": named})


def judge(
    items: Sequence[Said], entities: Sequence[Said], *, seed: int = 1, shuffles: int = SHUFFLES
) -> Audit:
    """The audit of pairs: row by row, what an item and what its entity says."""
    rows = [n for n, (i, e) in enumerate(zip(items, entities, strict=True)) if i.values and e.values]
    n = len(rows)
    if n < FEWEST:
        return Audit(UNKNOWN, len(items), n)
    said, told = [items[r] for r in rows], [entities[r] for r in rows]
    left, right = _Table([s.values for s in said], _VALUES), _Table([s.values for s in told], _ENDS)
    words = _common(said, told)
    uneven, same = bool(left.keys and right.keys), bool(words)
    if not uneven and not same:
        return Audit(UNKNOWN, len(items), n)
    measures = [m for m in (_Uneven(left, right) if uneven else None, words) if m is not None]
    rng = np.random.default_rng(seed)
    seen = np.concatenate([m.measure(np.arange(n)) for m in measures])
    dealt = np.stack(
        [
            np.concatenate([m.measure(p) for m in measures])
            for p in (rng.permutation(n) for _ in range(shuffles))
        ]
    )
    floor = np.concatenate([m.floor for m in measures])
    mean, deviation = dealt.mean(0), np.maximum(dealt.std(0), floor)
    strength = (seen - mean) / deviation
    best = ((dealt - mean) / deviation).max(1)
    top = float(strength.max())
    chance = float((1 + (best >= top).sum()) / (1 + shuffles))
    names = [pair for m in measures for pair in m.pairs]
    order = np.argsort(-strength, kind="stable")[:_SHOWN].tolist()
    return Audit(
        verdict=AGREE if chance <= LEVEL else SHUFFLED,
        aligned=len(items),
        compared=n,
        shuffles=shuffles,
        chance=chance,
        strength=top,
        best_shuffled=float(best.max()),
        agreements=[
            Agreement(names[k][0], names[k][1], float(strength[k]), float(seen[k]), float(mean[k]))
            for k in order
        ],
        together=_together(left, right) if uneven else [],
    )


class _Table:
    """Rows by (group, value) pairs that come up often enough: a sparse matrix of ones, [N, keys]."""

    def __init__(self, rows: Sequence[frozenset[tuple[str, str]]], most: int) -> None:
        count = Counter(key for row in rows for key in row)
        size: Counter[str] = Counter()
        for (group, _), times in count.items():
            size[group] += times
        self.groups = sorted(group for group, _ in size.most_common(_RELATIONS))
        kept, room = [], dict.fromkeys(self.groups, most)
        for key, times in sorted(count.items(), key=lambda item: (-item[1], item[0])):
            if _RARE <= times <= len(rows) - _RARE and room.get(key[0]):
                kept.append(key)
                room[key[0]] -= 1
        self.keys = sorted(kept)
        self.groups = sorted({group for group, _ in self.keys})
        self.matrix = _sparse(rows, {key: at for at, key in enumerate(self.keys)})
        self.members = np.zeros((len(self.keys), len(self.groups)))
        at = {group: k for k, group in enumerate(self.groups)}
        self.members[np.arange(len(self.keys)), [at[group] for group, _ in self.keys]] = 1.0
        self.total: Floats = np.asarray(self.matrix.sum(axis=0)).ravel()


class _Uneven:
    """How unevenly an attribute's values fall on a relation's other ends."""

    def __init__(self, left: _Table, right: _Table) -> None:
        self._left, self._right = left, right
        self._expected = np.outer(left.total, right.total) / left.matrix.shape[0]
        self.pairs = [(a, r) for a in left.groups for r in right.groups]
        self.floor = np.full(len(self.pairs), 1e-9)

    def measure(self, order: Ints) -> Floats:
        """float64 [pairs], the entities dealt out in `order` (int64 [N])."""
        seen = (self._left.matrix.T @ self._right.matrix[order]).toarray()
        cells = (seen - self._expected) ** 2 / self._expected
        return np.asarray(self._left.members.T @ cells @ self._right.members).ravel()


class _Same:
    """How many items have a value that is a name or year of their entity's."""

    def __init__(self, left: dict[str, csr_matrix], right: csr_matrix) -> None:
        self._left, self._right = left, right
        self.pairs = [(attribute, NAMES) for attribute in left]
        self.floor = np.ones(len(left))  # a count that hardly moves is no proof

    def measure(self, order: Ints) -> Floats:
        """float64 [attributes], as in `_Uneven`."""
        right = self._right[order]
        return np.array(
            [float((np.asarray(m.multiply(right).sum(axis=1)) > 0).sum()) for m in self._left.values()]
        )


def _common(said: Sequence[Said], told: Sequence[Said]) -> _Same | None:
    """The words that both sides use, or None."""
    known = frozenset().union(*(t.words for t in told))
    both = sorted({word for s in said for _, word in s.words if word in known})
    if not both:
        return None
    at = {word: k for k, word in enumerate(both)}
    attributes = sorted({attribute for s in said for attribute, word in s.words if word in at})
    left = {
        a: _sparse([frozenset(w for attribute, w in s.words if attribute == a) for s in said], at)
        for a in attributes
    }
    return _Same(left, _sparse([t.words for t in told], at))


def _sparse(rows: Sequence[frozenset[object]], at: dict[object, int]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    where = [
        (n, at[key]) for n, row in enumerate(rows) for key in sorted(row & at.keys(), key=at.__getitem__)
    ]
    row, column = (np.array([w[side] for w in where], dtype=np.int64) for side in (0, 1))
    return csr_matrix((np.ones(len(where)), (row, column)), shape=(len(rows), len(at)))


def _together(left: _Table, right: _Table) -> list[Together]:
    """The most telling values, each with the other end that goes with it best (by F1, less that by chance)."""
    seen = (left.matrix.T @ right.matrix).toarray()
    chance = np.outer(left.total, right.total) / left.matrix.shape[0]
    gain = 2 * (seen - chance) / (left.total[:, None] + right.total[None, :])
    best = gain.argmax(axis=1)
    rows = np.argsort(-gain[np.arange(len(best)), best], kind="stable")[:_SHOWN]
    found = []
    for r in rows.tolist():
        (attribute, value), (relation, end), at = left.keys[r], right.keys[best[r]], (r, best[r])
        both, lot = int(seen[at]), round(float(chance[at]), 1)
        found.append(Together(attribute, value, relation, end, "", int(left.total[r]), both, lot))
    return found
