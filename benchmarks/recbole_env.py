"""A virtual environment of RecBole's own, made once in the cache, and the peer run inside it.

python -m benchmarks.recbole_env        makes the environment and says where it is
"""

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
from kgkit.native.build import cache_dir

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-recbole.txt"


def recbole_python() -> Path:
    """The interpreter of RecBole's environment, made on first use. A failure is an error, never a skip."""
    home = cache_dir().parent / "recbole-env"
    python, stamp = home / "bin" / "python", home / ".kgkit-stamp"
    wanted = hashlib.blake2b(REQUIREMENTS.read_bytes(), digest_size=12).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making RecBole's environment in {home} (some 5 GB with torch 2.4.1's libraries) ..")
    uv = Path(sys.prefix) / "uv" / "bin" / "uv"
    command = str(uv) if uv.exists() else shutil.which("uv")
    if command is None:
        raise SystemExit("RecBole's environment needs uv: run `make setup`, or install uv")
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([command, "venv", "-q", "--python", "3.11", str(home)], check=True)
    install = [command, "pip", "install", "-q", "--python", str(python), "-r", str(REQUIREMENTS)]
    subprocess.run(install, check=True)
    stamp.write_text(wanted)
    return python


def run_peer(data: Path, *options: object) -> dict[str, Any]:
    """Runs recbole_peer.py in its environment on Last.FM and returns the JSON it prints."""
    arguments = ["--data", str(data.resolve()), *map(str, options)]
    with tempfile.TemporaryDirectory(
        prefix="kgkit-recbole-"
    ) as scratch:  # RecBole litters its working folder
        done = subprocess.run(
            [str(recbole_python()), str(HERE / "recbole_peer.py"), *arguments],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"RecBole failed ({done.returncode}):\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    print(recbole_python())
