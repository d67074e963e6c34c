"""A small shop in a store: deterministic, with taste in it, so that a model that works beats chance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kgkit.store.port import GraphStore

USERS, ITEMS, GENRES, PEOPLE = 60, 80, 4, 30


def purchases(seed: int = 7) -> list[tuple[str, str]]:
    """(user, item id): every user likes one genre, and the first items of a genre sell best."""
    rng = np.random.default_rng(seed)
    pairs = set()
    for user in range(USERS):
        liked = [i for i in range(ITEMS) if i % GENRES == user % GENRES]
        weights = 1.0 / (1.0 + np.arange(len(liked)))
        for item in rng.choice(liked, size=9, replace=False, p=weights / weights.sum()):
            pairs.add((f"u{user}", f"{item}"))
        for item in rng.choice(ITEMS, size=2, replace=False):
            pairs.add((f"u{user}", f"{item}"))
    return sorted(pairs)


def facts(seed: int = 8) -> list[tuple[str, str, str]]:
    """(head, relation, tail): each item has a genre and two people; the last ten items have no facts."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(ITEMS - 10):
        rows.append((f"m.{item:03}", "film.film.genre", f"g.{item % GENRES}"))
        for person in rng.choice(PEOPLE, size=2, replace=False):
            rows.append((f"m.{item:03}", "film.film.actor", f"p.{person:02}"))
    for person in range(PEOPLE):
        rows.append((f"p.{person:02}", "person.born_in", f"c.{person % 5}"))  # two hops from the items
    for city in range(5):
        rows.append((f"c.{city}", "city.country", "n.0"))  # three hops
    return rows


def fill(store: GraphStore) -> None:
    """Facts, alignment of all but the last ten items, purchases, and titles, through the port."""
    head, relation, tail = (pa.array(c, pa.string()) for c in zip(*facts(), strict=True))
    store.upsert_edges("FACT", pa.table({"head": head, "tail": tail, "relation": relation}), missing="create")
    aligned = range(ITEMS - 10)
    store.align(pa.table({"item": [f"{i}" for i in aligned], "entity": [f"m.{i:03}" for i in aligned]}))
    node = {f"{i}": f"m.{i:03}" if i < ITEMS - 10 else f"item:{i}" for i in range(ITEMS)}
    store.upsert_nodes(
        "Entity",
        pa.table({"id": list(node.values()), "item_id": list(node), "name": [f"Film {i}" for i in node]}),
    )
    users, items = zip(*purchases(), strict=True)
    n = len(users)
    store.upsert_edges(
        "PURCHASED",
        pa.table(
            {
                "head": list(users),
                "tail": [node[i] for i in items],
                "source": ["toy"] * n,
                "count": pa.array([1] * n, pa.int64()),
                "last": pa.array(range(n), pa.int64()),
                "rating": pa.array([5.0] * n),
            }
        ),
        missing="create",
    )
