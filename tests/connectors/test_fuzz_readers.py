"""Every reader on files broken at random: no traceback, no valid row lost, every bad row named with file and line.

What is valid is known because the files are written here row by row: nothing of the readers is used to count.
KGKIT_FUZZ is the number of seconds (default 20); a failure names its seed, and KGKIT_FUZZ_SEED does that one again.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect import Collected, collect

from kgkit.errors import KgkitError

PACKS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}  # fmt: skip
BAD_BYTES = (b"\xff", b"\xc3", b"\x00", b"\xed\xa0\x80")
Row = tuple[str, ...]


class Written:
    """A file that is being written, with its valid rows and the lines of its bad ones."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.data, self.line = rng, b"", 1
        self.good: list[Row] = []
        self.bad: list[int] = []
        self.end = rng.choice((b"\n", b"\n", b"\r\n", b"\r"))

    def add(self, text: bytes, good: Row | None = None, bad: bool = False) -> None:
        """One row, or (neither good nor bad) a line that is none."""
        if good is not None:
            self.good.append(good)
        if bad:
            self.bad.append(self.line)
        self.data += text.replace(b"\n", self.end) + self.end
        self.line += text.count(b"\n") + 1


def word(rng: random.Random) -> str:
    """An id that every format can hold."""
    return rng.choice("uvé日😀") + "".join(rng.choice("abc019._-/") for _ in range(rng.randrange(6))) + "x"


def delimited(rng: random.Random, width: int, header: bytes | None, delimiter: str, quoted: bool) -> Written:
    """Rows of ids, some of them broken in one way; in quoted files cells may hold anything."""
    out = Written(rng)
    for _ in range(rng.choice((0, 0, 1, 2))):
        out.add(b"")
    if header is not None:
        out.add(header)
    for number in range(rng.randrange(3, 60)):
        row = tuple(word(rng) for _ in range(width))
        kind = rng.choice(
            ("ok",) * 8 + ("blank", "wide", "narrow", "empty", "byte") + ("quoted", "stray") * quoted * 2
        )
        if number == 0 or (kind == "stray" and number < 3):
            kind = "ok"  # the first rows say what the file is like
        text = delimiter.join(row).encode()
        if kind == "ok":
            out.add(text, row)
        elif kind == "blank":
            out.add(b"")
        elif kind == "wide":
            out.add(text + delimiter.encode() + b"x", bad=True)
        elif kind == "narrow":
            out.add(delimiter.join(row[:-1]).encode(), bad=True)
        elif kind == "empty":
            out.add(delimiter.join(("", *row[1:])).encode(), bad=True)
        elif kind == "byte":
            out.add(rng.choice(BAD_BYTES) + text, bad=True)
        elif kind == "stray":
            out.add(b'"' + text, bad=True)
        else:
            inside = rng.choice(("a\nb", f"a{delimiter}b", 'say "x" y', "a\n\n\nb"))
            row = (row[0] + inside + "z", *row[1:])
            out.add(delimiter.join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row).encode(), row)
    if rng.random() < 0.3 and not out.data.endswith(out.end * 2):
        out.data = out.data.removesuffix(out.end)
    return out


def json_lines(rng: random.Random, names: tuple[str, ...]) -> Written:
    """An object a line, some broken."""
    out = Written(rng)
    broken = [b"{", b"[1]", b'"x"', b'{"user": NaN, "item": "a"}', b"[" * 5000, b'{"user": "\\ud800", "item": "a"}',
              b'{"user": {"a": 1}, "item": "b"}', b'{"user": "a"}', b'{"user": "\xff", "item": "a"}', b"\x00"]  # fmt: skip
    for number in range(rng.randrange(3, 60)):
        row = tuple(word(rng) for _ in names)
        kind = rng.choice(("ok",) * 6 + ("bad", "blank", "number"))
        if kind == "bad" and number > 0:
            out.add(rng.choice(broken), bad=True)
        elif kind == "blank":
            out.add(b"")
        elif kind == "number" and number > 0:
            n = rng.choice((7, 7.0, 10**25, 2**53 + 1, 0.5))
            text = str(int(n)) if isinstance(n, int) or n.is_integer() else str(n)
            out.add(json.dumps(dict(zip(names, (n, *row[1:]), strict=True))).encode(), (text, *row[1:]))
        else:
            out.add(
                json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=rng.random() < 0.5).encode(), row
            )
    return out


def table(rng: random.Random, path: Path, names: tuple[str, ...]) -> tuple[list[Row], list[int]]:
    """A Parquet or Arrow file; a row is bad where a cell is null or blank."""
    rows = [
        tuple(rng.choice((None, " ", *[word(rng)] * 8)) for _ in names) for _ in range(rng.randrange(3, 60))
    ]
    columns = {n: [r[i] for r in rows] for i, n in enumerate(names)}
    made = pa.table(
        {n: pa.array(c, rng.choice((pa.string(), pa.large_string()))) for n, c in columns.items()}
    )
    if path.suffix == ".parquet":
        pq.write_table(made, path, row_group_size=rng.randrange(1, 40))
    else:
        with pa.ipc.new_file(str(path), made.schema) as file:
            file.write_table(made, max_chunksize=rng.randrange(1, 40))
    whole = [all(c is not None and c.strip() for c in row) for row in rows]
    good = [tuple(c or "" for c in row) for row, fine in zip(rows, whole, strict=True) if fine]
    return good, [i for i, fine in enumerate(whole, 1) if not fine]


def ntriples(rng: random.Random) -> Written:
    """Triples between entities of Freebase."""
    ns, out = b"http://rdf.freebase.com/ns/", Written(rng)
    for number in range(rng.randrange(3, 60)):
        row = (f"m.{number}", "film.film.x", f"m.{rng.randrange(99)}")
        text = b" ".join(b"<" + ns + c.encode() + b">" for c in row) + b" ."
        kind = rng.choice(("ok",) * 6 + ("bad", "blank", "comment"))
        if kind == "ok":
            out.add(text, row)
        elif kind == "bad":
            out.add(
                rng.choice(
                    (text[:-1], text[1:], b"\xff" + text, text + b" x", b"x", text.replace(b"m.", b'm."'))
                ),
                bad=True,
            )
        else:
            out.add(b"" if kind == "blank" else b"# remark")
    return out


def check(got: Collected, rows: list[Row], good: list[Row], bad: list[int], left: int, path: Path) -> None:
    """The valid rows all and only, the bad ones by line; `left`: bad rows that count as left out."""
    assert Counter(rows) == Counter(good)
    lines = [reject.line for reject in got.rejects]
    assert len(lines) + sum(got.skipped.values()) == len(bad) or left, (lines, bad, got.skipped)
    assert set(lines) <= set(bad) if left else lines == bad, (lines, bad, [r.reason for r in got.rejects])
    assert all(reject.file == str(path) and reject.reason for reject in got.rejects)


def one(seed: int, folder: Path) -> None:
    """One file of each reader."""
    rng = random.Random(seed)
    folder.mkdir(exist_ok=True)
    suffix, pack = rng.choice(list(PACKS.items()))
    delimiter, ending = rng.choice(
        ((",", ".csv"), ("\t", ".tsv"), ("::", ".dat"), (";", ".csv"), ("|", ".txt"))
    )
    quoted = delimiter in ",;"
    log = delimited(rng, 2, delimiter.join(("user", "item")).encode(), delimiter, quoted)
    facts = delimited(rng, 3, None, delimiter, quoted)
    pairs = delimited(rng, 2, None, delimiter, quoted)
    items = delimited(rng, 2, delimiter.join(("sku", "title")).encode(), delimiter, False)
    lines = json_lines(rng, ("user", "item"))
    for name, made, keys in (
        ("purchases", log, ("user", "item")),
        ("triples", facts, ("head", "relation", "tail")),
        ("alignment", pairs, ("item", "entity")),
        ("purchases", lines, ("user", "item")),
    ):
        path = folder / f"{name}{'.jsonl' if made is lines else ending}{suffix}"
        path.write_bytes(pack(made.data))
        got = collect(name, path, **({} if made is lines else {"delimiter": delimiter}))
        found = {"purchases": got.purchases, "triples": got.facts, "alignment": got.alignments}[name]
        rows = [tuple(row[k] for k in keys) for row in found]
        check(got, rows, made.good, made.bad, sum(got.skipped.values()), path)
    path = folder / f"items{ending}{suffix}"
    path.write_bytes(pack(items.data))
    got = collect("features", path, delimiter=delimiter)
    rows = [(row["key"], row["title"]) for row in got.features.get("item", [])]
    check(got, rows, items.good, items.bad, 0, path)
    for ending in (".parquet", ".arrow"):
        path = folder / f"log{ending}"
        good, bad = table(rng, path, ("user", "item"))
        got = collect("purchases", path)
        check(
            got, [(p["user"], p["item"]) for p in got.purchases], good, bad, sum(got.skipped.values()), path
        )
    dump = ntriples(rng)
    path = folder / f"dump.nt{suffix}"
    path.write_bytes(pack(dump.data))
    got = collect("freebase", path)
    check(got, [(f["head"], f["relation"], f["tail"]) for f in got.facts], dump.good, dump.bad, 0, path)
    atomic = folder / "atomic"
    atomic.mkdir(exist_ok=True)
    inter = delimited(rng, 2, b"user_id:token\titem_id:token", "\t", False)
    (atomic / "x.inter").write_bytes(inter.data)
    got = collect("recbole", atomic)
    rows = [(p["user"], p["item"]) for p in got.purchases]
    check(got, rows, inter.good, inter.bad, 0, atomic / "x.inter")
    ratings = delimited(rng, 2, b"user\titem", "\t", False)
    (atomic / "ratings.txt").write_bytes(ratings.data)
    (atomic / "kg.txt").write_text("a\tr\tb\n")
    listed = sorted({row[1] for row in ratings.good})
    (atomic / "item_index2entity_id.txt").write_text("".join(f"{item}\te\n" for item in listed) or "a\tb\n")
    got = collect("kgcn", atomic)
    check(
        got,
        [(p["user"], p["item"]) for p in got.purchases],
        ratings.good,
        ratings.bad,
        0,
        atomic / "ratings.txt",
    )


def anything(seed: int, folder: Path) -> None:
    """Bytes changed anywhere in whole files: rows or an error that a person can read, never a traceback."""
    rng = random.Random(seed)
    folder.mkdir(exist_ok=True)
    kind = rng.choice((".csv", ".jsonl", ".parquet", ".arrow", ".nt"))
    path = folder / f"any{kind}"
    if kind in (".parquet", ".arrow"):
        table(rng, path, ("user", "item"))
        data = bytearray(path.read_bytes())
    else:
        makers: dict[str, Callable[[], Written]] = {
            ".csv": lambda: delimited(rng, 2, b"user,item", ",", True),
            ".jsonl": lambda: json_lines(rng, ("user", "item")),
            ".nt": lambda: ntriples(rng),
        }
        made = makers[kind]()
        suffix, pack = rng.choice(list(PACKS.items()))
        path, data = folder / f"any{kind}{suffix}", bytearray(pack(made.data))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    path.write_bytes(data)
    connectors = (
        ("freebase",) if kind == ".nt" else ("purchases", "features", "triples", "alignment", "satori")
    )
    for name in connectors:
        try:
            collect(name, path)
        except KgkitError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("target", [one, anything])
def test_readers_on_broken_files(target: Callable[[int, Path], None], tmp_path: Path) -> None:
    if fixed := os.environ.get("KGKIT_FUZZ_SEED"):
        target(int(fixed), tmp_path)
        return
    began, seed = time.monotonic(), 1
    while time.monotonic() - began < float(os.environ.get("KGKIT_FUZZ", "20")) / 2:
        try:
            target(seed, tmp_path)
        except Exception as error:
            error.add_note(f"{target.__name__}: KGKIT_FUZZ_SEED={seed} does this again")
            raise
        seed += 1
    assert seed > 5


def test_zstd_without_a_checksum_is_said(tmp_path: Path) -> None:
    from kgkit.records import Progress
    from kgkit.tabular import Column, read

    path = tmp_path / "log.csv.zst"
    sink = io.BytesIO(pa.compress(b"user,item\na,b\n", codec="zstd", asbytes=True))
    path.write_bytes(sink.getvalue())
    said = [
        n for f in read(path, [Column("user", usual=("user",))]) if isinstance(f, Progress) for n in f.notes
    ]
    assert any("no checksum" in note for note in said)
