"""From a dump and a purchase log to a training-ready graph: --from-items, hops, k-core, and alignment as a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kgkit.cli.main import app
from kgkit.config import make_config
from kgkit.errors import ConfigError, ConnectorError
from kgkit.ingest import IngestReport, ingest
from kgkit.narrow import Narrow
from kgkit.records import Kept
from kgkit.registry import load_connector
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore
from kgkit.testing.graph_dump import dump

# i1 - a - b - c - d, and the island x - y; a is also liked by e and f.
CHAIN = [
    ("i1", "r", "a"),
    ("b", "r", "a"),
    ("b", "s", "c"),
    ("d", "s", "c"),
    ("x", "r", "y"),
    ("e", "r", "a"),
]


@pytest.fixture
def graph(tmp_path: Path) -> GraphStore:
    store = open_store(tmp_path / "g.lbug")
    bring(store, "alignment", tmp_path / "link.txt", "7\ti1\n")
    return store


def bring(
    store: GraphStore, name: str, path: Path, text: str, narrow: Narrow | None = None, **options: object
) -> IngestReport:
    path.write_text(text)
    connector = load_connector(name)()
    return ingest(
        connector, make_config(connector.Config, {"paths": (path,), **options}), store, narrow=narrow
    )


def lines(facts: list[tuple[str, str, str]]) -> str:
    return "".join("\t".join(fact) + "\n" for fact in facts)


@pytest.mark.parametrize(
    ("hops", "kept", "entities"),
    [(1, [0], 2), (2, [0, 1, 5], 4), (3, [0, 1, 2, 5], 5), (9, [0, 1, 2, 3, 5], 6)],
)
def test_facts_within_hops_of_the_items(
    graph: GraphStore, tmp_path: Path, hops: int, kept: list[int], entities: int
) -> None:
    report = bring(graph, "triples", tmp_path / "kg.txt", lines(CHAIN), Narrow(hops)).sources[0]
    assert {(h, r, t) for h, t, r in dump(graph)["FACT"]} == {CHAIN[i] for i in kept}
    assert report.left_out == {f"facts farther than {hops} hops from the items": len(CHAIN) - len(kept)}
    assert [s.step for s in report.steps] == ["items", *(f"hop {i}" for i in range(1, hops + 1))]
    last = report.steps[-1]
    assert (last.entities, last.facts) == (entities, len(kept))
    stored = json.loads(dump(graph)["Source"]["triples:kg.txt"]["steps"])
    assert stored[-1]["facts"] == len(kept)
    graph.close()


@pytest.mark.parametrize("core", [1, 2])
def test_labels_stay_with_the_facts_that_stay(graph: GraphStore, tmp_path: Path, core: int) -> None:
    facts = [("i1", "r", "a"), ("a", "r", "b"), ("b", "r", "i1"), ("x", "r", "y")]
    rows = "".join("\t".join([*fact, str(86_400 * i)]) + "\n" for i, fact in enumerate(facts, 1))
    narrow = Narrow(3, entity_core=core)
    bring(graph, "triples", tmp_path / "kg.txt", rows, narrow, split="test", time_column="4")
    assert {(h, r, t): (row["split"], row["time"]) for (h, t, r), row in dump(graph)["FACT"].items()} == {
        fact: ("test", 86_400 * i) for i, fact in enumerate(facts[:3], 1)
    }


def test_core_of_entities_and_relations(graph: GraphStore, tmp_path: Path) -> None:
    # d and e fall first, then relation s, which has one fact left, then c. The item stays with its single fact.
    facts = [*CHAIN, ("c", "r", "b"), ("a", "r", "b")]
    report = bring(
        graph, "triples", tmp_path / "kg.txt", lines(facts), Narrow(4, entity_core=2, relation_core=2)
    ).sources[0]
    assert {(h, r, t) for h, t, r in dump(graph)["FACT"]} == {
        ("i1", "r", "a"),
        ("b", "r", "a"),
        ("a", "r", "b"),
    }
    assert report.left_out["not in the k-core of entities and relations"] == 4
    assert [(s.step, s.facts) for s in report.steps][4] == ("hop 4", 7)
    assert report.steps[-1].step.startswith("core, round")
    assert (report.steps[-1].entities, report.steps[-1].relations, report.steps[-1].facts) == (3, 1, 3)
    graph.close()


def test_only_items_that_users_enough_bought(graph: GraphStore, tmp_path: Path) -> None:
    bring(graph, "alignment", tmp_path / "more.txt", "8\td\n9\tx\n")
    bought = "user,item\nu1,7\nu1,7\nu1,8\nu2,8\nu1,nowhere\nu2,nowhere\n"
    bring(graph, "purchases", tmp_path / "log.csv", bought)
    bring(graph, "purchases", tmp_path / "again.csv", "user,item\nu1,7\nu2,8\n")  # the same buyers
    kg, text = tmp_path / "kg.txt", lines(CHAIN)
    everything = bring(graph, "triples", kg, text, Narrow(1)).sources[0]
    assert (everything.steps[0], everything.steps[1].facts) == (Kept("items", items=3, entities=3), 3)
    for least, items, facts in ((1, 2, 2), (2, 1, 1)):
        report = bring(graph, "triples", kg, text, Narrow(1, item_core=least)).sources[0]
        assert report.steps[0] == Kept(f"items with {least} users", items=items, entities=items)
        assert report.steps[-1].facts == facts
        assert f"  items with {least} users: {items:,} items, {items:,} entities" in report.summary()
    with pytest.raises(ConfigError, match="--item-core 3: of 3 aligned items none has so many users"):
        bring(graph, "triples", kg, text, Narrow(1, item_core=3))
    graph.close()


@pytest.mark.parametrize("held", [64 << 20, 0])  # bytes that wait in memory, and not on disk
def test_names_come_for_what_is_kept(
    graph: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr("kgkit.spill.HELD", held)
    dump_ = "".join(
        f"<http://rdf.freebase.com/ns/{h}>\t<http://rdf.freebase.com/ns/{r}>\t{t}\t.\n"
        for h, r, t in [
            ("m.far", "type.object.name", '"Far away"@en'),
            ("m.near", "type.object.name", '"Near"@en'),
            ("i1", "film.film.directed_by", "<http://rdf.freebase.com/ns/m.near>"),
            ("m.far", "film.film.directed_by", "<http://rdf.freebase.com/ns/m.else>"),
        ]
    )
    report = bring(graph, "freebase", tmp_path / "d.nt", dump_, Narrow(1)).sources[0]
    entities = dump(graph)["Entity"]
    assert set(entities) == {"i1", "m.near"}
    assert entities["m.near"]["name"] == "Near"
    assert report.left_out["attributes of entities that are not kept"] == 1
    graph.close()


def test_a_source_that_breaks_off_keeps_what_was_near(graph: GraphStore, tmp_path: Path) -> None:
    path = tmp_path / "kg.txt"
    path.write_bytes(lines(CHAIN).encode() + b"\xff\xfe\tr\tx\n")
    connector = load_connector("triples")()
    with pytest.raises(ConnectorError, match=r"kg\.txt"):
        ingest(connector, make_config(connector.Config, {"paths": (path,)}), graph, narrow=Narrow(2))
    assert len(dump(graph)["FACT"]) in (0, 3)  # whole blocks: a bad byte ends the block it is in
    graph.close()


def test_other_items_or_hops_are_another_source(graph: GraphStore, tmp_path: Path) -> None:
    kg, text = tmp_path / "kg.txt", lines(CHAIN)
    assert not bring(graph, "triples", kg, text, Narrow(1)).sources[0].unchanged
    assert bring(graph, "triples", kg, text, Narrow(1)).sources[0].unchanged
    assert not bring(graph, "triples", kg, text, Narrow(2)).sources[0].unchanged
    bring(graph, "alignment", tmp_path / "more.txt", "8\tx\n")
    assert bring(graph, "triples", kg, text, Narrow(2)).sources[0].written["FACT"] == 1
    graph.close()


def test_no_items_and_wrong_numbers(tmp_path: Path) -> None:
    with open_store(tmp_path / "empty.lbug") as store, pytest.raises(ConfigError, match="kgkit align"):
        bring(store, "triples", tmp_path / "kg.txt", lines(CHAIN), Narrow(1))
    with pytest.raises(ConfigError, match="--hops must be at least 1"):
        Narrow(0)
    with pytest.raises(ConfigError, match="--item-core must be at least 0"):
        Narrow(item_core=-1)
    done = CliRunner().invoke(app, ["ingest", "triples", "kg.txt", "--hops", "2", "--store", "x.lbug"])
    assert isinstance(done.exception, ConfigError) and "--hops goes with --from-items" in str(done.exception)


RECIPE = """
store = "shop.lbug"

[[source]]
connector = "purchases"
paths = ["orders.csv"]

[[source]]
connector = "features"
paths = ["films.csv"]
name_column = "title"

[[source]]  # the films of the dump, with their names
connector = "freebase"
paths = ["dump.nt"]
source = "film names"
keep = ["film.film."]

[[source]]
align = "alignment.tsv"
head_of = ["film.film."]

[[source]]  # and what is around those that are sold
connector = "freebase"
paths = ["dump.nt"]
from_items = true
item_core = 1
hops = 2
"""


def test_one_command_from_dump_and_log_to_graph(tmp_path: Path) -> None:
    ns = "<http://rdf.freebase.com/ns/"
    rows = [
        ("m.1", "film.film.directed_by", f"{ns}m.kurosawa>"),
        ("m.1", "type.object.name", '"Seven Samurai"@en'),
        ("m.2", "film.film.directed_by", f"{ns}m.other>"),
        ("m.2", "type.object.name", '"Another Film"@en'),
        ("m.kurosawa", "people.person.place_of_birth", f"{ns}m.tokyo>"),
        ("m.tokyo", "location.location.containedby", f"{ns}m.japan>"),
    ]
    (tmp_path / "dump.nt").write_text("".join(f"{ns}{h}>\t{ns}{r}>\t{t}\t.\n" for h, r, t in rows))
    (tmp_path / "orders.csv").write_text("user,item\nu,7s\nu,zz\n")
    (tmp_path / "films.csv").write_text("item,title\n7s,Seven Samurai (1954)\nzz,Unknown\n")
    (tmp_path / "kg.toml").write_text(RECIPE)
    command = ["ingest", "--recipe", str(tmp_path / "kg.toml"), "--quiet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "1 items aligned" in done.output
    with open_store(tmp_path / "shop.lbug") as store:
        first = dump(store)
    assert first["Entity"]["m.1"]["item_id"] == "7s"
    assert ("m.kurosawa", "m.tokyo", "people.person.place_of_birth") in first["FACT"]
    assert ("m.tokyo", "m.japan", "location.location.containedby") not in first["FACT"]
    assert "zz" in (tmp_path / "alignment-unmatched.tsv").read_text()
    again = CliRunner().invoke(app, command)
    assert again.output.count("unchanged") + again.output.count("nothing has changed") == 5
    with open_store(tmp_path / "shop.lbug") as store:
        assert dump(store) == first


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ('align = "a.tsv"\naccept = "b.tsv"', "either align"),
        ('accept = "b.tsv"\nfuzzy = true', "either align"),
        ('align = "a.tsv"\nfuzy = true', "fuzzy"),
        ('align = "a.tsv"\nlinkage = "x"', "linkage must be a list"),
    ],
)
def test_a_wrong_alignment_step_is_named(tmp_path: Path, step: str, problem: str) -> None:
    from kgkit.recipe import read_recipe

    (tmp_path / "kg.toml").write_text(f"[[source]]\n{step}\n")
    with pytest.raises(ConfigError, match=problem):
        read_recipe(tmp_path / "kg.toml")
