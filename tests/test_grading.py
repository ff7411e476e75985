"""learn.py grade against whatever comes in: numbers, tests, nasty bodies, foreign files, archives."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from learning.bug_hunts import plant
from learning.clean_runs import CleanRuns
from learning.exercises import ROOT, find_exercise, read
from learning.exercises import test_files as files_that_grade

sys.path.insert(0, str(Path(__file__).parent))
from gradescope_format import faults  # noqa: E402
from test_learn import EXERCISES, TOY, call, repo  # noqa: E402, F401  (a toy repository)


NUMBERS = EXERCISES + '''
[[exercise]]
id = "1.p1"
kind = "predict"
title = "A box"
question = "The area of 3 by 4?"
unit = "m2"
tolerance = 0.02
why = "w"
difficulty = 1
minutes = 5
points = 2
hints = ["multiply"]
answer = "from toyshapes import Box; answer = Box().area(3, 4)"
[[exercise.bugs]]
name = "the sides are added"
answer = "3 + 4"
[[exercise.bugs]]
name = "one side is squared"
answer = "9"

[[exercise]]
id = "1.b1"
kind = "find-bug"
file = "toyshapes.py"
function = "thrice"
title = "Find it"
question = "Three times x."
why = "w"
difficulty = 1
minutes = 5
points = 3
hints = ["try 0, then 1"]
name = "adds three"
find = "3 * x"
replace = "3 + x"
test = "from toyshapes import thrice\\ndef test_it(): assert thrice(2) == 6"
'''
THRICE = TOY + '''

def thrice(x):
    """Three times x."""
    return 3 * x
'''


@pytest.fixture
def richer(repo):
    (repo / "01_toy" / "toyshapes.py").write_text(THRICE, encoding="utf-8")
    (repo / "01_toy" / "exercises.toml").write_text(NUMBERS, encoding="utf-8")
    return repo


@pytest.mark.parametrize("given, right, said", [
    ("", False, "not started"), ("12", True, "right"), ("12.2 m2", True, "right"),
    ("1.2e1  # I think", True, "right"), ("13", False, "not within 2%"), ("twelve", False, "no number"),
    ("7", False, "the sides are added"), ("nan", False, "no number")])
def test_a_number_is_checked_against_the_reference_and_in_a_handout(richer, tmp_path, given, right,
                                                                    said):
    call(richer, "start", "1")
    call(richer, "export", "--chapter", "1", str(tmp_path / "out"))
    for root, sheet in ((richer, "mine/01_toy/answers.txt"), (tmp_path / "out", "01_toy/answers.txt")):
        text = (root / sheet).read_text(encoding="utf-8")
        (root / sheet).write_text(text.replace("1.p1 = ", f"1.p1 = {given}"), encoding="utf-8")
        got = call(root, "check", "1.p1", code=0 if right else 1)
        assert said in got or root != richer, got
    table = (tmp_path / "out" / "01_toy" / "exercises.toml").read_text(encoding="utf-8")
    assert "answer" not in table and "added" not in table, "a handout tells no answer"


@pytest.mark.parametrize("test, right, said", [
    ("assert thrice(2) == 6", True, "right"), ("assert thrice(1.5) == 4.5", False, "does not find"),
    ("assert thrice(2) == 5", False, "fails on right code too"), ("pass", False, "does not find"),
    ("import inspect; assert '3 *' in inspect.getsource(thrice)", False, "not for graded code"),
    ("import os; assert 'wrong' not in os.getcwd() + str(os.environ)", False, "does not find"),
    ("assert thrice(2) == (6", False, "no Python"),
    ("while True: pass", False, "endless loop")])
def test_a_test_must_tell_the_bug_from_right_code(richer, tmp_path, test, right, said):
    call(richer, "start", "1")
    call(richer, "export", "--chapter", "1", str(tmp_path / "out"))
    assert "not started" in call(richer, "check", "1.b1", code=1)
    for root, folder in ((richer, "mine/01_toy"), (tmp_path / "out", "01_toy")):
        place = root / folder / "find_the_bug" / "1_b1"
        assert "3 + x" in (place / "toyshapes.py").read_text(encoding="utf-8")
        assert "2 * x" not in (place / "toyshapes.py").read_text(encoding="utf-8"), "gives 1.1 away"
        (place / "test_it.py").write_text(
            f"from toyshapes import thrice\n\n\ndef test_it():\n    {test}\n", encoding="utf-8")
        if "while" not in test:
            assert said in call(root, "check", "1.b1", code=0 if right else 1)
    got = call(richer, "grade", "mine", "--chapter", "1", "--exercise", "1.b1", "--limit", "8")
    assert f"{3 if right else 0} of 3 points" in got


def test_numbers_and_bugs_are_revealed_graded_and_checked_themselves(richer):
    call(richer, "start", "1")
    for name in ("1.1", "1.2", "1.p1", "1.b1"):
        call(richer, "reveal", name)
    assert "15 of 15 points" in call(richer, "status")
    assert "15 of 15 points" in call(richer, "grade", "mine")
    assert "multiply" in call(richer, "hint", "1.p1")


def graded(repo, tmp_path, submission, limit=40):
    call(repo, "grade", str(submission), "--chapter", "1", "--limit", str(limit), "--json",
         str(tmp_path / "r.json"))
    assert (repo / "01_toy" / "toyshapes.py").read_text(encoding="utf-8") == TOY
    results = json.loads((tmp_path / "r.json").read_text())
    assert faults(results) == [], "not as Gradescope asks"
    rows = results["tests"]
    return [row["score"] for row in rows], " ".join(row["output"] for row in rows)


NASTY = {        # the first exercise's body, and what the grader says; the second must stay right
    "exits": ("import os; os._exit(0)", "os._exit is not for graded code"),
    "exits unseen": ("import os; getattr(os, '_ex' + 'it')(0)", "no test came to an end"),
    "skips": ("import pytest as p; p.skip('later')", "pytest is not for graded code"),
    "skips unseen": ("t = __builtins__['__imp' + 'ort__']('unittest'); raise t.SkipTest('later')",
                     "__builtins__ is not"),
    "is equal to everything": ("return type('Yes', (), {{'__eq__': lambda *_: True}})()",
                              "__eq__ is not for graded code"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "replaces len and abs": ("import math; math.isclose = lambda *a, **k: True; return 6",
                             "replaced math.isclose"),
    "deletes the tests": ("import shutil; shutil.rmtree('tests')", "does not let"),
    "edits the tests": ("open('tests/01_toy/test_toyshapes.py', 'w').write('')", "does not let"),
    "catches everything": ("try:\n        y = nothing\n    except BaseException:\n"
                           "        return None", "6"),
    "prints a lot": ("[print('spam') for _ in range(200_000)]; return 7", "6"),
    "a small fork bomb": ("import multiprocessing as m\n    [m.Process(target=max).start() for _ in "
                          "range(9)]; return 7", "multiprocessing is not"),
    "forks unseen": ("import os; f = getattr(os, 'fo' + 'rk')\n    for _ in range(4): f()",
                     "does not allow"),
    "imports the reference": ("import sys; sys.path.insert(0, '{repo}/01_toy'); "
                              "del sys.__dict__['modules']['toyshapes']; import toyshapes; "
                              "return toyshapes.twice(x)", "does not let"),
    "raises SystemExit": ("raise SystemExit(0)", "SystemExit"),
    "writes outside": ("open('{victim}', 'w').write('x')", "does not let"),
    "removes outside": ("import os; os.remove('{victim}')", "does not let"),
    "renames outside": ("import os; os.rename('{victim}', '{victim}2')", "does not let"),
    "removes a tree": ("import shutil; shutil.rmtree('{folder}')", "does not let"),
    "runs a shell": ("import os; os.system('rm {victim}')", "does not allow"),
    "kills the grader": ("import os; os.kill(os.getppid(), 9)", "does not allow"),
    "reads the reference": ("return int(open('{repo}/01_toy/toyshapes.py').read())",
                            "does not let"),
    "forges the outcomes": ("import os, sys; open(sys.argv[sys.argv.index('--outcomes') + 1], "
                            "'w').write('{{\"1.1|a\": \"passed\"}}'); getattr(os, '_ex' + 'it')(0)",
                            "does not let"),
    "eats the memory": ("y = bytearray(1 << 40)", "MemoryError"),
    "fills the disk": ("import tempfile; f = tempfile.TemporaryFile()\n    while True: f.write(bytes(1 << 24))",
                       "File too large"),
    "leaves a child behind": ("import subprocess; subprocess.Popen(['sleep', '99']); return -1",
                              "subprocess is not"),
}


@pytest.mark.skipif(os.name != "posix", reason="limits of memory and file size are POSIX only")
@pytest.mark.parametrize("body, said", NASTY.values(), ids=NASTY)
def test_a_nasty_body_costs_its_own_exercise_and_harms_nothing(repo, tmp_path, body, said):
    victim = tmp_path / "keep" / "victim.txt"
    victim.parent.mkdir()
    victim.write_text("precious")
    (tmp_path / "work").mkdir()
    body = body.format(victim=victim, folder=victim.parent, repo=repo)
    (tmp_path / "work" / "toyshapes.py").write_text(
        TOY.replace("y = 2 * x  # no overflow in Python", body), encoding="utf-8")
    scores, output = graded(repo, tmp_path, tmp_path / "work")
    assert scores == [0, 6] and said in output, output
    assert victim.read_text() == "precious"


def test_a_skip_by_the_code_under_test_is_a_failure(repo, tmp_path):
    body = "import doctest\n    if x: raise doctest.unittest.SkipTest('later')\n    return 0"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "toyshapes.py").write_text(
        TOY.replace("y = 2 * x  # no overflow in Python", body), encoding="utf-8")
    scores, output = graded(repo, tmp_path, tmp_path / "work")
    assert scores == [0, 6] and "skipped by the code under test" in output, (scores, output)


def test_what_torch_replaces_by_itself_is_no_cheating():
    said = call(ROOT, "grade", str(ROOT / "07_systems"), "--chapter", "7",
                "--exercise", "7.24")           # its optimizer makes torch wrap torch.manual_seed
    assert "5 of 5 points" in said, said
    said = call(ROOT, "grade", str(ROOT / "06_eval"), "--chapter", "6",
                "--exercise", "6.12")           # importing torch loads libraries
    assert "3 of 3 points" in said, said


AROUND = ["raise SystemExit(1)\n", "import nowhere_to_be_found\n", "while True: pass\n", "def (\n"]


@pytest.mark.parametrize("line", AROUND)
def test_what_breaks_around_the_bodies_costs_no_right_body(repo, tmp_path, line):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "toyshapes.py").write_text(TOY + line, encoding="utf-8")
    limit = 8 if "while" in line else 40
    assert graded(repo, tmp_path, tmp_path / "work", limit)[0] == [4, 6]


FOREIGN = {
    "latin-1": (TOY.replace("multiply", "multipli\xe9").encode("latin-1"), [4, 6]),
    "UTF-16": (TOY.encode("utf-16"), [4, 6]),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + TOY.encode(), [4, 6]),
    "Windows line ends": (TOY.replace("\n", "\r\n").encode(), [4, 6]),
    "a form feed inside": (TOY.replace("# multiply", "# multi\x0cply\x1c").encode(), [4, 6]),
    "binary garbage": (bytes(range(256)) * 40, [0, 0]),
    "NUL characters": (TOY.encode() + b"\0", [4, 6]),
    "nested too deep": (b"x = " + b"(" * 9999, [0, 0]),
    "empty": (b"", [0, 0]),
    "two megabytes": (TOY.encode() + b"#" * 2_000_000, [0, 0]),
}


@pytest.mark.parametrize("data, expected", FOREIGN.values(), ids=FOREIGN)
def test_files_as_they_come(repo, tmp_path, data, expected):
    packed = len(data) % 2 == 0             # half of them in an archive made on Windows
    file = tmp_path / "toyshapes.py"
    file.write_bytes(data)
    if packed:
        with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("hand in\\01_toy\\toyshapes.py", data)
    scores, output = graded(repo, tmp_path, tmp_path / "s.zip" if packed else file)
    assert scores == expected, output


def test_links_and_damaged_archives_earn_nothing(repo, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "toyshapes.py").symlink_to(repo / "01_toy" / "toyshapes.py")
    assert graded(repo, tmp_path, tmp_path / "work")[0] == [0, 0], "a link to the reference"
    (tmp_path / "linked").symlink_to(repo / "01_toy", target_is_directory=True)
    assert graded(repo, tmp_path, tmp_path / "work")[0] == [0, 0]
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("01_toy/toyshapes.py", TOY)
    data = bytearray((tmp_path / "s.zip").read_bytes())
    data[60:90] = b"?" * 30
    (tmp_path / "s.zip").write_bytes(data)
    assert graded(repo, tmp_path, tmp_path / "s.zip")[0] == [0, 0]


def test_copies_carry_the_cache_files_of_all_but_the_students_modules():
    """A cache file of the reference, of the same size and second, would be run in its place."""
    exercise = find_exercise("1.1")
    runs = CleanRuns([exercise])
    try:
        clean = runs.fresh(1, [exercise["file"]])
        kept = {file.name.split(".")[0] for file in clean.rglob("*.pyc")}
        assert Path(exercise["file"]).stem not in kept
        assert {"artifacts", "conftest", *(Path(f).stem for f in files_that_grade(exercise))} <= kept
        text = read(exercise["folder"] / exercise["file"])
        assert runs.run(exercise, text, 60, {})[0] == 1
        (clean / "left.txt").write_text("by the run before")
        wrong = plant(text, exercise, exercise["bugs"][0])
        assert runs.run(exercise, wrong, 60, {})[0] < 1
        assert not (clean / "left.txt").exists()
    finally:
        runs.close()
