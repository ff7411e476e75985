"""Predict and estimate: a number read as people of many countries write it, and judged.

What is right is computed from the reference code, never stored. A handout carries digests of the
narrow bins around the answer: it can check, and does not tell.
"""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from learning.exercises import NUMBERS, ROOT, chapter_folders, fail

COMPUTE = """
import json, sys
results = {}
for exercise in json.load(sys.stdin):
    names = {}
    exec(exercise["answer"], names)
    results[exercise["id"]] = {"answer": float(names["answer"]), "wrong": {
        bug["name"]: float(eval(bug["answer"], dict(names))) for bug in exercise.get("bugs", [])}}
print(json.dumps(results))
"""


def with_path(folders: list[Path]) -> dict:
    """This process's environment with these folders first on Python's path."""
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *before])}


def compute_answers(exercises: list[dict]) -> dict[str, dict]:
    """{id: {"answer": number, "wrong": {misconception: number}}}, from the reference code."""
    asked = [{k: e[k] for k in ("id", "answer", "bugs") if k in e} for e in exercises
             if e["kind"] in NUMBERS and "answer" in e]
    if not asked:
        return {}
    done = subprocess.run([sys.executable, "-c", COMPUTE], input=json.dumps(asked), text=True,
                          capture_output=True, env=with_path([ROOT, *chapter_folders().values()]))
    if done.returncode:
        fail(f"an answer cannot be computed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def codes(exercise: dict, low: float, high: float) -> list[str]:
    """Digests of the narrow bins between two numbers: a handout can check and does not tell."""
    width = math.log1p(exercise["tolerance"]) / 8
    return [hashlib.sha256(f"{exercise['id']} {b}".encode()).hexdigest()[:16] for b in
            range(math.floor(math.log(low) / width), math.floor(math.log(high) / width) + 1)]


def number_in(given: str, unit: str) -> float:
    """The number that a person wrote: 1,234.5 and 1.234,5 and 7,8144 and 1.2e9 and 3 x 10^8.

    A trailing unit is dropped. ValueError says what to write where there are two readings (7,814
    and 2.457.000) or none.
    """
    text = re.sub("^[−–]", "-", given.strip()).replace("−", "-")
    if unit and text.casefold().endswith(unit.casefold()):
        text = text[:-len(unit)]
    if re.search(r"\d[\s_'’]+(?!\d{3}(?!\d))\d", text.strip()):      # two numbers: 12 34
        raise ValueError(f"{given[:40]!r} is no number: write one, for example 1.5e9")
    text = re.sub(r"[\s_'’]", "", text)
    text = re.sub(r"(?i)[x×*·]10(?:\^|\*\*)\+?(-?\d+)$", r"e\1", text)
    sign, body, rest = re.fullmatch(r"([+-]?)([\d.,]*)(.*)", text, re.S).groups()
    if re.fullmatch(r"\d{1,3}(,\d{3})+\.\d*", body) or re.fullmatch(r"[1-9]\d{0,2}(,\d{3}){2,}",
                                                                    body):
        body = body.replace(",", "")                    # 1,234.5 and 1,234,567
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d*", body):
        body = body.replace(".", "").replace(",", ".")  # 1.234,5
    elif re.fullmatch(r"[1-9]\d{0,2},\d{3}", body):
        raise ValueError(f"{given[:40]!r} has two readings: write {body.replace(',', '.')} or "
                         f"{body.replace(',', '')}")
    elif re.fullmatch(r"\d*,\d*", body):
        body = body.replace(",", ".")                   # 7,8144
    try:
        value = float(sign + body + rest)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{given[:40]!r} is no number: write for example 1.5e9, without a unit")
    return value


def judge_number(exercise: dict, sheet: str, computed: dict) -> tuple[bool | None, str]:
    """Whether the number on the answer sheet is right (None: not started), and why not."""
    found = re.findall(rf"^[ \t]*{re.escape(exercise['id'])}[ \t]*[=:](.*)$", sheet, re.M)
    given = found[-1].split("#")[0].strip() if found else ""
    if not given:
        return None, f"not started: write a number after {exercise['id']} = in answers.txt"
    try:
        value = number_in(given, exercise["unit"])
    except ValueError as error:
        return False, str(error)
    tolerance = exercise["tolerance"]
    if "codes" in exercise:
        right = value > 0 and codes(exercise, value, value)[0] in exercise["codes"]
        return right, "right" if right else f"{value:g} is not within {tolerance:.0%}"
    answer = computed[exercise["id"]]
    if abs(value - answer["answer"]) <= tolerance * abs(answer["answer"]):
        return True, f"right: computed {answer['answer']:.4g} {exercise['unit']}"
    for name, wrong in answer["wrong"].items():
        if abs(value - wrong) <= tolerance * abs(wrong):
            return False, f"{value:g} is what comes out where {name}"
    return False, f"{value:g} is not within {tolerance:.0%}"
