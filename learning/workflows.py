"""How classes are run: texts for GitHub Actions, GitLab CI and Gradescope.

Each is a few lines around commands of learn.py, so that another platform is a few lines more.
"""

import json
import os
import shutil
import zipfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from learning.exercises import ROOT, chapter_folders, fail


GITHUB = """\
# One table of points for every push, in the run's summary. No Classroom, no third party.
# Students can edit tests/ and learn.py here: grade for marks with your own copy (learn.py grade).
name: exercises
on: [push, workflow_dispatch]
permissions:
  contents: read
jobs:
  points:
    runs-on: ubuntu-latest
    timeout-minutes: 20
    steps:
    - uses: actions/checkout@v4
    - uses: actions/setup-python@v5
      with:
        python-version: "3.12"
        cache: pip
    - name: install
      run: |
        pip install torch --index-url https://download.pytorch.org/whl/cpu
        pip install -r requirements.txt
    - name: points
      run: python learn.py status --summary "$GITHUB_STEP_SUMMARY" --json points.json
    - uses: actions/upload-artifact@v4
      if: always()
      with:
        name: points
        path: points.json
"""

GITLAB = """\
# One test report for every push, a line for each exercise, in the merge request and pipeline.
# Students can edit tests/ and learn.py here: grade for marks with your own copy (learn.py grade).
exercises:
  image: python:3.12-slim
  timeout: 20 minutes
  variables:
    PIP_CACHE_DIR: "$CI_PROJECT_DIR/.pip"
  cache:
    key: pip
    paths: [.pip]
  before_script:
    - pip install torch --index-url https://download.pytorch.org/whl/cpu
    - pip install -r requirements.txt
  script:
    - python learn.py status --junit points.xml --json points.json
  artifacts:
    when: always
    paths: [points.json]
    reports:
      junit: points.xml
"""

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, while it builds the image (choose Ubuntu 24.04: Python 3.12).
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv
python3 -m venv /autograder/venv
cd /autograder/source
for line in "torch --index-url https://download.pytorch.org/whl/cpu" "-r requirements.txt"; do
  /autograder/venv/bin/pip install --no-cache-dir $line
done
"""

RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission; the results go where it looks for them.
cd /autograder/source
/autograder/venv/bin/python learn.py grade /autograder/submission --chapter {chapter} \\
  --workers 2 --json /autograder/results/results.json
"""


def ci_files() -> dict[str, str]:
    """{path: text} of what a handout carries for continuous integration."""
    return {".github/workflows/exercises.yml": GITHUB, ".gitlab-ci.yml": GITLAB}


def gradescope(chapter: int, target: Path) -> None:
    """Write the zip that Gradescope takes as an autograder: two scripts and the teacher's copy."""
    folders = chapter_folders()
    if chapter not in folders:
        fail(f"there is no chapter {chapter}")
    ignore = shutil.ignore_patterns("__pycache__", "figures", "questions.toml")
    part = target.with_name(target.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN.format(chapter=chapter))):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16           # Gradescope executes it as it is
            archive.writestr(entry, text)
        for folder in (*folders.values(), ROOT / "tests", ROOT / "learning"):
            for path, inside, files in os.walk(folder):
                skip = ignore(path, [*inside, *files])
                inside[:] = [name for name in inside if name not in skip]
                for name in sorted(set(files) - skip):
                    file = Path(path) / name
                    archive.write(file, file.relative_to(ROOT).as_posix())
        for name in ("learn.py", "artifacts.py", "requirements.txt", "pyproject.toml"):
            archive.write(ROOT / name, name)
    part.replace(target)
    print(f"{target}: upload it as the autograder of chapter {chapter} (base image Ubuntu 24.04)")


def summary(rows: list[dict]) -> str:
    """A markdown table of exercises and points, for a run's summary page."""
    signs = {"o": "right", "x": "not yet right", "-": "not started", ".": "no copy"}
    lines = [f"| {r['id']} | {r['title']} | {signs[r['mark']]} | {r['score']:g} / {r['points']:g} |"
             for r in rows]
    total = sum(r["score"] for r in rows), sum(r["points"] for r in rows)
    return "\n".join([f"## {total[0]:g} of {total[1]:g} points", "",
                      "| exercise | | | points |", "|---|---|---|---|", *lines, ""])


def junit(rows: list[dict]) -> str:
    """The rows as a JUnit report, the format that GitLab and most other systems show."""
    cases = []
    for row in rows:
        inner = {"o": "", "x": "<failure message=\"not yet right\"/>"}.get(
            row["mark"], "<skipped message=\"not started\"/>")
        cases.append(f"  <testcase classname=\"chapter {row['id'].split('.')[0]}\" "
                     f"name={quoteattr(row['id'] + ' ' + row['title'])}>{inner}</testcase>")
    counts = [sum(row["mark"] in marks for row in rows) for marks in ("x", "-.")]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>',
                      f'<testsuite name="exercises" tests="{len(rows)}" failures="{counts[0]}" '
                      f'skipped="{counts[1]}">', *cases, "</testsuite>", ""])


def report(rows: list[dict], files: dict[str, Path | None]) -> None:
    """Write the rows of `status` as JSON, as a summary (appended) and as JUnit, where asked."""
    if files.get("json"):
        files["json"].write_text(json.dumps({
            "score": sum(r["score"] for r in rows), "max_score": sum(r["points"] for r in rows),
            "exercises": rows}, indent=1), encoding="utf-8")
    if files.get("summary"):
        with open(files["summary"], "a", encoding="utf-8") as out:
            out.write(summary(rows))
    if files.get("junit"):
        files["junit"].write_text(junit(rows), encoding="utf-8")
