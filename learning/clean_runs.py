"""An exercise's tests on a student's file, each time in a fresh copy of this repository.

What every run would do again is done once for each chapter, with the reference: its tests and
modules are compiled (the copies carry Python's cache files), and the server that forks the runs
imports what they import and compiles their regular expressions. A run of chapter 2 so takes a
third of the time.
"""

import json
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from learning.exercises import ROOT, chapter_folders, test_files
from learning.handout import borrowed
from learning.limited_runs import ForkedRuns

LEFT_OUT = shutil.ignore_patterns("__pycache__", "exercises.toml", "questions.toml", "selfcheck*",
                                  "mutant*", "empty_bodies*", "right_answers.toml",
                                  "test_selfcheck.py", "figures", "recorded_runs", "*.png",
                                  "*.svg")
# Run in a clean copy: pytest collects all tests, so that it writes its cache files, and what was
# imported from elsewhere and compiled on the way is said.
LOOK_ROUND = """
import os, pickle, re, sys
patterns, compile = {}, re.compile
def noted(pattern, flags=0):
    if isinstance(pattern, (str, bytes)):
        patterns[pattern, int(flags)] = None
    return compile(pattern, flags)
re.compile = noted
import pytest
pytest.main(["-q", "--collect-only", *sys.argv[2:]])
here = os.getcwd() + os.sep
modules = [name for name, module in list(sys.modules.items()) if name != "__main__"
           and not (getattr(module, "__file__", None) or here).startswith(here)]
with open(sys.argv[1], "wb") as out:
    pickle.dump((modules, list(patterns)), out)
"""


def clean_copy(clean: Path, chapter: int) -> None:
    """What the tests of a chapter need of this repository (as its handout does: the chapters up to
    it and what they borrow), without what tells answers."""
    for number, folder in chapter_folders().items():
        if number <= chapter:
            shutil.copytree(folder, clean / folder.name, ignore=LEFT_OUT)
        if number == chapter:
            shutil.copytree(ROOT / "tests" / folder.name, clean / "tests" / folder.name,
                            ignore=LEFT_OUT)
    for file in borrowed(chapter):
        (clean / file.parent.name).mkdir(exist_ok=True)
        shutil.copy2(file, clean / file.parent.name)
    (clean / "learning").mkdir()
    for file in ("learning/__init__.py", "learning/write_fence.py", "learning/callers_data.py",
                 "artifacts.py", "pyproject.toml", "tests/conftest.py"):
        shutil.copy2(ROOT / file, clean / file)


class CleanRuns:
    """Runs of exercises' tests, one after the other: a template for each chapter, from which every
    run gets its own copy, always at the same place, and one server that forks them."""

    def __init__(self, exercises: list[dict]):
        self.scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.templates, modules, patterns = {}, {"numpy": None}, {}
        for chapter in sorted({e["chapter"] for e in exercises if e["kind"] == "write"}):
            place = Path(self.scratch.name).resolve() / str(chapter)
            clean_copy(place / "clean", chapter)
            files = {f for e in exercises if (e["chapter"], e["kind"]) == (chapter, "write")
                     for f in test_files(e, place / "clean")}
            subprocess.run([sys.executable, "-P", "-c", LOOK_ROUND, place / "seen", *sorted(files)],
                           cwd=place / "clean", stdin=subprocess.DEVNULL, capture_output=True,
                           env={name: value for name, value in os.environ.items()
                                if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")})
            self.templates[chapter] = (place / "clean").rename(place / "template")
            if (place / "seen").exists():
                seen = pickle.loads((place / "seen").read_bytes())
                modules |= dict.fromkeys(seen[0])
                patterns |= dict.fromkeys(seen[1])
        self.server = ForkedRuns(list(modules), list(patterns))

    def fresh(self, chapter: int, files: list[str]) -> Path:
        """A new copy of the repository, without cache files of the modules named in `files`."""
        clean, stems = self.templates[chapter].with_name("clean"), {Path(f).stem for f in files}
        shutil.rmtree(clean, ignore_errors=True)
        if clean.exists():              # whatever a run did to it: the next has a place of its own
            clean = Path(tempfile.mkdtemp(dir=self.scratch.name)).resolve() / "clean"
        shutil.copytree(self.templates[chapter], clean, ignore=lambda folder, names: {
            n for n in names if n.endswith(".pyc") and n.split(".")[0] in stems})
        return clean

    def run(self, exercise: dict, text: str, limit: float, helpers: dict[str, str]
            ) -> tuple[float, str]:
        """The share of an exercise's tests that pass on a file's text, and what was said."""
        parts = {**helpers, exercise["file"]: text}
        clean = self.fresh(exercise["chapter"], list(parts))
        files = {clean / exercise["folder"].name / name: part for name, part in parts.items()}
        for file, part in files.items():
            file.write_bytes(part.encode("utf-8"))
        seal, record = secrets.token_hex(), clean.with_name("outcomes.json")
        record.unlink(missing_ok=True)
        shutil.rmtree(clean.with_name("home"), ignore_errors=True)
        code, output = self.server.run(
            ["-q", "--tb=short", "-s", "--exercise", exercise["id"], "--outcomes", str(record),
             *test_files(exercise, clean)], clean, limit,
            {"PYTHONPATH": "", "BUILD_LLM_HIDE": str(ROOT),
             "BUILD_LLM_WATCH": json.dumps([[exercise["file"], exercise["function"],
                                             exercise.get("changes", [])]]),
             "BUILD_LLM_GRADED": os.pathsep.join(map(str, files))}, seal)
        if code is None:
            return 0.0, output
        try:
            written = json.loads(record.read_text("utf-8"))
        except (OSError, ValueError):
            written = {}
        seen = list(written["outcomes"].values()) if written.get("seal") == seal else []
        if "not started" in seen:
            return 0.0, f"not started\n{output}"
        counted = [o for o in seen if o != "skipped"]       # a skip for want of a GPU: neither
        if not counted:
            return 0.0, f"no test came to an end (exit code {code})\n{output}"
        return counted.count("passed") / len(counted), output

    def close(self) -> None:
        self.server.close()
        self.scratch.cleanup()
