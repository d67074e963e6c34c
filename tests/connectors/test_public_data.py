"""The public data sets beside the checkout, against their known figures and independent naive counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from collect import SHARED, collect

from kgkit.config import make_config
from kgkit.evaluate.triple_leaks import find_leaks
from kgkit.evaluate.triple_split import count_unseen, split_triples
from kgkit.extract import Extraction, extract
from kgkit.ingest import ingest
from kgkit.queries import TRIPLES
from kgkit.registry import load_connector
from kgkit.store.open import open_store

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
    got = collect("recbole", folder, link="as-published")
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


def test_wn18rr_keeps_its_split(tmp_path: Path) -> None:
    """From the three files through a graph: 3,034 and 3,134 facts held out, 210 of the test facts with an unseen end."""
    with open_store(tmp_path / "wn18rr.lbug") as store:
        for part in ("train", "valid", "test"):
            connector = load_connector("triples")()
            config = make_config(
                connector.Config, {"paths": [SHARED / "wn18rr" / f"{part}.txt"], "split": part}
            )
            assert ingest(connector, config, store).sources[0].matched["FACT"] == 0
        graph = extract(store, Extraction((TRIPLES,), labels=True))
    assert (len(graph.entities), len(graph.relations), len(graph.triples)) == (40_943, 11, 93_003)
    split = split_triples(graph)
    assert [len(part) for part in (split.train, split.valid, split.test)] == [86_835, 3_034, 3_134]
    assert count_unseen(split)["test"] == 210
    assert find_leaks(split, graph.relations.ids.to_pylist())["test"]["symmetric"] == 1_086
    drawn = split_triples(graph, "random")
    assert (len(drawn.valid), count_unseen(drawn)["test"]) == (9_300, 0)
