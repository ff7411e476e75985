"""The report: one self-contained HTML page with everything that was measured, for the eye.

    python 06_eval/report.py                # a second; writes out/report.html

Reads whatever the seven chapters have left under out/ and shows "not yet measured" for the rest; a
missing or damaged piece costs its own section and nothing else. The page carries its figures and
its style inside, asks no other server for anything, and suits phones, paper, light and dark.
"""

import html
from pathlib import Path
from typing import Callable

from artifacts import CommandLine, command, out, shown, whole
from claims_ledger import OPEN, read_ledger, tally
from page_parts import answer_cards, escape, short
from report_answers import opening_answer, right_answers
from report_claims import claims
from report_evaluation import evaluation
from report_stages import post_training
from report_training import data, pretraining, read, scaling, tokens
from report_systems import systems

SECTIONS: list[tuple[str, str, str, Callable[[Path], str]]] = [
    ("answers", "The result", "What it can do now", right_answers),
    ("tokens", "1 · Tokens", "Text becomes pieces", tokens),
    ("data", "2 · Data", "What is left of the pages", data),
    ("scaling", "3 · Scaling", "The forecast, written down first", scaling),
    ("pretraining", "4 · Pretraining", "Learning to predict the next token", pretraining),
    ("posttraining", "5 · Post-training", "From a predictor to an assistant", post_training),
    ("evaluation", "6 · Evaluation", "Half the game, and how numbers lie", evaluation),
    ("systems", "7 · Systems", "What makes it feasible", systems),
    ("claims", "The ledger", "What the article claims, and what we found", claims)]


def section(anchor: str, kicker: str, title: str, make: Callable[[Path], str],
            folder: Path) -> str:
    """One section of the page; whatever goes wrong inside is said inside."""
    try:
        body = make(folder)
    except Exception as error:      # a damaged piece must not cost the reader the other sections
        body = (f'<p class="missing">This section cannot be shown: '
                f"{escape(type(error).__name__)}: {escape(str(error)[:200])}. Make its files again "
                "with --fresh.</p>")
    return (f'<section id="{anchor}"><p class="kicker">{escape(kicker)}</p>'
            f"<h2>{escape(title)}</h2>{body}</section>")


def tiles(folder: Path) -> str:
    """The run in four numbers, those that are there."""
    found = []
    result = read(folder / "04_model_pretrain" / "result.json") or {}
    forecast = result.get("forecast") or (read(folder / "03_scaling" / "plan.json")
                                          or {}).get("forecast")
    if "val_bits_per_byte" in result:
        rival = (result.get("ngram") or {}).get("bits_per_byte")
        found.append((f"{result['val_bits_per_byte']:.3f}", "bits per byte of held-out text"
                      + (f"; a smoothed 5-gram needs {rival:.3f}" if rival else "")))
    if "val_loss" in result and isinstance(forecast, dict):
        found.append((f"{result['val_loss']:.2f}", "nats per token reached; "
                      f"{forecast['loss']:.2f} was forecast before training"))
    results = read(folder / "06_eval" / "results.json") or {}
    if results:
        board = results["arena"]["bradley_terry"]
        for leader in list(board)[:1]:
            found.append((escape(leader.upper()), f"leads the blind arena at "
                          f"{board[leader]['rating']:.0f} points"))
        gap = results["formats_spread"]
        found.append((f"{gap['worst']['accuracy']:.2f}–{gap['best']['accuracy']:.2f}",
                      "accuracy of one and the same model, by the way it is asked"))
    ledger = read_ledger(folder / "claims")
    counts = tally(ledger)
    found.append((f"{counts['holds']} of {len(ledger) - counts[OPEN]}",
                  f"measured claims hold; {len(ledger)} are on the ledger"))
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{value}</b><span>{escape(text)}</span></div>'
        for value, text in found) + "</div>"


def opening(folder: Path) -> str:
    """An answer that came out right, of a kind that often does; without one, the best there is."""
    return opening_answer(folder) or opening_sample(folder)


def opening_sample(folder: Path) -> str:
    """One question with the base model's answer and the leader's best one, and it says so."""
    results = read(folder / "06_eval" / "results.json")
    if not results:
        return ""
    board = results["arena"]["bradley_terry"]
    names = [name for name in ("base", *list(board)[:1]) if name in results["answers"]]
    names = names or list(results["answers"])[:1]
    best = results["answers"][names[-1]]
    i = max(range(len(best)), key=lambda i: best[i]["gold"])
    cards = [(name, short(results["answers"][name][i]["text"])) for name in dict.fromkeys(names)]
    return (f'<p class="question">{escape(best[i]["question"])} <span>Of {len(best)} held-out '
            f"questions the one that {escape(names[-1].upper())} answers best by the gold rule; "
            'unpicked ones <a href="#posttraining">below</a>.</span></p>' + answer_cards(cards))


def build_report(folder: Path) -> str:
    """The whole page as HTML text, from the files under `folder`."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    parts = []
    for make in (tiles, opening):
        try:
            parts.append(make(folder))
        except Exception:           # the same pieces appear, with the reason, in their sections
            continue
    links = "".join(f'<a href="#{anchor}">{escape(kicker.split("·")[-1].strip())}</a>'
                    for anchor, kicker, _, _ in SECTIONS)
    body = "".join(section(*entry, folder) for entry in SECTIONS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>From raw web pages to an assistant: the report</title>
<style>{style}</style></head><body>
<header class="top"><p class="kicker">Build your own LLM in five stages</p>
<h1>From raw web pages to an assistant</h1>
<p class="lead">One model, made here from first to last, and what was measured on the way. Every
number comes from a file that the commands of this repository wrote; what has not been measured
says so.</p>{"".join(parts)}<nav>{links}</nav></header>
<main>{body}</main>
<footer>Made by <code>python 06_eval/report.py</code> from {html.escape(shown(folder))}. Run the
whole walk again with <code>bash run.sh --fresh</code>; each claim's own command stands beside
it.</footer></body></html>
"""


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--results", default=out(), help="the folder that the chapters wrote to")
    parser.add_argument("--out", default=out("report.html"))
    parser.add_argument("--quick", action="store_true", help="the same; for the quick walk")
    args = parser.parse_args()
    page = build_report(Path(args.results))
    with whole(args.out) as file:
        file.write(page)
    print(f"wrote {shown(args.out)} ({len(page.encode()) / 1e6:.1f} MB); open it in a browser")


if __name__ == "__main__":
    command(main)
