"""Satori's facts: the threshold is strict, names are properties, bad rows are rejected."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from collect import collect

from kgkit.config import make_config
from kgkit.errors import ConfigError
from kgkit.ingest import ingest
from kgkit.registry import load_connector
from kgkit.store.open import open_store

ROWS = "e1\tfilm.film.genre\te2\t0.95\ne1\tfilm.film.genre\te3\t0.9\ne4\tfilm.film.actor\te1\t0.31\ne4\tx\te2\t1\n"


def dump(folder: Path, text: str = ROWS) -> Path:
    path = folder / "satori.tsv"
    path.write_text(text)
    return path


def test_only_what_is_above_the_threshold_is_kept(tmp_path: Path) -> None:
    got = collect("satori", dump(tmp_path))
    assert got.facts == [
        {"head": "e1", "relation": "film.film.genre", "tail": "e2"},
        {"head": "e4", "relation": "x", "tail": "e2"},
    ]
    assert got.skipped == {"confidence of 0.9 or below": 2} and got.rows == 4
    got = collect("satori", tmp_path / "satori.tsv", min_confidence=0)
    assert len(got.facts) == 4 and not got.skipped
    with pytest.raises(ConfigError, match="min-confidence must be >= 0, <= 1"):
        collect("satori", tmp_path / "satori.tsv", min_confidence=1.5)


def test_columns_by_name_and_a_header(tmp_path: Path) -> None:
    headed = "score\tsubject\tpredicate\tobject\n0.99\ta\tp\tb\n"
    expected = [{"head": "a", "relation": "p", "tail": "b"}]
    assert collect("satori", dump(tmp_path, headed)).facts == expected
    swapped = dump(tmp_path, "0.99\ta\tp\tb\n")
    assert collect("satori", swapped, confidence="1", head="2", relation="3", tail="4").facts == expected


def test_rows_without_a_confidence_are_malformed(tmp_path: Path) -> None:
    text = "a\tp\tb\t0.95\na\tp\tb\na\tp\tc\thigh\na\tp\td\tnan\n\tp\te\t0.99\n"
    got = collect("satori", dump(tmp_path, text))
    assert len(got.facts) == 1 and [r.line for r in got.rejects] == [2, 3, 4, 5]
    assert "confidence must be a finite number" in got.rejects[1].reason


def test_names_and_compression_into_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "satori.tsv.gz"
    path.write_bytes(gzip.compress(ROWS.encode()))
    names = tmp_path / "names.tsv"
    names.write_text("e1\tHeat\ne2\tDrama\n")
    connector = load_connector("satori")()
    config = make_config(connector.Config, {"paths": (path,), "names": (names,)})
    with open_store(tmp_path / "graph") as store:
        (report,) = ingest(connector, config, store).sources
        assert report.source == "satori.tsv.gz" and report.written["FACT"] == 2
        rows = store.query("MATCH (e:Entity) RETURN e.id, e.name ORDER BY e.id").rows
        assert list(rows) == [("e1", "Heat"), ("e2", "Drama"), ("e4", None)]
        names.write_text("e1\tHeat\ne2\tCrime\n")
        assert not ingest(connector, config, store).sources[0].unchanged  # names count in the fingerprint
