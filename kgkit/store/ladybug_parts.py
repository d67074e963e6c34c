"""Facts in several tables of the embedded engine, which Cypher names as one.

A COPY into an empty relationship table needs memory in proportion to its rows, one to a table that holds some in proportion
to the nodes of the graph, and five times as long (`kgkit.store.ladybug_engine`). So where there are very many nodes, facts
that come go into a table of their own: FACT_2, FACT_3 and so on. `spread` puts them beside FACT wherever a statement
reads it, people's own and kgkit's, and nobody else has to know of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from kgkit.errors import StoreError

TYPE = "FACT"  # the relationship type that may have several tables
# In a graph of several tables `type(r)`, and `label(r)`, which is what the engine itself calls it.
TYPE_MACRO = f"type(r) AS CASE WHEN label(r) STARTS WITH '{TYPE}_' THEN '{TYPE}' ELSE label(r) END"

_PART = re.compile(rf"{TYPE}_(\d+)")
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
    """Of a graph's tables those that hold facts beside FACT, in the order in which they were made."""
    found = [(int(match[1]), name) for name in tables if (match := _PART.fullmatch(name))]
    return tuple(name for _, name in sorted(found))


def next_part(parts: Sequence[str]) -> str:
    """The name of one more."""
    return f"{TYPE}_{int(parts[-1].rpartition('_')[2]) + 1 if parts else 2}"


@functools.lru_cache(maxsize=256)
def spread(cypher: str, parts: tuple[str, ...]) -> str:
    """A statement with `|FACT_2|..` behind FACT in each pattern that is read, and `type` for `label`.

    CREATE makes facts in FACT itself. Raises StoreError for a MERGE of facts, which the engine does in one table only.
    """
    tokens = [m for m in _TOKEN.finditer(cypher) if m.lastgroup != "skip"]
    texts = ["" if m.lastgroup == "text" else m[0] for m in tokens] + [""] * 4
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
            here = _type_in(texts, at)
            if here is None or clause == "CREATE":
                continue
            if clause == "MERGE":
                raise StoreError(
                    f"this graph keeps its facts in {1 + len(parts)} tables, and MERGE looks into one only: look with "
                    "OPTIONAL MATCH, and CREATE what is not there"
                )
            end = tokens[here].end()
            edits.append((end, end, "".join(f"|{part}" for part in parts)))
    for start, end, text in reversed(edits):
        cypher = cypher[:start] + text + cypher[end:]
    return cypher


def _type_in(texts: Sequence[str], at: int) -> int | None:
    """Where FACT stands among the types of `[variable:A|:B ..`, which begins at `at`; None where it does not."""
    at += 1 if texts[at + 1] == ":" else 2
    while texts[at] in (":", "|"):
        at += 2 if texts[at + 1] == ":" else 1
        if texts[at].strip("`").upper() == TYPE:
            return at
        at += 1
    return None
