"""What of the held-out facts the training facts give away by a rule as simple as turning a fact round.

In WN18 and FB15k most test facts stand in training under an inverse or a duplicate relation (Toutanova & Chen, CVSC
2015), so that a rule which learns nothing beats embedding models (Dettmers et al., AAAI 2018, section 5). Such
benchmarks measure whether a model finds that rule. Here it is found first, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kgkit.errors import LeakError
from kgkit.evaluate.triple_split import PARTS, TEST, TRAIN, VALID
from kgkit.graph import ranges
from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Ints
    from kgkit.evaluate.triple_split import TripleSplit

_LEAST = 3  # facts that two relations must share to be called a pair: fewer say nothing
_SHOWN = 5  # relations or pairs that `leak_lines` names of each sort


@dataclass(frozen=True)
class _Facts:
    """All facts of a split, int64 [T] each; part: int64 [T], places in PARTS. order sorts them by pair of ends."""

    head: Ints
    relation: Ints
    tail: Ints
    part: Ints
    pair: Ints  # a number for (head, tail)
    order: Ints


@dataclass(frozen=True)
class _Matches:
    """Facts and their counterparts, int64 [M] each, rows of `_Facts`: every match in both directions."""

    fact: Ints
    other: Ints


def find_leaks(split: TripleSplit, relation_names: Sequence[str], threshold: float = 0.8) -> dict[str, Any]:
    """Counts, ready for JSON, of what rules over two relations give away.

    The reverse of a fact (h, r, t), h != t, is any (t, r', h), its duplicate any (h, r', t) with r' != r. A relation is
    symmetric when at least `threshold` (0.8: Akrami et al., SIGMOD 2020) of its facts, all parts together, have their
    reverse in itself; two are near-inverse or duplicates when this share of either's facts has its reverse or duplicate
    in the other.

    {"threshold": 0.8,
     "valid", "test": {"facts": how many, "symmetric", "inverse", "duplicate": those of them that have in training
                       their reverse in the same relation, in another, their duplicate, "any": one of these,
                       "share": of any among facts},
     "symmetric": [{"relation", "facts": that have their reverse, "share", "valid", "test"}, ..],
     "inverse", "duplicate": [{"relation", "other", "facts": of one that have a counterpart in the other, "share" of
                       the relation's facts, "other_share", "valid", "test"}, ..]}

    In the lists, most facts first, valid and test count facts of either whose counterpart is in training.
    relation_names: string [relations]. Raises LeakError when a fact stands in two parts, or twice in one.
    """
    facts = _all(split)
    _refuse_repeated(facts, split.relations, relation_names)
    loop = facts.head == facts.tail
    turned = facts.tail * split.entities + facts.head
    reverse = _matches(facts, turned, np.flatnonzero(~loop))
    same = facts.relation[reverse.fact] == facts.relation[reverse.other]
    symmetric = _Matches(reverse.fact[same], reverse.other[same])
    inverse = _Matches(reverse.fact[~same], reverse.other[~same])
    twins = _matches(facts, facts.pair, _crowded(facts))
    unlike = twins.fact != twins.other
    duplicate = _Matches(twins.fact[unlike], twins.other[unlike])

    every = np.bincount(facts.relation, minlength=split.relations)
    turning = np.bincount(facts.relation[~loop], minlength=split.relations)
    names = [str(name) for name in relation_names]
    sorts = {"symmetric": symmetric, "inverse": inverse, "duplicate": duplicate}
    rows = {
        sort: _pairs(found, facts, every if sort == "duplicate" else turning, names, threshold)
        for sort, found in sorts.items()
    }
    for row in rows["symmetric"]:
        del row["other"], row["other_share"]
    return {
        "threshold": threshold,
        "valid": _given_away(sorts, facts, VALID),
        "test": _given_away(sorts, facts, TEST),
        **rows,
    }


def _all(split: TripleSplit) -> _Facts:
    parts = (split.train, split.valid, split.test)
    head = np.concatenate([p.head for p in parts])
    relation = np.concatenate([p.relation for p in parts])
    tail = np.concatenate([p.tail for p in parts])
    pair = head * split.entities + tail
    return _Facts(
        head,
        relation,
        tail,
        np.repeat(np.arange(len(parts)), [len(p) for p in parts]),
        pair,
        np.argsort(pair, kind="stable"),
    )


def _refuse_repeated(facts: _Facts, relations: int, names: Sequence[str]) -> None:
    pair = facts.pair[facts.order]
    group = np.cumsum(np.append(False, pair[1:] != pair[:-1])[: len(pair)])
    key = group * max(relations, 1) + facts.relation[facts.order]
    if (np.diff(np.sort(key)) > 0).all():
        return
    at = np.lexsort((facts.part[facts.order], key))
    again = np.flatnonzero(key[at][1:] == key[at][:-1])
    first, second = (facts.order[at[again + step]] for step in (0, 1))
    sides = np.bincount(facts.part[first] * len(PARTS) + facts.part[second], minlength=len(PARTS) ** 2)
    seen = []
    for place in np.flatnonzero(sides).tolist():
        one, two = divmod(place, len(PARTS))
        where = (
            f"both in {PARTS[one]} and in {PARTS[two]}" if one != two else f"more than once in {PARTS[one]}"
        )
        seen.append(f"{int(sides[place]):,} facts {where}")
    row = int(first[0])
    raise LeakError(
        f"the split leaks: {', '.join(seen)} (the first: head {facts.head[row]}, relation "
        f"{names[int(facts.relation[row])]}, tail {facts.tail[row]}); make the split with split_triples, from a graph "
        "with one row a fact"
    )


def _matches(facts: _Facts, wanted: Ints, rows: Ints) -> _Matches:
    """All pairs of a fact of `rows` and a fact whose pair of ends is the one that `wanted` (int64 [T]) says for it."""
    rows = rows[np.argsort(wanted[rows])]  # searching in order is several times faster
    ordered, keys = facts.pair[facts.order], wanted[rows]
    low, high = np.searchsorted(ordered, keys), np.searchsorted(ordered, keys, side="right")
    return _Matches(np.repeat(rows, high - low), facts.order[ranges(low, high)])


def _crowded(facts: _Facts) -> Ints:
    """Rows of the facts that share both ends with another."""
    ordered = facts.pair[facts.order]
    as_next = np.append(ordered[1:] == ordered[:-1], False)[: len(ordered)]
    crowded: Ints = facts.order[as_next | np.append(False, as_next)[: len(ordered)]]
    return crowded


def _in_training(found: _Matches, facts: _Facts, part: int) -> Bools:
    """bool [M]: matches of a fact of this part with a training fact."""
    known: Bools = (facts.part[found.fact] == part) & (facts.part[found.other] == TRAIN)
    return known


def _given_away(sorts: dict[str, _Matches], facts: _Facts, part: int) -> dict[str, Any]:
    n = int((facts.part == part).sum())
    counts, known = {"facts": n}, np.zeros(len(facts.part), dtype=bool)
    for sort, found in sorts.items():
        hit = np.zeros(len(facts.part), dtype=bool)
        hit[found.fact[_in_training(found, facts, part)]] = True
        counts[sort] = int(hit.sum())
        known |= hit
    counts["any"] = int(known.sum())
    return {**counts, "share": counts["any"] / max(n, 1)}


def _pairs(
    found: _Matches, facts: _Facts, size: Ints, names: list[str], threshold: float
) -> list[dict[str, Any]]:
    """The pairs of relations above the threshold. size: int64 [relations], the facts that could have a counterpart."""
    # Either direction of a match is one pair of relations: the smaller number first.
    one, two = facts.relation[found.fact], facts.relation[found.other]
    key, place = np.unique(np.minimum(one, two) * len(names) + np.maximum(one, two), return_inverse=True)
    total = np.bincount(place, minlength=len(key))
    valid, test = (
        np.bincount(place[_in_training(found, facts, part)], minlength=len(key)) for part in (VALID, TEST)
    )
    rows = []
    for at in np.argsort(-total, kind="stable").tolist():
        a, b = divmod(int(key[at]), len(names))
        both = int(total[at]) if a == b else int(total[at]) // 2  # seen from both ends
        share, other_share = both / int(size[a]), both / int(size[b])
        if both >= _LEAST and max(share, other_share) >= threshold:
            row = {"relation": names[a], "other": names[b], "facts": both}
            row |= {"share": share, "other_share": other_share}
            rows.append({**row, "valid": int(valid[at]), "test": int(test[at])})
    return rows


def leak_lines(found: dict[str, Any]) -> list[str]:
    """What `find_leaks` found, as sentences for people; one sentence when it is nothing to speak of."""
    lines = []
    for sort, what in (("inverse", "the reverse of"), ("duplicate", "the same as")):
        for row in found[sort][:_SHOWN]:
            lines.append(
                f"{row['relation']} says {what} {row['other']}: {row['facts']:,} facts, {_percent(row['share'])} of the "
                f"first's and {_percent(row['other_share'])} of the second's; {row['test']:,} test facts are known "
                "from training by it"
            )
        lines += _more(len(found[sort]), "such pairs")
    for row in found["symmetric"][:_SHOWN]:
        lines.append(
            f"{row['relation']} is symmetric: {_percent(row['share'])} of its facts stand both ways round; "
            f"{row['test']:,} test facts are known from training by it"
        )
    lines += _more(len(found["symmetric"]), "symmetric relations")
    test = found["test"]
    if test["any"]:
        lines.append(
            f"{test['any']:,} of {test['facts']:,} test facts ({_percent(test['share'])}) stand in training turned round "
            f"or under another relation: {test['symmetric']:,} ({_percent(test['symmetric'] / test['facts'])}) turned "
            f"round in the same relation, {test['inverse']:,} in another, {test['duplicate']:,} as duplicates"
        )
    if test["share"] >= 0.01:
        lines.append(
            f"a rule that turns known facts round or repeats them, and learns nothing, can reach Hits@1 and MRR of up "
            f"to {test['share']:.2f}: hold models against that, not against zero"
        )
    if found["inverse"] or found["duplicate"]:
        lines.append(
            "leave one relation of each pair out for an honest benchmark, as WN18RR and FB15k-237 do for WN18 and FB15k"
        )
    return lines or ["no test fact stands in training turned round or under another relation"]


def _more(count: int, what: str) -> list[str]:
    return [f"and {count - _SHOWN:,} more {what}"] if count > _SHOWN else []


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
