"""A web page's bytes -> its main text, the way a reader would copy it out.

    extract_text(b"<html>...") -> "..."

Decode, keep the formulae, build a tree, find the story in it, write lines. Pages by pydoc go
through a template of their own.
"""

import contextlib
import gc
import json
import re
from typing import Iterator

from forum_posts import keep_posts
from html_tree import BREAK, Node, Run, parse, unescape
from main_text import clean, largest_node, story_node
from maths_tex import inline_maths
from prune import prune
from pydoc_pages import pydoc_text
from trim_story import trim
from unwanted import HIDING, SURE, TEASING, WEAK
from web_encoding import decode_html

LARGEST = 16 << 20        # bytes; what lies beyond is cut off
SMALL = 400               # characters of a story beside which a list of links may be the text
LINKS = 4                 # ... if it is so many times longer
STORY = 3                 # what is a third of a story or less after cleaning is made of links
EVERYTHING = (SURE, TEASING, HIDING, WEAK)
UNSEEN = re.compile("<(?:noscript|template)", re.I)
ARTICLE_BODY = re.compile(r'"articleBody"\s*+:\s*+"((?:[^"\\]++|\\.)*+)"', re.S)
LINKED_DATA = re.compile(r"<script\b[^<>]{0,200}?ld\+json[^<>]{0,200}>", re.I)
TEXT = re.compile(r'"text"\s*+:\s*+"((?:[^"\\]++|\\.)*+)"', re.S)
MOST_STORIES, MOST_ANSWERS = 10, 100
ENOUGH = 200              # characters; less is worth a second try
MENU = 1000               # characters that may be all menu: a story twice as long may be unseen
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
            if item.tag in ("td", "th"):
                item = alone_in_cell(item)
            if not pre and len(item.children) == 1 and type(item.children[0]) is Run:  # most blocks
                run = item.children[0]
                pieces += (before, lines_of(run, pre) if run.mass >= 0 else "", after)
                continue
            waiting.append((after, pre))
            waiting.extend([(child, pre) for child in reversed(item.children)])
            pieces.append(before)
    text = "".join(pieces)
    if " | " in text:
        text = re.sub(r"(?: \| )+(?=[\n\v]|$)", "", text)
        # a row of one cell behind empty ones is no row
        text = re.sub(r" \| (?<![^\n\v] \| )(?: \| )*(?=[^\n\v|]*(?:[\n\v]|$))", "", text)
    text = re.sub(r"- [\n\v]+", "- ", text)
    text = re.sub(r"[\n\v]{2,}|\v", _gap, text).strip("\n")
    if not code:
        return text
    waiting = iter(code)
    return re.sub(CODE, lambda found: next(waiting), text).strip("\n")


def alone_in_cell(cell: Node) -> Node:
    """The paragraph that is all that a table's cell holds (Docutils writes so), or the cell."""
    inner = cell.children[0] if len(cell.children) == 1 else None
    return inner if type(inner) is Node and inner.tag == "p" and not inner.dropped else cell


def _gap(found: re.Match) -> str:
    """Several line ends in a row as one: empty line or new line."""
    return "\n\n" if "\n\n" in found[0] else "\n"


def main_text(page: str) -> str:
    """The main text of a page given as characters.

    A page that shows next to nothing may be one that a script fills: then what it has for readers
    without scripts is looked at, what it keeps in templates, and what it tells search engines.
    """
    page = inline_maths(page)
    text = text_of(page)
    if len(text) < MENU and UNSEEN.search(page):
        other = text_of(page, keep=frozenset(("noscript", "template")))
        if len(other) >= max(2 * len(text), ENOUGH):
            return other
    if len(text) < ENOUGH and ('"articleBody"' in page or "ld+json" in page):
        other = told_to_machines(page) or answers_to_machines(page)
        if len(other) >= max(2 * len(text), ENOUGH):
            return other
    return text


def told_to_machines(page: str) -> str:
    """The longest "articleBody" in a page's JSON (schema.org): the story for search engines.

    '{"articleBody": "One line.\\nAnother."}' -> "One line.\\n\\nAnother."
    """
    best, at = "", 0
    for _ in range(MOST_STORIES):
        at = page.find('"articleBody"', at + 1)
        found = ARTICLE_BODY.match(page, at) if at >= 0 else None
        if found and len(found[1]) > len(best):
            best = found[1]
    return text_in_json(best)


def answers_to_machines(page: str) -> str:
    """The "text" of questions, answers, posts and steps in a page's JSON (schema.org), in order."""
    found, at = [], 0
    for script in LINKED_DATA.finditer(page):
        if script.start() >= at:
            at = page.find("</script", script.end())
            at = at if at >= 0 else len(page)
            found += TEXT.findall(page, script.end(), at)
    return "\n\n".join(filter(None, map(text_in_json, found[:MOST_ANSWERS])))


def text_in_json(string: str) -> str:
    """What a string of JSON, given without its quotes, holds as text or HTML."""
    try:
        text = unescape(json.loads(f'"{string}"', strict=False))
    except ValueError:                   # an escape that JSON does not know
        return ""
    if "<" in text:
        return text_of(text)
    return "\n\n".join(" ".join(line.split()) for line in text.split("\n") if line.strip())


def text_of(page: str, keep: frozenset[str] = frozenset()) -> str:
    """The main text of a page whose formulae are TeX already; elements in `keep` are read too."""
    with collector_off():
        root, nodes = parse(page, keep)
        if keep_posts(root, nodes):
            text = write_text(root)
        else:
            text = find_story(root, nodes)
        for node in nodes:              # parents and children hold each other: let go
            node.children.clear()
    return text


def find_story(root: Node, nodes: list[Node]) -> str:
    """The text of the page's story: drop what is unwanted, walk down to it, clean what hangs around
    it. Where next to nothing is left, look again with fewer rules.

    The page may have misleading names, or hide its text until somebody clicks: then only what is
    surely unwanted goes. Or it is an index, a catalogue, a list of cards: its links are its text.
    """
    text = story_text(root, nodes, EVERYTHING)
    if len(text) >= SMALL:
        return text
    open_text = story_text(root, nodes, (SURE,)) if len(text) < ENOUGH else ""
    links = ""
    for kinds in ((SURE, HIDING, WEAK), (SURE, HIDING))[:1 + (len(text) < ENOUGH)]:
        prune(nodes, kinds)
        if len(links) < ENOUGH and root.size >= LINKS * len(text):
            links = write_text(largest_node(root))
    if len(open_text) >= ENOUGH and 2 * len(open_text) >= len(links):
        return open_text
    return links if len(links) >= max(ENOUGH, LINKS * len(text)) else max(text, open_text, key=len)


def story_text(root: Node, nodes: list[Node], kinds: tuple[int, ...]) -> str:
    """The text of the story without the blocks that evidence of these kinds speaks against.

    If little is left of it without its lists and boxes of links, they are what it is made of.
    """
    prune(nodes, kinds)
    story = story_node(root, nodes)
    size = story.size
    clean(story)
    trim(story)
    text = write_text(story)
    if STORY * len(text) < size:
        prune(nodes, kinds)
        trim(story)
        text = write_text(story)
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
