"""Where the embedded engine keeps the nodes of a label, by id: looked up without reading all ids again for every batch.

The engine's own key index answers some hundred thousand look-ups a second; a scan of all ids and a hash table of them
costs as much again for every batch. Here both are done once, and from then on only what is new is read. An engine has
one writer, and its `Engine` forgets all of this before anything is deleted or rolled back: until then a node stays where
it is, and as many nodes as are known are all there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgkit.lazy import np, pa
from kgkit.native.id_set import IdSet
from kgkit.schema import identifier

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Ints
    from kgkit.store.ladybug_engine import Engine

SCAN_RATIO = 12  # reading a whole table beats looking ids up when there are more than 1/12 of its rows
MOST = 2_000_000  # nodes, at some 50 bytes each: more are asked for by the key index, some 300,000 a second


class KnownNodes:
    """The engine's offsets of all nodes of a label, by id."""

    def __init__(self, label: str) -> None:
        self._nodes = f"MATCH (n:{identifier(label)})"
        self._label = label
        self._forget()

    def _forget(self) -> None:
        self._ids, self._offsets = IdSet(), np.zeros(0, dtype=np.int64)

    def find(self, engine: Engine, ids: pa.Array, count: int) -> Ints:
        """The offsets of ids, int64 [N], -1 for those that are no nodes. count: how many nodes there are."""
        if len(self._offsets) != count:
            # New ones come last, unless there were gaps that the engine filled.
            self._read(engine, f"WHERE offset(id(n)) > {int(self._offsets.max(initial=-1))}")
        if len(self._offsets) != count:
            self._forget()
            self._read(engine, "")
        place = self._ids.find(ids)
        found: Ints = np.append(self._offsets, -1)[place]  # place -1 is the last
        return found

    def _read(self, engine: Engine, where: str) -> None:
        found = engine.arrow(f"{self._nodes} {where} RETURN n.`id`, offset(id(n))", never_null=True)
        self._ids.add(found.column(0))
        self._offsets = np.append(self._offsets, np.asarray(found.column(1), dtype=np.int64))


class KnownHeads:
    """Which nodes, by the engine's offset, may be heads of stored relationships of a kind: no others are.

    A dump tells the facts of a head together, so what comes next is mostly of heads that nothing is stored of, and need
    not be compared.
    """

    def __init__(self) -> None:
        self._may = np.zeros(0, dtype=bool)

    def add(self, offsets: Ints) -> None:
        """Takes heads, int64 [N]."""
        most = int(offsets.max(initial=-1))
        if most >= len(self._may):
            grown = np.zeros(most + most // 8 + 1, dtype=bool)
            grown[: len(self._may)] = self._may
            self._may = grown
        self._may[offsets] = True

    def may(self, offsets: Ints) -> Bools:
        """bool [N]: whether something may be stored of these heads, int64 [N]."""
        found: Bools = np.append(self._may, False)[np.minimum(offsets, len(self._may))]
        return found


def scan_pays(asked: int, count: int) -> bool:
    """Whether reading all `count` nodes beats looking some up, and there is room for them."""
    return asked * SCAN_RATIO > count and count <= MOST


def offsets_of_ids(engine: Engine, label: str, ids: pa.Array) -> Ints:
    """The engine's offsets of distinct ids, string [N]: int64 [N], -1 for those that are no nodes of the label."""
    count = engine.count(label)
    many = scan_pays(len(ids), count)
    if count > MOST:
        engine.known.pop(label, None)
    # Within a transaction new nodes have offsets for the time being.
    if engine.in_transaction or engine.read_only or count > MOST or not (many or label in engine.known):
        return _asked(engine, label, ids, many)
    return engine.known.setdefault(label, KnownNodes(label)).find(engine, ids, count)


def _asked(engine: Engine, label: str, ids: pa.Array, many: bool) -> Ints:
    """The same, with nothing kept."""
    if many:
        known = KnownNodes(label)
        return known.find(engine, ids, engine.count(label))
    found = engine.arrow(
        f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) RETURN c0, offset(id(n))",
        {"t": pa.table({"c0": ids})},
    )
    asked = IdSet()
    asked.add(ids)
    offsets = np.full(len(ids), -1, dtype=np.int64)
    if found.num_rows:
        offsets[asked.find(found.column(0))] = np.asarray(found.column(1), dtype=np.int64)
    return offsets
