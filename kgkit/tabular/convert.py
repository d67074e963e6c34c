"""Cells to types, whole columns at a time: each function gives the typed array and a mask of those that failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools
from kgkit.tabular import Column

WORDS = {
    "string": "text or a number",
    "int64": "a whole number",
    "float64": "a finite number",
    "bool": "true or false",
    "time": "a time (seconds since 1970, or ISO 8601 such as 2024-05-31 or 2024-05-31T10:00:00Z, or 20240531)",
}
_FLOAT = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^-?[0-8]?\d{1,18}$"  # what int64 surely holds
_EPOCH = r"^-?[0-8]?\d{1,18}(\.\d*)?$"


def convert(array: pa.Array, column: Column) -> tuple[pa.Array, Bools]:
    """Cells of any Arrow type as the column's kind; the mask says which rows must be rejected.

    Raises TypeError when no cell of such a type can be meant (lists, structs).
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_binary(kind):
        array = array.cast(pa.string())
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif pa.types.is_null(kind):
        array = array.cast(pa.string())
    elif pa.types.is_nested(kind):
        raise TypeError(f"column {column.name} holds {kind}: {WORDS[column.kind]} was expected")
    values, bad = _KINDS[column.kind](array)
    if not column.nullable:
        bad |= _flags(values.is_null())
    if column.ge is not None:
        bad |= _flags(pc.less(values, column.ge))
    return values, bad


def reason(cell: Any, column: Column) -> str:
    """Why a cell was rejected."""
    text = "" if cell is None else str(cell)
    if not text.strip():
        return f"{column.name} is empty"
    bound = "" if column.ge is None else f", {column.ge:g} or more"
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


def _string(array: pa.Array) -> tuple[pa.Array, Bools]:
    if not pa.types.is_string(array.type):
        if pa.types.is_floating(array.type):  # ids that pandas made floats: 17.0 means 17
            whole = pc.fill_null(pc.equal(pc.floor(array), array), True)
            if pc.all(whole).as_py():
                array = array.cast(pa.int64(), safe=False)
        return array.cast(pa.string()), _none(array)
    if len(array) and pc.min(pc.binary_length(array)).as_py() == 0:
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)
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
        values = array.cast(pa.float64())
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


def _time(array: pa.Array) -> tuple[pa.Array, Bools]:
    kind = array.type
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("s", tz=kind.tz), safe=False).cast(pa.int64()), _none(array)
    if pa.types.is_date(kind):
        return array.cast(pa.timestamp("s")).cast(pa.int64()), _none(array)
    if not pa.types.is_string(kind):
        values, bad = _float(array) if pa.types.is_floating(kind) else (array.cast(pa.int64()), _none(array))
        return _seconds(values), bad
    array = _blank_to_null(array)
    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return array.cast(target).cast(pa.timestamp("s", tz=target.tz), safe=False).cast(
                pa.int64()
            ), _none(array)
        except pa.ArrowInvalid:
            continue
    numbers, _ = _matching(array, _EPOCH)
    seconds = _seconds(pc.replace_substring_regex(numbers, r"\.\d*$", "").cast(pa.int64()))
    left = pc.and_(pc.is_valid(array), pc.is_null(seconds))
    if not pc.any(left).as_py():
        return seconds, _none(array)
    # A mixture: each distinct text once, by Python.
    texts = pc.if_else(left, array, pa.scalar(None, pa.string())).dictionary_encode()
    parsed = pa.array([_iso(t) for t in texts.dictionary.to_pylist()], pa.int64())
    iso = parsed.take(texts.indices)
    return pc.coalesce(seconds, iso), _flags(pc.and_(left, pc.is_null(iso)))


def _iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)


def _seconds(values: pa.Array) -> pa.Array:
    """Numbers since 1970 of any usual unit, told apart by size, as int64 seconds; dates written YYYYMMDD are dates."""
    whole = values if pa.types.is_integer(values.type) else pc.floor(values).cast(pa.int64())
    whole = _dates(whole.cast(pa.int64()))
    size = pc.abs(whole)
    top = pc.max(size).as_py()
    if top is None or top < 10**11:
        return whole
    divisor = pa.scalar(1)
    for least, per_second in ((10**11, 10**3), (10**14, 10**6), (10**17, 10**9)):
        divisor = pc.if_else(pc.greater_equal(size, least), per_second, divisor)
    return pc.divide(whole, divisor)


def _dates(whole: pa.Array) -> pa.Array:
    """Seconds of the days that 19000101 to 21001231 write; as seconds these would all be of August 1970.

    Numbers that write no day of the calendar (19991301, 20240230) stay what they are.
    """
    given = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((given >= 19000101) & (given <= 21001231))
    if not len(rows):
        return whole
    year, month, day = given[rows] // 10000, given[rows] // 100 % 100, given[rows] % 100
    months = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]") + (day - 1)
    real = (
        (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]").astype(np.int64) == months)
    )
    seconds = given.copy()
    seconds[rows[real]] = days[real].astype("datetime64[s]").astype(np.int64)
    return pa.array(seconds, pa.int64(), mask=np.asarray(whole.is_null()))


_KINDS = {"string": _string, "float64": _float, "int64": _int, "bool": _bool, "time": _time}
