"""Generated dumps with the shape of the public Freebase dump, of any size and the same for the same seed.

python -m benchmarks.freebase_dump OUT.gz [--triples 10000000] [--seed 0]

Some 60 % of the triples are what `kgkit ingest freebase` drops by default: types and their instances, labels said
twice, keys, aliases and texts in other languages, provenance. The rest are names, literals such as dates and numbers,
facts whose targets are popular by Zipf's law, and performances: mediators with edges in both directions. Triples come
sorted by subject, as in the public dump.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NS = "http://rdf.freebase.com/ns/"
DIGITS = np.frombuffer(b"0123456789bcdfghjklmnpqrstvwxyz_", np.uint8)  # of Freebase's ids
AVERAGE = 18  # triples of an entity
BATCH = 400_000

# Share of triples, predicate, kind of object. What is dropped by default stands first.
SHAPE: tuple[tuple[float, str, str], ...] = (
    (0.13, "type.object.type", "type"),
    (0.12, "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "type"),
    (0.09, "type.object.key", "key"),
    (0.05, "http://rdf.freebase.com/key/wikipedia.en_id", "number"),
    (0.06, "common.topic.notable_types", "node"),
    (0.04, "common.topic.alias", "other"),
    (0.04, "common.topic.topic_equivalent_webpage", "page"),
    (0.03, "freebase.valuenotation.is_reviewed", "node"),
    (0.04, "type.type.instance", "node"),
    (0.05, "type.object.name", "other"),
    (0.04, "type.object.name", "name"),
    (0.02, "http://www.w3.org/2000/01/rdf-schema#label", "name"),
    (0.01, "common.topic.description", "text"),
    (0.02, "film.film.initial_release_date", "date"),
    (0.02, "measurement_unit.dated_percentage.rate", "bare"),
    (0.03, "music.recording.length", "double"),
    (0.08, "film.film.starring", "mediator"),
    (0.06, "music.release.track_list", "node"),
    (0.03, "film.film.genre", "node"),
    (0.02, "film.film.directed_by", "node"),
    (0.02, "people.person.place_of_birth", "node"),
)
TYPES = (
    "common.topic",
    "film.film",
    "film.actor",
    "music.recording",
    "people.person",
    "book.book",
    "base.x.thing",
)
MEDIATOR = "film.performance"
Codes = npt.NDArray[np.int64]


def mids(numbers: Codes) -> pa.Array:
    """Ids as `m.0abcdef`, of eight letters, in order of the numbers."""
    digits = np.empty((len(numbers), 9), np.uint8)
    digits[:, :3] = np.frombuffer(b"m.0", np.uint8)
    for place in range(6):
        digits[:, 8 - place] = DIGITS[(numbers >> (5 * place)) & 31]
    offsets = np.arange(0, 9 * len(numbers) + 1, 9, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits))


def nodes(numbers: Codes) -> pa.Array:
    return pc.binary_join_element_wise(f"<{NS}", mids(numbers), ">", "")


def zipf(rng: np.random.Generator, n: int, size: int) -> Codes:
    """n numbers below `size` whose frequency falls as one over their rank, ranks scattered over the ids."""
    rank = np.exp(rng.random(n) * np.log(size)).astype(np.int64) - 1
    return (rank * 2654435761 + 12345) % size


def texts(rng: np.random.Generator, n: int, words: int) -> pa.Array:
    """Sentences of so many words, some with letters beyond ASCII and with escapes."""
    known = ["The", "of", "night", "River", "Caf\u00e9", "and", "love", "House", "\\u00e9t\\u00e9", "king", "\\\"x\\\"",
             "Tokyo", "\u6771\u4eac", "story", "Anna", "blue"]  # fmt: skip
    dictionary = pa.array(known)
    parts = [dictionary.take(pa.array(rng.integers(0, len(known), n))) for _ in range(words)]
    return pc.binary_join_element_wise(*parts, " ")


def objects(kind: str, rng: np.random.Generator, n: int, entities: int) -> pa.Array:
    """n objects of a kind of SHAPE."""
    join = pc.binary_join_element_wise
    number = pa.array(rng.integers(1, 10**7, n)).cast(pa.string())
    if kind == "node":
        return nodes(zipf(rng, n, entities))
    if kind == "type":
        types = pa.array([f"<{NS}{name}>" for name in TYPES])
        return types.take(pa.array(rng.integers(0, len(TYPES), n)))
    if kind == "page":
        return join("<http://www.ranker.com/review/the-page-of/", number, ">", "")
    if kind == "key":
        return join('"/wikipedia/en_title/The_$0028', number, '$0029"', "")
    if kind == "number":
        return join('"', number, '"', "")
    if kind == "bare":
        return join(number, pa.repeat(pa.scalar("5"), n), ".")
    if kind == "double":
        return join('"', number, '"^^<http://www.w3.org/2001/XMLSchema#double>', "")
    if kind == "date":
        year = pa.array(rng.integers(1920, 2015, n)).cast(pa.string())
        return join('"', year, '-05-17"^^<http://www.w3.org/2001/XMLSchema#date>', "")
    tongues = pa.array(["de", "fr", "ja", "zh-Hant", "es"]).take(pa.array(rng.integers(0, 5, n)))
    tongue = tongues if kind == "other" else pa.repeat(pa.scalar("en"), n)
    return join('"', texts(rng, n, 40 if kind == "text" else 3), '"@', tongue, "")


def lines(rng: np.random.Generator, first: int, n: int, entities: int) -> bytes:
    """About n triples of entities from `first` on, sorted by subject."""
    share = np.array([s for s, _, _ in SHAPE])
    counts = np.floor(share / share.sum() * n).astype(int)
    counts[-1] += n - counts.sum()
    here = max(1, n // AVERAGE)
    subjects, predicates, targets = [], [], []
    join = pc.binary_join_element_wise
    for (_, predicate, kind), count in zip(SHAPE, counts.tolist(), strict=True):
        subject = np.sort(first + rng.integers(0, here, count))
        name = predicate if "://" in predicate else NS + predicate
        if kind != "mediator":
            _add(subjects, predicates, targets, subject, name, objects(kind, rng, count, entities))
            continue
        # One in four lines of performances leads to the mediator, the others are its own.
        films = subject[: count // 4]
        performance = (1 << 29) + first + np.arange(len(films)) % (1 << 28)
        _add(subjects, predicates, targets, films, name, nodes(performance))
        _add(subjects, predicates, targets, performance, NS + f"{MEDIATOR}.film", nodes(films))
        actors = zipf(rng, len(films), entities)
        _add(subjects, predicates, targets, performance, NS + f"{MEDIATOR}.actor", nodes(actors))
        rest = count - 3 * len(films)
        kinds = pa.repeat(pa.scalar(f"<{NS}{MEDIATOR}>"), rest)
        _add(subjects, predicates, targets, np.resize(performance, rest), NS + "type.object.type", kinds)
    order = pa.array(np.argsort(np.concatenate(subjects), kind="stable"))
    subject = nodes(np.concatenate(subjects)).take(order)
    predicate = pa.concat_arrays(predicates).take(order)
    target = pa.concat_arrays(targets).take(order)
    made = join(subject, predicate, target, ".\n", "\t")
    _, offsets, text = made.buffers()
    return bytes(memoryview(text)[: np.frombuffer(offsets, np.int32)[len(made)]])


def _add(
    subjects: list[Codes], predicates: list[pa.Array], targets: list[pa.Array], s: Codes, p: str, o: Any
) -> None:
    subjects.append(s)
    predicates.append(pa.repeat(pa.scalar(f"<{p}>"), len(s)))
    targets.append(o)


def write(path: Path, triples: int, seed: int = 0) -> None:
    """Writes a dump, compressed when the name ends in .gz."""
    rng = np.random.default_rng(seed)
    entities = max(1, triples // AVERAGE)
    declared = f'<{NS}{MEDIATOR}>\t<{NS}freebase.type_hints.mediator>\t"true"\t.\n'.encode()
    with gzip.open(path, "wb", compresslevel=6) if path.suffix == ".gz" else path.open("wb") as file:
        file.write(declared)
        done = 1
        while done < triples:
            n = min(BATCH, triples - done)
            file.write(lines(rng, done // AVERAGE, n, entities))
            done += n


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("path", type=Path)
    p.add_argument("--triples", type=int, default=10_000_000)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    write(args.path, args.triples, args.seed)


if __name__ == "__main__":
    main()
