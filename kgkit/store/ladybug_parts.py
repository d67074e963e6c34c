"""Relationship types that the embedded engine keeps in several tables, which Cypher names as one.

* Facts, where there are very many nodes: a COPY into an empty relationship table needs memory in proportion to its rows,
  one to a table that holds some in proportion to the nodes of the graph, and five times as long
  (`kgkit.store.ladybug_engine`). So facts that come go into a table of their own.
* Answers: each run's have a table of their own, for deleting a relationship costs time in proportion to the degrees of its
  ends, where dropping a table costs none.

They are called FACT_2, RECOMMENDED_3 and so on. `spread` puts them beside the type wherever a statement reads it, people's
own and kgkit's, and nobody else has to know of them. A table whose name ends in SIDE is being filled, and nobody's yet.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from kgkit.errors import StoreError
from kgkit.schema import EDGES

TYPE = "FACT"  # the type that has several tables for their size
PARTED = (TYPE, *(kind.type for kind in EDGES.values() if kind.answer))
SIDE = (
    "__next"  # end of the name of a table or of a vector property that is being filled, and not yet visible
)
# `label(r)` is what the engine itself calls the type of a relationship: its table.
TYPE_MACRO = f"type(r) AS regexp_replace(label(r), '(_[0-9]+)?({SIDE})?$', '')"

_PART = re.compile(rf"({'|'.join(PARTED)})_(\d+)")
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
    |(?P<word>`(?:[^`]|``)*`|[^\W\d]\w*)
    |.""",
    re.DOTALL | re.VERBOSE,
)
_READING = frozenset(["MATCH", "OPTIONAL", "WHERE", "WITH", "RETURN", "UNION", "UNWIND", "CALL", "LOAD"])
_WRITING = frozenset(["CREATE", "MERGE", "ON", "SET", "REMOVE", "DELETE", "DETACH"])


def parts_of(tables: Sequence[str]) -> tuple[str, ...]:
    """Of a graph's tables those beside the first of their type, in the order in which they were made."""
    found = [(match[1], int(match[2]), name) for name in tables if (match := _PART.fullmatch(name))]
    return tuple(name for _, _, name in sorted(found))


def parts_for(parts: Sequence[str], type_: str) -> tuple[str, ...]:
    """Those of one type."""
    return tuple(part for part in parts if part.rpartition("_")[0] == type_)


def next_part(parts: Sequence[str], type_: str = TYPE) -> str:
    """The name of one more table of a type."""
    own = parts_for(parts, type_)
    return f"{type_}_{int(own[-1].rpartition('_')[2]) + 1 if own else 2}"


def visible_of(tables: Sequence[str]) -> tuple[str, ...]:
    """The relationship types of a graph that has tables which are nobody's yet; () where it has none of these.

    tables: those of relationships.
    """
    shown = tuple(name for name in tables if not name.endswith(SIDE))
    return () if len(shown) == len(tables) else shown


@functools.lru_cache(maxsize=256)
def spread(cypher: str, parts: tuple[str, ...], visible: tuple[str, ...] = ()) -> str:
    """A statement with `|FACT_2|..` behind FACT in each pattern that is read, and `type` for `label`.

    Where there are tables that are nobody's yet, patterns that name no type name the `visible` ones. CREATE makes
    relationships in the first table of their type. Raises StoreError for a MERGE of a type with several tables, which the
    engine does in one table only.
    """
    tokens = [m for m in _TOKEN.finditer(cypher) if m.lastgroup != "skip"]
    texts = ["" if m.lastgroup == "text" else m[0] for m in tokens] + [""] * 4
    own = {type_: names for type_ in PARTED if (names := parts_for(parts, type_))}
    every = "|".join(visible)
    clause, edits = "", []
    for at, token in enumerate(tokens):
        before = texts[at - 1] if at else ""
        if token.lastgroup == "word" and before not in (".", ":", "|", "$"):
            word = texts[at].upper()
            if word in _READING or word in _WRITING:
                clause = word
            elif word == "LABEL" and texts[at + 1] == "(":
                edits.append((token.start(), token.end(), "type"))
        elif texts[at] == "[" and before == "-":
            here = _types_in(texts, at, own)
            if clause not in ("CREATE", "MERGE") and every and _names_no_type(texts, at):
                end = tokens[at + _has_variable(texts, at)].end()
                edits.append((end, end, f":{every}"))
            for place, type_ in () if clause == "CREATE" else here:
                if clause == "MERGE":
                    raise StoreError(
                        f"this graph keeps its {'facts' if type_ == TYPE else type_} in {1 + len(own[type_])} tables, and "
                        "MERGE looks into one only: look with OPTIONAL MATCH, and CREATE what is not there"
                    )
                end = tokens[place].end()
                edits.append((end, end, "".join(f"|{part}" for part in own[type_])))
        elif every and clause not in ("CREATE", "MERGE") and _is_bare(texts, at):
            edits.append((token.start(), token.start(), f"[:{every}]"))
    for start, end, text in reversed(edits):
        cypher = cypher[:start] + text + cypher[end:]
    return cypher


def _has_variable(texts: Sequence[str], at: int) -> bool:
    """Whether `[` at `at` is followed by a variable."""
    return bool(re.match(r"[^\W\d]|`", texts[at + 1])) and texts[at + 1].upper() != "WHERE"


def _names_no_type(texts: Sequence[str], at: int) -> bool:
    """Whether `[` at `at` begins a relationship without types: `[`, a variable or none, and what may follow."""
    behind = texts[at + 1 + _has_variable(texts, at)]
    return texts[at - 2] in (")", "<") and (behind in ("]", "*", "{") or behind.upper() == "WHERE")


def _is_bare(texts: Sequence[str], at: int) -> bool:
    """Whether the second dash of a relationship without brackets, `--` or `-->` or `<--`, stands at `at`."""
    return (
        texts[at - 1 : at + 1] == ["-", "-"] and texts[at - 2] in (")", "<") and texts[at + 1] in ("(", ">")
    )


def _types_in(texts: Sequence[str], at: int, own: dict[str, tuple[str, ...]]) -> list[tuple[int, str]]:
    """Where types of several tables stand in `[variable:A|:B ..`, which begins at `at`, and which they are."""
    found = []
    at += 1 if texts[at + 1] == ":" else 2
    while texts[at] in (":", "|"):
        at += 2 if texts[at + 1] == ":" else 1
        type_ = texts[at].strip("`").upper()
        if type_ in own:
            found.append((at, type_))
        at += 1
    return found
