"""Entry points: listing without importing, loading one, and what breaks the contract."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kgkit.errors import PluginError
from kgkit.registry import CONNECTORS, MODELS, cards, load_connector, names

CONNECTOR = """
from collections.abc import Iterator
from dataclasses import dataclass
from kgkit import Connector, hookimpl, option

class Mine(Connector):
    name = "mine"
    about = "my own"
    @dataclass(frozen=True)
    class Config:
        depth: int = option(3, "how deep")
    def files(self, config): return []
    def read(self, config): return iter(())

@hookimpl
def register_connectors():
    return [Mine]
"""


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Installs a distribution of one module that offers a connector, as pip would lay it out."""

    def make(distribution: str, module: str, code: str, entry: str = "mine", group: str = CONNECTORS) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry} = {module}\n")
        monkeypatch.syspath_prepend(site)

    return make


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from kgkit.registry import names, cards; names('kgkit.models'); "
        "assert len(cards('kgkit.models')) > 4 and len(cards('kgkit.connectors')) > 5; "
        "heavy = {'torch', 'pyarrow'} | {m for m in sys.modules if m.startswith(('kgkit_plugins.', 'kgkit_connectors.'))}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_cards_say_what_the_classes_say() -> None:
    for card in cards(CONNECTORS):
        assert card.about == load_connector(card.name).about
        assert card.distribution.startswith("kgkit ")
    kgcn = next(c for c in cards(MODELS) if c.name == "kgcn")
    assert kgcn.details == {"task": "recommendation", "paper": "Wang et al., WWW 2019, arXiv:1904.12575"}


def test_every_name_loads_and_is_its_class_name() -> None:
    for name in names(CONNECTORS):
        assert load_connector(name).name == name


def test_an_unknown_name_lists_the_right_ones() -> None:
    with pytest.raises(
        PluginError,
        match=r"unknown connector 'purchase'. Did you mean purchases\? Known: adjacency, alignment, ",
    ):
        load_connector("purchase")


def test_an_outside_connector_loads(offer) -> None:  # type: ignore[no-untyped-def]
    offer("outside-one", "outside_one", CONNECTOR)
    assert load_connector("mine").about == "my own"
    assert [c.about for c in cards(CONNECTORS) if c.name == "mine"] == ["my own"]


def test_twins_are_refused_and_named(offer) -> None:  # type: ignore[no-untyped-def]
    offer("outside-two", "outside_two", CONNECTOR)
    offer("outside-three", "outside_three", CONNECTOR)
    with pytest.raises(
        PluginError, match=r"two packages offer a connector called 'mine': outside-t\w+ 1.0 and outside-t"
    ):
        names(CONNECTORS)


@pytest.mark.parametrize(
    ("module", "code", "message"),
    [
        ("wrong_hook", CONNECTOR.replace("register_connectors", "register_conectors"), "register_conectors"),
        (
            "wrong_name",
            CONNECTOR.replace('"mine"', '"yours"'),
            r"offers no connector called 'mine' \(it has 'yours'\)",
        ),
        ("wrong_class", CONNECTOR.replace("[Mine]", "[int]"), "must return subclasses of Connector"),
        ("wrong_import", "import no_such_module\n", "cannot be imported: No module named 'no_such_module'"),
    ],
)
def test_a_broken_contract_is_an_error_that_names_the_package(
    offer, module: str, code: str, message: str
) -> None:  # type: ignore[no-untyped-def]
    offer(f"broken-{module.replace('_', '-')}", module, code)
    with pytest.raises(PluginError, match=message):
        load_connector("mine")
