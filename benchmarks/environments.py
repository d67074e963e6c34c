"""Virtual environments of their own for peers that kgkit does not depend on, made once in the cache; scripts in them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import say
from kgkit.cache import cache_folder, own_folder


def peer_python(name: str, requirements: Path, version: str, note: str = "") -> Path:
    """The interpreter of a peer's environment, made on first use. A failure is an error, never a skip."""
    home = cache_folder() / f"{name}-env"
    python, stamp = home / "bin" / "python", home / ".kgkit-stamp"
    wanted = hashlib.blake2b(requirements.read_bytes(), digest_size=12).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making {name}'s environment in {home}{note} ..")
    uv = Path(sys.prefix) / "uv" / "bin" / "uv"
    command = str(uv) if uv.exists() else shutil.which("uv")
    if command is None:
        raise SystemExit(f"{name}'s environment needs uv: run `make setup`, or install uv")
    shutil.rmtree(home, ignore_errors=True)
    own_folder(home.parent)
    subprocess.run([command, "venv", "-q", "--python", version, str(home)], check=True)
    install = [command, "pip", "install", "-q", "--python", str(python), "-r", str(requirements)]
    subprocess.run(install, check=True)
    stamp.write_text(wanted)
    return python


def peer_json(name: str, python: Path, script: Path, *arguments: object) -> dict[str, Any]:
    """Runs a peer's script in its environment, in an empty folder to litter, and returns the JSON it prints last."""
    with tempfile.TemporaryDirectory(prefix=f"kgkit-{name.lower()}-") as scratch:
        done = subprocess.run(
            [str(python), str(script.resolve()), *map(str, arguments)],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"{name} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
