"""Copies of an embedded graph's file: made of a whole graph, and put in its place again.

A copy is the file and its seal (`kgkit.store.ladybug_seal`), made under the lock of writers after all that the log holds
went into the file. Blocks go from file to file within the kernel, and are shared with the original where the file system
can share them; then the copy is read and compared with the seal. Everything is written to a name beside, brought to the
disk, and only then renamed, so that whatever fails leaves what was there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kgkit.errors import DamagedStoreError, RetryableStoreError, StoreError
from kgkit.store import ladybug_engine, ladybug_seal
from kgkit.store.ladybug_engine import Engine
from kgkit.store.ladybug_log import logs_of
from kgkit.store.ladybug_seal import Seal, seal_of

_AT_ONCE = 64 << 20  # bytes of a copy between two reports
_ASIDE = ".replaced"
_FILES = ("", ".wal", ".wal.checkpoint", ".shadow", ".seal")  # of a graph
_CANNOT = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)  # do it within the kernel
Tell = Callable[[str, int, int], None]  # what is done, bytes done, of how many


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps writers of a graph file away. Raises RetryableStoreError where there is one."""
    handle = ladybug_engine._lock(path)
    try:
        yield
    finally:
        os.close(handle)


def seal_now(path: Path) -> Seal | None:
    """Seals a closed graph file whose seal has no sums or is not current; None where it cannot be, or a log is left."""
    with contextlib.suppress(StoreError), locked(path):
        return ladybug_seal.write_seal(path)
    return None


def repair(path: Path) -> list[Path]:
    """Takes a damaged log away, after what was committed before the damage went into the graph; returns where it is kept."""
    kept = []
    with locked(path):
        for log in logs_of(path):
            kept.append(_free(log.with_name(log.name + ".damaged")))
            _copy(log, kept[-1], lambda what, done, total: None)
        ladybug_engine._open_torn(path).close()
    return kept


def back_up(
    path: Path, file: Path, *, replace_it: bool = False, tell: Tell = lambda what, done, total: None
) -> int:
    """Copies a graph to `file`, with its seal, and returns its size in bytes.

    Raises StoreError where there is no graph, `file` is there already (unless `replace_it`), or cannot be written;
    RetryableStoreError while somebody writes the graph, DamagedStoreError when it is not what was written.
    """
    path, file = _real(path), _real(file)
    if not path.is_file():
        raise StoreError(f"there is no graph at {path}")
    if file == path:
        raise StoreError(f"{file} is the graph itself: give another name")
    if file.is_dir():
        raise StoreError(f"{file} is a folder: give the name of a file, such as {file / path.name}")
    if file.exists() and not replace_it:
        raise StoreError(f"{file} is there already: give another name, or --force to replace it")
    if ladybug_seal.has_log(path):  # closing moves it into the file
        Engine.open(path, read_only=False, create=False).release()
    with locked(path):
        if ladybug_seal.has_log(path):
            raise RetryableStoreError(f"{path} has a log that another process has just left: try again")
        _verify(path, tell)
        seal = ladybug_seal.write_seal(path)
        if seal is None or seal.sums is None:
            raise StoreError(f"{path} cannot be sealed: look with kgkit check")
        with _beside(file) as new:
            _copy(path, new, tell)
            _seal(new, seal, tell)
            _place(new, file)
    return seal.size


def restore(
    file: Path,
    path: Path,
    *,
    unsealed: bool = False,
    keep: bool = False,
    tell: Tell = lambda what, done, total: None,
) -> Path | None:
    """Puts a copy that `back_up` made in the place of a graph; returns where the graph that was there is, if kept.

    Raises StoreError where there is no copy, it has no seal (unless `unsealed`), or cannot be written, DamagedStoreError
    when it is not what was sealed, RetryableStoreError while somebody writes the graph. Until the copy is in place, what
    was there stays; a process that ends just then leaves it at `<graph>.replaced`.
    """
    file, path = _real(file), _real(path)
    if not file.is_file():
        raise StoreError(f"there is no backup at {file}")
    if file == path:
        raise StoreError(f"{file} is the graph itself: give the backup's name")
    if ladybug_seal.has_log(file):
        raise StoreError(
            f"{file} is a graph in use, with a log beside it: give a file that kgkit backup made"
        )
    seal = _verify(file, tell)
    if seal is None and not unsealed:
        raise StoreError(
            f"{file} has no seal ({seal_of(file)}), so nobody knows whether it is whole: look with kgkit check --store "
            f"{file}, then restore it with --unsealed"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + _ASIDE)
    with locked(path), _beside(path) as new:
        _copy(file, new, tell)
        if seal is not None:
            _seal(new, seal, tell)
        _move(path, aside)
        try:
            _place(new, path)
        except OSError:
            _move(aside, path)
            raise
    if keep and aside.exists():
        return aside
    for end in _FILES:
        aside.with_name(aside.name + end).unlink(missing_ok=True)
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path.expanduser()))


def _free(path: Path) -> Path:
    """A name that nobody has: this one, or with a number."""
    names = (path.with_name(f"{path.name}-{n}") for n in range(2, 10_000))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _verify(path: Path, tell: Tell) -> Seal | None:
    """The seal of a file that is what was sealed; None of one without a seal that tells. Raises DamagedStoreError."""
    try:
        found = ladybug_seal.compare(
            path, moved=True, tell=lambda done, total: tell("comparing", done, total)
        )
    except OSError as error:
        raise DamagedStoreError(f"{path} cannot be read: {error.strerror}") from None
    seal = ladybug_seal.read_seal(path)
    if found is None or seal is None:
        return None
    if found.differ:
        if not seal.is_of(path) and not _is_copy(path):
            return None
        raise ladybug_seal.damage(path, found)
    return seal


def _is_copy(path: Path) -> bool:
    """Whether nobody ever opened a file to write it, so that it must be what was sealed."""
    return not path.with_name(path.name + ".lock").exists()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside a file for what is to take its place. Turns OSError into StoreError, and leaves nothing behind."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): nothing that was there is lost"
        ) from None
    finally:
        for left in (new, seal_of(new)):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _copy(source: Path, target: Path, tell: Tell) -> None:
    """Copies a file's bytes and time stamp, and brings them to the disk. Raises OSError."""
    size, done = source.stat().st_size, 0
    with source.open("rb") as read, target.open("wb") as write:
        try:
            while done < size and (
                n := os.copy_file_range(read.fileno(), write.fileno(), min(_AT_ONCE, size - done))
            ):
                done += n
                tell("copying", done, size)
        except OSError as error:
            if done or error.errno not in _CANNOT:  # a full disk, say
                raise
        if done < size:  # from one kind of file system to another
            read.seek(done)
            write.seek(done)
            shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())
    shutil.copystat(source, target)


def _seal(new: Path, seal: Seal, tell: Tell) -> None:
    """Compares a copy with the seal of what it is of, and seals it too. Raises OSError, DamagedStoreError."""
    ladybug_seal.keep_seal(new, replace(seal, stamp=new.stat().st_mtime_ns))
    found = ladybug_seal.compare(new, tell=lambda done, total: tell("comparing", done, total))
    if found is None or found.differ:
        raise DamagedStoreError(
            f"{new} is not what was copied, so the disk or the memory errs: nothing was replaced"
        )


def _move(path: Path, to: Path) -> None:
    """Gives a graph's files other names. The graph goes first: a log without its file is nothing, but a file without its log
    an earlier graph."""
    for end in _FILES:
        old = path.with_name(path.name + end)
        if old.exists():
            old.replace(to.with_name(to.name + end))


def _place(new: Path, path: Path) -> None:
    """Renames a copy, and its seal, to what they are for. Raises OSError."""
    seal_of(path).unlink(missing_ok=True)
    new.replace(path)
    if seal_of(new).exists():
        seal_of(new).replace(seal_of(path))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
