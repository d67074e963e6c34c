"""The public Freebase dump: N-Triples such as `freebase-rdf-latest.gz`, streamed in bounded memory.

Ids are shortened to `m.0abc` and predicates to `film.film.directed_by`; IRIs of other namespaces stay whole. A triple
between two nodes is a fact. `type.object.name` and rdfs:label become the property `name`, `common.topic.description`
the property `description`, both in one language (or in none; the last of several wins); they are kept for entities
that a kept fact mentions. Other literals are counted and left out unless --property names their predicate; they
become text, or what is said behind a ':' (--property people.person.height_meters=height:float), and a value that does
not fit is a reject. Type `time` takes dates as seconds since 1970; the `int` of an xsd:gYear is the year.

A blank node is one of its source (`_:dump.gz/b1`); the parts of a dump, given together, are one document.

Left out by default, as cleaned versions of Freebase do, are the predicates below these prefixes (NOISE):
    type. common. kg. freebase.      what Freebase says about its own records: types, instances, notable types,
    dataworld. topic_server.         aliases, images, provenance, schema, internal pipelines
    pipeline. kp_lw.
    base. user.                      the domains of single users
    http://rdf.freebase.com/key/     keys of other sites
    http://www.w3.org/               rdf:type, rdfs:label, owl: .., which say again what type. says
--noise keep takes them all as facts; --keep PREFIX takes those below a prefix and nothing else (--keep '*': all but
noise), --drop PREFIX drops them. The longest prefix that fits decides; `film` fits `film` and `film.actor.film`, not
`films.x`. With one prefix in both, --drop wins.

`--types film.film,book.` writes the types of an entity below these prefixes into its property `type`, sorted and
joined by ';'. As facts they are kept by --keep '*' --keep type.object.type.

`--mediators collapse` replaces nodes of mediator types as `kgkit.mediators` says. Mediator types are those that the
dump itself declares (`<TYPE> freebase.type_hints.mediator "true"`) and those of --mediator-types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.errors import ConfigError, ConnectorError
from kgkit.records import Facts, Features, Record, Reject, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

    from kgkit.arrays import Bools
    from kgkit.mediators import Mediators
    from kgkit.ntriples import Verdict
    from kgkit.spill import SpillFolder

NAMESPACE = "http://rdf.freebase.com/ns/"
KEYS = "http://rdf.freebase.com/key/"
W3 = "http://www.w3.org/"
NOISE = ("type.", "common.", "kg.", "freebase.", "dataworld.", "topic_server.", "pipeline.", "kp_lw.", "base.",
         "user.", KEYS, W3)  # fmt: skip
TEXTS = {
    "type.object.name": "name",
    "http://www.w3.org/2000/01/rdf-schema#label": "name",
    "common.topic.description": "description",
}
TYPES = ("type.object.type", "http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
HINT = "freebase.type_hints.mediator"
TAKEN = ("id", "item_id", "type", "entity_name", "name_of")
KINDS = {"text": "string", "int": "int64", "float": "float64", "bool": "bool", "time": "time"}

ADMINISTRATIVE, SITES, DROPPED, UNNAMED, LITERAL, NO_TEXT = range(1, 7)
REASONS = {
    0: "names, descriptions and properties in languages other than --language",
    ADMINISTRATIVE: "administrative predicates (--noise keep takes them)",
    SITES: "keys of other sites (--noise keep takes them)",
    DROPPED: "predicates of --drop",
    UNNAMED: "predicates that --keep does not name",
    LITERAL: "literals of predicates that --property does not name",
    NO_TEXT: "names, descriptions and properties that are no text",
}
UNMENTIONED = "names, descriptions, properties and types of entities without a kept fact"
TYPES_READ = "types of nodes, read for --types and --mediators only"
FACT, TYPE = 1, 2  # what a triple with a node is used for
_HINTED = -2  # in place of a property's number: says that the subject is a mediator type


class Freebase(Connector):
    """A dump, in one file or several."""

    name = "freebase"
    about = "the Freebase RDF dump (N-Triples; gzip, bzip2, zstd, plain, a pipe)"
    whole = True

    @dataclass(frozen=True)
    class Config:
        """Options of `kgkit ingest freebase`."""

        paths: tuple[Path, ...] = option(help="the dump, or its parts; - is the standard input")
        source: str | None = option(
            None, "name by which the graph remembers the dump; default: its file names"
        )
        language: str = option("en", "language of names, descriptions and properties")
        property: tuple[str, ...] = option(
            (),
            "PREDICATE or PREDICATE=NAME: keep its literals as a property, as text or, with :int, :float, :bool or "
            ":time behind it, as such (repeatable)",
        )
        keep: tuple[str, ...] = option((), "take facts below this prefix, and no others (repeatable)")
        keep_file: tuple[Path, ...] = option((), "file with a prefix for --keep on each line")
        drop: tuple[str, ...] = option((), "leave out predicates below this prefix (repeatable)")
        noise: str = option(
            "drop", "administrative predicates, keys, users' domains", choices=("drop", "keep")
        )
        types: tuple[str, ...] = option(
            (), "write an entity's types below this prefix into its property `type` (repeatable)"
        )
        mediators: str = option(
            "keep", "nodes that join others, such as performances", choices=("keep", "collapse")
        )
        mediator_types: tuple[str, ...] = option((), "a mediator type besides the declared ones (repeatable)")
        mediator_types_file: tuple[Path, ...] = option((), "file with a mediator type on each line")

    def source(self, config: Config) -> str:
        """The names of the parts."""
        return config.source or "+".join(sorted(path.name or str(path) for path in config.paths))

    def files(self, config: Config) -> list[Path]:
        """The parts, and the files of prefixes and types."""
        return [*config.paths, *config.keep_file, *config.mediator_types_file]

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Facts, then Features; what comes before the damage of a broken dump is still yielded."""
        from kgkit.ntriples import read
        from kgkit.spill import SpillFolder

        plan = _Plan(config)
        with SpillFolder() as folder:
            gathered = _Gathered(config, plan, folder, self.source(config))
            trouble: ConnectorError | None = None
            try:
                for found in read(
                    config.paths,
                    plan.decide,
                    REASONS,
                    namespace=NAMESPACE,
                    language=config.language,
                    scope=self.source(config),
                ):
                    if hasattr(found, "num_rows"):
                        yield from gathered.sorted_out(found)
                    else:
                        yield found
            except ConnectorError as error:
                trouble = error
            yield from gathered.rest()
            if trouble is not None:
                raise trouble


def _items(values: tuple[str, ...], files: tuple[Path, ...] = ()) -> list[str]:
    """What an option names, itself or in files: one a line, or with commas between; '#' begins a remark."""
    lines = list(values)
    for file in files:
        try:
            lines += [line.partition("#")[0] for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names = [name for line in lines for part in line.split(",") if (name := part.strip())]
    return [name.removeprefix(NAMESPACE).removesuffix("*") for name in names]


def _typed(given: str) -> tuple[str, str]:
    """A --property and its kind. The ':' of an IRI begins no type, as a '/' is in what follows it."""
    wanted, colon, kind = given.rpartition(":")
    if not colon or "/" in kind:
        return given, "string"
    if kind.strip() not in KINDS:
        raise ConfigError(f"--property {given}: {kind!r} is no type, say {', '.join(KINDS)}")
    return wanted, KINDS[kind.strip()]


def _fits(name: str, prefix: str) -> bool:
    if not prefix or name == prefix:
        return True
    return name.startswith(prefix) and (prefix[-1] in "./#:" or name[len(prefix)] in "./#")


class _Plan:
    """What is done with each predicate; `nodes` and `texts` hold it by the predicate's number."""

    def __init__(self, config: Freebase.Config) -> None:
        self._keep, self._drop = _items(config.keep, config.keep_file), _items(config.drop)
        self._noise = NOISE if config.noise == "drop" else ()
        self._collapse = config.mediators == "collapse"
        self.types, self.nodes, self.texts = _items(config.types), list[int](), list[int]()
        self._named = dict(TEXTS)
        self.kinds = dict.fromkeys(TEXTS.values(), "string")  # by property
        for given in config.property:
            wanted, kind = _typed(given)
            predicate, _, name = wanted.partition("=")
            predicate = predicate.strip().removeprefix(NAMESPACE)
            name = self._named[predicate] = name.strip() or predicate
            if name in TAKEN:
                raise ConfigError(f"--property {given}: {name!r} is taken in the graph, choose another name")
            if self.kinds.setdefault(name, kind) != kind:
                raise ConfigError(
                    f"--property {given}: {name!r} has another type already, choose another name"
                )
        self.properties = list(dict.fromkeys(self._named.values()))

    def decide(self, name: str) -> Verdict:
        """Called once for each predicate, in the order of their numbers."""
        from kgkit.ntriples import LITERALS, NODES, ONE_LANGUAGE, Verdict

        why = self._why_not(name)
        use = 0 if why else FACT
        if name in TYPES and (self.types or self._collapse):
            use |= TYPE
        text = self.properties.index(self._named[name]) if name in self._named else -1
        if name == HINT and self._collapse and text < 0:
            text = _HINTED
        self.nodes.append(use)
        self.texts.append(text)
        language = 0 if text == _HINTED else ONE_LANGUAGE
        wants = (NODES if use else 0) | (LITERALS | language if text != -1 else 0)
        return Verdict(wants, NO_TEXT if text >= 0 else why or LITERAL, why or LITERAL)

    def _why_not(self, name: str) -> int:
        """0 for predicates whose facts are kept."""
        best, why = -1, UNNAMED if self._keep else 0
        for prefixes, verdict in ((self._drop, DROPPED), (self._keep, 0), (self._noise, ADMINISTRATIVE)):
            for prefix in prefixes:
                if len(prefix) > best and _fits(name, prefix):
                    best, why = len(prefix), SITES if verdict and prefix == KEYS else verdict
        return why


class _Gathered:
    """Sorts tables of triples into records, and holds what can be told only at the end."""

    def __init__(self, config: Freebase.Config, plan: _Plan, folder: SpillFolder, source: str) -> None:
        self._source = source
        self._plan, self._texts, self._mentioned = plan, folder.spill("key"), folder.keys()
        self._mediators: Mediators | None = None
        self._mediator_types = set(_items(config.mediator_types, config.mediator_types_file))
        if config.mediators == "collapse":
            from kgkit.mediators import Mediators

            self._mediators = Mediators(folder)

    def sorted_out(self, triples: pa.Table) -> Iterator[Record]:
        """The facts of a block, unless mediators must be known first."""
        import numpy as np
        import pyarrow as pa

        codes = triples["predicate"].chunk(0).indices.to_numpy()
        literal = triples["literal"].to_numpy()
        use = np.where(literal, 0, np.array(self._plan.nodes)[codes])
        text = np.where(literal, np.array(self._plan.texts)[codes], -1)
        if (chosen := (use & FACT) > 0).any():
            yield from self._facts(triples.filter(pa.array(chosen)))
        if (chosen := (use & TYPE) > 0).any():
            yield from self._types(triples.filter(pa.array(chosen)), use[chosen] == TYPE)
        if (chosen := text >= 0).any():
            rows = triples.filter(pa.array(chosen))
            self._add_texts(rows["subject"], pa.array(text[chosen].astype(np.int32)), rows["object"])
        for row in triples.filter(pa.array(text == _HINTED)).to_pylist():
            if row["object"] == "true":
                self._mediator_types.add(row["subject"])

    def _facts(self, triples: pa.Table) -> Iterator[Record]:
        import pyarrow as pa

        relation = triples["predicate"].cast(pa.string())
        facts = pa.table({"head": triples["subject"], "relation": relation, "tail": triples["object"]})
        if self._mediators is not None:
            self._mediators.add_facts(facts)
        else:
            yield self._fact(facts)

    def _types(self, triples: pa.Table, only: Bools) -> Iterator[Record]:
        """`only` says which rows are used as types and not as facts too."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._mediators is not None:
            self._mediators.add_types(pa.table({"node": triples["subject"], "type": triples["object"]}))
        prefixes = self._plan.types
        wanted = [t for t in triples["object"].unique().to_pylist() if any(_fits(t, p) for p in prefixes)]
        used = pc.is_in(triples["object"], pa.array(wanted, pa.string())).to_numpy()
        kept = triples.filter(pa.array(used))
        which = pa.repeat(pa.scalar(len(self._plan.properties), pa.int32()), kept.num_rows)
        self._add_texts(kept["subject"], which, kept["object"])
        if left_out := int((~used & only).sum()):
            yield Skipped(left_out, TYPES_READ)

    def _add_texts(self, keys: pa.ChunkedArray, which: pa.Array, values: pa.ChunkedArray) -> None:
        import pyarrow as pa

        self._texts.add(pa.table({"key": keys, "which": which, "value": values}))

    def _fact(self, facts: pa.Table) -> Facts:
        for end in ("head", "tail"):
            self._mentioned.add(facts[end])
        return Facts(facts)

    def rest(self) -> Iterator[Record]:
        """Collapsed facts, then the properties of the entities that facts mention."""
        if self._mediators is not None:
            for found in self._mediators.collapsed(self._mediator_types):
                yield found if isinstance(found, Skipped) else self._fact(found)
        import pyarrow.compute as pc

        mentioned = self._mentioned.parts()
        number, known = -1, None
        for part, texts in self._texts.parts():
            while number < part:
                number, known = next(mentioned, (1 << 30, None))
            there = known is not None and number == part
            kept = texts.filter(pc.is_in(texts["key"], known)) if there else texts.slice(0, 0)
            if left_out := texts.num_rows - kept.num_rows:
                yield Skipped(left_out, UNMENTIONED)
            for which in kept["which"].unique().to_pylist():
                rows = kept.filter(pc.equal(kept["which"], which))
                yield from self._property(which, rows)

    def _property(self, which: int, rows: pa.Table) -> Iterator[Record]:
        if which == len(self._plan.properties):
            yield Features("entity", _joined_types(rows))
            return
        name = self._plan.properties[which]
        kind = self._plan.kinds[name]
        if kind == "string":
            yield Features("entity", rows.select(["key", "value"]).rename_columns(["key", name]))
        else:
            yield from _converted(self._source, name, kind, rows)


def _converted(source: str, name: str, kind: str, rows: pa.Table) -> Iterator[Record]:
    """A property of another kind than text; rejects the values that are none."""
    import pyarrow as pa

    from kgkit.tabular import Column
    from kgkit.tabular.convert import convert, reason

    column = Column(name, kind)
    values, bad = convert(rows["value"], column)
    for row in rows.filter(pa.array(bad)).to_pylist():
        yield Reject(source, 0, reason(row["value"], column), f"{row['key']}\t{row['value']}")
    yield Features("entity", pa.table({"key": rows["key"], name: values}).filter(pa.array(~bad)))


def _joined_types(rows: pa.Table) -> pa.Table:
    """key, type: the distinct types of each entity, sorted and joined by ';'."""
    import pyarrow as pa
    import pyarrow.compute as pc

    distinct = (
        rows.group_by(["key", "value"]).aggregate([]).sort_by([("key", "ascending"), ("value", "ascending")])
    )
    lists = distinct.group_by("key", use_threads=False).aggregate([("value", "list")])
    joined = pc.binary_join(lists["value_list"], ";")
    return pa.table({"key": lists["key"], "type": joined})


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Freebase]
