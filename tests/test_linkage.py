"""MovieLens-100K's linkage, known by its content and put right; an alignment's audit, on it and on generated graphs."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from kgkit_connectors import movielens_100k
from typer.testing import CliRunner

from kgkit.align.audit import AGREE, FEWEST, SHUFFLED, UNKNOWN, audit
from kgkit.cli.main import app
from kgkit.config import make_config
from kgkit.demo import QUERIES
from kgkit.errors import ConnectorError
from kgkit.ingest import ingest
from kgkit.registry import load_connector
from kgkit.report.checks import findings
from kgkit.report.figures import graph_figures
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import GraphStore
from tests.connectors.collect import SHARED, collect

FOLDER = SHARED / "ml-100k"
shared = pytest.mark.skipif(not FOLDER.is_dir(), reason="the public data sets are not beside the checkout")
GENRES = 4


def shop(store: GraphStore, entity_of: dict[int, int], facts: bool = True) -> None:
    """120 items with a class; entity m.<n> has the genre n % 4, and a person each five films."""
    store.upsert_nodes("Entity", pa.table({"id": [f"m.{n}" for n in range(120)]}))
    if facts:
        told = [(f"m.{n}", "genre", f"g.{n % GENRES}") for n in range(120)]
        told += [(f"m.{n}", "by", f"p.{n % 24}") for n in range(120)]
        head, relation, tail = (list(c) for c in zip(*told, strict=True))
        store.upsert_edges(
            "FACT", pa.table({"head": head, "relation": relation, "tail": tail}), missing="create"
        )
    items = {"item": [str(n) for n in entity_of], "entity": [f"m.{e}" for e in entity_of.values()]}
    store.align(pa.table(items))
    said = {"id": items["entity"], "class": ["abcd"[n % GENRES] for n in entity_of]}
    store.upsert_nodes("Entity", pa.table(said))


def shuffled(n: int = 120, seed: int = 3) -> dict[int, int]:
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return dict(enumerate(order))


def test_an_audit_tells_right_from_shuffled(store: GraphStore) -> None:
    shop(store, {n: n for n in range(120)})
    found = audit(store)
    assert found.verdict == AGREE and found.chance == 1 / 200 and found.compared == found.aligned == 120
    best = found.agreements[0]
    assert (best.attribute, best.relation) == ("class", "genre")
    # Four classes of 30, each with one genre: (30 - 7.5)^2 / 7.5 in four cells, 7.5 in twelve.
    assert best.seen == pytest.approx(4 * 22.5**2 / 7.5 + 12 * 7.5)
    assert {(t.value, t.end, t.both, t.items, t.chance) for t in found.together if t.relation == "genre"} == {
        (c, f"g.{k}", 30, 30, 7.5) for k, c in enumerate("abcd")
    }
    assert audit(store) == found
    assert not [w for w in findings(graph_figures(store)) if "shuffled" in w.title]


def test_an_audit_cries_out_over_a_shuffled_alignment(store: GraphStore, tmp_path: Path) -> None:
    shop(store, shuffled())
    found = audit(store)
    assert found.verdict == SHUFFLED and found.chance > 0.01 and not found.table_of_values()[1]
    assert "no more than shuffled" in found.sentence()
    assert [w.title for w in findings(graph_figures(store)) if "shuffled" in w.title]


def test_an_audit_is_not_fooled_by_what_entities_say_themselves(store: GraphStore) -> None:
    """A property that entities have which are no items is the entities' own: it goes with their facts, of course."""
    shop(store, shuffled())
    own = {"id": [f"m.{n}" for n in range(120)], "own": ["wxyz"[n % GENRES] for n in range(120)]}
    store.upsert_nodes("Entity", pa.table(own))
    store.upsert_nodes("Entity", pa.table({"id": ["m.other"], "own": ["w"]}))
    assert audit(store).verdict == SHUFFLED


def test_an_audit_goes_by_names_and_years_that_come_once(store: GraphStore) -> None:
    for right in (True, False):
        store.clear()
        pairs = {n: n for n in range(60)} if right else shuffled(60)
        facts = {
            "head": [f"m.{n}" for n in range(60)],
            "relation": ["by"] * 60,
            "tail": [f"p.{n}" for n in range(60)],
        }
        store.upsert_edges("FACT", pa.table(facts), missing="create")
        store.upsert_nodes(
            "Entity", pa.table({"id": facts["tail"], "name": [f"Ann No{n}" for n in range(60)]})
        )
        store.align(pa.table({"item": [str(n) for n in pairs], "entity": [f"m.{e}" for e in pairs.values()]}))
        said = {"id": [f"m.{e}" for e in pairs.values()], "maker": [f"No{n}, Ann" for n in pairs]}
        store.upsert_nodes("Entity", pa.table(said))
        found = audit(store)
        assert found.verdict == (AGREE if right else SHUFFLED), right
        if right:
            assert (found.agreements[0].attribute, found.agreements[0].seen) == ("maker", 60)


def test_an_audit_says_when_there_is_nothing_to_compare(store: GraphStore) -> None:
    assert audit(store).verdict == UNKNOWN
    shop(store, {n: n for n in range(120)}, facts=False)
    assert audit(store).verdict == UNKNOWN and str(FEWEST) in audit(store).sentence()


def test_the_command_audits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LadybugStore(tmp_path / "g.lbug") as graph:
        shop(graph, shuffled())
    run = CliRunner().invoke(app, ["align", "--audit", "--store", "g.lbug"])
    assert run.exit_code == 0 and run.stdout.startswith(
        "warning: aligned items and entities agree no more than"
    )
    as_json = json.loads(CliRunner().invoke(app, ["align", "--audit", "--store", "g.lbug", "--json"]).stdout)
    assert (as_json["verdict"], as_json["compared"], as_json["shuffles"]) == (SHUFFLED, 120, 199)
    assert not (tmp_path / "alignment.tsv").exists()


def test_the_table_of_numbers_is_a_table_of_numbers() -> None:
    pairs = movielens_100k.numbers()
    assert len(pairs) == 1_555 and all(a.isdigit() and b.isdigit() for a, b in pairs.items())
    assert max(map(int, pairs)) <= 1_682
    assert (pairs["50"], pairs["313"], pairs["1"]) == ("260", "1721", "1")


def test_another_linkage_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.link").write_text("item_id:token\tentity_id:token\n1\tm.1\n2\tm.2\n")
    assert len(collect("recbole", tmp_path).alignments) == 2
    assert len(collect("recbole", tmp_path, link="as-published").alignments) == 2
    with pytest.raises(ConnectorError, match=r"x\.link.*corrects the linkage inside the recbole wheel"):
        collect("recbole", tmp_path, link="movielens-100k")
    (tmp_path / "x.link").rename(tmp_path / "x.user")
    with pytest.raises(ConnectorError, match=r"there is no \.link"):
        collect("recbole", tmp_path, link="movielens-100k")


def published() -> list[tuple[str, str]]:
    lines = (FOLDER / "ml-100k.link").read_text().splitlines()[1:]
    return [(a, b) for a, b in (line.split("\t") for line in lines)]


def _rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (FOLDER / name).read_text().splitlines()[1:]]


@shared
@pytest.mark.shared_data
def test_the_published_linkage_is_known_in_any_order(tmp_path: Path) -> None:
    pairs = published()
    random.Random(1).shuffle(pairs)
    link = tmp_path / "other-name.link"
    link.write_text("item_id:token\tentity_id:token\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    got = collect("recbole", tmp_path)
    right = {(a["item"], a["entity"]) for a in got.alignments}
    assert ("50", "m.0dtfn") in right and len(right) == 1_434 and sum(got.skipped.values()) == 17
    assert {
        (a["item"], a["entity"]) for a in collect("recbole", tmp_path, link="as-published").alignments
    } == set(pairs)
    link.write_text("item_id:token\tentity_id:token\n" + "".join(f"{a}\t{b}\n" for a, b in pairs[1:]))
    assert len(collect("recbole", tmp_path).alignments) == 1_597  # one pair less is another file


@shared
@pytest.mark.shared_data
def test_the_right_linkage_by_what_nobody_made_it_from() -> None:
    """Genres of both sides; and the pairs beside a table that was made another way."""
    pairs = published()
    right, _ = movielens_100k.linked(pairs)
    genres = defaultdict(set)
    for head, relation, tail in _rows("ml-100k.kg"):
        if relation == "film.film.genre":
            genres[head].add(tail)
    classes = {row[0]: row[3].split(" ") for row in _rows("ml-100k.item")}
    seen = {}
    for name, genre in (("Horror", "m.03npn"), ("Western", "m.0hfjk"), ("Animation", "m.0hcr")):
        for linkage in (right, pairs):
            has = [genre in genres[e] for i, e in linkage if name in classes.get(i, ()) and genres[e]]
            seen.setdefault(name, []).append((sum(has), len(has)))
    assert seen == {
        "Horror": [(78, 80), (4, 89)],
        "Western": [(24, 25), (0, 26)],
        "Animation": [(39, 39), (3, 42)],
    }
    given = dict(tuple(row) for row in _rows("ml100k_to_movielens.tsv"))
    ours = movielens_100k.numbers()
    assert {i: m for i, m in given.items() if ours.get(i) != m} == {
        "1520": "662"
    }  # The Fear (1995) is not Fear (1996)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> LadybugStore:
    """MovieLens-100K as the demo reads it."""
    store = LadybugStore(tmp_path_factory.mktemp("films") / "graph.lbug")
    connector = load_connector("recbole")()
    config = make_config(connector.Config, {"paths": (FOLDER,), "min_rating": 4.0, "source": "ml-100k"})
    report = ingest(connector, config, store)
    assert "used instead: --link movielens-100k" in report.summary()
    assert report.sources[0].conflicts == 0
    return store


@shared
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("film", "directors"),
    [
        ("Star Wars", {"m.0343h"}),  # George Lucas
        ("Fargo", {"m.02kxbwx", "m.02kxbx3"}),  # Joel and Ethan Coen
        ("Aliens", {"m.03_gd"}),  # James Cameron
        ("Abyss, The", {"m.03_gd"}),
        ("True Lies", {"m.03_gd"}),
        ("Titanic", set()),  # 1997: the wheel's facts do not have it
    ],
)
def test_the_demos_films_have_the_directors_that_a_person_knows(
    films: LadybugStore, film: str, directors: set[str]
) -> None:
    query = (
        "MATCH (i:Entity {name: $film})-[f:FACT {relation: 'film.film.directed_by'}]->(e:Entity) RETURN e.id"
    )
    assert {row[0] for row in films.query(query, {"film": film}).rows} == directors


@shared
@pytest.mark.shared_data
def test_the_demos_reasons_are_right(films: LadybugStore) -> None:
    """Who bought The Abyss is recommended Aliens: because of James Cameron, and of genres."""
    ids = dict(films.query("MATCH (i:Entity) WHERE i.item_id IS NOT NULL RETURN i.name, i.id").rows)
    edge = {"head": ["me"], "tail": [ids["Abyss, The"]], "source": ["t"], "count": [1]}
    films.upsert_nodes("User", pa.table({"id": ["me"]}))
    films.upsert_edges("PURCHASED", pa.table(edge))
    best = {"head": ["me"], "tail": [ids["Aliens"]], "score": np.array([0.9]), "rank": [1], "run": ["t"]}
    films.upsert_edges("RECOMMENDED", pa.table(best))
    why = next(q for q in QUERIES if q.title.startswith("Why"))
    rows = list(films.query(why.cypher, {"user": "me"}).rows)
    assert ("Aliens", "film.film.directed_by", "m.03_gd", 1, "Abyss, The") in rows


@shared
@pytest.mark.shared_data
def test_an_audit_of_movielens(films: LadybugStore, tmp_path: Path) -> None:
    right = audit(films)
    assert (right.verdict, right.aligned, right.agreements[0].relation) == (AGREE, 1_434, "film.film.genre")
    assert right.strength > 20 * right.best_shuffled
    with LadybugStore(tmp_path / "wrong.lbug") as store:
        connector = load_connector("recbole")()
        ingest(connector, make_config(connector.Config, {"paths": (FOLDER,), "link": "as-published"}), store)
        wrong = audit(store)
        assert (wrong.verdict, wrong.aligned) == (SHUFFLED, 1_598) and wrong.strength < 5
