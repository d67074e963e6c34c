"""Tests that people outside kgkit can run on their own adapters; needs pytest. Not imported by kgkit itself."""

import pytest

# Failures of the contract then show the values compared, as in people's own test files.
pytest.register_assert_rewrite(
    *(f"{__name__}.contract_{part}" for part in ("write", "align", "read", "answers")),
    f"{__name__}.graph_dump",
)
