"""Charts as inline SVG: bars, histograms, scatters and lines, on linear or logarithmic axes.

A chart here is only the drawing; `html.figure` gives it a title and the same numbers as a table. Colours are the
page's, so that light and dark need one drawing; series differ in shape or dash as well as in colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgkit.report.html import Html, esc, number

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 26, 44
COLOURS = 5
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")
_LEGEND_ROW = 17
_MARKED = 40  # a line through so few points shows each of them


@dataclass(frozen=True)
class Series:
    """Points of one name. x and y are of equal length, and so is `labels`, what each point is, unless it is empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """From data to pixels. `low` and `high` are what the axis spans; `ticks` the values that are labelled."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Pixel of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)


def axis(values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
    """An axis with round ends that holds all values; with `zero` it begins there.

    Raises ValueError for a value <= 0 on a logarithmic axis.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        if low <= 0:
            raise ValueError(f"a logarithmic axis has no place for {low}")
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last = max(last, first + 1)
        ticks = tuple(10.0**e for e in range(first, last + 1, math.ceil((last - first) / 6)))
        return Axis(10.0**first, 10.0**last, start, end, True, ticks)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, start, end, False, tuple(i * step for i in range(first, last + 1)))


def scatter(
    series: Sequence[Series], x_title: str, y_title: str, *, log_x: bool = False, log_y: bool = False
) -> Html:
    """Points, those of a labelled series each with its label to hover over.

    Unlabelled ones that would fall on the same half pixel are drawn once, so that a page stays small.
    """
    x, y = _axes(series, log_x, log_y)
    legend, height = _legend(series)
    parts = [_frame(x, y, x_title, y_title), legend]
    for i, one in enumerate(series):
        if one.labels:
            placed = zip(_placed(one, log_x, log_y), one.labels, strict=True)
            marks = "".join(
                f"<g><title>{esc(label)}</title>{_mark(i, round(x.at(a), 1), round(y.at(b), 1))}</g>"
                for (a, b), label in placed
            )
        else:
            seen = {(round(x.at(a) * 2) / 2, round(y.at(b) * 2) / 2) for a, b in _placed(one, log_x, log_y)}
            marks = "".join(_mark(i, px, py) for px, py in sorted(seen))
        parts.append(f"<g{_ink(i)}>{marks}</g>")
    return _svg(parts, f"{y_title} by {x_title}", height)


def line_chart(
    series: Sequence[Series], x_title: str, y_title: str, *, log_x: bool = False, log_y: bool = False
) -> Html:
    """Lines through points in the order given; a value that is not finite leaves a gap. Few points are marked too."""
    x, y = _axes(series, log_x, log_y)
    legend, height = _legend(series)
    parts = [_frame(x, y, x_title, y_title), legend]
    for i, one in enumerate(series):
        path, pen = [], "M"
        for a, b in zip(one.x, one.y, strict=True):
            if not (math.isfinite(a) and math.isfinite(b)) or (log_x and a <= 0) or (log_y and b <= 0):
                pen = "M"
                continue
            path.append(f"{pen}{x.at(a):.1f} {y.at(b):.1f}")
            pen = "L"
        parts.append(
            f'<path d="{" ".join(path)}" fill="none" stroke="var(--s{i % COLOURS})" stroke-width="2" '
            f'stroke-dasharray="{_DASHES[i % COLOURS]}"/>'
        )
        if len(one.x) <= _MARKED:
            marks = (_mark(i, round(x.at(a), 1), round(y.at(b), 1)) for a, b in _placed(one, log_x, log_y))
            parts.append(f"<g{_ink(i)}>{''.join(marks)}</g>")
    return _svg(parts, f"{y_title} by {x_title}", height)


def histogram(edges: Sequence[float], counts: Sequence[float], x_title: str, y_title: str) -> Html:
    """Bars over bins: `edges` has one value more than `counts`."""
    x = axis(edges, LEFT, WIDTH - RIGHT)
    y = axis(counts, HEIGHT - BOTTOM, TOP, zero=True)
    parts = [_frame(x, y, x_title, y_title)]
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        left, right, top = x.at(low), x.at(high), y.at(count)
        wide, tall = max(right - left - 1, 0.5), y.start - top
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="var(--s0)"/>'
        )
    return _svg(parts, f"{y_title} by {x_title}")


def bar_chart(names: Sequence[str], values: Sequence[float], about: str, *, log: bool = False) -> Html:
    """A bar a name, lying, with its value at its end. With `log`, lengths go by the value's logarithm (values >= 1)."""
    row, label, width = 20, 230, 640
    height = row * len(names) + 8
    room = width - label - 80
    measure = [math.log10(max(v, 1)) + 0.15 if log else v for v in values]
    most = max(measure, default=0) or 1
    parts = []
    for i, (name, value, length) in enumerate(zip(names, values, measure, strict=True)):
        y = 4 + i * row
        long = room * length / most if value else 0
        parts.append(
            f'<text x="{label - 6}" y="{y + 14}" text-anchor="end">{esc(_short(name, 34))}</text>'
            f'<rect x="{label}" y="{y + 2}" width="{long:.1f}" height="{row - 5}" fill="var(--s0)"/>'
            f'<text x="{label + long + 5:.1f}" y="{y + 14}" class="tick">{esc(number(value))}</text>'
        )
    return _svg(parts, about, height, width)


def _axes(series: Sequence[Series], log_x: bool, log_y: bool) -> tuple[Axis, Axis]:
    points = [p for one in series for p in _placed(one, log_x, log_y)]
    return (
        axis([p[0] for p in points] or [1.0], LEFT, WIDTH - RIGHT, log=log_x),
        axis([p[1] for p in points] or [1.0], HEIGHT - BOTTOM, TOP, log=log_y),
    )


def _placed(one: Series, log_x: bool, log_y: bool) -> Iterator[tuple[float, float]]:
    """The points that have a place on these axes."""
    for a, b in zip(one.x, one.y, strict=True):
        if math.isfinite(a) and math.isfinite(b) and not (log_x and a <= 0) and not (log_y and b <= 0):
            yield a, b


def _round_step(rough: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _frame(x: Axis, y: Axis, x_title: str, y_title: str) -> str:
    """Axes with their ticks and titles."""
    parts = []
    for value in x.ticks:
        across = f"{x.at(value):.1f}"
        parts.append(
            f'<line x1="{across}" x2="{across}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid-line"/>'
        )
        parts.append(
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" class="tick">{_tick(value)}</text>'
        )
    for value in y.ticks:
        at = y.at(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="grid-line"/>'
        )
        parts.append(
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" class="tick">{_tick(value)}</text>'
        )
    bottom, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" class="axis"/>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{esc(x_title)}</text>')
    parts.append(f'<text x="4" y="14">{esc(y_title)}</text>')
    return "".join(parts)


def _legend(series: Sequence[Series]) -> tuple[str, int]:
    """What several series are called, and the height of a chart with that: two names stand within, more below."""
    if len(series) < 2:
        return "", HEIGHT
    parts, below = [], len(series) > 2
    right = WIDTH - RIGHT - 6
    for i, one in enumerate(series):
        y = _LEGEND_ROW * i + (HEIGHT + 10 if below else TOP + 14)
        at, words, anchor = (LEFT + 4, LEFT + 16, "start") if below else (right - 4, right - 14, "end")
        parts.append(f"<g{_ink(i)}>{_mark(i, at, y - 4)}</g>")
        parts.append(f'<text x="{words}" y="{y}" text-anchor="{anchor}">{esc(_short(one.name, 60))}</text>')
    return "".join(parts), HEIGHT + _LEGEND_ROW * len(series) if below else HEIGHT


def _short(name: str, most: int) -> str:
    """A name that fits, its two ends kept: those of relations differ there."""
    return name if len(name) <= most else f"{name[: most // 2 - 2]}…{name[1 - (most - most // 2) :]}"


def _mark(i: int, x: float, y: float) -> str:
    if i % 2 == 0:
        return f'<circle cx="{x:g}" cy="{y:g}" r="2.6"/>'
    return f'<rect x="{x - 2.5:g}" y="{y - 2.5:g}" width="5" height="5"/>'


def _ink(i: int) -> str:
    """Odd series are hollow."""
    colour = f"var(--s{i % COLOURS})"
    return (
        f' fill="{colour}" fill-opacity=".75"'
        if i % 2 == 0
        else f' fill="none" stroke="{colour}" stroke-width="1.4"'
    )


def _tick(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.4g}"


def _svg(parts: Sequence[str], about: str, height: int = HEIGHT, width: int = WIDTH) -> Html:
    size = f'viewBox="0 0 {width} {height}" style="max-width:{width * 5 // 4}px"'
    label = esc(f"Chart: {about}")
    return Html(f'<svg {size} role="img" aria-label="{label}">{"".join(parts)}</svg>')
