"""The lesson tells the truth: its command gives its output, its numbers are computed."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSON = (ROOT / "05_posttrain" / "README.md").read_text(encoding="utf-8")


def test_the_first_command_gives_the_printed_output():
    block = re.search(r"    \$ python (05_posttrain/gold_rule\.py) (\".*\") (\".*\")\n"
                      r"((?:    \S.*\n)+)", LESSON)
    script, question, answer, expected = block.groups()
    done = subprocess.run([sys.executable, str(ROOT / script), question.strip('"'),
                           answer.strip('"')], capture_output=True, text=True)
    assert done.stdout.split("\n") == [line[4:] for line in expected.split("\n")], done.stdout


@pytest.mark.parametrize("value, shown", [
    (1 / (1 + math.exp(-1.5)), "0.818"), (math.log(16) - 15 / 16, "1.835"),
    (math.log(64) - 63 / 64, "3.175"), (math.log(2), "0.693"),
    (math.log(1 + math.exp(-0.15)), "0.621"), ((1 + 2 + 3 + 10) / 4, "= 4,"),
    (max(0.5, 0.8), "0.8")])
def test_the_numbers_of_the_lesson(value, shown):
    assert shown in LESSON, f"{shown} is not in the lesson any more"
    number = float(re.search(r"\d+(\.\d+)?", shown).group())
    assert abs(value - number) < 6e-4, f"the lesson says {shown}, computed {value:.4f}"


def test_the_exercise_table_is_the_exercise_file():
    import tomllib
    table = tomllib.loads((ROOT / "05_posttrain" / "exercises.toml").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| (5\.\d+) \| `([\w.]+)` \|.*\| (\d) \| (\d+) \|$", LESSON, re.M)
    assert rows == [(e["id"], e["function"], str(e["difficulty"]), str(e["minutes"]))
                    for e in table["exercise"] if "kind" not in e]
