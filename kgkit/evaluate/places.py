"""Where right answers stand among candidates, and the expected value of every metric over the orders of equal scores.

Answers of equal score have no order of their own. So a metric is its mean over all of their orders, each as likely as
another: what a model would get by drawing lots, whatever the ids are. A group of m candidates that tie below b better
ones holds the ranks b ... b + m - 1 (0 is the best), and t right answers in it are a draw of t of these without return.
Scores tie where they are exactly equal; nearly equal ones do not. Without ties, all of this is the usual formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Doubles, Ints

_CHUNK = 256  # ranks of a group looked at together


@dataclass(frozen=True)
class Places:
    """How each of P right answers stands, int64 [P]: candidates that score higher, and others that score the same."""

    better: Ints
    equal: Ints

    def __len__(self) -> int:
        return len(self.better)

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """One after another."""
        return Places(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("better", "equal")))

    def take(self, rows: Ints | Bools) -> Places:
        """Some of them."""
        return Places(self.better[rows], self.equal[rows])

    def mean_rank(self) -> Doubles:
        """The expected rank from 1, float64 [P]: halfway between the best and the worst place."""
        return 1 + self.better + self.equal / 2

    def within(self, k: int) -> Doubles:
        """The chance to be among the first k, float64 [P]."""
        size = self.equal + 1
        return np.asarray(np.clip(k - self.better, 0, size) / size)

    def gain(self, k: int) -> Doubles:
        """The expected 1 / log2(rank + 1) if among the first k, else 0, with ranks from 1, float64 [P]."""
        discount = np.append(0.0, np.cumsum(1 / np.log2(np.arange(k) + 2)))
        size = self.equal + 1
        first, last = (np.minimum(at, k) for at in (self.better, self.better + size))
        return np.asarray((discount[last] - discount[first]) / size)

    def reciprocal(self) -> Doubles:
        """The expected 1 / rank, with ranks from 1, float64 [P]."""
        value = 1 / (self.better + 1.0)
        tied = np.flatnonzero(self.equal)
        if len(tied):
            value[tied] = _harmonic(self.better[tied], self.equal[tied] + 1)
        return value


def user_metrics(places: Places, start: Ints, ks: Sequence[int]) -> dict[str, Doubles]:
    """Each user's expected recall, precision, ndcg and hit at K, and mrr, float64 [U], by name.

    places: of user u at start[u]:start[u + 1], at least one each, and all of them candidates; start: int64 [U + 1].
    """
    n = np.diff(start)
    row = np.repeat(np.arange(len(n)), n)
    together = _together(places, row)
    ideal = np.append(0.0, np.cumsum(1 / np.log2(np.arange(max(ks, default=1)) + 2)))
    found = {}
    for k in ks:
        hits = np.bincount(row, places.within(k), len(n))
        found[f"recall@{k}"] = hits / n
        found[f"precision@{k}"] = hits / k
        found[f"ndcg@{k}"] = np.bincount(row, places.gain(k), len(n)) / ideal[np.minimum(n, k)]
        found[f"hit@{k}"] = _hit(places, together, row, len(n), k)
    found["mrr"] = _first_reciprocal(places, together, row, start)
    return found


def recall(places: Places, start: Ints, k: int) -> Doubles:
    """Each user's expected recall@k, float64 [U]; the arguments are those of `user_metrics`."""
    n = np.diff(start)
    return np.asarray(np.bincount(np.repeat(np.arange(len(n)), n), places.within(k), len(n)) / n)


def _together(places: Places, row: Ints) -> Ints:
    """How many right answers of the same user have the same score, itself included, int64 [P]."""
    together = np.ones(len(places), dtype=np.int64)
    tied = np.flatnonzero(places.equal)
    if len(tied):
        # Within a user, as many better candidates means the same score.
        key = row[tied] * (int(places.better.max()) + 1) + places.better[tied]
        _, group, size = np.unique(key, return_inverse=True, return_counts=True)
        together[tied] = size[group]
    return together


def _hit(places: Places, together: Ints, row: Ints, users: int, k: int) -> Doubles:
    """The chance that any right answer of a user is among the first k, float64 [U]."""
    better, size = places.better, places.equal + 1
    chance = (np.bincount(row, better + size <= k, users) > 0).astype(np.float64)
    cut = np.flatnonzero((better < k) & (better + size > k))  # the group that the cutoff goes through
    if len(cut):
        inside, among, right = k - better[cut], size[cut], together[cut]
        # None of `right` in a draw of `inside` without return: C(among - right, inside) / C(among, inside).
        few, many = np.minimum(right, inside), np.maximum(right, inside)
        none = np.ones(len(cut))
        for i in range(int(few.max())):
            none *= np.where(i < few, np.maximum(among - many - i, 0) / np.maximum(among - i, 1), 1)
        chance[row[cut]] = np.maximum(chance[row[cut]], 1 - none)
    return chance


def _first_reciprocal(places: Places, together: Ints, row: Ints, start: Ints) -> Doubles:
    """The expected 1 / rank of a user's best right answer, with ranks from 1, float64 [U]."""
    if not len(places):
        return np.zeros(0)
    best = np.minimum.reduceat(places.better, start[:-1])
    at = np.flatnonzero(places.better == best[row])
    at = at[np.diff(row[at], prepend=-1) > 0]  # one for each user: the others of its group say the same
    value = 1 / (best + 1.0)
    tied = np.flatnonzero(places.equal[at])
    if not len(tied):
        return value
    groups = np.stack([best[tied], places.equal[at[tied]] + 1, together[at[tied]]], axis=1)
    groups, which = np.unique(groups, axis=0, return_inverse=True)
    expected = _harmonic(groups[:, 0], groups[:, 1])
    several = np.flatnonzero(groups[:, 2] > 1)
    expected[several] = _first_of_several(*groups[several].T)
    value[tied] = expected[which.reshape(-1)]
    return value


def _harmonic(better: Ints, size: Ints) -> Doubles:
    """The mean of 1 / rank over the ranks better + 1 ... better + size, float64."""
    from scipy.special import digamma

    return np.asarray((digamma(better + size + 1.0) - digamma(better + 1.0)) / size)


def _first_of_several(better: Ints, size: Ints, right: Ints) -> Doubles:
    """The expected 1 / rank of the first of `right` answers drawn among `size` ranks after `better`, float64 [G].

    The first is at place x (from 0) with the chance C(size - 1 - x, right - 1) / C(size, right).
    """
    chance = right / size  # of x = 0
    expected = chance / (better + 1)
    left = np.arange(len(size))
    for at in range(0, int((size - right).max(initial=0)), _CHUNK):
        b, m, t = (v[left, None] for v in (better, size, right))
        x = at + np.arange(_CHUNK)
        later = chance[left, None] * np.cumprod(
            np.maximum(m - t - x, 0) / np.maximum(m - 1 - x, 1), axis=1
        )  # the chances of x + 1
        expected[left] += (later / (b + 2 + x)).sum(1)
        chance[left] = later[:, -1]
        left = left[later[:, -1] > 0]
    return np.asarray(expected)
