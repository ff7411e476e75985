"""One thread, the chapters on the path, and whose code is tested. Imports nothing heavy.

    pytest                  the reference
    pytest --mine           the same tests against the student's copy in mine/
    pytest --exercise 1.2   only the tests of one exercise ("all": of every exercise)
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

# Two torch threads on a busy machine are slower than one (measured 2.5 to 3.5 times).
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
if not shutil.which("nvidia-smi"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(p for p in ROOT.glob("0[1-7]_*") if p.is_dir())
sys.path[:0] = [str(ROOT), *map(str, CHAPTERS)]
outcomes = {}


def pytest_addoption(parser):
    parser.addoption("--mine", action="store_true", help="test the student's code in mine/")
    parser.addoption("--exercise", help="only this exercise's tests")
    parser.addoption("--outcomes", help="write {exercise|test: outcome} to this JSON file")


def pytest_configure(config):
    in_front = []
    if config.getoption("--mine"):
        in_front = sorted(p for p in (ROOT / "mine").glob("0*") if p.is_dir())
        if not in_front:
            raise pytest.UsageError("mine/ is empty, so --mine would test the reference: "
                                    "run python learn.py start 1")
    if os.environ.get("BUILD_LLM_OVERLAY"):
        in_front = [Path(os.environ["BUILD_LLM_OVERLAY"])]
    if in_front:
        paths = list(map(str, in_front))
        sys.path[:0] = paths
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(paths + ([before] if before else []))


def pytest_report_header(config):
    if config.getoption("--mine"):
        return "whose code: YOURS, from mine/"


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--exercise")
    if wanted:
        def chosen(item):
            mark = item.get_closest_marker("exercise")
            return mark and (wanted == "all" or mark.args[0] == wanted)
        dropped = [item for item in items if not chosen(item)]
        items[:] = [item for item in items if chosen(item)]
        config.hook.pytest_deselected(items=dropped)


def pytest_collection_finish(session):
    """With --mine, a listed module that came from the reference would be a false pass."""
    if not session.config.getoption("--mine"):
        return
    for chapter in sorted((ROOT / "mine").glob("0*")):
        for file in chapter.glob("*.py"):
            module = sys.modules.get(file.stem)
            source = getattr(module, "__file__", None)
            if source and Path(source).resolve() != file.resolve():
                pytest.exit(f"{file.stem} was loaded from {source}, not from {file}", returncode=3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A blanked body is 'not started', shown with its file and line instead of a traceback."""
    report = (yield).get_result()
    outcome = report.outcome
    if call.excinfo and call.excinfo.errisinstance(NotImplementedError) \
            and str(call.excinfo.value).startswith("exercise "):
        last = call.excinfo.traceback[-1]
        place = Path(str(last.path))
        place = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
        report.outcome, outcome = "skipped", "not started"
        report.longrepr = (str(place), last.lineno + 1, f"not started, {call.excinfo.value}")
    mark = item.get_closest_marker("exercise")
    if mark and (report.when == "call" or outcome != "passed"):
        outcomes[f"{mark.args[0]}|{item.nodeid}"] = outcome


def pytest_sessionfinish(session):
    if session.config.getoption("--outcomes"):
        Path(session.config.getoption("--outcomes")).write_text(json.dumps(outcomes))
