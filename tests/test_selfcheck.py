"""The graders are graded: every blank and every planted bug, against every exercise's tests."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from learning.exercises import ROOT, chapter_folders


@pytest.fixture(scope="module")
def said():
    """What one self-check over all chapters prints: a line for everything that went wrong."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run([sys.executable, str(ROOT / "learn.py"), "selfcheck"],
                          capture_output=True, text=True, timeout=2400, env=environment)
    assert re.search(r"^\d+ exercises, \d+ planted bugs, \d+ misses", done.stdout, re.M), \
        f"the self-check did not come to an end:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the self-check forks a child for each bug")
@pytest.mark.parametrize("chapter", sorted(chapter_folders()))
def test_blanks_fail_and_each_bug_is_caught_by_its_own_exercise_alone(said, chapter):
    wrong = re.findall(rf"^[A-Z ]+: (?:{chapter}\.|.*0{chapter}_).*$", said, re.M)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the self-check forks a child for each bug")
def test_there_are_70_exercises_and_210_bugs_and_nothing_else_is_wrong(said):
    counts = re.search(r"^(\d+) exercises, (\d+) planted bugs, (\d+) misses", said, re.M)
    exercises, bugs, misses = map(int, counts.groups())
    assert exercises >= 70 and bugs >= 210 and misses == 0, said[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the self-check forks a child for each bug")
def test_right_answers_written_otherwise_are_accepted(said):
    accepted, given = map(int, re.search(r"(\d+) of (\d+) second right answers", said).groups())
    assert accepted == given >= 30, said[-2000:]


@pytest.fixture
def mutants(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    return importlib.import_module("mutants")


def test_the_table_of_mutants_takes_new_rows_in_place_of_old_ones(tmp_path, mutants):
    write_table = mutants.write_table
    write_table({"2.10": [5, 4, 1, 0], "2.9": [3, 3, 0, 0]}, 5, tmp_path / "t.csv")
    write_table({"2.9": [9, 6, 1, 1], "1.1": [2, 2, 0, 0]}, None, tmp_path / "t.csv")
    rows = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert rows == ["1.1,2,2,0,0,0,all", "2.9,9,6,1,1,1,all", "2.10,5,4,1,0,0,5"]


def test_in_the_table_no_mutant_lives_without_an_explanation(mutants):
    text, known = mutants.TABLE.read_text(encoding="utf-8"), mutants.explanations()
    header, *rows = [line.split(",") for line in text.splitlines()]
    assert header == list(mutants.COLUMNS) and len(rows) > 50
    for name, *counts, _ in rows:
        tried, killed, explained, neither, alive = map(int, counts)
        assert tried == killed + explained + neither and alive == 0, f"{name}: {alive} live"
        assert explained <= len(known.get(name, {})), f"{name}: explained nowhere"
