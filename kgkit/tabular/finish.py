"""What is done with cells whatever file they are from: filtered by --where, typed; bad rows become rejects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.errors import ConnectorError
from kgkit.records import Progress, Reject, Skipped
from kgkit.tabular import Column
from kgkit.tabular.columns import Chosen
from kgkit.tabular.convert import convert, reason

Located = tuple[int, str]  # line, text
Output: TypeAlias = pa.Table | Reject | Progress | Skipped


def finish(
    path: Path,
    chosen: Chosen,
    arrays: Sequence[Any],
    locate: Callable[[Sequence[int]], list[Located]],
    rejects: list[Reject],
    done: int,
    total: int,
) -> list[Output]:
    """Filters and types the cells, and turns rows with a bad one into rejects: table, rejects in line order, progress."""
    rows = len(arrays[0]) if arrays else 0
    count = len(chosen.columns)
    left_out = np.zeros(rows, bool)
    output: list[Output] = []
    for (column, _), values, array in zip(chosen.where, chosen.values, arrays[count:], strict=True):
        cells, _ = _converted(path, array, column)
        kept = np.asarray(pc.fill_null(pc.is_in(cells, values), False))
        if n := int((~kept & ~left_out).sum()):
            output.append(
                Skipped(n, f"not --where {column.name}={' or '.join(map(str, values.to_pylist()))}")
            )
        left_out |= ~kept
    bad = np.zeros(rows, bool)
    typed, why = [], {}
    for (column, _), array in zip(chosen.columns, arrays, strict=False):
        values, wrong = _converted(path, array, column)
        if column.optional_row:
            empty = np.asarray(values.is_null()) & ~_blank_rows(chosen, arrays)
            if n := int((empty & ~left_out).sum()):
                output.append(Skipped(n, f"rows without a {column.name}"))
            left_out |= empty
            wrong = wrong & ~empty
        wrong &= ~left_out
        for row in np.flatnonzero(wrong & ~bad).tolist():
            why[row] = reason(plain_cell(array[row]), column)
        bad |= wrong
        typed.append(values)
    table = pa.table(typed, names=[c.name for c, _ in chosen.columns])
    bad &= ~left_out
    why = {row: text for row, text in why.items() if bad[row]}
    seen = rows + len(rejects)
    if bad.any() or left_out.any():
        table = table.filter(pa.array(~(bad | left_out)))
        listed = sorted(why)
        for row, (line, text) in zip(listed, locate(listed) if listed else (), strict=True):
            if text.strip():
                rejects.append(Reject(str(path), line, why[row], text))
            else:
                seen -= 1  # a blank line is no row
    rejects.sort(key=lambda r: r.line)
    return [*([table] if table.num_rows else []), *output, *rejects, Progress(seen, done, total)]


def _blank_rows(chosen: Chosen, arrays: Sequence[Any]) -> Bools:
    """Rows of files of one column that are blank lines: no rows at all."""
    rows = len(arrays[0])
    return np.ones(rows, bool) if len(chosen.all) == 1 else np.zeros(rows, bool)


def _converted(path: Path, array: Any, column: Column) -> tuple[pa.Array, Bools]:
    try:
        return convert(array, column)
    except TypeError as error:
        raise ConnectorError(str(error), path) from None


def plain_cell(value: pa.Scalar) -> object:
    """A cell for a message; of text that is not UTF-8, and of times beyond Python's, what it is meant to be."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return f"a damaged {value.type}"
