"""Files of the field that were read wrongly once; the right values are written out or counted in plain Python."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect import collect

from kgkit.errors import ConnectorError

USERS = ["17800.0", "17850", " 17850 ", "guest-7", "42.0", "0.5", "-0.0", "007.0"]
WANTED = ["17800", "17850", "17850", "guest-7", "42", "0.5", "0", "007.0"]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("rows", [["0\t3\t1", "0\t4\t0", "1\t3\t1"], ["2\t1\t5", "2\t9\t1", "1\t3\t1"]])
def test_positions_stay_positions(tmp_path: Path, rows: list[str]) -> None:
    wanted = [tuple(row.split("\t")[:2]) for row in rows]
    ratings = write(tmp_path, "ratings_final.txt", "\n".join(rows) + "\n")
    got = collect("purchases", ratings, user="1", item="2")
    assert [(p["user"], p["item"]) for p in got.purchases] == wanted
    write(tmp_path, "kg.txt", "0\tr\t1\n")
    write(tmp_path, "item_index2entity_id.txt", "".join(f"{i}\t{i}\n" for i in range(10)))
    got = collect("kgcn", tmp_path, ratings="ratings_final.txt")
    assert [(p["user"], p["item"]) for p in got.purchases] == wanted
    assert [p["rating"] for p in got.purchases] == [float(row.split("\t")[2]) for row in rows]


def test_double_colons_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "ratings.dat", "".join(f"{u}::{u % 7}::5::{978298413 + u}\n" for u in range(60)))
    got = collect("purchases", path, user="1", item="2", rating="3", time="4")
    assert {p["user"] for p in got.purchases} == {str(u) for u in range(60)}
    assert len(got.purchases) == 60
    with pytest.raises(ConnectorError, match="no column for user"):
        collect("purchases", path)


def test_an_id_is_one_id_in_every_format(tmp_path: Path) -> None:
    csv = write(tmp_path, "a.csv", "user,item\n" + "".join(f'"{u}",i\n' for u in USERS))
    lines = write(tmp_path, "a.jsonl", "".join(json.dumps({"user": u, "item": "i"}) + "\n" for u in USERS))
    table = pa.table({"user": USERS, "item": ["i"] * len(USERS)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    for path in (csv, lines, tmp_path / "a.parquet", tmp_path / "a.arrow"):
        assert [p["user"] for p in collect("purchases", path).purchases] == WANTED, path
    numbers = [17800.0, 0.5, 1e15]
    pq.write_table(pa.table({"user": numbers, "item": ["i"] * 3}), tmp_path / "n.parquet")
    lines = write(tmp_path, "n.jsonl", "".join(json.dumps({"user": n, "item": "i"}) + "\n" for n in numbers))
    for path in (tmp_path / "n.parquet", lines):
        assert [p["user"] for p in collect("purchases", path).purchases] == [
            "17800",
            "0.5",
            "1000000000000000",
        ]


def test_an_id_of_a_later_block_changes_no_other(tmp_path: Path) -> None:
    users = [f"{17800 + n % 100}.0" for n in range(120_000)]
    text = "".join(f'{{"user": {u}, "item": "i{n % 9}"}}\n' for n, u in enumerate(users))
    path = write(tmp_path, "a.jsonl", text + '{"user": "guest-7", "item": "i1"}\n')
    got = collect("purchases", path)
    assert {p["user"] for p in got.purchases} == {u.split(".")[0] for u in users} | {"guest-7"}
    assert len(got.purchases) == 120_001
    assert collect("alignment", write(tmp_path, "a.tsv", "42.0\tm.1\n")).alignments[0]["item"] == "42"


def test_headers_of_other_houses(tmp_path: Path) -> None:
    path = write(tmp_path, "item_list.txt", "org_id remap_id freebase_id\n501 0 m.0a\n502 1 m.0b\n")
    with pytest.raises(
        ConnectorError, match=r"no column for item \(the file has org_id, remap_id, freebase_id\)"
    ):
        collect("alignment", path)
    got = collect("alignment", path, item="remap_id")
    assert got.alignments == [{"item": "0", "entity": "m.0a"}, {"item": "1", "entity": "m.0b"}]
    path = write(tmp_path, "edges.tsv", "source\tmetaedge\ttarget\nGene::9\tGpBP\tBP::1\n")
    assert collect("triples", path).facts == [{"head": "Gene::9", "relation": "GpBP", "tail": "BP::1"}]


def test_a_table_is_no_list_of_facts(tmp_path: Path) -> None:
    path = write(tmp_path, "orders.csv", "u1,p1,LAMP,2,a,b,c\nu2,p1,LAMP,1,a,b,c\n")
    with pytest.raises(ConnectorError, match="7 columns where head, relation, tail are 3"):
        collect("triples", path)
    got = collect("triples", path, head="1", relation="3", tail="2")
    assert [(f["head"], f["relation"], f["tail"]) for f in got.facts] == [
        ("u1", "LAMP", "p1"),
        ("u2", "LAMP", "p1"),
    ]


@pytest.mark.parametrize("text", [",StockCode2,Description\n0,p1,LAMP\n", "Description,Code\nLAMP,p1\n"])
def test_a_first_column_is_not_the_key(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "products.csv", text)
    with pytest.raises(ConnectorError, match=r"no column with the item's id .*name it by --key"):
        collect("features", path)
    got = collect("features", path, key="StockCode2" if "StockCode2" in text else "Code")
    assert got.features["item"] == [{"key": "p1", "Description": "LAMP"}]
    customers = write(tmp_path, "customers.csv", "customer_id,age\nc1,30\n")
    with pytest.raises(ConnectorError, match="or say --of user"):
        collect("features", customers)


def test_quotes_and_escapes_of_other_houses(tmp_path: Path) -> None:
    text = '"ISBN";"Book-Title"\n"1";"Plain"\n"2";"The \\"Q\\" Book"\n"3";"a; \\"b"\n'
    got = collect("features", write(tmp_path, "books.csv", text))
    assert [f["Book-Title"] for f in got.features["item"]] == [
        "Plain",
        'The "Q" Book',
        'a; "b',
    ] and not got.rejects
    got = collect("features", write(tmp_path, "back.csv", 'isbn,path\n1,"C:\\"\n2,"D:\\"\n'))
    assert [f["path"] for f in got.features["item"]] == ["C:\\", "D:\\"]
    tabs = write(tmp_path, "log.tsv", '"user"\t"item"\n"u1"\t"i1"\n"u2"\t"i2"\n')
    assert [(p["user"], p["item"]) for p in collect("purchases", tabs).purchases] == [
        ("u1", "i1"),
        ("u2", "i2"),
    ]
    single = write(tmp_path, "s.csv", "user,item\n'a,b','c'\n")
    assert collect("purchases", single, quote="'").purchases == [{"user": "a,b", "item": "c"}]


@pytest.mark.parametrize(
    ("cell", "formats", "expected"),
    [
        ("12/1/2010 8:26", ("%m/%d/%Y %H:%M",), 1291191960),
        ("31.12.2025", ("%Y-%m-%d", "%d.%m.%Y"), 1767139200),
        ("2019-10-01 00:00:00 UTC", (), 1569888000),
        ("2019-09-30 19:00:00 EST", (), 1569888000),
        ("2019-10-01 02:00 CEST", ("%Y-%m-%d %H:%M %Z",), 1569888000),
        ("1.7171496E9", (), 1717149600),
        ("978300760.75", (), 978300760),
    ],
)
def test_times_as_they_are_written(
    tmp_path: Path, cell: str, formats: tuple[str, ...], expected: int
) -> None:
    path = write(tmp_path, "log.csv", f"customer,sku,ordered_at\na,b,{cell}\nc,d,\n")
    got = collect("purchases", path, time_format=formats)
    assert [p["time"] for p in got.purchases] == [expected, None]
    if formats and "%Z" not in formats[0]:
        assert [r.line for r in collect("purchases", path).rejects] == [2]


def test_refunds_and_rows_without_a_user(tmp_path: Path) -> None:
    rows = [
        ("536365", "p1", 6, "17850"),
        ("C536379", "p1", -1, "17850"),
        ("536381", "p2", 2, ""),
        ("1", "p3", 3, "9"),
    ]
    text = "".join(f"{a},{b},LAMP,{c},12/1/2010 8:26,2.5,{d},UK\n" for a, b, c, d in rows)
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    path = write(tmp_path, "retail.csv", head + text)
    form = ("%m/%d/%Y %H:%M",)
    got = collect("purchases", path, time_format=form)
    assert [r.line for r in got.rejects] == [3]
    assert got.skipped == {"rows without a user": 1}
    got = collect("purchases", path, time_format=form, refunds="skip")
    assert [(p["user"], p["item"], p["count"]) for p in got.purchases] == [("17850", "p1", 6), ("9", "p3", 3)]
    assert got.skipped == {"rows without a user": 1, "refunds": 1} and not got.rejects
    got = collect("purchases", path, time_format=form, refunds="net")
    assert [p["count"] for p in got.purchases] == [6, -1, 3]


def test_where_rename_and_decimal_commas(tmp_path: Path) -> None:
    path = write(
        tmp_path, "events.csv", "user,item,event\na,1,view\na,2,addtocart\nb,1,transaction\nb,,view\n"
    )
    got = collect("purchases", path, where=("event=transaction", "event=addtocart"))
    assert [(p["user"], p["item"]) for p in got.purchases] == [("a", "2"), ("b", "1")]
    assert sum(got.skipped.values()) == 2 and not got.rejects
    path = write(tmp_path, "items.csv", "sku;Product Name;price\n1;Axe;4,5\n2;Bat;1.234,25\n")
    with pytest.raises(ConnectorError, match="--rename 'Product Name=Product_Name'"):
        collect("features", path)
    got = collect("features", path, rename=("Product Name=title",), decimal=",")
    assert got.features["item"] == [
        {"key": "1", "title": "Axe", "price": 4.5},
        {"key": "2", "title": "Bat", "price": 1234.25},
    ]


def test_lists_of_items_of_a_user(tmp_path: Path) -> None:
    text = "0 10 11\n1 12 13\r\n2 14 15\n3\n\n 4  16.0 17 18\n"
    path = write(tmp_path, "train.txt", text)
    wanted = [
        (line.split()[0], item.removesuffix(".0")) for line in text.splitlines() for item in line.split()[1:]
    ]
    got = collect("adjacency", path)
    assert [(p["user"], p["item"]) for p in got.purchases] == wanted
    assert got.rows == 5
    with pytest.raises(ConnectorError, match="no column for user"):
        collect("purchases", path)


def test_a_blank_node_is_one_of_its_document(tmp_path: Path) -> None:
    line = '_:b1 <http://rdf.freebase.com/ns/film.film.x> _:b2 .\n_:b1 <http://a/p> "_:b1" .\n'
    first, second = write(tmp_path, "one.nt", line), write(tmp_path, "two.nt", line)
    found = [collect("freebase", path, property=("http://a/p=said",)) for path in (first, second)]
    assert [(g.facts[0]["head"], g.facts[0]["tail"]) for g in found] == [
        ("_:one.nt/b1", "_:one.nt/b2"),
        ("_:two.nt/b1", "_:two.nt/b2"),
    ]
    assert found[0].features["entity"] == [{"key": "_:one.nt/b1", "said": "_:b1"}]
