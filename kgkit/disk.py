"""What a disk says when it takes no more, in words that name it; and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from kgkit.errors import DiskError

# What a disk, and not a mistake of the program, makes of an attempt to write wherever it may have been.
FAULTS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENODEV", "ESTALE")
)


def explained(error: OSError, path: Path) -> str:
    """Why `path` could not be written, naming the file system that it lies on."""
    folder = _existing(path)
    mount = _mount(folder)
    if error.errno == errno.ENOSPC and path.exists() and not path.is_file() and not path.is_dir():
        return f"{path} is full: {os.strerror(errno.ENOSPC)}"  # a device
    if error.errno == errno.ENOSPC:
        return f"the disk {mount} is full: {path} does not fit ({_room(folder)})"
    if error.errno == errno.EDQUOT:
        return f"the quota on the disk {mount} is used up: {path} does not fit"
    if error.errno == errno.EFBIG:
        return f"{path} would be larger than a file may be here (`ulimit -f`, or the file system {mount})"
    if error.errno == errno.EROFS:
        return f"{folder} lies on a read-only file system ({mount})"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be written: permission denied"
    if error.errno == errno.EISDIR:
        return f"{path} is a folder where a file belongs"
    if error.errno == errno.ENOENT:
        return f"the folder {path.parent} is not there"
    if error.errno == errno.EIO:
        return f"the disk {mount} fails: input/output error at {path}"
    return f"{path} cannot be written: {error.strerror or error}"


def refusal(folder: Path) -> str | None:
    """Why files cannot be made in a folder that exists; None where they can, as far as can be seen beforehand."""
    if os.access(folder, os.W_OK):
        return None
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    return explained(OSError(errno.EROFS if read_only else errno.EACCES, ""), folder)


def unforeseen(error: OSError) -> str | None:
    """A line for an error that reached the command line; None for one that is no disk's, which is a mistake of ours."""
    if error.errno not in FAULTS:
        return None
    if isinstance(error.filename, str | bytes):
        return f"{explained(error, Path(os.fsdecode(error.filename)))}; see to it and give the command again"
    return f"a disk took no more: {error}; see to it and give the command again"


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Within, an OSError becomes a DiskError that begins with `what` and says why."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{what}: {explained(error, path)}" if what else explained(error, path)) from error


def replace(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file beside another and renames it, so that a kill, or a full disk, leaves one of both whole.

    write: fills the open file. Raises DiskError; what was begun is removed then, so that it takes no room. What is no
    plain file, a pipe or a device, is written as it is; of a link it is the file behind it that is replaced.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with writing(path), path.open("wb") as file:
            _filled(file, write)
        return
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            with beside.open("wb") as file:
                _filled(file, write)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


def append(path: Path, line: bytes) -> None:
    """Adds a line to a file. Raises DiskError, having taken back what there was room for."""
    with writing(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            before = os.fstat(handle).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(handle, line[written:])
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)


class _Remembering:
    """A file for a library that turns an OSError of its writes into something that no longer says what it was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _filled(file: IO[bytes], write: Callable[[IO[bytes]], Any]) -> None:
    remembering: Any = _Remembering(file)
    try:
        write(remembering)
        remembering.flush()
    except Exception as error:
        if remembering.error is None:
            raise
        raise remembering.error from error


def _existing(path: Path) -> Path:
    """The folder of a path: the nearest that there is."""
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _mount(folder: Path) -> Path:
    while not os.path.ismount(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _room(folder: Path) -> str:
    found = os.statvfs(folder)
    if found.f_files and not found.f_favail:
        return f"no file more of {found.f_files:,}"
    free, size = (blocks * found.f_frsize / 2**20 for blocks in (found.f_bavail, found.f_blocks))
    return f"{free:,.1f} of {size:,.1f} MiB free"
