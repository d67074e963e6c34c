"""Which part of a graph to keep, decided in memory and without a store: the k-core, and sets of ids by which a stream
is filtered hop by hop (`IdSet`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgkit.arrays import Bools, Ints
from kgkit.native.id_set import IdSet
from kgkit.records import Kept

__all__ = ["Core", "IdSet", "Thresholds", "k_core"]


@dataclass(frozen=True)
class Thresholds:
    """What must be left of each kind for it to stay: interactions of a user or item, facts of an entity or relation.

    UPGAN (section 5.1): users and items 5, music 10; entities 10, books 3. KGAT (Wang et al., KDD 2019, section 4.1.1):
    10 of each, and relations 50. KGCN and KGNN-LS filter by confidence and title only.

    1 keeps everything that has any. An item's entity stays whatever facts it has, because it is sold, unless
    `items_need_facts`: then it must meet `entity` too, or the item goes with its interactions.
    """

    user: int = 1
    item: int = 1
    entity: int = 1
    relation: int = 1
    items_need_facts: bool = False


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
    steps: list[Kept]


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
    steps: list[Kept] = []
    while True:
        degree = _degrees(h, o, n_entities)
        users = np.bincount(u, minlength=n_users)
        items = np.bincount(i, minlength=n_entities)
        relations = np.bincount(r, minlength=n_relations)
        counts = (users, items, (degree > 0) | (items > 0), relations)
        left = [int(np.count_nonzero(c)) for c in counts]
        step = f"core, round {len(steps)}" if steps else "before the core"
        steps.append(Kept(step, left[0], left[1], len(u), left[2], left[3], len(h)))

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
