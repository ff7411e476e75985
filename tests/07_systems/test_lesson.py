"""What the lesson shows is what the commands print, and its answers are computed."""

import re
import subprocess
import sys
from pathlib import Path

import memory
import pipeline_parallel

CHAPTER = Path(pipeline_parallel.__file__).resolve().parents[1] / "07_systems"
LESSON = (CHAPTER / "README.md").read_text(encoding="utf-8")


def test_run_this_now_prints_what_the_lesson_shows():
    command = re.search(r"    python (07_systems/\S+ .*)", LESSON).group(1).split()
    done = subprocess.run([sys.executable, *command], cwd=CHAPTER.parent, capture_output=True,
                          text=True, check=True)
    for line in done.stdout.splitlines():
        assert line.strip() in LESSON, f"the lesson does not show: {line}"


def test_the_folded_answers_are_computed():
    assert [memory.plan_memory(7e9, 80e9)[stage] for stage in (1, 3)] == [3, 2]
    plan = memory.plan_memory(70e9, 80e9)
    assert plan[1] is plan[2] is None and plan[3] == 14
    for micros, percent in ((8, 47), (56, 11)):
        idle = pipeline_parallel.bubble(pipeline_parallel.one_f_one_b(8, micros))
        assert round(100 * idle) == percent and f"= {percent} %" in LESSON


def test_the_ladder_of_zero_by_hand():
    for stage, per_parameter in ((1, 10), (2, 7), (3, 4)):
        assert memory.training_bytes(400, "fp32", stage, 4) == 400 * per_parameter
