"""`kgkit align` as people run it: propose, review, accept, judge; one-line errors for tables that are not right."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kgkit.align.table import COLUMNS, read_accepted, wilson
from kgkit.cli.main import app
from kgkit.errors import ConfigError, ConnectorError, KgkitError
from kgkit.store.open import open_store
from kgkit.testing.graph_dump import dump


def kgkit(*words: object) -> Result:
    """In this process, which is much faster; errors on purpose come out as exceptions."""
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), dialect="excel-tab")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph with purchases, items with titles, and entities with names; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KGKIT_STORE", "g.lbug")
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"u{n % 3},{n}\n" for n in range(1, 7)))
    (tmp_path / "items.tsv").write_text(
        'item\tname\n1\tNet, The (1995)\n2\tSabrina\n3\tEd Wood\n4\tHoop Dreems\n5\tXyz\n6\t"Weird Al" Live\n'
    )
    (tmp_path / "entities.tsv").write_text(
        "entity\tname\nm.net\tThe Net\nm.s54\tSabrina\nm.s95\tSabrina\nm.ed\tED WOOD\nm.hoop\tHoop Dreams\n"
        'm.al\t"Weird Al" live\n'
    )
    (tmp_path / "kg.txt").write_text("m.net\tby\tm.p\nm.s54\tby\tm.p\nm.ed\tby\tm.q\n")
    for words in (
        ("purchases", "log.csv"),
        ("triples", "kg.txt"),
        ("features", "items.tsv"),
        ("features", "entities.tsv", "--of", "entity"),
    ):
        assert kgkit("ingest", "-q", *words).exit_code == 0
    return tmp_path


def test_propose_review_accept(shop: Path) -> None:
    done = kgkit("align", "-q", "--fuzzy", "--sample", 2, "--seed", 3)
    assert done.exit_code == 0
    assert "accepted: 4\n" in done.stdout and "ambiguous: 1\n" in done.stdout
    assert "  fuzzy: 1\n" in done.stdout and "  title: 3\n" in done.stdout
    with open_store("g.lbug", read_only=True) as store:
        assert store.stats()["nodes"]["Item"] == 6
        assert "item:1" in dump(store)["Entity"], "nothing is applied yet"
    table = read(shop / "alignment.tsv")
    assert list(table[0]) == list(COLUMNS)
    assert {r["item"]: r["entity"] for r in table} == {"1": "m.net", "3": "m.ed", "4": "m.hoop", "6": "m.al"}
    assert next(r for r in table if r["item"] == "6")["item_name"] == '"Weird Al" Live'
    unsure = read(shop / "alignment-ambiguous.tsv")
    assert {(r["item"], r["entity"]) for r in unsure} == {("2", "m.s54"), ("2", "m.s95")}
    assert [r["item"] for r in read(shop / "alignment-unmatched.tsv")] == ["5"]

    # A person refuses one row, and decides between the two of that title.
    for row in table:
        row["status"] = "unmatched" if row["item"] == "3" else row["status"]
    write(shop / "alignment.tsv", table)
    unsure[0]["status"] = "Accepted"
    write(shop / "alignment-ambiguous.tsv", unsure)
    done = kgkit("align", "--accept", "alignment.tsv")
    assert "aligned: 3, unchanged: 0, moved: 0, items folded into entities: 3, conflicts: 0" in done.stdout
    assert "1 unmatched" in done.stdout
    assert json.loads(kgkit("align", "--accept", "alignment-ambiguous.tsv", "--json").stdout)["aligned"] == 1
    with open_store("g.lbug", read_only=True) as store:
        got = dump(store)
    assert got["Entity"]["m.s54"]["item_id"] == "2" and "item:2" not in got["Entity"]
    assert ("u1", "m.net", "purchases:log.csv") in got["PURCHASED"]
    assert "item_id" not in got["Entity"]["m.ed"]

    # Changed one's mind: the item moves, and accepting again changes nothing.
    unsure[0]["status"], unsure[1]["status"] = "ambiguous", "accepted"
    write(shop / "alignment-ambiguous.tsv", unsure)
    assert json.loads(kgkit("align", "--accept", "alignment-ambiguous.tsv", "--json").stdout)["moved"] == 1
    with open_store("g.lbug", read_only=True) as store:
        moved = dump(store)
    assert moved["PURCHASED"].keys() - got["PURCHASED"].keys() == {("u2", "m.s95", "purchases:log.csv")}
    assert "item_id" not in moved["Entity"]["m.s54"] and moved["FACT"] == got["FACT"]
    again = json.loads(kgkit("align", "--accept", "alignment-ambiguous.tsv", "--json").stdout)
    assert (again["moved"], again["unchanged"]) == (0, 1)
    with open_store("g.lbug", read_only=True) as store:
        assert dump(store) == moved


def test_sample_and_precision(shop: Path) -> None:
    kgkit("align", "-q", "--fuzzy", "--sample", 3, "--seed", 3)
    first = (shop / "alignment-sample.tsv").read_text()
    kgkit("align", "-q", "--fuzzy", "--sample", 3, "--seed", 3)
    assert (shop / "alignment-sample.tsv").read_text() == first, "the seed decides"
    rows = read(shop / "alignment-sample.tsv")
    assert len(rows) == 3 and all(r["correct?"] == "" for r in rows)
    assert json.loads(kgkit("align", "--precision", "alignment-sample.tsv", "--json").stdout) == {
        "precision": {"right": 0, "of": 0, "share": 0.0, "low": 0.0, "high": 0.0},
        "not judged": 3,
    }
    rows[0]["correct?"], rows[1]["correct?"] = "y", "NO"
    write(shop / "alignment-sample.tsv", rows)
    said = kgkit("align", "--precision", "alignment-sample.tsv").stdout
    assert said.startswith("precision: 0.5000 (1 of 2; 95 % within 0.0945 and 0.9055); 1 rows not judged")
    rows[0]["correct?"] = "perhaps"
    write(shop / "alignment-sample.tsv", rows)
    with pytest.raises(ConnectorError, match=r"alignment-sample\.tsv, line 2: .*'perhaps'"):
        kgkit("align", "--precision", "alignment-sample.tsv")


def test_wilson_against_published_figures() -> None:
    found = wilson(81, 263)  # Newcombe 1998, example for method 3
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(10, 10).high == 1.0 and wilson(10, 10).low > 0.7
    assert wilson(0, 0).share == 0.0


def test_apply_check_linkage_and_json(shop: Path) -> None:
    (shop / "known.link").write_text("item_id:token\tentity_id:token\n1\tm.net\n2\tm.s95\n3\tm.q\n")
    done = kgkit("align", "-q", "--json", "--check", "known.link", "--linkage", "known.link", "--no-titles")
    found = json.loads(done.stdout)
    assert found["accepted"] == 3 and found["check"]["precision"]["share"] == 1.0
    found = json.loads(kgkit("align", "-q", "--json", "--check", "known.link", "--apply").stdout)
    assert found["check"]["precision"]["right"] == 1 and found["check"]["precision"]["of"] == 2
    assert found["check"]["recall"]["of"] == 3
    assert found["check"]["accepted items that the linkage does not list"] == 1
    assert found["applied"] == {
        "aligned": 3,
        "unchanged": 0,
        "moved": 0,
        "items folded into entities": 3,
        "conflicts": 0,
    }
    later = json.loads(kgkit("align", "-q", "--json").stdout)
    assert later["items"] == 3, "only those without an entity are looked for"


def test_conflicts_are_listed(shop: Path) -> None:
    Path("t.tsv").write_text(
        "item\tentity\tstatus\n1\tm.net\taccepted\n1\tm.ed\taccepted\n3\tm.net\taccepted\n5\titem:2\taccepted\n"
    )
    done = kgkit("align", "--accept", "t.tsv")
    assert "aligned: 1" in done.stdout and "conflicts: 3" in done.stdout
    listed = read(shop / "kgkit-rejects.tsv")
    assert [(r["file"], r["text"]) for r in listed] == [
        ("t.tsv", "1\tm.ed"),
        ("t.tsv", "3\tm.net"),
        ("t.tsv", "5\titem:2"),
    ]
    assert "earlier row" in listed[0]["reason"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no column item, entity, status"),
        (b"item\tentity\n1\tm.net\n", "no column status"),
        (b"item\tentity\tstatus\n1\tm.net\tok\n", "line 2: status 'ok' is unknown: write accepted"),
        (b"item\tentity\tstatus\n1\tm.net\taccepted\n\t\t\n2\t\taccepted\n", "line 4: an accepted row needs"),
        (b"item\tentity\tstatus\n1\tm.net\n", "line 2: status '' is unknown"),
        (b"item\tentity\tstatus\n1\tm.\xe9\taccepted\n", "not UTF-8"),
    ],
)
def test_tables_that_are_not_right(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(ConnectorError, match=r"t\.tsv") as error:
        read_accepted(tmp_path / "t.tsv")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_table_from_a_spreadsheet(tmp_path: Path) -> None:
    """A byte order mark, line ends of Windows, columns in another order and more of them, empty lines."""
    (tmp_path / "t.tsv").write_bytes(
        b'\xef\xbb\xbfstatus\tmine\tentity\titem\r\nACCEPTED \tsee "below"\tm.1\t1\r\n\t\t\t\r\nreview\t\tm.2\t2\r\n'
    )
    found = read_accepted(tmp_path / "t.tsv")
    assert found.pairs == [("1", "m.1")] and found.left_out["review"] == 1


def test_errors_are_one_line(shop: Path) -> None:
    for words, says in (
        (("--accept", "none.tsv"), "none.tsv: cannot be read: No such file"),
        (("--accept", "a", "--precision", "b"), "one of them"),
        (("--accept", "a", "--linkage", "b"), "proposes nothing"),
        (("--linkage", "none.link"), "none.link: no such file"),
        (("--creator-relation", "by"), "--creator-property"),
        (("--out", "nowhere/t.tsv"), "nowhere/t.tsv: the folder"),
        (("--entity-type", "film"), "type"),
        (("--max-rejects", "many"), "--max-rejects"),
    ):
        with pytest.raises(KgkitError) as error:
            kgkit("align", "-q", *words)
        assert says in str(error.value) and "\n" not in str(error.value)


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KgkitError, match="no graph"):
        kgkit("align", "-q", "--store", tmp_path / "none.lbug")
    (tmp_path / "t.tsv").write_text("item\tentity\tstatus\n1\tm.1\taccepted\n")
    with pytest.raises(KgkitError, match="no graph"):
        kgkit("align", "--accept", tmp_path / "t.tsv", "--store", tmp_path / "none.lbug")
    assert not (tmp_path / "none.lbug").exists()
    with pytest.raises(ConfigError, match="NEO4J_PASSWORD"):
        kgkit("align", "-q", "--store", "bolt://a:b@localhost")
