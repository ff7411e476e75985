"""The page for a question: what the reader's own Python says of the name that is asked about.

    with_documentation("What does json.dumps do?")
    -> ("# json.dumps: Serialize ...\\n\\nWhat does json.dumps do?", "json.dumps")

Retrieval in its smallest form: the name in the question is the key, `pydoc` finds the object in
any installed package, its documentation becomes the page. Looking an object up imports its module,
which runs that module's code: so it is done in another process, with a time limit.
"""

import functools
import json
import re
import subprocess
import sys

from doc_entries import Entry
from open_book import PageEntry, page_entry, with_page

WORDS = frozenset("""what does do is a an the class or function which module holds return returns
    of list arguments how to in python i use tell me about explain for it and you can please mean
    """.split())
LOOK_UP = """
import contextlib, inspect, io, json, pydoc, sys
name = sys.argv[1]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    thing = pydoc.locate(name)
    try:
        arguments = str(inspect.signature(thing))
    except (TypeError, ValueError):
        arguments = "(...)"
    doc = inspect.getdoc(thing) if thing is not None else None
print(json.dumps({"doc": doc, "arguments": arguments, "is_class": inspect.isclass(thing),
                  "callable": callable(thing)}))
"""


def names_in(question: str) -> list[str]:
    """The words of a question that may be names, the likeliest first: dotted ones, then those with
    an underscore or a capital inside, then others; no everyday words. At most three.

    "What does numpy.array_split do?" -> ["numpy.array_split"].
    """
    found = [w for w in re.findall(r"[A-Za-z_][\w.]*\w|[A-Za-z_]", question)
             if w.lower() not in WORDS]
    likely = sorted(dict.fromkeys(found), key=lambda w: (
        "." not in w, "_" not in w and not re.search(r"[a-z][A-Z]", w)))
    return likely[:3]


@functools.lru_cache(maxsize=256)
def documented(name: str, seconds: float = 15.0) -> dict | None:
    """{"doc", "arguments", "is_class"} of an installed object, or None if there is none with a
    text, or if its module fails or takes too long to import."""
    try:
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOOK_UP, name],
                              capture_output=True, timeout=seconds, text=True, encoding="utf-8",
                              stdin=subprocess.DEVNULL)
        found = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError, IndexError, OSError):
        return None
    return found if found.get("doc") else None


def page_for(name: str) -> tuple[PageEntry, bool] | None:
    """(the entry of a page, is it a class) for an installed object; None if it has no sentence."""
    found = documented(name)
    if not found:
        return None
    module, _, last = name.rpartition(".")
    arguments = found["arguments"].partition(" -> ")[0].strip()
    # Marks of reStructuredText are no words: "Serialize ``obj``" is read as "Serialize obj".
    doc = found["doc"].replace("`", "")
    entry = page_entry(Entry(module.split(".")[0], module, "", last, arguments[1:-1],
                             found["is_class"], doc))
    return (entry, found["is_class"]) if entry else None


def with_documentation(question: str) -> tuple[str, str]:
    """(the message to send, the name that was looked up): the question with its page in front, or
    as it is and "" where no installed object of that name has a text.

    "List the arguments of NAME" gets NAME's arguments into the question instead of a page.
    """
    if "\n\n" in question or "(" in question:           # it brings what it is about
        return question, ""
    for name in names_in(question):
        if re.search(r"\barguments of\b", question):
            found = documented(name)
            arguments = found["arguments"].partition(" -> ")[0] if found else "(...)"
            if arguments not in ("(...)", "()"):
                called = f"{name.rpartition('.')[2]}{arguments}"
                return f"List the arguments of {called}.", name
        elif re.match(r"(what (does|is|are)|explain|tell)\b", question.strip(), re.I) \
                and not re.search(r"\breturns?\b", question):
            if page := page_for(name):
                entry, is_class = page
                asked = f"What is {name}?" if is_class else f"What does {name} do?"
                return with_page(asked, entry, None, True), name
    return question, ""
