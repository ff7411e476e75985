"""A tree of blocks -> the blocks that are the page's own text.

The idea (after readability and its many children): text that somebody wrote for this page comes in
long runs with sentences and few links; menus, teasers and footers come in short runs of links. So
every run gets a *prose mass*, every block the sum of its runs. We drop blocks that unwanted.py has
evidence against, walk from the body down while one child holds nearly all of the mass, and clean
what hangs around the story in the block where we stop.

What one word of evidence takes away is bounded over the whole page: a name that most of the text
goes by is how this page calls its text, whatever it means elsewhere.
"""

import re
from collections import defaultdict

from html_tree import CELLS, HEADINGS, Node, Run
from trim_story import ELSEWHERE, LAST
from unwanted import HIDING, SURE, TEASING, WEAK, Evidence, evidence

DOMINANT = 0.75           # walk down while one child holds this share of the mass
# Of the page's mass, how much may be dropped for one reason: a single block, and all of them.
BOUNDS = {SURE: (0.85, 0.85), TEASING: (0.8, 0.8), HIDING: (0.4, 0.85), WEAK: (0.4, 0.6)}
LEFT = 250                # characters of prose that make what is left a story, beside comments
TEASER = 300              # characters of prose under a teaser's heading, at most
SHORTEST = 20             # characters of a run that can be prose
BETWEEN = 0.03            # of a block's mass in its own paragraphs: it is more than a wrapper
SENTENCE = re.compile(r"[.!?,;:。，！？、।؟،]")
READERS = re.compile(r"comment|disqus|kommentar|comentario|respond|replies|reacties|komentarz")
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


def teaser_lists(nodes: list[Node]) -> set[Node]:
    """The blocks that are lists of other stories: three headings or more, all but one of which are
    links, with little prose between them and none before the first.

    An article's own headings lead nowhere. `nodes` are weighed.
    """
    # 1. Count the headings below each block: all, and those that are links.
    counts: dict[Node, list[int]] = {}
    for node in reversed(nodes):
        own = counts.get(node, (0, 0))
        if node.tag in HEADINGS and node.size:
            own = (own[0] + 1, own[1] + (2 * node.link > node.size))
        if own[0] and node.parent is not None:
            above = counts.setdefault(node.parent, [0, 0])
            above[0] += own[0]
            above[1] += own[1]
    # 2. Where they are a list of teasers, what comes first is not a story of its own.
    return {node for node, (count, linked) in counts.items()
            if linked >= 3 and count - linked <= 1 and node.mass <= TEASER * linked
            and not prose_first(node)}


def is_list_of_articles(node: Node) -> bool:
    """True if three or more of a block's children are <article>s with text, and hold nearly all of
    its mass: other stories, if there is one elsewhere. Pictures in a story may be so too."""
    if len(node.children) < 3:
        return False
    articles = [c for c in node.children if type(c) is Node and c.tag == "article" and c.size]
    return len(articles) >= 3 and sum(c.mass for c in articles) >= DOMINANT * node.mass


def prose_first(node: Node, most: int = 50) -> bool:
    """True if a block has prose before its first linked heading, or none among its first items."""
    waiting = [node]
    for _ in range(most):
        item = waiting.pop() if waiting else None
        if type(item) is Run:
            if item.mass:
                return True
        elif item is None or item.tag in HEADINGS and 2 * item.link > item.size:
            return False
        elif not item.dropped:
            waiting.extend(reversed(item.children[:most]))
    return True


def prune(nodes: list[Node], kinds: tuple[int, ...] = (SURE, TEASING, HIDING, WEAK)) -> int:
    """Mark the unwanted blocks as dropped, those of the surest `kinds` of evidence first: what they
    hold should not count as the page's text when the others are judged. What was dropped before
    comes back. Returns the mass of the page with all of its blocks.
    """
    for node in nodes:
        node.dropped = False
    weigh(nodes)
    whole = nodes[0].mass
    lists = teaser_lists(nodes)
    by_kind: dict[int, dict[str, list[Node]]] = defaultdict(lambda: defaultdict(list))
    for node in nodes:
        found = evidence(node)
        if found is None and is_list_of_articles(node):
            found = Evidence(TEASING, "articles")
        elif found is None and node in lists:
            found = Evidence(TEASING, "teasers")
        if found:
            by_kind[found.kind][found.word].append(node)
    for kind in kinds:
        dropped = drop_for(kind, by_kind[kind], nodes[0].mass)
        if dropped:
            for node in nodes:          # in document order: what is in a dropped block goes too
                if node.parent is not None and node.parent.dropped:
                    node.dropped = True
            weigh(nodes)
    return whole


def drop_for(kind: int, words: dict[str, list[Node]], total: int) -> bool:
    """Drop the blocks that evidence of one kind speaks against, word by word, those of the word
    with the least mass first. True if any was dropped.

    A block that holds more of the page's mass than BOUNDS[kind] allows stays. If the other blocks
    of its word hold more together than allowed, they all stay; and so do those of further words,
    from where too little of the page would be left.
    """
    left, done = total, False
    groups = []
    for word, blocks in words.items():
        each, most = (bound * total for bound in BOUNDS[kind])
        if READERS.search(word) and total - LEFT > most:
            each = most = min(0.97 * total, total - LEFT)
        chosen = [n for n in blocks if n.mass <= each and not n.dropped]
        inside = set(chosen)
        mass = sum(n.mass for n in chosen if not within(n, inside))
        if mass <= most:
            groups.append((mass, word, chosen, most))
    for mass, _, chosen, most in sorted(groups, key=lambda group: group[:2]):
        if left - mass < total - most:
            break
        left -= mass
        for node in chosen:
            node.dropped = done = True
    return done


def within(node: Node, blocks: set[Node]) -> bool:
    """True if a block lies in one of `blocks` (looking thirty levels up)."""
    for _ in range(30):
        node = node.parent
        if node is None:
            return False
        if node in blocks:
            return True
    return False


def one_of_several(node: Node) -> bool:
    """True if a block stands among others of its kind: they are parts of one text, and the longest
    is not the whole.

    Of its kind are blocks of its tag and class with a tenth of their parent's mass, and any prose
    in a <section> beside a <section> that differ by a number only.
    """
    kind, chapter = node.attribute("class"), False
    if node.tag == "section":
        chapter = not kind or any(c.isdigit() for c in kind)
    if not kind and not chapter:
        return False
    least = 1 if chapter else max(node.parent.mass / 10, 1)

    def same(other: str) -> bool:
        return other == kind or chapter and re.sub(r"\d+", "", other) == re.sub(r"\d+", "", kind)
    return any(type(other) is Node and other is not node and not other.dropped
               and other.tag == node.tag and other.mass >= least and same(other.attribute("class"))
               for other in node.parent.children)


def prose_beside(node: Node) -> int:
    """The mass of the paragraphs, lists and headings that stand beside a block, or loose there."""
    return sum(other.mass for other in node.parent.children if other is not node
               and (type(other) is Run or other.tag in TEXTUAL and not other.dropped))


def story_node(root: Node, nodes: list[Node]) -> Node:
    """The block that holds the text.

    A block that calls itself "articleBody" (in any spelling of upper and lower case) and holds more
    than a third of the page's mass; else walk down from `root`, while one child block that is not
    dropped holds at least DOMINANT of the mass of the block we are in. A block of PARTS (a
    paragraph, definition or fold) is never entered, nor one of several (`one_of_several`): one long
    paragraph or chapter is not the whole story; nor one that has BETWEEN of the mass or more in
    paragraphs beside it (`prose_beside`). Where there is no mass, there is nowhere to walk.
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
