"""learn.py on a toy repository: blank, hint, reveal, check, export, grade, and grade the graders."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from learning.bug_hunts import variants
from learning.exercises import KINDS, ROOT, chapter_folders, load_exercises, read
from learning.function_bodies import blank, find_function, graft, hints
from learning.student import files_beside

TOY = '''"""A toy chapter."""
import math


def twice(x):
    """Twice x: twice(2) is 4."""
    # double it
    # (a second line of the same hint)
    y = 2 * x  # no overflow in Python
    return y


class Box:
    def area(self, w, h):
        """Area of w by h."""
        # multiply
        return w * h


AFTER = math.pi  # stays
'''
TESTS = '''import pytest
from toyshapes import Box, twice

@pytest.mark.exercise("1.1")
def test_twice(): assert twice(3) == 6, "twice(3) is 6, not 9: doubling is not squaring"

@pytest.mark.exercise("1.1")
def test_zero(): assert twice(0) == 0

@pytest.mark.exercise("1.2")
def test_area(): assert Box().area(2, 3) == 6, "area multiplies"

@pytest.mark.exercise("1.2")
@pytest.mark.gpu
def test_on_gpu(): pytest.skip("no GPU")
'''
EXERCISES = '''[[exercise]]
id = "1.1"
file = "toyshapes.py"
function = "twice"
title = "Doubling"
why = "w"
difficulty = 1
minutes = 5
points = 4
few_tests = "a toy"
[[exercise.bugs]]
name = "squares"
find = "2 * x"
replace = "x * x"
[[exercise.bugs]]
name = "never ends"
find = "return y"
replace = "raise SystemExit(0)"

[[exercise]]
id = "1.2"
file = "toyshapes.py"
function = "Box.area"
title = "Area"
why = "w"
difficulty = 1
minutes = 5
points = 6
few_tests = "a toy"
[[exercise.bugs]]
name = "adds"
find = "w * h"
replace = "w + h"
'''


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    for folder in ("01_toy", "tests/01_toy"):
        (root / folder).mkdir(parents=True)
    for name in ("learn.py", "artifacts.py", "requirements.txt", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    for name in ("conftest.py", "selfcheck.py", "empty_bodies.py", "exchanged_code.py",
                 "forked_children.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)
    shutil.copytree(ROOT / "learning", root / "learning",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (root / "01_toy" / "toyshapes.py").write_text(TOY, encoding="utf-8")
    (root / "01_toy" / "exercises.toml").write_text(EXERCISES, encoding="utf-8")
    (root / "01_toy" / "table.tsv").write_text("read beside the code", encoding="utf-8")
    (root / "tests" / "01_toy" / "test_toyshapes.py").write_text(TESTS, encoding="utf-8")
    return root


def call(root, *words, code=0):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, str(root / "learn.py"), *words], cwd=root,
                          capture_output=True, text=True, env=environment, timeout=180)
    said = done.stdout + done.stderr
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}:\n{said}"
    return said


def test_start_blanks_check_tells_and_reveal_restores_every_byte(repo):
    assert "error: not started" in call(repo, "check", "1.1", code=1)
    call(repo, "start", "1")
    mine = repo / "mine" / "01_toy" / "toyshapes.py"
    assert {"table.tsv"} == {f.name for f in mine.parent.iterdir() if f.suffix in (".tsv", ".toml")}
    text = mine.read_text(encoding="utf-8")
    assert "2 * x" not in text and '"""Twice x: twice(2) is 4."""' in text and "AFTER" in text
    said = call(repo, "check", "1.1", code=1)      # GitHub Classroom: 0 would be full points
    assert "toyshapes.py:7: not started, exercise 1.1" in said, "a blank is not started, not an error"
    mine.write_text(text.replace('raise NotImplementedError("exercise 1.1: Doubling")',
                                 "return x * x"), encoding="utf-8")
    assert "doubling is not squaring" in call(repo, "check", "1.1", code=1)
    assert "kept" in call(repo, "start", "1"), "start must never overwrite work"
    mine.write_text(text.replace('raise NotImplementedError("exercise 1.1: Doubling")',
                                 "while True: pass"), encoding="utf-8")
    said = call(repo, "check", "1.1", "--limit", "6", code=2 if os.name == "posix" else 1)
    assert "stopped after 6 s" in said
    assert "toyshapes.py:7: KeyboardInterrupt" in said or os.name != "posix"
    mine.write_text(text.replace("    raise", "    return (raise"), encoding="utf-8")
    said = call(repo, "check", "1.1", code=1)
    assert "toyshapes.py line 7: invalid syntax (in twice)" in said and "0 of 2" in said, said
    mine.write_text(text, encoding="utf-8")
    call(repo, "reveal", "1.1")
    call(repo, "reveal", "1.2")
    assert mine.read_bytes() == (repo / "01_toy" / "toyshapes.py").read_bytes()
    assert "10 of 10 points" in call(repo, "status")


def test_status_says_what_changed_since_the_copy_was_made(repo):
    call(repo, "start", "1")
    file = repo / "01_toy" / "toyshapes.py"
    file.write_text(TOY.replace('twice(2) is 4.', 'twice(2) is 4, twice(3) is 6.').replace(
        "def area(self, w, h)", "def area(self, w, h=1)"), encoding="utf-8")
    said = call(repo, "status")
    assert "1.1 mine/01_toy/toyshapes.py: not as in the reference any more: its docstring" in said
    assert "1.2 mine/01_toy/toyshapes.py: not as in the reference any more: its signature" in said
    (repo / "mine" / "01_toy" / "toyshapes.py").write_text("def twice(:\n", encoding="utf-8")
    assert "line 1: invalid syntax" in call(repo, "status")


def test_hints_come_one_step_at_a_time(repo):
    first = call(repo, "hint", "1.1")
    assert "1. double it (a second line of the same hint)" in first and "2 * x" not in first
    second = call(repo, "hint", "1.1")
    assert "2 * x" in second and "return y" not in second


def test_an_empty_mine_is_never_a_pass(repo):
    done = subprocess.run([sys.executable, "-m", "pytest", "--mine", "-q"], cwd=repo,
                          capture_output=True, text=True)
    assert done.returncode == 4 and "would test the reference" in done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the self-check forks a child for each bug")
def test_selfcheck_catches_bugs_and_reports_what_slips_through_or_spreads(repo):
    assert "2 exercises, 3 planted bugs, 0 misses, 0 caught by another" in call(repo, "selfcheck")
    file, tests = repo / "01_toy" / "exercises.toml", repo / "tests" / "01_toy" / "test_toyshapes.py"
    file.write_text(EXERCISES.replace('"x * x"', '"x + x"'), encoding="utf-8")
    assert "NOT CAUGHT: 1.1 twice: squares" in call(repo, "selfcheck", "1", code=1)
    file.write_text(EXERCISES.replace('few_tests = "a toy"\n', ""), encoding="utf-8")
    assert "1.1 twice: a blank fails 2 tests, not 3" in call(repo, "selfcheck", "1", code=1)
    file.write_text(EXERCISES, encoding="utf-8")
    tests.write_text(TESTS.replace("Box().area(2, 3) == 6", "Box().area(2, twice(1) + 1) == 6"),
                     encoding="utf-8")
    assert "NOT BY ITS OWN ALONE: 1.1 twice: never ends: also reddens 1.2" in call(
        repo, "selfcheck", "1", code=1)
    tests.write_text(TESTS.replace("def test_twice(): assert twice(3)",
                                   "def test_twice(three=twice(3)): assert three"), "utf-8")
    assert "0 misses, 0 caught by another exercise too, 3 the slow way" in call(
        repo, "selfcheck", "1"), "work done while importing needs a fresh import"


def test_the_handout_has_no_solution_and_grades_in_place(repo, tmp_path):
    handout = tmp_path / "handout"
    table = repo / "01_toy" / "exercises.toml"      # what 1.2 needs of chapter 2 is whole there
    table.write_text(re.sub(r'(id = "1.2"\n)', r'\1needs = ["1.1", "2.1"]\n', EXERCISES), "utf-8")
    call(repo, "export", "--chapter", "1", str(handout))
    assert "1.2 uses 1.1\n" in (handout / "README.md").read_text(encoding="utf-8")
    everything = "".join(p.read_text(encoding="utf-8") for p in handout.rglob("*.*")
                         if p.suffix in (".py", ".toml", ".md") and "learn" not in str(p.relative_to(handout)))
    assert "2 * x" not in everything and "squares" not in everything
    assert "double it" in call(handout, "hint", "1.1")
    assert "no solutions" in call(handout, "reveal", "1.1", code=1)
    assert "not started" in call(handout, "check", "1.2", code=1)


GOOD_FIRST = TOY.replace("return w * h", "return 0")


@pytest.mark.parametrize("text, expected", [
    (TOY, [4, 6]),
    (GOOD_FIRST, [4, 0]),
    (TOY.replace("return w * h", "return (w *"), [4, 0]),          # a syntax error in the second
    (TOY.replace("    return y", "    while True: print('spam')"), [0, 6]),  # an endless loop
    ("pass\n" * 50, [0, 0]),
    (TOY.replace("def area", "def volume"), [4, 0]),               # deleted
    (TOY.replace("y = 2 * x", "y = half_of(4 * x)")
     + "\n\ndef half_of(x):\n    return x // 2\n", [4, 6]),        # right, written differently
    (TOY.replace("return w * h", "return str(w * h)"), [4, 0]),    # wrong type
], ids=["right", "one wrong", "syntax error", "loop and spam", "only pass", "deleted",
        "with a helper of their own", "wrong type"])
def test_grade_gives_zero_for_that_exercise_only(repo, tmp_path, text, expected):
    work = tmp_path / "work" / "mine" / "01_toy"
    work.mkdir(parents=True)
    (work / "toyshapes.py").write_text(text, encoding="utf-8")
    (work / "test_toyshapes.py").write_text("def test(): pass", encoding="utf-8")  # edited: ignored
    call(repo, "grade", str(tmp_path / "work"), "--chapter", "1",
         "--limit", "8" if "while" in text else "40",
         "--json", str(tmp_path / "r.json"))
    rows = json.loads((tmp_path / "r.json").read_text())["tests"]
    assert [row["score"] for row in rows] == expected, rows
    assert all({"name", "score", "max_score", "output", "visibility"} <= set(r) for r in rows)
    assert (repo / "01_toy" / "toyshapes.py").read_text(encoding="utf-8") == TOY


def test_a_zip_with_evil_names_harms_nothing(repo, tmp_path):
    evil = tmp_path / "s.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../../toyshapes.py", "raise SystemExit('evil')")
        archive.writestr("/abs/toyshapes.py", "raise SystemExit('evil')")
        archive.writestr("hw/01_toy/toyshapes.py", TOY)
    said = call(repo, "grade", str(evil), "--chapter", "1")
    assert "10 of 10 points" in said
    assert not (tmp_path.parent / "toyshapes.py").exists()


def test_a_class_is_graded_into_one_table_whatever_came_in(repo, tmp_path):
    for student, text in (("anna", TOY), ("bob", GOOD_FIRST)):
        (tmp_path / student).mkdir()
        with zipfile.ZipFile(tmp_path / student / "work.zip", "w") as archive:
            archive.writestr("01_toy/toyshapes.py", text)
    broken = (tmp_path / "anna" / "work.zip").read_bytes()[-120:]       # an archive's end alone
    (tmp_path / "cut.zip").write_bytes(broken)
    (tmp_path / "empty").mkdir()
    (tmp_path / "essay.docx").write_bytes(b"my homework")
    handed_in = ["anna/work.zip", "cut.zip", "empty", "essay.docx", "bob/work.zip"]
    call(repo, "grade", *(str(tmp_path / name) for name in handed_in), "--chapter", "1",
         "--csv", str(tmp_path / "marks.csv"), "--json", str(tmp_path / "results"))
    head, *lines = (tmp_path / "marks.csv").read_text("utf-8").splitlines()
    assert head == "submission,points,1.1,1.2,why not all"
    assert [line.split(",")[1:4] for line in lines] == [
        ["10", "4", "6"], ["10.0", "4.0", "6.0"], *[["0.0", "0.0", "0.0"]] * 3,
        ["4.0", "4.0", "0.0"]], lines
    assert "cut or damaged" in lines[2] and "which holds nothing" in lines[3]
    assert "which holds essay.docx" in lines[4] and "1.2 AssertionError: area multi" in lines[5]
    assert len(list((tmp_path / "results").glob("*.json"))) == 5, "two are called work.zip"


def exercise_ids(*kinds):
    return [pytest.param(e, id=e["id"]) for e in load_exercises() if e["kind"] in kinds]


@pytest.mark.parametrize("exercise", exercise_ids("write"))
def test_every_function_to_write_is_well_formed(exercise):
    source = read(exercise["folder"] / exercise["file"])
    node = find_function(source, exercise["function"])
    assert ast.get_docstring(node), "the docstring is the statement of the exercise"
    blanked = blank(source, exercise)
    compile(blanked, exercise["file"], "exec")
    assert graft(blanked, source, exercise["function"]) == source, "reveal must restore"
    assert len(hints(exercise)) > 1, "the comments of the body are the hints: two sub-goals at least"
    assert len(exercise.get("bugs", [])) >= 3, "at least three planted bugs"
    variants(exercise)
    assert {"title", "why", "difficulty", "minutes", "points"} <= set(exercise)


@pytest.mark.parametrize("exercise", exercise_ids("predict", "estimate", "find-bug"))
def test_every_other_exercise_is_well_formed(exercise):
    assert {"title", "why", "question", "difficulty", "minutes", "points", "hints"} <= set(exercise)
    assert len(exercise["hints"]) > 1, "two sub-goals at least"
    if exercise["kind"] == "find-bug":
        assert {"file", "function", "name", "find", "replace", "test"} <= set(exercise)
    else:
        assert {"answer", "unit", "tolerance", "bugs"} <= set(exercise)


@pytest.mark.parametrize("chapter", chapter_folders())
def test_each_chapter_has_eight_functions_and_every_other_kind(chapter):
    kinds = [e["kind"] for e in load_exercises(chapter)]
    assert kinds.count("write") >= 8 and set(kinds) == set(KINDS), kinds


@pytest.mark.parametrize("folder", chapter_folders().values(), ids=lambda folder: folder.name)
def test_a_started_chapter_has_every_file_that_its_code_opens_beside_itself(folder):
    """Chapter 2's tables stayed behind: every check in mine/02_data ended in FileNotFoundError."""
    copied = {file.name for file in files_beside(folder)} | {f.name for f in folder.glob("*.py")}
    for file in folder.glob("*.py"):
        named = re.findall(r'__file__\)(?:\.resolve\(\))?\.(?:with_name\(|parent / "recorded" / )"([^"]+)"',
                           read(file))
        assert set(named) <= copied, f"{file.name} opens {set(named) - copied}"


def test_exercise_ids_are_unique():
    ids = [e["id"] for e in load_exercises()]
    assert len(ids) == len(set(ids)), sorted(i for i in ids if ids.count(i) > 1)
