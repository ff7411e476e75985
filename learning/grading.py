"""Grading: one submission or a class, each exercise's tests in a fresh copy of the repository."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

from learning.allowed_code import not_for_grading
from learning.bug_hunts import judge_other
from learning.clean_runs import CleanRuns
from learning.exercises import fail, load_exercises, read, work_file
from learning.function_bodies import UNREADABLE, find_function, graft, salvage, why_unreadable
from learning.number_answers import compute_answers
from learning.submissions import (Submission, given, helper_files, named_apart, students_in,
                                  submitted_text)

RUNS = local()                          # each thread of grade has a server of its own


def grade(paths: list[Path], chapter: int | None = None, limit: float = 60,
          report: Path | None = None, table: Path | None = None, only: str | None = None,
          workers: int = 1, class_of: bool = False) -> int:
    """Grade folders, archives or files in clean copies of this repository; prints the points.

    One submission's `report` is a file in Gradescope's format; of several, a folder of them. The
    `table` has a line for each submission, written as each is done.
    """
    for path in paths:
        if not path.exists():
            fail(f"{path} does not exist")
    if any(e["handout"] for e in load_exercises()):
        fail("a handout has no reference to grade with: run the teacher's copy")
    listed = load_exercises(chapter)
    chosen = [e for e in listed if only in (None, e["id"])] or fail(f"no exercise {only}")
    try:
        handed_in = (named_apart([s for p in paths for s in students_in(p)]) if class_of
                     else given(paths))
    except ValueError as error:
        fail(str(error))
    computed, rows, servers = compute_answers(chosen), {}, []
    with ThreadPoolExecutor(workers, initializer=prepare, initargs=(chosen, servers)) as pool:
        jobs = [(s, [pool.submit(grade_one, s, e, listed, computed, limit) for e in chosen])
                for s in handed_in]
        for submission, running in jobs:
            print(f"\n{submission.name}" if len(jobs) > 1 else "", flush=True)
            rows[submission.name] = tell([job.result() for job in running])
            save(rows, submission.name, report, table, chosen, single=len(jobs) == 1)
    for server in servers:
        server.close()
    return 0


def prepare(exercises: list[dict], servers: list[CleanRuns]) -> None:
    """In each thread: a server that has loaded what the tests of these exercises need."""
    RUNS.mine = CleanRuns(exercises)
    servers.append(RUNS.mine)


def tell(rows: list[dict]) -> list[dict]:
    """Print a line for each exercise as it is done, and the points."""
    for row in rows:
        print(f"{row['name']:<60} {row['score']:g} / {row['max_score']:g}", flush=True)
    print(f"\n{points(rows):g} of {sum(row['max_score'] for row in rows):g} points", flush=True)
    return rows


def points(rows: list[dict]) -> float:
    return round(sum(row["score"] for row in rows), 2)


def save(rows: dict, name: str, report: Path | None, table: Path | None, chosen: list[dict],
         single: bool) -> None:
    """Write one submission's results in Gradescope's format, and the table of all so far."""
    if report:
        file = report if single else report / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"score": points(rows[name]), "tests": rows[name]}, indent=1),
                        "utf-8")
    if table:
        table.parent.mkdir(parents=True, exist_ok=True)
        most = [row["max_score"] for row in rows[name]]
        with open(table, "w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([
                ["submission", "points", *(e["id"] for e in chosen), "why not all"],
                ["(maximum)", sum(most), *most, ""],
                *([in_a_cell(n), points(r), *(row["score"] for row in r), why(r)]
                  for n, r in rows.items())])


def in_a_cell(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@" else name


def why(rows: list[dict]) -> str:
    """The reason for each exercise that has not all its points: "1.2 not started; ..."."""
    reasons = []
    for row in rows:
        if row["score"] < row["max_score"]:
            lines = [line for line in row["output"].splitlines() if line.strip()]
            telling = [line[2:].strip() for line in lines if line.startswith("E  ")]
            reasons.append(f"{row['name'].split()[0]} {(telling or lines or ['?'])[0][:120]}")
    return "; ".join(reasons)


def grade_one(submission: Submission, exercise: dict, listed: list[dict], computed: dict,
              limit: float) -> dict:
    """One row of Gradescope's results: the exercise's share of passed tests, with a message."""
    row = {"name": f"{exercise['id']} {exercise['title']}", "score": 0.0,
           "max_score": exercise["points"], "visibility": "visible", "output": ""}
    try:
        text = submitted_text(submission, exercise)
        if exercise["kind"] != "write":
            right, output = judge_other(exercise, text, computed, limit, RUNS.mine.server)
            return {**row, "output": output, "score": float(exercise["points"] * (right is True))}
        helpers = helper_files(submission, exercise, text)
        share, output = grade_written(exercise, text, listed, limit, helpers)
        return {**row, "output": output, "score": round(exercise["points"] * earned(share), 2)}
    except Exception as error:              # whatever came in, the next exercise is graded
        said = str(error) or type(error).__name__
        return {**row, "output": said if said.startswith(work_file(exercise))
                else f"{work_file(exercise)}: {said}"}


def earned(share: float) -> float:
    """The part of the points for a share of passed tests: a constant may pass a few of them by
    chance, so half of the tests earn nothing, three quarters one half, all of them everything."""
    return max(0.0, 2 * share - 1)


def grade_written(exercise: dict, text: str, listed: list[dict], limit: float,
                  helpers: dict[str, str]) -> tuple[float, str]:
    """The share of an exercise's tests that pass, and what was said.

    First with the student's whole file, helpers of their own included. If that does not pass and
    the file differs elsewhere too, once more with this one body in the reference's file: what
    broke around it costs no point here.
    """
    reference = read(exercise["folder"] / exercise["file"])
    names = [e["function"] for e in listed if e["kind"] == "write"
             and (e["chapter"], e["file"]) == (exercise["chapter"], exercise["file"])]
    whole = assemble(reference, text, exercise, names)
    try:
        alone = graft(reference, whole, exercise["function"])
    except (SyntaxError, LookupError):
        alone = whole
    share, output = 0.0, ""
    for version in dict.fromkeys((whole, alone)):
        said = next((f"{name} {said}".strip() for name, part in {"": version, **helpers}.items()
                     if (said := not_for_grading(part, reference))), "")
        again, said = (0.0, said) if said else RUNS.mine.run(
            exercise, version, limit, helpers)
        if again > share or not output:
            share, output = again, said
        if share == 1:
            break
    return share, output


def assemble(reference: str, text: str, exercise: dict, listed: list[str]) -> str:
    """The file to grade one exercise with: the student's, all other listed bodies the reference's.

    So one broken exercise costs no other. A file that does not parse gives what can be salvaged
    of this one function. Raises SyntaxError or LookupError with what is wrong.
    """
    name = exercise["function"]
    if said := why_unreadable(text):
        part = salvage(text, name)
        if part is None or "\0" in part:
            raise SyntaxError(said)
        return graft(reference, part, name)
    find_function(text, name)
    for other in listed:
        if other != name:
            try:
                text = graft(text, reference, other)
            except LookupError:  # the student deleted another exercise's function: give it back
                return graft(reference, text, name)
    return text
