"""The self-check's tools: exchange a running function's code, and note which functions run.

Where code cannot be exchanged (a Triton kernel, a function that closes over other names) a fresh
pytest runs with the changed file in front of the path: the slow way, right for everything.
"""

import ast
import builtins
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from learning.callers_data import guard, keep, may_change
from learning.exercises import ROOT
from learning.function_bodies import cut

SLOW_LIMIT = 120                # seconds for one variant the slow way


class Unchangeable(Exception):
    """The running function's code cannot be exchanged: use the slow way."""


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
        lines = cut(text, exercise["function"])
        indent = lines[1][0][:len(lines[1][0]) - len(lines[1][0].lstrip())]
        text = "".join([*lines[0], *lines[1], f"{indent}if 0: __class__\n", *lines[2]])
    path = str(exercise["folder"] / exercise["file"])
    tree = ast.parse(text)
    guard(tree, exercise["function"])
    code = code_of(compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True),
                   exercise["function"])
    if code.co_freevars != function.__code__.co_freevars:
        raise Unchangeable(f"{exercise['function']} closes over other names")
    function.__code__ = code


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
            guard(tree, exercise["function"])
            at = 1 if ast.get_docstring(node) is not None else 0
            for part in ast.walk(call):
                ast.copy_location(part, node.body[at])
            node.body.insert(at, call)
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    builtins.__reached__, builtins.__keep__ = reached, keep
    may_change.update({e["function"]: tuple(e.get("changes", ())) for e in exercises
                       if e["kind"] == "write"})
    importlib.machinery.SourceFileLoader.get_code = get_code


def clear_caches() -> None:
    """Forget what functions of the chapters remember: a remembered answer hides who made it."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if Path(file).parent.parent == ROOT:
            for thing in list(vars(module).values()):
                if hasattr(thing, "cache_clear") and hasattr(thing, "__wrapped__"):
                    thing.cache_clear()


def slow_way(exercise: dict, text: str) -> list[str] | None:
    """A fresh pytest over the chapter, the changed file in front of the path."""
    with tempfile.TemporaryDirectory() as overlay:
        (Path(overlay) / exercise["file"]).write_bytes(text.encode("utf-8"))
        record = Path(overlay) / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--exercise", "all",
                   "--outcomes", str(record), "--basetemp", str(Path(overlay) / "tmp"),
                   str(ROOT / "tests" / exercise["folder"].name)]
        try:
            subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SLOW_LIMIT,
                           env=os.environ | {"BUILD_LLM_OVERLAY": overlay})
        except subprocess.TimeoutExpired:
            return None
        if not record.exists():
            return None
        seen = json.loads(record.read_text())
    return sorted({key.split("|")[0] for key, outcome in seen.items()
                   if outcome in ("failed", "not started")}) if seen else None
