"""Grade the graders: each blank and planted bug must fail its own exercise's tests and no other's.

    python learn.py selfcheck          all chapters: about 150 exercises and 550 planted bugs
    python learn.py selfcheck 4        one chapter

Run as one pytest session, in processes forked from it. The exercise tests are collected once, with
a mark at the head of each listed function. A first run of the reference tells which tests reach
which function, in forked ranks and shared fixtures too. Then for every blank and every bug a child
is forked, the changed body is put in place of the running function's code, wherever it was
imported to, and only the tests that reach it run: its own until one fails, then those of others.
Where code cannot be exchanged (a Triton kernel, work done while importing, a started program) a
fresh pytest runs with the changed file in front of the path: the slow way, right for everything.
"""

import ast
import builtins
import contextlib
import importlib.machinery
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
import types
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

import learn

SLOW_LIMIT = 120                # seconds for one variant the slow way
SECOND = "a second right answer"
ANSWERS = Path(__file__).parent / "right_answers.toml"
SECOND_ANSWERS = tomllib.loads(ANSWERS.read_text("utf-8")) if ANSWERS.exists() else {}
PATIENCE = 3.0                  # seconds a test may take longer than ten times the reference's


class Unchangeable(Exception):
    """The running function's code cannot be exchanged: use the slow way."""


class EndlessLoop(BaseException):
    """A test took far longer than with the reference; not an Exception, so no `except` eats it."""


# ---------------------------------------------------------------- exchanging a function's code

def code_of(module_code: types.CodeType, name: str) -> types.CodeType:
    """The code object of `name` ("split" or "Tokenizer.encode") inside a compiled file."""
    code = module_code
    for part in name.split("."):
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        code = [c for c in inner if c.co_name == part][-1]
    return code


def running_function(exercise: dict) -> types.FunctionType:
    """The plain function under decorators, static methods and properties, as it is loaded now."""
    *outer, last = exercise["function"].split(".")
    thing = sys.modules.get(Path(exercise["file"]).stem)
    if thing is None:
        raise Unchangeable(f"{exercise['file']} is not loaded yet")
    for part in outer:
        thing = getattr(thing, part)
    thing = vars(thing)[last]
    while not isinstance(thing, types.FunctionType) or hasattr(thing, "__wrapped__"):
        inner = [getattr(thing, name) for name in ("__wrapped__", "__func__", "fget")
                 if hasattr(thing, name)]
        if not inner:
            raise Unchangeable(f"{exercise['function']} is a {type(thing).__name__}")
        thing = inner[0]
    return thing


def exchange(exercise: dict, text: str) -> None:
    """Give the running function the body that it has in `text`."""
    function = running_function(exercise)
    if "__class__" in function.__code__.co_freevars:    # super() may be gone: keep its cell
        lines = learn.cut(text, exercise["function"])
        indent = lines[1][0][:len(lines[1][0]) - len(lines[1][0].lstrip())]
        text = "".join([*lines[0], *lines[1], f"{indent}if 0: __class__\n", *lines[2]])
    path = str(exercise["folder"] / exercise["file"])
    code = code_of(compile(text, path, "exec", dont_inherit=True), exercise["function"])
    if code.co_freevars != function.__code__.co_freevars:
        raise Unchangeable(f"{exercise['function']} closes over other names")
    function.__code__ = code


# ---------------------------------------------------------------- which tests reach which function

class Reached:
    """Notes which listed functions run, in this process and in those forked from it."""

    def __init__(self):
        self.open = [set()]              # one set per unit of work under way: test, fixture
        self.owner = self.notes = None

    def listen(self) -> None:
        """From now on, hear of processes that this one forks, through a file."""
        self.owner, self.notes = os.getpid(), tempfile.TemporaryFile()

    def __call__(self, name: str) -> None:
        if name not in self.open[-1]:
            for unit in self.open:
                unit.add(name)
            if self.notes and self.owner != os.getpid():    # a forked rank of a test
                os.write(self.notes.fileno(), f"{name}\n".encode())

    def begin(self) -> None:
        """Begin a unit of work; `end` gives what ran since."""
        self.open.append(set())

    def end(self) -> set[str]:
        """What ran since the matching `begin`."""
        if self.notes:
            self.notes.seek(0)
            for name in set(self.notes.read().decode().split()):
                self(name)
            self.notes.seek(0)
            self.notes.truncate()
        return self.open.pop()


def mark_listed_functions(exercises: list[dict], reached: Reached) -> None:
    """From now on, importing a chapter's file puts `reached(id)` at the head of listed bodies."""
    files = {}
    for exercise in exercises:
        if exercise["kind"] == "write":
            path = str(exercise["folder"] / exercise["file"])
            files.setdefault(path, []).append(exercise)
    plain = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader, fullname):
        path = loader.get_filename(fullname)
        if path not in files:
            return plain(loader, fullname)
        source = Path(path).read_bytes().decode("utf-8")
        tree = ast.parse(source)
        for exercise in files[path]:
            nodes, name = tree.body, exercise["function"].split(".")
            for part in name:
                node = [n for n in nodes if getattr(n, "name", None) == part][-1]
                nodes = node.body
            if any("jit" in ast.unparse(d) for d in node.decorator_list):
                continue                                    # a kernel's text is read by Triton
            call = ast.parse(f"__reached__({exercise['id']!r})").body[0]
            at = 1 if ast.get_docstring(node) is not None else 0
            for part in ast.walk(call):
                ast.copy_location(part, node.body[at])
            node.body.insert(at, call)
        return compile(tree, path, "exec", dont_inherit=True)

    builtins.__reached__ = reached
    importlib.machinery.SourceFileLoader.get_code = get_code


# ---------------------------------------------------------------- the session

class Selfcheck:
    """A pytest plugin: its run loop is the whole self-check; results land in `self.report`."""

    def __init__(self, exercises: list[dict], workers: int):
        self.exercises = {e["id"]: e for e in exercises if e["kind"] == "write"}
        self.others = [e for e in exercises if e["kind"] != "write"]
        self.workers = workers
        self.reached = Reached()
        self.by_fixture = {}
        self.report = {"misses": [], "leaks": [], "broken": [], "slow": [], "refused": [],
                       "caught": 0, "right": 0}
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
        for exercise, wrong in self.in_children(self.others, self.other_kind, 120):
            self.report["misses"] += [f"{exercise['id']} {exercise['title']}: {line}" for line in
                                      (["it did not come to an end"] if wrong is None else wrong)]
        return True

    def survey(self) -> None:
        """Run the reference: what fails, how long each test takes, what it reaches."""
        files = list(dict.fromkeys(i.fspath for i in self.items))
        late = set()
        shares = [[i for i in self.items if i.fspath == f] for f in files]
        self.seconds, own, fixtures = {}, {}, {}
        if "torch" in sys.modules:
            importlib.import_module("torch._dynamo")        # every first optimizer loads it: 3 s
        for _, answer in self.in_children(shares, self.survey_share, 600):
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
        self.reach = {}
        for item in self.items:
            names = set(own.get(item.nodeid, ()))
            for defs in item._fixtureinfo.name2fixturedefs.values():
                for d in defs:
                    if d.scope != "function":
                        names |= fixtures.get(f"{d.baseid}::{d.argname}", set())
            self.reach[item.nodeid] = names

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
        jobs = [(e, name, text) for e in self.exercises.values()
                for name, text in [*learn.variants(e), *second_answer(e)]]
        for (exercise, name, text), failed in self.in_children(jobs, self.variant, 300):
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
            if failed - {own, "*"} and name not in ("blank", SECOND):
                self.report["leaks"].append(f"{where}: also reddens "
                                            + ", ".join(sorted(failed - {own, "*"})))

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
                exchange(other, learn.variants(other)[0][1])
        source = (exercise["folder"] / exercise["file"]).read_bytes().decode("utf-8")
        results = []
        for text in (source, learn.plant(source, exercise, exercise)):
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

    def in_children(self, jobs, work, limit: float):
        """Call work(job) in forked children, some at a time; yields (job, answer or None)."""
        jobs, running = iter(jobs), {}
        while True:
            while len(running) < self.workers and (job := next(jobs, None)) is not None:
                scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
                read, write = os.pipe()
                child = os.fork()
                if child == 0:
                    self.live(work, job, write, scratch.name)
                os.close(write)
                running[read] = (job, child, time.time() + limit, scratch, [])
            if not running:
                return
            ready = select.select(list(running), [], [], 1)[0]
            for pipe in list(running):
                job, child, deadline, scratch, parts = running[pipe]
                parts.append(os.read(pipe, 1 << 16) if pipe in ready else b"")
                if pipe in ready and not parts[-1] or time.time() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    os.close(pipe)
                    del running[pipe]
                    scratch.cleanup()
                    answer = b"".join(parts)
                    yield job, json.loads(answer) if answer else None

    def live(self, work, job, write: int, scratch: str) -> None:
        """The life of a forked child: quiet, in a folder of its own, one answer."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        os.environ["TMPDIR"] = tempfile.tempdir = scratch
        self.factory._basetemp = Path(scratch).resolve()
        try:
            answer = json.dumps(work(job)).encode()
            with os.fdopen(write, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)


def second_answer(exercise: dict) -> list[tuple[str, str]]:
    """The exercise's second right answer, if it has one, as a variant of its file."""
    body = SECOND_ANSWERS.get(exercise["id"])
    if body is None or exercise["folder"].parent != learn.ROOT:
        return []
    source = (exercise["folder"] / exercise["file"]).read_bytes().decode("utf-8")
    before, _, after = learn.cut(source, exercise["function"])
    indent = " " * (learn.find_function(source, exercise["function"]).col_offset + 4)
    return [(SECOND, "".join([*before, textwrap.indent(body.lstrip("\n"), indent), *after]))]


def wrong_with_number(exercise: dict) -> list[str]:
    """The answer is accepted to its tolerance; each wrong idea is refused, ten tolerances away."""
    names = {}
    exec(exercise["answer"], names)
    answer, tolerance = float(names["answer"]), exercise["tolerance"]
    ideas = {b["name"]: float(eval(b["answer"], dict(names))) for b in exercise.get("bugs", [])}
    computed = {exercise["id"]: {"answer": answer, "wrong": ideas}}
    handed = {**exercise, "codes": learn.codes(exercise, answer * (1 - tolerance),
                                               answer * (1 + tolerance))}
    wrong = [] if len(ideas) >= 2 else ["fewer than two wrong ideas"]
    for form in (exercise, handed):
        def judge(number):
            return learn.judge_number(form, f"{exercise['id']} = {number!r}\n", computed)
        wrong += [f"{answer * part} is refused" for part in
                  (1, 1 - 0.9 * tolerance, 1 + 0.9 * tolerance) if not judge(answer * part)[0]]
        for name, value in ideas.items():
            if abs(value - answer) < 10 * tolerance * abs(answer):
                wrong.append(f"{name}: {value:g} is too near to {answer:g}")
            elif judge(value)[0] or form is exercise and name not in judge(value)[1]:
                wrong.append(f"{name}: {value:g} is not told apart: {judge(value)[1]}")
    return wrong


def clear_caches() -> None:
    """Forget what functions of the chapters remember: a remembered answer hides who made it."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if Path(file).parent.parent == learn.ROOT:
            for thing in list(vars(module).values()):
                if hasattr(thing, "cache_clear") and hasattr(thing, "__wrapped__"):
                    thing.cache_clear()


def mark_of(item) -> str | None:
    mark = item.get_closest_marker("exercise")
    return mark.args[0] if mark else None


def run_item(item, following, limit: float) -> str:
    """Run one test with its fixtures; "passed", "failed", "skipped" or "not started"."""
    def ring(*_):
        raise EndlessLoop(f"over {limit:.1f} s")
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit, 1)
    try:
        reports = runtestprotocol(item, log=False, nextitem=following)
    except EndlessLoop:
        return "failed"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if any(r.failed for r in reports):
        return "failed"
    skipped = [r for r in reports if r.skipped]
    if skipped and isinstance(skipped[0].longrepr, tuple) \
            and str(skipped[0].longrepr[2]).startswith("not started"):
        return "not started"
    return "skipped" if skipped else "passed"


def slow_way(exercise: dict, text: str) -> list[str] | None:
    """A fresh pytest over the chapter, the changed file in front of the path."""
    with tempfile.TemporaryDirectory() as overlay:
        (Path(overlay) / exercise["file"]).write_bytes(text.encode("utf-8"))
        record = Path(overlay) / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--exercise", "all",
                   "--outcomes", str(record), "--basetemp", str(Path(overlay) / "tmp"),
                   str(learn.ROOT / "tests" / exercise["folder"].name)]
        try:
            subprocess.run(command, cwd=learn.ROOT, capture_output=True, timeout=SLOW_LIMIT,
                           env=os.environ | {"BUILD_LLM_OVERLAY": overlay})
        except subprocess.TimeoutExpired:
            return None
        if not record.exists():
            return None
        seen = json.loads(record.read_text())
    return sorted({key.split("|")[0] for key, outcome in seen.items()
                   if outcome in ("failed", "not started")}) if seen else None


def check(exercises: list[dict], workers: int) -> dict:
    """The report of a self-check over these exercises: lists of what went wrong, and counts."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}     # forks and CUDA: never
    sys.dont_write_bytecode = True
    plugin = Selfcheck(exercises, workers)
    folders = list(dict.fromkeys(e["folder"].name for e in exercises))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["-q", "-s", "--tb=no", "--exercise", "all",
                            *(str(learn.ROOT / "tests" / name) for name in folders)], [plugin])
    if code not in (0, 5):
        plugin.report["broken"].append(f"pytest ended with {code!r}: {said.getvalue()[-1000:]}")
    return plugin.report
