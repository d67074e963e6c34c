"""Full ranking: every item is a candidate for every user, never a sample of them.

The rank of an item for a user is how many candidates score higher, or equal with a smaller item id; 0 is the
best. Scores are made for a block of users at a time, and all metrics follow from the ranks of held-out items.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.errors import ConfigError
from kgkit.evaluate.splits import LabelledPairs
from kgkit.graph import distinct, ranges
from kgkit.lazy import np, torch
from kgkit.native import rank_positives

if TYPE_CHECKING:
    from kgkit.arrays import Array, Doubles, Floats, Ints
    from kgkit.evaluate.splits import Split
    from kgkit.model import Recommender


KS = (1, 2, 5, 10, 20, 50, 100)
MEMORY = 512 << 20
AUTHORS_USERS = 100  # as many users as the authors of KGCN draw for their Recall@K
# Budgeted for one score of one user: a graph model gathers some neighbours' vectors to make it.
_BYTES_A_SCORE = 1024

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
    are no candidates. Everything else is: sampled negatives, and for the test part also validation positives,
    which the authors of KGCN keep too. Then, with r the ranks of a user's n positives:

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
    ranks = _ranks(model, split.items, ranked, wanted, masks, memory)
    start = wanted.of(ranked).start
    found = metrics_of_ranks(ranks[0], start, ks)
    metrics = {name: _average(value) for name, value in found.items()}
    metrics["ranked_users"] = float(len(ranked))
    if authors:
        eligible = masks[1].counts()[ranked] > 0
        recalls = {k: metrics_of_ranks(ranks[1], start, (k,))[f"recall@{k}"][eligible] for k in ks}
        n = int(eligible.sum())
        drawn = np.random.default_rng(seed).choice(n, min(n, AUTHORS_USERS), replace=False)
        metrics |= {f"authors_recall@{k}": _average(recalls[k]) for k in ks}
        metrics |= {f"authors_recall@{k}_{AUTHORS_USERS}users": _average(recalls[k][drawn]) for k in ks}
        metrics["authors_users"] = float(n)
    return metrics


def metrics_of_ranks(ranks: Ints, start: Ints, ks: Sequence[int]) -> dict[str, Doubles]:
    """The metrics of each user by name, float64 [U], as `rank_metrics` defines them.

    ranks: int64 [P], those of user u at start[u]:start[u + 1], at least one each; start: int64 [U + 1].
    """
    n = np.diff(start)
    row = np.repeat(np.arange(len(n)), n)
    ideal = np.append(0.0, np.cumsum(1 / np.log2(np.arange(max(ks, default=1)) + 2)))
    found = {}
    for k in ks:
        inside = ranks < k
        hits = np.bincount(row, inside, len(n))
        gain = np.bincount(row, inside / np.log2(ranks + 2), len(n))
        found[f"recall@{k}"] = hits / n
        found[f"precision@{k}"] = hits / k
        found[f"ndcg@{k}"] = gain / ideal[np.minimum(n, k)]
        found[f"hit@{k}"] = (hits > 0).astype(np.float64)
    best = np.minimum.reduceat(ranks, start[:-1]) if len(n) else ranks
    found["mrr"] = 1 / (best + 1.0)
    return found


def top_items(
    model: Recommender, users: Ints, n: int, mask: UserItems, memory: int = MEMORY
) -> tuple[Ints, Floats]:
    """The best n unmasked items of each user, best first: items int64 [U, n], scores float32 [U, n].

    users: int64 [U]; mask: of every user the items to leave out, what is already bought, say. Of equal scores
    the smaller item id comes first. Beyond the last item left to a user stand item -1 and score -inf.
    """
    items = np.full((len(users), n), -1, dtype=np.int64)
    values = np.full((len(users), n), -np.inf, dtype=np.float32)
    if not len(users):
        return items, values
    block = _users_at_once(_scores(model, users[:1]).shape[1], memory)
    for at in range(0, len(users), block):
        some = users[at : at + block]
        scores = _scores(model, some)
        best, found = best_items(scores, min(n, scores.shape[1]), mask.of(some))
        there = slice(at, at + len(some)), slice(0, best.shape[1])
        items[there] = best.cpu().numpy()
        values[there] = found.cpu().numpy()
    return items, values


def best_items(
    scores: torch.Tensor, n: int, mask: UserItems | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """scores: float32 [B, I] -> the n best items int64 [B, n] and their scores, ties by smaller id.

    mask: of each row the items to leave out; places that then stay empty hold item -1 and score -inf.
    """
    # One integer an item: the score's bits, made to sort, above the id, so that there are no ties.
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: -0 equals 0
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    bits = torch.where(scores.isnan(), torch.iinfo(torch.int32).min + 1, bits)
    last = scores.shape[1] - 1
    key = (bits.long() << 32) + (last - torch.arange(last + 1, device=scores.device))
    nothing = torch.iinfo(torch.int64).min
    if mask is not None:
        rows, masked = _on(scores, np.repeat(np.arange(len(scores)), mask.counts())), _on(scores, mask.items)
        key[rows, masked] = nothing
    key, items = key.topk(n, dim=1)
    there = key != nothing
    found = scores.gather(1, items)
    return torch.where(there, items, -1), torch.where(there, found, -torch.inf)


def _users_at_once(n_items: int, memory: int) -> int:
    return max(1, memory // (n_items * _BYTES_A_SCORE))


def _scores(model: Recommender, users: Ints) -> torch.Tensor:
    """float32 [B, items] on the model's device."""
    with torch.no_grad():
        return model.score_items(torch.from_numpy(users)).float()


def _ranks(
    model: Recommender, n_items: int, users: Ints, wanted: UserItems, masks: list[UserItems], memory: int
) -> list[Ints]:
    """Under each mask, the ranks of what `users` want, int64 [P], user after user."""
    found: list[list[Ints]] = [[np.empty(0, dtype=np.int64)] for _ in masks]
    block = _users_at_once(n_items, memory)
    for at in range(0, len(users), block):
        some = users[at : at + block]
        scores, positives = _scores(model, some), wanted.of(some)
        for ranks, mask in zip(found, masks, strict=True):
            ranks.append(_ranks_in_block(scores, mask.of(some), positives, memory))
    return [np.concatenate(ranks) for ranks in found]


def _ranks_in_block(scores: torch.Tensor, mask: UserItems, positives: UserItems, memory: int) -> Ints:
    """Compiled on the CPU; counted by torch where there is no compiler, or where the scores lie on a GPU."""
    if scores.device.type == "cpu":
        ranks = rank_positives(scores, mask.start, mask.items, positives.start, positives.items)
        if ranks is not None:
            return ranks
    return count_ranks(scores, mask, positives, memory)


def count_ranks(scores: torch.Tensor, mask: UserItems, positives: UserItems, memory: int = MEMORY) -> Ints:
    """The torch twin of `kgkit.native.rank_positives`, on the device of scores float32 [B, I]."""
    last = torch.full_like(scores, -torch.inf)
    candidates = torch.where(scores.isnan(), last, scores)  # also a copy, which may be written to
    rows = _on(scores, np.repeat(np.arange(len(scores)), positives.counts()))
    items = _on(scores, positives.items)
    own = candidates[rows, items]
    # NaN compares false with everything: what is masked is never counted as better, nor as a tie.
    masked_rows = _on(scores, np.repeat(np.arange(len(scores)), mask.counts()))
    candidates[masked_rows, _on(scores, mask.items)] = torch.nan
    ids = torch.arange(scores.shape[1], device=scores.device)
    step = max(1, memory // (8 * scores.shape[1]))  # a float and four booleans a comparison
    ranks = []
    for at in range(0, len(rows), step):
        row, item, score = rows[at : at + step], items[at : at + step, None], own[at : at + step, None]
        others = candidates[row]
        ranks.append(((others > score) | ((others == score) & (ids < item))).sum(1))
    return torch.cat(ranks).cpu().numpy() if ranks else np.empty(0, dtype=np.int64)


def _on(scores: torch.Tensor, array: Ints) -> torch.Tensor:
    return torch.from_numpy(array).to(scores.device)


def _average(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
