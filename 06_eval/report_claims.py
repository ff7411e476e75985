"""The report's last section: the ledger of claims, each with its verdict and how to repeat it."""

from pathlib import Path

from artifacts import VERDICTS
from claims_ledger import OPEN, read_ledger, tally
from page_parts import escape, number

CLASS_OF = {"holds": "holds", "holds in part": "part", "does not hold here": "fails",
            "not measurable at this scale": "open", OPEN: "open"}


def is_told(value: object, said: str) -> bool:
    """Does the sentence give this number already, in any of the usual roundings?"""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    forms = [f"{value:{form}}" for form in (".3f", ".2f", ".2e", ".1e", ".1%", ".2%", ",.0f")]
    return any(form in said for form in forms if sum(c.isdigit() for c in form) > 1)


def value_text(value: object, interval: object) -> str:
    """What a claim measured, as text: a number with its interval, or a mapping's plain values.

    Example: 0.25, (0.1, 0.4) -> "0.25 (0.1 to 0.4)"; {"a": 1, "b": {"x": 2}} -> "a 1, b x 2".
    """
    def short(item: object) -> str:
        text = number(item)
        return text.rstrip("0").rstrip(".") if "." in text and text[-1] == "0" else text

    def flat(item: object, name: str = "") -> list[str]:
        if isinstance(item, dict):
            return [text for key, inner in item.items()
                    for text in flat(inner, f"{name} {escape(str(key).replace('_', ' '))}".strip())]
        if isinstance(item, (list, tuple)):
            return [f"{name} {', '.join(short(v) for v in item[:6])}".strip()]
        return [f"{name} {short(item)}".strip()]

    parts = flat(value) if value is not None else []
    text = ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "")
    if text and isinstance(interval, (list, tuple)) and len(interval) == 2:
        low, high = map(short, interval)
        if isinstance(value, dict):
            text += f"; interval {low} to {high}"
        elif isinstance(value, (int, float)) and interval[0] <= value <= interval[1]:
            text += f" ({low} to {high})"       # an interval of something else is no bracket
    return text


def claims(out: Path) -> str:
    """The ledger: every claim of the article with its verdict, what was measured, and how."""
    ledger = read_ledger(out / "claims")
    counts = tally(ledger)
    strip = "".join(f'<i class="{CLASS_OF[v]}" style="flex:{n}" title="{escape(v)}: {n}"></i>'
                    for v, n in counts.items() if n)
    words = " · ".join(f"{n} " + (v if n == 1 else v.replace("holds", "hold").replace(
        "does not", "do not")) for v, n in counts.items() if n)
    parts = [f'<p>{len(ledger)} claims of the article, each an experiment. Verdicts are computed '
             f'from the measurement.</p><div class="tally">{strip}</div>'
             f'<p class="soft">{words}</p>']
    order = [*VERDICTS, OPEN]
    for claim in sorted(ledger, key=lambda c: order.index(c.verdict)):
        kind = CLASS_OF[claim.verdict]
        said = claim.measured[:1].upper() + claim.measured[1:].rstrip(".")
        value = "" if is_told(claim.value, said) else value_text(claim.value, claim.interval)
        found = (f'<p class="found">{escape(said)}.' + (f" <b>{value}</b>" if value else "")
                 + "</p>" if said or value else "")
        expected = f"Expected: {escape(claim.expected)}. " if claim.expected else ""
        made = claim.command or (f"python {claim.made_by}" if claim.made_by else "")
        how = f"<code>{escape(made)}</code>" if made else ""
        parts.append(f'<div class="claim" id="claim-{escape(claim.id)}">'
                     f'<div class="verdict {kind}">{escape(claim.verdict)}</div><div>'
                     f'<p class="said">{escape(claim.text)}</p>{found}'
                     f'<p class="how">{expected}{how}</p></div></div>')
    return "".join(parts)
