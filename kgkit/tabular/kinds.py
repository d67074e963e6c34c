"""What type the cells of a whole column have, so that every block of a file comes out alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from kgkit.tabular import Column, Layout, read
from kgkit.tabular.convert import with_points

# Zeros in front (postal codes, article numbers) and more digits than int64 holds make text, not numbers.
_PATTERNS = {
    "int64": r"^-?(0|[1-9]\d{0,17})$",
    "float64": r"^-?(0|[1-9]\d{0,17})?(\.\d+)?([eE][+-]?\d{1,2})?$",
    "bool": r"^(?i:true|false)$",
}


def narrowest(path: Path, columns: Sequence[Column], layout: Layout) -> dict[str, str]:
    """The narrowest kind ("int64", "float64", "bool", else "string") that fits every cell of each column."""
    left = {column.name: list(_PATTERNS) for column in columns}
    seen: set[str] = set()
    wanted = [replace(column, kind="string", nullable=True) for column in columns]
    for table in read(path, wanted, layout):
        if not isinstance(table, pa.Table):
            continue
        for name in left:
            cells = pc.utf8_trim_whitespace(table[name].drop_null().unique())
            cells = cells.filter(pc.not_equal(cells, ""))
            numbers = with_points(cells) if layout.decimal == "," else cells
            if len(cells):
                seen.add(name)
                left[name] = [
                    k for k in left[name] if pc.all(pc.match_substring_regex(numbers, _PATTERNS[k])).as_py()
                ]
    return {name: left[name][0] if name in seen and left[name] else "string" for name in left}
