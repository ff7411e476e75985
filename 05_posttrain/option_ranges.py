"""What the options of this chapter's commands may be, in one table, checked in one place.

    args = parsed(parser)                   # instead of parser.parse_args()
    args = parsed(parser, batch=(4, None))  # a command that needs more than the table asks for

A value outside ends the command with one line that names the flag, before any work.
"""

import argparse
import math

# name: (least, most, is `least` itself allowed). None: no limit. A bool is not looked at.
RANGES: dict[str, tuple[float | None, float | None, bool]] = {
    "answers": (2, None, True), "batch": (1, None, True), "best_of": (1, None, True),
    "beta": (0, None, True), "epochs": (0, None, False), "examples": (1, None, True),
    "group": (2, None, True), "iterations": (1, None, True), "kl_target": (0, None, False),
    "label_smoothing": (0, 0.5, True), "learning_rate": (0, 1, False), "limit": (1, None, True),
    "lora": (0, None, True),
    "max_new_tokens": (1, None, True), "pairs": (1, None, True), "prompts": (1, None, True),
    "questions": (1, None, True), "rounds": (1, None, True), "seed": (0, 2**40, True),
    "seeds": (1, None, True), "sharpness": (0, None, False), "steps": (1, None, True),
    "temperature": (0, None, True), "threads": (1, 1024, True), "workers": (1, 1024, True)}


def out_of_range(name: str, value, least: float | None = None, most: float | None = None,
                 least_itself: bool = True) -> str:
    """What is wrong with `value` for the option `name`, in one line; "" if nothing is.

    nan and infinities are wrong everywhere. `out_of_range("beta", -1, 0)` is
    "--beta -1 must be at least 0".
    """
    wanted = []
    if least is not None:
        wanted.append(f"at least {least:g}" if least_itself else f"above {least:g}")
    if most is not None:
        wanted.append(f"at most {most:g}")
    low = least is not None and (value < least or value == least and not least_itself)
    high = most is not None and value > most
    if not math.isfinite(value) or low or high:
        return f"--{name.replace('_', '-')} {value:g} must be {' and '.join(wanted) or 'finite'}"
    return ""


def parsed(parser: argparse.ArgumentParser, **tighter: tuple) -> argparse.Namespace:
    """The command line, every number in its range (`tighter` replaces entries of the table), else
    the parser's one line that names the flag: argparse knows an option's type, not its range."""
    args = parser.parse_args()
    for name, value in vars(args).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if wrong := out_of_range(name, value, *tighter.get(name, RANGES.get(name, ()))):
                parser.error(wrong)
    return args
