"""A virtual environment of PyKEEN's own, made once in the cache, and the peer run inside it.

python -m benchmarks.pykeen_env        makes the environment and says where it is
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.environments import peer_json, peer_python

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-pykeen.txt"


def pykeen_python() -> Path:
    """The interpreter of PyKEEN's environment, made on first use."""
    return peer_python("pykeen", REQUIREMENTS, "3.11", " (some 5 GB with torch 2.15.0's libraries)")


def run_peer(*options: object) -> dict[str, Any]:
    """Runs pykeen_peer.py in its environment and returns the JSON it prints."""
    return peer_json("PyKEEN", pykeen_python(), HERE / "pykeen_peer.py", *options)


if __name__ == "__main__":
    print(pykeen_python())
