"""A tree of blocks -> the blocks that are the page's own text.

The idea (after readability and its many children): text that somebody wrote for this page comes in
long runs with sentences and few links; menus, teasers and footers come in short runs of links. So
every run gets a *prose mass*, every block the sum of its runs. We prune blocks that say by their
name what they are, walk from the body down while one child holds nearly all of the mass, and clean
what hangs around the story in the block where we stop.
"""

import functools
import re

from html_tree import CELLS, HEADINGS, Node, Run
from trim_story import ELSEWHERE, LAST

DOMINANT = 0.75           # walk down while one child holds this share of the mass
GUARD = 0.4               # never prune a block that holds more of the page than this
SURE_GUARD = 0.85         # ... or more than this, for a block that says what it is
TEASERS = 0.8             # ... or than this, for a list of headings that lead elsewhere
TEASER = 300              # characters of prose under such a heading, at most
SHORTEST = 20             # characters of a run that can be prose
SENTENCE = re.compile(r"[.!?,;:。，！？、।؟،]")
# What is not shown. "hidden" is an attribute, or a class of its own (but "hidden md:block" is shown
# on wide screens); "overflow-hidden" is shown, and "until-found" opens on a click.
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|aria-hidden\s*=\s*[\"']?true"
                    r"|(?<![-:\w])(?<!: )hidden(?![-:\w])(?!\s*=\s*[\"']?(?:false|until-found))"
                    r"(?![^\"']*\w:(?:block|flex|grid|inline|table))", re.I)
NAMES = re.compile(r"(?:^|\s)(?:class|id|role|itemprop|data-component|data-testid|aria-label)"
                   r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.I)
# Words in class and id that say "not the text", at word boundaries of camelCase, - and _.
UNWANTED = re.compile(r"""comments?\b|comment-|disqus|respond\b|replies|share\b|share-|sharing|
    social|related|recommend|promo|newsletter|subscri|signup|sign-up|sidebar|side-bar|breadcrumb|
    footer|masthead|navbar|\bnav\b|navigation|\bmenu|cookie|consent|gdpr|banner|popup|modal|
    overlay|advert|sponsor|\bads?\b|\bad-|-ad\b|outbrain|taboola|(?<!elementor-)widget|toolbar|
    pagination|\bpager\b|\btags?\b|tag-list|tags-list|byline|author-bio|author-info|about-author|
    \bbio\b|meta\b|(?<!member-)(?<!method-)(?<!type-)(?<!function-)signature|expandlink|
    copyright|disclaimer|legal\b|most-read|mostread|popular|trending|
    more-stories|read-more|readmore|read-next|also-read|you-may|teaser|\brating|
    \bprint\b|noprint|skip-link|
    caption|credit|gallery-nav|login|paywall|dateline|timestamp|\bdate\b|\btoc\b|jump-link|
    mw-editsection|reflist|navbox|catlinks|printfooter|story-footer|hatnote|feedback|survey|
    boilerplate|kommentare|comentarios|commentaires|commenti\b|reacties|komentarze|werbung|
    \banzeige\b|publicit|partage|teilen\b|condivid|relacionad|correlat|verwandt|
    follow\b|follow-|dontmiss|highlights?-list|latest|outstream|video-player|slideshow|carousel"""
    .replace("\n", "").replace(" ", ""))
SURELY_UNWANTED = re.compile(r"cookie|consent|gdpr|disqus|popup|lightbox|widget-?area|"
                             r"(?:^|\s)(?:comments|modal|dialog|alertdialog|complementary|"
                             r"contentinfo|navigation)(?:\s|$)")
# ... unless a word says that the story is in it.
WANTED = re.compile(r"article-?body|story-?body|post-?body|entry-?content|article-?content|"
                    r"post-?content|main-?content|articletext|story-?content|content-?body|"
                    r"article__body|embed|tweet|page-?content|body-?text|mainbody")
FORMULA = re.compile(r"\$[^$\\^_{=]{0,2000}[\\^_{=][^$]{0,2000}\$")
PARTS = frozenset(("p", "dd", "details"))
WHOLE_PAGE = frozenset(("html", "body", "article", "main"))
DROPPED_TAGS = frozenset(("nav", "footer", "aside", "dialog", "menu", "legend", "fieldset", "dir",
                          "figcaption"))


def names_of(attributes: str) -> str:
    """The words by which a block is called: class, id, role and the like, in lower case."""
    return " ".join(a or b or c for a, b, c in NAMES.findall(" " + attributes[:2000])).lower()


def weigh(nodes: list[Node]) -> None:
    """Fill in `mass`, `size` (characters) and `link` (characters in links) of every node.

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


def judge_names(names: str) -> float:
    """What a block's names say against it: SURE_GUARD, GUARD, or 0 for nothing.

    "cookie-bar" -> SURE_GUARD, "post sidebar" -> GUARD, "article-body" -> 0
    """
    if SURELY_UNWANTED.search(names):
        return SURE_GUARD
    return GUARD if UNWANTED.search(names) and not WANTED.search(names) else 0.0


@functools.lru_cache(1 << 14)
def judge_attributes(attributes: str) -> float:
    """The same for a block's attributes as they are written: its names, and whether it is hidden.

    'class="post sidebar"' -> GUARD, 'style="display:none"' -> GUARD, 'class="story"' -> 0
    """
    share = judge_names(names_of(attributes))
    if share or not ("none" in attributes or "idden" in attributes):
        return share
    return GUARD if HIDDEN.search(attributes) else 0.0


def unwanted_share(node: Node) -> float:
    """How much of the page this block may hold and still be dropped for its tag, style or names:
    0 for a block that they say nothing against."""
    # a caption with a formula in it is worth more than its picture, which we cannot read
    if node.tag == "figcaption" or "caption" in node.attributes:
        if any(type(c) is Run and FORMULA.search(c.text) for c in node.children):
            return 0.0
    if node.tag in DROPPED_TAGS:
        return SURE_GUARD if node.tag in ("aside", "nav", "footer") else GUARD
    if len(node.children) >= 3 and sum(type(c) is Node and c.tag == "article"
                                       for c in node.children) >= 3:
        return SURE_GUARD               # a list of teasers, beside the story or below it
    if not node.attributes or node.tag in WHOLE_PAGE:
        return 0.0
    return judge_attributes(node.attributes)


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


def prune(nodes: list[Node], least: float = GUARD) -> int:
    """Mark the unwanted blocks as dropped, except one that holds much of the page; blocks whose
    `unwanted_share` is below `least` stay, and what was dropped before comes back. Returns the
    mass of the page with all of its blocks.

    First those that surely are unwanted: what they hold should not count as the page's text when
    the others are judged.
    """
    for node in nodes:
        node.dropped = False
    weigh(nodes)
    whole = nodes[0].mass
    lists = teaser_lists(nodes)
    shares = [unwanted_share(node) or TEASERS * (node in lists) for node in nodes]
    dropped = 0
    for guard in (SURE_GUARD, GUARD):
        total, before = nodes[0].mass, dropped
        for node, share in zip(nodes, shares):
            if node.parent is not None and node.parent.dropped:
                node.dropped = True
            elif share >= max(guard, least) and node.mass <= share * total and not node.dropped:
                node.dropped = True
                dropped += 1
        if dropped > before:
            weigh(nodes)
    return whole


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


def story_node(root: Node, nodes: list[Node]) -> Node:
    """The block that holds the text.

    A block that calls itself "articleBody" (in any spelling of upper and lower case) and holds more
    than a third of the page's mass; else walk down from `root`, while one child block that is not
    dropped holds at least DOMINANT of the mass of the block we are in. A block of PARTS (a
    paragraph, definition or fold) is never entered, nor one of several (`one_of_several`): one long
    paragraph or chapter is not the whole story. Where there is no mass, there is nowhere to walk.
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
                or heaviest.mass < DOMINANT * node.mass or one_of_several(heaviest):
            return node
        node = heaviest


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
