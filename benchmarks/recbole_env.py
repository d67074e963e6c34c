"""A virtual environment of RecBole's own, made once in the cache, and the peer run inside it.

python -m benchmarks.recbole_env        makes the environment and says where it is
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environments import peer_python

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-recbole.txt"


def recbole_python() -> Path:
    """The interpreter of RecBole's environment, made on first use."""
    return peer_python("recbole", REQUIREMENTS, "3.11", " (some 5 GB with torch 2.4.1's libraries)")


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
