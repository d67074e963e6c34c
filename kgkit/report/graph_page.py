"""The page that `kgkit stats --report` writes: the figures of a graph put into sections, charts and tables."""

from __future__ import annotations

from kgkit.report import charts, html
from kgkit.report.charts import Series
from kgkit.report.checks import findings
from kgkit.report.figures import Distribution, GraphFigures, ItemExample
from kgkit.report.html import Html

_BARS, _ROWS = 15, 2000  # relations in the chart, and in the table


def graph_page(f: GraphFigures, made: str) -> str:
    """The whole document. `made` is when, for the line under the title."""
    about = f"{f.store} · {made} · an item is an entity that is sold; a purchase here is a distinct pair of user and item"
    nodes, edges = f.counts["nodes"], f.counts["relationships"]
    if not any(nodes.values()) and not any(edges.values()):
        nothing = html.paragraph(
            "This graph is empty. Bring something in first: `kgkit ingest NAME PATH...` (`kgkit ingest --help` lists "
            "the connectors)."
        )
        return html.page("Graph report", about, [("Nothing here yet", nothing)])
    return html.page(
        "Graph report",
        about,
        [
            ("Counts", _counts(f)),
            ("Warnings", _warnings(f)),
            ("Relations", _relations(f)),
            ("Degrees", _degrees(f)),
            ("Alignment", _alignment(f)),
            ("Hops from the items", _hops(f)),
            ("Sources", _sources(f)),
        ],
    )


def _counts(f: GraphFigures) -> Html:
    nodes, edges = f.counts["nodes"], f.counts["relationships"]
    shown: list[tuple[str, object]] = [
        ("users", nodes["User"]),
        ("items", f.coverage.items),
        ("entities", nodes["Entity"]),
        ("relations", len(f.relations)),
        ("facts", edges["FACT"]),
        ("purchases", f.coverage.purchases),
    ]
    pairs = nodes["User"] * f.coverage.items
    if pairs:
        shown.append(("density of purchases", f"{f.coverage.purchases / pairs:.3%}"))
    extra = (
        ("training runs", nodes["Run"]),
        ("recommended", edges["RECOMMENDED"]),
        ("completed", edges["COMPLETED"]),
    )
    return html.cards([*shown, *((name, n) for name, n in extra if n)])


def _warnings(f: GraphFigures) -> Html:
    found = findings(f)
    if not found:
        return html.paragraph("None of the usual troubles was found.")
    return html.join(html.warning(w.title, w.advice, w.columns, w.rows, w.total) for w in found)


def _relations(f: GraphFigures) -> Html:
    if not f.relations:
        return html.paragraph("No facts.", soft=True)
    top = f.relations[:_BARS]
    chart = html.figure(
        f"Facts by relation{f', the {_BARS} most frequent' if len(f.relations) > _BARS else ''}",
        charts.bar_chart([r.name for r in top], [r.facts for r in top], "facts by relation, lengths by logarithm", log=True),
        ["relation", "facts"],
        [(r.name, r.facts) for r in top],
        "Lengths go by the logarithm.",
    )  # fmt: skip
    rows = [
        (r.name, r.facts, f"{r.share:.2%}", r.heads, r.tails, r.heads_per_tail, r.tails_per_head, r.category)
        for r in f.relations[:_ROWS]
    ]
    which = f"All {len(rows):,} relations"
    if len(rows) < len(f.relations):
        which = f"The {len(rows):,} most frequent of {len(f.relations):,} relations"
    columns = ["relation", "facts", "share", "heads", "tails", "heads per tail", "tails per head", "category"]
    return html.join(
        [
            chart,
            html.table(columns, rows, which),
            html.paragraph(
                "Heads and tails are distinct. Category: the first letter is N if a tail has 1.5 heads or more on "
                "average, the second if a head has 1.5 tails or more (TransE, section 4.3).",
                soft=True,
            ),
        ]
    )


def _degrees(f: GraphFigures) -> Html:
    summary = html.table(
        ["what", "with none", "mean", "median", "largest"],
        [
            (name, d.zero, d.mean, d.median, d.largest)
            for name, d in (
                ("facts of an entity, either end", f.facts_any),
                ("facts of an entity as head", f.facts_out),
                ("facts of an entity as tail", f.facts_in),
                ("distinct items of a user", f.items_per_user),
                ("users of an item", f.users_per_item),
            )
        ],
        "How many facts, items or users they have",
    )
    drawn = [
        _distribution(
            "Facts of an entity", "facts", "entities", [("as head", f.facts_out), ("as tail", f.facts_in)]
        ),
        _distribution("Items of a user", "distinct items", "users", [("users", f.items_per_user)]),
        _distribution("Users of an item", "users who bought it", "items", [("items", f.users_per_item)]),
    ]
    return html.join([summary, html.grid(drawn)])


def _distribution(title: str, x: str, y: str, parts: list[tuple[str, Distribution]]) -> Html:
    """A log-log scatter of how many have each degree; its table counts by doubling degrees."""
    if not any(d.degree for _, d in parts):
        return Html(f"<div>{html.paragraph(title + ': none.', soft=True)}</div>")
    bins = [_doubling(d) for _, d in parts]
    length = max(map(len, bins))
    rows = [(_range(i), *(counts[i] if i < len(counts) else 0 for counts in bins)) for i in range(length)]
    names = [name if len(parts) > 1 else y for name, _ in parts]
    drawing = charts.scatter([Series(n, d.degree, d.nodes) for n, d in parts], x, y, log_x=True, log_y=True)
    return html.figure(title, drawing, [x, *names], rows, "Both axes are logarithmic.")


def _doubling(d: Distribution) -> list[int]:
    """How many have a degree of 1, 2-3, 4-7, 8-15 and so on."""
    counts = [0] * (d.largest.bit_length())
    for degree, nodes in zip(d.degree, d.nodes, strict=True):
        counts[degree.bit_length() - 1] += nodes
    return counts


def _range(i: int) -> str:
    low, high = 2**i, 2 ** (i + 1) - 1
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _alignment(f: GraphFigures) -> Html:
    c = f.coverage
    if not c.items:
        return html.paragraph("No items: no purchases and no alignment are in this graph.", soft=True)
    rows = [
        ("all", c.items, "100.0%", c.purchases, "100.0%"),
        ("aligned with an entity", c.with_entity, *_of(c.with_entity, c.items, c.purchases_with_entity, c.purchases)),
        ("with facts", c.with_facts, *_of(c.with_facts, c.items, c.purchases_with_facts, c.purchases)),
        ("stubs: no alignment names them", c.stubs,
         *_of(c.stubs, c.items, c.purchases - c.purchases_with_entity, c.purchases)),
    ]  # fmt: skip
    parts = [
        html.table(
            ["items", "number", "share", "purchases", "share of purchases"], rows, "Alignment coverage"
        )
    ]
    parts += _audit(f)
    if f.without_facts:
        parts.append(
            html.table(
                ["id", "name", "users who bought"],
                [_item(i) for i in f.without_facts_examples],
                f"Items with no facts: {f.without_facts:,}; the best sold of them",
            )
        )
    return html.join(parts)


def _audit(f: GraphFigures) -> list[Html]:
    """What items and their entities say of the same, where both say anything."""
    a = f.audit
    if a is None or not a.agreements:
        return []
    columns, rows = a.table_of_values()
    parts = [html.paragraph(a.sentence()[:1].upper() + a.sentence()[1:] + ".")]
    return (
        [*parts, html.table(columns, rows, "Items with a value whose entity has the fact")] if rows else parts
    )


def _of(part: int, whole: int, bought: int, purchases: int) -> tuple[str, int, str]:
    return f"{part / max(whole, 1):.1%}", bought, f"{bought / max(purchases, 1):.1%}"


def _item(i: ItemExample) -> tuple[str, str, int]:
    return i.id, i.name, i.users


def _hops(f: GraphFigures) -> Html:
    if not f.coverage.items:
        return html.paragraph("No items to start from.", soft=True)
    entities, facts = max(f.counts["nodes"]["Entity"], 1), max(sum(r.facts for r in f.relations), 1)
    rows = [
        (
            str(h.hop),
            h.new_entities,
            h.entities,
            f"{h.entities / entities:.1%}",
            h.facts,
            f"{h.facts / facts:.1%}",
        )
        for h in f.hops
    ]
    columns = [
        "hops",
        "entities met first",
        "entities so far",
        "of all entities",
        "facts so far",
        "of all facts",
    ]
    return html.join(
        [
            html.table(columns, rows, "What a walk from all items reaches, direction ignored"),
            html.paragraph(
                "Facts that no hop reaches never enter a receptive field: `kgkit train --hops N` leaves them out.",
                soft=True,
            ),
        ]
    )


def _sources(f: GraphFigures) -> Html:
    if not f.sources:
        return html.paragraph(
            "The graph remembers no source: it was filled by other means than `kgkit ingest`.", soft=True
        )
    rows = [(s.id, s.connector, s.rows, s.fingerprint) for s in f.sources]
    return html.table(["source", "connector", "rows", "fingerprint"], rows, "What was ingested to its end")
