"""Titles made comparable: case, accents, punctuation, articles, bracketed years.

    "Birdcage, The (1996)"  ->  "birdcage", 1996

Plain functions of strings: no store, no table.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# "Net, The": catalogues sort by the word that counts. Articles of the languages that catalogues do this for.
_ARTICLES = "the|a|an|le|la|les|l'|il|lo|gli|el|los|las|un|une|una|der|die|das|het|de"
_TRAILING = re.compile(rf"^(.*\w.*), ({_ARTICLES})$", re.IGNORECASE)
_LEADING_THE = re.compile(r"^the (?=\S)")
# "(1995)", "[1995]", "(1995 film)", "(1995-1998)", at the end.
_YEAR = re.compile(r"\s*[(\[](1[5-9]\d\d|20\d\d)(?:\s*[-–]\s*\d{0,4}|\s+\w+)?[)\]]\s*$")
_BRACKET = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]+)[)\]]\s*$")
_INITIAL = re.compile(r"(?<=\b\w)\.")  # I.Q. -> IQ
_QUOTE = re.compile(r"['’‘`´]")
_NO_WORD = re.compile(r"[\W_]+")
_MARKS = re.compile("[\u0300-\u036f]")
# Letters that Unicode does not take apart.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i"})
_FIRST_YEAR = re.compile(r"(?<!\d)-?(\d{4})(?!\d)")
_ROMAN = {
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "xi": "11",
    "xii": "12",
}


@dataclass(frozen=True)
class Title:
    """A name as it is compared. `key` is normalised; `others` are the keys of its parts, if it ends in brackets
    ("City of Lost Children, The (Cité des enfants perdus, La)"); year 0 is unknown."""

    key: str
    others: tuple[str, ...] = ()
    year: int = 0


def title(name: str) -> Title:
    """Takes a name apart."""
    rest, year = split_year(name) if name.rstrip()[-1:] in (")", "]") else (name, 0)
    found = _BRACKET.match(rest) if rest.rstrip()[-1:] in (")", "]") else None
    others = tuple(dict.fromkeys(map(key, found.groups()))) if found else ()
    return Title(key(rest), others, year)


def split_year(name: str) -> tuple[str, int]:
    """A name without the bracketed year at its end, and that year; 0 when there is none."""
    found = _YEAR.search(name)
    if found is None or found.start() == 0:
        return name.strip(), 0
    return name[: found.start()].strip(), int(found.group(1))


def key(name: str) -> str:
    """A name without case, accents, punctuation and "The". Equal keys are one title.

    A name of punctuation alone stays as it is ("!!!" is a band).
    """
    text = name.strip()
    found = _TRAILING.match(text) if ", " in text else None
    if found:
        rest, article = found.groups()
        text = article + rest if article.endswith("'") else f"{article} {rest}"
    text = text.casefold()
    if not text.isascii():
        # Marks on Latin, Greek and Cyrillic letters go; those of other scripts tell words apart and stay.
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text))).casefold()
        text = text.translate(_LETTERS)
    if "." in text:
        text = _INITIAL.sub("", text)
    text = _QUOTE.sub("", text).replace("&", " and ")
    words = _NO_WORD.sub(" ", text).strip()
    return _LEADING_THE.sub("", words) or name.strip().casefold()


def year_of(value: object) -> int:
    """The year of a number or a date in text ("1995-11-22"); 0 when there is none."""
    found = _FIRST_YEAR.search("" if value is None else str(value))
    return int(found.group(1)) if found else 0


def people(value: object) -> frozenset[str]:
    """The creators in a text, each as a key that does not mind "Lucas, George": parts stand between | ; or /."""
    parts = re.split(r"[|;/]", "" if value is None else str(value))
    return frozenset(" ".join(sorted(key(part).split())) for part in parts if part.strip())


def arabic(title_key: str) -> str:
    """A key with II, III.. as 2, 3.."""
    return " ".join(_ROMAN.get(word, word) for word in title_key.split())


def numbers(title_key: str) -> tuple[str, ...]:
    """The numbers in an `arabic` key: titles that differ in them are parts of one series, not spellings of one title."""
    return tuple(word for word in title_key.split() if word.isdigit())
