"""The questions of the seven chapters: ten each, three wrong ideas, numbers that are computed."""

import csv
import io
import math
import re

import pytest

from learning.exercises import chapter_folders
from learning.quiz import as_csv, gift, load_questions


def number_of(text):
    found = re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", text)
    return float(text) if found else None


@pytest.mark.parametrize("chapter", chapter_folders())
def test_ten_questions_with_three_wrong_ideas_each(chapter):
    asked = load_questions(chapter)
    assert len(asked) == 10
    for q in asked:
        given = [q["right"], *(option for option, _ in q["wrong"])]
        assert len(q["wrong"]) == 3 and len(set(given)) == 4, q["ask"]
        assert all(idea for _, idea in q["wrong"]), "a wrong option without its idea"


@pytest.mark.parametrize("question", [pytest.param(q, id=q["id"]) for q in load_questions()])
def test_right_numbers_are_computed_and_wrong_ones_differ(question):
    right = number_of(question["right"])
    assert right is None or "computed" in question, f"{question['ask']}: how is {right} computed?"
    if "computed" in question:
        answer = eval(question["computed"], {})
        assert math.isclose(answer, right, rel_tol=0.005), f"{question['ask']}: {answer}"
        for option, _ in question["wrong"]:
            other = number_of(option)
            assert other is None or not math.isclose(other, answer, rel_tol=4e-4), option


def test_both_forms_hold_every_option_once():
    asked = load_questions()
    text = gift(asked)
    blocks = re.findall(r"^::(\S+?)::(.*?)\{\n(.*?)\n\}", text, re.M | re.S)
    assert len(blocks) == 70 and text.count("$CATEGORY:") == 7
    for _, _, body in blocks:
        marks = [line[1] for line in body.split("\n")]
        assert sorted(marks) == ["=", "~", "~", "~"], body
    rows = list(csv.DictReader(io.StringIO(as_csv(asked))))
    assert len(rows) == 280 and sum(int(row["right"]) for row in rows) == 70
