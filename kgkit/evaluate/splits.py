"""How labelled pairs are made and parted: the protocol of KGCN (section 4.1, 4.3) and KGNN-LS (appendix B).

Negatives are drawn once, before the split, and are split along with the positives, as the authors' code does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kgkit.errors import ConfigError, EmptyExtraction, LeakError
from kgkit.graph import distinct, ranges
from kgkit.lazy import np, torch
from kgkit.run_files import damaged, read_arrays

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Floats, Ints
    from kgkit.graph import Interactions, TrainingGraph


# Of each seed, its own stream for every purpose: the split must not repeat the negatives' random numbers.
_NEGATIVES, _SPLIT = 1, 2
# A user who bought more than 1 in _DENSE items draws from the list of the others: rejecting would be slow.
_DENSE = 4
_POOL = 1 << 24  # items unwatched by dense users that are listed at once


@dataclass(frozen=True)
class LabelledPairs:
    """user, item: int64 [N] dense ids; label: float32 [N], 1 for a purchase, 0 for a sampled negative."""

    user: Ints
    item: Ints
    label: Floats

    def __len__(self) -> int:
        return len(self.user)

    def positives(self) -> LabelledPairs:
        """Only the purchases."""
        keep = self.label > 0
        return LabelledPairs(self.user[keep], self.item[keep], self.label[keep])

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """user, item, label as torch tensors that share memory with the arrays."""
        return torch.from_numpy(self.user), torch.from_numpy(self.item), torch.from_numpy(self.label)


@dataclass(frozen=True)
class Split:
    """Training, validation and test pairs over `users` users and `items` items."""

    train: LabelledPairs
    valid: LabelledPairs
    test: LabelledPairs
    users: int
    items: int

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all pairs in all parts, stored with the run."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.valid, self.test):
            digest.update(f"{len(part)};".encode())
            for array in (part.user, part.item, part.label):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def save(split: Split, file: IO[bytes]) -> None:
    """Stores a split as npz (int32 ids)."""
    arrays = {
        f"{part}_{column}": getattr(getattr(split, part), column).astype(
            np.int32 if column != "label" else np.uint8
        )
        for part in ("train", "valid", "test")
        for column in ("user", "item", "label")
    }
    np.savez(file, shape=np.array([split.users, split.items]), **arrays)


def load(path: Path) -> Split:
    """The split that `save` stored. Raises DamagedRun for a file that is missing or something else."""
    data = read_arrays(path)
    users, items = read_shape(data, path)
    wanted = {"user": users, "item": items, "label": 2}
    parts = []
    for part in ("train", "valid", "test"):
        columns = [read_ids(data, f"{part}_{name}", most, path) for name, most in wanted.items()]
        if len({len(column) for column in columns}) > 1:
            raise damaged(path, f"the columns of {part} are of different lengths")
        parts.append(LabelledPairs(columns[0], columns[1], columns[2].astype(np.float32)))
    train, valid, test = parts
    return Split(train, valid, test, users, items)


def read_shape(data: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """The two sizes that a split is over. Raises DamagedRun."""
    shape = data.get("shape")
    if shape is None or shape.shape != (2,) or shape.dtype.kind != "i" or min(shape) < 0:
        raise damaged(path, "it is not a readable split (its shape is no pair of sizes)")
    return int(shape[0]), int(shape[1])


def read_ids(data: Mapping[str, Any], name: str, most: int, path: Path, rows: int | None = None) -> Ints:
    """An array of ids below `most`, int64 [N], or [rows, N]. Raises DamagedRun."""
    array = data.get(name)
    if array is None or array.dtype.kind not in "iu" or array.ndim != (1 if rows is None else 2):
        raise damaged(path, f"it is not a readable split (it has no ids {name})")
    if rows is not None and len(array) != rows:
        raise damaged(path, f"{name} has {len(array)} rows where {rows} belong")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < most:
        raise damaged(path, f"{name} has ids from {array.min()} to {array.max()}, of {most:,} there are")
    ids: Ints = array.astype(np.int64)
    return ids


def sample_negatives(interactions: Interactions, n_users: int, n_items: int, seed: int) -> LabelledPairs:
    """As many unwatched items of each user as the user has purchases (KGCN, Eq. 8: T_u = |{v : y_uv = 1}|).

    Uniform without replacement. A user who bought more than half of all items gets as many as there are.
    Returns pairs of label 0, sorted by user, then item; the same for the same purchases and seed.
    """
    rng = np.random.default_rng([seed, _NEGATIVES])
    bought = distinct(interactions.user * n_items + interactions.item)  # keys: user * n_items + item
    have = np.bincount(bought // n_items, minlength=n_users) if n_items else np.zeros(n_users, dtype=np.int64)
    need = np.minimum(have, n_items - have)
    dense = have * _DENSE > n_items
    drawn = [_reject(bought, np.where(dense, 0, need), n_items, rng)]
    drawn += _list_and_draw(bought, np.flatnonzero(dense), need, n_items, rng)
    keys = np.sort(np.concatenate(drawn))
    user, item = np.divmod(keys, max(n_items, 1))
    return LabelledPairs(user, item, np.zeros(len(keys), dtype=np.float32))


def _reject(bought: Ints, need: Ints, n_items: int, rng: np.random.Generator) -> Ints:
    """Keys of `need[u]` items of each user u, uniform among those not bought, by rejection.

    A round draws exactly what is still missing, so what it keeps is what drawing one by one would have kept.
    """
    missing, seen = need, [bought]
    while missing.any():
        keys = np.repeat(np.arange(len(missing)) * n_items, missing)
        keys += rng.integers(0, n_items, len(keys))
        keys = distinct(keys)
        for known in seen:
            keys = keys[~_contains(known, keys)]
        seen.append(keys)
        missing = missing - np.bincount(keys // n_items, minlength=len(missing))
    return np.concatenate(seen[1:]) if len(seen) > 1 else np.empty(0, dtype=np.int64)


def _list_and_draw(
    bought: Ints, users: Ints, need: Ints, n_items: int, rng: np.random.Generator
) -> list[Ints]:
    """The same for users who bought so much that rejecting is slow: from a list of what they did not buy."""
    found = []
    block = max(1, _POOL // max(n_items, 1))
    for at in range(0, len(users), block):
        some = users[at : at + block]
        free = np.ones((len(some), n_items), dtype=bool)
        # Keys are sorted, so each user's own are a range of them.
        low, high = np.searchsorted(bought, some * n_items), np.searchsorted(bought, (some + 1) * n_items)
        rows = np.repeat(np.arange(len(some)), high - low)
        free[rows, bought[ranges(low, high)] % n_items] = False
        row, item = np.nonzero(free)
        order = np.lexsort((rng.random(len(row)), row))  # each user's items, shuffled
        row, item = row[order], item[order]
        start = np.searchsorted(row, np.arange(len(some)))
        keep = np.arange(len(row)) - start[row] < need[some][row]
        found.append(some[row[keep]] * n_items + item[keep])
    return found


def _contains(known: Ints, keys: Ints) -> Bools:
    """Which of `keys` are in the sorted `known`."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    at = np.searchsorted(known, keys)
    found: Bools = known[np.minimum(at, len(known) - 1)] == keys
    return found


def check_ratios(ratios: Sequence[int]) -> None:
    """Raises ConfigError unless there are three positive ones."""
    if len(ratios) != 3 or min(ratios) <= 0:
        raise ConfigError(f"a split needs three positive ratios, such as 6:2:2; got {tuple(ratios)}")


def split_pairs(graph: TrainingGraph, seed: int, ratios: Sequence[int] = (6, 2, 2)) -> Split:
    """Positives and as many negatives, permuted together and cut into training, validation and test.

    Validation and test are rounded down and the rest trains, as in the authors' code: 42,346 pairs at 6:2:2
    are 25,408/8,469/8,469. Raises EmptyExtraction when a part would be empty.
    """
    check_ratios(ratios)
    bought = graph.interactions
    drawn = sample_negatives(bought, len(graph.users), len(graph.items), seed)
    # One integer a pair, the label in its lowest bit: shuffling one array is several times faster than three.
    n_items = max(len(graph.items), 1)
    packed = np.concatenate(
        [
            (bought.user * n_items + bought.item) * 2 + 1,
            (drawn.user * n_items + drawn.item) * 2,
        ]
    )
    n, whole = len(packed), sum(ratios)
    n_valid, n_test = n * ratios[1] // whole, n * ratios[2] // whole
    if not n_valid or not n_test:
        raise EmptyExtraction(
            f"{len(bought)} purchases and {len(drawn)} negatives are too few to split "
            f"{':'.join(map(str, ratios))}: ingest more purchases, or widen --interactions-query"
        )
    np.random.default_rng([seed, _SPLIT]).shuffle(packed)
    n_train = n - n_valid - n_test
    train, valid, test = (
        LabelledPairs(*np.divmod(part >> 1, n_items), (part & 1).astype(np.float32))
        for part in np.split(packed, [n_train, n_train + n_valid])
    )
    return Split(train, valid, test, len(graph.users), len(graph.items))


def check_leaks(split: Split, graph: TrainingGraph, answers_in_input: int = 0) -> None:
    """Raises LeakError when parts share pairs, repeat or contradict themselves, or the input holds answers.

    Counted: pairs in more than one part, pairs twice within a part, pairs with both labels, negatives that
    are purchases of the graph. answers_in_input: predictions of models that extraction met among its input.
    """
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    # One integer a pair, part and label in its low bits: one sort brings all copies of a pair together.
    packed = np.sort(
        np.concatenate(
            [
                (p.user * split.items + p.item) * 8 + at * 2 + (p.label > 0)
                for at, p in enumerate(parts.values())
            ]
        )
    )
    pair = packed >> 3
    repeated = distinct(pair[1:][pair[1:] == pair[:-1]])
    copies = packed[_contains(repeated, pair)]
    group, part, label = np.searchsorted(repeated, copies >> 3), copies >> 1 & 3, copies & 1
    # [pairs, 3]: how often a repeated pair stands in each part
    times = np.bincount(group * 3 + part, minlength=len(repeated) * 3).reshape(-1, 3)
    labels = np.bincount(group * 2 + label, minlength=len(repeated) * 2).reshape(-1, 2)
    bought = graph.interactions.user * split.items + graph.interactions.item
    negative = pair[packed & 1 == 0]
    refuted = negative[_contains(distinct(bought), negative)]

    names = list(parts)
    counts = [
        (f"pairs both in {names[a]} and in {names[b]}", int((times[:, [a, b]] > 0).all(1).sum()))
        for a, b in ((0, 2), (0, 1), (1, 2))
    ]
    counts += [(f"pairs more than once in {names[a]}", int((times[:, a] > 1).sum())) for a in range(3)]
    counts += [
        ("pairs with both labels", int((labels > 0).all(1).sum())),
        ("negatives that are purchases of the graph", len(refuted)),
        ("predictions of a model among the training input", answers_in_input),
    ]
    seen = [f"{count} {what}" for what, count in counts if count]
    if not seen:
        return
    shown = ""
    if bad := [int(keys[0]) for keys in (repeated, refuted) if len(keys)]:
        user, item = divmod(bad[0], split.items)
        shown = f" (the first: user {graph.users.ids[user]}, item {graph.items.ids[item]})"
    advice = (
        "leave what models wrote out of the extraction queries"
        if answers_in_input
        else "make the split with split_pairs, from a graph with one row a purchase"
    )
    raise LeakError(f"the split leaks: {', '.join(seen)}{shown}; {advice}")
