"""`make campaign`: what faults do to graphs, at any length, as one table. See `python -m campaign --help` (in tests/)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from campaign.registry import Effort, parts, table


def main() -> int:
    about = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    about.add_argument("parts", nargs="*", help=f"some of {', '.join(parts())}; all unless given")
    about.add_argument("--times", type=float, default=1.0, help="how much of the usual amount (1.0)")
    about.add_argument("--seed", type=int, default=1, help="of what is random (1)")
    about.add_argument("--no-servers", action="store_true", help="start no Neo4j")
    said = about.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        effort = Effort(Path(folder), said.times, said.seed, not said.no_servers)
        lines = [print(line, flush=True) or line for line in table(parts(said.parts), effort)]
    return int(lines.count("") > 1)  # failures come after a second empty line


if __name__ == "__main__":
    sys.exit(main())
