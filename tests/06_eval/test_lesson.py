"""What the lesson prints and answers is what the code gives."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

from arena import bradley_terry, elo, votes_needed
from calibration import wilson_interval
from mmlu import Question, format_prompt
from perplexity import bits_per_byte

ROOT = Path(__file__).resolve().parents[2]
LESSON = (ROOT / "06_eval" / "README.md").read_text(encoding="utf-8")


def test_the_first_command_prints_what_the_lesson_shows(tmp_path):
    shown = LESSON.split("```\n1. the same")[1].split("```")[0]
    done = subprocess.run([sys.executable, str(ROOT / "06_eval" / "judge_experiments.py")],
                          capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    digits = [re.findall(r"\d+\.?\d*", text) for text in ("1. the same" + shown, done.stdout)]
    assert len(digits[0]) == len(digits[1]), done.stdout
    # The last digit may differ between versions of numpy; no more.
    assert all(abs(float(a) - float(b)) <= 0.02 * max(1.0, abs(float(a))) for a, b in zip(*digits)), (
        f"the lesson shows\n{shown}\nbut the command prints\n{done.stdout}")


def test_worked_numbers():
    assert f"perplexity e⁴ = {math.exp(4):.1f}" in LESSON
    assert f"perplexity of {math.exp(6):.0f}" in LESSON
    assert f"= {bits_per_byte(16, 8):.3f} bits per byte" in LESSON
    fit = bradley_terry([("x", "y", "a")] * 3 + [("x", "y", "b")])
    assert f"= {fit['x'] - fit['y']:.1f} points apart" in LESSON
    gaps = []
    for defeat in range(4):
        after = elo([("x", "y", "b" if i == defeat else "a") for i in range(4)])
        gaps.append(after["x"] - after["y"])
    assert f"{min(gaps):.1f} to {max(gaps):.1f} apart" in LESSON, gaps


def test_folded_answers():
    assert f"{3776 / 14042:.1%}".replace("%", " %") in LESSON
    low, high = wilson_interval(36, 120)
    assert f"36 of 120 is {low:.3f} to {high:.3f}" in LESSON
    gap = next(g for g in range(1, 400) if votes_needed(g) <= 300)
    assert f"300 votes show about {gap} Elo points" in LESSON
    assert 3.7 < votes_needed(gap / 2) / votes_needed(gap) < 4.3


def test_the_three_formats_are_what_the_code_prints():
    block = LESSON.split("```\nhelm")[1].split("```")[0].splitlines()
    question = Question("anatomy", "Where is the ulna?", ("arm", "leg", "head", "foot"), 0)
    for style, first, last in (("helm", 0, 31), ("harness_2023", 31, 62), ("letter_after", 62, 999)):
        shown = "\n".join(line[first:last].rstrip() for line in block[1:]).strip()
        assert format_prompt(question, [], style).endswith(shown), f"{style}: {shown}"


def test_the_lesson_names_real_files():
    for name in re.findall(r"`(\w+\.py)`", LESSON):
        assert list(ROOT.glob(f"0*/{name}")), name
    words = len(re.sub(r"```.*?```", "", LESSON, flags=re.S).split())
    assert 1200 <= words <= 3000, f"{words} words"
