"""Strangers' code under limits of time, memory and file size; nothing that it starts outlives it.

`run_limited` starts a fresh Python for each run. `ForkedRuns` loads pytest, numpy and torch once
and forks a fresh child for each: the same limits, without three seconds of imports (Linux).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SAID = 4000                             # bytes kept of what a run printed: its end


def environment_of(home: Path, more: dict) -> dict:
    """The changes to the environment of a limited run, whose files go to `home`."""
    return {**{name: str(home) for name in (
        "HOME", "TMPDIR", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
        "BUILD_LLM_OUT")}, "BUILD_LLM_FENCE": str(home), "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1", **more}


def run_limited(command: list, folder: Path, limit: float, environment: dict, seal: str = ""
                ) -> tuple[int | None, str]:
    """Run a command in `folder`; (exit code, end of output). The code is None if time ran out.

    Its files go to a home of its own beside `folder`, and the fence refuses writes elsewhere. Its
    process group is killed, and on Linux whatever still carries its environment.
    """
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, **environment_of(home, environment)}
    posix = {"start_new_session": True, "preexec_fn": limit_resources} if os.name == "posix" else {}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment,
                                 stdin=subprocess.PIPE, **posix)
        try:
            with contextlib.suppress(OSError), child.stdin as pipe:
                pipe.write(seal.encode())
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            child.kill()
        finally:
            if posix:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            kill_strays(f"BUILD_LLM_FENCE={home}".encode())
        output = end_of(log)
    return code, output if code is not None else f"stopped after {limit:g} s: an endless loop?"


def end_of(log) -> str:
    """The end of an open file of output: a student's prints may be endless."""
    log.seek(max(0, log.seek(0, 2) - SAID))
    return log.read().decode("utf-8", "replace")


def kill_strays(mark: bytes) -> None:
    """On Linux: end what left the process group, found by a mark in its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def limit_resources() -> None:
    """In the child, before it starts: 4 GB of memory, files of 64 MB, no core dump; and where no
    GPU maps its memory, 24 GB of addresses, which count shared maps too."""
    import resource
    limits = [(resource.RLIMIT_DATA, 4 << 30), (resource.RLIMIT_FSIZE, 64 << 20),
              (resource.RLIMIT_CORE, 0)]
    if not Path("/dev/nvidiactl").exists():
        limits.append((resource.RLIMIT_AS, 24 << 30))
    for what, most in limits:
        with contextlib.suppress(OSError, ValueError):  # macOS knows no such limit, or a lower one
            resource.setrlimit(what, (most, most))


# ---------------------------------------------------------------- one server, a fork for each run

class ForkedRuns:
    """A process that has loaded what tests need and forks a child for each run of pytest."""

    def __init__(self, modules: list[str], patterns: list[tuple]):
        """What the server imports, and the regular expressions (text, flags) that it compiles."""
        self.known, self.server = (modules, patterns), None

    def run(self, arguments: list[str], folder: Path, limit: float, environment: dict,
            seal: str = "") -> tuple[int | None, str]:
        """As `run_limited` of `python -m pytest *arguments`."""
        if sys.platform != "linux":
            return run_limited([sys.executable, "-m", "pytest", *arguments], folder, limit,
                               environment, seal)
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        if self.server is None or self.server.poll() is not None:
            self.start()
        with tempfile.NamedTemporaryFile() as log:
            job = {"arguments": arguments, "folder": str(folder), "limit": limit, "log": log.name,
                   "seal": seal, "environment": environment_of(home, environment)}
            self.server.stdin.write(json.dumps(job) + "\n")
            self.server.stdin.flush()
            answer = self.server.stdout.readline()
            output = end_of(log)
        if not answer:
            return -9, f"the run died\n{output}"
        code = json.loads(answer)
        return code, output if code is not None else f"stopped after {limit:g} s: an endless loop?"

    def start(self) -> None:
        room = Path(__file__).resolve()
        # Loaded by path, so that the server's own path and modules stay those of a plain Python.
        code = f"import runpy; runpy.run_path({str(room)!r})['serve']()"
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-c", code], cwd=room.anchor, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                 "TRITON_INTERPRET": os.environ.get("TRITON_INTERPRET", "1"), "MPLBACKEND": "Agg"})
        self.server.stdin.write(json.dumps(repr(self.known)) + "\n")

    def close(self) -> None:
        if self.server:
            self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()


def serve() -> None:
    """The server: load what the first line names, then a line in, a fork, a line out, until the
    input ends."""
    import ast
    import ctypes
    import gc
    import importlib
    import re
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)     # what a run leaves behind becomes ours, to be ended
    modules, patterns = ast.literal_eval(json.loads(sys.stdin.readline()))
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for pattern, flags in patterns:
        with contextlib.suppress(re.error):
            re.compile(pattern, flags)          # kept by Python's own cache of patterns
    gc.freeze()                                 # no run looks for garbage in what all share
    for line in sys.stdin:
        job = json.loads(line)
        told, tell = os.pipe()              # a pipe is read once: nobody finds the seal again
        os.write(tell, (job.pop("seal") + "\n").encode())
        os.close(tell)
        del line
        child = os.fork()
        if child == 0:
            live(job, told)
        os.close(told)
        code = wait_for(child, job["limit"])
        end_children()
        print(json.dumps(code), flush=True)


def live(job: dict, told: int) -> None:
    """The life of a forked child: in its own session, folder and environment, one pytest run."""
    code = 70
    try:
        os.setsid()
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
        for handle, number in ((told, 0), (log, 1), (log, 2)):
            os.dup2(handle, number)
        os.close(log), os.close(told)
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
        os.environ.update(job["environment"])
        tempfile.tempdir = None
        sys.argv = ["pytest", *job["arguments"]]
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:0] = [job["folder"], *filter(None, paths)]        # as python -m does
        signal.signal(signal.SIGINT, signal.default_int_handler)
        limit_resources()
        import pytest
        code = int(pytest.main(job["arguments"]))
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        os._exit(code)


def wait_for(child: int, limit: float) -> int | None:
    """The exit code of a child; None if it had to be killed for time."""
    late = []
    def ring(*_):
        late.append(True)
        os.kill(child, signal.SIGKILL)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    status = os.waitpid(child, 0)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return None if late else os.waitstatus_to_exitcode(status)


def end_children() -> None:
    """Kill what the run left behind, and what that leaves behind."""
    me = os.getpid()
    while True:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == me:
                    os.kill(int(folder.name), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
