"""Which part of a graph to keep, decided in memory and without a store: k-core, seed users, and sets of ids by which
a stream is filtered hop by hop (`IdSet`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools, Ints
from kgkit.graph import distinct
from kgkit.native.id_set import IdSet

__all__ = ["PAPERS", "Core", "CoreStep", "IdSet", "Seeds", "Thresholds", "k_core", "seed_users"]


# -- k-core --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thresholds:
    """What must be left of each kind for it to stay: interactions of a user or item, facts of an entity or relation.

    1 keeps everything that has any. An item's entity stays whatever facts it has, because it is sold, unless
    `items_need_facts`: then it must meet `entity` too, or the item goes with its interactions.
    """

    user: int = 1
    item: int = 1
    entity: int = 1
    relation: int = 1
    items_need_facts: bool = False


PAPERS: dict[str, Thresholds] = {
    "upgan_movie": Thresholds(user=5, item=5, entity=10),
    "upgan_music": Thresholds(user=10, item=10, entity=10),
    "upgan_book": Thresholds(user=5, item=5, entity=3),
    "kgat": Thresholds(user=10, item=10, entity=10, relation=50),
}
"""UPGAN: section 5.1, where an entity is kept with that many triples and relations have no threshold. KGAT: Wang et
al., KDD 2019, section 4.1.1; KGAT-AX states none of its own. KGCN and KGNN-LS filter by confidence and title match
only (KGCN, section 4.1): for them `Thresholds()`."""


@dataclass(frozen=True)
class CoreStep:
    """What is left after so many rounds; round 0 is what was given. Entities: ends of facts, and items."""

    round: int
    users: int
    items: int
    interactions: int
    entities: int
    relations: int
    facts: int


@dataclass(frozen=True)
class Core:
    """Masks of what is kept, and the counts at each step.

    users: bool [n_users]; items, entities: bool [n_entities] (items by their entity); relations: bool [n_relations];
    facts: bool [T]; interactions: bool [I].
    """

    users: Bools
    items: Bools
    entities: Bools
    relations: Bools
    facts: Bools
    interactions: Bools
    steps: list[CoreStep]


def k_core(
    head: Ints,
    relation: Ints,
    tail: Ints,
    user: Ints,
    item: Ints,
    thresholds: Thresholds,
    *,
    n_users: int,
    n_entities: int,
    n_relations: int,
) -> Core:
    """Drops what falls below its threshold, round after round, until nothing changes.

    head, relation, tail: int64 [T], facts by dense ids; user, item: int64 [I], interactions, an item by the id of its
    entity, one row for each that is to count. Items are the entities with an interaction; one that goes is from then
    on an entity like any other. A fact of an entity with itself counts once for it.

    Each round looks at users and items first, then at entities, then at relations. What is left in the end is the
    largest part in which everything meets its threshold, and does not depend on that order.
    """
    t = thresholds
    facts, bought = np.arange(len(head)), np.arange(len(user))
    h, r, o, u, i = head, relation, tail, user, item
    steps: list[CoreStep] = []
    while True:
        degree = _degrees(h, o, n_entities)
        users = np.bincount(u, minlength=n_users)
        items = np.bincount(i, minlength=n_entities)
        relations = np.bincount(r, minlength=n_relations)
        counts = (users, items, (degree > 0) | (items > 0), relations)
        left = [int(np.count_nonzero(c)) for c in counts]
        steps.append(CoreStep(len(steps), left[0], left[1], len(u), left[2], left[3], len(h)))

        stays = items >= max(t.item, 1)
        if t.items_need_facts:
            stays &= degree >= t.entity
        keep = (users >= t.user)[u] & stays[i]
        if not keep.all():
            u, i, bought = u[keep], i[keep], bought[keep]
        sold = np.zeros(n_entities, dtype=bool)
        sold[i] = True
        entities = (degree >= t.entity) | (sold & (not t.items_need_facts))
        held = entities[h] & entities[o]
        held &= (np.bincount(r[held], minlength=n_relations) >= t.relation)[r]
        if not held.all():
            h, r, o, facts = h[held], r[held], o[held], facts[held]
        elif keep.all():
            break
    return Core(
        users > 0,
        items > 0,
        counts[2],
        relations > 0,
        _mask(facts, len(head)),
        _mask(bought, len(user)),
        steps,
    )


def _degrees(head: Ints, tail: Ints, n: int) -> Ints:
    """Facts of each entity, int64 [n], either end."""
    both: Ints = np.bincount(head, minlength=n) + np.bincount(tail, minlength=n)
    loops = head == tail
    return both - np.bincount(head[loops], minlength=n) if loops.any() else both


def _mask(rows: Ints, n: int) -> Bools:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


# -- seed users ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeds:
    """Users picked by what they bought, and all that they bought in the period.

    users, items: string, sorted, distinct; rows: bool [B], the purchases kept. The other rows are counted by reason:
    `outside` the period, `untimed` (no time, where a period or regularity is asked for), `inactive` (of users who
    were not picked).
    """

    users: pa.Array
    items: pa.Array
    rows: Bools
    outside: int
    untimed: int
    inactive: int


def seed_users(
    purchases: pa.Table,
    *,
    since: int | None = None,
    until: int | None = None,
    min_purchases: int = 1,
    min_items: int = 1,
    regular: bool = False,
) -> Seeds:
    """KQGC, section 3.3.1, steps 1 and 2: seed users by their purchase history, then all items that they bought.

    purchases: columns user, item (string, no nulls), optional time (int64, seconds since 1970) and count (int64, 1
    where it is null). `since` (included) and `until` (excluded) bound the period; within it a seed user has at least
    `min_purchases` purchases, counts added, and `min_items` distinct items. With `regular` the user also buys as
    often as users do on average: the mean time between two of the user's purchases is at most the mean of that over
    all users with purchases at two times or more. The paper keeps those who "buy regularly within average buying
    period" (section 3.3) and gives no further definition; purchases of one moment are one visit here.
    """
    n = purchases.num_rows
    needs_time = since is not None or until is not None or regular
    time, timed = _times(purchases)
    inside = timed.copy() if needs_time else np.ones(n, dtype=bool)
    if since is not None:
        inside &= time >= since
    if until is not None:
        inside &= time < until
    user, user_names = _codes(purchases["user"])
    item, item_names = _codes(purchases["item"])
    count = np.ones(n, dtype=np.int64)
    if "count" in purchases.column_names:
        count = np.asarray(pc.fill_null(purchases["count"], 1), dtype=np.int64)

    u, width = user[inside], max(len(item_names), 1)
    bought = np.bincount(u, weights=count[inside], minlength=len(user_names))
    pairs = distinct(u * width + item[inside])
    items_of = np.bincount(pairs // width, minlength=len(user_names))
    picked = (bought >= min_purchases) & (items_of >= min_items) & (items_of > 0)
    if regular:
        picked &= _regular(u, time[inside], len(user_names))
    rows = inside & picked[user]
    return Seeds(
        users=_names(user_names, user[rows]),
        items=_names(item_names, item[rows]),
        rows=rows,
        outside=int((timed & ~inside).sum()) if needs_time else 0,
        untimed=int((~timed).sum()) if needs_time else 0,
        inactive=int((inside & ~rows).sum()),
    )


def _times(purchases: pa.Table) -> tuple[Ints, Bools]:
    """int64 [B] (0 where there is none), and where there is one."""
    if "time" not in purchases.column_names:
        return np.zeros(purchases.num_rows, dtype=np.int64), np.zeros(purchases.num_rows, dtype=bool)
    column = purchases["time"]
    return np.asarray(pc.fill_null(column, 0), dtype=np.int64), np.asarray(pc.is_valid(column), dtype=bool)


def _regular(user: Ints, time: Ints, n: int) -> Bools:
    """bool [n]: whose mean time between purchases is at most the average one."""
    if len(user) == 0:
        return np.zeros(n, dtype=bool)
    span = int(time.max() - time.min()) + 1
    visits = distinct(user * span + (time - time.min()))
    who, when = np.divmod(visits, span)
    start = np.flatnonzero(np.diff(who, prepend=-1))
    end = np.append(start[1:], len(who)) - 1
    several = end > start
    if not several.any():
        return np.zeros(n, dtype=bool)
    gap = (when[end] - when[start])[several] / (end - start)[several]
    found = np.zeros(n, dtype=bool)
    found[who[start][several]] = gap <= gap.mean()
    return found


def _codes(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Dense numbers int64 [B] of strings, and the strings by number."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # of nothing
        return np.zeros(0, dtype=np.int64), pa.array([], pa.string())
    return np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary


def _names(names: pa.Array, codes: Ints) -> pa.Array:
    found = names.take(pa.array(distinct(codes)))
    return found.take(pc.sort_indices(found))
