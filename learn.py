"""The exercises: blank the reference, let a student fill it in, and grade what comes back.

    python learn.py start 1          copy chapter 1 to mine/01_tokenizer with the bodies blanked
    python learn.py next             what comes next: file, line, command
    python learn.py check 1.2        run that exercise's tests against your code, to the first
                                     failure; --watch: again whenever you save
    python learn.py hint 1.2         the sub-goals; called again, one more step of a solution
    python learn.py status           a progress line per chapter, and the points
    python learn.py reveal 1.2       put the reference's body into your file
    python learn.py run 04_model_pretrain/pretrain.py --quick     the real pipeline on your code

    python learn.py export --chapter 4 DIR                        the handout for a class
    python learn.py grade SUBMISSION --chapter 4 --json results.json    Gradescope's format
    python learn.py grade handed_in/* --chapter 4 --csv marks.csv       a class, a line each
    python learn.py grade moodle.zip --class --chapter 4 --csv marks.csv
    python learn.py gradescope --chapter 4 autograder.zip         what Gradescope takes
    python learn.py contest entry.py --minutes 5      who trains the best small model?
    python learn.py questions 4 --format gift --out questions.gift      Moodle; qti, csv
    python learn.py selfcheck 4      grade the graders: each planted bug is caught, by its own

The reference is the only source: a listed function's docstring is the statement, the comments in
its body are the hints, and the tests that check the reference check the student. Three more kinds
of exercise: predict or estimate a number (written into answers.txt, checked against what the
reference code computes), and find the bug (write a test that passes on the reference and fails on
the copy handed out). Standard library only; the rooms are in learning/. What it leaves out: a
sandbox. Grading fences off accidents; grade strangers' code inside your platform's container.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from learning.exercises import ROOT, chapter_folders, fail, load_exercises  # noqa: F401


def selfcheck(only: str | None, workers: int) -> int:
    """Blanks fail, the reference passes, each planted bug is caught by its own exercise alone."""
    if not (ROOT / "tests" / "selfcheck.py").exists():
        fail("a handout has no planted bugs to check")
    sys.path.insert(0, str(ROOT / "tests"))
    import selfcheck as engine
    began, exercises = time.time(), chosen(only)
    one = only if only and "." in only else None
    report = engine.check(load_exercises(exercises[0]["chapter"]) if one else exercises, workers,
                          one)
    wrong = {"broken": "THE REFERENCE FAILS", "misses": "NOT CAUGHT", "refused": "REFUSED",
             "idle": "FOR NOTHING", "leaks": "NOT BY ITS OWN ALONE",
             "needs": "ITS TESTS GO THROUGH (needs in the toml)"}
    for kind, said in wrong.items():
        for line in report[kind]:
            print(f"{said}: {line}")
    bugs = sum(len(e.get("bugs", [])) for e in exercises)
    print(f"{len(exercises)} exercises, {bugs} planted bugs, {len(report['misses'])} misses, "
          f"{len(report['leaks'])} caught by another exercise too, {len(report['slow'])} the slow "
          f"way; {report['right'] - len(report['refused'])} of {report['right']} second right "
          f"answers pass; {time.time() - began:.0f} s")
    return sum(len(report[kind]) for kind in wrong)


def mutants(only: str | None, workers: int, size: int | None) -> int:
    """Every small wrong version of a reference body is caught by its exercise, or explained."""
    sys.path.insert(0, str(ROOT / "tests"))
    import mutants as engine
    began, exercises = time.time(), chosen(only)
    report = engine.check(exercises, workers, only if only and "." in only else None, size)
    engine.write_table(report["table"], size)
    for name, (tried, caught, explained, neither) in sorted(report["table"].items()):
        print(f"{name:6} {tried:4} tried {caught:4} caught {explained:3} explained {neither:3} "
              "do not apply")
    for line in [*report["broken"], *sorted(report["survivors"])]:
        print(f"SURVIVES: {line}")
    print(f"{report['mutants']} mutants of {len(exercises)} exercises, {report['explained']} "
          f"explained, {len(report['survivors'])} survive; {time.time() - began:.0f} s")
    return len(report["survivors"] + report["broken"])


def chosen(only: str | None) -> list[dict]:
    """The exercises of a chapter ("4"), one of them ("4.2"), or all (None)."""
    if only and "." in only:
        return [e for e in load_exercises() if e["id"] == only] or fail(f"no exercise {only}")
    return load_exercises(int(only) if only else None)


def arguments() -> argparse.ArgumentParser:
    """The command line: a word for what to do, then that word's own options."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    cores = os.cpu_count() or 1
    start = actions.add_parser("start", help="copy a chapter with blanked bodies to mine/")
    start.add_argument("chapter", type=int)
    following = actions.add_parser("next", help="what comes next")
    following.add_argument("chapter", type=int, nargs="?")
    status = actions.add_parser("status", help="progress and points")
    for name in ("json", "summary", "junit"):
        status.add_argument(f"--{name}", type=Path, help=f"also write the rows as {name}")
    for name in ("hint", "reveal"):
        actions.add_parser(name, help=f"{name} one exercise").add_argument("exercise")
    check = actions.add_parser("check", help="test one exercise")
    check.add_argument("exercise")
    check.add_argument("--limit", type=float, default=180, help="seconds")
    check.add_argument("--all", action="store_true", help="show every failure, not the first only")
    check.add_argument("--watch", action="store_true",
                       help="check again whenever the file is saved")
    run = actions.add_parser("run", help="a command of the pipeline, on your code")
    run.add_argument("script")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    export = actions.add_parser("export", help="the handout for a class")
    export.add_argument("--chapter", type=int, required=True)
    export.add_argument("folder", type=Path)
    gradescope = actions.add_parser("gradescope", help="the zip that Gradescope takes")
    gradescope.add_argument("--chapter", type=int, required=True)
    gradescope.add_argument("file", type=Path)
    grade = actions.add_parser("grade", help="grade submissions in clean copies")
    grade.add_argument("submission", type=Path, nargs="+")
    grade.add_argument("--chapter", type=int)
    grade.add_argument("--exercise", help="only this one")
    grade.add_argument("--class", action="store_true", dest="class_of",
                       help="a submission is a folder or archive with one entry for each student")
    grade.add_argument("--limit", type=float, default=60, help="seconds for one exercise")
    grade.add_argument("--workers", type=int, default=1, help="exercises graded at a time")
    grade.add_argument("--json", type=Path, dest="report",
                       help="results in Gradescope's format; of several submissions, a folder")
    grade.add_argument("--csv", type=Path, help="a table of marks: a line for each submission")
    race = actions.add_parser("contest", help="the best small model in so many CPU minutes")
    race.add_argument("entry", type=Path, nargs="*", help="Python files; see learning/contest.py")
    race.add_argument("--minutes", type=float, default=5.0, help="CPU minutes to train")
    race.add_argument("--data", type=Path, default=ROOT / "out" / "02_data", help="the shards")
    race.add_argument("--out", type=Path, default=ROOT / "out" / "contest", help="a folder")
    questions = actions.add_parser("questions", help="multiple choice, for Moodle and others")
    questions.add_argument("chapter", type=int, nargs="?")
    questions.add_argument("--format", choices=("gift", "qti", "csv"), default="gift")
    questions.add_argument("--out", type=Path, help="the file to write; else it is printed")
    itself = actions.add_parser("selfcheck", help="grade the graders")
    itself.add_argument("only", nargs="?", help="a chapter or an exercise")
    itself.add_argument("--workers", type=int, default=cores)
    itself.add_argument("--mutants", action="store_true",
                        help="systematic wrong versions of each body, an hour or two in all")
    itself.add_argument("--sample", type=int, help="so many mutants of each exercise at most")
    return parser


def main() -> int | None:
    args = arguments().parse_args()
    if args.action == "selfcheck":
        wrong = (mutants(args.only, args.workers, args.sample) if args.mutants
                 else selfcheck(args.only, args.workers))
        return 1 if wrong else 0
    if args.action == "grade":
        from learning.grading import grade
        return grade(args.submission, args.chapter, args.limit, args.report, args.csv,
                     args.exercise, max(args.workers, 1), args.class_of)
    if args.action == "export":
        from learning.handout import export
        return export(args.chapter, args.folder)
    if args.action == "gradescope":
        from learning.workflows import gradescope
        return gradescope(args.chapter, args.file)
    if args.action == "contest":
        from learning.contest import contest
        return contest(args.entry, args.minutes, args.data, args.out)
    if args.action == "questions":
        from learning.quiz import questions
        return questions(args.chapter, args.format, args.out)
    if args.action == "status":
        from learning.progress import status
        return status({"json": args.json, "summary": args.summary, "junit": args.junit})
    from learning import student
    if args.action == "check":
        check = student.watch if args.watch else student.check
        return check(args.exercise, args.limit, args.all)
    if args.action == "run":
        return student.run(args.script, args.arguments)
    if args.action in ("start", "next"):
        return {"start": student.start, "next": student.next_exercise}[args.action](args.chapter)
    return {"hint": student.hint, "reveal": student.reveal}[args.action](args.exercise)


if __name__ == "__main__":
    sys.exit(main())
