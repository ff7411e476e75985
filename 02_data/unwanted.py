"""What speaks against a block of a page: its tag, that it is not shown, or what it is called.

    evidence(node)   # None, or Evidence(kind=SURE, word="cookie")

A name is a hint, and no more: `class="legal"` may be the small print or a chapter on law. So each
piece of evidence has a kind, which says how far it is believed (prune.py), and the word that
it rests on, so that one word's blocks can be counted over the whole page. What says nothing:

- an id that is made from the block's own heading, as Sphinx, Hugo and pandoc make them
  (<section id="cookies"><h2>Cookies</h2>), or that is the name of something in a program
- names of headings, terms and paragraphs of prose, and of the whole page
- the names that a blog gives to a post after its categories and tags, and those of the layout
- any other attribute: a title or label is text about the block
"""

import functools
import re
import unicodedata
from typing import NamedTuple

from html_tree import HEADINGS, Node, Run, unescape

SURE, TEASING, HIDING, WEAK = range(4)
PROSE = 100               # characters of prose that an ordinary word alone cannot erase
LONG_PROSE = 250          # ... and those that no name of the weakest kind can, without a link
NAMED = ("class", "id", "role", "itemprop", "data-component", "data-testid")
# What a style hides by; "backface-visibility" and "--at-first-display" are other properties.
HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)")
ATTRIBUTE = re.compile(r"([^\s\"'=<>/]++)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++)))?")
# Words in class and id that say "not the text", at word boundaries of camelCase, - and _.
UNWANTED = re.compile(r"""
    (?<!tsd-)(?<!doc-)(?<!code-)comments?\b|comment-|disqus|respond\b|replies|share\b|share-|
    sharing|social|related|recommend|promo|newsletter|subscri|signup|sign-up|sidebar|side-bar|
    breadcrumb|footer|masthead|navbar|\bnav\b|navigation|\bmenu|cookie|consent|gdpr|banner|popup|
    modal|overlay|advert|sponsor|\bads?\b|\bad-|-ad\b|outbrain|taboola|(?<!elementor-)widget|
    (?<!code-)toolbar|pagination|\bpager\b|\btags?\b|tag-list|tags-list|byline|author-bio|
    author-info|about-author|\bbio\b|meta\b|
    (?:^|\s|post-?|user-?|forum-?|profile-?|author-?)signature|expandlink|copyright|disclaimer|
    legal\b|most-read|mostread|popular|trending|more-stories|read-more|readmore|read-next|
    also-read|you-may|teaser|\brating|\bprint\b|noprint|skip-link|caption|credit|gallery-nav|
    login|paywall|dateline|timestamp|\bdate\b|\btoc\b|jump-link|mw-editsection|reflist|navbox|
    catlinks|printfooter|story-footer|hatnote|feedback|survey|boilerplate|kommentare|comentarios|
    commentaires|commenti\b|reacties|komentarze|werbung|\banzeige\b|publicit|partage|teilen\b|
    condivid|relacionad|correlat|verwandt|follow\b|follow-|dontmiss|highlights?-list|latest|
    outstream|video-player|slideshow|carousel"""
    .replace("\n", "").replace(" ", ""))
SURELY_UNWANTED = re.compile(r"cookie|consent|gdpr|disqus|popup|lightbox|widget-?area|"
                             r"(?:^|\s)(?:comments|navigation)(?:\s|$)")
# ... unless a word says that the story is in it.
WANTED = re.compile(r"article-?body|story-?body|post-?body|entry-?content|article-?content|"
                    r"post-?content|main-?content|articletext|story-?content|content-?body|"
                    r"article__body|embed|tweet|page-?content|body-?text|mainbody|"
                    r"admonition|callout|\bnote\b|warning|\btip\b")
# Words of the weakest kind: they have a common meaning besides, and do not erase prose.
ORDINARY = frozenset("""share social modal dialog overlay banner toolbar tag tags bio meta signature
    copyright disclaimer legal rating print credit date timestamp toc feedback survey follow
    highlight highlights latest slideshow carousel menu navigation boilerplate login widget teaser
    popular trending hatnote sharing correlat""".split())
# Classes that say what a post is about, or how the page is laid out.
SILENT = re.compile(r"(?:category|tag|type|format|layout|has|with|without|no|theme|template|single|"
                    r"archive|page-template|page-with)[-_](?!(?:lists?|cloud|links?|print)\b)\S*|"
                    r"\S*[-_]layout|post-\d+|comments?[-_]?(?:open|closed|enabled)|"
                    r"(?:left|right|both)[-_]sidebars?|sidebars?[-_](?:left|right)")
FORMULA = re.compile(r"\$[^$\\^_{=]{0,2000}[\\^_{=][^$]{0,2000}\$")
NAMELESS = HEADINGS | frozenset("html body article main dt summary pre code option".split())
DROPPED_TAGS = {"nav": SURE, "footer": SURE, "aside": SURE, "dialog": WEAK, "menu": WEAK,
                "legend": WEAK, "fieldset": WEAK, "dir": WEAK, "figcaption": WEAK}
ROLES = frozenset("complementary contentinfo navigation dialog alertdialog search".split())
# What attributes must hold to say anything, in lower case.
TELLING = re.compile(UNWANTED.pattern + r"|lightbox|comments|hidden|none|role\s*=|"
                     r"cookie|consent|gdpr|disqus|popup|widget-?area|navigation")
# What programs that write documentation put before an id, of whatever the chapter is about.
GENERATED = frozenset("""sec section subsec subsection sect chapter outline text method methods val
    type class function func fn module struct enum trait const property option cmdoption index term
    api id anchor fig tbl def ltx faq""".split())
SHORTEST_CODE = 30        # characters
# Words for what readers wrote.
READERS = re.compile(r"comment|disqus|kommentar|comentario|respond|replies|reacties|komentarz|bio")
# A heading that counts what readers wrote: "36 Responses", "Comments (36)".
WRITTEN = r"(?:comments?|responses?|replies|reactions|kommentare?|commentaires?|comentarios?|" \
    r"comentários?|commenti|reacties|komentarz\w*|kommentarer|комментари\w*|отзыв\w*)"
NUMBER = r"\d{1,3}(?:[.,]?\d{3})*"
COUNTED = re.compile(rf"\W*(?:{NUMBER}\s+{WRITTEN}|{WRITTEN}\W+{NUMBER}\W*$)", re.I)
NOTICE = re.compile(r"admonition|callout|\bnotes?\b|\btips?\b|warning|caution|important|\binfo\b|"
                    r"alert|\bhint|footnote|example|definition")


class Evidence(NamedTuple):
    """What speaks against a block: how far it is believed, and the word that it rests on."""
    kind: int
    word: str


def attributes_of(written: str) -> dict[str, str]:
    """A block's attributes as they are written -> name (lower case): value; the first counts."""
    found: dict[str, str] = {}
    for name, a, b, c in ATTRIBUTE.findall(written[:4000]):
        value = a or b or c
        found.setdefault(name.lower(), unescape(value) if "&" in value else value)
    return found


def is_hidden(attributes: dict[str, str]) -> bool:
    """True if a block is not shown. `attributes` has names in lower case, as `attributes_of` gives.

    Four attributes can say so, values but classes in upper or lower case: aria-hidden="true";
    hidden, with any value but "until-found" (it opens when searched for) and "false"; a style in
    which the property display is none or visibility is hidden, wherever it stands in the list
    (HIDDEN_STYLE); and the class "hidden" as a word of its own ("overflow-hidden" is another),
    unless another class shows the block on wider screens: "hidden md:block", also flex, grid,
    inline and table, and what goes on from these words (lg:table-cell, md:inline-flex).
    """
    if attributes.get("aria-hidden", "").lower() == "true":
        return True
    if "hidden" in attributes and attributes["hidden"].lower() not in ("until-found", "false"):
        return True
    if HIDDEN_STYLE.search(attributes.get("style", "").lower()):
        return True
    classes = attributes.get("class", "").split()
    return "hidden" in classes and not any(
        re.match(r"\w+:(?:block|flex|grid|inline|table)", name) for name in classes)


def names_of(attributes: dict[str, str]) -> tuple[str, str]:
    """(what a block is called by class, role and the like; its id), in lower case, without the
    classes that say nothing."""
    classes = [c for c in attributes.get("class", "").lower().split() if not SILENT.fullmatch(c)]
    others = [attributes[n] for n in NAMED[2:] if attributes.get(n)]
    return " ".join(classes + others).lower(), attributes.get("id", "").lower()


def judge_name(name: str) -> Evidence | None:
    """What a name says against its block: "cookie-bar" -> SURE, "post sidebar" -> WEAK, "story" and
    "article-body share" -> None."""
    found = SURELY_UNWANTED.search(name)
    if found:
        return Evidence(SURE, found[0].strip())
    found = UNWANTED.search(name)
    if found and not WANTED.search(name):
        return Evidence(WEAK, found[0].strip("-"))
    return None


def opening_of(node: Node) -> str:
    """How a block begins: the text of its heading, or if it has much prose, its first words."""
    for _ in range(6):
        blocks = [c for c in node.children if type(c) is Run and c.text.strip()
                  or type(c) is Node and c.children][:2]
        first = blocks[0] if blocks else None
        if type(first) is Run:
            called = re.match(r"[\w\s.*]+\(", first.text)
            return first.text[:60] if called or node.mass >= PROSE else ""
        # what leads to the neighbours may stand above the heading
        if first and len(blocks) > 1 and first.link and first.size < 100 \
                and first.tag not in HEADINGS:
            first = blocks[1]
        if type(first) is not Node:
            return ""
        if first.tag in HEADINGS or first.tag in ("dt", "summary", "header"):
            return " ".join(c.text for c in first.children if type(c) is Run) or opening_of(first)
        if first.tag in ("p", "td") and len(first.children) == 1 and first.size < 60 \
                and type(first.children[0]) is Run:
            return first.children[0].text
        node = first
    return ""


def words_of(name: str) -> set[str]:
    """The words of an id or a heading, in the singular: "RelatedWorks" -> {"related", "work"}."""
    name = name.replace("\u2019", "")
    if not name.isascii():               # ids are often written without accents
        name = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name))
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W\d_]+", " ", name)
    return {word.lower().removesuffix("s") for word in parted.split()}


def letters_of(name: str) -> str:
    """The letters of a name, one after another: "2. Pop-ups" -> "popups"."""
    return re.sub(r"[\W\d_]+", "", name).lower()


def made_from_heading(name: str, node: Node) -> bool:
    """True for an id that is the slug of the block's own heading, or a name in a program.

    "related-work" of <h2>2.1 Related work</h2>, "datetime.date"; but "comments" of <h3>12 Comments
    </h3> counts what readers wrote.
    """
    if re.search(r"[.()%/]|\w:\w|\w-\w+-\w+-\w", name) \
            and not re.match(r"(?:\w+-)?comment[\w-]*$", name):
        return True
    first, *rest = re.split(r"[-_:]", name.strip("_-").lower(), maxsplit=1)
    if rest and first in GENERATED and not rest[0].isdigit():
        return True
    opening = opening_of(node)
    if not opening or COUNTED.match(opening):
        return False
    wanted, spoken = words_of(name) - GENERATED, words_of(opening)
    # "popups" of "Pop-ups"
    return bool(wanted) and (wanted <= spoken or letters_of(name) == letters_of(opening))


def is_text(node: Node, found: Evidence) -> bool:
    """True for a block that no name can make anything but text: it holds code; or, if the name is
    of the weakest kind, so much prose without any link that it is no box beside the text."""
    if found.kind == WEAK and node.mass >= LONG_PROSE and not node.link and not is_one_run(node):
        return True
    return holds_code(node)


def is_one_run(node: Node) -> bool:
    """True if one run holds nearly all prose of a block: a long caption, not several paragraphs."""
    while True:
        largest = max(node.children, key=lambda c: c.mass, default=None)
        if largest is None or type(largest) is Run or 10 * largest.mass < 9 * node.mass:
            return type(largest) is Run and 10 * largest.mass >= 9 * node.mass
        node = largest


def holds_code(node: Node) -> bool:
    """True if the first preformatted text among a block's first forty parts is long enough."""
    waiting = [node]
    for block in waiting:                # grows while we read it
        if block.tag == "pre":
            return block.size >= SHORTEST_CODE
        waiting += [c for c in block.children if type(c) is Node][:8 if len(waiting) < 30 else 0]
    return False


class Judged(NamedTuple):
    """What a block's attributes say against it: in any case; by its names; by its id `own`."""
    certain: Evidence | None = None
    named: Evidence | None = None
    by_id: Evidence | None = None
    own: str = ""
    opens: bool = False       # it can be opened by a key or a click: a dialog, a fold


@functools.lru_cache(1 << 14)
def judge_attributes(written: str) -> Judged | None:
    """The attributes of a block as they are written, judged; None if they say nothing."""
    if not TELLING.search(written.lower()):
        return None                     # most blocks
    attributes = attributes_of(written)
    if is_hidden(attributes):
        return Judged(certain=Evidence(HIDING, "hidden"))
    role = attributes.get("role", "").lower() in ROLES
    name, own = names_of(attributes)
    found = Judged(Evidence(SURE, "role") if role else None, judge_name(name) if name else None,
                   judge_name(own) if own else None, attributes.get("id", ""),
                   opens="tabindex" in attributes)
    return found if found.certain or found.named or found.by_id else None


def evidence(node: Node) -> Evidence | None:
    """What speaks against this block by itself; None if nothing does."""
    judged = judge_attributes(node.attributes) if node.attributes else None
    kind = DROPPED_TAGS.get(node.tag)
    if judged is None and kind is None or node.tag in ("html", "body"):
        return None
    # what holds a formula is worth more than a picture's name or a style
    if any(type(c) is Run and "$" in c.text and FORMULA.search(c.text) for c in node.children):
        return None
    if kind is not None:
        found = Evidence(kind, node.tag)
        if node.tag == "aside" and NOTICE.search(node.attribute("class").lower()) \
                or node.tag not in ("nav", "footer") and holds_code(node):
            return None
        return found
    if judged.certain or node.tag in NAMELESS:
        return judged.certain
    found = judged.named
    if found is None and judged.by_id and not made_from_heading(judged.own, node):
        found = judged.by_id
    # Prose is not called after what is around it: a paragraph at all, a block by an ordinary word.
    if found and (node.mass >= PROSE and 5 * node.link < node.size and not judged.opens
                  and (node.tag == "p" or found.kind == WEAK and found.word in ORDINARY)
                  or found.word != "footer" and not READERS.search(found.word)
                  and is_text(node, found)):
        return None
    return found
