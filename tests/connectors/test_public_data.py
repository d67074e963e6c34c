"""The public data sets beside the checkout, against their known figures and independent naive counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from collect import SHARED, collect

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets are not beside the checkout"),
]


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_lastfm_as_the_papers_count_it() -> None:
    got = collect("kgcn", SHARED / "lastfm")
    assert len(got.purchases) == 21_173
    assert len({p["user"] for p in got.purchases}) == 1_872
    assert len({p["item"] for p in got.purchases}) == len(got.alignments) == 3_846
    assert len(got.facts) == 15_518
    assert len({f["relation"] for f in got.facts}) == 60
    entities = {f[end] for f in got.facts for end in ("head", "tail")} | {a["entity"] for a in got.alignments}
    assert len(entities) == 9_366
    assert sum(got.skipped.values()) == 92_834 - 21_173
    assert not got.rejects


def test_movielens_100k_loses_no_interaction() -> None:
    folder = SHARED / "ml-100k"
    got = collect("recbole", folder)
    inter, kg, link = (rows(folder / f"ml-100k.{s}")[1:] for s in ("inter", "kg", "link"))
    assert [(p["user"], p["item"], p["rating"], p["time"]) for p in got.purchases] == [
        (u, i, float(r), int(t)) for u, i, r, t in inter
    ]
    assert [(f["head"], f["relation"], f["tail"]) for f in got.facts] == [tuple(r) for r in kg]
    assert [(a["item"], a["entity"]) for a in got.alignments] == [tuple(r) for r in link]
    titles = {r[0]: r[1] for r in rows(folder / "ml-100k.item")[1:]}
    assert {f["key"]: f["name"] for f in got.features["item"]} == titles
    users = rows(folder / "ml-100k.user")[1:]
    assert [(f["key"], f["age"], f["occupation"]) for f in got.features["user"]] == [
        (r[0], r[1], r[3]) for r in users
    ]
    kept = collect("recbole", folder, min_rating=4)
    assert len(kept.purchases) == sum(float(r[2]) >= 4 for r in inter)
    assert not got.rejects


def test_linkages_and_triples_of_other_data_sets() -> None:
    linked = collect("alignment", SHARED / "kb4rec" / "ml2fb.txt")
    assert len(linked.alignments) == 25_982
    assert linked.alignments[0] == {"item": "1", "entity": "m.0dyb1"}
    counts = {
        p: len(collect("triples", SHARED / "wn18rr" / f"{p}.txt").facts) for p in ("train", "valid", "test")
    }
    assert counts == {"train": 86_835, "valid": 3_034, "test": 3_134}
