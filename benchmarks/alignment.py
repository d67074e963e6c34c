"""Title matching against a known linkage: ML-100K's films and their Freebase entities, precision and recall.

The data set's facts name no entity, so the entities' names are made from the item file through the known linkage
(`--link movielens-100k`), which is then withheld. As they are, the names are the same on both sides: that row only
shows what homonyms cost. In the other rows the entities are named as a second catalogue would name them (a seed
decides, see `ALTERED`), and beside the films stand others: remakes of the same title and sequels, while a tenth of
the right entities have no name, so that nothing right can be found for their items (recall can reach 0.9 at most).
The figures say how the matchers bear these changes, not how they fare on Freebase's own names, which the data sets
here do not have. Items without an entity count
against precision when they are given one.
"""

from __future__ import annotations

import csv
import random
import unicodedata
from pathlib import Path

import pyarrow as pa

from benchmarks.common import Report, empty_store, ingest_file, parser, say, timed
from kgkit.align.apply import check
from kgkit.align.candidates import Options, read_pool
from kgkit.align.matchers import propose
from kgkit.align.normalise import year_of
from kgkit.align.table import ACCEPTED, Row
from kgkit.config import make_config
from kgkit.records import Alignments
from kgkit.registry import load_connector
from kgkit.store.port import GraphStore

VOWELS = {"a": "á", "e": "é", "i": "í", "o": "ö", "u": "ü", "c": "ç"}


def article(name: str, rng: random.Random) -> str:
    """Birdcage, The -> The Birdcage."""
    rest, comma, last = name.rpartition(", ")
    return f"{last} {rest}" if comma and last in ("The", "A", "An", "Le", "La", "Il") else name


def case(name: str, rng: random.Random) -> str:
    return rng.choice((name.upper(), name.lower(), name.title()))


def accents(name: str, rng: random.Random) -> str:
    """Takes accents away, or puts one on."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    places = [i for i, c in enumerate(plain) if c in VOWELS]
    if plain != name or not places:
        return plain
    at = rng.choice(places)
    return plain[:at] + VOWELS[plain[at]] + plain[at + 1 :]


def punctuation(name: str, rng: random.Random) -> str:
    for old, new in (
        ("'", ""),
        (":", " -"),
        ("&", "and"),
        (" and ", " & "),
        (".", ""),
        ("-", " "),
        ("!", ""),
    ):
        name = name.replace(old, new) if rng.random() < 0.7 else name
    return name


def typing(name: str, rng: random.Random) -> str:
    """One letter left out, doubled or changed, not the first."""
    if len(name) < 4:
        return name
    at = rng.randrange(1, len(name))
    return name[:at] + rng.choice(("", name[at] * 2, rng.choice("aeinrst"))) + name[at + 1 :]


def subtitle(name: str, rng: random.Random) -> str:
    """Drops what follows a colon, or adds a word of a series."""
    return (
        name.partition(":")[0] if ":" in name else f"{name}: {rng.choice(('The Movie', 'Special Edition'))}"
    )


# How often a name is changed in each way; a name may meet several.
ALTERED = ((article, 0.9), (case, 0.1), (accents, 0.1), (punctuation, 0.3), (typing, 0.08), (subtitle, 0.04))
NO_YEAR, OTHER_YEAR = 0.25, 0.1  # of entities: without a year; a year later
REMAKES, SEQUELS = 0.1, 0.1  # other entities beside the films, as a share of these
UNNAMED = 0.1  # of the linked entities have no name, so that whatever an item finds instead is wrong


def catalogue(
    films: list[tuple[str, str, int]], rng: random.Random, altered: bool
) -> list[tuple[str, str, str]]:
    """Entities (id, name, year or "") for films (entity or "", name, year): and others that look like them."""
    out = []
    for n, (entity, name, year) in enumerate(films):
        other, later = article(name, rng), str(year + rng.choice((-40, -25, -12, 9, 20)))
        if altered and rng.random() < REMAKES:
            out.append((f"remake.{n}", other, later if rng.random() >= NO_YEAR else ""))
        if altered and rng.random() < SEQUELS:
            out.append((f"sequel.{n}", f"{other} {rng.choice(('2', 'II', 'III'))}", str(year + 2)))
        if not entity or (altered and rng.random() < UNNAMED):
            continue
        if altered:
            for change, share in ALTERED:
                name = change(name, rng) if rng.random() < share else name
            year += rng.random() < OTHER_YEAR
        known = year and (not altered or rng.random() >= NO_YEAR)
        out.append((entity, name, str(year) if known else ""))
    return out


def load(store: GraphStore, folder: Path, altered: bool, seed: int) -> pa.Table:
    """Facts, named entities and named items; returns the linkage that is withheld from the graph."""
    connector = load_connector("recbole")()
    config = make_config(connector.Config, {"paths": (folder,), "link": "movielens-100k"})
    known = pa.concat_tables([r.table for r in connector.read(config) if isinstance(r, Alignments)])
    entity_of = dict(zip(known["item"].to_pylist(), known["entity"].to_pylist(), strict=True))
    with (folder / "ml-100k.item").open(encoding="utf-8", newline="") as file:
        items = [row[:3] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    films = [(entity_of.get(i, ""), name, year_of(year)) for i, name, year in items]
    ingest_file(store, "triples", folder / "ml-100k.kg")
    rows = catalogue(films, random.Random(seed), altered)  # nosec B311
    entities = {
        "id": [r[0] for r in rows],
        "name": [r[1] for r in rows],
        "year": [r[2] or None for r in rows],
    }
    stubs = {
        "id": [f"item:{i}" for i, _, _ in items],
        "item_id": [i for i, _, _ in items],
        # As MovieLens itself writes them; where the year is not known it is not in the name either.
        "name": [f"{name} ({year})" if year_of(year) else name for _, name, year in items],
    }
    store.upsert_nodes("Entity", pa.table(entities))
    store.upsert_nodes("Entity", pa.table(stubs))
    return known


def main() -> None:
    p = parser(__doc__, repeats=1)
    p.add_argument("--seed", type=int, default=1, help="of the changes to names (default 1)")
    options = p.parse_args()
    folder = options.data / "ml-100k"
    columns = (
        "names",
        "matching",
        "accepted",
        "precision",
        "recall",
        "review",
        "ambiguous",
        "unmatched",
        "s",
    )
    report = Report("Alignment of ML-100K's items by title", columns)
    for names, altered in (("the items' own", False), ("as another catalogue", True)):
        say(names)
        with empty_store("ladybug") as store:
            known = load(store, folder, altered, options.seed)
            linked = set(known["item"].to_pylist())
            for matching, chosen in (
                ("titles", Options()),
                ("titles, year", Options(year_property="year")),
                ("titles, fuzzy", Options(fuzzy=True)),
                ("titles, fuzzy, year", Options(fuzzy=True, year_property="year")),
            ):
                seconds, found = timed(lambda c=chosen: propose(read_pool(store, c), None, c))
                result = check(found.rows, known)
                right = result.precision.right
                accepted = sum(row.status == ACCEPTED for row in found.rows)
                report.add(
                    names,
                    matching,
                    accepted,
                    right / accepted,
                    result.recall.share,
                    *_left(found.rows),
                    seconds,
                )
    report.notes.append(
        f"{len(linked):,} of the items have an entity. precision: accepted items with the right entity, of all accepted; "
        "recall: of all items that have one. " + " ".join((__doc__ or "").split("\n\n")[1].split())
    )
    report.print(options.json)


def _left(rows: list[Row]) -> list[int]:
    return [
        len({r.item for r in rows if r.status == status}) for status in ("review", "ambiguous", "unmatched")
    ]


if __name__ == "__main__":
    main()
