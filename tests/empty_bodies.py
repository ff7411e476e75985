"""No points for nothing: what a body earns that does no work, and how many tests a blank fails.

Part of the self-check. A body that gives back nothing or its first argument must fail at least one
test of every exercise, and a blank at least three, unless `few_tests` in exercises.toml says why
fewer are enough. `selfcheck --mutants` without a sample tries every constant and every argument.
"""

import contextlib

from exchanged_code import Unchangeable, clear_caches, exchange
from forked_children import run_item
from learning.bug_hunts import variants
from learning.exercises import read
from learning.function_bodies import find_function, with_body

ENOUGH = 3
PATIENCE = 3.0                  # seconds a test may take longer than ten times the reference's


def empty_bodies(exercise: dict) -> list[tuple[str, str]]:
    """(body, whole file): nothing given back, and the first argument."""
    source = read(exercise["folder"] / exercise["file"])
    inside = find_function(source, exercise["function"]).args
    names = [a.arg for a in inside.posonlyargs + inside.args + inside.kwonlyargs]
    return [(text, with_body(source, exercise, f"return {text}"))
            for text in ("None", *[n for n in names if n not in ("self", "cls", "ctx")][:1])]


def failures(exercise: dict, text: str, items: list, seconds: dict, most: int) -> int:
    """How many of these tests fail with this text, counted up to `most`; clears up after each."""
    exchange(exercise, text)
    clear_caches()
    failed = 0
    for item, following in zip(items, [*items[1:], None]):
        limit = PATIENCE + 10 * seconds[item.nodeid]
        if run_item(item, following, limit) in ("failed", "not started"):
            failed += 1
            if failed == most:
                item.session._setupstate.teardown_exact(None)   # leave its module
                break
    return failed


def without_work(exercise: dict, items: list, seconds: dict) -> list[str]:
    """In a child: what is wrong with one exercise's tests, if somebody does nothing."""
    items = sorted(items, key=lambda item: seconds[item.nodeid])    # the quick ones first
    wrong = []
    with contextlib.suppress(Unchangeable):             # a kernel: its blank goes the slow way
        wrong += [f"a body of `return {body}` passes" for body, text in empty_bodies(exercise)
                  if not failures(exercise, text, items, seconds, 1)]
        few = failures(exercise, variants(exercise)[0][1], items, seconds, ENOUGH)
        if few < ENOUGH and not exercise.get("few_tests"):
            wrong.append(f"a blank fails {few} tests, not {ENOUGH}: add some, or few_tests = why")
        if few >= ENOUGH and exercise.get("few_tests"):
            wrong.append("few_tests gives a reason, but there are enough")
    return wrong
