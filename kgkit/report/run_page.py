"""The page that `kgkit report` writes: a run's record, curves, metrics and examples put into sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kgkit.evaluate.triple_leaks import leak_lines
from kgkit.report import charts, html
from kgkit.report.charts import Series
from kgkit.report.html import Html
from kgkit.report.metrics import HEADLINE, metric_rows, validation_name
from kgkit.report.run_figures import PLACES, Completion, RunFigures

_BARS = 15  # relations in the chart
_SIDES = ("mrr", "mrr_tail", "mrr_head", "hits@10", "hits@10_tail", "hits@10_head")
_SIDE_NAMES = ("MRR", "... of tails", "... of heads", "Hits@10", "... of tails", "... of heads")


def run_page(f: RunFigures, made: str) -> str:
    """The whole document. `made` is when, for the line under the title. Sections without content are left out."""
    record = f.record
    about = f"{record.get('paper', record['plugin'])} · {record.get('store', '')} · {made}"
    sections = [
        ("Run", _run(f)),
        ("Learning curve", _curve(f.trace, record)),
        ("Metrics", _metrics(record)),
        ("By relation", _by_relation(f)),
        ("Leaks", _leaks(record)),
        ("Completions", _completions(f)),
        ("Recommendations", _recommendations(f)),
        ("Embeddings", _projection(f)),
        ("Details", _details(record)),
    ]
    title = f"{record['plugin']}: {record['id']}"
    return html.page(title, about, [(name, content) for name, content in sections if content])


def _run(f: RunFigures) -> Html:
    record, parts = f.record, []
    test, data = record.get("metrics", {}).get("test", {}), record.get("data", {})
    shown: list[tuple[str, object]] = [("status", record["status"])]
    shown += [(f"test {name}", test[name]) for name in ("auc", "recall@20", "mrr", "hits@10") if name in test]
    if record.get("best_epoch"):
        shown.append(("best epoch", f"{record['best_epoch']} of {len(f.trace)}"))
    kinds = ("users", "items", "interactions", "entities", "relations", "triples")
    shown += [(name, data[name]) for name in kinds if data.get(name)]
    if "train" in record.get("timings", {}):
        shown.append(("training", _seconds(record["timings"]["train"])))
    if record.get("peak_memory"):
        shown.append(("peak memory", f"{record['peak_memory'] / 2**30:.2f} GiB"))
    parts.append(html.cards(shown))
    if record.get("error"):
        parts.append(html.warning("The run failed", str(record["error"]), (), (), 0))
    if f.missing:
        parts.append(
            html.warning(
                "Without examples and embeddings",
                f"They need the model and the graph that it was trained on: {f.missing}",
                (), (), 0,
            )
        )  # fmt: skip
    return html.join(parts)


def _curve(trace: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Html:
    if not trace:
        return Html("")
    epochs = [float(line["epoch"]) for line in trace]
    phases = list(trace[0]["loss"])
    loss = [Series(name, epochs, [line["loss"][name] for line in trace]) for name in phases]
    drawn = [
        html.figure(
            "Training loss",
            charts.line_chart(loss, "epoch", f"loss of {phases[0]}" if len(phases) == 1 else "loss"),
            ["epoch", *(f"loss of {name}" for name in phases), "seconds"],
            [(line["epoch"], *line["loss"].values(), line.get("train_s")) for line in trace],
            f"The mean over the batches of an epoch; {_seconds(sum(line.get('train_s', 0) for line in trace))} in all.",
        )
    ]
    name = next(filter(None, map(validation_name, trace)), None)
    if name is not None:
        looks = [line for line in trace if name in line]
        metric = name.removeprefix("valid_")
        seen = Series(metric, [float(line["epoch"]) for line in looks], [line[name] for line in looks])
        best = record.get("best_epoch") or looks[-1].get("best_epoch")
        drawn.append(
            html.figure(
                "Validation",
                charts.line_chart([seen], "epoch", metric),
                ["epoch", metric],
                [(line["epoch"], line[name]) for line in looks],
                f"The best epoch is {best}." if best else "",
            )
        )
    return html.grid(drawn)


def _metrics(record: Mapping[str, Any]) -> Html:
    metrics = record.get("metrics", {})
    if not metrics:
        return Html("")
    parts = [html.table(*metric_rows(metrics))]
    columns, rows = metric_rows(metrics, every=True)
    more = [row for row in rows if row[0] not in HEADLINE]
    if more:
        parts.append(
            Html(
                f"<details><summary>{len(more)} more</summary>{html.table(columns, more, 'All others')}</details>"
            )
        )
    return html.join(parts)


def _by_relation(f: RunFigures) -> Html:
    if not f.relations:
        return Html("")
    rows = sorted(f.relations, key=lambda row: (-row["facts"], row["name"]))
    top = rows[:_BARS]
    which = f", the {_BARS} with most test facts" if len(rows) > _BARS else ""
    return html.join(
        [
            html.figure(
                f"Filtered MRR by relation{which}",
                charts.bar_chart([r["name"] for r in top], [round(r["mrr"], 4) for r in top], "MRR by relation"),
                ["relation", "MRR"],
                [(r["name"], r["mrr"]) for r in top],
                "Of test facts, both sides.",
            ),
            html.table(
                ["relation", "category", "test facts", *_SIDE_NAMES],
                [(r["name"], r["category"], r["facts"], *(f"{r[m]:.4f}" for m in _SIDES)) for r in rows],
                f"All {len(rows):,} relations with test facts, most first",
            ),
            html.table(
                ["category", "relations", "test facts", *_SIDE_NAMES],
                [(r["category"], r["relations"], r["facts"], *(f"{r[m]:.4f}" for m in _SIDES)) for r in f.categories],
                "By category",
            ),
            html.paragraph(
                "Category: the first letter is N if a tail has 1.5 heads or more on average in training, the second if "
                "a head has 1.5 tails or more (TransE, section 4.3). Of tails: the tail was asked for.",
                soft=True,
            ),
        ]
    )  # fmt: skip


def _leaks(record: Mapping[str, Any]) -> Html:
    if not record.get("leaks"):
        return Html("")
    lines = "".join(f"<li>{html.esc(line)}</li>" for line in leak_lines(record["leaks"]))
    said = "What a rule that learns nothing could answer, by turning training facts round or repeating them:"
    return html.join([html.paragraph(said), Html(f"<ul>{lines}</ul>")])


def _completions(f: RunFigures) -> Html:
    c = f.completions
    if c is None:
        return Html("")
    asked = f"The {c.questions:,} questions (head, relation, ?) and (?, relation, tail) of "
    asked += f"all {c.of:,} test facts" if c.facts == c.of else f"{c.facts:,} of {c.of:,} test facts, drawn"
    right = [(_asked(e, "head"), e.relation, _asked(e, "tail"), e.score) for e in c.right]
    wrong = [
        (_asked(e, "head"), e.relation, _asked(e, "tail"), e.score, e.truth,
         str(e.place) if e.place else f"beyond {PLACES}")
        for e in c.wrong
    ]  # fmt: skip
    return html.join(
        [
            html.paragraph(
                f"{asked}: the best answer is a test fact for {c.right_total:,} of them. Facts of training and "
                "validation are left out of the answers. The answer is bold."
            ),
            Html("<h3>Most confident, and right</h3>"),
            html.table(["head", "relation", "tail", "score"], right),
            Html("<h3>Most confident, and wrong</h3>"),
            html.paragraph(
                "Wrong by the test facts: some may be true, and only missing in the graph. Place: of the true answer.",
                soft=True,
            ),
            html.table(["head", "relation", "tail", "score", "true answer", "place"], wrong),
        ]
    )


def _asked(e: Completion, end: str) -> Html:
    """An end of a fact, bold where it is the answer."""
    name = html.esc(e.head if end == "head" else e.tail)
    return Html(f"<b>{name}</b>") if e.asked == end else name


def _recommendations(f: RunFigures) -> Html:
    if not f.users:
        return Html("")
    parts = [
        html.paragraph(
            "Some users, drawn from those with test purchases. What they bought in training and validation is never "
            "recommended here; what they bought in the test part is marked."
        )
    ]
    for user in f.users:
        more = (
            f" and {user.bought_total - len(user.bought):,} more"
            if user.bought_total > len(user.bought)
            else ""
        )
        rows = [
            (str(rank), name, score, "bought" if hit else "")
            for rank, (name, score, hit) in enumerate(user.items, 1)
        ]
        parts += [
            Html(f"<h3>User {html.esc(user.user)}</h3>"),
            html.paragraph(html.esc(f"Bought: {' · '.join(user.bought)}{more}")),
            html.paragraph(html.esc(f"Bought in the test part: {' · '.join(user.later)}")),
            html.table(["rank", "recommended", "score", "test part"], rows),
        ]
    return html.join(parts)


def _projection(f: RunFigures) -> Html:
    p = f.projection
    if p is None:
        return Html("")
    titles = [f"component {i + 1}, {share:.0%} of the variance" for i, share in enumerate(p.shares)]
    which = f"All {p.drawn:,}" if p.drawn == p.of else f"{p.drawn:,} of {p.of:,}, drawn by the run's seed"
    rows = [(g.name, len(g.x), sum(g.x) / len(g.x), sum(g.y) / len(g.y)) for g in p.groups]
    return html.figure(
        "Vectors in the plane of their two principal components",
        charts.scatter(p.groups, *titles),
        ["group", "points", "mean of component 1", "mean of component 2"],
        rows,
        f"{which}. Hover over a point for its name.",
    )


def _details(record: Mapping[str, Any]) -> Html:
    parts = []
    facts = {
        k: record.get(k) for k in ("id", "plugin", "paper", "status", "created", "store", "seed", "split")
    }
    if record.get("data"):
        facts["graph"] = record["data"].get("fingerprint")
    parts.append(_pairs("Identity", facts))
    for title, key in (
        ("Parameters", "parameters"), ("Chosen on validation", "chosen"), ("Options of the run", "options"),
        ("Seconds", "timings"), ("Written into the graph", "written"), ("Versions", "versions"),
    ):  # fmt: skip
        if record.get(key):
            parts.append(_pairs(title, record[key]))
    queries = record.get("extraction", {}).get("queries", {})
    parts += [
        Html(f"<p>Query of {html.esc(name)}: <code>{html.esc(' '.join(str(cypher).split()))}</code></p>")
        for name, cypher in queries.items()
    ]
    return html.join([html.grid(parts[: len(parts) - len(queries)]), *parts[len(parts) - len(queries) :]])


def _pairs(title: str, values: Mapping[str, Any]) -> Html:
    """Names and values, those that are None left out; numbers as they were given."""
    rows = [(name, str(value)) for name, value in values.items() if value is not None]
    return html.table(["", ""], rows, title)


def _seconds(value: float) -> str:
    if value < 100:
        return f"{value:.3g} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"
