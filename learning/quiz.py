"""Ten multiple-choice questions a chapter, with the wrong idea behind each wrong option.

They stand in each chapter's questions.toml. `learn.py questions` writes them as GIFT (Moodle reads
it) or as csv (a line for each option: Canvas and others map it); both carry the idea as feedback.
"""

import csv
import io
import random
import re
import tomllib
from pathlib import Path

from learning.exercises import chapter_folders, fail


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
    """Write the questions of a chapter (or all) in one of the two forms, or print them."""
    text = {"gift": gift, "csv": as_csv}[form](load_questions(chapter))
    if file is None:
        print(text)
        return
    file.write_text(text, encoding="utf-8")
    print(f"{file}: {text.count('::') // 2 if form == 'gift' else len(load_questions(chapter))} "
          "questions")
