"""What is handed in, as platforms and people name and pack it: read, or told why not."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from learning.allowed_code import not_for_grading
from learning.callers_data import copied, same
from learning.exercises import load_exercises, read, remembered
from learning.function_bodies import blank_chapter
from learning.grading import why
from learning.number_answers import number_in
from learning.sealed_bodies import seal, unseal
from learning.stand_ins import isolate
from learning.submissions import (as_text, given, helper_files, original_name, students_in,
                                  submitted_text)
from learning.workflows import gradescope, junit

EXERCISE = next(e for e in load_exercises(3) if e["file"] == "data_limited.py")
BYTES = b"def effective_tokens(): pass\n"


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("name, data", [
    ("work.zip", zipped({"Lab 3: Anna/data_limited.py": BYTES})),
    ("work.tar.gz", tarred({"./mine/03_scaling/data_limited.py": BYTES})),
    ("work.tgz", tarred({"data_limited.py": BYTES})), ("work.tar", tarred({"data_limited.py": BYTES},
                                                                         "w")),
    ("all.zip", zipped({"anna/work.zip": zipped({"x/data_limited.py": BYTES})})),
    ("data_limited-1.py", BYTES), ("data_limited (2).py", BYTES), ("data_limited copy.py", BYTES),
    ("data_limited - Copy.py", BYTES), ("Data_Limited.PY", BYTES), ("data_limited.py.txt", BYTES),
    ("data_limited (1) (1).py", BYTES), ("data_limited – Kopie.py", BYTES),
    ("data_limited_v2.py", BYTES), ("Copie de data_limited_final.py", BYTES),
    ("a.zip", zipped({"C:\\Users\\anna\\data_limited.py": BYTES})),
    ("b.zip", zipped({"/home/anna/data_limited.py": BYTES})), ("smithanna_LATE_123_456_data_limited-2.py", BYTES),
    ("Anna Smith_77_assignsubmission_file_data_limited.py", BYTES),
    ("data_limited[1].py", BYTES), ("data_limited（1）.py", BYTES), ("data_limited.py.py", BYTES),
    ("data_limited - Копия (2).py", BYTES), ("data_limited - コピー.py", BYTES),
    ("data_limited\u00a0(1).py", BYTES), ("data_limited_anna.py", BYTES),
    ("data_limited_LATE.py", BYTES), ("data_limited.py.gz", gzip.compress(BYTES)),
    ("mac.zip", zipped({"._data_limited (1).py": b"\0\5\x16\7", "data_limited (1).py": BYTES})),
    ("git.zip", zipped({".git/data_limited.py": b"old", "a/b/c/data_limited.py": BYTES}))])
def test_one_submission_under_any_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert submitted_text(given([tmp_path / name])[0], EXERCISE) == BYTES.decode()


@pytest.mark.parametrize("name, way", [
    ("a.7z", "pack it as .zip"), ("work.RAR", "pack it as .zip"),
    ("data_limited.ipynb", "copy the functions from the notebook")])
def test_what_cannot_be_read_is_told_the_way(tmp_path, name, way):
    (tmp_path / name).write_bytes(b"7z and others")
    with pytest.raises(LookupError, match=way):
        submitted_text(given([tmp_path / name])[0], EXERCISE)


@pytest.mark.parametrize("name, data", [
    ("cut.zip", zipped({"data_limited.py": BYTES * 99})[:200]), ("text.zip", b"no archive"),
    ("cut.tar.gz", tarred({"data_limited.py": bytes(range(256)) * 400})[:300])])
def test_a_damaged_archive_is_told(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="cut or damaged"):
        submitted_text(given([tmp_path / name])[0], EXERCISE)


def test_what_is_missing_is_told_with_what_is_there(tmp_path):
    (tmp_path / "essay.py").write_text("x")
    with pytest.raises(LookupError, match="which holds essay.py"):
        submitted_text(given([tmp_path / "essay.py"])[0], EXERCISE)


def test_names_with_dots_stay_apart(tmp_path):
    for name in ("a.smith", "a.jones", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b.zip").write_bytes(zipped({}))
    names = [s.name for s in given([tmp_path / n for n in ("a.smith", "a.jones", "b", "b.zip")])]
    assert names[:2] == ["a.smith", "a.jones"] and len(set(names)) == 4, names


def test_a_class_as_moodle_and_canvas_give_it_out(tmp_path):
    moodle = zipped({"Anna Ab_1_assignsubmission_file_/data_limited.py": BYTES,
                     "Bob Cd_2_assignsubmission_file_/w.zip": zipped({"data_limited.py": BYTES}),
                     "Cut_3_assignsubmission_file_/w.zip": b"PK\3\4"})
    canvas = zipped({"annaab_1_11_data_limited.py": BYTES, "annaab_1_12_flops.py": b"x",
                     "bobcd_LATE_2_13_data_limited-1.py": BYTES})
    for name, data, students in (("m.zip", moodle, {"Anna Ab", "Bob Cd", "Cut"}),
                                 ("c.zip", canvas, {"annaab", "bobcd"}),
                                 ("z.zip", zipped({"hw/x.zip": zipped({"data_limited.py": BYTES}),
                                                   "hw/y.zip": zipped({"data_limited.py": BYTES})}),
                                  {"x", "y"})):
        (tmp_path / name).write_bytes(data)
        found = {s.name: s for s in students_in(tmp_path / name)}
        assert set(found) == students
        for who, submission in found.items():
            if who == "Cut":
                assert "cut or damaged" in submission.error, "one broken archive costs no other"
            else:
                assert submitted_text(submission, EXERCISE) == BYTES.decode()


@pytest.mark.parametrize("files, students", [
    ({"anna/data_limited.py": BYTES, "anna/flops.py": b"x"}, {"anna"}),
    ({"class/anna/data_limited.py": BYTES}, {"anna"}),
    ({"anna/03_scaling/data_limited.py": BYTES}, {"anna"}),
    ({"Anna Ab_1_assignsubmission_file_/data_limited.py": BYTES}, {"Anna Ab"}),
    ({"Anna Ab_1_assignsubmission_file/data_limited.py": BYTES}, {"Anna Ab"}),
    ({"anna_1_2_data_limited.py": BYTES}, {"anna"}),
    ({".DS_Store": b"x", "anna/data_limited.py": BYTES}, {"anna"}),
    ({"hw/an_data_limited.py": BYTES, "hw/bo_data_limited.py": BYTES},
     {"an_data_limited.py", "bo_data_limited.py"})])
def test_a_class_of_one_or_two_has_so_many_students(tmp_path, files, students):
    (tmp_path / "c.zip").write_bytes(zipped(files))
    found = students_in(tmp_path / "c.zip")
    assert {s.name for s in found} == students
    assert submitted_text(found[0], EXERCISE) == BYTES.decode()


def test_two_students_of_one_name_are_two(tmp_path):
    moodle = {f"Anna Ab_{i}_assignsubmission_file_/data_limited.py": b"%d" % i for i in (1, 2)}
    canvas = {f"annaab_{i}_1{i}_data_limited.py": b"%d" % i for i in (1, 2)}
    for files in (moodle, canvas):
        (tmp_path / "c.zip").write_bytes(zipped(files))
        found = students_in(tmp_path / "c.zip")
        assert len({s.name for s in found}) == 2, [s.name for s in found]
        assert {submitted_text(s, EXERCISE) for s in found} == {"1", "2"}, "each has a file"
    for name, data in canvas.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "annaab").mkdir()
    found = given([*(tmp_path / name for name in canvas), tmp_path / "annaab"])
    assert len({s.name.casefold() for s in found}) == 3, [s.name for s in found]


def test_two_archives_with_one_name_in_both_have_two_lines(tmp_path, monkeypatch):
    from learning import grading
    for course in ("a", "b"):
        (tmp_path / f"{course}.zip").write_bytes(zipped({f"{n}/x.py": b"" for n in ("Kim", "Lee")}))
    monkeypatch.setattr(grading, "compute_answers", lambda chosen: {})
    monkeypatch.setattr(grading, "prepare", lambda *_: None)
    monkeypatch.setattr(grading, "grade_one", lambda *_: {
        "name": "3.1 x", "score": 1.0, "max_score": 1.0, "output": ""})
    grading.grade([tmp_path / "a.zip", tmp_path / "b.zip"], chapter=3, only="3.1", class_of=True,
                  report=tmp_path / "out", table=tmp_path / "m.csv")
    assert sorted(p.stem for p in (tmp_path / "out").iterdir()) == ["Kim", "Kim_2", "Lee", "Lee_2"]
    assert len((tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_answer_sheet_of_any_editor_is_read(encoding):
    assert as_text("3.1 = 5".encode(encoding)) == "3.1 = 5"


def test_a_known_name_is_never_taken_for_another():
    known = {"experiment", "moe_experiment", "gpt", "gpt2_weights"}
    assert original_name("moe_experiment.py", known) == "moe_experiment.py"
    assert original_name("anna_1_2_moe_experiment-1.py", known) == "moe_experiment.py"
    assert original_name("mygpt.py", known) == "mygpt.py"


def test_own_modules_come_along_but_none_that_shadows_a_judge(tmp_path):
    text = "import mine_too, numpy, random\nfrom half import x\n"
    for name, data in (("data_limited.py", text), ("half.py", "import third"), ("third.py", ""),
                       ("numpy.py", "evil"), ("random.py", "evil"), ("unused.py", "")):
        (tmp_path / name).write_text(data)
    assert set(helper_files(given([tmp_path])[0], EXERCISE, text)) == {"half.py", "third.py"}


@pytest.mark.parametrize("given_, unit, value", [
    ("7,8144", "GB", 7.8144), ("7.814", "GB", 7.814), ("0,814", "", 0.814), ("1,234.5", "", 1234.5),
    ("1.234,5", "", 1234.5), ("1,234,567", "", 1234567), ("2.457,0", "", 2457.0), ("1 234", "", 1234),
    ("1.5e9", "", 1.5e9), ("1,5e9", "", 1.5e9), ("3 x 10^8", "", 3e8), ("2·10^-3", "", 2e-3),
    ("−5", "", -5), ("12 gb", "GB", 12), ("1'234", "", 1234), ("–5", "", -5), ("1 234 567", "", 1234567), ("1.5 e 9", "", 1.5e9)])
def test_numbers_of_many_countries(given_, unit, value):
    assert number_in(given_, unit) == value


@pytest.mark.parametrize("given_, said", [("7,814", "write 7.814 or 7814"), ("twelve", "no number"),
                                          ("2.457.000", "no number"), ("inf", "no number"),
                                          ("5 6", "no number"), ("7 8144", "no number")])
def test_two_readings_or_none_are_told(given_, said):
    with pytest.raises(ValueError, match=said):
        number_in(given_, "")


def test_a_syntax_error_stays_in_its_function():
    text = "def a(x):\n    return (x\n\n\nclass B:\n    def c(self):\n        return 1\n\n    def d(\n"
    mended, wrong = isolate(text, ["a", "B.c"])
    assert wrong["a"].startswith("line 2: ") and "B.c" not in wrong and "" in wrong
    mended, wrong = isolate(text.replace("    def d(\n", ""), ["a", "B.c"])
    names = {}
    exec(mended, names)
    assert set(wrong) == {"a"} and names["B"]().c() == 1
    with pytest.raises(SyntaxError, match="line 2"):
        names["a"](1)


def test_a_sealed_body_runs_opens_and_does_not_show():
    hunt = next(e for e in load_exercises(6) if e["kind"] == "find-bug")
    source = read(hunt["folder"] / hunt["file"])
    sealed = seal(source, hunt)
    assert unseal(sealed) == source and hunt["find"].strip() not in sealed
    compile(sealed, "sealed.py", "exec")


@pytest.mark.parametrize("code, allowed", [
    ("class F(float):\n    def __lt__(self, o): return True", False),
    ("x = type('F', (), {'__lt__': 1})", False),
    ("class Key:\n    def __lt__(self, o): return self.k < o.k", True),
    ("def __ge__(a, b): return True", False), ("from functools import total_ordering", False),
    ("setattr(f, '__abs__', 1)", False)])
def test_answers_that_agree_with_everything_are_refused(code, allowed):
    assert (not_for_grading(code, "") == "") == allowed, code


def test_callers_data_is_compared_deeply():
    import numpy as np
    for thing, change in (([1, [2, 3]], lambda x: x[1].sort(reverse=True)),
                          ({"a": [1]}, lambda x: x["a"].append(2)), ({1, 2}, lambda x: x.add(3)),
                          (np.array([1.0, np.nan]), lambda x: x.__setitem__(0, 5))):
        before = copied(thing)
        assert same(thing, before)
        change(thing)
        assert not same(thing, before), thing


def test_state_that_is_cut_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setattr("learning.exercises.MINE", tmp_path)
    for text in ("{\"1.1\": ", "[]", ""):
        (tmp_path / ".hints.json").write_text(text)
        assert remembered(".hints.json") == {}


def test_the_reason_for_each_missing_point_stands_in_the_table():
    rows = [{"name": "1.1 a", "score": 0, "max_score": 4, "output": "F\nE   AssertionError: no\n"},
            {"name": "1.2 b", "score": 2, "max_score": 2, "output": ""},
            {"name": "1.3 c", "score": 0, "max_score": 1, "output": "not started\n..."}]
    assert why(rows) == "1.1 AssertionError: no; 1.3 not started"


def test_gradescope_finds_its_two_scripts_and_ours(tmp_path):
    gradescope(3, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", "learn.py", "requirements.txt", "tests/conftest.py",
                "learning/grading.py", "03_scaling/flops.py"} <= names
        assert archive.getinfo("run_autograder").external_attr >> 16 & 0o111, "executable"
        run = archive.read("run_autograder").decode()
        assert "/autograder/submission" in run and "/autograder/results/results.json" in run


def test_junit_is_xml_with_a_case_for_each_exercise():
    import xml.etree.ElementTree as tree
    rows = [{"id": f"1.{i}", "title": "a < \"b\"", "mark": m} for i, m in enumerate("ox-.")]
    suite = tree.fromstring(junit(rows).split("?>")[1])
    assert len(suite) == 4 and suite.get("failures") == "1" and suite.get("skipped") == "2"
