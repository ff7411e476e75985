"""The seven lessons: one skeleton, every exercise named, every command in them really accepted."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

import learn
from learning.handout import first_command

LESSONS = {k: (folder / "README.md").read_text(encoding="utf-8")
           for k, folder in learn.chapter_folders().items()}
SKELETON = ["Run this now", "Predict first", "By hand", "Read the code in this order",
            "What you should see", "Exercises", "Questions", "Make it yours", "Sources"]
# Reads a command line as its script does, then stops: options that do not exist end with code 2.
ACCEPT = """
import argparse, json, os, runpy, sys, traceback
class Accepted(BaseException): pass
def stop(parser, args=None, namespace=None):
    plain(parser, args, namespace)
    raise Accepted
plain = argparse.ArgumentParser.parse_args
argparse.ArgumentParser.parse_args = stop
sys.stderr = sys.stdout
failed = {}
for line, words in json.load(sys.stdin):
    sys.argv, path = words, list(sys.path)
    sys.path.insert(0, os.path.dirname(words[0]))
    try:
        runpy.run_path(words[0], run_name="__main__")
        pass                            # it has run: a script without options
    except Accepted:
        pass
    except BaseException as error:
        failed[line] = f"{type(error).__name__}: {error}"
    sys.path[:] = path
print("\\nRESULT " + json.dumps(failed))
"""


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(line, words after python) of every command of this repository in a text."""
    found = []
    for line in re.findall(r"python (0\d_\w+/\w+\.py[^\n`|&;>]*)", text):
        words = shlex.split(line, comments=True)
        if "..." not in words and "NAME" not in words:
            found.append((line, words))
    return found


@pytest.mark.parametrize("chapter", LESSONS)
def test_the_skeleton_and_every_exercise(chapter):
    text = LESSONS[chapter]
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert [h for h in headings if h in SKELETON] == SKELETON, headings
    section = text.split("\n## Exercises")[1].split("\n## Questions")[0]
    named = set(re.findall(rf"\b{chapter}\.\w?\d+\b", section))
    for first, last in re.findall(rf"\b{chapter}\.(\d+)(?: to |–){chapter}\.(\d+)", section):
        named |= {f"{chapter}.{n}" for n in range(int(first), int(last) + 1)}
    for exercise in learn.load_exercises(chapter):
        assert exercise["id"] in named, f"{exercise['id']} {exercise['title']} is not listed"


def imported_from(folder, name: str) -> set[str]:
    """The files of one chapter that its file `name` imports, itself and theirs included."""
    found, todo = set(), [name]
    while todo:
        file = todo.pop()
        if file in found or not (folder / file).exists():
            continue
        found.add(file)
        for node in ast.walk(ast.parse((folder / file).read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [
                node.module] if isinstance(node, ast.ImportFrom) else []
            todo += [f"{module}.py" for module in names]
    return found


@pytest.mark.parametrize("chapter", LESSONS)
def test_a_handout_says_which_exercises_the_first_command_needs(chapter):
    folder = learn.chapter_folders()[chapter]
    command, needs = first_command(folder)
    reached = imported_from(folder, command.split()[1].split("/")[1])
    written = {e["id"]: e["file"] for e in learn.load_exercises(chapter) if e["kind"] == "write"}
    assert set(needs) <= set(written), "first_command_needs names what nobody writes"
    assert all(written[name] in reached for name in needs), f"{command} imports no such file"
    # Whether a body is called cannot be read from imports; that none is imported, can.
    assert needs or not reached & set(written.values()), f"{command}: first_command_needs is empty"


def test_the_teachers_table_says_how_long_all_exercises_take():
    page = (learn.ROOT / "README.md").read_text(encoding="utf-8")
    hours = dict(re.findall(r"^\| (0\d) \| [\d½]+ h \| (\d+) h \|", page, re.M))
    for chapter in LESSONS:
        total = sum(e["minutes"] for e in learn.load_exercises(chapter)) / 60
        assert abs(total - int(hours[f"0{chapter}"])) <= 1.5, f"chapter {chapter}: {total:.1f} hours"


def test_every_command_of_every_lesson_is_accepted(tmp_path):
    pages = [(learn.ROOT / "README.md").read_text(encoding="utf-8"), *LESSONS.values()]
    listed = dict(pair for page in pages for pair in commands(page))
    assert len(listed) >= 20, listed
    done = subprocess.run(
        [sys.executable, "-c", ACCEPT], cwd=learn.ROOT, text=True, capture_output=True,
        input=json.dumps(list(listed.items())), timeout=300,
        env=os.environ | {"BUILD_LLM_OUT": str(tmp_path),
                          "PYTHONPATH": os.pathsep.join(map(str, [
                              learn.ROOT, *learn.chapter_folders().values()]))})
    assert "RESULT" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    failed = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
    assert not failed, "\n".join(f"{line}: {why}" for line, why in failed.items())
