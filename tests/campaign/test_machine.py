"""Random steps on each engine, compared with a model in plain Python; and kills in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaign.engines import LIMITS, SERVED, emptied
from campaign.kills import kills
from campaign.machine import search, sequences


@pytest.mark.slow
@pytest.mark.parametrize("engine", LIMITS)
def test_steps_on_the_embedded_engine(engine: str, tmp_path: Path) -> None:
    with emptied(engine, tmp_path) as new:
        counts = search(new, tmp_path, sequences(25, 1, most=10))
    assert counts.failures == [] and counts.tried > 100


@pytest.mark.slow
@pytest.mark.neo4j
@pytest.mark.parametrize("engine", SERVED)
def test_steps_on_neo4j(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with emptied(engine, tmp_path, request.getfixturevalue("neo4j_server")) as new:
        counts = search(new, tmp_path, sequences(8, 2, most=10))
    assert counts.failures == [] and counts.tried > 30


@pytest.mark.slow
@pytest.mark.parametrize("engine", LIMITS)
def test_kills_of_the_embedded_engine(engine: str, tmp_path: Path) -> None:
    counts = kills(engine, tmp_path, sequences(10, 3, most=10), 3)
    assert counts.failures == [] and counts.tried > 20
