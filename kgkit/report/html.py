"""A page and its tables as HTML: self-contained, light and dark, readable without seeing and without scripts.

Whatever is not `Html` already is escaped. Nothing here knows what a graph or a run is; `charts.py` draws.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2227; --soft: #5b666f; --rule: #d8dee3; --band: #f4f6f8;
  --s0: #1b66b0; --s1: #b4530a; --s2: #1f7a4d; --s3: #8a3ea8; --s4: #6b6b00; --warn: #8f4a00; --warnband: #fff4e5; }
@media (prefers-color-scheme: dark) { :root { --page: #14181b; --ink: #e4e9ec; --soft: #9daab4; --rule: #37424a;
  --band: #1d2327; --s0: #6db3f2; --s1: #f0a15e; --s2: #6cc99a; --s3: #cf95e8; --s4: #cfcf5a; --warn: #f3bc78;
  --warnband: #2d2417; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .25rem; font-size: 1rem; } p { margin: .5rem 0; } .soft, figcaption p { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0; padding: 0; list-style: none; }
a { color: var(--s0); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.cards div { padding: .6rem .8rem; border: 1px solid var(--rule); border-radius: 6px; }
.cards dt { color: var(--soft); font-size: .85rem; } .cards dd { margin: 0; font-size: 1.3rem;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; } .long { max-height: 32rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding: .25rem 0; }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
  overflow-wrap: anywhere; min-width: 3.5rem; }
thead th { position: sticky; top: 0; background: var(--page); overflow-wrap: normal; } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem 2rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; } figcaption p { margin: 0; font-weight: 400;
  font-size: .85rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .grid-line { stroke: var(--rule); } svg .tick { fill: var(--soft); }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
.warning { margin: 1rem 0; padding: .75rem 1rem; border-left: 4px solid var(--warn); background: var(--warnband); }
.warning h3 { margin: 0; } .warning table { font-size: .85rem; } .warning thead th { background: var(--warnband); }
@media print { nav { display: none; } .long { max-height: none; } body { max-width: none; padding: 0; }
  figure, .warning, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""


class Html(str):
    """Text that is markup already. Only functions that escape what they are given make it."""

    __slots__ = ()


def esc(value: object) -> Html:
    """A value as markup: `Html` as it is, all else as escaped text; integers with thousands set off."""
    if isinstance(value, Html):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Html(f"{value:,}")
    if isinstance(value, float):
        return Html(number(value))
    return Html(html.escape("" if value is None else str(value), quote=True))


def number(value: float) -> str:
    """A number for the eye: four significant digits, no exponent where it can be helped."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def join(parts: Iterable[object]) -> Html:
    """Parts one after another."""
    return Html("\n".join(esc(part) for part in parts))


def paragraph(text: object, *, soft: bool = False) -> Html:
    """A paragraph, in the lesser colour when `soft`; what stands between back-ticks becomes code."""
    style = ' class="soft"' if soft else ""
    typed = re.sub(r"`([^`]+)`", r"<code>\1</code>", esc(text))
    return Html(f"<p{style}>{typed}</p>")


def cards(values: Iterable[tuple[str, object]]) -> Html:
    """Headline numbers with their names, as a definition list."""
    boxes = (f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in values)
    return Html(f'<dl class="cards">{"".join(boxes)}</dl>')


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> Html:
    """A table whose first column names its rows. Columns of numbers stand to the right; a long one scrolls."""
    found = [list(row) for row in rows]
    right = [bool(found) and all(_is_number(row[i]) for row in found) for i in range(len(columns))]
    side = [' class="n"' if r else "" for r in right]
    head = "".join(f'<th scope="col"{s}>{esc(name)}</th>' for name, s in zip(columns, side, strict=True))
    lines = []
    for row in found:
        first, *rest = (esc(value) for value in row)
        cells = "".join(f"<td{s}>{value}</td>" for value, s in zip(rest, side[1:], strict=True))
        lines.append(f'<tr><th scope="row"{side[0]}>{first}</th>{cells}</tr>')
    named = f"<caption>{esc(caption)}</caption>" if caption else ""
    # A region that scrolls must be reachable by keyboard.
    long = (
        f' long" tabindex="0" role="region" aria-label="{esc(caption or columns[0])}'
        if len(found) > 30
        else ""
    )
    body = "".join(lines)
    return Html(
        f'<div class="scroll{long}"><table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def figure(
    title: str, drawing: Html, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
) -> Html:
    """A chart with its title, and the same numbers as a table for whoever cannot, or would rather not, see it."""
    more = f"<p>{esc(note)}</p>" if note else ""
    same = table(columns, rows, caption=title)
    return Html(
        f"<figure><figcaption>{esc(title)}{more}</figcaption>{drawing}"
        f"<details><summary>The same as a table</summary>{same}</details></figure>"
    )


def grid(parts: Iterable[Html]) -> Html:
    """Figures side by side where there is room."""
    return Html(f'<div class="grid">{"".join(parts)}</div>')


def warning(
    title: str, advice: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int
) -> Html:
    """Something to look at, what to do about it, and some examples of `total`."""
    shown = len(rows)
    caption = f"{shown:,} of {total:,}" if shown < total else ""
    listed = table(columns, rows, caption) if rows else ""
    return Html(f'<div class="warning"><h3>{esc(title)}</h3>{paragraph(advice)}{listed}</div>')


def page(title: str, about: str, sections: Sequence[tuple[str, Html]]) -> str:
    """A whole document: title, a line about it, and sections (heading, content) with a list of links to them.

    The policy in its head forbids a browser to load anything at all, whatever a value might smuggle in.
    """
    anchors = [re.sub(r"\W+", "-", heading.lower()).strip("-") for heading, _ in sections]
    links = "".join(
        f'<li><a href="#{anchor}">{esc(heading)}</a></li>'
        for anchor, (heading, _) in zip(anchors, sections, strict=True)
    )
    parts = "".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{esc(heading)}</h2>{esc(content)}</section>\n'
        for anchor, (heading, content) in zip(anchors, sections, strict=True)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{esc(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{esc(title)}</h1>{paragraph(about, soft=True)}
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>
{parts}</main>
</body>
</html>
"""


def _is_number(value: object) -> bool:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return True
    return isinstance(value, str) and re.fullmatch(r"-?[\d,.]+ ?%?", value) is not None
