"""N-Triples files as Arrow tables, streamed in bounded memory: what connectors of RDF dumps share.

    for found in read([path], decide, reasons, namespace="http://rdf.freebase.com/ns/", language="en"):
        ...  # a table, a Reject, a Progress or a Skipped

Files may be plain, gzip, bzip2 or zstd, or a pipe (`-` is the standard input). They are unpacked by one thread and
parsed by another. Outcomes of bad input:

- a line that is not N-Triples, or not UTF-8, is a Reject with line and reason; so is one with an IRI that holds a
  quote, a back-tick, a blank or another character that IRIs must not hold, written or as an escape;
- a literal may be as long as a line, which is 64 MiB; a longer line is a Reject, and the next one is read;
- lines end by a newline, by a carriage return and a newline or, in files without any newline, by a carriage return;
- a truncated or damaged file is a ConnectorError after what comes before the damage has come out; half a line is none;
- lines of predicates that are not wanted are checked for subject, predicate and the '.' at their end only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit.errors import ConnectorError
from kgkit.lazy import np
from kgkit.native.ntriples import (
    LITERALS,
    NODES,
    ONE_LANGUAGE,
    OTHER_LANGUAGE,
    REASONS,
    Parsed,
    Parser,
    Verdict,
    parser,
)
from kgkit.records import Progress, Reject, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 22  # bytes: with 1 MiB, what is done once a block takes a fifth of the time
LONGEST_LINE = 64 << 20

__all__ = ["LITERALS", "NODES", "ONE_LANGUAGE", "OTHER_LANGUAGE", "Verdict", "read"]


def read(
    paths: Iterable[Path],
    decide: Callable[[str], Verdict],
    reasons: Mapping[int, str],
    *,
    namespace: str = "",
    language: str = "",
    scope: str = "",
    block: int = BLOCK,
) -> Iterator[pa.Table | Reject | Progress | Skipped]:
    """Yields tables of the triples that are wanted, and what became of all others.

    Columns: subject, predicate, object (string; predicate as a dictionary), literal (bool). `namespace` is cut from
    IRIs; other IRIs stay whole, blank nodes are `_:label`, with a `scope` `_:scope/label`, as a
    label means a node of its own in each document. `decide(predicate)` is asked once for each distinct
    predicate; `reasons` gives the words for its numbers, with OTHER_LANGUAGE for literals in other languages than
    `language`. Progress counts the lines that hold a triple, or should.

    Raises ConnectorError for a file that is missing, empty, truncated or damaged.
    """
    names: list[str] = []

    def noting(name: str) -> Verdict:
        names.append(name)
        return decide(name)

    lines = parser(noting, namespace, language)
    tables = _Tables(names, scope)
    for path in paths:
        yield from _file(path, lines, tables, reasons, block)


def _file(
    path: Path, lines: Parser, tables: _Tables, reasons: Mapping[int, str], block: int
) -> Iterator[pa.Table | Reject | Progress | Skipped]:
    from kgkit.tabular.unpack import doubt

    number, seen = 1, 0
    with closing(_whole_lines(path, block)) as blocks:
        try:
            for data, done, total in blocks:
                if data is None:
                    yield Reject(str(path), number, f"a line longer than {LONGEST_LINE >> 20} MiB")
                    yield Progress(1, done, total)
                    number += 1
                    continue
                parsed = lines.parse(data, number)
                number += parsed.lines
                seen += parsed.triples
                if len(parsed.subjects):
                    yield tables.of(parsed)
                for line, code, text in parsed.rejects:
                    yield Reject(str(path), line, REASONS[code], text)
                for code in np.flatnonzero(parsed.counts).tolist():
                    yield Skipped(int(parsed.counts[code]), reasons[code])
                yield Progress(parsed.triples, done, total)
            if warning := doubt(path):
                yield Progress(0, notes=(f"warning: {path.name}: {warning}",))
        except ConnectorError as error:
            if not seen:
                raise
            raise ConnectorError(f"{error}; the {seen:,} triples before it are kept") from None


class _Tables:
    """Parsed columns as tables. The dictionary of predicates grows, and is made anew only when it has."""

    def __init__(self, names: list[str], scope: str) -> None:
        self._names, self._scope = names, scope
        self._dictionary: pa.Array | None = None

    def of(self, parsed: Parsed) -> pa.Table:
        import pyarrow as pa

        if self._dictionary is None or len(self._dictionary) != len(self._names):
            self._dictionary = pa.array(self._names, pa.string())
        predicates = pa.DictionaryArray.from_arrays(pa.array(parsed.predicates), self._dictionary)
        literal = pa.array(parsed.kinds != 0)
        subjects, objects = self._scoped(parsed.subjects), self._scoped(parsed.objects, literal)
        columns = [subjects, predicates, objects, literal]
        return pa.table(columns, names=["subject", "predicate", "object", "literal"])

    def _scoped(self, nodes: pa.Array, literal: pa.Array | None = None) -> pa.Array:
        import pyarrow.compute as pc

        if not self._scope:
            return nodes
        blank = pc.starts_with(nodes, "_:")
        if literal is not None:
            blank = pc.and_(blank, pc.invert(literal))
        if not pc.any(blank).as_py():
            return nodes
        return pc.if_else(blank, pc.utf8_replace_slice(nodes, 0, 2, f"_:{self._scope}/"), nodes)


def _whole_lines(path: Path, size: int) -> Generator[tuple[bytes | None, int, int], None, None]:
    """Blocks that end at a line's end; None stands for a line that is too long."""
    from kgkit.tabular.unpack import unpacked_ahead

    rest: list[bytes] = []
    held, skipping, any_byte, done, total = 0, False, False, 0, 0
    trouble: ConnectorError | None = None
    pieces = unpacked_ahead(path, size)
    returns: bool | None = None  # whether lines end by a carriage return alone
    with closing(pieces):
        while trouble is None:
            try:
                piece, done, total = next(pieces)
            except StopIteration:
                break
            except ConnectorError as error:
                trouble = error
                break
            any_byte = True
            if returns is None:
                returns = b"\r" in piece and b"\n" not in piece
            if returns:
                piece = piece.replace(b"\r", b"\n")
            end = piece.rfind(b"\n") + 1
            if skipping:
                first = piece.find(b"\n") + 1
                if not first:
                    continue
                skipping, piece, end = False, piece[first:], end - first
                yield None, done, total
            if end:
                yield b"".join([*rest, piece[:end]]) if rest else piece[:end], done, total
                rest, held = [], 0
            rest.append(piece[end:])
            held += len(piece) - end
            if held > LONGEST_LINE:
                rest, held, skipping = [], 0, True
    if skipping:
        yield None, done, total
    elif held and trouble is None:  # half a line before a truncation is no line
        yield b"".join(rest), done, total
    if trouble is not None:
        raise trouble
    if not any_byte:
        raise ConnectorError("the file is empty", path)
