"""A virtual environment of RecBole's own, made once in the cache, and the peer run inside it.

python -m benchmarks.recbole_env        makes the environment and says where it is
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.environments import peer_json, peer_python

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-recbole.txt"


def recbole_python() -> Path:
    """The interpreter of RecBole's environment, made on first use."""
    return peer_python("recbole", REQUIREMENTS, "3.11", " (some 5 GB with torch 2.4.1's libraries)")


def run_peer(data: Path, *options: object) -> dict[str, Any]:
    """Runs recbole_peer.py in its environment on Last.FM and returns the JSON it prints."""
    peer = HERE / "recbole_peer.py"
    return peer_json("RecBole", recbole_python(), peer, "--data", data.resolve(), *options)


if __name__ == "__main__":
    print(recbole_python())
