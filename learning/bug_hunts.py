"""Find the bug: plant a mistake, hand out the copy, and judge the test that should find it.

Also the sheets of a chapter: what a student gets besides blanked files.
"""

import ast
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from learning.allowed_code import not_for_grading
from learning.exercises import (NUMBERS, ROOT, chapter_folders, fail, load_exercises, read,
                                work_file)
from learning.function_bodies import blank, blank_chapter, cut, graft, why_unreadable
from learning.limited_runs import ForkedRuns, run_limited
from learning.number_answers import compute_answers, judge_number
from learning.sealed_bodies import unseal


def plant(source: str, exercise: dict, bug: dict) -> str:
    """`source` with one planted bug; its text to find must stand once in the function's body."""
    before, body, after = map("".join, cut(source, exercise["function"]))
    if body.count(bug["find"]) != 1:
        fail(f"exercise {exercise['id']}: the text to find of bug {bug['name']!r} occurs "
             f"{body.count(bug['find'])} times in the body of {exercise['function']}")
    return before + body.replace(bug["find"], bug["replace"]) + after


def variants(exercise: dict) -> list[tuple[str, str]]:
    """(name, whole file) of the blank and of every planted bug of one written exercise."""
    source = read(exercise["folder"] / exercise["file"])
    return [("blank", blank(source, exercise)),
            *((bug["name"], plant(source, exercise, bug)) for bug in exercise.get("bugs", []))]


def printed_anew(source: str) -> str:
    """`source` from its syntax tree: without comments and layout, so copies cannot be compared."""
    return ast.unparse(ast.parse(source)) + "\n"


def hunt_files(exercise: dict, blanked: dict[str, str]) -> dict[str, str]:
    """{file: text} of one bug to find: the copy with the mistake, and a test to fill in.

    The copy is printed anew, as the right one is for judging, and lacks every listed body.
    """
    folder, file, outer = exercise["folder"], exercise["file"], exercise["function"].split(".")[0]
    text = blanked.get(file) or read(folder / file)
    place = Path(work_file(exercise))
    statement = [line.strip() for line in exercise.get("question", "").strip().splitlines()]
    return {str(place.parent / file): printed_anew(plant(text, exercise, exercise)),
            str(place): "\n".join([
                f'"""{exercise["id"]} {exercise["title"]}.', "", *statement, "",
                f"{file} beside this file has the mistake, in {exercise['function']}. A test finds",
                "it that fails on that copy and passes on right code: python learn.py check "
                f'{exercise["id"]}', '"""', "", f"from {Path(file).stem} import {outer}", "", "",
                "def test_it():",
                f'    raise NotImplementedError("exercise {exercise["id"]}: write the test")', ""])}


def worksheets(folder: Path) -> dict[str, str]:
    """{file: text} of the answer sheet and of the bugs handed out in one chapter."""
    sheet, files, blanked = [], {}, blank_chapter(folder)
    for exercise in load_exercises(int(folder.name[:2]), folder.parent):
        if exercise["kind"] in NUMBERS:
            lines = exercise["question"].strip().splitlines()
            sheet += ["", f"# {exercise['id']} {exercise['title']} ({exercise['kind']}; in "
                      f"{exercise['unit']}, within {exercise['tolerance']:.0%})",
                      *(f"#   {line.strip()}".rstrip() for line in lines), f"{exercise['id']} = "]
        elif exercise["kind"] == "find-bug":
            files |= hunt_files(exercise, blanked)
    if sheet:
        files["answers.txt"] = "\n".join([
            "# Write each number after its = sign BEFORE you run or look anything up; then, for",
            "# example: python learn.py check " + sheet[-1].split()[0], *sheet, ""])
    return files


def right_and_wrong(exercise: dict) -> tuple[str, str]:
    """The file without the mistake and with it. ValueError if a handout's copy is broken."""
    file = exercise["file"]
    right = unseal(read(exercise["folder"] / file))
    if not exercise["handout"]:
        return right, plant(right, exercise, exercise)
    copy = exercise["folder"] / Path(work_file(exercise)).parent / file
    if not copy.exists():
        raise ValueError(f"{copy.name} is gone from {copy.parent.name}/: take it from the handout "
                         "again")
    if said := why_unreadable(right):
        raise ValueError(f"{file}, {said}: mend it first, the hunt compares with it")
    try:
        return right, graft(right, read(copy), exercise["function"])
    except (SyntaxError, LookupError, ValueError) as error:
        raise ValueError(f"{copy.parent.name}/{file} was changed and is broken ({error}): take it "
                         "from the handout again") from None


def judge_test(exercise: dict, test: str, limit: float, scratch: Path,
               server: ForkedRuns | None = None) -> tuple[bool | None, str]:
    """Whether the student's test passes on right code and fails on the planted bug, and why not.

    Both versions are printed anew from their syntax trees, so that no test can tell them apart by
    their text, comments or lines.
    """
    if f'NotImplementedError("exercise {exercise["id"]}' in test:
        return None, f"not started: write the test in {work_file(exercise)}"
    try:
        right, wrong = right_and_wrong(exercise)
    except ValueError as error:
        return False, str(error)
    if said := not_for_grading(test, right, {"pytest", "unittest"}):
        return False, said
    outcomes = []
    for text in (right, wrong):
        code, said = run_hunt(exercise, text, test, limit, scratch, server)
        outcomes.append(code)
        if code is None:
            return False, said
    if outcomes[0] == 5:
        return False, "there is no test: a function named test_..."
    if outcomes[0] != 0:
        return False, f"your test fails on right code too:\n{said if outcomes[1] else ''}".strip()
    if outcomes[1] != 1:
        return False, "your test passes on the copy with the mistake: it does not find it"
    return True, "right: it passes on right code and fails on the mistake"


def run_hunt(exercise: dict, text: str, test: str, limit: float, scratch: Path,
             server: ForkedRuns | None) -> tuple[int | None, str]:
    """Run the student's test on one version of the file, in a folder whose name tells nothing: in
    a fork of the server, or in a fresh Python."""
    place = scratch / secrets.token_hex(4) / "it"
    (place / "code").mkdir(parents=True)
    (place / "code" / exercise["file"]).write_text(printed_anew(text), "utf-8")
    (place / "test_it.py").write_text(test, "utf-8", "replace")
    (place / "pytest.ini").write_text("[pytest]\n", "utf-8")
    shutil.copy(ROOT / "tests" / "conftest.py", place)              # brings the fence
    path = [place / "code", ROOT, *chapter_folders().values()]
    arguments = ["-q", "--tb=short", "-p", "no:cacheprovider", "test_it.py"]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, path)),
                   "BUILD_LLM_GRADED": str(place / "test_it.py")}
    if server:
        return server.run(arguments, place, limit, environment)
    return run_limited([sys.executable, "-m", "pytest", *arguments], place, limit, environment)


def judge_other(exercise: dict, text: str, computed: dict | None = None, limit: float = 60,
                server: ForkedRuns | None = None) -> tuple[bool | None, str]:
    """The verdict on a number or on a test that should find a bug."""
    if exercise["kind"] in NUMBERS:
        return judge_number(exercise, text, computed or compute_answers([exercise]))
    with tempfile.TemporaryDirectory() as scratch:
        return judge_test(exercise, text, limit, Path(scratch).resolve(), server)
