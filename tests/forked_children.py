"""The self-check's children: each forked job has its own folder and answers once; one test's run.
"""

import json
import os
import select
import signal
import tempfile
import time
from pathlib import Path

from _pytest.runner import runtestprotocol


class EndlessLoop(BaseException):
    """A test took far longer than with the reference; not an Exception, so no `except` eats it."""


def in_children(jobs, work, limit: float, workers: int, factory):
    """Call work(job) in forked children, some at a time; yields (job, answer or None)."""
    jobs, running = iter(jobs), {}
    while True:
        while len(running) < workers and (job := next(jobs, None)) is not None:
            scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                live(work, job, write, scratch.name, factory)
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


def live(work, job, write: int, scratch: str, factory) -> None:
    """The life of a forked child: quiet, in a folder of its own, one answer."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    factory._basetemp = Path(scratch).resolve()
    try:
        answer = json.dumps(work(job)).encode()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


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
