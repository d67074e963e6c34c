"""Which ids a graph can hold: on their way in, rows with others become rejects; stores refuse them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kgkit.errors import StoreError
from kgkit.lazy import pa, pc
from kgkit.records import Alignments, AttributeFacts, Data, Facts, Features, Purchases, Reject
from kgkit.schema import ITEM_PREFIX, MAX_ID_BYTES

LOCATED = 100  # rejects whose lines are looked for: each time a file is read
_SHOWN = 60  # characters of an id in a list


def check_lengths(table: pa.Table, columns: Sequence[str]) -> None:
    """Raises StoreError for an id of a table that is longer than MAX_ID_BYTES."""
    for name in columns:
        if name not in table.column_names:
            continue
        for chunk in table[name].chunks:
            texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            most = pc.max(pc.binary_length(texts)).as_py() if pa.types.is_string(texts.type) else None
            if most is not None and most > MAX_ID_BYTES:
                raise StoreError(
                    f"{name} of {most:,} bytes: a graph takes ids and names of at most {MAX_ID_BYTES:,}"
                )


class Sound:
    """The records of one source without rows whose ids no graph can hold, or that would be taken for an item's.

    `files` are looked through for the lines of the first LOCATED of them; of more, of packed files and of tables that are
    no text, the line is 0, unknown.
    """

    def __init__(self, files: Sequence[Path], source: str) -> None:
        self._files, self._source = files, source
        self._located: set[tuple[Path, int]] = set()
        self._searched = 0

    def of(self, record: Data) -> Iterator[Data | Reject]:
        """The rejects of a record, in the order of its rows, then the record without them."""
        table = record.table
        checked = [(name, _text(table[name]), check) for name, check in _checks(record)]
        if isinstance(record, AttributeFacts):
            made = pc.binary_join_element_wise(_text(table["relation"]), _text(table["value"]), ":")
            checked += [("relation and value", made, check) for check in (_long(0), _TAKEN)]
        why: dict[int, tuple[str, str]] = {}
        for name, column, check in checked:
            found = check.bad(column)
            if not pc.any(found).as_py():
                continue
            for row in np.flatnonzero(np.asarray(pc.fill_null(found, False))).tolist():
                why.setdefault(row, (f"{name}: {check.reason}", column[row].as_py()[:_SHOWN]))
        if not why:
            yield record
            return
        for row in sorted(why):
            cells = [value for value in table.slice(row, 1).to_pylist()[0].values() if isinstance(value, str)]
            yield Reject(*self._place(cells), *why[row])
        good = np.ones(table.num_rows, bool)
        good[list(why)] = False
        yield dataclasses.replace(record, table=table.filter(pa.array(good)))

    def _place(self, cells: list[str]) -> tuple[str, int]:
        """The file and the first line, of those not yet given, that holds all cells of a row as they are."""
        self._searched += 1
        wanted = [cell.encode() for cell in cells]
        for path in self._files if self._searched <= LOCATED else ():
            if path.is_file():
                with path.open("rb") as lines:
                    for number, line in enumerate(lines, 1):
                        if all(cell in line for cell in wanted) and (path, number) not in self._located:
                            self._located.add((path, number))
                            return str(path), number
        return (str(self._files[0]) if len(self._files) == 1 else self._source), 0


@dataclasses.dataclass(frozen=True)
class _Check:
    bad: Callable[[pa.ChunkedArray], pa.ChunkedArray]
    reason: str


def _long(added: int) -> _Check:
    most = MAX_ID_BYTES - added
    return _Check(
        lambda column: pc.greater(pc.binary_length(column), most),
        f"longer than the {most:,} bytes that a graph takes: shorten it",
    )


_TAKEN = _Check(
    lambda column: pc.starts_with(column, ITEM_PREFIX),
    f"an entity's id must not begin with {ITEM_PREFIX!r}, which is the name of an item without an entity: give the "
    "entity another id",
)


def _checks(record: Data) -> list[tuple[str, _Check]]:
    item, entity, name = [_long(len(ITEM_PREFIX))], [_long(0), _TAKEN], [_long(0)]
    if isinstance(record, Facts):
        columns = {"head": entity, "relation": name, "tail": entity}
    elif isinstance(record, Purchases):
        columns = {"user": name, "item": item}
    elif isinstance(record, Alignments):
        columns = {
            "item": item,
            "entity": name,
        }  # `item:<id>` takes an item back; of others an alignment tells itself
    else:
        assert isinstance(record, Features | AttributeFacts)
        columns = {"key": {"user": name, "item": item, "entity": entity}[record.of]}
    return [(column, check) for column, checks in columns.items() for check in checks]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_string(column.type) else column.cast(pa.string())
