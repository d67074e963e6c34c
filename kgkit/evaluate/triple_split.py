"""Facts parted into training, validation and test for link prediction: the parts, four ways to make them, and a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kgkit.config import unknown_name
from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.evaluate.splits import check_ratios, read_ids, read_shape
from kgkit.graph import Triples
from kgkit.lazy import np
from kgkit.run_files import read_arrays
from kgkit.schema import SPLITS

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Bytes, Ints
    from kgkit.graph import TrainingGraph

PARTS = SPLITS
TRAIN, VALID, TEST = 0, 1, 2
HOW = ("given", "random", "by-relation", "by-time")  # what --split may say
_SPLIT = 3  # of each seed, the stream of its own for this purpose


@dataclass(frozen=True)
class TripleSplit:
    """Training, validation and test facts over `entities` entities and `relations` relations (dense ids)."""

    train: Triples
    valid: Triples
    test: Triples
    entities: int
    relations: int

    @cached_property
    def seen(self) -> Bools:
        """bool [entities]: those that training facts name. The vectors of the others are never trained."""
        seen = np.zeros(self.entities, dtype=bool)
        seen[self.train.head] = True
        seen[self.train.tail] = True
        return seen

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all facts in all parts, stored with the run."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.valid, self.test):
            digest.update(f"{len(part)};".encode())
            for array in (part.head, part.relation, part.tail):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def split_triples(
    graph: TrainingGraph, how: str | None = None, ratios: Sequence[int] = (8, 1, 1), seed: int = 0
) -> TripleSplit:
    """Parts the graph's facts; each part keeps their order (by head, relation, tail).

    given        by `Triples.split`; facts without a label train.
    random       validation and test are rounded down and drawn from the facts that leave every entity and every
                 relation at least one training fact, as PyKEEN's default does: of an order drawn by the seed, the
                 first fact of each entity and of each relation trains. Where that leaves too few, validation and
                 test shrink in proportion.
    by-relation  each relation's facts in the ratio, rounded down, but at least one for each part; a relation
                 with fewer than three facts trains whole. Entities may be unseen.
    by-time      by `Triples.time`: the earliest train, the latest test; facts of one time in an order drawn by the
                 seed; facts without a time train, and do not count in the ratio. Entities may be unseen.
    None         given if any fact has a label, otherwise random.

    The same for the same facts, ratios and seed. Raises ConfigError for an unknown `how`, ratios that are not three
    positive ones, labels or times that are not there; EmptyExtraction when a part would be empty.
    """
    check_ratios(ratios)
    facts = graph.triples
    labelled = facts.split is not None and bool((facts.split >= 0).any())
    how = how or ("given" if labelled else "random")
    if how not in HOW:
        raise ConfigError(unknown_name("--split", how, HOW))
    rng = np.random.default_rng([seed, _SPLIT])
    if how == "given":
        part = _given(facts, labelled)
    elif how == "random":
        part = _random(facts, len(graph.entities), len(graph.relations), ratios, rng)
    elif how == "by-relation":
        part = _by_relation(facts, len(graph.relations), ratios, rng)
    else:
        part = _by_time(facts, ratios, rng)
    rows = [np.flatnonzero(part == code) for code in (TRAIN, VALID, TEST)]
    empty = [name for name, found in zip(PARTS, rows, strict=True) if not len(found)]
    if empty:
        raise EmptyExtraction(
            f"--split {how} leaves nothing for {' and '.join(empty)} of {len(facts):,} facts: {_REMEDY[how]}"
        )
    train, valid, test = (Triples(facts.head[r], facts.relation[r], facts.tail[r]) for r in rows)
    return TripleSplit(train, valid, test, len(graph.entities), len(graph.relations))


_LABELS = "ingest each part with its label (`kgkit ingest triples FILE --split train`, then valid and test)"
_REMEDY = {
    "given": f"{_LABELS}, or choose --split random",
    "random": "too many are the only fact of an entity or a relation; ingest more facts, or choose --split by-relation",
    "by-relation": "no relation has three; ingest more facts, or choose --split random",
    "by-time": "too few have a time; ingest more with `kgkit ingest triples FILE --time-column`, or choose --split random",
}


def _given(facts: Triples, labelled: bool) -> Bytes:
    if facts.split is None or not labelled:
        raise ConfigError(f"--split given: no fact has a label; {_LABELS}, or choose --split random")
    return np.maximum(facts.split, TRAIN)


def _random(
    facts: Triples, entities: int, relations: int, ratios: Sequence[int], rng: np.random.Generator
) -> Bytes:
    n = len(facts)
    order = rng.permutation(n)
    head, tail, relation = facts.head[order], facts.tail[order], facts.relation[order]
    covers = np.zeros(n, dtype=bool)
    first = np.minimum(_first(head, entities), _first(tail, entities))
    for places in (first, _first(relation, relations)):
        covers[places[places < n]] = True
    free = order[~covers]
    n_valid, n_test = _held_out(n, ratios)
    if n_valid + n_test > len(free):
        n_valid, n_test = (len(free) * want // max(n_valid + n_test, 1) for want in (n_valid, n_test))
    part = np.zeros(n, dtype=np.int8)
    part[free[:n_valid]] = VALID
    part[free[n_valid : n_valid + n_test]] = TEST
    return part


def _first(values: Ints, size: int) -> Ints:
    """Where each of 0 .. size - 1 stands first in `values` (int64 [N]); N for those that do not."""
    first = np.full(size, len(values), dtype=np.int64)
    first[values[::-1]] = np.arange(len(values) - 1, -1, -1)  # of several assignments the last one stays
    return first


def _held_out(n: int, ratios: Sequence[int]) -> tuple[int, int]:
    return n * ratios[1] // sum(ratios), n * ratios[2] // sum(ratios)


def _by_relation(facts: Triples, relations: int, ratios: Sequence[int], rng: np.random.Generator) -> Bytes:
    n = len(facts)
    order = rng.permutation(n)
    order = order[np.argsort(facts.relation[order], kind="stable")]
    count = np.bincount(facts.relation, minlength=relations)
    whole = count < 3
    n_valid, n_test = (np.maximum(count * r // sum(ratios), 1) for r in ratios[1:])
    n_valid = np.where(whole, 0, np.minimum(n_valid, count - 2))
    n_test = np.where(whole, 0, np.minimum(n_test, count - 1 - n_valid))
    relation = facts.relation[order]
    place = np.arange(n) - (np.cumsum(count) - count)[relation]  # of a fact among its relation's
    part = np.zeros(n, dtype=np.int8)
    part[order[place < (n_valid + n_test)[relation]]] = TEST
    part[order[place < n_valid[relation]]] = VALID
    return part


def _by_time(facts: Triples, ratios: Sequence[int], rng: np.random.Generator) -> Bytes:
    timed = np.flatnonzero(facts.time) if facts.time is not None else np.zeros(0, dtype=np.int64)
    if facts.time is None or not len(timed):
        raise ConfigError(
            "--split by-time: no fact has a time; ingest them with `kgkit ingest triples FILE --time-column COLUMN`, "
            "or choose --split random"
        )
    order = rng.permutation(timed)
    order = order[np.argsort(facts.time[order], kind="stable")]
    n_valid, n_test = _held_out(len(order), ratios)
    part = np.zeros(len(facts), dtype=np.int8)
    part[order[len(order) - n_test :]] = TEST
    part[order[len(order) - n_test - n_valid : len(order) - n_test]] = VALID
    return part


def count_unseen(split: TripleSplit) -> dict[str, int]:
    """Facts by part with an end that no training fact names, whose score is as good as random."""
    return {
        name: int((~split.seen[part.head] | ~split.seen[part.tail]).sum())
        for name, part in zip(PARTS, (split.train, split.valid, split.test), strict=True)
    }


def save(split: TripleSplit, file: IO[bytes]) -> None:
    """Writes a split as an npz file: int32 [3, facts] (head, relation, tail) a part."""
    arrays: dict[str, Any] = {
        name: np.stack([part.head, part.relation, part.tail]).astype(np.int32)
        for name, part in zip(PARTS, (split.train, split.valid, split.test), strict=True)
    }
    np.savez(file, shape=np.array([split.entities, split.relations]), **arrays)


def load(path: Path) -> TripleSplit:
    """Reads what `save` wrote. Raises DamagedRun for a file that is missing or something else."""
    data = read_arrays(path)
    entities, relations = read_shape(data, path)
    parts = []
    for name in PARTS:
        head, relation, tail = read_ids(data, name, max(entities, relations), path, rows=3)
        for what, ids, most in (
            ("head", head, entities),
            ("relation", relation, relations),
            ("tail", tail, entities),
        ):
            read_ids({f"{name} {what}": ids}, f"{name} {what}", most, path)
        parts.append(Triples(head, relation, tail))
    train, valid, test = parts
    return TripleSplit(train, valid, test, entities, relations)
