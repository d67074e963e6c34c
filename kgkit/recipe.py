"""Recipes: a TOML file that names sources to ingest in order.

    store = "shop.lbug"          # optional; --store wins

    [[source]]
    connector = "purchases"
    paths = ["logs/2024-01.csv", "logs/2024-02.csv"]
    min_rating = 4

    [[source]]
    connector = "freebase"
    paths = ["freebase-rdf-latest.gz"]
    from_items = true          # with hops, item_core, entity_core, relation_core: as `kgkit ingest` takes them
    hops = 2

    [[source]]
    align = "alignment.tsv"    # a step of `kgkit align`: writes the tables, applies what is accepted
    linkage = ["ml2fb.txt"]    # with titles, fuzzy, entity_types, year_property.. as in kgkit.align.candidates.Options
    # or: accept = "reviewed.tsv"

Paths are relative to the recipe. Every other key of a source is one of its connector's options.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgkit.config import make_config, options_of, unknown_name
from kgkit.connector import Connector
from kgkit.errors import ConfigError
from kgkit.registry import load_connector

if TYPE_CHECKING:
    from kgkit.align.step import AlignStep
    from kgkit.narrow import Narrow


@dataclass(frozen=True)
class SourceSpec:
    """A connector with its checked options, and what to keep of what it reads (None: all)."""

    connector: Connector
    config: Any
    narrow: Narrow | None = None


@dataclass(frozen=True)
class Recipe:
    """Sources in order; `store` as people type it."""

    store: str | None
    sources: list[SourceSpec | AlignStep]


def narrowing(from_items: bool, **given: int | None) -> Narrow | None:
    """What `--from-items` and the options that go with it say: numbers of a Narrow, None where none was given.

    Raises ConfigError for those without it.
    """
    from kgkit.narrow import Narrow

    numbers = {name: n for name, n in given.items() if n is not None}
    if from_items:
        return Narrow(**numbers)
    for name in numbers:
        raise ConfigError(f"--{name.replace('_', '-')} goes with --from-items")
    return None


def read_recipe(path: Path) -> Recipe:
    """Reads and checks a whole recipe before anything is ingested.

    Raises ConfigError naming the file and the key; PluginError for an unknown connector.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}: {error}") from None
    for key in document:
        if key not in ("store", "source"):
            raise ConfigError(f"recipe {path}: {unknown_name('key', key, ('store', 'source'))}")
    tables = document.get("source")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise ConfigError(f"recipe {path}: name at least one source in a [[source]] table")
    store = document.get("store")
    if store is not None and not isinstance(store, str):
        raise ConfigError(f"recipe {path}: store must be text")
    return Recipe(_beside(path, store), [_source(path, i, table) for i, table in enumerate(tables, start=1)])


def _beside(recipe: Path, store: str | None) -> str | None:
    """A store that is a path lies relative to the recipe; URIs stay as they are."""
    if store is None or "://" in store or store == "neo4j-managed":
        return store
    scheme, colon, rest = store.rpartition(":")
    return f"{scheme}{colon}{recipe.parent / rest}" if scheme in ("", "ladybug") else store


def _align_step(recipe: Path, where: str, values: dict[str, Any]) -> AlignStep:
    from kgkit.align.candidates import Options
    from kgkit.align.step import AlignStep

    paths: dict[str, Any] = {}
    for key in ("align", "accept"):
        path = values.pop(key, None)
        if path is not None and not isinstance(path, str):
            raise ConfigError(f"{where}: {key} must name a file")
        paths[key] = None if path is None else recipe.parent / path
    linkage = values.pop("linkage", [])
    if not isinstance(linkage, list) or not all(isinstance(file, str) for file in linkage):
        raise ConfigError(f"{where}: linkage must be a list of files")
    if (paths["align"] is None) == (paths["accept"] is None) or (paths["accept"] and (linkage or values)):
        raise ConfigError(f"{where}: an alignment has either align (with its options) or accept, alone")
    try:
        options = make_config(Options, values, what="key")
    except ConfigError as error:
        raise ConfigError(f"{where} (align): {error}") from None
    return AlignStep(
        paths["align"], paths["accept"], tuple(recipe.parent / file for file in linkage), options
    )


def _source(recipe: Path, number: int, table: dict[str, Any]) -> SourceSpec | AlignStep:
    where = f"recipe {recipe}, source {number}"
    values = dict(table)
    if "align" in values or "accept" in values:
        return _align_step(recipe, where, values)
    name = values.pop("connector", None)
    if not isinstance(name, str):
        raise ConfigError(f'{where}: connector = "NAME" is missing')
    connector = load_connector(name)()
    narrow = _narrowing(where, values)
    try:
        config: Any = make_config(connector.Config, values, what="key")
    except ConfigError as error:
        raise ConfigError(f"{where} ({name}): {error}") from None
    relative: dict[str, Any] = {}
    for option in options_of(connector.Config):
        value = getattr(config, option.name)
        if option.type is Path and value is not None:
            relative[option.name] = (
                tuple(recipe.parent / v for v in value) if option.many else recipe.parent / value
            )
    return SourceSpec(connector, dataclasses.replace(config, **relative), narrow)


def _narrowing(where: str, values: dict[str, Any]) -> Narrow | None:
    """Takes the keys of --from-items out of a source's."""
    from kgkit.narrow import Narrow

    keys = ("from_items", *(field.name for field in dataclasses.fields(Narrow)))
    given = {k: values.pop(k) for k in keys if k in values}
    for key, value in given.items():
        if not isinstance(value, bool if key == "from_items" else int):
            raise ConfigError(
                f"{where}: {key} must be {'true or false' if key == 'from_items' else 'a number'}"
            )
    try:
        return narrowing(given.pop("from_items", False), **given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
