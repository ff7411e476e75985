"""The fields of Gradescope's results.json, as its documentation publishes them.

Source: Gradescope, "Autograder specifications", section "Output format"
(gradescope-autograders.readthedocs.io/en/latest/specs, 2026). Fields, types and the values that
have names; a field that is not listed would be passed over without a word.
"""

import math

NUMBER, TEXT, ANY = (int, float), str, object
FORMATS = ("text", "html", "simple_format", "md", "ansi")
VISIBLE = ("hidden", "after_due_date", "after_published", "visible")
TOP = {"score": NUMBER, "execution_time": NUMBER, "output": TEXT, "output_format": FORMATS,
       "test_output_format": FORMATS, "test_name_format": FORMATS, "visibility": VISIBLE,
       "stdout_visibility": VISIBLE, "extra_data": dict, "tests": list, "leaderboard": list}
TEST = {"score": NUMBER, "max_score": NUMBER, "status": ("passed", "failed"), "name": TEXT,
        "name_format": FORMATS, "number": TEXT, "output": TEXT, "output_format": FORMATS,
        "tags": list, "visibility": VISIBLE, "extra_data": dict}


def of_kind(value: object, kind: object) -> bool:
    if isinstance(kind, tuple) and isinstance(kind[0], str):
        return value in kind
    if kind is NUMBER:
        return isinstance(value, NUMBER) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def faults(results: dict) -> list[str]:
    """What Gradescope would not take, in words; [] for a file that is as it asks."""
    found = [f"{name}: not one of its fields" for name in results.keys() - TOP]
    found += [f"{name}: {value!r}" for name, value in results.items()
              if name in TOP and not of_kind(value, TOP[name])]
    if "score" not in results and not all("score" in t for t in results.get("tests", [{}])):
        found.append("no score, neither of the whole nor of every test")
    for place, test in enumerate(results.get("tests", [])):
        found += [f"tests[{place}].{name}: not one of its fields" for name in test.keys() - TEST]
        found += [f"tests[{place}].{name}: {value!r}" for name, value in test.items()
                  if name in TEST and not of_kind(value, TEST[name])]
        if not 0 <= test.get("score", 0) <= test.get("max_score", math.inf):
            found.append(f"tests[{place}]: score {test['score']} of {test['max_score']}")
    return found
