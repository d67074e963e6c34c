"""What an alignment comes to, decided before anything is written: one set of rules for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from kgkit.names import Names
from kgkit.schema import ITEM_PREFIX

CONFLICTS = pa.schema([("item", pa.string()), ("entity", pa.string()), ("reason", pa.string())])
# What follows an item that leaves an entity: only an item is bought or recommended. Facts are the entity's own.
MOVING = ("PURCHASED", "RECOMMENDED")


@dataclass
class AlignPlan:
    """`said` has the rows to carry out, `unchanged` of them are so already; `left` says which entity an item leaves."""

    said: dict[str, str] = field(default_factory=dict)  # item: entity
    left: dict[str, str] = field(default_factory=dict)  # item: the entity that it was until now
    unchanged: int = 0
    conflicts: list[dict[str, str]] = field(default_factory=list)

    @property
    def aligned(self) -> int:
        """Rows whose item was no entity before."""
        return len(self.said) - self.unchanged - len(self.left)

    def conflict_table(self) -> pa.Table:
        """Columns item, entity, reason."""
        return pa.Table.from_pylist(self.conflicts, CONFLICTS)


def plan(
    rows: Iterable[tuple[str, str]],
    entity_of: Mapping[str, str],
    item_of: Mapping[str, str | None],
    move: bool,
) -> AlignPlan:
    """Compares (item, entity) rows with the graph and with each other; of contradictory rows the first counts.

    entity_of: the entity of each item that has one, its stub not counted; item_of: the item of each entity that has
    one. With `move` an item may leave its entity, and an entity may be taken if its item leaves it by the same table:
    so items can change places, in cycles too.
    """
    out = AlignPlan()
    holder: dict[str, str] = {}  # entity: the item that the table gives it

    def refuse(item: str, entity: str, reason: str) -> None:
        out.conflicts.append({"item": item, "entity": entity, "reason": reason})

    for item, entity in dict.fromkeys(rows):
        now, other = entity_of.get(item), item_of.get(entity)
        if entity.startswith(ITEM_PREFIX) and entity != ITEM_PREFIX + item:
            refuse(item, entity, "the entity stands for an item without entity")
        elif item in out.said:
            refuse(item, entity, f"an earlier row says that the item is entity {out.said[item]}")
        elif entity in holder:
            refuse(item, entity, f"an earlier row says that the entity is item {holder[entity]}")
        elif not move and now not in (None, entity):
            refuse(item, entity, f"the item already is entity {now}")
        elif not move and other not in (None, item):
            refuse(item, entity, f"the entity already is item {other}")
        else:
            out.said[item], holder[entity] = entity, item
    stuck = [item for item, entity in out.said.items() if _taken(item, item_of.get(entity), out.said)]
    while stuck:  # a row that cannot be done keeps its item where it is, so nobody else can come there
        item = stuck.pop()
        if item not in out.said:
            continue
        entity = out.said.pop(item)
        del holder[entity]
        refuse(item, entity, f"the entity already is item {item_of[entity]}")
        follower = holder.get(entity_of.get(item, ""))
        if follower is not None:
            stuck.append(follower)
    for item, entity in out.said.items():
        now = entity_of.get(item)
        if now not in (None, entity):
            assert now is not None
            out.left[item] = now
        elif item_of.get(entity) == item:
            out.unchanged += 1
    return out


def _taken(item: str, other: str | None, said: Mapping[str, str]) -> bool:
    return other not in (None, item) and other not in said


def renamed(
    todo: AlignPlan, item_of: Mapping[str, str | None], held: Mapping[str, Names]
) -> dict[str, Names]:
    """The names of the nodes that are called otherwise once a plan is carried out.

    A title goes where its item goes, an entity's own name stays: so every node is called as if its item had been it
    from the beginning. Where nothing tells a title from an own name (see `Names`) it is an own name, and stays.
    A title that a stub still has is newer than the one at the entity that the item leaves.

    item_of: as for `plan`; held: the names, before, of `touched` nodes that are there.
    """
    out: dict[str, Names] = {}
    for item, entity in todo.said.items():
        stub, goal = ITEM_PREFIX + item, held.get(entity, Names())
        title = held[stub].name if stub in held else None
        if title is None and item in todo.left:
            title = held[todo.left[item]].title
        elif title is None and item_of.get(entity) == item:
            title = goal.title
        out[entity] = Names(title) if entity == stub else Names.of(title, goal.own)
    for entity in todo.left.values():
        out.setdefault(entity, Names(held[entity].own))
    return {entity: names for entity, names in out.items() if names != held.get(entity, Names())}


def touched(todo: AlignPlan) -> list[str]:
    """The ids of all nodes whose names a plan may change or needs, each once: entities, those left, stubs."""
    stubs = [ITEM_PREFIX + item for item in todo.said]
    return list(dict.fromkeys([*todo.said.values(), *todo.left.values(), *stubs]))
