"""The lists of exercises: seven files exercises.toml, and where a student's work lies."""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINE = ROOT / "mine"
TEXT = {"encoding": "utf-8", "newline": ""}  # newline="": no byte of a file may change
KINDS = ("write", "predict", "estimate", "find-bug")
NUMBERS = ("predict", "estimate")


def fail(message: str) -> None:
    """End with one clear line and exit code 1."""
    sys.exit(f"error: {message}")


def read(file: Path) -> str:
    """A source file's text, byte for byte."""
    with open(file, **TEXT) as text:
        return text.read()


def write(file: Path, text: str) -> None:
    """Write a source file's text as it is, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", **TEXT) as out:
        out.write(text)


def chapter_folders(root: Path = ROOT) -> dict[int, Path]:
    """The numbered folders under `root`: {1: .../01_tokenizer, ...}."""
    return {int(p.name[:2]): p for p in sorted(root.glob("0[1-9]_*")) if p.is_dir()}


def load_exercises(chapter: int | None = None, root: Path = ROOT) -> list[dict]:
    """The exercises of one chapter (or all), each with its folder under "folder"."""
    found = []
    for number, folder in chapter_folders(root).items():
        file = folder / "exercises.toml"
        if file.exists() and chapter in (None, number):
            table = tomllib.loads(file.read_text(encoding="utf-8"))
            for exercise in table.get("exercise", []):
                found.append({"kind": "write", **exercise, "folder": folder, "chapter": number,
                              "handout": table.get("handout", False)})
    return sorted(found, key=lambda e: (e["chapter"], KINDS.index(e["kind"]),
                                        int(re.search(r"\d+$", e["id"])[0])))


def find_exercise(name: str) -> dict:
    """The exercise with this id; ends with the list of ids if there is none."""
    for exercise in load_exercises():
        if exercise["id"] == name:
            return exercise
    fail(f"no exercise {name!r}; there are {', '.join(e['id'] for e in load_exercises())}")


def work_file(exercise: dict) -> str:
    """What a student writes, inside the chapter's folder."""
    if exercise["kind"] in NUMBERS:
        return "answers.txt"
    if exercise["kind"] == "find-bug":
        return f"find_the_bug/{exercise['id'].replace('.', '_')}/test_it.py"
    return exercise["file"]


def student_file(exercise: dict) -> Path:
    """Where the student edits this exercise: mine/..., or in place in a handout."""
    folder = exercise["folder"] if exercise["handout"] else MINE / exercise["folder"].name
    return folder / work_file(exercise)


def test_files(exercise: dict, root: Path = ROOT) -> list[str]:
    """The test files that grade an exercise: those that name its id, to import no others."""
    folder = root / "tests" / exercise["folder"].name
    named = [str(f) for f in sorted(folder.glob("test_*.py"))
             if f'"{exercise["id"]}"' in f.read_text(encoding="utf-8")]
    return named or [str(folder)]


def remembered(name: str) -> dict:
    """What a state file in mine/ holds; a file that is cut or not ours counts as empty."""
    try:
        table = json.loads((MINE / name).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def remember(name: str, table: dict) -> None:
    """Write a state file in mine/, whole or not at all."""
    MINE.mkdir(exist_ok=True)
    part = MINE / f"{name}.part"
    part.write_text(json.dumps(table), encoding="utf-8")
    part.replace(MINE / name)
