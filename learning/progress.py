"""`status`: a progress line per chapter, and what changed in the reference since the start."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from learning.bug_hunts import judge_other
from learning.exercises import (ROOT, chapter_folders, load_exercises, read, remember, remembered,
                                student_file, test_files)
from learning.function_bodies import find_function
from learning.number_answers import compute_answers
from learning.stand_ins import isolate, stand_in
from learning.submissions import as_text
from learning.workflows import report


def stale(exercise: dict) -> str | None:
    """What of an exercise's statement has changed in the reference since it was copied."""
    if exercise["kind"] != "write" or exercise["handout"]:
        return None

    def statement(text):
        node = find_function(text, exercise["function"])
        signature = [ast.dump(part) for part in (node.args, node.returns) if part]
        return {"signature": signature, "docstring": ast.get_docstring(node)}

    text, wrong = isolate(read(student_file(exercise)), [exercise["function"]])
    if wrong:
        return next(iter(wrong.values()))
    try:
        ours = statement(read(exercise["folder"] / exercise["file"]))
        yours = statement(text)
    except LookupError as error:
        return str(error)
    except SyntaxError:
        return None
    changed = [part for part in ours if ours[part] != yours[part]]
    return f"not as in the reference any more: its {' and its '.join(changed)}" if changed else None


def outcomes_of(exercises: list[dict], limit: float = 300) -> dict[str, str]:
    """One run of the tests of these written exercises of a chapter: {id: "o", "x" or "-"}."""
    first = exercises[0]
    with tempfile.TemporaryDirectory() as scratch:
        record, lent = Path(scratch) / "outcomes.json", Path(scratch) / "lent"
        # What is not started must show as such, so nothing is lent in a run of many.
        any_lent, _ = stand_in(exercises, lent, lend=len(exercises) == 1)
        which = [first["id"], *test_files(first)] if len(exercises) == 1 else [
            "all", str(ROOT / "tests" / first["folder"].name)]
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--outcomes", str(record),
                   *([] if first["handout"] else ["--mine"]), "--exercise", *which]
        try:
            subprocess.run(command, cwd=ROOT, capture_output=True, timeout=limit, env={
                **os.environ, "BUILD_LLM_OVERLAY": str(lent) if any_lent else ""})
        except subprocess.TimeoutExpired:
            return {}
        seen = json.loads(record.read_text()) if record.exists() else {}
    marks = {}
    for key, outcome in seen.items():
        mark = {"passed": "o", "skipped": "o", "not started": "-"}.get(outcome, "x")
        marks[key.split("|")[0]] = max(marks.get(key.split("|")[0], "o"), mark, key="o-x".index)
    return marks


def marks_of(exercises: list[dict]) -> dict[str, str]:
    """{id: "o", "x" or "-"} of the begun exercises of one chapter."""
    begun = [e for e in exercises if student_file(e).exists()]
    written = [e for e in begun if e["kind"] == "write"]
    marks = outcomes_of(written) if written else {}
    for exercise in written:
        # After a loop or a crash, and where another exercise that it needs is in the way: alone.
        if not marks or marks.get(exercise["id"]) == "-" and any(
                marks.get(name) == "-" for name in exercise.get("needs", [])):
            marks |= outcomes_of([exercise], 90) or {exercise["id"]: "x"}
    computed = compute_answers(begun)
    for exercise in begun:
        if exercise["kind"] != "write":
            text = as_text(student_file(exercise).read_bytes())
            right = judge_other(exercise, text, computed)[0]
            marks[exercise["id"]] = {None: "-", True: "o", False: "x"}[right]
    return {e["id"]: marks.get(e["id"], "x") for e in begun}


def status(files: dict[str, Path | None] | None = None) -> None:
    """A progress line per chapter, and what changed in the reference since you started."""
    rows, notes = [], []
    for number, folder in chapter_folders().items():
        exercises = load_exercises(number)
        if not exercises:
            continue
        marks = marks_of(exercises)
        for exercise in exercises:
            name, mark = exercise["id"], marks.get(exercise["id"], ".")
            if mark != "." and (said := stale(exercise)):
                notes.append(f"{name} {student_file(exercise).relative_to(ROOT)}: {said}")
            rows.append({"id": name, "title": exercise["title"], "mark": mark, "points":
                         exercise["points"], "score": exercise["points"] * (mark == "o")})
        print(f"{folder.name:<20} {''.join(marks.get(e['id'], '.') for e in exercises)}",
              flush=True)
        if marks:
            remember(".progress.json", {**remembered(".progress.json"), **marks})
    print(f"\n{sum(r['score'] for r in rows)} of {sum(r['points'] for r in rows)} points   "
          "(o right  x not yet right  - not started  . no copy)")
    print("\n".join(notes))
    report(rows, files or {})
