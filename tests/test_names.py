"""What items and entities are called: whatever is ingested, aligned and moved in which order; on both stores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import ENGINES, empty_graph
from test_ingest import bring, write

from kgkit.align.apply import apply_rows
from kgkit.align.candidates import Options, read_pool
from kgkit.align.matchers import propose
from kgkit.names import COLUMNS, Names
from kgkit.rejects import RejectsFile
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore
from kgkit.testing.graph_dump import dump


@pytest.fixture(params=ENGINES[:2])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    """An empty graph on each engine."""
    yield from empty_graph(request, tmp_path)


def told(store: GraphStore, folder: Path, links: str) -> dict[str, Callable[[], Any]]:
    """The steps that tell a small graph: titles of items, names of entities, and which item is which."""
    titles = write(folder, "items.csv", "item,name\ni1,La Haine (1995)\ni2,Heat\ni3,Alone\n")
    own = write(folder, "names.csv", "entity,name\nm.1,Hate\nm.2,Heat\nm.4,Other\n")
    link = write(folder, "link.txt", links)
    return {
        "titles": lambda: bring(store, "features", titles),
        "names": lambda: bring(store, "features", own, of="entity"),
        "links": lambda: bring(store, "alignment", link),
    }


def test_names_tell_a_title_from_an_own_name() -> None:
    for title, own in itertools.product(("T", None), ("T", "O", None)):
        names = Names.of(title, own)
        assert (names.title, names.own) == (title, own)
        assert names.name == (title or own)
    assert (Names("N").title, Names("N").own) == (None, "N")
    older = Names("Title", "Own")  # as graphs have it that know no name_of
    assert (older.title, older.own) == ("Title", "Own")


def test_an_item_goes_by_its_title_and_its_entity_keeps_its_own_name(
    store: GraphStore, tmp_path: Path
) -> None:
    steps = told(store, tmp_path, "i1\tm.1\ni2\tm.2\n")
    for order in itertools.permutations(steps):
        store.clear()
        for step in order:
            steps[step]()
        assert dump(store)["Entity"] == {
            "m.1": {"item_id": "i1", "name": "La Haine (1995)", "entity_name": "Hate", "name_of": "item"},
            "m.2": {"item_id": "i2", "name": "Heat", "name_of": "both"},
            "m.4": {"name": "Other"},
            "item:i3": {"item_id": "i3", "name": "Alone"},
        }, order
    pool = read_pool(store, Options(realign=True))
    assert dict(zip(pool.entities.ids.to_pylist(), pool.entities.names.to_pylist(), strict=True)) == {
        "m.1": "Hate",
        "m.2": "Heat",
        "m.4": "Other",
    }
    assert sorted(pool.items.names.to_pylist()) == ["Alone", "Heat", "La Haine (1995)"]


def test_a_realigned_item_takes_its_title_along_whatever_the_order(store: GraphStore, tmp_path: Path) -> None:
    right = [("i1", "m.4"), ("i2", "m.1"), ("i3", "m.6")]
    steps = told(store, tmp_path, "i1\tm.1\ni2\tm.2\ni3\tm.5\n")
    steps["move"] = lambda: apply_rows(store, right, "t", RejectsFile(None))
    for order in itertools.permutations(steps):
        if order.index("links") > order.index("move"):
            continue
        store.clear()
        for step in order:
            steps[step]()
        assert dump(store)["Entity"] == {
            "m.1": {"item_id": "i2", "name": "Heat", "entity_name": "Hate", "name_of": "item"},
            "m.2": {"name": "Heat"},
            "m.4": {"item_id": "i1", "name": "La Haine (1995)", "entity_name": "Other", "name_of": "item"},
            "m.6": {"item_id": "i3", "name": "Alone", "name_of": "item"},
        }, order
    pool = read_pool(store, Options(realign=True))
    assert dict(zip(pool.entities.ids.to_pylist(), pool.entities.names.to_pylist(), strict=True)) == {
        "m.1": "Hate",
        "m.2": "Heat",
        "m.4": "Other",
        "m.6": None,
    }
    found = {(r.item, r.status): r.entity for r in propose(pool, None, Options(realign=True)).rows}
    assert found["i2", "accepted"] == "m.2", "by the names of entities, not by the titles that they show"


def test_names_that_are_corrected_keep_to_their_owner(store: GraphStore, tmp_path: Path) -> None:
    bring(store, "alignment", write(tmp_path, "link.txt", "i1\tm.1\n"))

    def say(of: str, name: str) -> tuple[str | None, ...]:
        table = write(tmp_path, f"{of}-{name}.csv", f"{of},name\n{'i1' if of == 'item' else 'm.1'},{name}\n")
        bring(store, "features", table, of=of)
        (row,) = pa.concat_tables(store.read_nodes("Entity", list(COLUMNS))).to_pylist()
        names = Names(*(row[c] for c in COLUMNS))
        return names.name, names.title, names.own

    assert say("entity", "Heet") == ("Heet", None, "Heet")
    assert say("entity", "Heat") == ("Heat", None, "Heat"), "an item without a title has none by this"
    assert say("item", "Haet") == ("Haet", "Haet", "Heat")
    assert say("item", "Heat") == ("Heat", "Heat", "Heat")
    assert say("item", "Heat (1995)") == ("Heat (1995)", "Heat (1995)", "Heat")
    assert say("entity", "Heat (1995)") == ("Heat (1995)", "Heat (1995)", "Heat (1995)")
    assert say("entity", "Other") == ("Heat (1995)", "Heat (1995)", "Other")


def test_a_graph_from_before_name_of(tmp_path: Path) -> None:
    """Titles beside another name move; a name that stands alone stays, until the titles are told again."""
    path, link = tmp_path / "old.lbug", write(tmp_path, "link.txt", "i1\tm.1\ni2\tm.2\n")
    titles = write(tmp_path, "items.csv", "item,name\ni1,One\ni2,Two\n")
    with open_store(path) as store:
        bring(store, "features", write(tmp_path, "names.csv", "entity,name\nm.1,Uno\nm.3,Tre\n"), of="entity")
        bring(store, "features", titles)
        bring(store, "alignment", link)
        store.query("ALTER TABLE Entity DROP name_of", write=True)
    with open_store(path, read_only=True) as store:
        names = read_pool(store, Options(realign=True)).entities.names.to_pylist()
        assert sorted(names) == ["Tre", "Two", "Uno"]
    right = [("i1", "m.3"), ("i2", "m.4")]
    with open_store(path) as store:
        apply_rows(store, right, "t", RejectsFile(None))
        assert dump(store)["Entity"] == {
            "m.1": {"name": "Uno"},
            "m.2": {"name": "Two"},
            "m.3": {"item_id": "i1", "name": "One", "entity_name": "Tre", "name_of": "item"},
            "m.4": {"item_id": "i2"},
        }
        bring(store, "features", titles, force=True)
        assert dump(store)["Entity"]["m.4"] == {"item_id": "i2", "name": "Two", "name_of": "item"}
