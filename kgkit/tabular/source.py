"""From a path to blocks of UTF-8 bytes that end at a row's end: compression, encoding, truncation, lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kgkit.errors import ConnectorError
from kgkit.tabular.unpack import COMPRESSED, Piece, unpacked_ahead

BLOCK = 2 << 20
LONGEST_ROW = 16 << 20  # a quote that does not close within this many bytes is taken for a stray one
_NEWLINE = 10
_BOMS = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Block:
    """Whole rows of a text file: `line` is the 1-based number of the first; done, total are bytes on disk."""

    data: bytes
    line: int
    done: int
    total: int
    unbalanced: bool = False  # quotes do not pair up: read it row by row


def suffix_of(path: Path) -> str:
    """The ending that tells the format, without that of the compression: `log.csv.gz` is ".csv"."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _utf8(path: Path, encoding: str, size: int) -> Iterator[Piece]:
    """The same bytes as UTF-8 without a byte order mark."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConnectorError(
            f"unknown --encoding {encoding!r}: try utf-8, latin-1, cp1252 or utf-16", path
        ) from None
    decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)()
    first = True
    for chunk, done, total in unpacked_ahead(path, size):
        if first and decoder is None and chunk[:2] in _BOMS:
            raise ConnectorError("the file is UTF-16: use --encoding utf-16", path)
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk).encode()
            except UnicodeDecodeError as error:
                raise ConnectorError(
                    f"not {encoding}: {error.reason}; try another --encoding", path
                ) from None
        if first and chunk.startswith(codecs.BOM_UTF8):
            chunk = chunk[3:]
        first = False
        yield chunk, done, total


def _cut(data: bytes, quoted: bool) -> int:
    """Where the last whole row ends, 0 when there is none: a newline inside quotes ends no row."""
    end = data.rfind(b"\n") + 1
    if not quoted or not end or b'"' not in data:
        return end
    odd = data.count(b'"', 0, end) % 2 == 1
    while end and odd:
        before = data.rfind(b"\n", 0, end - 1) + 1
        odd ^= data.count(b'"', before, end) % 2 == 1
        end = before
    return end


def blocks(path: Path, encoding: str = "utf-8", quoted: bool = False, size: int = BLOCK) -> Iterator[Block]:
    """The file in blocks of about `size` bytes that end at row ends (newlines inside quotes when `quoted`).

    Raises ConnectorError for what `check_file` finds, a truncated or damaged stream, bytes that are not text.
    """
    rest, line, done, total = b"", 1, 0, 0
    for chunk, done, total in _utf8(path, encoding, size):
        rest += chunk
        end, unbalanced = _cut(rest, quoted), False
        if not end and quoted and len(rest) > LONGEST_ROW:
            end, unbalanced = rest.rfind(b"\n") + 1, True
        if end:
            data, rest = rest[:end], rest[end:]
            yield _checked(path, Block(data, line, done, total, unbalanced))
            line += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _NEWLINE))
    if rest:
        odd = quoted and rest.count(b'"') % 2 == 1
        yield _checked(path, Block(rest, line, done, total, odd))
    elif line == 1:
        raise ConnectorError("the file is empty", path)


def _checked(path: Path, block: Block) -> Block:
    data = block.data
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as error:
        line = block.line + data.count(b"\n", 0, error.start)
        raise ConnectorError(
            f"byte {data[error.start]:#04x} is not UTF-8: use --encoding latin-1, or what it is written in",
            path,
            line,
        ) from None
    if b"\0" in data:
        line = block.line + data.count(b"\n", 0, data.index(b"\0"))
        raise ConnectorError("a NUL byte: not text, or use --encoding utf-16", path, line)
    return block
