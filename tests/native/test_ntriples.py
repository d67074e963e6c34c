"""Compiled N-Triples against its Python twin and against lines whose meaning the grammar fixes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from kgkit.native import ntriples
from kgkit.native.ntriples import (
    LANGUAGE,
    LITERALS,
    NODE,
    NODES,
    ONE_LANGUAGE,
    PLAIN,
    REASONS,
    TYPED,
    Parsed,
    Parser,
    Verdict,
)

NS = "http://rdf.freebase.com/ns/"
XSD = "http://www.w3.org/2001/XMLSchema#"
ALL = Verdict(NODES | LITERALS)


def verdict(name: str) -> Verdict:
    if name.startswith("drop."):
        return Verdict(0, 3, 4)
    if name.startswith("name"):
        return Verdict(LITERALS | ONE_LANGUAGE, 5, 6)
    if name.startswith("fact."):
        return Verdict(NODES, 7, 8)
    return ALL


@pytest.fixture(params=["compiled", "twin"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Parser]:
    """A parser of either kind."""
    if request.param == "twin":
        monkeypatch.setenv("KGKIT_NATIVE", "0")

    def build(
        decide: Callable[[str], Verdict] = verdict, namespace: str = NS, language: str = "en"
    ) -> Parser:
        made = ntriples.parser(decide, namespace, language)
        if request.param == "compiled" and type(made).__name__ == "TwinParser":
            pytest.skip("no C compiler here")
        return made

    return build


def plain(parsed: Parsed, parser: Parser) -> dict[str, Any]:
    tags = parser.tags()
    rows = zip(
        parsed.subjects.to_pylist(),
        parsed.predicates.tolist(),
        parsed.objects.to_pylist(),
        parsed.kinds.tolist(),
        [tags[t] if t >= 0 else None for t in parsed.tags.tolist()],
        strict=True,
    )
    parsed.subjects.validate(full=True)
    parsed.objects.validate(full=True)
    return {
        "rows": list(rows),
        "rejects": parsed.rejects,
        "counts": {i: n for i, n in enumerate(parsed.counts.tolist()) if n},
        "triples": parsed.triples,
        "lines": parsed.lines,
    }


S = b"<http://a/s>"
GOOD: list[tuple[bytes, tuple[str, int, str, int, str | None]]] = [
    (b"<http://a/s> <http://a/p> <http://a/o> .", ("http://a/s", 0, "http://a/o", NODE, None)),
    (b"<http://a/s><http://a/p><http://a/o>.", ("http://a/s", 0, "http://a/o", NODE, None)),
    (b"\t <http://a/s>\t<http://a/p>\t\"x\"\t.\t\r", ("http://a/s", 0, "x", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "x" . # a remark', ("http://a/s", 0, "x", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "x"@en-GB-1 .', ("http://a/s", 0, "x", LANGUAGE, "en-GB-1")),
    (b'<http://a/s> <http://a/p> "1"^^<' + XSD.encode() + b"int> .", ("http://a/s", 0, "1", TYPED, XSD + "int")),
    (b'<http://a/s> <http://a/p> "a\\t\\b\\n\\r\\f\\"\\\'\\\\z" .', ("http://a/s", 0, "a\t\b\n\r\f\"'\\z", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "\\u00e9\\U0001F600" .', ("http://a/s", 0, "é😀", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "" .', ("http://a/s", 0, "", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "\\\\" .', ("http://a/s", 0, "\\", PLAIN, None)),
    (b'<http://a/s> <http://a/p> "a # . \\" b" .', ("http://a/s", 0, 'a # . " b', PLAIN, None)),
    ("<http://a/é> <http://a/p> \"日本\" .".encode(), ("http://a/é", 0, "日本", PLAIN, None)),
    (b"<http://a/\\u00E9> <http://a/p> _:b.1 .", ("http://a/é", 0, "_:b.1", NODE, None)),
    (b"_:a <http://a/p> _:b-c.", ("_:a", 0, "_:b-c", NODE, None)),
    (b"<" + NS.encode() + b"m.0abc> <http://a/p> <" + NS.encode() + b"m.1> .", ("m.0abc", 0, "m.1", NODE, None)),
    (b"<http://a/s> <http://a/p> <" + NS.encode() + b"> .", ("http://a/s", 0, NS, NODE, None)),
    (b"<http://rdf.freebase.com/n\\u0073/m.9> <http://a/p> true .", ("m.9", 0, "true", TYPED, XSD + "boolean")),
    (b"<http://a/s> <http://a/p> 4.5 .", ("http://a/s", 0, "4.5", TYPED, XSD + "decimal")),
    (b"<http://a/s> <http://a/p> -12 .", ("http://a/s", 0, "-12", TYPED, XSD + "integer")),
    (b"<http://a/s> <http://a/p> 1e-5.", ("http://a/s", 0, "1e-5", TYPED, XSD + "double")),
]  # fmt: skip


def test_what_lines_mean(make: Callable[..., Parser]) -> None:
    for line, row in GOOD:
        for end in (b"", b"\n", b"\r\n"):
            parser = make()
            got = plain(parser.parse(b"# remark\n\n" + line + end, 1), parser)
            assert got["rows"] == [row], line
            assert (got["triples"], got["lines"], got["rejects"]) == (1, 3, [])


BAD: list[tuple[bytes, int]] = [
    (b"s <http://a/p> <http://a/o> .", 1),
    (b'"s" <http://a/p> <http://a/o> .', 1),
    (b"<http://a/s", 1),
    (b"_: <http://a/p> <http://a/o> .", 1),
    (b"_:-a <http://a/p> <http://a/o> .", 1),
    (b"<http://a/s> _:p <http://a/o> .", 2),
    (b"<http://a/s>", 2),
    (b"<http://a/s> <http://a/p", 2),
    (b"<http://a/s> <http://a/p> .", 3),
    (b"<http://a/s> <http://a/p>", 3),
    (b"<http://a/s> <http://a/p> o .", 3),
    (b"<http://a/s> <http://a/p> <http://a/o .", 3),
    (b"<http://a/s> <drop.p> .", 5),
    (b"<http://a/s> <" + NS.encode() + b"drop.p> .", 3),
    (b"<http://a/s> <" + NS.encode() + b"drop.p> <http://a/o>", 4),
    (b'<http://a/s> <' + NS.encode() + b'drop.p> "x" . y', 4),
    (b"<http://a/s> <http://a/p> <http://a/o>", 4),
    (b"<http://a/s> <http://a/p> <http://a/o> . <http://a/s>", 4),
    (b"<http://a/s> <http://a/p> <http://a/o> <http://a/g> .", 4),
    (b'<http://a/s> <http://a/p> <http://a/"o> .', 5),
    (b"<http://a/`s> <http://a/p> <http://a/o> .", 5),
    (b"<http://a/s> <http://a/p`> <http://a/o> .", 5),
    (b"<http://a/s> <http://a/p> <http://a/\\u0022> .", 5),
    (b"<http://a/s> <http://a/p> <http://a/\\u0060> .", 5),
    (b"<http://a/s> <http://a/p> <http://a/ b> .", 5),
    (b"<http://a/s> <http://a/p> <http://a/\\n> .", 5),
    (b"<http://a/s> <http://a/p> <http://a/\\u00ZZ11> .", 5),
    (b"<s> <http://a/p> <http://a/o> .", 5),
    (b"<> <http://a/p> <http://a/o> .", 5),
    (b'<http://a/s> <http://a/p> "x .', 6),
    (b'<http://a/s> <http://a/p> "x\\" .', 6),
    (b'<http://a/s> <http://a/p> "x\ry" .', 6),
    (b'<http://a/s> <http://a/p> "x"@ .', 7),
    (b'<http://a/s> <http://a/p> "x"@1 .', 7),
    (b'<http://a/s> <http://a/p> "x"@en- .', 7),
    (b'<http://a/s> <http://a/p> "x"^<http://a/t> .', 7),
    (b'<http://a/s> <http://a/p> "x"^^http://a/t .', 7),
    (b'<http://a/s> <http://a/p> "x"^^<t> .', 7),
    (b'<http://a/s> <http://a/p> "\\q" .', 8),
    (b'<http://a/s> <http://a/p> "\\u12" .', 8),
    (b'<http://a/s> <http://a/p> "\\uD800" .', 8),
    (b'<http://a/s> <http://a/p> "\\UFFFFFFFF" .', 8),
    (b'<http://a/s> <http://a/p> "\xff" .', 9),
    (b'<http://a/s> <http://a/p> "\xed\xa0\x80" .', 9),
    (b"<http://a/\xc3> <http://a/p> <http://a/o> .", 9),
    (b"<http://a/s> <http://a/\xc0\xaf> <http://a/o> .", 9),
]  # fmt: skip


def test_what_is_not_ntriples_is_rejected_with_line_and_reason(make: Callable[..., Parser]) -> None:
    block = b"".join(b"<http://a/s> <http://a/p> <http://a/o> .\n" + line + b"\n" for line, _ in BAD)
    parser = make()
    got = plain(parser.parse(block, 101), parser)
    assert [(line, code) for line, code, _ in got["rejects"]] == [
        (102 + 2 * i, code) for i, (_, code) in enumerate(BAD)
    ]
    assert len(got["rows"]) == len(BAD) and got["triples"] == 2 * len(BAD)
    assert all(0 < code < len(REASONS) for _, code, _ in got["rejects"])


def test_predicates_are_decided_once_and_what_is_left_out_is_counted(make: Callable[..., Parser]) -> None:
    asked: list[str] = []

    def decide(name: str) -> Verdict:
        asked.append(name)
        return verdict(name)

    lines = [
        ("drop.a", "<http://a/o>"),
        ("drop.a", '"x"'),
        ("drop.a", '"not \\q even looked at'),
        ("name", '"kept"@en'),
        ("name", '"kept"@EN'),
        ("name", '"kept"'),
        ("name", '"left"@de'),
        ("name", "<http://a/o>"),
        ("fact.p", "<http://a/o>"),
        ("fact.p", "12"),
        ("drop.a", "<http://a/o> . # remark"),
    ]
    block = "".join(f"<{NS}m.1>\t<{NS}{p}>\t{o}\t.\n" for p, o in lines[:-1])
    block += f"<{NS}m.1> <{NS}{lines[-1][0]}> {lines[-1][1]}\n"
    parser = make(decide)
    for _ in range(2):
        got = plain(parser.parse(block.encode(), 1), parser)
        assert [row[2] for row in got["rows"]] == ["kept", "kept", "kept", "http://a/o"]
        assert got["counts"] == {0: 1, 3: 2, 4: 2, 5: 1, 8: 1}
        assert not got["rejects"]
        assert len(got["rows"]) + sum(got["counts"].values()) == got["triples"] == len(lines)
    assert asked == ["drop.a", "name", "fact.p"]


def test_more_rejects_and_predicates_than_one_call_takes(make: Callable[..., Parser]) -> None:
    block = b"".join(b"<http://a/s> <http://a/p%d> x .\n" % i for i in range(9000))
    parser = make()
    got = plain(parser.parse(block, 1), parser)
    assert [line for line, _, _ in got["rejects"]] == list(range(1, 9001))


def test_a_literal_of_ten_million_bytes(make: Callable[..., Parser]) -> None:
    text = b"caf\xc3\xa9 " * (10_000_000 // 6)
    parser = make()
    parsed = parser.parse(b'<http://a/s> <http://a/p> "' + text + b'\\n" .\n', 1)
    assert parsed.objects[0].as_py() == text.decode() + "\n"


def test_compiled_and_twin_agree_on_lines_broken_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    seeds = [line for line, _ in GOOD] + [line for line, _ in BAD]
    seeds += [
        s.replace(b"http://a/p", NS.encode() + p) for s in seeds for p in (b"drop.x", b"name", b"fact.y")
    ]
    odd = [b'"', b"\\", b">", b"<", b".", b" ", b"\t", b"_:", b"@", b"^^", b"\r", b"#", b"\xc3", b"\x80", b"\x00",
           b"\\u0041", b"-", b"e", b"1", b"\\U0010FFFF", b"\n"]  # fmt: skip
    block = []
    for _ in range(30_000):
        line = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(line) + 1)
            line[at : at + rng.randrange(3)] = rng.choice(odd)
        block.append(bytes(line))
    data = b"\n".join(block)
    compiled = ntriples.parser(verdict, NS, "en")
    monkeypatch.setenv("KGKIT_NATIVE", "0")
    twin = ntriples.parser(verdict, NS, "en")
    if type(compiled) is type(twin):
        pytest.skip("no C compiler here")
    assert plain(compiled.parse(data, 1), compiled) == plain(twin.parse(data, 1), twin)
