"""Where the embedded engine keeps the nodes of a label, by id: looked up without reading all ids again for every batch.

The engine's own key index answers some hundred thousand look-ups a second; a scan of all ids and a hash table of them
costs as much again for every batch. Here both are done once, and from then on only what is new is read. An engine has
one writer, and its `Engine` forgets all of this before anything is deleted or rolled back: until then a node stays where
it is, and as many nodes as are known are all there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kgkit.lazy import np, pa
from kgkit.native.id_set import IdSet
from kgkit.schema import identifier

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Ints
    from kgkit.store.ladybug_engine import Engine

SCAN_RATIO = 12  # reading a range of nodes beats looking ids up when there are more than 1/12 of them
PASS_RATIO = 500  # how many nodes can be passed over while one is looked up
MOST = 2_000_000  # nodes, at some 50 bytes each: of more, none are kept
READ_ROWS = 1_000_000  # nodes that are read at once, where they are not kept
# The key index touches a page for each id: 260 MB for so many of ten million nodes.
ASK_ROWS = 100_000


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


def within(variable: str, low: int, high: int | None) -> list[str]:
    """Conditions for `where`: the node's offset is at least `low`, and below `high` where that is given.

    The engine reads nothing of the nodes without, whatever it reads of those within.
    """
    offset = f"offset(id({variable}))"
    return [f"{offset} >= {low}"] * (low > 0) + [f"{offset} < {high}" for _ in [high] if high is not None]


def where(*conditions: str) -> str:
    """The clause that all of some conditions hold, with a space before it; nothing of none."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def scan_pays(engine: Engine, label: str, offsets: Ints) -> bool:
    """Whether reading all nodes in the range of some, int64 [N > 0], beats looking these up by id.

    Finding the range takes a look at the number of each node, wherever the range is.
    """
    span = int(offsets.max()) + 1 - int(offsets.min())
    return len(offsets) * SCAN_RATIO > span and len(offsets) * PASS_RATIO > engine.count(label)


def ranges(nodes: int, parts: int) -> Iterator[tuple[int, int | None]]:
    """Ranges of offsets for `within` that part a label's nodes; the last has no end, as deleted ones leave gaps."""
    for part in range(parts):
        low, high = (at * nodes // parts for at in (part, part + 1))
        yield low, None if part == parts - 1 else high


def offsets_of_ids(engine: Engine, label: str, ids: pa.Array) -> Ints:
    """The engine's offsets of distinct ids, string [N]: int64 [N], -1 for those that are no nodes of the label."""
    count = engine.count(label)
    many = len(ids) * SCAN_RATIO > count
    if count > MOST:
        engine.known.pop(label, None)
    # Within a transaction new nodes have offsets for the time being.
    if engine.in_transaction or engine.read_only or count > MOST or not (many or label in engine.known):
        return _asked(engine, label, ids, many)
    return engine.known.setdefault(label, KnownNodes(label)).find(engine, ids, count)


def _asked(engine: Engine, label: str, ids: pa.Array, many: bool) -> Ints:
    """The same, with nothing kept: with `many` all nodes are read, else these are looked up."""
    asked = IdSet()
    asked.add(ids)
    offsets = np.full(len(ids) + 1, -1, dtype=np.int64)  # the last is of nodes that nobody asks for
    if many:
        for found in ids_and_offsets(engine, label):
            offsets[asked.find(found.column(0))] = np.asarray(found.column(1), dtype=np.int64)
            del found  # before others are read
    else:
        for start in range(0, len(ids), ASK_ROWS):
            found = engine.arrow(
                f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) RETURN c0, offset(id(n))",
                {"t": pa.table({"c0": ids.slice(start, ASK_ROWS)})},
            )
            if found.num_rows:
                offsets[asked.find(found.column(0))] = np.asarray(found.column(1), dtype=np.int64)
    return offsets[:-1]


def ids_and_offsets(engine: Engine, label: str) -> Iterator[pa.Table]:
    """Ids of all nodes of a label and the engine's offsets of them, some at a time."""
    count = engine.count(label)
    for part in ranges(count, 1 + count // READ_ROWS):
        among = where(*within("n", *part))
        yield engine.arrow(
            f"MATCH (n:{identifier(label)}){among} RETURN n.`id`, offset(id(n))", never_null=True
        )


def properties_at(engine: Engine, label: str, ids: pa.Array, offsets: Ints, names: Sequence[str]) -> pa.Table:
    """Properties of nodes by their distinct ids, string [N > 0], and the engine's offsets of them, int64 [N]."""
    returned = ", ".join(["offset(id(n))", *(f"n.{identifier(name)}" for name in names)])
    low, end = int(offsets.min()), int(offsets.max()) + 1
    if end - low <= MOST and scan_pays(engine, label, offsets):
        among = where(*within("n", low, end))
        found = engine.arrow(f"MATCH (n:{identifier(label)}){among} RETURN {returned}")
    else:
        found = engine.arrow(
            f"LOAD FROM $t MATCH (n:{identifier(label)} {{`id`: c0}}) RETURN {returned}",
            {"t": pa.table({"c0": ids})},
        )
    found = found.rename_columns(["", *names])
    at = np.asarray(found[""], dtype=np.int64)
    order = np.argsort(at)
    return found.select(list(names)).take(pa.array(order[np.searchsorted(at, offsets, sorter=order)]))
