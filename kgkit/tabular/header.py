"""Whether the first row of a file names its columns: one rule for every connector.

1. --header and --no-header say so.
2. A column that is asked for by name (--user customer) needs a header; RecBole's `name:type` is one.
3. A row with the usual names of two of the columns (of all that are required, where that is one) is a header.
4. A row with a number or a date is data.
5. A row of text above a column of nothing but numbers or dates is a header, and so is one whose cells all end in "id".
6. Otherwise it is unsure, and said: data where columns are asked for by position or where files of this kind usually
   have no header (triples, alignments), else a header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kgkit.tabular import Column, Layout

_VALUE = re.compile(
    r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|\d{4}-\d\d?-\d\d?.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*"
)


class Verdict(NamedTuple):
    """Whether there is a header, and what a person should know about it ("": nothing)."""

    header: bool
    warning: str = ""


def plain(name: str) -> str:
    """A name as usual names are compared: without case, '_', '-' and what follows ':'."""
    return re.sub(r"[\W_]", "", name.split(":")[0]).lower()


def verdict(
    first: Sequence[str], below: Sequence[Sequence[str]], columns: Sequence[Column], layout: Layout
) -> Verdict:
    """The rule above. first: the cells of the first row; below: those of the rows after it."""
    number = next((cell for cell in first if is_value(cell)), None)
    if layout.header is not None:
        doubt = layout.header and number is not None
        return Verdict(
            layout.header,
            f"row 1 is taken for the header, though {number!r} is no name: use --no-header if it is data"
            if doubt
            else "",
        )
    if any(c.given is not None and not c.given.isdigit() for c in columns):
        return Verdict(True)
    if first and all(re.fullmatch(r"\w+:(token|float)(_seq)?", cell) for cell in first):
        return Verdict(True)
    names = {plain(cell) for cell in first}
    hits = sum(any(plain(u) in names for u in c.usual) for c in columns if c.usual)
    required = sum(c.required for c in columns if c.usual)
    if hits and hits >= min(2, required or 2):
        odd = f", though {number!r} is no name: use --no-header if it is data" if number is not None else ""
        return Verdict(True, f"row 1 is taken for the header{odd}" if odd else "")
    if number is not None:
        said = "row 1 is taken for data, as {!r} is no name: use --header if it names the columns"
        return Verdict(False, said.format(number) if layout.likely_header else "")
    if _stands_out(first, below):
        return Verdict(True)
    if len(first) > 1 and all(plain(cell).endswith("id") for cell in first):
        return Verdict(
            True, "row 1 is taken for the header, as its cells end in 'id': use --no-header if it is data"
        )
    if any(c.given is not None for c in columns) and all(c.given is not None for c in columns if c.required):
        return Verdict(
            False, "row 1 is taken for data, as columns are given by position: use --header if it is none"
        )
    if layout.likely_header and columns:
        return Verdict(True, "row 1 is taken for the header: use --no-header if it is data")
    return Verdict(layout.likely_header)


def is_value(cell: str) -> bool:
    """Whether a cell is a number or a date, and hardly a name."""
    return _VALUE.fullmatch(cell.strip()) is not None


def _stands_out(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Text above a column of which all cells (some may be empty) are numbers or dates."""
    for i, name in enumerate(first):
        cells = [row[i] for row in below if i < len(row) and row[i].strip()]
        if name.strip() and cells and all(map(is_value, cells)):
            return True
    return False
