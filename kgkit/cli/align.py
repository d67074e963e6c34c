"""`kgkit align`: proposes which item is which entity as tables to review, and applies what was accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgkit.cli.options import JsonOption, QuietOption, StoreOption
from kgkit.cli.output import say

if TYPE_CHECKING:
    from kgkit.align.apply import Applied, Check
    from kgkit.align.table import Share


def register(app: typer.Typer) -> None:
    app.command()(align)


def align(
    store: StoreOption = None,
    linkage: Annotated[
        list[Path] | None,
        typer.Option(
            "--linkage", metavar="FILE", help="Item id, entity id: KB4Rec, .link, KGCN's; repeatable."
        ),
    ] = None,
    titles: Annotated[
        bool, typer.Option("--titles/--no-titles", help="Match names that are one title.")
    ] = True,
    fuzzy: Annotated[bool, typer.Option("--fuzzy", help="Then match names that are nearly equal.")] = False,
    entity_type: Annotated[
        list[str] | None,
        typer.Option("--entity-type", metavar="TYPE", help="Only entities of this type; repeatable."),
    ] = None,
    type_property: Annotated[
        str, typer.Option("--type-property", metavar="NAME", help="The entities' property that holds types.")
    ] = "type",
    head_of: Annotated[
        list[str] | None,
        typer.Option(
            "--head-of",
            metavar="PREFIX",
            help="Only entities with a fact whose relation begins so, as film.film.; repeatable.",
        ),
    ] = None,
    year_property: Annotated[
        str | None,
        typer.Option(
            "--year-property", metavar="NAME", help="Property with a year or date, of items and entities."
        ),
    ] = None,
    year_slack: Annotated[
        int, typer.Option("--year-slack", min=0, metavar="YEARS", help="How far known years may be apart.")
    ] = 1,
    creator_property: Annotated[
        str | None,
        typer.Option("--creator-property", metavar="NAME", help="Property with creators' names (a | b)."),
    ] = None,
    creator_relation: Annotated[
        str | None,
        typer.Option(
            "--creator-relation",
            metavar="RELATION",
            help="Facts from entity to creator, by the creator's name.",
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option("--min-score", min=50, max=100, help="Likeness from which --fuzzy accepts.")
    ] = 90.0,
    min_margin: Annotated[
        float, typer.Option("--min-margin", min=0, max=50, help="Points that the next best must be behind.")
    ] = 5.0,
    realign: Annotated[
        bool, typer.Option("--realign", help="Look for the entity of items that have one, too.")
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The table; -ambiguous, -unmatched beside it.")
    ] = Path("alignment.tsv"),
    sample: Annotated[
        int, typer.Option("--sample", min=0, metavar="N", help="Also a random sample to judge, <out>-sample.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample, and of --audit.")] = 1,
    apply: Annotated[bool, typer.Option("--apply", help="Apply what is accepted without a review.")] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="A known linkage: report precision and recall."),
    ] = None,
    accept: Annotated[
        Path | None,
        typer.Option("--accept", metavar="FILE", help="Apply the accepted rows of a reviewed table."),
    ] = None,
    precision: Annotated[
        Path | None,
        typer.Option("--precision", metavar="FILE", help="Report the precision that a judged sample says."),
    ] = None,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Whether items and their entities agree more than shuffled ones do."),
    ] = False,
    rejects: Annotated[
        Path, typer.Option("--rejects", metavar="FILE", help="Where malformed rows and conflicts are listed.")
    ] = Path("kgkit-rejects.tsv"),
    max_rejects: Annotated[
        str, typer.Option("--max-rejects", metavar="SHARE|N", help="Malformed rows at which a file fails.")
    ] = "0.1%",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say which item is which entity: writes tables to review; --accept FILE applies them. An item moves cleanly."""
    from kgkit.errors import ConfigError

    if accept is not None and precision is not None:
        raise ConfigError("--accept and --precision are two commands: give one of them")
    if precision is not None:
        _precision(precision, as_json)
        return
    if audit:
        if accept or linkage or check or apply or sample:
            raise ConfigError("--audit judges the graph's alignment as it is: leave the other options out")
        _audit(store, seed, as_json)
        return

    from kgkit.rejects import RejectsFile, parse_limit

    parse_limit(max_rejects)
    listing = RejectsFile(rejects)
    if accept is not None:
        if linkage or check or apply or sample:
            raise ConfigError(
                "--accept FILE applies a table and proposes nothing: leave the other options out"
            )
        with listing:
            _accept(store, accept, listing, as_json)
        return
    if creator_relation and not creator_property:
        raise ConfigError(
            "--creator-relation needs --creator-property: the items' property with their creators"
        )

    from kgkit.align.candidates import Options

    options = Options(
        titles=titles,
        fuzzy=fuzzy,
        entity_types=tuple(entity_type or ()),
        type_property=type_property,
        head_of=tuple(head_of or ()),
        year_property=year_property,
        year_slack=year_slack,
        creator_property=creator_property,
        creator_relation=creator_relation,
        min_score=min_score,
        min_margin=min_margin,
        realign=realign,
    )
    with listing:
        found = _propose(
            store, options, linkage or [], out, (sample, seed), apply, check, listing, max_rejects, quiet
        )
    if as_json:
        say(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for what, value in found.items():
        if isinstance(value, dict):
            say(f"{what}:" + ("" if value else " none"))
            for name, inner in value.items():
                say(f"  {name}: {_shown(inner)}")
        else:
            say(f"{what}: {_shown(value)}")


def _propose(
    store: str | None,
    options: Any,
    linkage: list[Path],
    out: Path,
    sample: tuple[int, int],
    apply: bool,
    check: Path | None,
    listing: Any,
    max_rejects: str,
    quiet: bool,
) -> dict[str, Any]:
    """Matches, writes the tables, and returns what there is to say."""
    from kgkit.align import table
    from kgkit.align.apply import apply_rows, read_linkage
    from kgkit.align.apply import check as check_rows
    from kgkit.align.candidates import read_pool
    from kgkit.align.matchers import propose
    from kgkit.cli.progress import reporter
    from kgkit.ingest import Step
    from kgkit.store.open import open_store

    links = read_linkage(linkage, listing, max_rejects) if linkage else None
    known = read_linkage([check], listing, max_rejects) if check else None
    with open_store(store, read_only=not apply, create=False) as graph, reporter(quiet) as progress:

        def tell(phase: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Step("align", phase, done, done, total))

        proposal = propose(read_pool(graph, options), links, options, tell)
        files = table.write_proposal(out, proposal.rows)
        found: dict[str, Any] = proposal.summary()
        if sample[0]:
            files["sample"] = table.beside(out, "sample")
            table.write_sample(files["sample"], proposal.rows, *sample)
        if known is not None:
            found["check"] = _checked(check_rows(proposal.rows, known))
        if apply:
            pairs = [(r.item, r.entity) for r in proposal.rows if r.status == table.ACCEPTED]
            found["applied"] = _applied(apply_rows(graph, pairs, str(out), listing))
    found["files"] = {word: str(path) for word, path in files.items()}
    if listing.listed:
        found["files"]["rejected rows and conflicts"] = str(listing.path)
    return found


def _accept(store: str | None, path: Path, listing: Any, as_json: bool) -> None:
    from kgkit.align.apply import apply_rows
    from kgkit.align.table import read_accepted
    from kgkit.store.open import open_store

    table = read_accepted(path)  # wholly read before the graph is touched
    with open_store(store, create=False) as graph:
        done = _applied(apply_rows(graph, table.pairs, str(path), listing))
    if as_json:
        say(json.dumps({**done, "not accepted": table.left_out}, indent=2))
        return
    say(", ".join(f"{word}: {n:,}" for word, n in done.items()))
    if left := ", ".join(f"{n:,} {status}" for status, n in table.left_out.items() if n):
        say(f"not applied, as their status is not accepted: {left}")
    if done["conflicts"]:
        say(f"conflicts are listed in {listing.path}")


def _precision(path: Path, as_json: bool) -> None:
    from kgkit.align.table import read_precision

    share, blank = read_precision(path)
    if as_json:
        say(json.dumps({"precision": _share(share), "not judged": blank}, indent=2))
        return
    say(f"precision: {_shown(_share(share))}" + (f"; {blank:,} rows not judged" if blank else ""))


def _audit(store: str | None, seed: int, as_json: bool) -> None:
    import dataclasses

    from kgkit.align.audit import SHUFFLED, audit
    from kgkit.cli.output import print_table
    from kgkit.store.open import open_store

    with open_store(store, read_only=True, create=False) as graph:
        found = audit(graph, seed=seed)
    if as_json:
        say(json.dumps(dataclasses.asdict(found), indent=2, ensure_ascii=False))
        return
    say(("warning: " if found.verdict == SHUFFLED else "") + found.sentence())
    if found.agreements:
        print_table(*found.table_of_agreements(), title="what goes together, in deviations from the shuffled")
    columns, rows = found.table_of_values()
    if rows:
        print_table(columns, rows, title="items with a value whose entity has the fact")


def _applied(done: Applied) -> dict[str, int]:
    return {
        "aligned": done.aligned,
        "unchanged": done.unchanged,
        "moved": done.moved,
        "items folded into entities": done.folded,
        "conflicts": done.conflicts,
    }


def _checked(found: Check) -> dict[str, Any]:
    return {
        "precision": _share(found.precision),
        "recall": _share(found.recall),
        **{f"precision of {method}": _share(share) for method, share in found.by_method.items()},
        "accepted items that the linkage does not list": found.unknown,
    }


def _share(share: Share) -> dict[str, Any]:
    return {"right": share.right, "of": share.of, "share": share.share, "low": share.low, "high": share.high}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        if not value["of"]:
            return "nothing to judge by"
        return (
            f"{value['share']:.4f} ({value['right']:,} of {value['of']:,}; 95 % within "
            f"{value['low']:.4f} and {value['high']:.4f})"
        )
    return f"{value:,}" if isinstance(value, int) else str(value)
