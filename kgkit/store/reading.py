"""What people's Cypher may do when it is only to read: see the graph, and nothing else of the machine.

A read-only transaction lets pass what reads files (`LOAD FROM`, `LOAD CSV`) and procedures that do as they please. So a
statement is cut into tokens, strings and comments aside, and refused by what its words say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kgkit.errors import ReadOnlyStoreError, StoreError

# A line ends with either sign here: an engine may take the first of them for the end of a comment.
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n\r]*|/\*.*?\*/)
    |(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<word>[^\W\d]\w*)
    |.""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\u+([0-9A-Fa-f]{4})")
_PREFIXES = ("EXPLAIN", "PROFILE", "LOGICAL", "CYPHER")
_FIRST = frozenset(
    [
        "MATCH",
        "OPTIONAL",
        "WITH",
        "UNWIND",
        "RETURN",
        "CALL",
        "LOAD",
        "SHOW",
        "FINISH",
        "LET",
        "FOR",
        "FILTER",
    ]
)
_LOAD = ("FROM", "WITH", "CSV", "EXTENSION")
_SHOWN = ("INDEX", "CONSTRAINT", "FUNCTION", "PROCEDURE")
_SHOWN_KINDS = frozenset(
    [
        "ALL",
        "FULLTEXT",
        "LOOKUP",
        "POINT",
        "RANGE",
        "TEXT",
        "VECTOR",
        "UNIQUENESS",
        "KEY",
        "EXIST",
        "EXISTENCE",
    ]
)
# Procedures of both engines that tell of the graph alone. Of a name that ends with a dot, all below it.
_PROCEDURES = (
    *("bm_info", "current_setting", "db_version", "show_connection", "show_functions", "show_indexes"),
    *(
        "show_macros",
        "show_sequences",
        "show_tables",
        "show_warnings",
        "stats_info",
        "storage_info",
        "table_info",
    ),
    *("query_fts_index", "query_vector_index"),
    *(
        "db.awaitindex",
        "db.awaitindexes",
        "db.info",
        "db.labels",
        "db.propertykeys",
        "db.relationshiptypes",
        "db.schema.",
        "dbms.components",
    ),
    *("db.index.fulltext.query", "db.index.vector.query", "db.ping"),
)
# Functions whose names have dots; others of the kind may run a statement of their own.
_FUNCTIONS = (
    "date.",
    "datetime.",
    "duration.",
    "localdatetime.",
    "localtime.",
    "time.",
    "point.",
    "vector.",
    "gds.similarity.",
)


@dataclass(frozen=True)
class _Token:
    kind: str  # "text", "quoted", "word" or "", a sign
    text: str

    @property
    def upper(self) -> str:
        """A keyword, if it may be one."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What a word or a quoted name says, "" of anything else."""
        return self.text.strip("`").lower() if self.kind in ("word", "quoted") else ""


def check_reading(cypher: str, *, files: bool = False) -> None:
    """Refuses a statement that does more than to read the graph; with `files`, one that does more than to read.

    Raises ReadOnlyStoreError for a statement of another purpose, StoreError for one that reaches beyond the graph.
    """
    for text in _readings(cypher):
        _check(text, files)


def _readings(cypher: str) -> Iterator[str]:
    """The statement, and as it is after an engine decoded its escapes, which may do so before it looks for strings."""
    yield cypher
    if _ESCAPE.search(cypher):
        yield _ESCAPE.sub(lambda found: chr(int(found[1], 16)), cypher)
        # A backslash behind another one may belong to that.
        yield re.sub(
            r"\\\\|" + _ESCAPE.pattern, lambda found: chr(int(found[1], 16)) if found[1] else found[0], cypher
        )


def _check(cypher: str, files: bool) -> None:
    found = [_Token(m.lastgroup or "", m[0]) for m in _TOKEN.finditer(cypher) if m.lastgroup != "skip"]
    tokens = found + [_Token("", "")] * 4
    first = tokens[_begin(tokens)].upper
    if first and first not in _FIRST:
        raise ReadOnlyStoreError(f"{first} is not for reading: only queries are allowed here")
    if first == "LOAD" and tokens[_begin(tokens) + 1].upper not in ("FROM", "WITH", "CSV"):
        raise ReadOnlyStoreError("LOAD of an extension is not for reading: only queries are allowed here")
    if first == "SHOW" and not files:
        shown = _begin(tokens) + 1
        shown += tokens[shown].upper in _SHOWN_KINDS
        if not tokens[shown].upper.startswith(_SHOWN):
            _beyond(f"SHOW {tokens[shown].text}")
    if files:
        return
    for at, token in enumerate(found):
        if token.kind not in ("word", "quoted"):
            continue
        before, after = (tokens[at - 1] if at else tokens[-1]), tokens[at + 1]
        # Of a property, a label or a parameter it is the name; but `1.` is a number.
        owner = tokens[at - 2] if at > 1 else tokens[-1]
        named = before.text in (":", "$") or (
            before.text == "." and (bool(owner.name) or owner.text in (")", "]", "}"))
        )
        if not named:
            if token.upper == "LOAD" and after.upper in _LOAD:
                _beyond(f"LOAD {after.upper}")
            if token.upper == "USE" and after.name:
                _beyond("USE")
            if token.upper == "CALL" and after.name:
                called, _ = _chain(tokens, at + 1)
                if not _allowed(called, _PROCEDURES):
                    _beyond(f"CALL {called}")
            called, end = _chain(tokens, at)
            called_before = before.upper == "CALL"
            if (
                "." in called
                and tokens[end].text == "("
                and not called_before
                and not _allowed(called, _FUNCTIONS)
            ):
                _beyond(f"{called}()")


def _begin(tokens: list[_Token]) -> int:
    """Where the statement begins behind EXPLAIN, PROFILE and `CYPHER 5 name=value`."""
    at = 0
    while tokens[at].upper in _PREFIXES:
        options = tokens[at].upper == "CYPHER"
        at += 1
        while options and at + 2 < len(tokens):
            if tokens[at + 1].text == "=":
                at += 3
            elif tokens[at].kind == "" and (tokens[at].text.isdigit() or tokens[at].text == "."):
                at += 1
            else:
                break
    while tokens[at].text in ("(", "{") and tokens[at].kind == "":
        at += 1
    return at


def _chain(tokens: list[_Token], at: int) -> tuple[str, int]:
    """A name with dots that begins at a token, in lower case, and where it ends."""
    parts = [tokens[at].name]
    while tokens[at + 1].text == "." and tokens[at + 2].name:
        at += 2
        parts.append(tokens[at].name)
    return ".".join(parts), at + 1


def _allowed(called: str, names: tuple[str, ...]) -> bool:
    """Whether a name is among those, which may be the beginning of it where they end with a dot or `query`."""
    return any(
        called == name or (name.endswith((".", ".query")) and called.startswith(name)) for name in names
    )


def _beyond(what: str) -> None:
    raise StoreError(
        f"{what} reaches beyond the graph, such as into files of this machine: a query sees the graph only, unless "
        "`kgkit query --files` (query(.., files=True) in Python) allows more; a name that is spelled so goes in back-ticks"
    )
