"""The report's opening: what the model can do now. Right answers beside wrong ones, and how many.

Reads what `05_posttrain/right_answers.py` wrote: for every kind of question the share that is right
word for word, by stage, about packages that no stage was trained on, and examples of both.
"""

from pathlib import Path
from typing import Iterable

from page_parts import answer_cards, escape, missing, short, table
from report_training import read


def share(cell: dict | None) -> str:
    """One cell: the share with its 95 % interval; a dash where a model was not asked."""
    if not cell:
        return "–"
    low, high = cell["interval"]
    return f"{cell['exact']:.0%}<br><small>{100 * low:.0f}–{100 * high:.0f}</small>"


def open_against_closed(answers: dict) -> str:
    """In a sentence: what the page in front of the question is worth to the SFT model."""
    rows = answers["models"].get("sft") or next(reversed(answers["models"].values()))
    if "open" not in rows or "does" not in rows:
        return ""
    there, not_there = rows["open"], rows["does"]
    return (f"<p>The same questions twice. With a page of one or two entries in front, "
            f"{there['exact']:.0%} of the answers name the entry that was asked about and say its "
            f"sentence word for word (token F1 of the sentence {there['f1']:.2f}); from memory "
            f"{not_there['exact']:.0%} "
            f"({not_there['f1']:.2f}): nobody can remember a package that was never read.</p>")


def example_cards(examples: list[dict], right: bool, most: int = 4) -> str:
    """The questions that the SFT model answers rightly (or not), with what each stage said."""
    parts = []
    kept = [e for e in examples if e["right"] == right]
    # One of each kind first: the most different examples.
    kept = sorted(kept, key=lambda e: [k["kind"] for k in kept[:kept.index(e)]].count(e["kind"]))
    for example in kept[:most]:
        parts.append(example_card(example, f"Right: {escape(short(example['answer']))}",
                                  example["answers"]))
    return "".join(parts)


def example_card(example: dict, remark: str, names: Iterable[str]) -> str:
    """One question with its page, a remark in HTML, and the answers of these models."""
    page, _, asked = example["question"].rpartition("\n\n")
    shown = f"<pre>{escape(page)}</pre>" if page else ""
    return (f'{shown}<p class="question">{escape(asked)} <span>{remark}</span></p>'
            + answer_cards([(name, short(example["answers"][name])) for name in names]))


def opening_answer(out: Path) -> str:
    """What the report opens with: a question with its page in front that the SFT model answers
    rightly, and how many of such it does; "" where there is none."""
    answers = read(out / "05_posttrain" / "answers.json") or {"examples": []}
    right = [e for e in answers["examples"] if e["kind"] == "open" and e["right"]
             and "sft" in e["answers"]]
    if not right:
        return ""
    share = answers["models"]["sft"]["open"]["exact"]
    names = [name for name in ("base", "sft") if name in right[0]["answers"]]
    return example_card(right[0], f"Its page is in front. One of the {share:.0%} that come out "
                        'right word for word; wrong ones and other kinds stand <a href="#answers">'
                        "below</a>.", names)


def right_answers(out: Path) -> str:
    """What the model can do: a table of kinds and stages, then right and wrong answers."""
    answers = read(out / "05_posttrain" / "answers.json")
    if not answers:
        return missing("The table of right answers", "05_posttrain/right_answers.py")
    models = answers["models"]
    rows = [(escape(label), *(share(model.get(kind)) for model in models.values()))
            for kind, label in answers["kinds"].items()]
    return (open_against_closed(answers)
            + table(("exactly right", *models), rows, raw=True)
            + "<p class=soft>Held-out packages, temperature 0, right word for word and ended; 95 % "
              "intervals. A base model gets the bare text and may answer in one line.</p>"
            + "<h3>Right</h3>" + example_cards(answers["examples"], True)
            + "<h3>Wrong</h3>" + example_cards(answers["examples"], False))
