"""How a delimited file is written: its delimiter, quotes and escapes, guessed or given, and where its rows end.

A quote means something at the beginning of a cell only, and closes where a delimiter or the row's end follows it. A
line in which that does not work out is a stray one: it is rejected alone, and the next line begins a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kgkit.errors import ConnectorError

_BY_SUFFIX = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_ATOMIC = {".inter", ".kg", ".link", ".user", ".item"}
WHITESPACE = "whitespace"
_CANDIDATES = ("\t", "::", ";", ",", "|", WHITESPACE)
_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_STAND_IN = "\x1f"  # for delimiters longer than one character
_LONGEST_LINES = 1000  # that one row in quotes may span while its closing quote has not come
_LONGEST_ROW = 16 << 20  # bytes, likewise
STRAY = (
    "a quote that does not close, or that text follows: --escape says how quotes are escaped, "
    "--quote none takes them as they are"
)


@dataclass(frozen=True)
class Dialect:
    """A delimiter ("whitespace": any run of blanks), a quote and an escape character ("": none)."""

    delimiter: str
    quote: str = ""
    escape: str = ""

    @cached_property
    def _patterns(self) -> tuple[str, str, str, str]:
        """Delimiter, inside of quotes, a cell in quotes, a cell without."""
        blank = self.delimiter == WHITESPACE
        delimiter = "[ \\t]+" if blank else re.escape(self.delimiter)
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        inside = f"(?:[^{quote}{escape}]++|{quote}{quote}" + (f"|{escape}[\\s\\S])*+" if escape else ")*+")
        after = "" if blank or self.delimiter == "\t" else "[ \\t]*+"
        quoted = f"{quote}{inside}{quote}{after}(?={delimiter}|\\n|\\Z)"
        if blank:
            one = f"[^ \\t\\n{escape}]"
        elif len(self.delimiter) == 1 and self.delimiter.isascii():
            one = f"[^{delimiter}\\n{escape}]"
        else:
            one = f"(?!{delimiter})[^\\n{escape}]"
        bare = f"(?!{quote})(?:{one}" + (f"|{escape}[^\\n]" if escape else "") + ")*+"
        return delimiter, inside, quoted, bare

    @cached_property
    def _row(self) -> str:
        delimiter, _, quoted, bare = self._patterns
        cell, edge = f"(?:{quoted}|{bare})", "[ \\t]*+" if self.delimiter == WHITESPACE else ""
        return f"{edge}{cell}(?:{delimiter}{cell})*+{edge}"

    @cached_property
    def rows(self) -> re.Pattern[bytes]:
        """Whole rows, as many as come one after the other."""
        return re.compile(f"(?:{self._row}\\n)*+".encode())

    @cached_property
    def row(self) -> re.Pattern[bytes]:
        """One row with its line end, or at the end of the data."""
        return re.compile(f"{self._row}(?:\\n|\\Z)".encode())

    @cached_property
    def unclosed(self) -> re.Pattern[bytes]:
        """A row whose last quote has not closed where the data end."""
        delimiter, inside, quoted, bare = self._patterns
        return re.compile(f"(?:(?:{quoted}|{bare}){delimiter})*{re.escape(self.quote)}{inside}\\Z".encode())

    @cached_property
    def _cell(self) -> re.Pattern[str]:
        _, _, quoted, bare = self._patterns
        return re.compile(f"{quoted}|{bare}")

    @cached_property
    def _between(self) -> re.Pattern[str]:
        return re.compile(self._patterns[0])

    @cached_property
    def _written(self) -> re.Pattern[str]:
        """What stands for one character: a doubled quote, an escaped character."""
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        return re.compile(f"{quote}({quote})" + (f"|{escape}([\\s\\S])" if escape else ""))

    def split(self, row: str) -> list[str]:
        """The cells of one row; of a stray one as if quotes meant nothing."""
        if self.delimiter == WHITESPACE:
            row = row.strip(" \t")
        plain = not self.quote or (self.quote not in row and not (self.escape and self.escape in row))
        if not plain:
            cells, at = [], 0
            while found := self._cell.match(row, at):
                cells.append(self._plain(found[0]))
                at = found.end()
                if at == len(row):
                    return cells
                if not (between := self._between.match(row, at)):
                    break
                at = between.end()
        return row.split() if self.delimiter == WHITESPACE else row.split(self.delimiter)

    def _plain(self, cell: str) -> str:
        if cell.startswith(self.quote):
            inside = cell.rstrip(" \t")[1:-1]
            return self._written.sub(lambda m: m[m.lastindex or 0], inside)
        if self.escape and self.escape in cell:
            return re.sub(re.escape(self.escape) + r"([\s\S])", r"\1", cell)
        return cell

    def by_arrow(self, data: bytes) -> tuple[bytes, str] | None:
        """The same rows with a delimiter that Arrow can take; None where quotes forbid that."""
        if self.delimiter != WHITESPACE and len(self.delimiter) == 1 and self.delimiter.isascii():
            return data, self.delimiter
        if (self.quote and self.quote.encode() in data) or _STAND_IN.encode() in data:
            return None
        if self.delimiter == WHITESPACE:
            data = re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", data)
            return re.sub(rb"[ \t]+", _STAND_IN.encode(), data), _STAND_IN
        return data.replace(self.delimiter.encode(), _STAND_IN.encode()), _STAND_IN


def scan(data: bytes, dialect: Dialect, last: bool) -> tuple[int, list[int]]:
    """Where the last whole row ends, and where stray lines begin. `last`: nothing comes after these data."""
    quote = dialect.quote.encode()
    if not quote or quote not in data:
        return (len(data) if last else data.rfind(b"\n") + 1), []
    at = 0
    stray: list[int] = []
    while True:
        found = dialect.rows.match(data, at)
        at = found.end() if found else at
        if at == len(data):
            return at, stray
        end = data.find(b"\n", at)
        if last:
            if found := dialect.row.match(data, at):
                at = found.end()
                continue
        elif end < 0 or _goes_on(data, at, dialect):
            return at, stray
        stray.append(at)
        at = end + 1 if end >= 0 else len(data)


def _goes_on(data: bytes, at: int, dialect: Dialect) -> bool:
    """Whether the row that begins here may end after the data."""
    if len(data) - at > _LONGEST_ROW or data.count(b"\n", at) > _LONGEST_LINES:
        return False
    found = dialect.row.match(data, at)
    return (found is not None and found.end() == len(data)) or dialect.unclosed.match(data, at) is not None


def spans(data: bytes, dialect: Dialect) -> Iterator[tuple[int, int, int]]:
    """Each row of a block: its line (from 0), where it begins, where it ends (without the line end)."""
    quote = dialect.quote.encode()
    quoted = bool(quote) and quote in data
    at = line = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if quoted and (found := dialect.row.match(data, at)) and found.end() > end + 1:
            end = found.end() - (data[found.end() - 1] == 10)
        yield line, at, end
        line += 1 + data.count(b"\n", at, end)
        at = end + 1


def records(data: bytes, dialect: Dialect) -> list[tuple[int, str]]:
    """The rows of a block with the line (from 0) that each begins on; blank lines too."""
    if not dialect.quote or dialect.quote.encode() not in data:
        lines = data.decode().split("\n")
        if not lines[-1]:
            lines.pop()
        return list(enumerate(lines))
    return [(line, data[start:end].decode()) for line, start, end in spans(data, dialect)]


def dialect_of(path: Path, suffix: str, delimiter: str, quote: str, escape: str, head: bytes) -> Dialect:
    """By options, else by the file's ending if its first line has that delimiter, else by the first lines.

    `quote` "auto": '"' in files with commas and semicolons, and in others where all cells of a column stand in quotes.
    `escape` "auto": a backslash, where more of the first rows can be read with it than without it.
    """
    quote, escape = (_character(path, *given) for given in (("--quote", quote), ("--escape", escape)))
    lines = [line for line in head.decode(errors="replace").split("\n")[:50] if line.strip()]
    chosen = _NAMED.get(delimiter, delimiter)
    if not chosen:
        raise ConnectorError("--delimiter is empty", path)
    if delimiter == "auto":
        if suffix in _ATOMIC:
            return Dialect("\t", "" if quote == "auto" else quote, "" if escape == "auto" else escape)
        chosen = _delimiter(_BY_SUFFIX.get(suffix, ""), lines, quote)
    if quote == "auto":
        quote = '"' if chosen in ",;" or _in_quotes(lines, chosen) else ""
    if chosen in (quote, escape):
        raise ConnectorError("--delimiter, --quote and --escape must be different characters", path)
    if escape != "auto":
        return Dialect(chosen, quote, escape)
    plain, escaped = Dialect(chosen, quote), Dialect(chosen, quote, "\\")
    if not quote or f"\\{quote}".encode() not in head:
        return plain
    return escaped if _readable(head, escaped) > _readable(head, plain) else plain


def _character(path: Path, flag: str, given: str) -> str:
    if given in ("auto", "none", ""):
        return "auto" if given == "auto" else ""
    if len(given) != 1 or given in "\r\n" or not given.isascii():
        raise ConnectorError(f"{flag} must be one ASCII character, auto or none, got {given!r}", path)
    return given


def _delimiter(usual: str, lines: list[str], quote: str) -> str:
    if usual and lines and usual in lines[0]:
        return usual
    for candidate in _CANDIDATES:
        around = ('"' if candidate in ",;" else "") if quote == "auto" else quote
        dialect = Dialect(candidate, around)
        widths = Counter(len(dialect.split(line)) for line in lines)
        width, often = widths.most_common(1)[0] if widths else (1, 0)
        if width > 1 and often * 2 > len(lines):
            return candidate
    return usual or ","


def _in_quotes(lines: list[str], delimiter: str) -> bool:
    """Whether quotes enclose cells: all of some column's (its first may be a name), and none only begins with one."""
    rows = [line.split() if delimiter == WHITESPACE else line.split(delimiter) for line in lines]
    enclosed = [
        [len(c) > 1 and c[0] == c[-1] == '"' and '"' not in c[1:-1] for c in map(str.strip, row)]
        for row in rows
    ]
    below = enclosed[1:] or enclosed
    if any(
        c.strip().startswith('"') and not e
        for row, es in zip(rows, enclosed, strict=True)
        for c, e in zip(row, es, strict=True)
    ):
        return False
    width = min((len(row) for row in below), default=0)
    return any(all(row[i] for row in below) for i in range(width))


def _readable(head: bytes, dialect: Dialect) -> int:
    """How many of the first rows have the commonest width and no stray quote."""
    end, stray = scan(head, dialect, last=False)
    begins = set(stray)
    widths = Counter(
        len(dialect.split(head[start:stop].decode(errors="replace")))
        for _, start, stop in spans(head[:end], dialect)
        if start not in begins
    )
    return widths.most_common(1)[0][1] if widths else 0
