"""Cells to types, whole columns at a time: each function gives the typed array and a mask of those that failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.tabular import Column
from kgkit.tabular.times import times

WORDS = {
    "string": "text or a number",
    "id": "text or a number",
    "int64": "a whole number",
    "float64": "a finite number",
    "bool": "true or false",
    "time": "a time (seconds since 1970, or ISO 8601 such as 2024-05-31 or 2024-05-31T10:00:00Z, or 20240531; other "
    "ways by --time-format)",
}
_FLOAT = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^-?[0-8]?\d{1,18}$"  # what int64 surely holds
_WHOLE_ID = r"^(-?)(0|[1-9]\d*)\.0+$"
_GROUPED = r"^\s*-?\d{1,3}(\.\d{3})+(,\d+)?\s*$"  # 1.234.567,8


def convert(array: pa.Array, column: Column) -> tuple[pa.Array, Bools]:
    """Cells of any Arrow type as the column's kind; the mask says which rows must be rejected.

    Raises TypeError when no cell of such a type can be meant (lists, structs, times of the day).
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # Arrow joins no chunks of some types
            array = pa.concat_arrays(array.chunks)
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        raise TypeError(f"column {column.name} holds {kind}: {WORDS[column.kind]} was expected")
    return _by_halves(array, column)


def _by_halves(array: pa.Array, column: Column) -> tuple[pa.Array, Bools]:
    """Where Arrow refuses a whole array for one cell, the halves are tried, so that this cell alone is bad."""
    try:
        return _at_once(array, column)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        if len(array) < 2:
            return pa.nulls(len(array), _TYPES.get(column.kind, pa.string())), np.ones(len(array), bool)
    middle = len(array) // 2
    parts = [_by_halves(half, column) for half in (array[:middle], array[middle:])]
    return pa.concat_arrays([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _at_once(array: pa.Array, column: Column) -> tuple[pa.Array, Bools]:
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        array = array.cast(pa.string())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        array = array.cast(pa.string())  # raises for what is not UTF-8
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.string() if column.kind in ("string", "id") else pa.float64())
    elif pa.types.is_null(kind):
        array = array.cast(pa.string())
    if pa.types.is_string(array.type):
        array.validate(full=True)  # a Parquet or Arrow file may say of any bytes that they are text
    if column.kind == "time":
        values, bad = times(array, column.times)
    else:
        if column.decimal == "," and column.kind in ("int64", "float64") and pa.types.is_string(array.type):
            array = with_points(array)
        values, bad = _KINDS[column.kind](array)
    if not column.nullable:
        bad |= _flags(values.is_null())
    if column.ge is not None:
        bad |= _flags(pc.less(values, column.ge))
    if column.le is not None:
        bad |= _flags(pc.greater(values, column.le))
    return values, bad


def with_points(array: pa.Array) -> pa.Array:
    """Numbers with a decimal comma (1.234,5) as Arrow reads them (1234.5); a point that groups no digits makes none."""
    grouped = pc.fill_null(pc.match_substring_regex(array, _GROUPED), False)
    array = pc.if_else(grouped, pc.replace_substring(array, ".", ""), array)
    pointed = pc.fill_null(pc.match_substring(array, "."), False)
    return pc.if_else(
        pointed, pc.binary_join_element_wise(array, "?", ""), pc.replace_substring(array, ",", ".")
    )


def reason(cell: Any, column: Column) -> str:
    """Why a cell was rejected."""
    if isinstance(cell, bytes):
        cell = cell.decode(errors="replace")
    text = "" if cell is None else str(cell)
    if not text.strip():
        return f"{column.name} is empty"
    bound = "" if column.ge is None else f", {column.ge:g} or more"
    bound += "" if column.le is None else f", at most {column.le:g}"
    return f"{column.name} must be {WORDS[column.kind]}{bound}, got {text[:80]!r}"


def _flags(mask: pa.Array) -> Bools:
    filled: Bools = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return np.array(filled)  # a copy of its own: Arrow's is read-only


def _none(array: pa.Array) -> Bools:
    return np.zeros(len(array), bool)


def _blank_to_null(array: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _matching(array: pa.Array, pattern: str) -> tuple[pa.Array, Bools]:
    """The cells that match (others null), and which non-null cells did not."""
    fits = pc.match_substring_regex(array, pattern)
    return pc.if_else(fits, array, pa.scalar(None, pa.string())), ~_flags(pc.fill_null(fits, True))


def _text(array: pa.Array) -> pa.Array:
    """Numbers as text, a value at a time: whole ones without ".0"."""
    if not pa.types.is_floating(array.type):
        return array.cast(pa.string())
    array = array.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), 2.0**63))
    whole = pc.fill_null(whole, False)
    numbers = pc.if_else(whole, array, 0.0).cast(pa.int64(), safe=False).cast(pa.string())
    return pc.if_else(whole, numbers, array.cast(pa.string()))


def _string(array: pa.Array) -> tuple[pa.Array, Bools]:
    if not pa.types.is_string(array.type):
        return _text(array), _none(array)
    if len(array) and pc.min(pc.binary_length(array)).as_py() == 0:
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)
    return array, _none(array)


def ids(array: pa.Array) -> tuple[pa.Array, Bools]:
    """The rule for ids, of users, items, entities and relations alike, in every format: see `Column`."""
    if not pa.types.is_string(array.type):
        bad = _none(array)
        if pa.types.is_floating(array.type):
            bad = _flags(pc.invert(pc.is_finite(array.cast(pa.float64()))))
        array = _text(array)
        return array, bad
    array = _blank_to_null(array)
    if pc.any(pc.match_substring(array, ".0")).as_py():
        array = pc.replace_substring_regex(array, _WHOLE_ID, r"\1\2")
        array = pc.if_else(pc.equal(array, "-0"), "0", array)
    return array, _none(array)


def _float(array: pa.Array) -> tuple[pa.Array, Bools]:
    bad = _none(array)
    if pa.types.is_string(array.type):
        array = _blank_to_null(array)
        try:
            values = array.cast(pa.float64())
        except pa.ArrowInvalid:
            array, bad = _matching(array, _FLOAT)
            values = array.cast(pa.float64())
    else:
        values = array.cast(pa.float64(), safe=False)  # of whole numbers beyond 2^53 the nearest
    return values, bad | _flags(pc.invert(pc.is_finite(values)))


def _int(array: pa.Array) -> tuple[pa.Array, Bools]:
    bad = _none(array)
    if pa.types.is_string(array.type):
        array = pc.replace_substring_regex(_blank_to_null(array), r"\.0*$", "")
        array, bad = _matching(array, _WHOLE)
    elif pa.types.is_floating(array.type):
        whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), 2.0**53))
        bad = ~_flags(pc.fill_null(whole, True))
        array = pc.if_else(whole, array, pa.scalar(None, array.type))
    return array.cast(pa.int64()), bad


def _bool(array: pa.Array) -> tuple[pa.Array, Bools]:
    if pa.types.is_boolean(array.type):
        return array, _none(array)
    text = pc.utf8_lower(_blank_to_null(array.cast(pa.string())))
    yes = pc.is_in(text, pa.array(["true", "1", "yes"]))
    no = pc.is_in(text, pa.array(["false", "0", "no"]))
    known = pc.or_(yes, no)
    bad = _flags(pc.and_(pc.is_valid(text), pc.invert(known)))
    return pc.if_else(known, yes, pa.scalar(None, pa.bool_())), bad


_KINDS = {"string": _string, "id": ids, "float64": _float, "int64": _int, "bool": _bool, "time": times}
_TYPES = {"float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_(), "time": pa.int64()}
