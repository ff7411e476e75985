"""A tree of blocks, weighed -> the same without the blocks that are not the page's own text.

unwanted.py says what speaks against a block, and how far each kind of evidence is believed. Here it
is believed so far and no further: what one word of evidence takes away is bounded over the whole
page, since a name that most of the text goes by is how this page calls its text, whatever it means
elsewhere. Lists of other stories have no need of a name: their headings are links.
"""

from collections import defaultdict

from html_tree import HEADINGS, Node, Run
from main_text import DOMINANT, weigh
from unwanted import COUNTED, HIDING, READERS, SURE, TEASING, WEAK, Evidence, evidence

# Of the page's mass, how much may be dropped for one reason: a single block, and all of them.
BOUNDS = {SURE: (0.85, 0.85), TEASING: (0.8, 0.8), HIDING: (0.4, 0.85), WEAK: (0.4, 0.6)}
# What stands at the end of a page, by what its evidence rests on.
ENDS = frozenset(("footer", "role", "copyright"))
FOOTER = 200              # characters that go with the ends of a page whatever else it has
LEFT = 250                # characters of prose that make what is left a story, beside comments
FEW = 300                 # blocks whose weights are taken off one by one
TEASER = 300              # characters of prose under a teaser's heading, at most


def teaser_lists(nodes: list[Node]) -> set[Node]:
    """The blocks that are lists of other stories: three headings or more, all but one of which are
    links, with little prose between them, and none before the first.

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
            and not prose_first(node) and not story_between(node)}


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


def story_between(node: Node, most: int = 300) -> bool:
    """True if two teasers' prose stands together among a block's first items, without a linked
    heading in it: the headings are topics around a story."""
    waiting, mass = [node], 0
    for _ in range(most):
        item = waiting.pop() if waiting else None
        if item is None or mass > 2 * TEASER:
            break
        if type(item) is Run:
            mass += max(item.mass, 0)
        elif item.tag in HEADINGS and 2 * item.link > item.size:
            mass = 0
        elif not item.dropped:
            waiting.extend(reversed(item.children[:most]))
    return mass > 2 * TEASER


def counted(heading: Node) -> Node | None:
    """The block of what readers wrote, if a heading that counts it stands first in it."""
    if len(heading.children) != 1 or type(heading.children[0]) is Node \
            or not COUNTED.match(heading.children[0].text):
        return None
    node = heading
    for _ in range(3):                   # the heading may have a box of its own
        first = next((c for c in node.parent.children if type(c) is Node or c.text.strip()), None)
        if first is not node or node.parent.tag in ("body", "main", "article"):
            return None
        node = node.parent
        if node.mass:
            return node
    return None


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
        if found is None and node.tag in HEADINGS and (above := counted(node)):
            node, found = above, Evidence(WEAK, "comments")
        if found:
            by_kind[found.kind][found.word].append(node)
    for kind in kinds:
        dropped = drop_for(kind, by_kind[kind], nodes[0].mass)
        if dropped:
            for node in nodes:          # in document order: what is in a dropped block goes too
                if node.parent is not None and node.parent.dropped:
                    node.dropped = True
            take_off(dropped, nodes)
    return whole


def take_off(dropped: list[Node], nodes: list[Node]) -> None:
    """Take what was dropped off the weights of the blocks around it: the same as to weigh all
    `nodes` again, which costs more unless very much was dropped."""
    if len(dropped) > FEW:
        return weigh(nodes)
    for node in dropped:
        above = node.parent
        if above is None or above.dropped:       # it went with the block around it
            continue
        while above is not None:
            above.mass -= node.mass
            above.size -= node.size
            above.link -= node.link
            above = above.parent


def drop_for(kind: int, words: dict[str, list[Node]], total: int) -> list[Node]:
    """Drop the blocks that evidence of one kind speaks against, word by word, those of the word
    with the least mass first, and return them.

    A block that holds more of the page's mass than BOUNDS[kind] allows stays. If the other blocks
    of its word hold more together than allowed, they all stay; and so do those of further words,
    from where too little of the page would be left.
    """
    left, done = total, []
    groups = []
    for word, blocks in words.items():
        each, most = (bound * total for bound in BOUNDS[kind])
        if word in ENDS:                 # a footer is none of the text for being all of it
            each, most = max(each, FOOTER), max(most, FOOTER)
        if READERS.search(word) or word == "caption":
            # what is left must be a story, and may be short beside them
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
            if not node.dropped:         # a block may go for two words
                node.dropped = True
                done.append(node)
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
