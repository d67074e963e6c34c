"""Neo4j's classes, kept ready: Java finds, reads and checks 17,000 of them at every start unless a file holds the result.

With that file (a class-data archive of Java's own, 140 MB in the cache folder) a start takes two thirds of the time and
the offline importer's a half. Java notes in lists what it loads; when a server has stopped, the archive is made of them
in the background, for every later start. Without it all works the same, only slower.

    classes-KEY/seen-pidN.lst   what a process loaded; KEY names the Java and the jars
    classes-KEY/neo4j.jsa       the archive
    classes-KEY/log             what Java said while it made it; an archive that failed is not tried again
    classes-KEY/lock            held by whoever makes it
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kgkit.cache import distrust, own_folder
from kgkit.server_jars import cache_dir, fetched_jars, java, trusted

_LONGEST = 1000  # letters of a line that Java takes back; hidden classes with longer ones are left out
_KEPT = 2  # folders of other Javas and jars


def java_options(launcher: Path, jars: Sequence[Path]) -> list[str]:
    """Options for a Java that runs Neo4j: use the archive, or help to make it."""
    folder = _folder(launcher, jars)
    if (archive := folder / "neo4j.jsa").exists() and distrust(archive) is None:
        with contextlib.suppress(OSError):  # in a cache that is only read
            os.utime(folder)  # for `_prune`
        return [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds*=off"]  # one that does not fit is passed over
    if (folder / "log").exists():
        return []
    try:
        own_folder(folder)
    except OSError:
        return []
    return [f"-XX:DumpLoadedClassList={folder / 'seen-%p.lst'}"]


def make_later(launcher: Path, jars: Sequence[Path]) -> None:
    """Begins to make the archive, unless there is one or nothing to make it of; a process of the lowest rank does it."""
    folder = _folder(launcher, jars)
    if (folder / "log").exists() or not any(folder.glob("seen-*.lst")):
        return
    subprocess.Popen(
        [sys.executable, "-m", "kgkit.server_archive"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def make(launcher: Path, jars: Sequence[Path]) -> bool:
    """Makes the archive of all that was seen (20 to 40 s of a processor); returns whether it is there.

    Only one process does so at a time; others return at once.
    """
    import fcntl

    folder = _folder(launcher, jars)
    archive, log, partial = folder / "neo4j.jsa", folder / "log", folder / "neo4j.jsa.part"
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return archive.exists()
        if archive.exists() or log.exists():
            return archive.exists()
        lists = list(folder.glob("seen-*.lst"))
        (folder / "classes.txt").write_text("".join(f"{line}\n" for line in _classes(lists)))
        command = [
            str(launcher),
            "-Xshare:dump",
            "-Xmx1g",
            f"-XX:SharedClassListFile={folder / 'classes.txt'}",
            f"-XX:SharedArchiveFile={partial}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]
        said = folder / "log.part"  # until it has ended: one that is killed is tried again
        with said.open("wb") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        if done.returncode == 0 and partial.exists():
            partial.chmod(0o600)  # whatever the umask: an archive that others could write is not used
            partial.replace(archive)
        said.replace(log)
        for seen in lists:
            seen.unlink(missing_ok=True)
    _prune(folder)
    return archive.exists()


def _classes(lists: Sequence[Path]) -> list[str]:
    """The distinct lines of lists, without the numbers that hold within one of them only."""
    found: dict[str, None] = {}
    for path in lists:
        # The last line may be half of one: its process may be killed, or writing still.
        for line in path.read_text(errors="replace").split("\n")[:-1]:
            name = line.partition(" id: ")[0] if " source: " not in line else ""  # of no loader that is known
            if name and not name.startswith("#") and "$Proxy" not in name and len(name) < _LONGEST:
                found[name] = None
    return list(found)


def _folder(launcher: Path, jars: Sequence[Path]) -> Path:
    """Java takes an archive only with the very files that it was made with."""
    modules = launcher.parent.parent / "lib" / "modules"
    stamp = modules.stat() if modules.exists() else launcher.stat()
    key = [str(modules), stamp.st_size, stamp.st_mtime_ns, *map(str, jars)]
    return cache_dir() / f"classes-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"


def _prune(own: Path) -> None:
    """Removes archives of Javas and jars that were used longest ago: a folder's time is that of its last use."""
    others = [p for p in own.parent.glob("classes-*") if p != own and p.is_dir()]
    for folder in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.nice(19)
    if found := fetched_jars():
        make(java(), trusted(found))
