"""The seal of an embedded graph's file: what it was when its last writer closed it, so that damage is told from change.

The engine has no checksums of its pages: a file of which a bit or a block has changed opens, now and then, as another
graph. So whoever closes a file that it wrote leaves `<graph>.seal` beside it: the file's size and time stamp, and a CRC-32
of each MiB. It is what decides:

* The stamp is the same, and a block or the size is not: the file is damaged, and nobody opens it. Every opening looks at as
  many blocks as AT_OPEN seconds allow, the first and any others (a hundred MiB or so, which is all of most graphs);
  `kgkit check` and `kgkit backup` look at all.
* The stamp is another: somebody wrote, and did not get to close it. The next writer runs the quick part of `kgkit check`,
  and says what it found.

Sealing reads the file, at some GB/s while it is in memory. It may take a twentieth of the time for which a writer
had the file open, or AT_CLOSE seconds: where that is not enough, as for a few rows into a file of many GB, the seal has
no sums, and says so until `kgkit check` seals the file again. A file without a seal, which an earlier kgkit wrote, opens as
ever. To open a damaged file all the same, remove its seal.

What this cannot tell: a log that was cut right behind a commit is the graph of that commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kgkit.errors import DamagedStoreError, StoreError
from kgkit.store.ladybug_log import log_state, logs_of

try:  # twice as fast, or more
    from isal.isal_zlib import crc32
except ImportError:  # a machine that isal is not built for
    crc32 = zlib.crc32

BLOCK = 1 << 20  # bytes
AT_OPEN, AT_CLOSE = 0.025, 0.05  # seconds
FASTEST = 8 << 30  # bytes a second: what a file is not sealed faster than
SHARE = 0.05  # of the time that a writer had the file open
_VERSION = 1
# How the engine's errors begin where it meets bytes that it cannot have written; and what its Python side raises then.
_ODD = re.compile(
    r"Assertion failed|Storage exception|IO exception: Cannot read|(\w+ exception: )?(Corrupt|Trying to a? ?create a vector|"
    r"Reading past the end|basic_string|vector::|map::at|std::)"
)
_MAY_BE = "The database file may be corrupt"
_ODD_TYPES = (MemoryError, UnicodeDecodeError, IndexError, OverflowError, SystemError)
_looked_at: dict[Path, tuple[int, int]] = {}  # files and stamps that this process has looked at


@dataclass(frozen=True)
class Seal:
    """Size in bytes and time stamp (ns) of a file, and the CRC-32 of each block; None where there was no time for them."""

    size: int
    stamp: int
    sums: tuple[int, ...] | None

    def is_of(self, path: Path) -> bool:
        """Whether nobody wrote the file since."""
        return _stamp(path) == (self.size, self.stamp)


@dataclass(frozen=True)
class Blocks:
    """What a look at a file's blocks found: how many there are, and were looked at; where those that differ begin."""

    all: int
    looked_at: int
    differ: tuple[int, ...]


def seal_of(path: Path) -> Path:
    """The seal of a graph file."""
    return path.with_name(path.name + ".seal")


def read_seal(path: Path) -> Seal | None:
    """The seal of a graph file; None where there is none, or it is not whole itself."""
    try:
        text, _, own = seal_of(path).read_text("ascii").partition("\n")
        if int(own, 16) != crc32(text.encode()):
            return None
        told = json.loads(text)
        sums = told["crc32"] and tuple(
            int(told["crc32"][i : i + 8], 16) for i in range(0, len(told["crc32"]), 8)
        )
        return Seal(told["size"], told["mtime_ns"], sums or None) if told["seal"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_seal(path: Path, seconds: float | None = None) -> Seal | None:
    """Seals a file that is closed and locked, unless its seal is current; without sums if they take longer than `seconds`.

    Returns the seal; None where a log is left, since the file then is not all of the graph, or where none can be kept.
    """
    if has_log(path):
        return None
    before = read_seal(path)
    if before is not None and before.is_of(path) and (before.sums or seconds is not None):
        return before
    with contextlib.suppress(OSError):
        size, stamp = _stamp(path)
        until = None if seconds is None else time.monotonic() + seconds
        sums: list[int] = []
        hopeless = seconds is not None and size > seconds * FASTEST
        for total in () if hopeless else _sums(path, range(-(-size // BLOCK))):
            sums.append(total)
            if until is not None and time.monotonic() > until:
                break
        told = tuple(sums) if len(sums) * BLOCK >= size else None
        if _stamp(path) != (size, stamp):
            return None
        keep_seal(path, Seal(size, stamp, told))
        return read_seal(path)
    return None


def keep_seal(path: Path, seal: Seal) -> None:
    """Writes a seal beside a file. Raises OSError."""
    sums = "".join(f"{total:08x}" for total in seal.sums) if seal.sums is not None else None
    text = json.dumps(
        {"seal": _VERSION, "size": seal.size, "mtime_ns": seal.stamp, "block": BLOCK, "crc32": sums}
    )
    beside = seal_of(path).with_name(f"{seal_of(path).name}.{os.getpid()}")
    try:
        beside.write_text(f"{text}\n{crc32(text.encode()):08x}\n", "ascii")
        beside.replace(seal_of(path))
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def closed(path: Path, since: float) -> None:
    """For the writer that has just closed a file, and still has its lock. since: when it opened it, `time.monotonic`."""
    write_seal(path, max(AT_CLOSE, SHARE * (time.monotonic() - since)))


def left_open(path: Path) -> bool:
    """Whether the last writer of a file ended before it had closed it."""
    seal = read_seal(path)
    return has_log(path) or (seal is not None and path.exists() and not seal.is_of(path))


def has_log(path: Path) -> bool:
    """Whether there is a log beside a file, with what the file does not hold yet."""
    # While a checkpoint is under way its pages are beside, too.
    return bool(logs_of(path)) or path.with_name(path.name + ".shadow").exists()


def opened(path: Path) -> None:
    """For whoever is about to open a file. Raises DamagedStoreError when it is not what it was when it was closed."""
    if not path.exists() or _looked_at.get(path) == _stamp(path):
        return
    found = compare(path, AT_OPEN)
    if found is not None and found.differ:
        raise damage(path, found)
    if found is not None:
        _looked_at[path] = _stamp(path)


def compare(
    path: Path,
    seconds: float | None = None,
    *,
    moved: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Blocks | None:
    """Looks at a file's blocks, all of them or, in `seconds`, the first and any others; None where its seal tells nothing.

    moved: the file may be a copy, with a time stamp of its own, of the one that was sealed. tell: hears of bytes done, of
    how many. Raises OSError when the file cannot be read.
    """
    seal = read_seal(path)
    if seal is None or not (moved or same_time(path, seal)):
        return None
    size, stamp = _stamp(path)
    total = -(-seal.size // BLOCK)
    order: Iterable[int] = range(total)
    if size != seal.size:
        found = Blocks(total, 0, (min(size, seal.size),))
    elif seal.sums is None:
        return None
    else:
        until = None
        if seconds is not None:
            order = [0, *random.sample(range(1, total), total - 1)] if total else []  # nosec B311
            until = time.monotonic() + seconds
        differ, done = [], 0
        for block, now in zip(order, _sums(path, order), strict=True):
            if now != seal.sums[block]:
                differ.append(block * BLOCK)
            done += 1
            tell(done * BLOCK, size)
            if until is not None and time.monotonic() > until:
                break
        found = Blocks(total, done, tuple(sorted(differ)))
    # A writer may have come meanwhile.
    return found if _stamp(path) == (size, stamp) and read_seal(path) == seal else None


def same_time(path: Path, seal: Seal) -> bool:
    """Whether a file has the time stamp that was sealed: then nobody wrote it, whatever its size."""
    return _stamp(path)[1] == seal.stamp


def damage(path: Path, found: Blocks) -> DamagedStoreError:
    """What to say of a file with blocks that are not what they were."""
    where = f"{len(found.differ):,} of {found.looked_at:,} blocks of 1 MiB" if found.looked_at else "its size"
    verb = "are" if len(found.differ) > 1 else "is"
    return DamagedStoreError(
        f"{path} is damaged, {where} {verb} not what was written (from byte {found.differ[0]:,} on): restore a backup "
        f"(kgkit backup restore FILE), or move it away and ingest again"
    )


def damaged_log(path: Path) -> DamagedStoreError | None:
    """What to say of a file's log where it is damaged; None where it is whole, or a kill cut its last record short."""
    for file in logs_of(path):
        log = log_state(file)
        if log is not None and log.damaged:
            lost = "one commit or more" if log.lost < 2 else f"{log.lost:,} commits or more"
            return DamagedStoreError(
                f"{file} is damaged at byte {log.end:,} of {log.size:,}, with {lost} from there on: restore a backup (kgkit "
                "backup restore FILE), or keep what was committed before (kgkit check --repair) and give again what came "
                "after"
            )
    return None


def explained(path: Path, error: Exception) -> StoreError | None:
    """What an error of the engine means where the log, or the file, is at fault; None where neither is known to be."""
    text = " ".join(str(error).split())
    if not isinstance(error, _ODD_TYPES) and not _ODD.match(text) and _MAY_BE not in text:
        return None
    if (spoilt := damaged_log(path)) is not None:
        return spoilt
    if "WAL" in text or ".wal" in text:  # it ends within a record
        return None
    with contextlib.suppress(OSError):
        found = compare(path)
        if found is not None and found.differ:
            return damage(path, found)
    return DamagedStoreError(
        f"{path} cannot be read, and seems damaged ({type(error).__name__}: {text[:200]}): restore a backup (kgkit backup "
        "restore FILE), or move it away and ingest again"
    )


def _sums(path: Path, blocks: Iterable[int]) -> Iterable[int]:
    """The CRC-32 of each of some blocks."""
    buffer = memoryview(bytearray(BLOCK))
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for block in blocks:
            got = 0
            while got < BLOCK and (more := os.preadv(handle, [buffer[got:]], block * BLOCK + got)):
                got += more
            yield crc32(buffer[:got])
    finally:
        os.close(handle)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time stamp; zeros for what is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
