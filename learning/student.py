"""The student's commands: start, check, next, hint, reveal, run."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from learning.bug_hunts import judge_other, worksheets
from learning.exercises import (MINE, NUMBERS, ROOT, chapter_folders, fail, find_exercise,
                                load_exercises, read, remember, remembered, student_file,
                                test_files, write)
from learning.function_bodies import (UNREADABLE, blank_chapter, body_span, find_function, graft,
                                      hints, lines_of)
from learning.number_answers import compute_answers, with_path
from learning.stand_ins import stand_in
from learning.submissions import as_text


def start(chapter: int) -> None:
    """Write mine/<chapter>: the chapter's Python files, listed bodies blanked; keep what exists."""
    folder = chapter_folders().get(chapter) or fail(f"there is no chapter {chapter}")
    if any(e["handout"] for e in load_exercises(chapter)):
        fail(f"a handout is edited in place: open {folder.name}/")
    blanked = blank_chapter(folder)
    if not blanked:
        fail(f"chapter {chapter} has no exercises yet")
    files = {f.name: blanked.get(f.name) or read(f)
             for f in sorted(folder.glob("*.py"))} | worksheets(folder)
    kept = []
    for name, text in files.items():
        target = MINE / folder.name / name
        if target.exists():
            kept.append(name)
        else:
            write(target, text)
    for file in files_beside(folder):       # tables and samples that the code opens beside itself
        target = MINE / folder.name / file.relative_to(folder)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    print(f"wrote {len(files) - len(kept)} files into mine/{folder.name}/"
          + (f"; kept {len(kept)} that exist (yours stay): {', '.join(kept[:3])}"
             + (" ..." if len(kept) > 3 else "") if kept else ""))
    print(f"\nRead {folder.name}/README.md. The first exercise:\n")
    introduce(load_exercises(chapter)[0])


def files_beside(folder: Path) -> list[Path]:
    """What a chapter's code reads in its own folder; not code, solutions or pictures."""
    return [file for file in sorted(folder.rglob("*"))
            if file.is_file() and file.suffix not in (".py", ".pyc")
            and file.relative_to(folder).parts[0] not in (
                "figures", "MEASURED.md", "exercises.toml", "questions.toml")]


def line_of(exercise: dict) -> str:
    """FILE:LINE to open for an exercise, as editors understand it."""
    file, line = student_file(exercise), 1
    with contextlib.suppress(*UNREADABLE, LookupError, OSError):
        if exercise["kind"] == "write":
            line = find_function(read(file), exercise["function"]).lineno
        elif exercise["kind"] in NUMBERS:
            lines = read(file).splitlines()
            line = 1 + next(i for i, text in enumerate(lines)
                            if re.match(rf"\s*{re.escape(exercise['id'])}\s*[=:]", text))
    return f"{file.relative_to(ROOT)}:{line}"


def introduce(exercise: dict) -> None:
    """What an exercise is, where to write, and what to type."""
    print(f"{exercise['id']} {exercise['title']}   (difficulty {exercise['difficulty']}, "
          f"{exercise['minutes']} minutes, {exercise['points']} points)\n{exercise['why']}\n")
    if exercise.get("needs"):
        print(f"uses     {', '.join(exercise['needs'])}")
    print(f"open     {line_of(exercise)}\ncheck    python learn.py check {exercise['id']} --watch\n"
          f"stuck    python learn.py hint {exercise['id']}")


def next_exercise(chapter: int | None) -> None:
    """The first exercise that was not right at its last check; opened in $VISUAL or $EDITOR."""
    done = remembered(".progress.json")
    begun = [e for e in load_exercises(chapter) if student_file(e).exists()]
    if not begun:
        fail(f"not started: run python learn.py start {chapter or 1}")
    left = [e for e in begun if done.get(e["id"]) != "o"]
    if not left:
        print("all of them are right; python learn.py status counts the points")
        return
    introduce(left[0])
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if editor and sys.stdout.isatty():
        file, _, line = line_of(left[0]).rpartition(":")
        subprocess.call([*editor.split(), f"+{line}", str(ROOT / file)])


def watched(command: list, limit: float, environment: dict) -> int:
    """Run a command; over the limit interrupt it, so that pytest says where it was.

    A shell's background jobs (`learn.py check 1.1 &`) ignore interrupts, and so would the child.
    """
    listen = (lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) if os.name == "posix" else None
    child = subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=listen)
    try:
        return child.wait(limit)
    except KeyboardInterrupt:
        return child.wait(10) or 1
    except subprocess.TimeoutExpired:
        print(f"stopped after {limit:g} s: an endless loop?", flush=True)
        child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(10) or 1
        child.kill()
        return child.wait() or 1


def check(name: str, limit: float = 180, every: bool = False) -> int:
    """Run one exercise's tests on the student's code; returns 0 if all pass, none not started.

    Shows the first failure, or with `every` all of them.
    """
    exercise = find_exercise(name)
    if not student_file(exercise).exists():
        fail(f"not started: run python learn.py start {exercise['chapter']}")
    if exercise["kind"] != "write":
        right, said = judge_other(exercise, as_text(student_file(exercise).read_bytes()))
        print(f"{name}: {said}")
        note(name, {None: "-", True: "o", False: "x"}[right])
        return 0 if right else 1
    with tempfile.TemporaryDirectory() as scratch:
        record, lent = Path(scratch) / "outcomes.json", Path(scratch) / "lent"
        any_lent, told = stand_in([exercise], lent)
        for line in told:
            print(line, flush=True)
        mine = [] if exercise["handout"] else ["--mine"]
        code = watched(
            [sys.executable, "-m", "pytest", "-q", "-rs", "--tb=short", *mine, "--exercise", name,
             *([] if every else ["--first"]), "--outcomes", str(record), *test_files(exercise)],
            limit, {**os.environ, "BUILD_LLM_OVERLAY": str(lent) if any_lent else ""})
        seen = list(json.loads(record.read_text()).values()) if record.exists() else []
    return verdict(name, seen, code, every)


def verdict(name: str, seen: list[str], code: int, every: bool) -> int:
    """Print and remember what the outcomes of an exercise's tests mean; the exit code."""
    counted = [outcome for outcome in seen if outcome != "skipped"]
    right = counted.count("passed")
    said = f"{right} of {len(counted)} tests pass" if seen else "no test ran: see above"
    if seen and right < len(counted) and not every:
        said += " before the first failure"
    if "not started" in seen:
        said = f"not started ({said}): see the line above"
    elif counted and right == len(counted) and code == 0:
        said = "right"
    note(name, "o" if said == "right" else "-" if "not started" in seen else "x")
    print(f"{name}: {said}")
    return 0 if said == "right" else code or 1


def note(name: str, mark: str) -> None:
    remember(".progress.json", {**remembered(".progress.json"), name: mark})


def watch(name: str, limit: float, every: bool) -> int:
    """Check again whenever the student's file is saved, until it is right."""
    file = student_file(find_exercise(name))
    while True:
        seen = file.stat().st_mtime_ns if file.exists() else 0
        code = check(name, limit, every)
        if code == 0:
            return 0
        print(f"\nwaiting for you to save {file.relative_to(ROOT)} (Ctrl-C ends)", flush=True)
        try:
            while not file.exists() or file.stat().st_mtime_ns == seen:
                time.sleep(0.2)
        except KeyboardInterrupt:
            return code


def hint(name: str) -> None:
    """First call: the sub-goals. Each later call: one more statement of a solution."""
    exercise = find_exercise(name)
    where = f": {exercise['function']} in {exercise['file']}" if "function" in exercise else ""
    print(f"{name} {exercise['title']}{where}\n")
    goals, calls = hints(exercise), remembered(".hints.json")
    steps = calls[name] if isinstance(calls.get(name), int) else 0
    if exercise["handout"]:             # no solution to show: a goal at a time
        goals = goals[:steps + 1]
    for number, line in enumerate(goals, 1):
        print(f"  {number}. {line}")
    if exercise["handout"] and len(goals) < len(hints(exercise)):
        print("\n(the same command again: one more)")
    if steps and exercise["kind"] == "write" and not exercise["handout"]:
        source = read(exercise["folder"] / exercise["file"])
        begin = body_span(source, exercise["function"])[0]
        statements = [s for s in find_function(source, exercise["function"]).body
                      if s.lineno > begin]
        end = statements[min(steps, len(statements)) - 1].end_lineno
        print("\n" + "".join(lines_of(source)[begin:end]))
    remember(".hints.json", {**calls, name: steps + 1})


def reveal(name: str) -> None:
    """Put the reference's body, number or test into the student's file."""
    exercise = find_exercise(name)
    if exercise["handout"]:
        fail("a handout has no solutions: ask your teacher")
    file = student_file(exercise)
    if not file.exists():
        fail(f"not started: run python learn.py start {exercise['chapter']}")
    text = read(file)
    if exercise["kind"] in NUMBERS:
        answer = compute_answers([exercise])[name]["answer"]
        line = f"{name} = {answer:.6g}"
        text, changed = re.subn(rf"^[ \t]*{re.escape(name)}[ \t]*[=:].*$", line, text, flags=re.M)
        text += "" if changed else f"\n{line}\n"
        print(exercise["answer"].strip(), f"\n# in {exercise['unit']}")
    elif exercise["kind"] == "find-bug":
        text = exercise["test"].lstrip("\n")
        print(f"the mistake, {exercise['name']}:\n- {exercise['find'].strip()}\n"
              f"+ {exercise['replace'].strip()}")
    else:
        reference = read(exercise["folder"] / exercise["file"])
        try:
            text = graft(text, reference, exercise["function"])
        except (SyntaxError, LookupError) as error:
            fail(f"{file.relative_to(ROOT)}: {error}; mend it, or delete the file and start again")
    write(file, text)
    print(f"revealed {exercise.get('function', name)} in {file.relative_to(ROOT)}")


def run(script: str, arguments: list[str]) -> int:
    """Run a command of the pipeline with mine/ in front, in its child processes too.

    `run torchrun --nproc-per-node 2 07_systems/train_distributed.py ...` starts ranks the same way.
    """
    mine = sorted(p for p in MINE.glob("0*") if p.is_dir())
    if not mine and not any(e["handout"] for e in load_exercises()):
        fail("mine/ is empty: run python learn.py start 1")
    # Without the safe path a script's own folder comes first and the student's files are ignored.
    environment = {**with_path([*mine, ROOT, *chapter_folders().values()]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, script, *arguments]
    if script == "torchrun":
        command[1:2] = ["-m", "torch.distributed.run"]
    at = next((i for i, word in enumerate(command) if i and word.endswith(".py")), 0)
    found = [root / command[at] for root in (MINE, ROOT) if (root / command[at]).exists()]
    if not at or not found:
        fail(f"{command[at] if at else script} does not exist")
    command[at] = str(found[0])
    return subprocess.call(command, env=environment)
