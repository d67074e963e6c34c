"""Ingest: the same graph whatever the order and the repetitions; rejects and limits; on both stores."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import ENGINES, empty_graph

from kgkit.config import make_config
from kgkit.errors import ConfigError, ConnectorError, StoppedError, TooManyRejects
from kgkit.ingest import IngestReport, Step, halfway, ingest
from kgkit.ingest_writer import Writer
from kgkit.records import Facts, Features
from kgkit.registry import load_connector
from kgkit.store.port import GraphStore
from kgkit.testing.graph_dump import Dump, dump


@pytest.fixture(params=ENGINES[:2])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    """An empty graph on each engine; how facts are stored is the contract suite's to test."""
    yield from empty_graph(request, tmp_path)


def bring(store: GraphStore, name: str, *paths: Path, **options: Any) -> IngestReport:
    """`kgkit ingest`; keywords that ingest itself takes go there, the others to the connector."""
    own = {
        k: options.pop(k)
        for k in ("max_rejects", "rejects", "force", "on_progress", "stoppable", "buffer")
        if k in options
    }
    connector = load_connector(name)()
    return ingest(connector, make_config(connector.Config, {"paths": paths, **options}), store, **own)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, tuple[str, tuple[Path, ...], dict[str, Any]]]:
    """A small shop: overlapping months, items with and without entity, facts about items, attributes by item id."""
    rng = random.Random(5)
    months = []
    for month in (1, 2):
        lines = ["user,item,rating,time"]
        for _ in range(120):
            lines.append(
                f"u{rng.randrange(12)},i{rng.randrange(30)},{rng.randrange(1, 6)},{month * 10**6 + rng.randrange(999)}"
            )
        months.append(write(tmp_path, f"2024-0{month}.csv", "\n".join(lines) + "\n"))
    facts = "".join(
        f"m.{rng.randrange(40)}\tr.{rng.randrange(4)}\tm.{rng.randrange(40)}\n" for _ in range(150)
    )
    alignment = "".join(f"i{i}\tm.{i}\n" for i in range(35) if i % 3)  # some never bought, some in no fact
    titles = "".join(f"i{i},Title {i},{i / 2}\n" for i in range(33))
    return {
        "facts": ("triples", (write(tmp_path, "kg.txt", facts),), {}),
        "purchases": ("purchases", tuple(months), {}),
        "alignment": ("alignment", (write(tmp_path, "link.txt", alignment),), {}),
        "titles": (
            "features",
            (write(tmp_path, "items.csv", "item,title,price\n" + titles),),
            {"name_column": "title"},
        ),
    }


def fill(store: GraphStore, shop: dict[str, Any], order: tuple[str, ...]) -> Dump:
    for part in order:
        name, paths, options = shop[part]
        bring(store, name, *paths, **options)
    return dump(store)


def test_the_graph_is_what_the_files_say(store: GraphStore, shop: dict[str, Any]) -> None:
    graph = fill(store, shop, ("facts", "alignment", "purchases", "titles"))
    node = {f"i{i}": f"m.{i}" if i % 3 else f"item:i{i}" for i in range(35)}
    pairs: dict[Any, dict[str, Any]] = {}
    for month in shop["purchases"][1]:
        for line in month.read_text().splitlines()[1:]:
            user, item, rating, when = line.split(",")
            pair = pairs.setdefault(
                (user, node[item], f"purchases:{month.name}"), {"count": 0, "first": 9e9, "last": 0}
            )
            pair["count"] += 1
            pair["first"] = min(pair["first"], int(when))
            if int(when) >= pair["last"]:
                pair["last"], pair["rating"] = int(when), float(rating)
    assert {
        k: {p: v for p, v in row.items() if p != "source"} for k, row in graph["PURCHASED"].items()
    } == pairs
    triples = {tuple(line.split("\t")) for line in shop["facts"][1][0].read_text().splitlines()}
    assert set(graph["FACT"]) == {(h, t, r) for h, r, t in triples}
    items = {row["item_id"]: id for id, row in graph["Entity"].items() if "item_id" in row}
    assert {i: n for i, n in node.items() if i in items} == items
    assert set(items) >= {f"i{i}" for i in range(33)}
    assert graph["Entity"][node["i7"]] == {
        "item_id": "i7",
        "name": "Title 7",
        "name_of": "item",
        "price": 3.5,
    }
    assert {s["rows"] for s in graph["Source"].values()} == {120, 150, 23, 33}


def test_the_order_of_sources_does_not_matter(store: GraphStore, shop: dict[str, Any]) -> None:
    graphs = []
    for order in itertools.permutations(("facts", "purchases", "alignment")):
        store.clear()
        graphs.append(fill(store, shop, (*order, "titles")))
    store.clear()
    graphs.append(fill(store, shop, ("titles", "purchases", "alignment", "facts")))
    assert all(graph == graphs[0] for graph in graphs)


def test_a_fact_of_two_sources_keeps_one_origin_in_either_order(store: GraphStore, tmp_path: Path) -> None:
    one, two = write(tmp_path, "a.txt", "x\tr\ty\nx\tr\tz\n"), write(tmp_path, "b.txt", "x\tr\ty\nz\tr\ty\n")
    bring(store, "triples", one)
    report = bring(store, "triples", two)
    graph = dump(store)
    assert graph["FACT"]["x", "y", "r"]["source"] == "triples:a.txt"
    assert report.sources[0].written["FACT"] == 1
    store.clear()
    bring(store, "triples", two, one)
    assert dump(store) == graph


def test_each_file_keeps_its_label(store: GraphStore, tmp_path: Path) -> None:
    train = write(tmp_path, "train.txt", "x\tr\ty\ny\tr\tz\n")
    valid = write(tmp_path, "valid.txt", "x\ts\ty\ny\tr\tz\n")  # told before: the last label counts
    test = write(tmp_path, "test.txt", "z\ts\ty\nx\ts\ty\nz\ts\ty\n")  # a source that comes before by name
    for path in (train, valid, test):
        report = bring(store, "triples", path, split=path.stem)
        assert not report.sources[0].unchanged
    facts = {
        ("x", "y", "r"): {"source": "triples:train.txt", "split": "train"},
        ("y", "z", "r"): {"source": "triples:train.txt", "split": "valid"},
        ("x", "y", "s"): {"source": "triples:test.txt", "split": "test"},
        ("z", "y", "s"): {"source": "triples:test.txt", "split": "test"},
    }
    assert dump(store)["FACT"] == {key: {"relation": key[2], **row} for key, row in facts.items()}
    assert (report.sources[0].written["FACT"], report.sources[0].matched["FACT"]) == (1, 1)
    assert bring(store, "triples", test, split="test").sources[0].unchanged
    assert not bring(store, "triples", test, split="valid").sources[0].unchanged
    assert dump(store)["FACT"]["z", "y", "s"]["split"] == "valid"
    assert not bring(store, "triples", test).sources[0].unchanged
    assert dump(store)["FACT"]["z", "y", "s"]["split"] == "valid"  # told again without, it keeps its label


def test_the_last_row_of_a_fact_says_its_time(store: GraphStore, tmp_path: Path) -> None:
    bring(store, "triples", write(tmp_path, "a.txt", "k0\tr\tk1\n"))
    rows = [(f"k{i % 50}", f"k{(i + 1) % 50}", i + 1) for i in range(500)]
    log = write(tmp_path, "log.txt", "".join(f"{h}\tr\t{t}\t{time}\n" for h, t, time in rows))
    bring(store, "triples", log, time_column="4")
    assert {k[:2]: row["time"] for k, row in dump(store)["FACT"].items()} == {
        (h, t): time for h, t, time in rows
    }


def test_ingesting_twice_changes_nothing(store: GraphStore, shop: dict[str, Any]) -> None:
    order = ("purchases", "alignment", "facts", "titles")
    graph = fill(store, shop, order)
    assert fill(store, shop, order) == graph
    name, paths, options = shop["purchases"]
    again = bring(store, name, paths[0], **options)
    assert [s.unchanged for s in again.sources] == [True]
    assert "already in the graph" in again.summary()
    forced = bring(store, name, *paths, force=True, **options)
    assert [s.unchanged for s in forced.sources] == [False, False]
    assert not any(s.written.get("PURCHASED") for s in forced.sources)
    assert dump(store) == graph


def test_changed_contents_or_options_are_read_again(store: GraphStore, tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,item,rating\na,1,5\n")
    bring(store, "purchases", path)
    path.write_text("user,item,rating\na,1,5\na,1,4\nb,2,1\n")
    report = bring(store, "purchases", path)
    assert not report.sources[0].unchanged
    assert {k: v["count"] for k, v in dump(store)["PURCHASED"].items()} == {
        ("a", "item:1", "purchases:log.csv"): 2,
        ("b", "item:2", "purchases:log.csv"): 1,
    }
    assert not bring(store, "purchases", path, min_rating=2).sources[0].unchanged


def test_one_named_source_joins_its_files(store: GraphStore, tmp_path: Path) -> None:
    one, two = write(tmp_path, "1.csv", "user,item\na,1\n"), write(tmp_path, "2.csv", "user,item\na,1\n")
    bring(store, "purchases", one, two, source="year")
    assert {k: v["count"] for k, v in dump(store)["PURCHASED"].items()} == {
        ("a", "item:1", "purchases:year"): 2
    }


def test_two_files_of_one_name_are_refused(store: GraphStore, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "log.csv", "user,item\na,1\n")
    with pytest.raises(ConfigError, match=r"several sources are called 'log.csv'.*--source"):
        bring(store, "purchases", tmp_path / "x" / "log.csv", tmp_path / "y" / "log.csv")


def test_small_buffers_give_the_same_graph(store: GraphStore, shop: dict[str, Any]) -> None:
    graph = fill(store, shop, ("facts", "alignment", "purchases", "titles"))
    store.clear()
    for name, paths, options in shop.values():
        bring(store, name, *paths, buffer=7, **options)
    assert dump(store) == graph


def test_alignments_that_contradict_are_listed_and_not_applied(store: GraphStore, tmp_path: Path) -> None:
    bring(store, "alignment", write(tmp_path, "one.txt", "i1\te1\ni2\te2\n"))
    listed = tmp_path / "rejects.tsv"
    report = bring(store, "alignment", write(tmp_path, "two.txt", "i1\te9\ni3\te3\n"), rejects=listed)
    assert report.sources[0].conflicts == 1
    assert report.sources[0].rejected == 0
    assert report.rejects_file == str(listed)
    assert "alignment conflict" in listed.read_text()
    assert "i1\te9" in listed.read_text().replace('"', "")
    graph = dump(store)
    assert {row["item_id"]: id for id, row in graph["Entity"].items() if "item_id" in row} == {
        "i1": "e1",
        "i2": "e2",
        "i3": "e3",
    }


def test_malformed_rows_are_listed_and_the_rest_is_kept(store: GraphStore, tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,item\na,1\nb\nc,3\nd,\n")
    listed = tmp_path / "rejects.tsv"
    with pytest.raises(
        TooManyRejects, match=r"log.csv, line 3: 2 of 4 rows are malformed, more than --max-rejects 0.1%"
    ):
        bring(store, "purchases", path, rejects=listed)
    assert len(dump(store)["PURCHASED"]) == 2
    assert not dump(store)["Source"]  # so that the mended file, or a wider limit, is read again
    report = bring(store, "purchases", path, rejects=listed, max_rejects=2)
    assert report.sources[0].rejected == 2
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    assert lines == [
        ["file", "line", "reason", "text"],
        [str(path), "3", "1 column where 2 are expected", "b"],
        [str(path), "5", "item is empty", "d,"],
    ]
    for limit in ("50%", "2"):
        bring(store, "purchases", path, max_rejects=limit, force=True)
    for limit in ("1", "49%", "0"):
        with pytest.raises(TooManyRejects):
            bring(store, "purchases", path, max_rejects=limit, force=True)
    with pytest.raises(ConfigError, match="--max-rejects must be a share"):
        bring(store, "purchases", path, max_rejects="many")


def test_a_source_that_breaks_off_keeps_what_it_gave(
    store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 1000)
    path = tmp_path / "log.csv"
    good = b"user,item\n" + b"".join(b"u%d,i\n" % i for i in range(15_000))
    path.write_bytes(gzip.compress(good)[:-900])
    with pytest.raises(ConnectorError, match="truncated"):
        bring(store, "purchases", path)
    assert len(dump(store)["PURCHASED"]) > 10_000
    path.write_bytes(good)
    bring(store, "purchases", path)
    assert len(dump(store)["PURCHASED"]) == 15_000


def test_progress_counts_up_and_names_its_phases(store: GraphStore, shop: dict[str, Any]) -> None:
    steps: list[Step] = []
    name, paths, options = shop["purchases"]
    bring(store, name, paths[0], on_progress=steps.append, **options)
    assert [s.phase for s in steps if s.phase != "reading"] != []
    reading = [s for s in steps if s.phase == "reading"]
    assert reading[-1].rows == 120
    assert reading[-1].done == reading[-1].total == paths[0].stat().st_size
    assert {"writing User", "writing PURCHASED"} <= {s.phase for s in steps}


def in_many_records(store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Dump]:
    """A file of 2,000 facts that is read in small pieces, and the graph that it makes of an empty one."""
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 1000)
    path = write(tmp_path, "kg.txt", "".join(f"m.{i}\tr.{i % 3}\tm.{i // 2}\n" for i in range(2_000)))
    bring(store, "triples", path)
    whole = dump(store)
    store.clear()
    return path, whole


def test_an_interrupted_source_goes_on_where_it_was(
    store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = in_many_records(store, tmp_path, monkeypatch)
    written = 0

    def interrupt(step: Step) -> None:
        nonlocal written
        if step.phase == "writing FACT" and step.done == step.total:
            written += step.rows
            if written > 800:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(store, "triples", path, buffer=300, on_progress=interrupt)
    report = bring(store, "triples", path, buffer=300).sources[0]
    assert 300 <= report.resumed < 1_200
    assert report.rows == 2_000
    assert report.resumed + report.written["FACT"] + report.matched["FACT"] == 2_000
    assert dump(store) == whole
    assert bring(store, "triples", path).sources[0].unchanged


def test_what_was_read_is_stored_when_somebody_asks_for_an_end(
    store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = in_many_records(store, tmp_path, monkeypatch)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 10

    with pytest.raises(StoppedError):
        bring(store, "triples", path, stoppable=lambda: contextlib.nullcontext(stop))
    told = store.stats()["relationships"]["FACT"]
    assert 0 < told < 2_000
    asked = 9  # at once: what is read over again does not take the place of what was read before
    with pytest.raises(StoppedError):
        bring(store, "triples", path, stoppable=lambda: contextlib.nullcontext(stop))
    report = bring(store, "triples", path).sources[0]
    assert report.resumed == told
    assert report.written["FACT"] == 2_000 - told
    assert dump(store) == whole


def test_of_a_slow_source_what_is_held_is_written_after_a_while(
    store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    writer = Writer(store, "dump", 1000, lambda *_: None, told.append)
    facts = [Facts(pa.table({"head": [f"m.{i}"], "relation": ["r"], "tail": ["m.0"]})) for i in range(4)]
    writer.add(facts[0])
    assert told == []
    monkeypatch.setattr("kgkit.ingest_writer._SECONDS", 0.0)
    monkeypatch.setattr("kgkit.ingest_writer._SHARE", 0)
    monkeypatch.setattr(writer, "_due", 0.0)
    writer.add(facts[1])
    writer.add(facts[2])
    assert told == [2, 3]
    monkeypatch.setattr("kgkit.ingest_writer._SECONDS", 1000.0)
    writer.add(facts[2])
    writer.add(facts[3])
    assert told == [2, 3, 4]
    writer.finish()
    assert store.stats()["relationships"]["FACT"] == 4


def test_facts_wait_for_more_facts_while_names_are_written(store: GraphStore) -> None:
    def facts(first: int, n: int) -> Facts:
        ids = [f"m.{i}" for i in range(first, first + n + 1)]
        return Facts(pa.table({"head": ids[:-1], "relation": ["r"] * n, "tail": ids[1:]}))

    def names(first: int, n: int) -> Features:
        ids = [f"m.{i}" for i in range(first, first + n)]
        return Features("entity", pa.table({"key": ids, "name": [f"N {i}" for i in ids]}))

    told: list[int] = []
    writer = Writer(store, "dump", 10, lambda *_: None, told.append)
    writer.add(facts(0, 6))
    writer.add(names(3, 12))  # names enough to be written; the facts are not
    stats = store.stats()
    assert (stats["nodes"]["Entity"], stats["relationships"]["FACT"], told) == (12, 0, [])
    writer.add(names(100, 2))
    writer.add(facts(5, 6))  # m.5 -> m.6 comes again
    stats = store.stats()
    assert (stats["nodes"]["Entity"], stats["relationships"]["FACT"], told) == (15 + 2, 11, [4])
    writer.add(facts(200, 1))
    writer.finish()
    assert store.stats()["relationships"]["FACT"] == 12
    assert (writer.created["FACT"], writer.matched["FACT"]) == (12, 0)
    got = dump(store)
    named = {id: properties["name"] for id, properties in got["Entity"].items() if properties.get("name")}
    assert named == {f"m.{i}": f"N m.{i}" for i in (*range(3, 15), 100, 101)}
    assert {(key[0], key[1]) for key in got["FACT"]} == {(f"m.{i}", f"m.{i + 1}") for i in (*range(11), 200)}


def test_another_file_does_not_go_on_where_the_first_was(store: GraphStore, tmp_path: Path) -> None:
    path = write(tmp_path, "kg.txt", "a\tr\tb\n")
    bring(store, "triples", path)
    store.upsert_nodes(
        "Source", pa.table({"id": ["triples:kg.txt"], "partial": ["of another file"], "records": [1]})
    )
    path.write_text("a\tr\tc\n")
    report = bring(store, "triples", path).sources[0]
    assert (report.resumed, report.written["FACT"]) == (0, 1)


def test_another_way_of_cutting_does_not_go_on_where_the_first_was(store: GraphStore, tmp_path: Path) -> None:
    path = write(tmp_path, "kg.txt", "a\tr\tb\n")
    first = bring(store, "triples", path).sources[0]
    mark = dump(store)["Source"]["triples:kg.txt"]["fingerprint"]
    forget = {"id": ["triples:kg.txt"], "fingerprint": [""], "records": [1]}
    for partial, resumed in ((halfway(mark), 1), (mark, 0), (halfway(mark) + "0", 0)):
        store.upsert_nodes("Source", pa.table(forget | {"partial": [partial]}))
        assert bring(store, "triples", path).sources[0].resumed == resumed
    assert first.resumed == 0


def test_attributes_become_shared_entities(store: GraphStore, tmp_path: Path) -> None:
    items = write(tmp_path, "items.csv", "item,title,genre\ni1,One,Drama|War\ni2,Two,War\ni3,Three,\n")
    people = write(tmp_path, "people.csv", "user,age_group,region\nu1,20s,north\nu2,20s,\n")
    bring(store, "alignment", write(tmp_path, "link.txt", "i1\tm.1\n"))
    bring(store, "features", items, name_column="title", entities=("genre",), separator="|")
    report = bring(store, "features", people, of="user", entities=("age_group",))
    graph = dump(store)
    assert set(graph["FACT"]) == {
        ("m.1", "genre:Drama", "genre"),
        ("m.1", "genre:War", "genre"),
        ("item:i2", "genre:War", "genre"),
    }
    assert graph["Entity"]["genre:War"] == {"name": "War"}
    assert graph["Entity"]["m.1"] == {"item_id": "i1", "name": "One", "name_of": "item"}
    assert {k: v["source"] for k, v in graph["HAS_ATTRIBUTE"].items()} == {
        ("u1", "age_group:20s", "age_group"): "features:people.csv",
        ("u2", "age_group:20s", "age_group"): "features:people.csv",
    }
    assert graph["User"]["u1"] == {"region": "north"}
    assert report.sources[0].written["HAS_ATTRIBUTE"] == 2
