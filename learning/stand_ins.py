"""What is broken or blank elsewhere costs its own exercise alone, while a student checks one.

A file with a syntax error inside one listed function is tested with that function raising the
error; a function that is not started, and that another exercise needs, is lent by the reference.
Both happen in a copy that lies in front of the student's file for this one run.
"""

import textwrap
from pathlib import Path

from learning.exercises import find_exercise, load_exercises, read, student_file, write
from learning.function_bodies import (graft, is_blank, lines_of, lines_of_function,
                                      why_unreadable)


def isolate(text: str, names: list[str]) -> tuple[str, dict[str, str]]:
    """A text that parses, with as many lines, and {function: what is wrong with it}; a break
    outside the named functions stays, under the name ""."""
    wrong = {}
    if not why_unreadable(text):
        return text, wrong
    lines = lines_of(text)
    for name in names:
        span = lines_of_function(lines, name)
        if span is None:
            continue
        first, end = span
        part = textwrap.dedent("".join(lines[first:end]))
        if said := why_unreadable(part):
            number, _, message = said.removeprefix("line ").partition(": ")
            said = f"line {int(number) + first}: {message}" if number.isdigit() else said
            indent = lines[first][:len(lines[first]) - len(lines[first].lstrip())]
            stub = (f"{indent}def {name.split('.')[-1]}(*_, **__): "
                    f"raise SyntaxError({said!r})\n")
            lines[first:end] = [stub] + ["\n"] * (end - first - 1)
            wrong[name] = said
    text = "".join(lines)
    if said := why_unreadable(text):
        wrong[""] = said
    return text, wrong


def stand_in(exercises: list[dict], folder: Path, lend: bool = True) -> tuple[bool, list[str]]:
    """Write into `folder` the files of these exercises (and of those that they need) that must be
    mended for a run; whether there are any, and what to tell the student."""
    told, texts = [], {}
    needs = [find_exercise(name) for e in exercises for name in e.get("needs", [])] if lend else []
    for exercise in [*exercises, *needs]:
        file = student_file(exercise)
        if exercise["kind"] == "write" and file not in texts and file.exists():
            names = [e["function"] for e in load_exercises(exercise["chapter"])
                     if e.get("file") == exercise["file"] and e["kind"] == "write"]
            text = read(file)
            texts[file], wrong = isolate(text, names)
            told += [f"{file.name} {said}" + (f" (in {name})" if name else "")
                     for name, said in wrong.items()]
    for need in needs:
        file = student_file(need)
        if file in texts and is_blank(texts[file], need):
            if need["handout"]:
                told.append(f"{need['id']} ({need['function']}) comes first: its tests use it")
                continue
            texts[file] = graft(texts[file], read(need["folder"] / need["file"]), need["function"])
            told.append(f"{need['id']} ({need['function']}) is not started: the reference's "
                        "stands in for it")
    changed = {file: text for file, text in texts.items() if text != read(file)}
    for file, text in changed.items():
        write(folder / file.name, text)
    return bool(changed), list(dict.fromkeys(told))
