"""Files of rows: formats, compressions, delimiters, types, exact line numbers of rejects, errors in one line."""

from __future__ import annotations

import csv
import gzip
import json
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kgkit.errors import ConfigError, ConnectorError
from kgkit.records import Progress, Reject
from kgkit.tabular import Column, Layout, names, property_kinds, read, seconds
from kgkit.tabular import dialect as tabular_dialect

USER, ITEM = Column("user", usual=("user", "user_id")), Column("item", usual=("item", "item_id"))
RATING = Column("rating", "float64", usual=("rating",), required=False, nullable=True)
TIME = Column("time", "time", usual=("time", "timestamp"), required=False, nullable=True)
ALL = (USER, ITEM, RATING, TIME)
ROWS = [("u1", "i1", 4.5, 100), ("u2", "i2", None, 200), ("u1", "i3", 1.0, None)]
TEXT = "user,item,rating,time\nu1,i1,4.5,100\nu2,i2,,200\nu1,i3,1.0,\n"


def everything(
    path: Path, columns: tuple[Column, ...] = ALL, layout: Layout | None = None
) -> tuple[list[tuple[object, ...]], list[Reject], int]:
    rows: list[tuple[object, ...]] = []
    rejects, seen = [], 0
    for found in read(path, columns, layout):
        if isinstance(found, Reject):
            rejects.append(found)
        elif isinstance(found, Progress):
            seen += found.rows
        else:
            rows += list(zip(*(c.to_pylist() for c in found.columns), strict=True))
    return rows, rejects, seen


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


@pytest.mark.parametrize(
    "pack", [lambda b: b, gzip.compress, lambda b: gzip.compress(b[:30]) + gzip.compress(b[30:]), zstd]
)
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "::", " ", "|"])
def test_every_delimiter_and_compression_reads_alike(tmp_path: Path, delimiter: str, pack: object) -> None:
    text = (
        TEXT.replace(",", delimiter)
        if delimiter != " "
        else "user  item\trating time\nu1 i1   4.5 100 \n u2 i2 3 200\n"
    )
    path = tmp_path / "log.dat"
    path.write_bytes(pack(text.encode()))  # type: ignore[operator]
    rows, rejects, seen = everything(path)
    assert not rejects
    assert seen == len(rows)
    assert rows == (ROWS if delimiter != " " else [("u1", "i1", 4.5, 100), ("u2", "i2", 3.0, 200)])


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("\n", "\r\n"),
        "\ufeff" + TEXT,
        TEXT.rstrip("\n"),
        TEXT.replace("u1,", '"u1",').replace("user", '"user"'),
        TEXT.replace("u2,i2,,200\n", "u2,i2,,200\n\n  \n"),
    ],
    ids=["crlf", "bom", "no last newline", "quoted", "blank lines"],
)
def test_ordinary_variations_change_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8", newline="")
    rows, rejects, seen = everything(path)
    assert (rows, rejects) == (ROWS, []) or (rows, [r for r in rejects if r.text.strip()]) == (ROWS, [])
    assert seen == 3


def test_json_lines_and_parquet_read_as_csv_does(tmp_path: Path) -> None:
    records = [dict(zip(("user", "item", "rating", "time"), row, strict=True)) for row in ROWS]
    lines = tmp_path / "log.jsonl.gz"
    lines.write_bytes(gzip.compress("\n".join(json.dumps(r) for r in records).encode()))
    table = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(records), table)
    for path in (lines, table):
        rows, rejects, seen = everything(path)
        assert (rows, rejects, seen) == (ROWS, [], 3)


def test_json_ids_of_both_types_are_text_and_bad_lines_are_rejects(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"user": 7, "item": "a", "more": [1]}\n\n{"user": "x7", "item": "b"}\n{"user": 8}\n[1]\n{"user": \n'
        '{"user": {"id": 1}, "item": "c"}\n{"user": 9, "item": 10, "rating": "bad"}\n'
    )
    rows, rejects, seen = everything(path, (USER, ITEM, RATING))
    assert [r[:2] for r in rows] == [("7", "a"), ("x7", "b")]
    assert [r.line for r in rejects] == [4, 5, 6, 7, 8]
    assert seen == 7
    assert "item is empty" in rejects[0].reason
    assert "not JSON" in rejects[2].reason


def test_parquet_types_and_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    moments = pa.array([0, 1_600_000_000_000, None], pa.timestamp("ms"))
    table = pa.table(
        {
            "user": pa.array([1, None, 3]),
            "item": pa.array(["a", "b", "c"]).dictionary_encode(),
            "time": moments,
        }
    )
    pq.write_table(table, path)
    rows, rejects, _ = everything(path, (USER, ITEM, TIME))
    assert rows == [("1", "a", 0), ("3", "c", None)]
    assert [(r.line, r.reason) for r in rejects] == [(2, "user is empty")]


def test_rejects_carry_exact_lines_whatever_surrounds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a naive reader: random good and bad rows, quoted newlines among them, in blocks of a few rows."""
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 200)
    rng = random.Random(3)
    for quoted in (False, True):
        path = tmp_path / f"log{quoted}.csv"
        good, bad, line = [], [], 2
        with path.open("w", newline="") as file:
            file.write("user,item,rating,time\n")
            for i in range(800):
                kind = rng.choice(
                    ["ok"] * 6 + ["wide", "narrow", "number", "empty", "blank"] + ["lines", "quote"] * quoted
                )
                row = [f"u{i}", f"i{rng.randrange(50)}", "3.5", str(i)]
                if kind == "wide":
                    row.append("x")
                elif kind == "narrow":
                    row.pop()
                elif kind == "number":
                    row[2] = "three"
                elif kind == "empty":
                    row[0] = ""
                elif kind == "lines":
                    row[1] = "a\nb,\nc"
                elif kind == "quote":
                    row[1] = 'say "x"'
                text = "" if kind == "blank" else _csv(row)
                file.write(text + "\n")
                if kind in ("ok", "lines", "quote"):
                    good.append((row[0], row[1], 3.5, i))
                elif kind != "blank":
                    bad.append(line)
                line += text.count("\n") + 1
        rows, rejects, seen = everything(path)
        assert rows == good
        assert [r.line for r in rejects] == bad
        assert seen == len(good) + len(bad)


def _csv(row: list[str]) -> str:
    import io

    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue()


def test_a_quote_that_never_closes_costs_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular_dialect, "_LONGEST_ROW", 1000)
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 300)
    lines = ["user,item", *(f"u{i},i{i}" for i in range(500))]
    lines[101] = 'u100,"i100'
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    rows, rejects, _ = everything(path, (USER, ITEM))
    assert len(rows) == 499
    assert [(r.line, r.reason) for r in rejects] == [(102, tabular_dialect.STRAY)]


def test_a_tab_file_may_hold_quotes(tmp_path: Path) -> None:
    path = tmp_path / "titles.tsv"
    path.write_text('item\ttitle\n1\t"Quoted" start\n2\t5" disk\n')
    rows, rejects, _ = everything(path, (ITEM, Column("title", usual=("title",))))
    assert (rows, rejects) == ([("1", '"Quoted" start'), ("2", '5" disk')], [])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0", 0),
        ("978300760", 978300760),
        ("978300760.0", 978300760),
        ("1609459200000", 1609459200),
        ("1609459200000000", 1609459200),
        ("1609459200000000000", 1609459200),
        ("2021-01-01", 1609459200),
        ("2021-01-01 00:00:05", 1609459205),
        ("2021-01-01T00:00:00Z", 1609459200),
        ("2021-01-01T02:00:00+02:00", 1609459200),
        ("2021-01-01T00:00:00.250", 1609459200),
        ("20210101", 1609459200),  # the day, not the 234th of 1970
        ("20210101.0", 1609459200),
        ("19700101", 0),
        ("19000101", -2208988800),
        ("21001231", 4133894400),
        ("20240229", 1709164800),
        ("20230229", 20230229),  # no day of the calendar
        ("20231301", 20231301),
        ("18991231", 18991231),
        ("21010101", 21010101),
    ],
)
def test_times(tmp_path: Path, cell: str, expected: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user,time\na,{cell}\nb,5\nc,2021-01-01\n")  # alone and in a mixture
    rows, rejects, _ = everything(path, (USER, TIME))
    assert rows == [("a", expected), ("b", 5), ("c", 1609459200)]
    path.write_text(f"user,time\na,{cell}\n")
    assert everything(path, (USER, TIME))[0] == [("a", expected)]
    assert not rejects


def test_ill_typed_cells(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user,rating,time,n\na,inf,1,1\nb,nan,1,1\nc,1,yesterday,1\nd,1,1,0\ne,1,1,1.5\nf,1e1,1,2.0\ng,,,\n"
    )
    count = Column("n", "int64", usual=("n",), nullable=True, ge=1)
    rows, rejects, _ = everything(path, (USER, RATING, TIME, count))
    assert rows == [("f", 10.0, 1, 2), ("g", None, None, None)]
    assert [r.line for r in rejects] == [2, 3, 4, 5, 6]
    assert rejects[3].reason == "n must be a whole number, 1 or more, got '0'"


def test_columns_by_name_position_and_usual_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Customer-ID,what,User_ID:token\nc,w,u\n")
    assert everything(path, (USER,))[0] == [("u",)]
    assert everything(path, (Column("user", given="Customer-ID"),))[0] == [("c",)]
    assert everything(path, (Column("user", given="2"),))[0] == [("w",)]
    assert everything(path, (Column("user", given="2"),), Layout(header=False))[0] == [("what",), ("w",)]
    assert names(path) == ["Customer-ID", "what", "User_ID:token"]
    with pytest.raises(ConnectorError, match=r"unknown column 'Costumer-ID'. Did you mean Customer-ID\?"):
        everything(path, (Column("user", given="Costumer-ID"),))
    with pytest.raises(ConnectorError, match=r"no column for item .*name it by --item, or use --no-header"):
        everything(path, (ITEM,))


def test_a_header_among_files_without_one_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    columns = (Column("head", usual=("head",), position=0), Column("tail", usual=("tail",), position=1))
    path.write_text("tail\thead\n1\t2\n")
    unsaid = Layout(header=None, likely_header=False)
    assert everything(path, columns, unsaid)[0] == [("2", "1")]
    path.write_text("3\t4\n1\t2\n")
    assert everything(path, columns, unsaid)[0] == [("3", "4"), ("1", "2")]


def _truncated_parquet(path: Path) -> None:
    pq.write_table(pa.table({"user": ["a"] * 5000}), path)
    path.write_bytes(path.read_bytes()[:-20])


BROKEN = {
    "missing": (lambda p: None, "no such file"),
    "folder": (lambda p: p.mkdir(), "is a folder"),
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "empty gzip": (lambda p: p.write_bytes(gzip.compress(b"")), "the file is empty"),
    "cut gzip": (lambda p: p.write_bytes(gzip.compress(TEXT.encode() * 999)[:-9]), "truncated"),
    "cut zstd": (lambda p: p.write_bytes(zstd(TEXT.encode() * 999)[:-3]), "truncated"),
    "damaged gzip": (lambda p: p.write_bytes(gzip.compress(TEXT.encode())[:-8] + b"12345678"), "damaged"),
    "utf-16": (lambda p: p.write_bytes(TEXT.encode("utf-16")), "--encoding utf-16"),
    "cut parquet": (_truncated_parquet, "truncated or damaged Parquet"),
    "only blank lines": (lambda p: p.write_bytes(b"\n \n"), "the file has no row"),
    "header in latin-1": (lambda p: p.write_bytes(b"us\xe9r,item\nu,i\n"), "line 1: the header .*latin-1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_read_says_so_in_one_line(tmp_path: Path, case: str) -> None:
    make, message = BROKEN[case]
    path = tmp_path / "log.csv"
    make(path)
    with pytest.raises(ConnectorError, match=message) as error:
        everything(path, (USER, ITEM))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_rows_that_are_no_text_are_rejects_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgkit.tabular.reader.BLOCK", 1000)
    path = tmp_path / "log.csv"
    path.write_bytes(b"\n\nuser,item\n" + b"u,i\n" * 2000 + b'\xe9,i\nu,"a\n\xe9"\n\0,i\nv,j\r\nw,k\rx,l')
    rows, rejects, seen = everything(path, (USER, ITEM))
    assert rows == [("u", "i")] * 2000 + [("v", "j"), ("w", "k"), ("x", "l")]
    assert [r.line for r in rejects] == [2004, 2005, 2007]
    assert all("--encoding" in r.reason for r in rejects)
    assert seen == 2006


def test_rows_before_a_truncation_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"user,item\n" + b"".join(b"u%d,i\n" % i for i in range(200_000)))[:-900])
    rows = 0
    with pytest.raises(ConnectorError, match="truncated"):
        for found in read(path, (USER, ITEM)):
            rows += found.num_rows if isinstance(found, pa.Table) else 0
    assert 150_000 < rows < 200_000


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("user,item\né,i\n".encode(encoding))
    assert everything(path, (USER, ITEM), Layout(encoding=encoding))[0] == [("é", "i")]


def test_kinds_of_properties(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        "id,age,zip,price,sold,word,none\n1,30,01234,1.5,true,x,\n2,-4,99999,2,False,3,\n3,,1,,,4,\n"
    )
    kinds = property_kinds(
        path,
        [Column(name, at=at) for at, name in enumerate(("age", "zip", "price", "sold", "word", "none"), 1)],
    )
    assert kinds == {
        "age": "int64", "zip": "string", "price": "float64", "sold": "bool", "word": "string", "none": "string"
    }  # fmt: skip


def test_points_in_time_typed_as_options() -> None:
    assert seconds("2021-01-01", "--since") == seconds("1609459200", "--since") == 1609459200
    assert seconds(None, "--since") is None
    with pytest.raises(ConfigError, match="--since must be a date"):
        seconds("soon", "--since")


@pytest.mark.slow
def test_rate_of_a_four_column_csv(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    block = "".join(
        f"u{i * 7919 % 200000},i{i * 104729 % 50000},{i % 5 + 1},{1500000000 + i}\n" for i in range(100_000)
    )
    path.write_text("user,item,rating,time\n" + block * 20)
    rows, began = 0, time.process_time()
    for found in read(path, ALL):
        rows += found.num_rows if isinstance(found, pa.Table) else 0
    rate = rows / (time.process_time() - began)
    assert rows == 2_000_000
    # 3.4M/s on one core of a busy machine; the bound only catches a fall back to reading row by row (0.3M/s).
    assert rate > 800_000
