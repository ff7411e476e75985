"""The child process of `crawl.py`: import modules one by one, send back pydoc's page of each.

    python 02_data/render_pages.py SECONDS < a JSON list of module names

Importing a strange module runs its code. So this process gives it nothing to act on: no terminal,
no display, no browser, no network, an empty home and working folder, an environment of four
variables. A watchdog written in C ends the process when one module takes longer than SECONDS; the
parent then knows by the missing answer which module it was, and starts another child for the rest.

Protocol, on the pipe that was standard output: a line "start NAME", then a line
"page NAME BYTES" and the bytes, or "skip NAME REASON".
"""

import faulthandler
import functools
import importlib
import inspect
import json
import os
import pydoc
import re
import socket
import sys
import warnings
import webbrowser
from typing import IO, Callable

LARGEST = 4 << 20          # bytes; numpy's page has 3.8 MB, larger ones list inherited members
NONE: frozenset[str] = frozenset()
TOPIC = "topic:"           # "topic:FLOAT" is a page of the language reference, not a module


class NotWanted(Exception):
    """A page that is not taken; the message is the reason."""


def quiet() -> IO[bytes]:
    """Take standard input, output and errors away from the modules; returns the pipe to answer on.

    The file descriptors themselves are moved: C code that prints is silenced too.
    """
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    sys.stdin = open(os.devnull, encoding="utf-8")
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    return answers


def fence() -> None:
    """Refuse what an import has no business to do here: network, browser, child processes."""
    def refuse(*args, **kwargs):
        raise OSError("not while crawling")
    webbrowser.open = webbrowser.open_new = webbrowser.open_new_tab = refuse
    socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
    os.system = refuse
    sys.setrecursionlimit(3000)
    warnings.simplefilter("ignore")


def stable(html: str, private_paths: list[str]) -> str:
    """The page without what differs from run to run or tells of this machine.

    `<object at 0x7f3a52c0>` loses its address, and folders of this Python become /usr:
    "/home/me/.venv/lib/x.py" -> "/usr/lib/x.py".
    """
    # each begins with fixed letters, which the search then runs to
    html = re.sub("&nbsp;at&nbsp;0x[0-9a-fA-F]+", "", html)
    html = re.sub(" at 0x[0-9a-fA-F]+", "", html)
    html = re.sub("handle [0-9a-f]{6,}", "handle ", html)
    html = re.sub(r"\.\.\.[0-9a-f]{4,16}&gt;", "...&gt;", html)      # the end of one, shortened
    for path in private_paths:
        html = html.replace(path, "/usr")
    # a lone surrogate (the page of `codecs` has some) has no UTF-8
    return html.encode("utf-8", "replace").decode("utf-8")


class Pages(pydoc.HTMLDoc):
    """pydoc's pages, letter by letter, in a third of the time.

    pydoc looks at every word of every docstring: is it a name of this page, to be linked? Here only
    what can become a link is shown to it (`markup`); what stands between is escaped in one piece.
    And what a class has from its parents is listed again on its page, so texts are remembered.
    """
    def escape(self, text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    @functools.lru_cache(20_000)
    def preformat(self, text: str) -> str:
        return super().preformat(text)

    def markup(self, text, escape=None, funcs={}, classes={}, methods={}) -> str:
        escape, parts, done = escape or self.escape, [], 0
        named = frozenset(word for word in words(text) if word in classes) if classes else NONE
        for start, end, called in links(text, named):
            if called and (called in methods or called in funcs or called in classes):
                link = self.namelink(called, methods, funcs, classes)
            elif called:
                continue
            else:                               # before a bracket functions and methods are links
                end += text[end:end + 1] == "("
                link = super().markup(text[start:end], escape, funcs, classes, methods)
            parts += [escape(text[done:start]), link]
            done = end
        return "".join(parts) + escape(text[done:])


@functools.lru_cache(20_000)
def words(text: str) -> frozenset[str]:
    """All words of a text: classes of the page among them become links."""
    return frozenset(re.findall(r"\w+", text))


@functools.lru_cache(20_000)
def links(text: str, classes: frozenset[str]) -> list[tuple[int, int, str | None]]:
    """(start, end, name if it stands before a bracket) of all that pydoc may turn into a link, in
    a text in which these classes of the page are named."""
    return [(found.start(), found.end(), found[1]) for found in pattern(classes).finditer(text)]


@functools.lru_cache(1024)
def pattern(classes: frozenset[str]) -> re.Pattern:
    """What finds such places, made once for each set of classes."""
    names = [rf"{name}\b" for name in sorted(classes)]
    return re.compile(r"\b(?:(?:https?|ftp)://\S+[\w/]|(?:RFC|PEP)[- ]?\d+|self\.\w+|" +
                      "|".join([*names, r"(\w+)(?=\())"]))


PAGES = Pages()


def remembered(ask: Callable) -> Callable:
    """`ask`, once for each object: a class lists again what it has from its parents."""
    once = functools.lru_cache(100_000, typed=True)(ask)

    def answer(thing):
        try:
            return once(thing)
        except TypeError:               # a thing without a hash
            return ask(thing)
    return answer


def render(name: str) -> str:
    """The HTML page of a module, or of a topic of the language reference.

    Raises what the import raises, and NotWanted with the reason for a page that is not taken.
    """
    if name.startswith(TOPIC):
        return pydoc._url_handler(f"topic?key={name[len(TOPIC):]}")
    module = importlib.import_module(name)
    if not inspect.ismodule(module):
        raise NotWanted("not a module")
    if module.__name__ != name:
        raise NotWanted("another module under this name")
    return PAGES.page(name, PAGES.document(module, name))


def reason(error: BaseException) -> str:
    """Why a module gave no page, in words that can be counted."""
    if isinstance(error, ModuleNotFoundError):
        return "needs a package that is not installed"
    if isinstance(error, ImportError):
        return "import refused"
    if isinstance(error, NotWanted):
        return str(error)
    return f"raised {type(error).__name__}"


def main() -> None:
    seconds = float(sys.argv[1])
    names = json.load(sys.stdin)
    answers = quiet()
    fence()
    # undocumented things have the comment above them shown, for which their file is parsed
    pydoc.getdoc, inspect.signature = remembered(pydoc.getdoc), remembered(inspect.signature)
    # longest first: the virtual environment may lie inside the home folder
    paths = sorted({os.getcwd(), os.path.expanduser("~"), sys.prefix, sys.base_prefix,
                    sys.exec_prefix, os.path.realpath(sys.prefix)} - {"/", "/usr"},
                   key=len, reverse=True)
    for name in names:
        answers.write(f"start {name}\n".encode())
        answers.flush()
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            page = stable(render(name), paths).encode()
            if len(page) > LARGEST:
                raise NotWanted("its page is over 4 MB")
            answers.write(f"page {name} {len(page)}\n".encode() + page)
        except BaseException as error:      # a module may even raise SystemExit
            answers.write(f"skip {name} {reason(error)}\n".encode())
        faulthandler.cancel_dump_traceback_later()
    answers.flush()
    os._exit(0)                             # threads that a module has left die here


if __name__ == "__main__":
    main()
