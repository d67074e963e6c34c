"""Networks that fail, readers beside a writer, damaged files: seconds of what `make campaign` does at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaign.beside import beside
from campaign.damage import trials
from campaign.network import FAULTS, Chains, patience
from campaign.registry import Counts
from kgkit.server import ServerInfo


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.timeout(600)
def test_a_network_that_fails_once(neo4j_server: ServerInfo, tmp_path: Path) -> None:
    counts = Counts()
    with patience(20.0):
        chains = Chains(neo4j_server, tmp_path, 60, 1)
        for kind, at_commit in FAULTS:
            if kind in ("cut", "lost", "garbage"):
                chains.play(kind, at_commit, False, counts)
    assert counts.failures == [] and counts.notes["right"] > 20


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    counts = beside(str(tmp_path / "graph.kg"), None, 4.0)
    assert counts.failures == []


@pytest.mark.neo4j
def test_readers_beside_a_writer_of_neo4j(neo4j_server: ServerInfo) -> None:
    counts = beside(neo4j_server.uri, neo4j_server, 4.0)
    assert counts.failures == []


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    """No damage ends in a traceback, or kills the process. That another graph is not told yet needs its checksums."""
    counts = trials(tmp_path, 15, 1)
    bad = [line for line in counts.failures if "another graph" not in line]
    assert bad == [] and counts.tried == 30
