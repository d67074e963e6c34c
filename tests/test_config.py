"""Typed options: text to values, bounds, and errors that list what is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kgkit.cli.dynamic import option_rows, parse_extra
from kgkit.config import make_config, option, options_of, unknown_name
from kgkit.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """One of each kind."""

    paths: tuple[Path, ...] = option(help="files")
    dim: int = option(16, "embedding size", ge=1, le=64)
    rate: float | None = option(None, "learning rate", gt=0)
    mode: str = option("sum", "aggregator", choices=("sum", "concat"))
    header: bool = option(True, "has a header")
    text: tuple[str, ...] = option((), "columns")


def parse(*words: str) -> Options:
    return make_config(Options, parse_extra(words, Options, positional="paths"))


def test_words_become_typed_values() -> None:
    got = parse(
        "a.csv",
        "--dim",
        "8",
        "--rate=0.5",
        "b.csv",
        "--no-header",
        "--text",
        "x",
        "--text",
        "y",
        "--mode",
        "concat",
    )
    assert got == Options((Path("a.csv"), Path("b.csv")), 8, 0.5, "concat", False, ("x", "y"))
    assert parse("a").header
    assert parse("a", "--header=false").header is False
    assert parse("a", "--rate", "none").rate is None
    assert parse("a", "--text=-1").text == ("-1",)
    assert parse("a", "--text", "-").text == ("-",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("a", "--dims", "3"),
            r"unknown option '--dims'. Did you mean --dim\? Known: --dim, --rate, --mode, --header/--no-h",
        ),
        (("a", "--no-dim"), "unknown option '--no-dim'"),
        (("a", "--dim"), "--dim needs a value of type int"),
        (("a", "--dim", "--header"), "--dim needs a value of type int"),
        (("a", "--dim", "x"), "--dim needs a value of type int, got 'x'"),
        (("a", "--dim", "1.5"), "--dim needs a value of type int"),
        (("a", "--dim", "0"), "--dim must be >= 1, <= 64, got '0'"),
        (("a", "--rate", "0"), "--rate must be > 0"),
        (("a", "--rate", "nan"), "--rate must be > 0"),
        (("a", "--mode", "mean"), "--mode must be one of sum, concat"),
        (("a", "--dim", "1", "--dim", "2"), "--dim is given twice"),
        (("a", "-d", "3"), "unknown option '-d'"),
        (("--dim", "3"), "missing option --paths"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(*words)


def test_without_a_positional_words_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="unexpected word 'a': options begin with --; known: --paths, --dim"
    ):
        parse_extra(["a"], Options)


def test_options_describe_themselves() -> None:
    infos = {o.name: o for o in options_of(Options)}
    assert infos["paths"].required
    assert infos["dim"].bounds_text() == ">= 1, <= 64"
    assert infos["text"].type_text() == "str..."
    rows = {r["name"]: r for r in option_rows(Options, "paths")}
    assert rows["header"]["flag"] == "--header/--no-header"
    assert rows["paths"]["flag"] == "PATH..."
    assert rows["mode"]["choices"] == ["sum", "concat"]
    assert rows["mode"]["default"] == "sum"


def test_unknown_name_without_any_known() -> None:
    assert unknown_name("plugin", "x", []) == "unknown plugin 'x'. Known: none"
