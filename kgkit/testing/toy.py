"""Small training graphs made from a seed, for tests of models and loops."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kgkit.evaluate.splits import LabelledPairs, Split
from kgkit.graph import IdMap, Interactions, TrainingGraph, Triples


def toy_graph(
    users: int = 12,
    items: int = 10,
    entities: int = 20,
    relations: int = 4,
    triples: int = 40,
    interactions: int = 60,
    isolated: int = 2,
    seed: int = 0,
) -> TrainingGraph:
    """A random graph whose items are some of the entities; `isolated` entities, items among them, have no facts."""
    rng = np.random.default_rng(seed)
    item_entity = np.sort(rng.choice(entities, items, replace=False))
    alone = set(rng.choice(item_entity, 1)) | set(rng.choice(entities, isolated)) if isolated else set()
    linked = np.array([e for e in range(entities) if e not in alone])
    facts = np.unique(
        np.stack(
            [rng.choice(linked, triples), rng.integers(0, relations, triples), rng.choice(linked, triples)], 1
        ),
        axis=0,
    )
    pairs = np.unique(rng.integers(0, users * items, interactions))
    count = len(pairs)
    return TrainingGraph(
        users=_ids("u", users),
        items=IdMap(_ids("e", entities).ids.take(pa.array(item_entity))),
        entities=_ids("e", entities),
        relations=_ids("r", relations),
        item_entity=item_entity.astype(np.int64),
        interactions=Interactions(
            user=pairs // items,
            item=pairs % items,
            count=np.ones(count, dtype=np.int64),
            last=np.zeros(count, dtype=np.int64),
            rating=np.full(count, np.nan),
        ),
        triples=Triples(facts[:, 0].copy(), facts[:, 1].copy(), facts[:, 2].copy()),
    )


def toy_split(graph: TrainingGraph, seed: int = 0) -> Split:
    """The graph's interactions and as many negatives a user (as far as items last), in parts of 6:2:2."""
    rng = np.random.default_rng(seed)
    n_items, known = len(graph.items), graph.interactions
    user, item, label = [known.user], [known.item], [np.ones(len(known), dtype=np.float32)]
    for u in range(len(graph.users)):
        bought = known.item[known.user == u]
        others = np.setdiff1d(np.arange(n_items), bought)
        negative = rng.choice(others, min(len(bought), len(others)), replace=False)
        user.append(np.full(len(negative), u))
        item.append(negative)
        label.append(np.zeros(len(negative), dtype=np.float32))
    columns = np.concatenate(user), np.concatenate(item), np.concatenate(label)
    order = rng.permutation(len(columns[0]))
    first, second = len(order) * 6 // 10, len(order) * 8 // 10
    parts = [
        LabelledPairs(columns[0][rows], columns[1][rows], columns[2][rows])
        for rows in (order[:first], order[first:second], order[second:])
    ]
    return Split(train=parts[0], valid=parts[1], test=parts[2], users=len(graph.users), items=n_items)


def _ids(prefix: str, n: int) -> IdMap:
    return IdMap(pa.array([f"{prefix}{i:06d}" for i in range(n)]))
