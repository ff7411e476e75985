"""What a graded file may not name: things no exercise needs, and with which tests can be fooled."""

import ast
import re

from learning.function_bodies import UNREADABLE

NOT_GRADED = {"pytest", "_pytest", "pluggy", "conftest", "unittest", "gc", "ctypes", "inspect",
              "importlib", "builtins", "subprocess", "multiprocessing", "exec", "eval",
              "__import__", "sys.modules", "sys._getframe", "os._exit", "os.fork", "__globals__",
              "__builtins__", "__closure__", "__subclasses__", "__code__", "f_globals", "f_back",
              "__torch_function__", "__torch_dispatch__", "__array_ufunc__", "__array_function__",
              "total_ordering"}
# What a test's judgement goes through: an answer that redefines it could agree with anything.
JUDGED_BY = {f"__{name}__" for name in (
    "eq ne gt ge le bool abs round float int index sub rsub truediv rtruediv mod rmod contains "
    "array array_priority instancecheck subclasscheck").split()}
KEYS = {"object", "tuple", "NamedTuple", "Enum"}    # a heap's key may define __lt__, a number not


def bases_of(node: ast.ClassDef) -> set[str]:
    return {getattr(base, "attr", getattr(base, "id", "?")) for base in node.bases}


def named_in(text: str) -> dict[str, int]:
    """{name: line} of what a file imports, names, defines, and takes from os and sys."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0], *(alias.name for alias in node.names),
                     *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr] if node.attr.startswith(("_", "f_", "total_")) else []
            names += [f"{node.value.id}.{node.attr}"] if isinstance(node.value, ast.Name) else []
        elif isinstance(node, ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.ClassDef):
            names = ["a class that compares by its own __lt__"] if any(
                getattr(part, "name", "") == "__lt__" for part in node.body
            ) and bases_of(node) - KEYS else []
        elif isinstance(node, ast.Constant) and re.fullmatch(r"__\w+__", str(node.value)):
            names = [node.value]                        # type("Any", (), {"__eq__": ...})
            names += ["a class that compares by its own __lt__"] if names == ["__lt__"] else []
        found |= {name: node.lineno for name in names if name not in found}
    return found


def not_for_grading(text: str, reference: str, allowed: set[str] = frozenset()) -> str:
    """What a submitted file uses that only a file that fools its tests needs; empty if nothing."""
    try:
        used = named_in(text)
    except UNREADABLE as error:
        return f"line {getattr(error, 'lineno', '?')} is no Python: {error}"
    never = NOT_GRADED | JUDGED_BY | {"a class that compares by its own __lt__"}
    for name in sorted((never & set(used)) - set(named_in(reference)) - allowed):
        return (f"line {used[name]}: {name} is not for graded code: no exercise needs it, and "
                "with it tests can be fooled")
    return ""
