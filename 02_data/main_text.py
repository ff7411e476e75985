"""A tree of blocks -> the blocks that are the page's own text.

The idea (after readability and its many children): text that somebody wrote for this page comes in
long runs with sentences and few links; menus, teasers and footers come in short runs of links. So
every run gets a *prose mass*, every block the sum of its runs. What is unwanted is dropped first
(prune.py); then we walk from the body down while one child holds nearly all of the mass, and clean
what hangs around the story in the block where we stop.
"""

import math
import re

from html_tree import CELLS, Node, Run
from trim_story import ELSEWHERE, LAST

DOMINANT = 0.75           # walk down while one child holds this share of the mass
SHORTEST = 20             # characters of a run that can be prose
PART = 0.1                # of a block's characters in other blocks: too much for a standfirst
BETWEEN = 0.03            # of a block's mass in its own paragraphs: it is more than a wrapper
SENTENCE = re.compile(r"[.!?,;:](?![\w/])|[。，！？、।؟،]")      # not those of an address
# What calls itself the text of a page, or of its first post.
BODY = re.compile(r"\b(?:article|story|post|entry)[-_]?(?:body|content|text)\b", re.I)
PARTS = frozenset(("p", "dd", "details"))
TEXTUAL = frozenset("p ul ol dl pre blockquote table figure details h2 h3 h4".split())


def weigh(nodes: list[Node]) -> None:
    """Fill in `mass`, `size` (characters) and `link` (characters in links) of every node, and the
    `mass` of every run, whatever stood there before.

    `nodes` are in document order. A run's mass is its length (blanks at the ends do not count) if
    it has SHORTEST characters or more, less than half of them in links, and a sign that ends or
    divides a sentence; else 0. A block's numbers are the sums over its runs and over its child
    blocks that are not dropped.

        <div><p>A story, told in one line.</p><p><a>Menu</a></p></div>   ->  div: 26, 30, 4
    """
    # Children come after their parents in document order: backwards, each sum is ready in time.
    for node in reversed(nodes):
        mass = size = link = 0
        for child in node.children:
            if type(child) is Run:
                length = len(child.text.strip())
                child.mass = 0
                if length >= SHORTEST and 2 * child.link < length \
                        and SENTENCE.search(child.text):
                    child.mass = length
                size += length
                link += child.link
                mass += child.mass
            # What is dropped weighs nothing.
            elif not child.dropped:
                mass, size, link = mass + child.mass, size + child.size, link + child.link
        node.mass, node.size, node.link = mass, size, link


def one_of_several(node: Node) -> bool:
    """True if a block stands among others of its kind: they are parts of one text, and the longest
    is not the whole.

    Of its kind are blocks of its tag and class that together have a tenth of their parent's mass,
    and any prose in a <section> beside a <section> that differ by a number only.
    """
    kind, chapter = node.attribute("class"), False
    if node.tag == "section":
        chapter = not kind or any(c.isdigit() for c in kind)
    if not kind and not chapter:
        return False
    least = 1 if chapter else max(node.parent.mass / 10, 1)

    def same(other: str) -> bool:
        return other == kind or chapter and re.sub(r"\d+", "", other) == re.sub(r"\d+", "", kind)
    return sum(other.mass for other in node.parent.children
               if type(other) is Node and other is not node and not other.dropped
               and other.tag == node.tag and same(other.attribute("class"))) >= least


def prose_beside(node: Node) -> int:
    """The mass of the paragraphs, lists and headings that stand beside a block, or loose there,
    and of what is called the body of a post or an article.

    In what calls itself the page's text (<main>, <article>), blocks without links count too, with
    BETWEEN of the mass or more, if they have prose before and after the block, or PART of all
    characters: one line before a story is its standfirst, one after it says who wrote it.
    """
    above = node.parent
    mass, characters, boxes, before = 0, 0, [0, 0], True
    for other in above.children:
        if other is node:
            before = False
        elif type(other) is Run or other.tag in TEXTUAL and not other.dropped:
            mass += other.mass
        elif not other.dropped and other.attributes and BODY.search(other.attributes):
            mass += other.mass
        elif not other.dropped and 10 * other.link < other.size:
            boxes[before] += other.mass
            characters += other.size
    if (all(boxes) or characters >= PART * above.size) and inside_text(above):
        mass += max(sum(boxes), math.ceil(BETWEEN * above.mass))
    return mass


def inside_text(node: Node | None) -> bool:
    """True if a block is or lies in <main>, <article> or role="main" (looking thirty levels up)."""
    for _ in range(30):
        if node is None:
            return False
        if node.tag in ("main", "article") or "main" in node.attributes \
                and node.attribute("role") == "main":
            return True
        node = node.parent
    return False


def story_node(root: Node, nodes: list[Node]) -> Node:
    """The block that holds the text.

    A block that calls itself "articleBody" (anywhere in its attributes, in upper or lower case) and
    holds more than a third of the page's mass; else walk down from `root`, while one child block
    that is not dropped holds at least DOMINANT of the mass of the block we are in. A block of PARTS
    (a paragraph, definition or fold) is never entered, nor one of several (`one_of_several`): one
    long paragraph or chapter is not the whole story; nor one that has BETWEEN of the mass or more
    in paragraphs beside it (`prose_beside`). Where there is no mass, there is nowhere to walk.
    """
    # schema.org's name for it is the most honest word on the web, but it may be on a teaser.
    for node in nodes:
        if not node.dropped and node.attributes and "articlebody" in node.attributes.lower() \
                and 3 * node.mass > root.mass:
            return node
    # Down to the smallest block that still has nearly everything.
    node = root
    while True:
        heaviest = max((c for c in node.children if type(c) is Node and not c.dropped),
                       key=lambda c: c.mass, default=None)
        if not node.mass or heaviest is None or heaviest.tag in PARTS \
                or heaviest.mass < DOMINANT * node.mass or one_of_several(heaviest) \
                or prose_beside(heaviest) >= BETWEEN * node.mass:
            return node
        node = heaviest


def largest_node(root: Node) -> Node:
    """The block that holds nearly all characters of a page of links: an index, a list of cards."""
    node = root
    while True:
        largest = max((c for c in node.children if type(c) is Node and not c.dropped),
                      key=lambda c: c.size, default=None)
        if largest is None or largest.tag in TEXTUAL or largest.size < DOMINANT * node.size:
            return node
        node = largest


def is_told(before: Node | Run | None, block: Node) -> bool:
    """True for links that belong to the text: a list whose last line before it announces it ("The
    tools that we need:") or half of whose items are no links, a table whose columns have heads."""
    if block.tag == "table":
        rows = [block]
        for node in rows:                # grows while we read it
            rows += [c for c in node.children if type(c) is Node and c.tag in CELLS - {"td"}]
        return any(node.tag == "th" for node in rows)
    items = []
    if block.tag in ("ul", "ol"):
        items = [c for c in block.children if type(c) is Node and c.size]
    if items and 2 * sum(2 * item.link > item.size for item in items) <= len(items):
        return True
    while type(before) is Node:
        before = before.children[-1] if before.children else None
    text = before.text.strip() if before and items else ""
    return len(text) >= SHORTEST and text[-1] in ":：" and not ELSEWHERE.match(text) \
        and not LAST.match(text)


def clean(node: Node) -> None:
    """Drop the lists, tables and boxes of links inside the chosen block."""
    waiting = [node]
    while waiting:
        children = waiting.pop().children
        for before, child in zip([None, *children], children):
            if type(child) is Run or child.dropped:
                continue
            if child.tag in ("ul", "ol", "div", "section", "table", "dl", "header", "form") \
                    and child.size and child.link > 0.5 * child.size \
                    and not is_told(before, child):
                child.dropped = True
            else:
                waiting.append(child)
