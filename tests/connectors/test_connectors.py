"""Each connector on small files: options, thresholds, what is left out, what is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect import collect

from kgkit.config import make_config
from kgkit.errors import ConfigError, ConnectorError
from kgkit.registry import load_connector


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


LOG = "user_id,sku,stars,when,qty\na,1,5,2024-01-01,2\na,2,3,2024-02-01,\nb,1,,2024-03-01,1\nb,3,4,,1\n"


def test_purchases_by_named_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", LOG)
    got = collect("purchases", path, rating="stars", time="when", count="qty")
    assert got.purchases == [
        {"user": "a", "item": "1", "time": 1704067200, "rating": 5.0, "count": 2},
        {"user": "a", "item": "2", "time": 1706745600, "rating": 3.0, "count": None},
        {"user": "b", "item": "1", "time": 1709251200, "rating": None, "count": 1},
        {"user": "b", "item": "3", "time": None, "rating": 4.0, "count": 1},
    ]
    assert got.rows == 4


def test_purchases_guesses_usual_names(tmp_path: Path) -> None:
    got = collect("purchases", write(tmp_path, "log.csv", LOG))
    assert got.purchases[0] == {
        "user": "a",
        "item": "1",
        "rating": 5.0,
        "count": 2,
    }  # `when` is not a usual name


def test_purchases_threshold_and_window_leave_rows_out_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", LOG)
    got = collect("purchases", path, time="when", min_rating=4)
    assert [(p["user"], p["item"]) for p in got.purchases] == [("a", "1"), ("b", "3")]
    assert got.skipped == {"below --min-rating": 2}
    got = collect("purchases", path, time="when", since="2024-02-01", until="2024-03-01")
    assert [(p["user"], p["item"]) for p in got.purchases] == [("a", "2")]
    assert got.skipped == {"outside --since and --until": 3}
    assert not got.rejects


def test_purchases_of_seed_users_and_of_the_core(tmp_path: Path) -> None:
    rows = [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 2), ("c", 3), ("d", 3)]
    path = write(tmp_path, "log.csv", "user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    got = collect("purchases", path, min_user_rows=2)
    assert {p["user"] for p in got.purchases} == {"a", "b", "c"}
    assert got.skipped == {"of users with fewer rows than --min-user-rows": 1}
    # d has one item; without d item 3 has one user, and without item 3 so has c
    got = collect("purchases", path, core=2)
    assert [(p["user"], p["item"]) for p in got.purchases] == [(u, str(i)) for u, i in rows[:5]]
    assert got.skipped == {"not in the --core of users and items": 3}
    assert got.rows == 8
    assert [(s.step, s.users, s.items, s.interactions) for s in got.steps] == [
        ("before the core", 4, 3, 7),
        ("core, round 1", 3, 3, 6),
        ("core, round 2", 3, 2, 5),
        ("core, round 3", 2, 2, 4),
    ]
    assert collect("purchases", path, core=3).purchases == []


def test_a_threshold_without_its_column_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,item\na,1\n")
    with pytest.raises(ConnectorError, match="no column for rating"):
        collect("purchases", path, min_rating=4)
    with pytest.raises(ConnectorError, match="no column for time"):
        collect("purchases", path, since="2024-01-01")
    with pytest.raises(ConfigError, match="--until must be a date"):
        collect("purchases", path, until="soon")


def test_purchases_without_header_by_position(tmp_path: Path) -> None:
    path = write(tmp_path, "log.dat", "1::31::2.5::100\n1::32::4::200\n")
    got = collect("purchases", path, header=False, rating="3", time="4")
    assert got.purchases[1] == {"user": "1", "item": "32", "time": 200, "rating": 4.0}
    assert collect("purchases", path, header=False).purchases[0] == {"user": "1", "item": "31"}


def test_triples_with_and_without_header(tmp_path: Path) -> None:
    expected = [{"head": "a", "relation": "r.s", "tail": "b"}]
    assert collect("triples", write(tmp_path, "kg.txt", "a\tr.s\tb\n")).facts == expected
    assert collect("triples", write(tmp_path, "kg.csv", "tail,head,predicate\nb,a,r.s\n")).facts == expected
    named = write(tmp_path, "kg2.csv", "x,y,z\nb,a,r.s\n")
    assert collect("triples", named, header=True, head="y", relation="z", tail="x").facts == expected
    got = collect("triples", write(tmp_path, "bad.txt", "a\tr\tb\na\tr\n\tr\tb\n"))
    assert [(r.line, r.reason) for r in got.rejects] == [
        (2, "2 columns where 3 are expected"),
        (3, "head is empty"),
    ]


def test_triples_with_split_and_times(tmp_path: Path) -> None:
    text = "a\tr\tb\t2014-01-02\nb\tr\tc\t\nc\tr\ta\tsome day\nc\tr\ta\t86400\n"
    got = collect("triples", write(tmp_path, "icews.txt", text), split="valid", time_column="4")
    assert [(f["head"], f["split"], f["time"]) for f in got.facts] == [
        ("a", "valid", 1_388_620_800),
        ("b", "valid", None),
        ("c", "valid", 86_400),
    ]
    assert [(r.line, "time" in r.reason or "some day" in r.text) for r in got.rejects] == [(3, True)]
    named = write(tmp_path, "kg.csv", "head,relation,tail,year\na,r,b,1970-01-02T00:00:00Z\n")
    assert collect("triples", named, header=True, time_column="year").facts == [
        {"head": "a", "relation": "r", "tail": "b", "time": 86_400}
    ]
    with pytest.raises(ConnectorError, match=r"kg\.csv: unknown column 'month'.*year"):
        collect("triples", named, header=True, time_column="month")
    with pytest.raises(ConfigError, match="--split must be one of train, valid, test, got 'dev'"):
        collect("triples", named, split="dev")


@pytest.mark.parametrize(
    "text", ["1\tm.0\n2\tm.1\n", "1\tm.0\r\n2\tm.1\r\n", "item_id:token\tentity_id:token\n1\tm.0\n2\tm.1\n"]
)
def test_alignment_in_its_three_dialects(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(text, newline="")
    assert collect("alignment", path).alignments == [
        {"item": "1", "entity": "m.0"},
        {"item": "2", "entity": "m.1"},
    ]


def test_features_types_names_and_text(tmp_path: Path) -> None:
    path = write(tmp_path, "items.csv", "sku,title,price,stock,zip\n7,Axe,1.5,3,10115\n8,Bat,,4,20095\n")
    got = collect("features", path, name_column="title", text=("zip",))
    assert got.features == {
        "item": [
            {"key": "7", "name": "Axe", "price": 1.5, "stock": 3, "zip": "10115"},
            {"key": "8", "name": "Bat", "price": None, "stock": 4, "zip": "20095"},
        ]
    }
    got = collect("features", path, of="user", key="title", columns=("stock",))
    assert got.features == {"user": [{"key": "Axe", "stock": 3}, {"key": "Bat", "stock": 4}]}
    with pytest.raises(ConnectorError, match=r"unknown column 'prize'. Did you mean price\?"):
        collect("features", path, columns=("prize",))
    with pytest.raises(ConnectorError, match="'id' cannot be a property"):
        collect("features", write(tmp_path, "u.csv", "user,id\na,b\n"), of="user")
    named = write(tmp_path, "n.csv", "entity,entity_name\nm.1,Heat\n")
    with pytest.raises(ConnectorError, match="'entity_name' cannot be a property"):
        collect("features", named, of="entity")
    got = collect("features", named, of="entity", name_column="entity_name")
    assert got.features == {"entity": [{"key": "m.1", "name": "Heat"}]}


def test_recbole_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        "x.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3.0\t100.0\n1\t9\t5\t7\n",
    )
    write(tmp_path, "x.kg", "head_id:token\trelation_id:token\ttail_id:token\nm.a\tr\tm.b\n")
    write(tmp_path, "x.link", "item_id:token\tentity_id:token\n2\tm.a\n")
    write(
        tmp_path,
        "x.item",
        'item_id:token\tmovie_title:token_seq\tyear:float\n2\tToy "Story\tII\n9\tHeat\t1995\n',
    )
    write(tmp_path, "x.user", "user_id:token\tage:token\n1\t24\n")
    write(tmp_path, "notes.txt", "not an atomic file")
    got = collect("recbole", tmp_path)
    assert [p["item"] for p in got.purchases] == ["2", "9"]  # linked or not
    assert got.purchases[0] == {"user": "1", "item": "2", "time": 100, "rating": 3.0}
    assert got.facts == [{"head": "m.a", "relation": "r", "tail": "m.b"}]
    assert got.alignments == [{"item": "2", "entity": "m.a"}]
    assert got.features["user"] == [{"key": "1", "age": "24"}]
    assert got.features["item"] == [{"key": "9", "name": "Heat", "year": 1995.0}]
    assert [(Path(r.file).name, r.line) for r in got.rejects] == [("x.item", 2)]
    assert collect("recbole", tmp_path, min_rating=4).skipped == {"below --min-rating": 1}
    assert collect("recbole", tmp_path, name_column="year").rows == 7


def test_recbole_and_kgcn_name_what_a_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="no atomic file"):
        collect("recbole", tmp_path)
    with pytest.raises(ConnectorError, match="no such folder"):
        collect("recbole", tmp_path / "none")
    with pytest.raises(ConnectorError, match=r"no user_artists.dat or .* --ratings"):
        collect("kgcn", tmp_path)
    write(tmp_path, "user_artists.dat", "userID\tartistID\tweight\n1\t2\t3\n")
    with pytest.raises(ConnectorError, match=r"no kg.txt"):
        collect("kgcn", tmp_path)


def test_kgcn_keeps_only_items_that_the_alignment_lists(tmp_path: Path) -> None:
    write(
        tmp_path,
        "BX-Book-Ratings.csv",
        '"User-ID";"ISBN";"Book-Rating"\n"1";"a";"0"\n"1";"b";"5"\n"2";"c";"9"\n',
    )
    write(tmp_path, "kg.txt", "0\tr\t1\n")
    write(tmp_path, "item_index2entity_id.txt", "a\t0\nb\t1\n")
    got = collect("kgcn", tmp_path)
    assert got.purchases == [
        {"user": "1", "item": "a", "rating": 0.0},
        {"user": "1", "item": "b", "rating": 5.0},
    ]
    assert got.skipped == {"items that item_index2entity_id.txt does not list": 1}
    assert not got.rejects
    assert [p["item"] for p in collect("kgcn", tmp_path, min_rating=4).purchases] == ["b"]


@pytest.mark.parametrize("name", ["recbole", "kgcn"])
def test_folders_are_sources_by_their_name(tmp_path: Path, name: str) -> None:
    connector = load_connector(name)()
    assert connector.source(make_config(connector.Config, {"paths": tmp_path})) == tmp_path.name
    assert connector.source(make_config(connector.Config, {"paths": tmp_path, "source": "x"})) == "x"
