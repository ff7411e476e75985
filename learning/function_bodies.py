"""One function's body inside a file: found by Python's parser, cut out, blanked, put back.

Text is cut, never printed anew, so everything around a body keeps every byte.
"""

import ast
import io
import re
import textwrap
import tokenize
from pathlib import Path

from learning.exercises import load_exercises, read

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)     # what ast.parse raises


def find_function(source: str, name: str) -> ast.FunctionDef:
    """The node of `name` ("split" or "Tokenizer.encode"); LookupError if it is not there."""
    nodes = ast.parse(source).body
    *outer, last = name.split(".")
    for part in outer:
        classes = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name == part]
        if not classes:
            raise LookupError(f"class {part} is missing")
        nodes = classes[-1].body
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == last]
    if not functions:
        raise LookupError(f"function {name} is missing")
    return functions[-1]


def body_span(source: str, name: str) -> tuple[int, int]:
    """First and one-past-last line (from 0) of the body of `name`, its docstring not counted."""
    node = find_function(source, name)
    start = node.body[0].lineno - 1
    if ast.get_docstring(node) is not None:
        start = node.body[0].end_lineno
        if len(node.body) == 1:
            raise LookupError(f"function {name} has only a docstring")
    return start, node.end_lineno


def lines_of(source: str) -> list[str]:
    """`source` cut where Python counts a new line (str.splitlines also cuts at form feeds)."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", source)


def cut(source: str, name: str) -> tuple[list[str], list[str], list[str]]:
    """`source` as lines before, inside and after the body of `name`; joined they are `source`."""
    lines = lines_of(source)
    start, end = body_span(source, name)
    return lines[:start], lines[start:end], lines[end:]


def blank(source: str, exercise: dict) -> str:
    """`source` with the exercise's body replaced by a raise; everything else byte for byte."""
    before, body, after = cut(source, exercise["function"])
    node = find_function(source, exercise["function"])
    newline = "\r\n" if body[-1].endswith("\r\n") else "\n"
    stub = (" " * (node.col_offset + 4)
            + f'raise NotImplementedError("exercise {exercise["id"]}: {exercise["title"]}")')
    return "".join([*before, stub + newline, *after])


def is_blank(source: str, exercise: dict) -> bool:
    """Whether the exercise's body still raises what `blank` put there."""
    try:
        return f'NotImplementedError("exercise {exercise["id"]}:' in "".join(
            cut(source, exercise["function"])[1])
    except (*UNREADABLE, LookupError):
        return False


def with_body(source: str, exercise: dict, body: str) -> str:
    """`source` with the lines of `body`, indented to fit, in place of the exercise's body."""
    before, _, after = cut(source, exercise["function"])
    indent = " " * (find_function(source, exercise["function"]).col_offset + 4)
    return "".join([*before, textwrap.indent(body.strip("\n") + "\n", indent), *after])


def graft(target: str, donor: str, name: str) -> str:
    """`target` with the body of `name` taken from `donor`."""
    before, _, after = cut(target, name)
    body = cut(donor, name)[1]
    if body and not body[-1].endswith("\n") and after:
        body[-1] += "\n"
    return "".join([*before, *body, *after])


def blank_chapter(folder: Path) -> dict[str, str]:
    """{file name: text with every listed body blanked} for the files that hold exercises."""
    texts = {}
    for exercise in load_exercises(int(folder.name[:2]), folder.parent):
        if exercise["kind"] != "write":
            continue
        file = exercise["file"]
        if file not in texts:
            texts[file] = read(folder / file)
        texts[file] = blank(texts[file], exercise)
    return texts


def hints(exercise: dict) -> list[str]:
    """The sub-goals: listed ones, or the comments inside the reference body, in order."""
    if "hints" in exercise:
        return exercise["hints"]
    body = cut(read(exercise["folder"] / exercise["file"]), exercise["function"])[1]
    text, found, last = "".join(body), [], -2
    for token in tokenize.generate_tokens(io.StringIO("if 1:\n" + text).readline):
        if token.type == tokenize.COMMENT:
            comment = token.string.lstrip("# ").rstrip()
            whole_line = token.line.strip().startswith("#")
            if whole_line and last == token.start[0] - 1:
                found[-1] += " " + comment
            else:
                found.append(comment)
            last = token.start[0] if whole_line else -2
    return found


def lines_of_function(lines: list[str], name: str) -> tuple[int, int] | None:
    """First and one-past-last line of `name` by its indentation, in a file that does not parse."""
    *outer, last = name.split(".")
    inside = not outer
    for i, line in enumerate(lines):
        stripped = line.lstrip()
        depth = len(line) - len(stripped)
        if outer and depth == 0 and stripped.startswith("class "):
            inside = bool(re.match(rf"class {outer[-1]}\b", stripped))
        if not inside or not stripped.startswith(f"def {last}(") or (depth > 0) != bool(outer):
            continue
        end = next((j for j in range(i + 1, len(lines)) if lines[j].strip()
                    and len(lines[j]) - len(lines[j].lstrip()) <= depth
                    and not lines[j].lstrip().startswith((")", "#"))), len(lines))
        return i, end
    return None


def salvage(text: str, name: str) -> str | None:
    """The lines of one function from a file that does not parse, as a file of their own."""
    lines = lines_of(text)
    span = lines_of_function(lines, name)
    if span is None:
        return None
    outer = name.split(".")[:-1]
    return "".join(f"class {part}:\n" for part in outer) + "".join(lines[slice(*span)])


def why_unreadable(text: str) -> str:
    """What Python's parser says against a text ("line 7: ..."); empty if it parses."""
    try:
        ast.parse(text)
    except UNREADABLE as error:
        line = getattr(error, "lineno", None)
        return f"line {line}: {error.msg}" if line else str(error) or type(error).__name__
    return ""
