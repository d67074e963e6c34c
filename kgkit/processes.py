"""Whether a process that was noted down still runs: its pid, told from a later process's by when it began."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What to note down: pid, start, host, and the boot that the start counts from."""
    return {"pid": os.getpid(), "started": start_time(os.getpid()), "host": platform.node(), "boot": _boot()}


def still_runs(noted: dict[str, Any]) -> bool | None:
    """Whether what `this_process` noted still runs; None where it was noted on another machine, which cannot be asked."""
    if noted["host"] != platform.node():
        return None
    if noted["boot"] != _boot():
        return False
    started = start_time(noted["pid"])
    return started is not None and started == noted["started"]


def start_time(pid: int) -> str | None:
    """When a process began, as the system writes it: clock ticks since boot on Linux, elsewhere as `ps` says.

    None when it does not run (or only waits to be reaped).
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    done = subprocess.run(  # nosec B607
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
