"""Grade the graders: each blank and planted bug must fail its own exercise's tests and no other's.

    python learn.py selfcheck          all chapters: about 150 exercises and 550 planted bugs
    python learn.py selfcheck 4        one chapter
    python learn.py selfcheck 4.2      one exercise, against the tests of its chapter

Run as one pytest session, in processes forked from it. The exercise tests are collected once, with
a mark at the head of each listed function. A first run of the reference tells which tests reach
which function, in forked ranks and shared fixtures too. Then for every blank and every bug a child
is forked, the changed body is put in place of the running function's code, wherever it was
imported to, and only the tests that reach it run: its own until one fails, then those of others.
Where code cannot be exchanged (a Triton kernel, work done while importing, a started program) a
fresh pytest runs with the changed file in front of the path: the slow way, right for everything.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import pytest

from empty_bodies import without_work
from exchanged_code import (Reached, Unchangeable, clear_caches, exchange, mark_listed_functions,
                            slow_way)
from forked_children import in_children, mark_of, run_item
from learning.bug_hunts import plant, variants
from learning.exercises import ROOT, read
from learning.function_bodies import with_body
from learning.number_answers import codes, judge_number

SECOND = "a second right answer"
ANSWERS = Path(__file__).parent / "right_answers.toml"
SECOND_ANSWERS = tomllib.loads(ANSWERS.read_text("utf-8")) if ANSWERS.exists() else {}
PATIENCE = 3.0                  # seconds a test may take longer than ten times the reference's


class Selfcheck:
    """A pytest plugin: its run loop is the whole self-check; results land in `self.report`."""

    def __init__(self, exercises: list[dict], workers: int, only: str | None = None):
        self.only = only                # one exercise; the others are there to be leaked into
        self.exercises = {e["id"]: e for e in exercises if e["kind"] == "write"}
        self.others = [e for e in exercises if e["kind"] != "write" and only in (None, e["id"])]
        self.workers = workers
        self.reached = Reached()
        self.by_fixture = {}
        self.report = {"misses": [], "leaks": [], "broken": [], "slow": [], "refused": [],
                       "needs": [], "idle": [], "caught": 0, "right": 0}
        mark_listed_functions(exercises, self.reached)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        self.reached.begin()
        yield
        key = f"{fixturedef.baseid}::{fixturedef.argname}"
        self.by_fixture.setdefault(key, set()).update(self.reached.end())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        if session.testsfailed:
            raise session.Interrupted("a test file cannot be collected")
        self.at_import = set(self.reached.open[0])          # what ran while importing
        self.factory = session.config._tmp_path_factory
        self.items = [i for i in session.items if mark_of(i) in self.exercises]
        self.survey()
        self.run_variants()
        self.run_idle()
        for exercise, wrong in self.in_forks(self.others, self.other_kind, 120):
            self.report["misses"] += [f"{exercise['id']} {exercise['title']}: {line}" for line in
                                      (["it did not come to an end"] if wrong is None else wrong)]
        gc.unfreeze()
        return True

    def survey(self) -> None:
        """Run the reference: what fails, how long each test takes, what it reaches."""
        files = list(dict.fromkeys(i.fspath for i in self.items))
        late = set()
        shares = [[i for i in self.items if i.fspath == f] for f in files]
        self.seconds, own, fixtures = {}, {}, {}
        if "torch" in sys.modules:
            importlib.import_module("torch._dynamo")        # every first optimizer loads it: 3 s
        for _, answer in self.in_forks(shares, self.survey_share, 600):
            if answer is None:
                self.report["broken"].append("the reference's tests died")
                continue
            self.report["broken"] += answer["bad"]
            self.seconds |= answer["seconds"]
            own |= answer["own"]
            late |= set(answer["late"]) - set(sys.modules)
            for key, names in answer["fixtures"].items():
                fixtures.setdefault(key, set()).update(names)
        for name in sorted(late):       # load once here what every child would load for itself
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        gc.freeze()                     # no child looks for garbage in what all share
        self.reach = {}
        for item in self.items:
            names = set(own.get(item.nodeid, ()))
            for defs in item._fixtureinfo.name2fixturedefs.values():
                for d in defs:
                    if d.scope != "function":
                        names |= fixtures.get(f"{d.baseid}::{d.argname}", set())
            self.reach[item.nodeid] = names
        self.look_at_needs()

    def look_at_needs(self) -> None:
        """An exercise lists the others that its tests go through: a blank there stops them."""
        for name, exercise in self.exercises.items():
            if self.only in (None, name):
                found = set().union(*(self.reach[i.nodeid] for i in self.items
                                      if mark_of(i) == name)) - {name, "*"}
                listed = {n for n in exercise.get("needs", []) if n in self.exercises}
                if found != listed:
                    self.report["needs"].append(f"{name}: {json.dumps(sorted(found))}")

    def survey_share(self, items: list) -> dict:
        self.reached.listen()
        programs = []
        sys.addaudithook(lambda event, args: programs.append(1)
                         if event in ("subprocess.Popen", "os.posix_spawn") else None)
        bad, seconds, own = [], {}, {}
        for item, following in zip(items, [*items[1:], None]):
            clear_caches()
            began = time.perf_counter()
            self.reached.begin()
            programs.clear()
            outcome = run_item(item, following, 600)
            names = self.reached.end()
            seconds[item.nodeid] = time.perf_counter() - began
            if programs:                                    # a program may reach anything
                names |= {"*"}
            own[item.nodeid] = sorted(names)
            if outcome in ("failed", "not started"):
                bad.append(item.nodeid)
        return {"bad": bad, "seconds": seconds, "own": own, "late": sorted(sys.modules),
                "fixtures": {k: sorted(v) for k, v in self.by_fixture.items()}}

    def run_variants(self) -> None:
        jobs = [(e, name, text) for e in self.exercises.values() if self.only in (None, e["id"])
                for name, text in [*variants(e), *second_answer(e)]]
        for (exercise, name, text), failed in self.in_forks(jobs, self.variant, 300):
            if failed == "slow":
                self.report["slow"].append(f"{exercise['id']} {name}")
                failed = slow_way(exercise, text)
            failed = {"*"} if failed is None else set(failed)   # killed or died: not accepted
            own = exercise["id"]
            where = f"{own} {exercise['function']}: {name}"
            if name == SECOND:
                self.report["right"] += 1
                if failed:
                    self.report["refused"].append(f"{where}: fails {', '.join(sorted(failed))}")
            elif not failed & {own, "*"}:
                self.report["misses"].append(where)
            else:
                self.report["caught"] += 1
            others = {n for n in failed - {own, "*"} if not self.goes_through(n, own)}
            if others and name not in ("blank", SECOND):
                self.report["leaks"].append(f"{where}: also reddens {', '.join(sorted(others))}")

    def goes_through(self, number: str, other: str) -> bool:
        """Does this exercise say that its tests need the other one, right or wrong?"""
        return other in self.exercises[number].get("needs", [])

    def run_idle(self) -> None:
        """What a body earns that does nothing, and whether enough tests notice a blank."""
        asked = [e for e in self.exercises.values() if self.only in (None, e["id"])]
        for exercise, wrong in self.in_forks(asked, self.idle, 300):
            self.report["idle"] += [f"{exercise['id']} {exercise['function']}: {line}" for line in
                                    (["it did not come to an end"] if wrong is None else wrong)]

    def idle(self, exercise: dict) -> list[str]:
        items = self.tests_reaching(exercise["id"])[exercise["id"]]
        if exercise["id"] in self.at_import or not items:
            return []                                   # the slow way has looked at its blank
        return without_work(exercise, items, self.seconds)

    def in_forks(self, jobs, work, limit: float):
        return in_children(jobs, work, limit, self.workers, self.factory)

    def tests_reaching(self, name: str) -> dict[str, list]:
        """The tests that reach a function, by the exercise that they grade; its own first."""
        found = {name: []}
        for item in self.items:
            if {name, "*"} & self.reach[item.nodeid]:
                found.setdefault(mark_of(item), []).append(item)
        return found

    def variant(self, job: tuple) -> list[str] | str:
        """In a child: the exercises that fail with this variant, or "slow"."""
        exercise, name, text = job
        chosen = self.tests_reaching(exercise["id"])
        if exercise["id"] in self.at_import or not chosen[exercise["id"]]:
            return "slow"
        try:
            exchange(exercise, text)
            clear_caches()
        except Unchangeable:
            return "slow"
        with tempfile.TemporaryDirectory() as overlay:      # for programs that the tests start
            (Path(overlay) / exercise["file"]).write_bytes(text.encode("utf-8"))
            os.environ["PYTHONPATH"] = os.pathsep.join(
                [overlay, *filter(None, [os.environ.get("PYTHONPATH")])])
            failed = []
            for number, items in chosen.items():
                if name == "blank" and failed:
                    break               # a test may well need another exercise's function
                if name not in ("blank", SECOND) and self.goes_through(number, exercise["id"]):
                    continue            # it may fail with it
                for item, following in zip(items, [*items[1:], None]):
                    limit = PATIENCE + 10 * self.seconds[item.nodeid]
                    if run_item(item, following, limit) in ("failed", "not started"):
                        failed.append(number)
                        item.session._setupstate.teardown_exact(None)   # leave its module
                        break
        return failed

    def other_kind(self, exercise: dict) -> list[str]:
        """In a child: what is wrong with a number exercise or a bug to find."""
        try:
            if exercise["kind"] == "find-bug":
                return self.wrong_with_test(exercise)
            return wrong_with_number(exercise)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]

    def wrong_with_test(self, exercise: dict) -> list[str]:
        """The reference's test passes on right code, with all listed bodies blank, and finds the
        bug; and the copy handed out gives no listed body away."""
        listed = [e for e in self.exercises.values() if e["chapter"] == exercise["chapter"]]
        if (exercise["file"], exercise["function"]) in [(e["file"], e["function"]) for e in listed]:
            return ["its function is an exercise: the copy handed out would give it away"]
        importlib.import_module(Path(exercise["file"]).stem)
        for other in listed:
            with contextlib.suppress(Unchangeable):
                exchange(other, variants(other)[0][1])
        source = read(exercise["folder"] / exercise["file"])
        results = []
        for text in (source, plant(source, exercise, exercise)):
            exchange(exercise, text)
            names = {}
            exec(compile(exercise["test"], "test_it.py", "exec"), names)
            tests = [f for name, f in names.items() if name.startswith("test_")]
            results.append("")
            for test in tests:
                try:
                    test()
                except Exception as error:
                    results[-1] = repr(error)
        wrong = [] if tests else ["its test has no test function"]
        wrong += [f"its test fails on right code: {results[0]}"] if results[0] else []
        return wrong + ([] if results[1] else ["its test does not find the bug"])

def second_answer(exercise: dict) -> list[tuple[str, str]]:
    """The exercise's second right answer, if it has one, as a variant of its file."""
    body = SECOND_ANSWERS.get(exercise["id"])
    if body is None or exercise["folder"].parent != ROOT:
        return []
    return [(SECOND, with_body(read(exercise["folder"] / exercise["file"]), exercise, body))]


def wrong_with_number(exercise: dict) -> list[str]:
    """The answer is accepted to its tolerance; each wrong idea is refused, ten tolerances away."""
    names = {}
    exec(exercise["answer"], names)
    answer, tolerance = float(names["answer"]), exercise["tolerance"]
    ideas = {b["name"]: float(eval(b["answer"], dict(names))) for b in exercise.get("bugs", [])}
    computed = {exercise["id"]: {"answer": answer, "wrong": ideas}}
    handed = {**exercise, "codes": codes(exercise, answer * (1 - tolerance),
                                               answer * (1 + tolerance))}
    wrong = [] if len(ideas) >= 2 else ["fewer than two wrong ideas"]
    for form in (exercise, handed):
        def judge(number):
            return judge_number(form, f"{exercise['id']} = {number!r}\n", computed)
        wrong += [f"{answer * part} is refused" for part in
                  (1, 1 - 0.9 * tolerance, 1 + 0.9 * tolerance) if not judge(answer * part)[0]]
        for name, value in ideas.items():
            if abs(value - answer) < 10 * tolerance * abs(answer):
                wrong.append(f"{name}: {value:g} is too near to {answer:g}")
            elif judge(value)[0] or form is exercise and name not in judge(value)[1]:
                wrong.append(f"{name}: {value:g} is not told apart: {judge(value)[1]}")
    return wrong


def check(exercises: list[dict], workers: int, only: str | None = None) -> dict:
    """The report of a self-check over these exercises: lists of what went wrong, and counts."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}     # forks and CUDA: never
    sys.dont_write_bytecode = True
    plugin = Selfcheck(exercises, workers, only)
    folders = list(dict.fromkeys(e["folder"].name for e in exercises))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["-q", "-s", "--tb=no", "--exercise", "all",
                            *(str(ROOT / "tests" / name) for name in folders)], [plugin])
    if code not in (0, 5):
        plugin.report["broken"].append(f"pytest ended with {code!r}: {said.getvalue()[-1000:]}")
    return plugin.report
