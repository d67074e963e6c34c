"""What type the cells of a whole column have, so that every block of a file comes out alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from kgkit.tabular import Column, Layout, read

# Zeros in front (postal codes, article numbers) and more digits than int64 holds make text, not numbers.
_PATTERNS = {
    "int64": r"^-?(0|[1-9]\d{0,17})$",
    "float64": r"^-?(0|[1-9]\d{0,17})?(\.\d+)?([eE][+-]?\d{1,2})?$",
    "bool": r"^(?i:true|false)$",
}


def narrowest(path: Path, columns: Sequence[str], layout: Layout) -> dict[str, str]:
    """The narrowest kind ("int64", "float64", "bool", else "string") that fits every cell of each column."""
    left = {name: list(_PATTERNS) for name in columns}
    seen: set[str] = set()
    wanted = [Column(name, given=name, nullable=True) for name in columns]
    for table in read(path, wanted, layout):
        if not isinstance(table, pa.Table):
            continue
        for name in columns:
            cells = pc.utf8_trim_whitespace(table[name].drop_null().unique())
            cells = cells.filter(pc.not_equal(cells, ""))
            if len(cells):
                seen.add(name)
                left[name] = [
                    k for k in left[name] if pc.all(pc.match_substring_regex(cells, _PATTERNS[k])).as_py()
                ]
    return {name: left[name][0] if name in seen and left[name] else "string" for name in columns}
