"""A real small disk: a tmpfs in a mount namespace of its own, which needs no rights where user namespaces are allowed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def on_small_disk(size: str, place: Path, script: str) -> str:
    """Runs Python with a tmpfs of a size ("300k") at `place`, and returns what it prints.

    The script finds `place`, `kgkit(*words)` -> (exit code, stdout, stderr) of a command in a process of its own, and
    `remount(options)`. Skips the test where the system allows no such namespace.
    """
    place.mkdir(exist_ok=True)
    space = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        allowed = subprocess.run([*space, *mount], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if allowed.returncode:
        pytest.skip(f"no mounts in a namespace here: {allowed.stderr.strip()}")
    python = [sys.executable, "-c", _HEAD + textwrap.dedent(script)]
    done = subprocess.run(
        [*space, "sh", "-c", f"{' '.join(mount)} && exec \"$@\"", "sh", *python],
        capture_output=True, text=True, env={**os.environ, "PLACE": str(place)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


_HEAD = """
import os, subprocess, sys
from pathlib import Path

place = Path(os.environ["PLACE"])

def kgkit(*words, **env):
    command = [sys.executable, "-m", "kgkit", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr

def remount(options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

"""
