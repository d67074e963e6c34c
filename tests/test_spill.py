"""Tables that wait on disk come back whole, in the parts that were asked for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from kgkit.spill import SpillFolder


@pytest.mark.parametrize("held", [1 << 20, 1000, 0])
@pytest.mark.parametrize("key", ["key", None])
def test_rows_come_back_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, held: int
) -> None:
    monkeypatch.setattr("kgkit.spill.HELD", held)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rows = [(f"k{i * 7 % 40:02}", i) for i in range(300)]
    with SpillFolder() as folder:
        spill, other = folder.spill(key), folder.spill(key)
        for start in range(0, 300, 20):
            keys, values = zip(*rows[start : start + 20], strict=True)
            spill.add(pa.table({"key": keys, "row": values}))
        other.add(pa.table({"key": ["k00"], "row": [0]}))
        assert folder.spilled == (held < 1 << 20) and bool(list(tmp_path.rglob("*.arrow"))) == folder.spilled
        parts = [part.to_pylist() for _, part in spill.parts()]
        assert [part.to_pylist() for _, part in other.parts()] == [[{"key": "k00", "row": 0}]]
    found = [(row["key"], row["row"]) for part in parts for row in part]
    if key is None:
        assert found == rows
        assert held or len(parts) == 15  # one for each time that something went to disk
    else:
        by_key = sorted(found, key=lambda row: row[0])  # stable: of one key in the order in which they came
        assert by_key == sorted(rows)
        assert sum(len({row["key"] for row in part}) for part in parts) == 40  # those of one key are together
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("held", [1 << 20, 500, 0])
@pytest.mark.parametrize("most", [1000, 7])
def test_keys_come_back_once_beside_their_rows(monkeypatch: pytest.MonkeyPatch, most: int, held: int) -> None:
    monkeypatch.setattr("kgkit.spill.HELD", held)
    monkeypatch.setattr("kgkit.spill.KEYS", most)
    asked = [f"k{i * 7 % 40:02}" for i in range(300)]
    with SpillFolder() as folder:
        rows, keys = folder.spill("key"), folder.keys()
        rows.add(pa.table({"key": sorted(set(asked)), "row": range(40)}))
        for start in range(0, 300, 20):
            keys.add(pa.chunked_array([asked[start : start + 20]]))
        parts = dict(keys.parts())  # what is still held may be what no longer fits
        beside = dict(rows.parts())
    assert parts.keys() == beside.keys() and (len(parts) > 1) == (held < 1 << 20)
    for number, part in parts.items():
        assert sorted(part.to_pylist()) == sorted(beside[number]["key"].to_pylist())
