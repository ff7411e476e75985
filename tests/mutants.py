"""Mutation testing of the exercises: every small wrong version of a reference body is caught.

    python learn.py selfcheck --mutants               all chapters, an hour or two on two cores
    python learn.py selfcheck --mutants 4.2           one exercise
    python learn.py selfcheck --mutants 4 --sample 15     15 of each exercise, of every kind some

Runs in the self-check's session: a fork for each mutant, the exercise's own tests until one fails.
What survives is printed, and ends the command with 1, unless `mutants_explained.toml` says why it
is no other function (1 + n for n + 1) or none that a statement could exclude. The counts of each
exercise that was tried take the place of its old row in `mutants.csv`.
"""

import ast
import builtins
import contextlib
import csv
import io
import os
import sys
import tomllib
from pathlib import Path

import pytest

import mutant_kinds
from exchanged_code import Unchangeable, clear_caches, exchange
from forked_children import run_item
from learning.exercises import ROOT, read
from learning.function_bodies import find_function
from selfcheck import Selfcheck

EXPLAINED = Path(__file__).parent / "mutants_explained.toml"
TABLE = Path(__file__).parent / "mutants.csv"
COLUMNS = ("exercise", "mutants", "killed", "explained", "no batch or not applicable", "survive",
           "sample")
PATIENCE = 1.5                  # seconds a test may take longer than five times the reference's


def explanations() -> dict[str, dict[str, str]]:
    """{exercise: {mutant: why it is right to survive}}."""
    return tomllib.loads(EXPLAINED.read_text("utf-8")) if EXPLAINED.exists() else {}


def texts(exercise: dict, size: int | None = None) -> list[tuple[str, str]]:
    """(name, whole file) of every mutant of one exercise's reference, or of a sample."""
    source = read(exercise["folder"] / exercise["file"])
    function = find_function(source, exercise["function"])
    lines, found = source.splitlines(keepends=True), []
    for name, node in mutant_kinds.mutants(function, size):
        indent = " " * function.col_offset
        node.decorator_list = []                # they stand above, and stay
        text = "".join(indent + line for line in ast.unparse(node).splitlines(keepends=True))
        found.append((name, "".join([*lines[:function.lineno - 1], text, "\n",
                                     *lines[function.end_lineno:]])))
    return found


def write_table(table: dict[str, list[int]], size: int | None, path: Path = TABLE) -> None:
    """Put the rows of the exercises that were tried into the file, in the exercises' order."""
    rows = {}
    if path.exists():
        rows = {row[0]: row for row in list(csv.reader(path.read_text("utf-8").splitlines()))[1:]}
    for name, counts in table.items():
        rows[name] = [name, *counts, counts[0] - sum(counts[1:]), size or "all"]
    order = sorted(rows, key=lambda name: tuple(map(int, name.split("."))))
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(rows[name] for name in order)])


class Mutation(Selfcheck):
    """The self-check's session with mutants for bugs: only an exercise's own tests count."""

    size = None

    def look_at_needs(self) -> None:
        """That is the self-check's business."""

    def run_variants(self) -> None:
        known = explanations()
        jobs = ((e, name, text) for e in self.exercises.values() if self.only in (None, e["id"])
                for name, text in texts(e, self.size))
        self.report |= {"mutants": 0, "explained": 0, "survivors": [], "table": {}}
        for (exercise, name, _), outcome in self.in_forks(jobs, self.mutant, 120):
            explained = name in known.get(exercise["id"], {})
            row = self.report["table"].setdefault(exercise["id"], [0, 0, 0, 0])
            row[0] += 1                                 # tried, caught, explained, not applicable
            row[1] += outcome in ("caught", None)
            row[2] += outcome == "survives" and explained
            row[3] += outcome not in ("caught", None, "survives")
            self.report["mutants"] += 1
            if outcome == "survives" and not explained:
                self.report["survivors"].append(f"{exercise['id']} {exercise['function']}: {name}")
            elif outcome == "survives":
                self.report["explained"] += 1
        self.others = []

    def run_idle(self) -> None:
        """That too."""

    def mutant(self, job: tuple) -> str:
        """In a child: whether a test of the exercise fails with this mutant."""
        exercise, kind, text = job
        for name in ("first_row", "last_row", "look_through"):
            setattr(builtins, f"__{name}__", getattr(mutant_kinds, name))
        try:
            exchange(exercise, text)
            clear_caches()
        except (Unchangeable, SyntaxError):
            return "cannot be put in place"
        items = self.tests_reaching(exercise["id"])[exercise["id"]]
        items.sort(key=lambda item: self.seconds[item.nodeid])
        for item, following in zip(items, [*items[1:], None]):
            limit = PATIENCE + 5 * self.seconds[item.nodeid]
            if run_item(item, following, limit) in ("failed", "not started"):
                return "caught"
        rows = " row " in kind and not mutant_kinds.applied
        return "no batch comes in" if rows else "survives"


def check(exercises: list[dict], workers: int, only: str | None, size: int | None = None) -> dict:
    """The report over these exercises' mutants: how many, how many explained, who survives."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
    sys.dont_write_bytecode = True
    plugin = Mutation(exercises, workers, only)
    plugin.size = size
    folders = list(dict.fromkeys(e["folder"].name for e in exercises))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        pytest.main(["-q", "-s", "--tb=no", "--exercise", only or "all",
                     *(str(ROOT / "tests" / name) for name in folders)], [plugin])
    if "survivors" not in plugin.report:
        sys.exit(f"the session broke off: {said.getvalue()[-3000:]}")
    return plugin.report
