"""Times as people and programs write them, to seconds since 1970 UTC: whole columns at a time where that is possible."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, partial
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.arrays import Bools

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^-?[0-8]?\d{1,18}(\.0*)?$"
_ZONED = re.compile(r"(.*[^\sA-Za-z])\s*([A-Za-z][\w/+-]*)", re.S)
# Zones that RFC 2822 names, and those of Europe; other short names mean several zones.
_HOURS = {"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
          "PST": -8, "PDT": -7, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3}  # fmt: skip
_LAST = 2.0**63


def times(array: pa.Array, formats: tuple[str, ...] = ()) -> tuple[pa.Array, Bools]:
    """Seconds since 1970 (int64) of cells of any type, and which cells are no time. `formats`: of text, the only ones."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("s", tz=kind.tz), safe=False).cast(pa.int64()), _none(array)
    if pa.types.is_date(kind):
        return array.cast(pa.timestamp("s")).cast(pa.int64()), _none(array)
    if pa.types.is_floating(kind):
        return _floats(array.cast(pa.float64()))
    if not pa.types.is_string(kind):
        return _seconds(array.cast(pa.int64())), _none(array)
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)
    if formats:
        return _each(array, array, partial(_by_format, formats=formats))
    array = pc.replace_substring_regex(array, r"(\d)\s*(UTC|GMT)$", r"\1Z")
    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            cast = array.cast(target).cast(pa.timestamp("s", tz=target.tz), safe=False)
            return cast.cast(pa.int64()), _none(array)
        except pa.ArrowInvalid:
            continue
    # A mixture: whole numbers exactly, other numbers by their value, each other distinct text once, by Python.
    none = pa.scalar(None, pa.string())
    whole = pc.if_else(pc.match_substring_regex(array, _WHOLE), array, none)
    seconds = _seconds(pc.replace_substring_regex(whole, r"\.0*$", "").cast(pa.int64()))
    left = pc.and_(pc.is_valid(array), pc.is_null(seconds))
    if not pc.any(left).as_py():
        return seconds, _none(array)
    numbers = pc.if_else(pc.and_(left, pc.match_substring_regex(array, _NUMBER)), array, none)
    values, bad = _floats(pc.replace_substring_regex(numbers, r"^\+", "").cast(pa.float64()))
    rest = pc.if_else(pc.and_(left, pc.is_null(numbers)), array, none)
    others, wrong = _each(rest, array, _iso)
    return pc.coalesce(seconds, values, others), bad | wrong


def _none(array: pa.Array) -> Bools:
    return np.zeros(len(array), bool)


def _floats(values: pa.Array) -> tuple[pa.Array, Bools]:
    """Seconds of numbers with a fraction or an exponent; infinite and far too large ones are bad."""
    fits = pc.and_(pc.is_finite(values), pc.less(pc.abs(values), _LAST))
    bad = ~np.asarray(pc.fill_null(fits, True), dtype=bool)
    whole = pc.floor(pc.if_else(fits, values, pa.scalar(None, pa.float64())))
    return _seconds(whole.cast(pa.int64(), safe=False)), bad


def _each(texts: pa.Array, given: pa.Array, read: Callable[[str], int | None]) -> tuple[pa.Array, Bools]:
    """`read` of each distinct text, and which texts it cannot read."""
    encoded = texts.dictionary_encode()
    parsed = pa.array([read(t) for t in encoded.dictionary.to_pylist()], pa.int64()).take(encoded.indices)
    return parsed, np.asarray(pc.and_(pc.is_valid(texts), pc.is_null(parsed)), dtype=bool)


def _iso(text: str) -> int | None:
    try:
        return _since_1970(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        pass
    if not (found := _ZONED.fullmatch(text)) or (zone := _zone(found[2])) is None:
        return None
    try:
        return _since_1970(datetime.fromisoformat(found[1]).replace(tzinfo=zone))
    except (ValueError, OverflowError):
        return None


def _by_format(text: str, formats: tuple[str, ...]) -> int | None:
    for form in formats:
        zone, rest = None, text
        if form.endswith("%Z"):  # Python itself knows UTC, GMT and the zone of the machine only
            if not (found := _ZONED.fullmatch(text)) or (zone := _zone(found[2])) is None:
                continue
            form, rest = form[:-2].rstrip(), found[1]
        try:
            moment = datetime.strptime(rest, form)
            return _since_1970(moment.replace(tzinfo=zone) if zone else moment)
        except (ValueError, OverflowError):
            continue
    return None


@cache
def _zone(name: str) -> tzinfo | None:
    """A zone by its name: Europe/Berlin, UTC, CET; None for one that is not known."""
    if name.upper() in _HOURS:
        return timezone(timedelta(hours=_HOURS[name.upper()]))
    try:
        return ZoneInfo(name)
    except Exception:  # names that lead to no file, to folders, out of the database
        return None


def _since_1970(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)


def _seconds(values: pa.Array) -> pa.Array:
    """Whole numbers since 1970 of any usual unit, told apart by size, as int64 seconds; dates written YYYYMMDD are dates."""
    whole = _dates(values)
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
