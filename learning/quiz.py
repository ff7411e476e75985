"""Ten multiple-choice questions a chapter, with the wrong idea behind each wrong option.

They stand in each chapter's questions.toml. `learn.py questions` writes them as GIFT (Moodle reads
it), as a QTI 2.1 package (Canvas and others) or as csv (a line for each option); all carry the idea
as feedback.
"""

import csv
import io
import random
import re
import tomllib
from pathlib import Path

from learning.exercises import chapter_folders, fail
from learning.qti import qti


def load_questions(chapter: int | None = None) -> list[dict]:
    """The questions of one chapter or of all: id, ask, right, wrong [[option, idea]]."""
    found = []
    for number, folder in chapter_folders().items():
        file = folder / "questions.toml"
        if chapter in (None, number) and file.exists():
            table = tomllib.loads(file.read_text(encoding="utf-8"))["question"]
            found += [{**q, "id": f"{number}.q{i}", "chapter": folder.name}
                      for i, q in enumerate(table, 1)]
    return found or fail("a handout has no questions, and no chapter beyond the seven has any")


def options(question: dict) -> list[tuple[str, str, bool]]:
    """(option, feedback, right) in an order drawn by the question's id: always the same one."""
    rows = [(question["right"], "right", True),
            *((option, f"the idea: {idea}", False) for option, idea in question["wrong"])]
    random.Random(question["id"]).shuffle(rows)
    return rows


def gift(questions: list[dict]) -> str:
    """Moodle's GIFT format: = the right option, ~ the wrong ones, # the feedback."""
    def plain(text: str) -> str:
        return re.sub(r"([~=#{}:\\])", r"\\\1", text)
    parts = []
    for q in questions:
        lines = [f"\t{'=' if right else '~'}{plain(option)}#{plain(said)}"
                 for option, said, right in options(q)]
        parts.append(f"::{q['id']}::{plain(q['ask'])} {{\n" + "\n".join(lines) + "\n}\n")
    categories = dict.fromkeys(q["chapter"] for q in questions)
    return "\n".join(f"$CATEGORY: {name}\n\n" + "\n".join(
        part for part, q in zip(parts, questions) if q["chapter"] == name) for name in categories)


def as_csv(questions: list[dict]) -> str:
    """A table: question, option, 1 for the right one, the idea behind it."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["id", "chapter", "question", "option", "right", "feedback"])
    for q in questions:
        table.writerows([q["id"], q["chapter"], q["ask"], option, int(right), said]
                        for option, said, right in options(q))
    return out.getvalue()


def questions(chapter: int | None, form: str, file: Path | None) -> None:
    """Write the questions of a chapter (or all) in one of the three forms, or print them."""
    asked = load_questions(chapter)
    if form == "qti":
        if file is None:
            fail("a QTI package is a zip: name it with --out questions.zip")
        file.write_bytes(qti(asked, options))
    else:
        text = {"gift": gift, "csv": as_csv}[form](asked)
        if file is None:
            print(text)
            return
        file.write_text(text, encoding="utf-8")
    print(f"{file}: {len(asked)} questions")
