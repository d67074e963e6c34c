"""Full ranking: every item is a candidate for every user, never a sample of them.

Scores are made for a block of users at a time, and all metrics follow from how many candidates score higher than a
held-out item, and how many the same. Equal scores have no order: a metric is its expected value over all of theirs
(`kgkit.evaluate.places`), and a list of the best items draws lots by a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.errors import ConfigError
from kgkit.evaluate.places import Places, recall, user_metrics
from kgkit.evaluate.splits import LabelledPairs
from kgkit.graph import distinct, ranges
from kgkit.lazy import np, torch
from kgkit.native import rank_positives

if TYPE_CHECKING:
    from kgkit.arrays import Array, Floats, Ints
    from kgkit.evaluate.splits import Split
    from kgkit.model import Recommender


KS = (1, 2, 5, 10, 20, 50, 100)
MEMORY = 512 << 20
AUTHORS_USERS = 100  # as many users as the authors of KGCN draw for their Recall@K
# Budgeted for one score of one user: a graph model gathers some neighbours' vectors to make it.
_BYTES_A_SCORE = 1024
_32 = 0xFFFFFFFF
_ODD = 0x45D9F3B

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserItems:
    """Items by user in CSR, u's at start[u]:start[u + 1]. start: int64 [users + 1]; items: int64."""

    start: Ints
    items: Ints

    def of(self, users: Ints) -> UserItems:
        """The rows of some users, int64 [B], in their order."""
        low, high = self.start[users], self.start[users + 1]
        return UserItems(np.append(0, np.cumsum(high - low)), self.items[ranges(low, high)])

    def counts(self) -> Ints:
        """How many items each user has, int64 [users]."""
        return np.diff(self.start)


def csr_of(user: Ints, item: Ints, n_users: int) -> UserItems:
    """user, item: int64 [N] pairs in any order -> the distinct items of each user, ascending."""
    n_items = int(item.max()) + 1 if len(item) else 1
    user, item = np.divmod(distinct(user * n_items + item), n_items)
    start = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(user, minlength=n_users), out=start[1:])
    return UserItems(start, item)


def rank_metrics(
    model: Recommender,
    split: Split,
    *,
    part: str = "test",
    ks: Sequence[int] = KS,
    memory: int = MEMORY,
    seed: int = 0,
    users: Ints | None = None,
    authors: bool = True,
) -> dict[str, float]:
    """Metrics of the positives of `part` ("valid" or "test") in the full ranking, averaged over users.

    Users are those with a positive in `part`, or of these the ones in `users`. A user's training positives
    are no candidates, unless `part` has them again. Everything else is: sampled negatives, and for the test part also
    validation positives, which the authors of KGCN keep too. With r the ranks of a user's n positives, 0 the best, the
    expected value over all orders of items with equal scores of

        recall@K        |{r < K}| / n
        precision@K     |{r < K}| / K, also where there are fewer than K candidates
        hit@K           1 if any r < K, else 0
        ndcg@K          sum over r < K of 1 / log2(r + 2), by the sum over i < min(n, K) of 1 / log2(i + 2)
        mrr             1 / (min r + 1), without a cutoff
        ranked_users    how many users the averages are over

    The protocol of the authors' code (hwwang55/KGCN) goes under names of its own: authors_recall@K removes
    every item of the user's training record, sampled negatives included, and averages over users that have
    such a record (authors_users); authors_recall@K_100users does so for 100 of them, drawn by `seed`.

    memory: bytes to hold at once, of scores and of what the model needs to make them. An average over no
    users is NaN.
    """
    if part not in ("valid", "test"):
        raise ConfigError(f"the ranking is of valid or test positives, not of {part!r}")
    ks = tuple(ks)
    held: LabelledPairs = getattr(split, part).positives()
    wanted = csr_of(held.user, held.item, split.users)
    bought = split.train.positives()
    masks = [csr_of(bought.user, bought.item, split.users)]
    if authors:
        masks.append(csr_of(split.train.user, split.train.item, split.users))
    ranked = np.flatnonzero(wanted.counts())
    if users is not None:
        ranked = np.intersect1d(ranked, users)
    if not len(ranked):
        log.warning("no ranking metrics: no user has a positive among the %d %s pairs", len(held), part)
    has_record = masks[-1].counts() > 0
    masks = [_without(mask, wanted, split.items) for mask in masks]
    places = _places(model, split.items, ranked, wanted, masks, memory)
    start = wanted.of(ranked).start
    found = user_metrics(places[0], start, ks)
    metrics = {name: _average(value) for name, value in found.items()}
    metrics["ranked_users"] = float(len(ranked))
    if authors:
        eligible = has_record[ranked]
        recalls = {k: recall(places[1], start, k)[eligible] for k in ks}
        n = int(eligible.sum())
        drawn = np.random.default_rng(seed).choice(n, min(n, AUTHORS_USERS), replace=False)
        metrics |= {f"authors_recall@{k}": _average(recalls[k]) for k in ks}
        metrics |= {f"authors_recall@{k}_{AUTHORS_USERS}users": _average(recalls[k][drawn]) for k in ks}
        metrics["authors_users"] = float(n)
    return metrics


def top_items(
    model: Recommender, users: Ints, n: int, mask: UserItems, memory: int = MEMORY, *, seed: int
) -> tuple[Ints, Floats]:
    """The best n unmasked items of each user, best first: items int64 [U, n], scores float32 [U, n].

    users: int64 [U]; mask: of every user the items to leave out, what is already bought, say. Items that score no higher
    than what the model knows nothing about (`Recommender.unknown`) are left out too. Equal scores draw lots, by seed, user
    and item. Beyond the last item left to a user stand item -1 and score -inf.
    """
    items = np.full((len(users), n), -1, dtype=np.int64)
    values = np.full((len(users), n), -np.inf, dtype=np.float32)
    if not len(users):
        return items, values
    block = _users_at_once(_scores(model, users[:1]).shape[1], memory)
    for at in range(0, len(users), block):
        some = users[at : at + block]
        scores = _scores(model, some)
        out = None if model.unknown is None else scores <= model.unknown
        best, found = best_items(scores, min(n, scores.shape[1]), some, seed, mask.of(some), out)
        there = slice(at, at + len(some)), slice(0, best.shape[1])
        items[there] = best.cpu().numpy()
        values[there] = found.cpu().numpy()
    return items, values


def best_items(
    scores: torch.Tensor,
    n: int,
    rows: Ints,
    seed: int,
    mask: UserItems | None = None,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """scores: float32 [B, I] -> the n best items int64 [B, n] and their scores. Equal scores draw lots.

    rows: int64 [B], who asks (a user, say): the lots depend on seed, row and item, and on nothing else.
    mask: of each row the items to leave out, and out: bool [B, I], others; places that then stay empty hold item -1 and
    score -inf.
    """
    gone = torch.zeros_like(scores, dtype=torch.bool) if out is None else out.clone()
    if mask is not None:
        gone[_rows(scores, mask), _on(scores, mask.items)] = True
    left = torch.where(gone | scores.isnan(), torch.full_like(scores, -torch.inf), scores)
    # One more than wanted: where all of these differ, there are no lots to draw.
    values, items = left.topk(min(n + 1, scores.shape[1]), dim=1)
    clear = (values[:, 1:] < values[:, :-1]).all(1)
    items, values = items[:, :n], values[:, :n]
    clear &= (values > -torch.inf).all(1)
    if not clear.all():
        tied = torch.nonzero(~clear)[:, 0]
        # Who is behind the n best in all of these rows has no part in the draw.
        part = torch.nonzero((left[tied] >= values[tied, -1:]).any(0))[:, 0]
        lot = lots(rows[tied.cpu().numpy()], part, seed)
        place, values[tied] = _drawn(scores[tied][:, part], n, lot, gone[tied][:, part])
        items[tied] = torch.where(place >= 0, part[place], -1)
    return items, values


def _drawn(
    scores: torch.Tensor, n: int, lot: torch.Tensor, gone: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `best_items` gives, with lots int64 [B, I] in 0 ... 2^32 - 1; gone: bool [B, I]."""
    # One integer an item: the score's bits, made to sort, above its lot, so that there are no ties.
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: -0 equals 0
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    bits = torch.where(scores.isnan(), torch.iinfo(torch.int32).min + 1, bits)
    nothing = torch.iinfo(torch.int64).min
    key = bits.long().bitwise_left_shift_(32).add_(lot).masked_fill_(gone, nothing)
    key, items = key.topk(n, dim=1)
    there = key != nothing
    found = scores.gather(1, items)
    return torch.where(there, items, -1), torch.where(there, found, -torch.inf)


def lots(rows: Ints, items: torch.Tensor, seed: int) -> torch.Tensor:
    """The lot of each item for each row, int64 [B, I] in 0 ... 2^32 - 1, distinct within a row; the highest wins.

    rows: int64 [B]; items: int64 [I], on whose device the lots lie. A hash of seed, row and item, the same on every device:
    an item's place in the order of ids does not help it.
    """
    start, other = (torch.tensor([seed + i & _32], device=items.device) for i in range(2))
    mine = _mixed(items + _mixed(start))
    theirs = _mixed(torch.from_numpy(rows).to(items.device) ^ _mixed(other))
    # Each step is one to one on 32 bits. An odd factor of its own deals every row another order.
    return (mine ^ theirs[:, None]).mul_((_mixed(theirs + 1) >> 1 | 1)[:, None]).bitwise_and_(_32)


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """A hash of the lowest 32 bits of integers to 32 bits, one to one. No product passes 2^63."""
    x = x & _32
    for _ in range(2):
        x = ((x ^ x >> 16) * _ODD) & _32
    return x ^ x >> 16


def _users_at_once(n_items: int, memory: int) -> int:
    return max(1, memory // (n_items * _BYTES_A_SCORE))


def _scores(model: Recommender, users: Ints) -> torch.Tensor:
    """float32 [B, items] on the model's device."""
    with torch.no_grad():
        return model.score_items(torch.from_numpy(users)).float()


def _without(mask: UserItems, wanted: UserItems, n_items: int) -> UserItems:
    """The mask without what is wanted: that is a candidate, also where a log has it twice."""
    key, asked = (
        np.repeat(np.arange(len(csr.start) - 1), csr.counts()) * n_items + csr.items for csr in (mask, wanted)
    )
    at = np.searchsorted(key, asked)
    both = at[at < len(key)][key[at[at < len(key)]] == asked[at < len(key)]]
    if not len(both):
        return mask
    user, item = np.divmod(np.delete(key, both), n_items)
    return csr_of(user, item, len(mask.start) - 1)


def _places(
    model: Recommender, n_items: int, users: Ints, wanted: UserItems, masks: list[UserItems], memory: int
) -> list[Places]:
    """Under each mask, the places of what `users` want, user after user."""
    nothing = np.empty(0, dtype=np.int64)
    found: list[list[tuple[Ints, Ints]]] = [[(nothing, nothing)] for _ in masks]
    block = _users_at_once(n_items, memory)
    for at in range(0, len(users), block):
        some = users[at : at + block]
        scores, positives = _scores(model, some), wanted.of(some)
        for parts, mask in zip(found, masks, strict=True):
            parts.append(_places_in_block(scores, mask.of(some), positives, memory))
    return [Places(*(np.concatenate(part) for part in zip(*parts, strict=True))) for parts in found]


def _places_in_block(
    scores: torch.Tensor, mask: UserItems, positives: UserItems, memory: int
) -> tuple[Ints, Ints]:
    """Compiled on the CPU; counted by torch where there is no compiler, or where the scores lie on a GPU."""
    if scores.device.type == "cpu":
        counts = rank_positives(scores, mask.start, mask.items, positives.start, positives.items)
        if counts is not None:
            return counts
    return count_places(scores, mask, positives, memory)


def count_places(
    scores: torch.Tensor, mask: UserItems, positives: UserItems, memory: int = MEMORY
) -> tuple[Ints, Ints]:
    """The torch twin of `kgkit.native.rank_positives`, on the device of scores float32 [B, I]."""
    last = torch.full_like(scores, -torch.inf)
    candidates = torch.where(scores.isnan(), last, scores)  # also a copy, which may be written to
    rows = _rows(scores, positives)
    items = _on(scores, positives.items)
    own = candidates[rows, items]
    # NaN compares false with everything: what is masked is never counted as better, nor as a tie.
    candidates[_rows(scores, mask), _on(scores, mask.items)] = torch.nan
    step = max(1, memory // (8 * scores.shape[1]))  # a float and four booleans a comparison
    better, equal = [], []
    for at in range(0, len(rows), step):
        others, score = candidates[rows[at : at + step]], own[at : at + step, None]
        better.append((others > score).sum(1))
        equal.append((others == score).sum(1) - 1)
    if not better:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return torch.cat(better).cpu().numpy(), torch.cat(equal).cpu().numpy()


def _rows(scores: torch.Tensor, csr: UserItems) -> torch.Tensor:
    """The row of each of its items, int64."""
    return _on(scores, np.repeat(np.arange(len(scores)), csr.counts()))


def _on(scores: torch.Tensor, array: Ints) -> torch.Tensor:
    return torch.from_numpy(array).to(scores.device)


def _average(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
