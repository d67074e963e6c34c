"""The Python twin of ntriples.c, for machines without a compiler: the same checks in the same order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kgkit.lazy import np
from kgkit.native.ntriples import (
    LANGUAGE,
    LITERALS,
    NODE,
    NODES,
    ONE_LANGUAGE,
    OTHER_LANGUAGE,
    PLAIN,
    TYPED,
    Parsed,
    Verdict,
    cut,
    text_of,
)

if TYPE_CHECKING:
    from kgkit.arrays import Ints

SUBJECT, PREDICATE, OBJECT, END, IRI, LITERAL, TAG, ESCAPE, UTF8 = range(1, 10)
_XSD = b"http://www.w3.org/2001/XMLSchema#"
_BLANK = re.compile(rb"_:(?![-.])[A-Za-z0-9_:.\-\x80-\xff]*[A-Za-z0-9_:\-\x80-\xff]")
_STRING = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', re.S)
_LANGUAGE = re.compile(rb"[A-Za-z]+(?:-[A-Za-z0-9]+)*")
_BARE = re.compile(rb"true|false|[+-]?(?:[0-9]+(\.[0-9]+)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_FORBIDDEN = re.compile(rb'[\x00-\x20<"{}|^`]')
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*:")
_IRI_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))", re.S)
_ESCAPES = {
    b"t": b"\t",
    b"b": b"\b",
    b"n": b"\n",
    b"r": b"\r",
    b"f": b"\f",
    b'"': b'"',
    b"'": b"'",
    b"\\": b"\\",
}
_ENDED = re.compile(rb"[ \t]*\.[ \t]*(?:#|\Z)")
_BLANKS = b" \t"


class _Wrong(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _Term(NamedTuple):
    kind: int
    raw: bytes
    blank: bool = False
    tag: bytes = b""


def iri_text(raw: bytes) -> str:
    """What a checked IRI says."""
    return _unescaped(raw, iri=True).decode()


def _unescaped(raw: bytes, iri: bool) -> bytes:
    if b"\\" not in raw:
        return raw

    def replace(found: re.Match[bytes]) -> bytes:
        digits = found[1] or found[2]
        if digits is None:
            if iri or found[3] not in _ESCAPES:
                raise _Wrong(IRI if iri else ESCAPE)
            return _ESCAPES[found[3]]
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise _Wrong(IRI if iri else ESCAPE)
        if iri and (code <= 0x20 or chr(code) in '<>"{}|^`\\'):
            raise _Wrong(IRI)
        return chr(code).encode()

    return _IRI_ESCAPE.sub(replace, raw)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _Wrong(UTF8) from None


def _iri(line: bytes, at: int, code: int) -> tuple[bytes, int]:
    """The IRI that begins at `at`, and where what follows it begins."""
    end = line.find(b">", at)
    if end < 0:
        raise _Wrong(code)
    return line[at + 1 : end], end + 1


def _after(line: bytes, at: int) -> int:
    while at < len(line) and line[at] in _BLANKS:
        at += 1
    return at


class TwinParser:
    """See `kgkit.native.ntriples.parser`."""

    def __init__(self, decide: Callable[[str], Verdict], namespace: str, language: str) -> None:
        self._decide, self._namespace, self._language = decide, namespace, language.lower().encode()
        self._raw_namespace = namespace.encode()
        self._predicates: dict[bytes, tuple[int, Verdict]] = {}
        self._tags: dict[bytes, int] = {}

    def tags(self) -> list[str]:
        return [tag.decode() for tag in self._tags]

    def parse(self, data: bytes, line: int) -> Parsed:
        import pyarrow as pa

        counts = np.zeros(256, np.int64)
        rows: list[tuple[str, int, str, int, int]] = []
        rejects = []
        triples = 0
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for number, whole in enumerate(lines, line):
            row = whole.lstrip(b" \t").rstrip(b" \t\r")
            if not row or row.startswith(b"#"):
                continue
            triples += 1
            try:
                self._line(row, rows, counts)
            except _Wrong as wrong:
                rejects.append((number, wrong.code, text_of(row)))
        subjects, predicates, objects, kinds, tags = zip(*rows, strict=True) if rows else ((),) * 5
        return Parsed(
            pa.array(subjects, pa.string()),
            np.array(predicates, np.int32),
            pa.array(objects, pa.string()),
            np.array(kinds, np.uint8),
            np.array(tags, np.int32),
            triples,
            len(lines),
            rejects,
            counts,
        )

    def _line(self, line: bytes, rows: list[tuple[str, int, str, int, int]], counts: Ints) -> None:
        subject, at = self._subject(line)
        at = _after(line, at)
        if line[at : at + 1] != b"<":
            raise _Wrong(PREDICATE)
        key, at = _iri(line, at, PREDICATE)
        code, verdict = self._predicate(key)
        at = _after(line, at)
        first = line[at : at + 1]
        if not first or first not in b'<_"0123456789+-.tf':
            raise _Wrong(OBJECT)
        node = first in b"<_"
        if not verdict.wants & (NODES if node else LITERALS):
            if not line.endswith(b"."):
                _, at = self._object(line, at)
                if not _ENDED.match(line, at):
                    raise _Wrong(END)
            elif at == len(line) - 1:
                raise _Wrong(OBJECT)
            counts[verdict.why_node if node else verdict.why_literal] += 1
            return
        found, at = self._object(line, at)
        if not _ENDED.match(line, at):
            raise _Wrong(END)
        if not node and verdict.wants & ONE_LANGUAGE and not self._same_language(found):
            counts[OTHER_LANGUAGE] += 1
            return
        head = self._name(subject)
        tail = self._name(found) if node else self._text(found)
        rows.append((head, code, tail, found.kind, self._tag(found)))

    def _subject(self, line: bytes) -> tuple[_Term, int]:
        if line[:1] == b"<":
            raw, at = _iri(line, 0, SUBJECT)
            if _FORBIDDEN.search(raw):
                raise _Wrong(IRI)
            return _Term(NODE, raw), at
        if found := _BLANK.match(line):
            return _Term(NODE, found[0], blank=True), found.end()
        raise _Wrong(SUBJECT)

    def _predicate(self, key: bytes) -> tuple[int, Verdict]:
        known = self._predicates.get(key)
        if known is None:
            if _FORBIDDEN.search(key):
                raise _Wrong(IRI)
            name = cut(_utf8(self._checked(key)), self._namespace)
            known = self._predicates[key] = len(self._predicates), self._decide(name)
        return known

    def _checked(self, raw: bytes) -> bytes:
        text = _unescaped(raw, iri=True)
        inside = self._raw_namespace and text.startswith(self._raw_namespace)
        if not inside and not _SCHEME.match(text):
            raise _Wrong(IRI)
        return text

    def _object(self, line: bytes, at: int) -> tuple[_Term, int]:
        first = line[at : at + 1]
        if first == b"<":
            raw, at = _iri(line, at, OBJECT)
            if _FORBIDDEN.search(raw):
                raise _Wrong(IRI)
            return _Term(NODE, raw), at
        if first == b"_":
            if not (found := _BLANK.match(line, at)):
                raise _Wrong(OBJECT)
            return _Term(NODE, found[0], blank=True), found.end()
        if first == b'"':
            return self._string(line, at)
        if not (bare := _BARE.match(line, at)):
            raise _Wrong(OBJECT)
        name = b"boolean" if bare[0][:1] in b"tf" else b"double" if bare[3] else b"decimal"
        if name == b"decimal" and not (bare[1] or bare[2]):
            name = b"integer"
        return _Term(TYPED, bare[0], tag=_XSD + name), bare.end()

    def _string(self, line: bytes, at: int) -> tuple[_Term, int]:
        found = _STRING.match(line, at)
        if not found or b"\r" in found[1]:
            raise _Wrong(LITERAL)
        end = _after(line, found.end())
        if line[end : end + 1] == b"@":
            tag = _LANGUAGE.match(line, end + 1)
            if not tag or line[tag.end() : tag.end() + 1] == b"-":
                raise _Wrong(TAG)
            return _Term(LANGUAGE, found[1], tag=tag[0]), tag.end()
        if line[end : end + 1] == b"^":
            end = _after(line, end + 2)
            if line[found.end() :].lstrip(_BLANKS)[:2] != b"^^" or line[end : end + 1] != b"<":
                raise _Wrong(TAG)
            raw, end = _iri(line, end, TAG)
            if _FORBIDDEN.search(raw):
                raise _Wrong(TAG)
            return _Term(TYPED, found[1], tag=raw), end
        return _Term(PLAIN, found[1]), found.end()

    def _same_language(self, term: _Term) -> bool:
        return term.kind != LANGUAGE or term.tag.lower() == self._language

    def _name(self, term: _Term) -> str:
        return _utf8(term.raw) if term.blank else cut(_utf8(self._checked(term.raw)), self._namespace)

    def _text(self, term: _Term) -> str:
        _utf8(term.raw)
        return _unescaped(term.raw, iri=False).decode()

    def _tag(self, term: _Term) -> int:
        if term.kind not in (LANGUAGE, TYPED):
            return -1
        if term.tag not in self._tags:
            if term.kind == TYPED:
                try:
                    _utf8(self._checked(term.tag))
                except _Wrong as wrong:
                    raise _Wrong(UTF8 if wrong.code == UTF8 else TAG) from None
            self._tags[term.tag] = len(self._tags)
        return self._tags[term.tag]
