"""The cache folder, and who else could have put something there: what it holds is run (compiled kernels, Neo4j's jars).

What protects is who may write, not what is written: a checksum beside a file is forged by whoever can forge the file. So a
file is used only if nobody but its user and root can put another in its place: it, its folder and every folder above belong
to one of them, and neither group nor others may write to any. The exception is that of a sticky folder such as /tmp, where
others may add names but not replace ours. Links are followed first, and the path without them is both checked and used:
who cannot write to any of its parts cannot change it between the check and the use. Not covered: root, programs of the
same user, access lists beyond the mode's bits, file systems of other machines, and a folder that was moved in by someone
allowed to.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """Where kgkit keeps what it built or downloaded: KGKIT_CACHE, or `kgkit` in the platform's cache directory."""
    if chosen := os.environ.get("KGKIT_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kgkit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kgkit"


def own_folder(folder: Path) -> Path:
    """The folder, made if need be; it and the parents that lack are for their owner alone. Raises OSError."""
    if not folder.is_dir():
        own_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def distrust(path: Path) -> str | None:
    """Why somebody else could have put there what lies at `path`, and what to type against it; None if nobody could.

    Raises OSError where there is nothing.
    """
    if not hasattr(os, "geteuid"):  # Windows, where modes say nothing: a profile is its user's
        return None
    real = path.resolve(strict=True)
    for part in (*reversed(real.parents), real):
        state = part.lstat()
        if state.st_uid not in (0, os.geteuid()):
            return f"{part} belongs to another user (uid {state.st_uid}): set KGKIT_CACHE to a folder of your own"
        shared = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX and part != real
        if state.st_mode & _OTHERS and not shared:
            return (
                f"others may write to {part} (mode {stat.S_IMODE(state.st_mode):04o}): `chmod go-w {part}`, "
                "or set KGKIT_CACHE to a folder of your own"
            )
    return None
