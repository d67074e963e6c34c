"""The report of a graph: figures worked by hand, escaping, a page that loads nothing, and the command's errors."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from kgkit.cli import stats as stats_command
from kgkit.errors import ConfigError, DiskError, StoreError
from kgkit.report import charts, html
from kgkit.report.charts import Series
from kgkit.report.checks import findings
from kgkit.report.figures import GraphFigures, Hop, distribution, graph_figures, normalised
from kgkit.report.graph_page import graph_page
from kgkit.report.relations import relation_figures
from kgkit.store.ladybug import LadybugStore
from kgkit.store.port import GraphStore
from kgkit.testing.contract_write import facts, nodes, purchases

SCRIPT = "<script>alert('&\"')</script>"


def fill(store: GraphStore) -> None:
    """Items e1, e2 (one name, two spellings), e4 (no facts) and the stub item:3; chain e1 - p - c - n; loop at g."""
    names = ["Amélie (2001)", "AMELIE 2001", SCRIPT, None]
    store.upsert_nodes("Entity", nodes("e1", "e2", "e4", "item:3", name=names, item_id=["1", "2", "4", "3"]))
    told = [
        ("e1", "genre", "g"), ("e2", "genre", "g"), ("e1", "by", "p"), ("p", "made", "e1"), ("p", "born", "c"),
        ("c", "in", "n"), ("g", "like", "g"),
    ]  # fmt: skip
    store.upsert_edges("FACT", facts(*told), missing="create")
    bought = [
        ("u1", "e1", "a", 1), ("u1", "e2", "a", 1), ("u1", "item:3", "a", 9), ("u2", "e1", "a", 1), ("u3", "e1", "a", 1),
        ("u3", "e1", "b", 2), ("u3", "e4", "a", 1),
    ]  # fmt: skip
    store.upsert_edges("PURCHASED", purchases(*bought), missing="create")
    store.upsert_nodes("Source", nodes("triples:kg", connector=["triples"], fingerprint=["f00"], rows=[7]))


def figures_of(path: Path) -> GraphFigures:
    with LadybugStore(path) as store:
        fill(store)
        return graph_figures(store)


def test_figures_by_hand(store: GraphStore) -> None:
    fill(store)
    f = graph_figures(store)
    assert f.counts["nodes"] == {"Entity": 8, "Item": 4, "Run": 0, "User": 3}
    assert [(r.name, r.facts, r.heads, r.tails, r.category) for r in f.relations] == [
        ("genre", 2, 2, 1, "N-1"), ("born", 1, 1, 1, "1-1"), ("by", 1, 1, 1, "1-1"), ("in", 1, 1, 1, "1-1"),
        ("like", 1, 1, 1, "1-1"), ("made", 1, 1, 1, "1-1"),
    ]  # fmt: skip
    assert sum(r.share for r in f.relations) == pytest.approx(1)
    # out: e1 2, p 2, e2 1, c 1, g 1; in: g 3, p 1, e1 1, c 1, n 1; either: e1 3, g 3, p 3, c 2, e2 1, n 1
    assert (f.facts_out.degree, f.facts_out.nodes, f.facts_out.zero) == ([1, 2], [3, 2], 3)
    assert (f.facts_in.degree, f.facts_in.nodes, f.facts_in.zero) == ([1, 3], [4, 1], 3)
    assert (f.facts_any.degree, f.facts_any.nodes, f.facts_any.zero) == ([1, 2, 3], [2, 1, 3], 2)
    assert (f.items_per_user.degree, f.items_per_user.nodes) == ([1, 2, 3], [1, 1, 1])
    assert (f.users_per_item.degree, f.users_per_item.nodes) == ([1, 3], [3, 1])
    c = f.coverage
    assert (c.items, c.with_entity, c.stubs, c.with_facts) == (4, 3, 1, 2)
    assert (c.purchases, c.purchases_with_entity, c.purchases_with_facts) == (6, 5, 4)
    assert f.hops == [Hop(0, 4, 4, 0), Hop(1, 2, 6, 4), Hop(2, 1, 7, 6), Hop(3, 1, 8, 7)]
    assert f.without_facts == 2 and [i.id for i in f.without_facts_examples] == ["e4", "item:3"]
    assert f.unnamed == 1 and f.unnamed_examples[0].id == "item:3"
    assert f.twins == 1 and f.twin_examples[0].name == "amelie 2001"
    assert [(i.id, i.users) for i in f.twin_examples[0].items] == [("e1", 3), ("e2", 1)]
    assert f.self_facts == 1 and f.bought_without_item_id == 0 and f.facts_without_relation == 0
    assert [(h.relation, h.id, h.facts) for h in f.finds.one_tail] == [("genre", "g", 2)]
    assert [(s.id, s.rows, s.fingerprint) for s in f.sources] == [("triples:kg", 7, "f00")]


def test_inverse_and_symmetric_relations_and_hubs() -> None:
    """20 films by 10 people, told both ways but for two; 6 pairs of friends told both ways; one genre for 90 of 120."""
    films, people = np.arange(20), 20 + np.arange(20) % 10
    a, b = np.arange(30, 36), np.arange(36, 42)
    genre_of = np.where(np.arange(120) < 90, 162, 163)
    head = np.concatenate([films, people[:18], a, b, 42 + np.arange(120)])
    tail = np.concatenate([people, films[:18], b, a, genre_of])
    rid = np.repeat([5, 6, 8, 9], [20, 18, 12, 120])
    names = {5: "by", 6: "made", 8: "friend", 9: "genre"}
    found, finds, rows = relation_figures(head, rid, tail, 164, names, 20)
    assert [(r.name, r.facts, r.category) for r in found] == [
        ("genre", 120, "N-1"), ("by", 20, "N-1"), ("made", 18, "1-N"), ("friend", 12, "1-1"),
    ]  # fmt: skip
    assert {(i.relation, i.inverse, i.matched) for i in finds.inverses} == {
        ("by", "made", 18),
        ("friend", "friend", 12),
    }
    assert [(h.side, h.row, h.facts, h.share) for h in finds.hubs] == [
        ("tail", 162, 90, 0.75)
    ] and finds.one_tail == []
    assert rows.tolist() == [162]


def test_inverses_against_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    told = np.unique(rng.integers(0, [12, 3, 12], (300, 3)), axis=0)
    known = {tuple(row) for row in told.tolist()}
    monkeypatch.setattr("kgkit.report.relations._PAIRS", 7)  # many chunks
    monkeypatch.setattr("kgkit.report.relations.INVERSE_SHARE", 0)
    _, finds, _ = relation_figures(told[:, 0], told[:, 1], told[:, 2], 12, {0: "0", 1: "1", 2: "2"}, 20)
    got = {(i.relation, i.inverse): i.matched for i in finds.inverses}
    for r in range(3):
        for s in range(r, 3):
            both = sum((t, s, h) in known for h, q, t in known if q == r and h != t)
            assert got[str(r), str(s)] == both


def test_distribution_of_nothing_and_of_zeros() -> None:
    assert distribution(np.zeros(0, dtype=np.int64)).largest == 0
    d = distribution(np.array([0, 0, 4, 1]))
    assert (d.degree, d.nodes, d.zero, d.mean, d.median) == ([1, 4], [1, 1], 2, 1.25, 0.5)


def test_normalised_names() -> None:
    given = pa.array(["Amélie  (2001)", "AMELIE 2001", "Ｍatrix, The", "???", "ВОЙНА и мир", "हिन्दी"])
    expected = ["amelie 2001", "amelie 2001", "matrix the", "", "воина и мир", "हिन्दी"]
    assert normalised(given).to_pylist() == expected


class Page(HTMLParser):
    """Checks that tags close in order, and collects what could load something."""

    VOID = ("meta", "line", "circle", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_safe_and_loads_nothing(tmp_path: Path) -> None:
    text = graph_page(figures_of(tmp_path / "g.lbug"), "today")
    page = Page(text)
    assert SCRIPT not in text and "&lt;script&gt;alert(&#x27;&amp;&quot;&#x27;)" in text
    assert not {"script", "img", "link", "iframe", "object", "foreignobject"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert page.links and all(link.removeprefix("#") in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    # Each chart stands in a figure beside a table of the same numbers.
    assert page.tags.count("svg") == page.tags.count("figure") == page.tags.count("details") == 4
    assert text.count("<summary>") == 4 and text.count('role="img"') == 4
    assert "prefers-color-scheme: dark" in text


def test_warnings_say_what_to_do(tmp_path: Path) -> None:
    found = findings(figures_of(tmp_path / "g.lbug"))
    titles = [w.title for w in found]
    assert titles == [
        "1 item of 4 not aligned with an entity",
        "1 aligned item whose entity no fact mentions",
        "1 name that several items bear",
        "1 item without a name",
        "1 relation with a single tail",
        "5 relations with a single fact",
        "1 fact of an entity with itself",
        "1 user of 3 with one item only",
    ]
    assert all(len(w.advice) > 40 for w in found)
    assert "1 purchase (16.7%)" in found[0].advice and "kgkit ingest alignment" in found[0].advice


def test_charts() -> None:
    log = charts.scatter([Series("a", [1, 10, 100], [1000, 10, 1])], "x", "y", log_x=True, log_y=True)
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', log) == [
        ("62", "26"),
        ("264", "179.5"),
        ("466", "256"),
    ]
    assert charts.scatter([Series("a", [1, 1.0001, 9], [5, 5, 5])], "x", "y").count("<circle") == 2
    gap = charts.line_chart([Series("loss", [0, 1, 2, 3], [1.0, float("nan"), 0.5, 0.25])], "epoch", "loss")
    assert [len(p) for p in re.findall(r' d="(M[^"]+)" fill="none" stroke=', gap)] and "nan" not in gap
    bars = charts.histogram([0, 1, 2, 4], [3, 0, 6], "score", "users")
    assert re.findall(r'height="([\d.]+)" fill', bars) == ["115.0", "0.0", "230.0"]
    assert "a&lt;b" in charts.bar_chart(["a<b", "none"], [4, 0], "facts")
    with pytest.raises(ValueError, match="logarithmic"):
        charts.axis([0.0, 1.0], 0, 1, log=True)


def test_table_escapes_and_sets_numbers_right() -> None:
    text = html.table(["a<b", "n"], [["<i>", 1234], [None, 0.5]], caption='"c"')
    Page(text)
    assert '<th scope="row">&lt;i&gt;</th><td class="n">1,234</td>' in text and "&quot;c&quot;" in text
    assert "0.5</td>" in text and "a&lt;b" in text
    assert html.paragraph("type `kgkit <x>`") == "<p>type <code>kgkit &lt;x&gt;</code></p>"


def run(*args: str | Path) -> Result:
    app = typer.Typer()
    stats_command.register(app)
    return CliRunner().invoke(app, [str(a) for a in args])


def test_command(tmp_path: Path) -> None:
    figures_of(tmp_path / "g.lbug")
    done = run("--store", tmp_path / "g.lbug", "--report", tmp_path / "out.html")
    assert done.exception is None, done.output
    assert done.output.endswith("out.html: 8 entities, 7 facts, 6 purchases, 8 warnings\n")
    Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    done = run("--store", tmp_path / "g.lbug", "--report", tmp_path / "out.html", "--json")
    document = json.loads(done.output)
    assert document["coverage"]["stubs"] == 1 and len(document["warnings"]) == 8


def test_command_errors(tmp_path: Path) -> None:
    figures_of(tmp_path / "g.lbug")
    for file, wording in [(tmp_path / "no" / "out.html", "there is no folder"), (tmp_path, "is a folder")]:
        done = run("--store", tmp_path / "g.lbug", "--report", file)
        assert isinstance(done.exception, ConfigError) and wording in str(done.exception)
        assert "\n" not in str(done.exception)
    full = Path("/dev/full")
    if full.exists():
        done = run("--store", tmp_path / "g.lbug", "--report", full)
        assert isinstance(done.exception, DiskError) and "No space" in str(done.exception)
    done = run("--store", tmp_path / "none.lbug", "--report", tmp_path / "out.html")
    assert isinstance(done.exception, StoreError) and not (tmp_path / "out.html").exists()


def test_empty_graph_says_so(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "g.lbug") as store:
        store.ensure_schema()
        f = graph_figures(store)
    assert findings(f) == [] and f.hops[3] == Hop(3, 0, 0, 0)
    text = graph_page(f, "today")
    Page(text)
    assert "This graph is empty" in text and "<svg" not in text


def test_facts_of_peoples_own_cypher_are_counted_apart(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "kg.lbug") as store:
        store.upsert_edges("FACT", facts(("a", "r", "b")), missing="create")
        own = "MATCH (a:Entity {id: 'a'}), (b:Entity {id: 'b'}) CREATE (b)-[:FACT {relation: 'own'}]->(a)"
        list(store.query(own, write=True).rows)
        assert store.stats()["relations"] == {"r": 1}
        f = graph_figures(store)
    assert f.facts_without_relation == 1 and [r.name for r in f.relations] == ["r"]
    assert "1 fact not written by kgkit" in [w.title for w in findings(f)]


def test_facts_alone_and_purchases_alone(tmp_path: Path) -> None:
    with LadybugStore(tmp_path / "kg.lbug") as store:
        store.upsert_edges("FACT", facts(("a", "r", "b")), missing="create")
        f = graph_figures(store)
    assert next(w.title for w in findings(f)) == "No purchases"
    Page(graph_page(f, "today"))
    with LadybugStore(tmp_path / "log.lbug") as store:
        store.upsert_nodes("Entity", nodes("item:1", item_id=["1"], name=["One"]))
        store.upsert_edges("PURCHASED", purchases(("u", "item:1", "s", 1)), missing="create")
        f = graph_figures(store)
    assert [w.title for w in findings(f)] == ["No facts", "1 user of 1 with one item only"]
    Page(graph_page(f, "today"))
