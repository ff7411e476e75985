"""The lesson of chapter 2: its command prints what it shows, and its numbers are computed."""

import re
import subprocess
import sys

import numpy as np
import pytest

from artifacts import ROOT
from minhash import s_curve
from mixture import doremi_update, repetition_caps
from safety import classify_harmful
from shingles import slow_shingles

LESSON = (ROOT / "02_data" / "README.md").read_text(encoding="utf-8")
MEASURED = (ROOT / "02_data" / "MEASURED.md").read_text(encoding="utf-8")


def test_the_first_command_prints_what_the_lesson_shows(tmp_path):
    block = re.search(r"    \$ python (.*)\n((?:    .*\n)+)", LESSON)
    done = subprocess.run([sys.executable, *block[1].split(), "--out", str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True)
    shown = [line[4:] for line in block[2].splitlines()]
    assert done.stdout.splitlines()[:len(shown)] == shown, done.stdout + done.stderr


def test_how_often_the_safety_models_are_wrong():
    """On sentences written after the training ones, and never trained on."""
    rows = [line.split("\t") for line in
            (ROOT / "tests/02_data/unseen_talk.tsv").read_text("utf-8").splitlines()]
    wrong = [label for label, text in rows if classify_harmful(text)[0] != label]
    counts = [label for label, _ in rows]
    assert (counts.count("clean"), counts.count("harmful")) == (40, 20)
    assert (wrong.count("clean"), wrong.count("harmful")) == (1, 4)
    assert "1 is\ncalled harmful, and of 20 insults and threats 4 are missed" in LESSON


def test_the_worked_example():
    a, b = (slow_shingles(t, 2) for t in ("the cat sat on the mat", "the cat sat on a mat"))
    j = len(a & b) / len(a | b)
    assert (len(a & b), len(a | b)) == (3, 7) and "J = 3/7 = 0.43" in LESSON
    for value, text in ((s_curve(j), "0.016"), (s_curve(0.8), "0.924"),
                        (s_curve(j, 28, 4), "0.617")):
        assert f"{float(value):.3f}" == text and text in LESSON


def test_the_answers_to_the_questions():
    assert round((1 / 14) ** (1 / 8), 2) == 0.72
    grid = np.linspace(0, 1, 10001)
    assert round(float(grid[np.argmax(s_curve(grid) > 0.5)]), 3) == 0.685
    assert "(1/14)^(1/8) = 0.72; the curve crosses one half at 0.685" in LESSON
    assert doremi_update(np.array([.5, .5]), np.array([np.log(3), 0]), smoothing=0) == \
        pytest.approx([0.75, 0.25])
    assert repetition_caps(np.array([10, 1000]), 100)[0] == 0.4


def test_the_cost_of_common_crawl():
    text = " ".join(LESSON.split())
    seconds = 250e9 / 95
    years, dollars = seconds / (365.25 * 86400), seconds / 3600 * 0.04
    assert (f"one core does 95 pages per second. Common Crawl's 250 billion pages would cost "
            f"{years:.0f} core-years: {seconds / 3000 / 86400:.0f} days on 3,000 cores, or "
            f"{round(dollars, -3):,.0f} dollars at 4 cents per core-hour") in text
    hours = 2.5e9 / 95 / 3600 / 1000
    assert 6 < hours < 9, "a snapshot of 2.5 billion pages on a thousand cores: a working day"


def test_what_the_table_of_steps_says():
    read, extract, rules, pages, entries, corpus = (
        float(x) for x in re.findall(r"^\| [a-z].* \| [\d,]+ \| ([\d.]+) \|$", LESSON, re.M)[:6])
    copies = rules - entries + 2.25                  # 2.25 MB: repeats within a page
    assert 0.36 < copies / extract < 0.42 and "About two fifths of the text was a copy" in LESSON
    assert round(read / corpus) == 18 and "One byte in eighteen" in LESSON
    quality = extract - 2.25 - rules + entries - corpus
    assert 0.02 < quality / extract < 0.06 and 7 < copies / quality < 15
    once, twice, clean = 2.474, 2.338, 2.432         # MEASURED.md, the transformer
    assert 1.2 < 2 ** ((once - clean) / (once - twice)) < 1.3, "about a quarter more"
    assert extract / corpus > 1.5, "fewer than two in three are left"
    for value in (once, twice, clean):
        assert f"{value:.2f}" in LESSON and str(value) in MEASURED


def test_the_lesson_lists_every_exercise():
    import tomllib
    with open(ROOT / "02_data" / "exercises.toml", "rb") as file:
        exercises = tomllib.load(file)["exercise"]
    for e in [e for e in exercises if "kind" not in e]:
        row = f"| {e['id']} | `{e['file'].removesuffix('.py')}.{e['function']}` |"
        assert row in LESSON, f"exercise {e['id']} is missing in the lesson or named otherwise"
