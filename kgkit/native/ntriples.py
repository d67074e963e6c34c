"""N-Triples into columns, a block of whole lines at a time: compiled, with a Python twin that gives the same.

What is read is the grammar of W3C's N-Triples 1.1, line by line, and besides it numbers and booleans without quotes,
which the public Freebase dump holds, and any character beyond ASCII in the label of a blank node. A line whose
predicate is not wanted is not looked at beyond its predicate, but for the '.' at its end.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kgkit.lazy import np
from kgkit.native.build import load

if TYPE_CHECKING:
    import pyarrow as pa

    from kgkit.arrays import Array

# What an object is, and what is wanted of a predicate (flags); the numbers are those of ntriples.c.
NODE, PLAIN, LANGUAGE, TYPED = range(4)
NODES, LITERALS, ONE_LANGUAGE = 1, 2, 4
OTHER_LANGUAGE = 0  # counts[0]: literals of a wanted predicate in another language

REASONS = (
    "",
    "the subject is neither <IRI> nor _:label",
    "the predicate is no <IRI>",
    "the object is neither <IRI>, _:label nor literal",
    "no '.' ends the line",
    "an IRI without a scheme, or with a character or escape that N-Triples forbids",
    "a literal that does not close",
    "what follows the literal is neither @language nor ^^<datatype>",
    "a literal with an escape that N-Triples does not know",
    "bytes that are not UTF-8",
)
_REJECTS = 4096


@dataclass(frozen=True)
class Verdict:
    """What is wanted of a predicate: flags NODES, LITERALS (with ONE_LANGUAGE: of that language or of none).

    `why_node` and `why_literal` (1..255) say under which number an object that is not wanted is counted.
    """

    wants: int
    why_node: int = 1
    why_literal: int = 1


@dataclass(frozen=True)
class Parsed:
    """The kept rows of a block, N of them, and what became of the rest.

    subjects, objects: string [N], a node's namespace cut off and all escapes replaced. predicates: int32 [N], numbers
    in the order in which the predicates were decided. kinds: uint8 [N] of NODE, PLAIN, LANGUAGE, TYPED. tags: int32
    [N], rows of `Parser.tags()`, -1 without language or datatype. `triples` counts the lines that are neither blank
    nor comments, `lines` all. rejects: line, code of REASONS, text. counts: int64 [256], lines left out by reason.
    """

    subjects: pa.Array
    predicates: Array
    objects: pa.Array
    kinds: Array
    tags: Array
    triples: int
    lines: int
    rejects: list[tuple[int, int, str]]
    counts: Array


class Parser(Protocol):
    """Parses block after block; remembers predicates, languages and datatypes."""

    def parse(self, data: bytes, line: int) -> Parsed:
        """`data`: whole lines, less than 2 GiB of them; `line`: the number of the first."""

    def tags(self) -> list[str]:
        """Languages, and IRIs of datatypes as they are written, in the order of first sight."""


def parser(decide: Callable[[str], Verdict], namespace: str = "", language: str = "") -> Parser:
    """A parser; `decide` is asked once for every distinct predicate, by its name without the namespace.

    `namespace` is cut from every IRI that begins with it and goes on after it. Raises ValueError for a namespace that
    no IRI can begin with.
    """
    if set(namespace) & set('<>"{}|^`\\') or any(c <= " " for c in namespace):
        raise ValueError(f"no IRI begins with {namespace!r}")
    library = load("ntriples")
    if library is None:
        from kgkit.native.ntriples_twin import TwinParser

        return TwinParser(decide, namespace, language)
    return _Compiled(library, decide, namespace, language)


def text_of(line: bytes) -> str:
    """The beginning of a rejected line, for a person."""
    return line[:300].decode(errors="replace").replace("\x00", "\ufffd")


def cut(iri: str, namespace: str) -> str:
    """An IRI without the namespace."""
    return iri[len(namespace) :] if namespace and iri.startswith(namespace) and iri != namespace else iri


class _Output(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("position", "line", "triples", "rows", "rejects", "subject_length", "object_length")
        ),
        *((name, ctypes.c_int64) for name in ("new_start", "new_end", "reject_capacity")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "subject_offsets",
                "predicates",
                "object_offsets",
                "tags",
                "kinds",
                "subjects",
                "objects",
            )
        ),
        *(
            (name, ctypes.c_void_p)
            for name in ("reject_lines", "reject_starts", "reject_ends", "reject_codes", "counts")
        ),
    ]


class _Compiled:
    def __init__(
        self, library: ctypes.CDLL, decide: Callable[[str], Verdict], namespace: str, language: str
    ) -> None:
        self._decide, self._namespace, self._library = decide, namespace, library
        library.kgkit_nt_new.restype = library.kgkit_nt_tag.restype = ctypes.c_void_p
        library.kgkit_nt_tags.restype = ctypes.c_int64
        prefix, tongue = namespace.encode(), language.encode()
        made = library.kgkit_nt_new(prefix, ctypes.c_int64(len(prefix)), tongue, ctypes.c_int64(len(tongue)))
        if not made:
            raise MemoryError
        self._parser = ctypes.c_void_p(made)
        weakref.finalize(self, library.kgkit_nt_free, self._parser)
        self._capacity = 0
        self._columns: dict[str, Array] = {}

    def parse(self, data: bytes, line: int) -> Parsed:
        if len(data) >= 2**31:
            raise ValueError("a block must be smaller than 2 GiB")
        out = self._output(len(data))
        out.line = line
        rejects: list[tuple[int, int, str]] = []
        while True:
            ended = self._library.kgkit_nt_parse(
                self._parser, data, ctypes.c_int64(len(data)), ctypes.byref(out)
            )
            self._take_rejects(data, out, rejects)
            if ended == 0:
                break
            if ended == 1:
                self._new_predicate(data[out.new_start : out.new_end])
            elif ended == 3:
                raise MemoryError
        rows, columns = out.rows, self._columns
        return Parsed(
            _strings(rows, columns["subject_offsets"], columns["subjects"], out.subject_length),
            columns["predicates"][:rows].copy(),
            _strings(rows, columns["object_offsets"], columns["objects"], out.object_length),
            columns["kinds"][:rows].copy(),
            columns["tags"][:rows].copy(),
            out.triples,
            out.line - line,
            rejects,
            columns["counts"].copy(),
        )

    def tags(self) -> list[str]:
        length, found = ctypes.c_int64(), []
        for which in range(self._library.kgkit_nt_tags(self._parser)):
            key = self._library.kgkit_nt_tag(self._parser, ctypes.c_int64(which), ctypes.byref(length))
            found.append(ctypes.string_at(key, length.value).decode())
        return found

    def _new_predicate(self, key: bytes) -> None:
        from kgkit.native.ntriples_twin import iri_text

        verdict = self._decide(cut(iri_text(key), self._namespace))
        at = self._library.kgkit_nt_decide(
            self._parser,
            key,
            ctypes.c_int64(len(key)),
            ctypes.c_int32(verdict.wants),
            ctypes.c_int32(verdict.why_node),
            ctypes.c_int32(verdict.why_literal),
        )
        if at < 0:
            raise MemoryError

    def _take_rejects(self, data: bytes, out: Any, rejects: list[tuple[int, int, str]]) -> None:
        c, n = self._columns, out.rejects
        found = (c[f"reject_{name}"][:n].tolist() for name in ("lines", "codes", "starts", "ends"))
        for line, code, start, end in zip(*found, strict=True):
            rejects.append((line, code, text_of(data[start : min(end, start + 400)])))
        out.rejects = 0

    def _output(self, size: int) -> Any:
        """Columns that are large enough for the block, the same ones each time: a row takes eight bytes at least."""
        if size > self._capacity or not self._columns:
            self._capacity, rows = size, size // 8 + 2
            int32 = ("subject_offsets", "predicates", "object_offsets", "tags")
            int64 = ("reject_lines", "reject_starts", "reject_ends")
            self._columns = {
                **{name: np.empty(rows, np.int32) for name in int32},
                **{name: np.empty(_REJECTS, np.int64) for name in int64},
                "kinds": np.empty(rows, np.uint8),
                "reject_codes": np.empty(_REJECTS, np.uint8),
                "subjects": np.empty(size + 8, np.uint8),
                "objects": np.empty(size + 8, np.uint8),
                "counts": np.empty(256, np.int64),
            }
        self._columns["counts"][:] = 0
        out = _Output(reject_capacity=_REJECTS)
        for name, column in self._columns.items():
            setattr(out, name, column.ctypes.data)
        return out


def _strings(rows: int, offsets: Array, text: Array, length: int) -> Any:
    import pyarrow as pa

    buffers = pa.py_buffer(offsets[: rows + 1].tobytes()), pa.py_buffer(text[:length].tobytes())
    return pa.StringArray.from_buffers(rows, *buffers)
