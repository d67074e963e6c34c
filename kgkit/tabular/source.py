"""From a path to blocks of UTF-8 bytes that end at a row's end: compression, encoding, truncation, lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kgkit.errors import ConnectorError
from kgkit.tabular.dialect import STRAY, Dialect, scan, spans
from kgkit.tabular.unpack import COMPRESSED, Piece, unpacked_ahead

BLOCK = 2 << 20
_NEWLINE = 10
_PLAIN = Dialect("\n")  # lines without quotes
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
    rejects: tuple[tuple[int, str, str], ...] = ()  # line, reason, text of rows that are left blank in `data`


def suffix_of(path: Path) -> str:
    """The ending that tells the format, without that of the compression: `log.csv.gz` is ".csv"."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _utf8(path: Path, encoding: str, size: int) -> Iterator[Piece]:
    """The same text as UTF-8 without a byte order mark, each line ended by a newline.

    What is not in the encoding becomes bytes that are not UTF-8, so that only their rows are lost.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConnectorError(
            f"unknown --encoding {encoding!r}: try utf-8, latin-1, cp1252 or utf-16", path
        ) from None
    decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)("surrogateescape")
    first, held = True, b""
    done = total = 0

    def text(chunk: bytes, last: bool) -> bytes:
        if decoder is None:
            return chunk
        try:
            return decoder.decode(chunk, last).encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            why = getattr(error, "reason", None) or str(error)
            raise ConnectorError(f"not {encoding}: {why}; try another --encoding", path) from None

    for chunk, done, total in unpacked_ahead(path, size):
        if first and decoder is None and chunk[:2] in _BOMS:
            raise ConnectorError("the file is UTF-16: use --encoding utf-16", path)
        chunk = held + text(chunk, False)
        if first and chunk.startswith(codecs.BOM_UTF8):
            chunk = chunk[3:]
        first, held = False, b""
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):  # its newline may be the next chunk's first byte
                chunk, held = chunk[:-1], b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield chunk, done, total
    if rest := held.replace(b"\r", b"\n") + text(b"", True):
        yield rest, done, total


def blocks(
    path: Path, encoding: str = "utf-8", dialect: Dialect = _PLAIN, size: int = BLOCK
) -> Iterator[Block]:
    """The file in blocks of about `size` bytes that end at row ends (newlines inside quotes end none).

    Rows with a stray quote, and with bytes that are no text, are left blank and listed. Raises ConnectorError for what
    `check_file` finds and for a truncated or damaged stream; what was whole before the damage comes out first.
    """
    rest, line, done, total = b"", 1, 0, 0
    trouble: ConnectorError | None = None
    pieces = _utf8(path, encoding, size)
    while trouble is None:
        try:
            chunk, done, total = next(pieces)
        except StopIteration:
            break
        except ConnectorError as error:
            trouble = error
            break
        rest += chunk
        end, stray = scan(rest, dialect, last=False)
        if end:
            data, rest = rest[:end], rest[end:]
            block = _checked(Block(data, line, done, total), dialect, stray)
            yield block
            line += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _NEWLINE))
    if rest and trouble is None:  # half a row before a truncation is none
        _, stray = scan(rest, dialect, last=True)
        yield _checked(Block(rest, line, done, total), dialect, stray)
    elif line == 1 and trouble is None:
        raise ConnectorError("the file is empty", path)
    if trouble is not None:
        raise trouble


def _checked(block: Block, dialect: Dialect, stray: list[int]) -> Block:
    """The block with what cannot be read left blank, so that the lines keep their numbers."""
    data = block.data
    clean = not stray and b"\0" not in data
    try:
        if clean:
            if not data.isascii():
                data.decode()
            return block
    except UnicodeDecodeError:
        pass
    begins, pieces, rejects = set(stray), [], []
    for line, start, end in spans(data, dialect):
        why = STRAY if start in begins else _unreadable(data[start:end])
        if why:
            text = data[start:end].decode(errors="replace").replace("\0", "\ufffd")
            rejects.append((block.line + line, why, text))
            pieces.append(b"\n" * data.count(b"\n", start, end))
        else:
            pieces.append(data[start:end])
    joined = b"\n".join(pieces) + (b"\n" if data.endswith(b"\n") else b"")
    return replace(block, data=joined, rejects=tuple(rejects))


def _unreadable(row: bytes) -> str:
    if b"\0" in row:
        return "a NUL byte: not text, or use --encoding utf-16"
    try:
        row.decode()
    except UnicodeDecodeError as error:
        byte = row[error.start]
        return f"byte {byte:#04x} is not of this encoding: use --encoding latin-1, or what it is written in"
    return ""
