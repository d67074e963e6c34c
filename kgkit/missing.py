"""Which facts a graph may lack: who could stand at an end of a relation, and does not.

A *slot* is one end of one relation: (film.film.genre, head). Nobody tells kgkit what is a film; the slots that an
entity takes tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kgkit.graph import distinct
from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Ints
    from kgkit.graph import TrainingGraph, Triples

Side = Literal["head", "tail"]  # what is asked for: the tail of (h, r, ?), or the head of (?, r, t)
SIDES: tuple[Side, ...] = ("tail", "head")

TYPICAL = (
    0.5  # a slot tells of another one's kind of entity when it has this share of the other's members ...
)
SPECIFIC = 0.25  # ... and they are this share of its own


@dataclass(frozen=True)
class Questions:
    """(h, r, ?) or (?, r, t) of one relation r. given: int64 [Q], candidates: int64 [C], both ascending.

    reflexive: whether an entity may be the answer to a question about itself.
    """

    relation: int
    side: Side
    given: Ints
    candidates: Ints
    reflexive: bool

    def __len__(self) -> int:
        return len(self.given)

    def facts(self, triples: Triples) -> tuple[Ints, Ints]:
        """The facts of this relation among some, as (given, answer), int64 [N] each."""
        of = triples.relation == self.relation
        head, tail = triples.head[of], triples.tail[of]
        return (head, tail) if self.side == "tail" else (tail, head)


class Slots:
    """Who takes which slot in a graph. `seen`: bool [entities], those that may ask or answer at all."""

    def __init__(self, graph: TrainingGraph, seen: Bools) -> None:
        self._graph, self._seen = graph, seen
        t, n, relations = graph.triples, len(graph.entities), len(graph.relations)
        # Slot 2r is the head of r, 2r + 1 its tail; the last one, 2R, is to be an item.
        keys = distinct(
            np.concatenate(
                [
                    2 * t.relation * n + t.head,
                    (2 * t.relation + 1) * n + t.tail,
                    2 * relations * n + graph.item_entity,
                ]
            )
        )
        self._slot, self._entity = np.divmod(keys, n)
        self._size = np.bincount(self._slot, minlength=2 * relations + 1)
        self._start = np.append(0, np.cumsum(self._size))

    def members(self, relation: int, end: Side) -> Ints:
        """The entities that are seen at an end of a relation, int64 [M], ascending."""
        return self._of(2 * relation + (end == "tail"))

    def akin(self, relation: int, end: Side) -> Ints:
        """The entities that could stand at an end of a relation, int64 [M], ascending, its members among them.

        These are the members of every slot that half of the relation's own members take (TYPICAL) and of which they
        are a quarter (SPECIFIC): what has a director could have a genre if most of what has a genre has a director,
        and not what has a name. Being an item counts as a slot.
        """
        own = 2 * relation + (end == "tail")
        inside = np.zeros(len(self._seen), dtype=bool)
        inside[self._of(own)] = True
        shared = np.bincount(self._slot[inside[self._entity]], minlength=len(self._size))
        telling = (shared >= TYPICAL * self._size[own]) & (shared >= SPECIFIC * self._size) & (shared > 0)
        found = np.zeros(len(self._seen), dtype=bool)
        found[self._entity[telling[self._slot]]] = True
        return np.flatnonzero(found)

    def questions(self, relation: int, side: Side, *, types: bool, all_heads: bool) -> Questions:
        """What to ask of a relation on one side.

        Asked are the entities without a fact of it there, of those that could have one (`akin`); without `types` all
        entities. `all_heads` asks those that have some too. Candidates are the relation's observed members at the
        asked end, without `types` all entities. Entities that are not `seen` neither ask nor answer.
        """
        end: Side = "head" if side == "tail" else "tail"
        everyone = np.arange(len(self._seen), dtype=np.int64)
        has = self.members(relation, end)
        given = self.akin(relation, end) if types else everyone
        if not all_heads:
            given = np.setdiff1d(given, has, assume_unique=True)
        candidates = self.members(relation, side) if types else everyone
        t = self._graph.triples
        itself = (t.relation == relation) & (t.head == t.tail)
        return Questions(
            relation, side, given[self._seen[given]], candidates[self._seen[candidates]], bool(itself.any())
        )

    def _of(self, slot: int) -> Ints:
        return self._entity[self._start[slot] : self._start[slot + 1]]
