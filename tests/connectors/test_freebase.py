"""Freebase dumps: rules for predicates, properties of one language, mediators, damage, and ML-100K there and back."""

from __future__ import annotations

import bz2
import csv
import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect import SHARED, Collected, collect

from kgkit import ntriples
from kgkit.config import make_config
from kgkit.errors import ConfigError, ConnectorError
from kgkit.ingest import ingest
from kgkit.records import Facts, Reject
from kgkit.registry import load_connector
from kgkit.spill import part_of
from kgkit.store.open import open_store

NS = "http://rdf.freebase.com/ns/"
W3 = "http://www.w3.org/"


def test_properties_of_declared_types(tmp_path: Path) -> None:
    xsd = W3 + "2001/XMLSchema#"
    path = write(
        tmp_path / "fb.nt",
        dump(
            ("m.a", "film.film.directed_by", "m.b"),
            ("m.a", "x.height", f'"1.75"^^<{xsd}double>'),
            ("m.b", "x.height", '"tall"'),
            ("m.a", "x.votes", "12"),
            ("m.b", "x.votes", f'"007"^^<{xsd}integer>'),
            ("m.a", "x.good", f'"true"^^<{xsd}boolean>'),
            ("m.a", "x.born", f'"1970-01-02"^^<{xsd}date>'),
            ("m.a", "x.year", f'"1995"^^<{xsd}gYear>'),
            ("m.b", "http://else.org/y", '"text"'),
        ),
    )
    wanted = ["x.height=height:float", "x.votes:int", "x.good=good:bool", "x.born=born:time", "x.year=year:int",
              "http://else.org/y", "x.none=:text"]  # fmt: skip
    got = collect("freebase", path, property=wanted)
    assert properties(got) == {
        "m.a": {"height": 1.75, "x.votes": 12, "good": True, "born": 86400, "year": 1995},
        "m.b": {"x.votes": 7, "http://else.org/y": "text"},
    }
    (reject,) = got.rejects
    assert (reject.file, reject.text) == ("fb.nt", "m.b\ttall") and "height must be a finite" in reject.reason
    for options, words in (
        (["x.a:date"], "no type"),
        (["x.a=n:int", "x.b=n:float"], "another type"),
        (["x.a=name:int"], "another type"),
        (["x.a=entity_name"], "taken"),
    ):
        with pytest.raises(ConfigError, match=words):
            collect("freebase", path, property=options)


def iri(name: str) -> str:
    return name if name[0] in '"_' or name[0].isdigit() else f"<{name if '://' in name else NS + name}>"


def dump(*triples: tuple[str, str, str]) -> bytes:
    """Lines as the public dump writes them."""
    return "".join(f"{iri(s)}\t{iri(p)}\t{iri(o)}\t.\n" for s, p, o in triples).encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def facts(got: Collected) -> list[tuple[str, str, str]]:
    return [(f["head"], f["relation"], f["tail"]) for f in got.facts]


def properties(got: Collected) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in got.features.get("entity", []):
        found.setdefault(row["key"], {}).update({k: v for k, v in row.items() if k != "key"})
    return found


FILM = dump(
    ("m.film", "type.object.name", '"Heat"@en'),
    ("m.film", "type.object.name", '"Hitze"@de'),
    ("m.film", W3 + "2000/01/rdf-schema#label", '"Heat"@en'),
    ("m.film", "common.topic.description", '"Two men\\nmeet."@en'),
    ("m.film", "type.object.type", "film.film"),
    ("m.film", "type.object.type", "award.winner"),
    ("m.film", "type.object.type", "common.topic"),
    ("m.film", W3 + "1999/02/22-rdf-syntax-ns#type", "film.film"),
    ("film.film", "type.type.instance", "m.film"),
    ("m.film", "common.topic.notable_types", "m.thing"),
    ("m.film", "http://rdf.freebase.com/key/en", '"heat"'),
    ("m.film", "user.joe.liked", "m.joe"),
    ("m.film", "film.film.directed_by", "m.mann"),
    ("m.film", "film.film.rottentomatoes_id", '"770679"'),
    ("m.film", "film.film.runtime", "170.5"),
    ("m.film", "book.book.adaptation", "http://example.org/x"),
    ("m.other", "type.object.name", '"Nobody asks"@en'),
)


def test_what_becomes_of_each_line(tmp_path: Path) -> None:
    got = collect("freebase", write(tmp_path / "fb.nt", FILM))
    assert facts(got) == [
        ("m.film", "film.film.directed_by", "m.mann"),
        ("m.film", "book.book.adaptation", "http://example.org/x"),
    ]
    assert properties(got) == {"m.film": {"name": "Heat", "description": "Two men\nmeet."}}
    assert got.skipped == {
        "names, descriptions and properties in languages other than --language": 1,
        "administrative predicates (--noise keep takes them)": 7,
        "keys of other sites (--noise keep takes them)": 1,
        "literals of predicates that --property does not name": 2,
        "names, descriptions, properties and types of entities without a kept fact": 1,
    }
    assert got.rows == 17 and not got.rejects
    names = len(got.features["entity"])
    assert names + len(got.facts) + sum(got.skipped.values()) == got.rows  # nothing is lost


def test_language_properties_and_types(tmp_path: Path) -> None:
    path = write(tmp_path / "fb.nt", FILM)
    options = {
        "property": ["film.film.runtime=runtime", "film.film.rottentomatoes_id"],
        "types": ["film,award."],
    }
    got = collect("freebase", path, language="de", **options)
    assert properties(got)["m.film"] == {
        "name": "Hitze",
        "runtime": "170.5",
        "film.film.rottentomatoes_id": "770679",
        "type": "award.winner;film.film",
    }
    assert got.skipped["types of nodes, read for --types and --mediators only"] == 1
    with pytest.raises(ConfigError, match="taken"):
        collect("freebase", path, property=["film.film.runtime=id"])


def test_predicates_by_prefix_and_file(tmp_path: Path) -> None:
    path = write(tmp_path / "fb.nt", FILM)
    assert len(collect("freebase", path, noise="keep").facts) == 9
    got = collect("freebase", path, keep=["film"])
    assert [r for _, r, _ in facts(got)] == ["film.film.directed_by"]
    assert got.skipped["predicates that --keep does not name"] == 1
    listed = write(tmp_path / "keep.txt", f"# wanted\n{NS}book.book.adaptation # one\n\nuser.joe\n".encode())
    assert [r for _, r, _ in facts(collect("freebase", path, keep_file=[listed]))] == [
        "user.joe.liked",
        "book.book.adaptation",
    ]
    got = collect("freebase", path, drop=["film.film"], keep=["*", "type.object.type"])
    assert [r for _, r, _ in facts(got)] == ["type.object.type"] * 3 + ["book.book.adaptation"]
    assert got.skipped["predicates of --drop"] == 3
    with pytest.raises(ConfigError, match=r"nowhere\.txt cannot be read"):
        collect("freebase", path, keep_file=[tmp_path / "nowhere.txt"])


PLAYED = dump(
    ("m.film", "film.film.starring", "m.p1"),
    ("m.p1", "film.performance.film", "m.film"),
    ("m.p1", "film.performance.actor", "m.ann"),
    ("m.p1", "film.performance.character", "m.eve"),
    ("m.p1", "film.performance.note", '"uncredited"@en'),
    ("m.ann", "film.actor.film", "m.p1"),
    ("m.p1", "type.object.type", "film.performance"),
    ("m.w", "type.object.type", "people.marriage"),
    ("m.w", "people.marriage.spouse", "m.ann"),
    ("m.w", "people.marriage.spouse", "m.bob"),
    ("m.w", "people.marriage.place", "m.rome"),
    ("m.alone", "type.object.type", "film.performance"),
    ("m.alone", "film.performance.actor", "m.bob"),
    ("m.p1", "film.performance.next", "m.alone"),
    ("m.film", "film.film.genre", "m.drama"),
    ("film.performance", "freebase.type_hints.mediator", '"true"'),
    ("people.marriage", "freebase.type_hints.mediator", "true"),
    ("film.film", "freebase.type_hints.mediator", '"false"'),
).replace(b"<" + NS.encode() + b"true>", b"true")


COLLAPSED = {
    ("m.film", "film.film.genre", "m.drama"),
    ("m.film", "film.film.starring..film.performance.actor", "m.ann"),
    ("m.film", "film.film.starring..film.performance.character", "m.eve"),
    ("m.ann", "film.actor.film..film.performance.film", "m.film"),
    ("m.ann", "film.actor.film..film.performance.character", "m.eve"),
    ("m.ann", "people.marriage.spouse..people.marriage.spouse", "m.bob"),
    ("m.rome", "people.marriage.place..people.marriage.spouse", "m.ann"),
    ("m.rome", "people.marriage.place..people.marriage.spouse", "m.bob"),
}


def test_mediators_are_kept_or_collapsed(tmp_path: Path) -> None:
    path = write(tmp_path / "fb.nt", PLAYED)
    kept = collect("freebase", path)
    assert len(kept.facts) == 11 and ("m.film", "film.film.starring", "m.p1") in facts(kept)
    got = collect("freebase", path, mediators="collapse")
    assert set(facts(got)) == COLLAPSED and len(got.facts) == len(COLLAPSED)
    assert got.skipped["facts between two mediators"] == 1
    assert got.skipped["facts of mediators that join no two entities"] == 1
    listed = write(tmp_path / "types.txt", b"film.performance\n")
    undeclared = write(tmp_path / "plain.nt", PLAYED.replace(b"type_hints.mediator", b"type_hints.other"))
    for options in ({"mediator_types": ["film.performance,people.marriage"]},
                    {"mediator_types": ["people.marriage"], "mediator_types_file": [listed]}):  # fmt: skip
        assert set(facts(collect("freebase", undeclared, mediators="collapse", **options))) == COLLAPSED


def test_spilled_facts_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgkit.spill.HELD", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spilled"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "spilled").mkdir()
    seen: list[int] = []
    read = ntriples.read

    def watched(*args: Any, **options: Any) -> Any:
        for found in read(*args, **options):
            yield found
            seen.append(len(list((tmp_path / "spilled").rglob("*.arrow"))))

    monkeypatch.setattr("kgkit.ntriples.read", watched)
    got = collect("freebase", write(tmp_path / "fb.nt", PLAYED + FILM), mediators="collapse")
    expected = COLLAPSED | {("m.film", "film.film.directed_by", "m.mann"),
                            ("m.film", "book.book.adaptation", "http://example.org/x")}  # fmt: skip
    assert set(facts(got)) == expected
    assert properties(got) == {"m.film": {"name": "Heat", "description": "Two men\nmeet."}}
    assert max(seen) > 0 and not list((tmp_path / "spilled").iterdir())


def test_a_mediator_that_would_join_thousands_is_left_out(tmp_path: Path) -> None:
    rows = [("m.hub", "a.b.c", f"m.{i}") for i in range(200)]
    path = write(tmp_path / "fb.nt", dump(("m.hub", "type.object.type", "a.b"), *rows))
    got = collect("freebase", path, mediators="collapse", mediator_types=["a.b"])
    assert not got.facts
    assert got.skipped["facts of mediators that would join more than 10,000 pairs"] == 200


ROWS = 20_000
MANY = dump(*((f"m.{i:06d}", "film.film.genre", f"m.g{i % 7}") for i in range(ROWS)))
HALF = MANY.index(b"\n", len(MANY) // 2) + 1


@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize(
    "pack",
    [
        lambda b: b,
        gzip.compress,
        bz2.compress,
        lambda b: pa.compress(b, "zstd", asbytes=True),
        lambda b: gzip.compress(b[:HALF]) + gzip.compress(b[HALF:]),
        lambda b: b"".join(gzip.compress(b[i : i + 7001], 1) for i in range(0, len(b), 7001)) + b"\0" * 99,
        lambda b: bz2.compress(b[:HALF], 1) + bz2.compress(b[HALF:], 1),
    ],
    ids=["plain", "gzip", "bzip2", "zstd", "two members", "many members", "two bzip2"],
)
def test_every_compression_reads_alike(
    tmp_path: Path, pack: Any, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGKIT_NATIVE", native)
    got = collect("freebase", write(tmp_path / "fb", pack(MANY)))
    assert len(got.facts) == got.rows == ROWS
    assert got.facts[-1] == {"head": "m.019999", "relation": "film.film.genre", "tail": "m.g0"}


def broken(path: Path) -> tuple[Collected, str]:
    """What came out before the error, and the error."""
    connector, out = load_connector("freebase")(), Collected()
    try:
        for record in connector.read(make_config(connector.Config, {"paths": (path,)})):
            if isinstance(record, Facts):
                out.facts.extend(record.table.to_pylist())
    except ConnectorError as error:
        return out, str(error)
    raise AssertionError("the damage went unnoticed")


@pytest.mark.parametrize("isal", [True, False])
def test_damaged_dumps_name_the_file_and_keep_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isal: bool
) -> None:
    if not isal:
        monkeypatch.setitem(sys.modules, "isal", None)
    whole = gzip.compress(MANY)
    out, said = broken(write(tmp_path / "cut.gz", whole[: len(whole) // 2]))
    assert ROWS // 4 < len(out.facts) < ROWS * 3 // 4
    assert "cut.gz: the compressed file is truncated" in said and f"the {len(out.facts):,} triples" in said
    assert out.facts[-1]["tail"].startswith("m.g")  # no half a line

    first, middle, last = (gzip.compress(part) for part in (MANY[:HALF], MANY[HALF:], MANY))
    lines = MANY[:HALF].count(b"\n")
    for damage in (
        middle[: len(middle) // 2] + b"\x55" * 999 + middle[len(middle) // 2 + 999 :],
        b"\x1f\x8c" + middle[2:],
        middle[:-8] + b"\x00\x01\x02\x03" + middle[-4:],
    ):
        out, said = broken(write(tmp_path / "bad.gz", first + damage + last))
        assert lines <= len(out.facts) < ROWS
        assert "bad.gz: the compressed file is damaged" in said, said
    squeezed = bz2.compress(MANY[:HALF])
    out, said = broken(write(tmp_path / "bad.bz2", squeezed + b"BZx" + squeezed[3:]))
    assert len(out.facts) == lines and "damaged" in said
    out, said = broken(write(tmp_path / "cut.bz2", squeezed + squeezed[:-9]))
    assert len(out.facts) >= lines and "truncated" in said


def test_what_a_truncated_dump_held_is_in_the_graph(tmp_path: Path) -> None:
    whole = gzip.compress(FILM + MANY)
    path = write(tmp_path / "cut.gz", whole[: len(whole) // 2])
    with open_store(tmp_path / "graph") as store:
        connector = load_connector("freebase")()
        config = make_config(connector.Config, {"paths": (path,)})
        with pytest.raises(ConnectorError, match=r"cut\.gz: .* truncated: .* triples before it are kept"):
            ingest(connector, config, store)
        assert store.stats()["relationships"]["FACT"] > ROWS // 4
        assert list(store.query("MATCH (e {id: 'm.film'}) RETURN e.name").rows) == [("Heat",)]
        write(path, whole)
        assert ingest(connector, config, store).sources[0].matched["FACT"] > ROWS // 4
        assert store.stats()["relationships"]["FACT"] == ROWS + 2


def test_lines_that_are_not_ntriples(tmp_path: Path) -> None:
    good = dump(("m.1", "film.film.genre", "m.2"))
    bad = [
        b"not a triple",
        b'<http://x/"y"> <http://x/p> <http://x/o> .',
        b"<http://x/`y> <http://x/p> <http://x/o> .",
        b"<http://x/y> <http://x/p> <http://x/\\u0060> .",
        b'<http://x/y> <http://rdf.freebase.com/ns/type.object.name> "caf\xe9"@en .',
        b"\x00\x01\x02",
    ]
    path = write(tmp_path / "fb.nt", b"".join(good + line + b"\n" for line in bad))
    got = collect("freebase", path)
    assert len(got.facts) == len(bad)
    assert [r.line for r in got.rejects] == [2, 4, 6, 8, 10, 12]
    assert [r.reason[:20] for r in got.rejects] == [
        "the subject is neith",
        *["an IRI without a sch"] * 3,
        "bytes that are not U",
        "the subject is neith",
    ]
    with (
        open_store(tmp_path / "graph") as store,
        pytest.raises(ConnectorError, match=r"fb\.nt, line 2: 6 of 12"),
    ):
        connector = load_connector("freebase")()
        ingest(connector, make_config(connector.Config, {"paths": (path,)}), store)


def test_a_literal_of_ten_megabytes_reaches_the_graph(tmp_path: Path) -> None:
    text = "wörter " * 1_400_000
    data = dump(("m.1", "film.film.genre", "m.2"), ("m.1", "common.topic.description", f'"{text}"@en'))
    path = write(tmp_path / "fb.gz", gzip.compress(data, 1))
    with open_store(tmp_path / "graph") as store:
        connector = load_connector("freebase")()
        ingest(connector, make_config(connector.Config, {"paths": (path,)}), store)
        rows = list(store.query("MATCH (e:Entity {id: 'm.1'}) RETURN e.description").rows)
    assert rows == [(text,)]


def test_a_line_without_end_is_rejected_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ntriples, "LONGEST_LINE", 10_000)
    good = dump(("m.1", "film.film.genre", "m.2"))
    path = write(tmp_path / "fb.nt", good + b"x" * 60_000 + b"\n" + good + b"y" * 50_000)
    read = list(ntriples.read([path], lambda _: ntriples.Verdict(ntriples.NODES), {}, block=4096))
    assert [r.line for r in read if isinstance(r, Reject)] == [2, 4]
    assert sum(t.num_rows for t in read if isinstance(t, pa.Table)) == 2


def test_pipes_are_read_and_never_taken_for_unchanged(tmp_path: Path) -> None:
    packed = gzip.compress(MANY)
    os.mkfifo(fifo := tmp_path / "fifo")
    for _ in range(2):
        writer = threading.Thread(target=fifo.write_bytes, args=(packed,))
        writer.start()
        got = collect("freebase", fifo)
        writer.join()
        assert len(got.facts) == ROWS
    command = [sys.executable, "-m", "kgkit", "ingest", "freebase", "-", "-q", "--store", str(tmp_path / "g")]
    for new in ("new: 20,007 Entity, 20,000 FACT", "new: nothing"):
        done = subprocess.run(command, input=packed, capture_output=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert new in done.stdout.decode()


def test_several_files_are_one_source(tmp_path: Path) -> None:
    cut = PLAYED.index(b"\n", len(PLAYED) // 3) + 1
    a = write(tmp_path / "a.gz", gzip.compress(PLAYED[:cut]))
    b = write(tmp_path / "b.nt", PLAYED[cut:])
    assert set(facts(collect("freebase", a, b, mediators="collapse"))) == COLLAPSED
    with open_store(tmp_path / "graph") as store:
        connector = load_connector("freebase")()
        config = make_config(connector.Config, {"paths": (a, b), "mediators": "collapse"})
        first, again = (ingest(connector, config, store).sources for _ in range(2))
        assert [s.source for s in first] == ["a.gz+b.nt"] and first[0].written["FACT"] == len(COLLAPSED)
        assert again[0].unchanged


def test_equal_keys_fall_into_equal_parts() -> None:
    keys = pa.chunked_array([["m.1", "", "m.0abcdefgh"], [], ["x", "m.1", "é" * 9]])
    parts = part_of(keys.slice(0))
    assert parts[0] == parts[4] == part_of(pa.chunked_array([["a", "m.1"]]).slice(1))[0]
    spread = part_of(pa.chunked_array([[f"m.{i:05x}" for i in range(20_000)]]))
    counts = [int((spread == p).sum()) for p in range(128)]
    assert min(counts) > 60 and max(counts) < 400


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets are not beside the checkout")
def test_movielens_100k_as_a_dump_comes_back_triple_for_triple(tmp_path: Path) -> None:
    folder = SHARED / "ml-100k"
    recbole = collect("recbole", folder)
    triples = facts(recbole)
    entity = {a["item"]: a["entity"] for a in recbole.alignments}
    with (folder / "ml-100k.item").open(encoding="utf-8", newline="") as file:
        titles = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    names = {entity[row[0]]: row[1] for row in titles if row[0] in entity}
    escaped = {k: '"{}"@en'.format(v.replace("\\", "\\\\").replace('"', '\\"')) for k, v in names.items()}
    noise = [(k, "type.object.type", "film.film") for k in names]
    noise += [("film.film", "type.type.instance", k) for k in names]
    lines = dump(*triples, *noise, *((k, "type.object.name", v) for k, v in escaped.items()))
    got = collect("freebase", write(tmp_path / "ml.gz", gzip.compress(lines, 1)))
    assert len(triples) == 91_631
    assert facts(got) == triples
    mentioned = {end for h, _, t in triples for end in (h, t)}
    assert {k: v["name"] for k, v in properties(got).items()} == {
        k: v for k, v in names.items() if k in mentioned
    }
    assert got.skipped["administrative predicates (--noise keep takes them)"] == len(noise)
