"""A web page's bytes -> its main text, the way a reader would copy it out.

    extract_text(b"<html>...") -> "..."

Decode, keep the formulae, build a tree, find the story in it, write lines. Pages by pydoc go
through a template of their own.
"""

import contextlib
import gc
import re
from typing import Iterator

from forum_posts import keep_posts
from html_tree import BREAK, Node, Run, parse
from main_text import GUARD, SURE_GUARD, clean, prune, story_node
from maths_tex import inline_maths
from pydoc_pages import pydoc_text
from trim_story import trim
from web_encoding import decode_html

LARGEST = 16 << 20        # bytes; what lies beyond is cut off
ENOUGH = 200              # characters; less is worth a second try
CODE = "\x00"             # stands for a piece of code; a page's own NULs are removed
NEW_LINE = "\v"           # a line end that does not add up with its neighbours
PARAGRAPH = frozenset("p div section article blockquote pre h1 h2 h3 h4 h5 h6 table ul ol dl "
                      "figure".split())


def lines_of(run: Run, preformatted: bool) -> str:
    """A run's text with blanks collapsed (kept in <pre>) and <br> as line ends."""
    text = run.text.replace("\xa0", " ").replace("\v", " ")
    if preformatted:
        return text.replace("\r", "").replace(BREAK, "\n").strip("\n")
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split(BREAK))))


def write_text(node: Node) -> str:
    """The text of a block: an empty line between paragraphs, "- " before list items, " | "
    between the cells of a table row, what <pre> holds as it stands."""
    pieces: list[str] = []
    code: list[str] = []                # put aside while the gaps between lines are set
    waiting: list = [(node, False)]
    while waiting:
        item, pre = waiting.pop()
        if type(item) is str:
            pieces.append(item)
        elif type(item) is Run:
            if item.mass >= 0 and pre:
                code.append(lines_of(item, pre))
                pieces.append(CODE)
            elif item.mass >= 0:
                pieces.append(lines_of(item, pre))
        elif not item.dropped:
            pre = pre or item.tag == "pre"
            before = after = "\n\n" if item.tag in PARAGRAPH else NEW_LINE
            if item.tag == "li":
                before = NEW_LINE + "- "
            elif item.tag in ("td", "th"):
                before, after = "", " | "
            if not pre and len(item.children) == 1 and type(item.children[0]) is Run:  # most blocks
                run = item.children[0]
                pieces += (before, lines_of(run, pre) if run.mass >= 0 else "", after)
                continue
            waiting.append((after, pre))
            waiting.extend([(child, pre) for child in reversed(item.children)])
            pieces.append(before)
    text = re.sub(r"(?: \| )+(?=[\n\v]|$)", "", "".join(pieces))
    text = re.sub(r"- [\n\v]+", "- ", text)
    text = re.sub(r"[\n\v]{2,}|\v", _gap, text).strip("\n")
    if not code:
        return text
    waiting = iter(code)
    return re.sub(CODE, lambda found: next(waiting), text).strip("\n")


def _gap(found: re.Match) -> str:
    """Several line ends in a row as one: empty line or new line."""
    return "\n\n" if "\n\n" in found[0] else "\n"


def main_text(page: str) -> str:
    """The main text of a page given as characters."""
    with collector_off():
        root, nodes = parse(inline_maths(page))
        if keep_posts(root, nodes):
            text = write_text(root)
        else:
            text = find_story(root, nodes)
        for node in nodes:              # parents and children hold each other: let go
            node.children.clear()
    return text


def find_story(root: Node, nodes: list[Node]) -> str:
    """The text of the page's story: prune, walk down to it, clean what hangs around it.

    If next to nothing is left of a page that has text, its blocks have misleading names, or are
    hidden until somebody clicks: then only what is surely unwanted is pruned.
    """
    for least in (GUARD, SURE_GUARD):
        whole = prune(nodes, least)
        story = story_node(root, nodes)
        clean(story)
        trim(story)
        text = write_text(story)
        if len(text) >= ENOUGH or max(root.size, whole) < ENOUGH:
            break
    return text


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Without Python's cyclic garbage collector, which looks through a growing tree of a hundred
    thousand nodes again and again (a tenth of the time, or seconds among much other data)."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def extract_text(html: bytes, charset: str | None = None) -> str:
    """The main text of an HTML page, "" if it has none. Never raises, and takes linear time.

    `charset` is the one that the server declared, if any. Menus, headers, footers, cookie notices,
    comments and related links are left out; paragraphs are separated by an empty line; code keeps
    its indentation; formulae are kept as TeX between $ or $$.

        b"<nav><a>Home</a></nav><p>A story, told in one line.</p>" -> "A story, told in one line."
    """
    page = decode_html(html[:LARGEST], charset).replace("\0", "")
    if "\r" in page:
        page = page.replace("\r\n", "\n").replace("\r", "\n")
    text = pydoc_text(page)
    return main_text(page) if text is None else text
