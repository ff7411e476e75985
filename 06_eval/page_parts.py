"""The small parts that the report's sections are made of: tables, bars, figures, answers.

Every function returns HTML text and escapes what it is given; model output never becomes markup.
"""

import base64
import html
import math
from pathlib import Path
from typing import Any, Sequence

from svg_figures import tick_label


def escape(value: Any) -> str:
    """Text that is safe inside HTML, control characters shown as their pictures."""
    text = "".join(c if c in "\n\t" or ord(c) >= 32 else chr(0x2400 + ord(c)) for c in str(value))
    return html.escape(text.replace("\x7f", "\u2421"), quote=True)


def number(value: Any, digits: int = 3) -> str:
    """A number for reading: 1234567 -> 1,234,567; 0.12345 -> 0.123; 3.16e11 -> 316 billion;
    2.5e-7 -> 2.5·10⁻⁷; None -> an en dash."""
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return escape(value)
    for unit, name in ((1e12, "trillion"), (1e9, "billion")):
        if unit <= abs(value) < 1e15:
            return f"{value / unit:.3g} {name}"
    if abs(value) >= 1e15 or 0 < abs(value) < 10 ** -digits:
        return tick_label(float(f"{value:.2e}" if abs(value) >= 1e15 else f"{value:.1e}"))
    if isinstance(value, int) or abs(value) >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 100 else digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], first_is_name: bool = True,
          raw: bool = False) -> str:
    """An HTML table that scrolls sideways on a phone; `raw` cells are HTML already. A cell that
    begins with "<td" replaces its own tag."""
    def cell(value: Any, name: bool) -> str:
        if raw and isinstance(value, str) and value.startswith("<td"):
            return value
        text = value if raw and isinstance(value, str) else number(value)
        return f'<th scope="row">{text}</th>' if name else f"<td>{text}</td>"

    body = "".join("<tr>" + "".join(cell(v, first_is_name and i == 0) for i, v in enumerate(row))
                   + "</tr>" for row in rows)
    titles = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    return (f'<div class="table"><table><thead><tr>{titles}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def heat(value: float, low: float, high: float, note: str = "") -> str:
    """A table cell whose ground is the stronger the higher the value lies in [low, high]."""
    share = 0 if high <= low else round(100 * (value - low) / (high - low))
    extra = f" <small>{escape(note)}</small>" if note else ""
    return (f'<td class="heat" style="background:color-mix(in srgb, var(--c3) {share * 0.55:.0f}%, '
            f'transparent)">{value:.2f}{extra}</td>')


def bars(rows: Sequence[tuple[str, float, str, bool]]) -> str:
    """Horizontal bars: (name, value, text at the right, muted). The longest is the full width."""
    top = max((value for _, value, _, _ in rows), default=0) or 1
    return '<div class="bars">' + "".join(
        f'<div class="bar{" same" if muted else ""}"><span>{escape(name)}</span>'
        f'<em>{escape(text)}</em><div><i style="width:{100 * value / top:.2f}%"></i></div></div>'
        for name, value, text, muted in rows) + "</div>"


def figure(content: str, caption: str, drawn: bool = True) -> str:
    """A figure with its one-sentence explanation; nothing if there is nothing to show."""
    if not content:
        return ""
    kind = "figure drawn" if drawn else "figure"
    return (f'<figure class="{kind}">{content}<figcaption>{escape(caption)}</figcaption></figure>')


def picture(path: Path, caption: str) -> str:
    """A PNG or SVG file inside the page as data; nothing if it is missing or over 3 MB."""
    if not path.is_file() or path.stat().st_size > 3_000_000:
        return ""
    kind = {"png": "image/png", "svg": "image/svg+xml"}.get(path.suffix[1:])
    if not kind:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return figure(f'<img loading="lazy" alt="{escape(caption)}" src="data:{kind};base64,{data}">',
                  caption, drawn=False)


def missing(what: str, made_by: str) -> str:
    """The honest placeholder."""
    return (f'<p class="missing">{escape(what)}: not yet measured. '
            f"<code>python {escape(made_by)}</code></p>")


def short(text: str, limit: int = 300, lines: int = 8) -> str:
    """The beginning of a model's text: no empty lines, at most so many lines and characters."""
    kept = [line.rstrip() for line in text.split("\n") if line.strip()]
    cut = "\n".join(kept[:lines])
    return cut if len(kept) <= lines and len(cut) <= limit else cut[:limit].rstrip() + " …"


def answer_cards(answers: Sequence[tuple[str, str]]) -> str:
    """Answers side by side: (who, text)."""
    return '<div class="answers">' + "".join(
        f'<div class="answer"><b>{escape(who)}</b>'
        f'{escape(text) or "<span class=soft>(nothing)</span>"}</div>'
        for who, text in answers) + "</div>"


def tree(value: Any, depth: int = 0) -> str:
    """Any JSON value as readable HTML: mappings of plain values become tables, others fold."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(key for row in value for key in row))[:9]
        plain = [c for c in columns if all(not isinstance(r.get(c), (dict, list)) for r in value)]
        return table([c.replace("_", " ") for c in plain],
                     [[row.get(c) for c in plain] for row in value[:40]])
    if isinstance(value, dict):
        leaves = {k: v for k, v in value.items() if not isinstance(v, (dict, list))}
        parts = [f"<h3>{escape(key.replace('_', ' '))}</h3>" + tree(inner, depth + 1)
                 for key, inner in value.items()
                 if isinstance(inner, (dict, list)) and inner and depth < 3]
        if leaves:
            parts.insert(0, table(["", ""], [(k.replace("_", " "), v) for k, v in leaves.items()]))
        return "".join(parts)
    if isinstance(value, list):
        return "<p>" + ", ".join(number(v) for v in value[:20]) + "</p>"
    return f"<p>{number(value)}</p>"
