"""Figures as SVG text, drawn for reading: direct labels, thin grid, colours from the page's theme.

    svg = line_chart([Series("measured", [(1, 5.0), (10, 4.1)])], x="tokens", y="loss", log_x=True)

Colours are CSS variables (--c1 ... --c6, --ink, --faint), so one figure suits light and dark pages.
Everything is a pure function from numbers to text. Leaves out: interaction.
"""

import html
import math
from dataclasses import dataclass
from typing import Sequence

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 52


@dataclass(frozen=True)
class Series:
    """One line or cloud of points: its name in the legend, (x, y) pairs, and how to draw it."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    dashed: bool = False


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) inside [low, high].

    Example: 0 to 1 -> 0, 0.2, 0.4, 0.6, 0.8, 1. Equal ends give the one number.
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high]; with fewer than three, also 2 and 5 times a power; where
    even those are too few, round numbers of equal distance."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [f * 10.0 ** e for e in exponents for f in factors
                 if low * 0.999 <= f * 10.0 ** e <= high * 1.001]
        if len(ticks) >= 3:
            return ticks
    return nice_ticks(low, high, 4)


def tick_label(value: float) -> str:
    """A number as short as it can be read: 1500000 -> 1.5M, 1e15 -> 10^15 in superscript."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e10 or size < 1e-3:
        exponent = math.floor(math.log10(size) + 1e-9)
        factor = value / 10.0 ** exponent
        raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
        digits = str(exponent).translate(raised)
        return ("" if abs(factor - 1) < 1e-6 else f"{factor:g}·") + f"10{digits}"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= max(unit, 1e4):          # four digits are read faster than "1k"
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


class Axis:
    """A scale from data to pixels along one side, linear or logarithmic, with its ticks."""

    def __init__(self, values: Sequence[float], begin: float, end: float, log: bool,
                 margin: float = 0.04) -> None:
        values = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        self.log, self.begin, self.end = log, begin, end
        low, high = (self._in(f(values)) for f in (min, max))
        pad = (high - low or abs(high) or 1.0) * margin
        self.low, self.high = low - pad, high + pad
        back = (lambda v: 10.0 ** v) if log else float
        make = log_ticks if log else nice_ticks
        self.ticks = make(back(self.low), back(self.high))

    def _in(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value: float) -> float:
        share = (self._in(value) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 2)


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "tick") -> str:
    return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">'
            f"{html.escape(text)}</text>")


def _frame(x_axis: Axis, y_axis: Axis, x: str, height: float) -> list[str]:
    """Grid lines, tick labels and the title of the x axis; that of y stands above the figure.
    Every second label of x carries a class by which a narrow screen can leave it out."""
    parts = []
    for tick in y_axis.ticks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_axis(tick)}" '
                     f'y2="{y_axis(tick)}" class="grid"/>')
        parts.append(_text(LEFT - 8, y_axis(tick) + 4.5, tick_label(tick), "end"))
    for i, tick in enumerate(x_axis.ticks):
        parts.append(_text(x_axis(tick), height - BOTTOM + 20, tick_label(tick),
                           kind="tick second" if i % 2 else "tick"))
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height - BOTTOM}" '
                 f'y2="{height - BOTTOM}" class="axis"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 10, x, kind="title"))
    return parts


def _legend(names: Sequence[tuple[str, int, str]]) -> str:
    """A line of names with their colours, as HTML above the figure; nothing without names."""
    spans = [f'<span><i style="--c:var(--c{(i % 6) + 1})" class="{kind}"></i>'
             f"{html.escape(name)}</span>" for name, i, kind in names if name]
    return f'<div class="legend">{"".join(spans)}</div>' if spans else ""


def _figure(parts: Sequence[str], label: str, height: float) -> str:
    return (f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html.escape(label)}">'
            + "".join(parts) + "</svg>")


def line_chart(series: Sequence[Series], x: str, y: str, log_x: bool = False, log_y: bool = False,
               band: tuple[float, float, str] | None = None,
               marks: Sequence[tuple[float, float, float, float, str]] = ()) -> str:
    """Lines and dots over two axes. `band` (low, high, name) shades a range of y; each of `marks`
    (x, y, low, high, name) is one point with an interval, filled where low and high are the same.
    Points that a log axis cannot show are left out. Nothing to draw: an empty string.
    """
    shown = [Series(s.name, [(a, b) for a, b in s.points if math.isfinite(a) and math.isfinite(b)
                             and (a > 0 or not log_x) and (b > 0 or not log_y)],
                    s.dots, s.dashed) for s in series]
    shown = [s for s in shown if s.points]
    if not shown:
        return ""
    ys = [b for s in shown for _, b in s.points] + [v for m in marks for v in m[1:4]]
    ys += list(band[:2]) if band else []
    x_axis = Axis([a for s in shown for a, _ in s.points] + [m[0] for m in marks],
                  LEFT, WIDTH - RIGHT, log_x)
    y_axis = Axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    parts, names = [], []
    if band:
        top, bottom = y_axis(band[1]), y_axis(band[0])
        parts.append(f'<rect x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{top}" '
                     f'height="{max(2.0, bottom - top):g}" class="band"/>')
    parts += _frame(x_axis, y_axis, x, HEIGHT)
    for i, s in enumerate(shown):
        colour = f"var(--c{(i % 6) + 1})"
        names.append((s.name, i, "dot" if s.dots else "dash" if s.dashed else "line"))
        spots = [(x_axis(a), y_axis(b)) for a, b in s.points]
        if s.dots:
            parts += [f'<circle cx="{a}" cy="{b}" r="4" fill="{colour}" fill-opacity=".75"/>'
                      for a, b in spots]
        else:
            path = "M" + "L".join(f"{a} {b}" for a, b in spots)
            dash = ' stroke-dasharray="6 5"' if s.dashed else ""
            parts.append(f'<path d="{path}" class="line" stroke="{colour}"{dash}/>')
    for place, value, low, high, name in marks:
        at, up, down = x_axis(place), y_axis(high), y_axis(low)
        if high > low:
            parts.append(f'<line x1="{at}" x2="{at}" y1="{up}" y2="{down}" class="whisker"/>')
        parts.append(f'<circle cx="{at}" cy="{y_axis(value)}" r="5.5" '
                     f'class="mark{"" if high > low else " full"}"/>')
        side = "end" if at > WIDTH * 0.6 else "start"
        # Of two points at one place the lower one has its words below.
        under = any(place == other[0] and value < other[1] for other in marks)
        parts.append(_text(at + (-12 if side == "end" else 12),
                           y_axis(value) + (24 if under else -9), name, side, "note"))
    if band:        # last, so that its words lie over the lines
        parts.append(_text(WIDTH - RIGHT - 6, y_axis(band[1]) - 7, band[2], "end", "note"))
    return (f'<p class="ylabel">{html.escape(y)}</p>' + _legend(names)
            + _figure(parts, f"{y} over {x}", HEIGHT))


def interval_chart(rows: Sequence[tuple[str, float, float, float]], x: str,
                   reference: float | None = None) -> str:
    """One line a row (name, value, low, high): a dot with its interval. `reference` is a thin
    vertical line, such as chance. No rows: an empty string."""
    if not rows:
        return ""
    height = TOP + 34 * len(rows) + BOTTOM
    values = [v for _, *three in rows for v in three] + ([] if reference is None else [reference])
    left = min(200, 30 + 9 * max(len(name) for name, *_ in rows))
    axis = Axis(values, left, WIDTH - RIGHT - 30, False)
    parts = [f'<line x1="{axis(t)}" x2="{axis(t)}" y1="{TOP}" y2="{height - BOTTOM}" class="grid"/>'
             + _text(axis(t), height - BOTTOM + 20, tick_label(t),
                     kind="tick second" if i % 2 else "tick") for i, t in enumerate(axis.ticks)]
    if reference is not None:
        parts.append(f'<line x1="{axis(reference)}" x2="{axis(reference)}" y1="{TOP}" '
                     f'y2="{height - BOTTOM}" class="reference"/>')
    for i, (name, value, low, high) in enumerate(rows):
        at = TOP + 34 * i + 17
        parts.append(_text(left - 14, at + 5, name, "end", "row"))
        parts.append(f'<line x1="{axis(low)}" x2="{axis(high)}" y1="{at}" y2="{at}" '
                     f'class="interval"/><circle cx="{axis(value)}" cy="{at}" r="6.5" '
                     'fill="var(--c1)"/>')
    parts.append(_text((left + WIDTH - RIGHT) / 2, height - 10, x, kind="title"))
    return _figure(parts, x, height)
