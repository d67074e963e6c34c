"""From a path to unpacked bytes: gzip, bzip2, xz and zstd by content, pipes, a thread of its own; the one place for it.

What comes before a truncated place comes out before the error does, and so does what comes before a damaged one, but
for the quarter of a megabyte (on disk) that holds the damage.
"""

from __future__ import annotations

import bz2
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from kgkit.errors import ConnectorError

Piece = tuple[bytes, int, int]  # unpacked bytes, position in the file on disk, its length (0: unknown)
STDIN = Path("-")
COMPRESSED = {".gz", ".zst", ".zstd", ".gzip", ".bz2", ".xz"}
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_READ = 1 << 18
_AHEAD = 3  # pieces that wait for the reader
_AGAIN = "copy or download it again"


def is_pipe(path: Path) -> bool:
    """Whether a path can be read only once: `-` (standard input), a FIFO, a device."""
    return path == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def check_file(path: Path) -> bytes:
    """The first bytes of a file (none of a pipe's); raises ConnectorError if there are none."""
    if is_pipe(path):
        return b""
    try:
        if path.is_dir():
            raise ConnectorError("is a folder, not a file", path)
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise ConnectorError("no such file", path) from None
    except OSError as error:
        raise ConnectorError(f"cannot be opened: {error.strerror}", path) from None
    if not head:
        raise ConnectorError("the file is empty", path)
    return head


def doubt(path: Path) -> str:
    """What makes the content of a compressed file doubtful ("": nothing): a zstd frame that has no checksum."""
    if is_pipe(path):
        return ""
    with path.open("rb") as file:
        head = file.read(5)
    if head[:4] == _ZSTD and len(head) == 5 and not head[4] & 4:
        return "the zstd stream has no checksum, so that a damage of the file can be read as data (zstd --check adds one)"
    return ""


def unpacked(path: Path, size: int) -> Generator[Piece, None, None]:
    """Pieces of about `size` bytes. Raises ConnectorError for what `check_file` finds and for a broken stream."""
    check_file(path)
    total = 0 if is_pipe(path) else path.stat().st_size
    try:
        raw = sys.stdin.buffer if path == STDIN else path.open("rb", buffering=0)
    except OSError as error:
        raise ConnectorError(f"cannot be opened: {error.strerror}", path) from None
    source = _Input(raw)
    try:
        pieces = _filled(_by_content(source, size), size)
        while True:
            try:
                piece = next(pieces, b"")
            except EOFError:
                raise ConnectorError(f"the compressed file is truncated: {_AGAIN}", path) from None
            except OSError as error:
                if "truncated" in str(error).lower():
                    raise ConnectorError(f"the compressed file is truncated: {_AGAIN}", path) from None
                what = f"damaged or unreadable after byte {source.done:,} ({error})"
                raise ConnectorError(f"the compressed file is {what}: {_AGAIN}", path) from None
            if not piece:
                break
            yield piece, source.done, total
    finally:
        if path != STDIN:
            raw.close()


def unpacked_ahead(path: Path, size: int) -> Generator[Piece, None, None]:
    """`unpacked`, done by a thread that keeps a few pieces ready: decompressors let go of Python's lock."""
    ready: queue.Queue[Piece | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def offer(thing: Piece | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(thing, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            with closing(unpacked(path, size)) as pieces:
                for piece in pieces:
                    offer(piece)
                    if stop.is_set():
                        return
            offer(None)
        except BaseException as error:  # it is the reader's to raise
            offer(error)

    worker = threading.Thread(target=work, name=f"unpack {path.name}", daemon=True)
    worker.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        if not is_pipe(path):  # a pipe's writer may never write again
            worker.join()


class _Input:
    """A file or pipe whose first bytes have been looked at; counts what was read."""

    def __init__(self, raw: IO[bytes] | Any) -> None:
        self._raw, self.done, self.head = raw, 0, b""
        while len(self.head) < 4 and (more := raw.read(4 - len(self.head))):
            self.head += more
        self._held = self.head
        self.closed = False  # Arrow asks

    def close(self) -> None:
        self.closed = True

    def read(self, size: int) -> bytes:
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
        else:
            data = self._raw.read(size) or b""
        self.done += len(data)
        return data


def _by_content(source: _Input, size: int) -> Iterator[bytes]:
    if source.head[:2] == _GZIP:
        return _members(source, _gzip(), _GZIP, size)
    if source.head[:3] == _BZIP2:
        return _members(source, bz2.BZ2Decompressor, _BZIP2, size)
    if source.head == _XZ[:4]:
        return _members(source, lzma.LZMADecompressor, _XZ, size)
    return _frames(source, size) if source.head == _ZSTD else _plain(source, size)


def _filled(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of at least `size` but for the last, which comes before an error does."""
    held: list[bytes] = []
    length = 0
    try:
        for piece in pieces:
            held.append(piece)
            length += len(piece)
            if length >= size:
                yield held[0] if len(held) == 1 else b"".join(held)
                held, length = [], 0
    except (OSError, EOFError):
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def _plain(source: _Input, size: int) -> Iterator[bytes]:
    while data := source.read(size):
        yield data


def _frames(source: _Input, size: int) -> Iterator[bytes]:
    """A zstd stream; Arrow's codec goes from frame to frame, or says that the stream is truncated."""
    import pyarrow as pa

    stream = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
    while data := stream.read(min(size, _READ)):
        yield data


def _members(source: _Input, new: Callable[[], Any], magic: bytes, size: int) -> Iterator[bytes]:
    """gzip or bzip2: members one after the other, zeros between and after them allowed, anything else an error.

    Damage is raised after what was unpacked before it has come out.
    """
    decoder, data, begun = new(), b"", False
    while True:
        if not data and (not begun or decoder.needs_input):
            data = source.read(_READ)
            if not data:
                if begun:
                    raise EOFError
                return
        if not begun:
            data = data.lstrip(b"\0")
            if not data:
                continue
            while len(data) < len(magic) and (more := source.read(_READ)):
                data += more
            if not data.startswith(magic):
                raise OSError("what follows a whole part is no compressed data")
            decoder, begun = new(), True
        try:
            piece = decoder.decompress(data, size)
        except Exception as error:  # each decompressor has an exception of its own
            raise OSError(str(error)) from None
        data = b""
        if decoder.eof:
            data, begun = decoder.unused_data, False
        if piece:
            yield piece


def _gzip() -> Callable[[], Any]:
    """ISA-L's decompressor, several times as fast, where it is installed; else Python's own."""
    try:
        from isal import igzip_lib
    except ImportError:
        return _Zlib
    return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


class _Zlib:
    """zlib with the interface of bz2's decompressor."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._full = False

    def decompress(self, data: bytes, size: int) -> bytes:
        piece = self._stream.decompress(self._stream.unconsumed_tail + data, size)
        self._full = len(piece) == size
        return piece

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._stream.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data
