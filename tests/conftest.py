"""One thread, the chapters on the path, and whose code is tested. Imports nothing heavy.

    pytest                  the reference
    pytest --mine           the same tests against the student's copy in mine/
    pytest --exercise 1.2   only the tests of one exercise ("all": of every exercise)
"""

import builtins
import json
import os
import re
import shutil
import sys
import threading
import tomllib
from pathlib import Path

import pytest

# Two torch threads on a busy machine are slower than one (measured 2.5 to 3.5 times).
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
GPU = bool(shutil.which("nvidia-smi"))
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(p for p in ROOT.glob("0[1-7]_*") if p.is_dir())
sys.path[:0] = [str(ROOT), *map(str, CHAPTERS)]
from learning import callers_data  # noqa: E402
from learning.write_fence import fence, look_at_judges, replaced  # noqa: E402


def bars_of_its_own() -> None:
    """A forked child's progress bars wait for nobody: tqdm's lock is one for all processes, and a
    child that a test kills while it holds that lock would stop every later bar for good."""
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.set_lock(threading.RLock())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=bars_of_its_own)
outcomes = {}
judges = []                     # while grading: what the tests judge with, as it was before


def pytest_addoption(parser):
    parser.addoption("--mine", action="store_true", help="test the student's code in mine/")
    parser.addoption("--exercise", help="only this exercise's tests")
    parser.addoption("--first", action="store_true", help="end at the first failure")
    parser.addoption("--outcomes", help="write {exercise|test: outcome} to this JSON file")


def seal_record(config, seal):
    """Open the record of outcomes before any code under test runs, to write it at the end."""
    path = config.getoption("--outcomes")
    record = open(path, "w", encoding="utf-8") if path else None

    def write():
        if record:
            record.write(json.dumps({"seal": seal, "outcomes": outcomes}))
            record.close()
    config.add_cleanup(write)


def watch_functions(config):
    """Exercises leave their caller's data alone: watch the listed functions while they are graded."""
    if os.environ.get("BUILD_LLM_WATCH"):
        callers_data.watch(json.loads(os.environ["BUILD_LLM_WATCH"]))
    elif config.getoption("--exercise") and not hasattr(builtins, "__reached__"):
        callers_data.watch([(e["file"], e["function"], e.get("changes", ()))
                            for file in ROOT.glob("0*/exercises.toml")
                            for e in tomllib.loads(file.read_text("utf-8")).get("exercise", [])
                            if e.get("kind", "write") == "write"])


def pytest_configure(config):
    watch_functions(config)
    if os.environ.get("BUILD_LLM_FENCE"):
        # The first line on standard input seals the record: the code under test never saw it.
        seal_record(config, sys.__stdin__.readline().strip())
        texts = [Path(a).read_text("utf-8") for a in config.args if a.endswith(".py")]
        for name in ("numpy", "torch"):
            if any(name in text for text in texts):
                __import__(name)
        judges.extend(look_at_judges())
        fence(os.environ["BUILD_LLM_FENCE"], os.environ.get("BUILD_LLM_HIDE"),
              os.environ.get("BUILD_LLM_GRADED"))
    in_front = []
    if config.getoption("--mine"):
        in_front = sorted(p for p in (ROOT / "mine").glob("0*") if p.is_dir())
        if not in_front:
            raise pytest.UsageError("mine/ is empty, so --mine would test the reference: "
                                    "run python learn.py start 1")
    if os.environ.get("BUILD_LLM_OVERLAY"):
        in_front.insert(0, Path(os.environ["BUILD_LLM_OVERLAY"]))
    if in_front:
        paths = list(map(str, in_front))
        sys.path[:0] = paths
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(paths + ([before] if before else []))


def pytest_report_header(config):
    if config.getoption("--mine"):
        return "whose code: YOURS, from mine/"


def pytest_collection_modifyitems(config, items):
    if GPU and os.environ.get("CUDA_VISIBLE_DEVICES") != "" and not config.getoption("--exercise"):
        # Where torch sees a GPU it refuses autograd in the fork of a process that has used it.
        why = "forks after autograd; CUDA_VISIBLE_DEVICES= python -m pytest runs it"
        for item in items:
            if hasattr(item.module, "run_ranks") or item.module.__name__.endswith("selfcheck"):
                item.add_marker(pytest.mark.skip(reason=why))
    wanted = config.getoption("--exercise")
    if wanted:
        def chosen(item):
            mark = item.get_closest_marker("exercise")
            return mark and (wanted == "all" or mark.args[0] == wanted)
        dropped = [item for item in items if not chosen(item)]
        items[:] = [item for item in items if chosen(item)]
        config.hook.pytest_deselected(items=dropped)


def without_dynamo():
    """The first optimizer loads torch's compiler, three seconds, to switch it off where it may be
    on. No test of an exercise compiles, so say beforehand that there is nothing to switch off."""
    if "torch.optim" in sys.modules:
        torch = sys.modules["torch"]
        for thing in [*vars(torch.optim.Optimizer).values(), torch.manual_seed]:
            code, plain = getattr(thing, "__code__", None), getattr(thing, "__wrapped__", None)
            if plain and code and code.co_filename.endswith("_compile.py"):
                plain.__dynamo_disable = plain


def pytest_collection_finish(session):
    """With --mine, a listed module that came from the reference would be a false pass."""
    if session.config.getoption("--exercise"):
        without_dynamo()
    for item in session.items:          # what ends the session early leaves the rest not run
        if mark := item.get_closest_marker("exercise"):
            outcomes[f"{mark.args[0]}|{item.nodeid}"] = "not run"
    if not session.config.getoption("--mine"):
        return
    for chapter in sorted((ROOT / "mine").glob("0*")):
        for file in chapter.glob("*.py"):
            module = sys.modules.get(file.stem)
            source = getattr(module, "__file__", None)
            lent = os.environ.get("BUILD_LLM_OVERLAY") and Path(
                os.environ["BUILD_LLM_OVERLAY"], file.name).resolve()
            if source and Path(source).resolve() not in (file.resolve(), lent):
                pytest.exit(f"{file.stem} was loaded from {source}, not from {file}", returncode=3)


def not_started(excinfo):
    """(file, line, message) if a blanked body was met, in this process or in a rank of it."""
    said = str(excinfo.value)
    if excinfo.errisinstance(NotImplementedError) and said.startswith("exercise "):
        last = excinfo.traceback[-1]
        return Path(str(last.path)), last.lineno + 1, said
    told = re.findall(r'File "([^"]+)", line (\d+)(?:(?! *File ").*\n)*?'
                      r"NotImplementedError: (exercise .*)", said)
    return (Path(told[-1][0]), int(told[-1][1]), told[-1][2]) if told else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A blanked body is 'not started', shown with its file and line instead of a traceback."""
    raised = call.excinfo               # before pytest turns unittest's SkipTest into its own
    report = (yield).get_result()
    outcome = report.outcome
    blank = call.excinfo and not_started(call.excinfo)
    if blank:
        place, line, said = blank
        place = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
        report.outcome, outcome = "skipped", "not started"
        report.longrepr = (str(place), line, f"not started, {said}")
    elif report.skipped and raised and any(
            Path(str(entry.path)).parent.parent in (ROOT, ROOT / "mine")
            and Path(str(entry.path)).parent.name[0] == "0" for entry in raised.traceback):
        report.outcome = outcome = "failed"
        report.longrepr = f"skipped by the code under test, not by the test: {raised.value}"
    if report.when == "teardown" and (names := replaced(judges)):
        report.outcome = outcome = "failed"
        report.longrepr = f"the code under test replaced {names}"
    if outcome in ("failed", "not started") and item.config.getoption("--first"):
        item.session.shouldfail = "the first failure; --all shows every one"
    mark = item.get_closest_marker("exercise")
    if mark and (report.when == "call" or outcome != "passed"):
        outcomes[f"{mark.args[0]}|{item.nodeid}"] = outcome


def pytest_runtest_setup(item):
    callers_data.counts.clear()


def pytest_sessionfinish(session):
    if session.config.getoption("--outcomes") and not os.environ.get("BUILD_LLM_FENCE"):
        Path(session.config.getoption("--outcomes")).write_text(json.dumps(outcomes))
