"""HTML characters -> a tree of blocks with runs of text in them, in linear time.

    root = parse("<div><p>Hello <b>world</b></div>")

A browser's parser has 80 states. To find a page's text we need three ideas only: block elements
nest, inline elements do not matter (but links do: menus are made of them), and what scripts and
styles hold is no text. The page is cut at every "<" once, and each piece is looked at once, so the
time is linear whatever the page is. Hostile pages are met by limits: nesting deeper than DEPTH is
flattened, and html_pieces.py looks only so far for the end of anything.
"""

import html
import re

from html_pieces import RAW, skip_comment, skip_element, skip_numbers, skip_span, whole_tag

DEPTH = 400
DEEPEST_CODE = 40         # blocks in <pre> whose end tags we wait for
BREAK = "\0"              # a <br>; a page's own NULs are removed first

BLOCKS = frozenset("""address article aside blockquote body caption center col colgroup dd details
dialog dir div dl dt fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 header
hgroup hr html legend li main menu nav ol optgroup option p pre section summary table tbody td
tfoot th thead tr ul""".split())
# Elements whose contents are never text of the page.
SKIPPED = RAW | frozenset("""noscript template svg button select object applet canvas video audio
datalist map amp-ad amp-analytics amp-consent amp-sidebar amp-user-notification""".split())
HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
VOID = frozenset("hr col br img input link meta wbr base area embed param source track".split())
# An opening tag ends an open element of these kinds, since their end tags may be left out.
ENDS = {"li": ("li",), "dt": ("dt", "dd"), "dd": ("dt", "dd"), "tr": ("tr", "td", "th"),
        "td": ("td", "th"), "th": ("td", "th"), "option": ("option",),
        "tbody": ("tbody", "thead", "tr", "td", "th"), "tfoot": ("tbody", "thead", "tr", "td"),
        "thead": ("tbody", "tr", "td")}
# ... but not one outside of the list or table that it stands in.
FENCES = frozenset("ul ol menu dir dl table div section article body".split())
CELL_FENCES = frozenset(("table", "body"))
CELLS = frozenset(("td", "th", "tr", "tbody", "thead", "tfoot"))
# What a tag asks us to do, by its name. Most tags are nothing but one of these names.
START, END, SKIP, BR, LINK, END_LINK, SPAN, NOTHING = range(8)
ACTIONS = ({tag: (START, tag) for tag in BLOCKS} | {"/" + tag: (END, tag) for tag in BLOCKS}
           | {tag: (SKIP, tag) for tag in SKIPPED} | {"br": (BR, "br"), "a": (LINK, "a")}
           | {"/a": (END_LINK, "a"), "span": (SPAN, "span"), "/span": (NOTHING, "span")}
           | {"listing": (START, "pre"), "/listing": (END, "pre")})
INLINE = (NOTHING, "")
# Words in a line that are for machines: [edit], the link sign after a heading, screen readers' own.
UNSEEN = re.compile(r"\b(?:mw-editsection|viewcode-link|sr-only|screen-reader-text|"
                    r"visually-?hidden|assistive-text)\b")
# What the numbers of lines of code stand in (Pygments, Rouge, Hexo, Chroma, Doxygen, GitHub), ...
GUTTER = re.compile(r"(?<![\w-])(?:line(?:nos?|nums?|numbers?|-numbers?|nodiv)|(?:rouge-)?gutter|"
                    r"blob-num|lnt?d?|LineNr|line-numbers-rows|hljs-ln-numbers|crayon-nums?|"
                    r"react-syntax-highlighter-line-number)(?![\w-])")
# ... and a line of code that has an element of its own.
LINE = re.compile(r"\w+\s[^<>]{0,80}?class=[\"']?[^\"'<>]{0,80}(?<![\w-])"
                  r"(?:(?:highlight-|code-|token-|view-|cm-|crayon-|CodeMirror-)?line|ace_line)"
                  r"(?![\w-])")
SELF = frozenset("¶ # § 🔗 ⚓ ∞ ◆ ↑".split())      # links from a heading to itself


class Run:
    """Inline text between two block tags: its characters, and how many of them are in links."""
    __slots__ = ("text", "link", "mass", "parent")

    def __init__(self, text: str, link: int, parent: "Node"):
        self.text, self.link, self.parent, self.mass = text, link, parent, 0


class Node:
    """One block element: its tag, its attributes as written, and its children in order."""
    __slots__ = ("tag", "attributes", "parent", "children", "mass", "size", "link", "dropped")

    def __init__(self, tag: str, attributes: str, parent: "Node | None"):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | Run] = []
        self.mass = self.size = self.link = 0
        self.dropped = False

    def attribute(self, name: str) -> str:
        """The value of one attribute, "" if it is absent; entities are resolved."""
        return attribute(self.attributes, name)


def attribute(attributes: str, name: str) -> str:
    """attribute('class="a b" id=x', "id") -> "x"; "" if it is absent."""
    found = re.search(r"(?:^|[\s\"'/])" + name + r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))",
                      attributes, re.I)
    value = (found[1] or found[2] or found[3] or "") if found else ""
    return unescape(value) if "&" in value else value


COMMON = (("&nbsp;", "\xa0"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'"))


def unescape(text: str) -> str:
    """html.unescape, which refuses references of thousands of digits: those stay as they are."""
    # nearly all references are these, and none of them makes a new "&": three times faster
    for reference, sign in COMMON:
        text = text.replace(reference, sign)
    if "&" not in text:
        return text
    try:
        return html.unescape(text)
    except ValueError:
        return html.unescape(re.sub(r"&#(?=[xX]?[0-9a-fA-F]{9})", "&amp;#", text))


class _Builder:
    """The tree so far: the open element, the text run being collected, and the link state."""

    def __init__(self):
        self.root = self.here = Node("body", "", None)
        self.nodes = [self.root]                 # in document order
        self.open_tags: dict[str, int] = {"body": 1}
        self.depth, self.link = 1, 0
        self.in_link: Node | None = None         # the block in which the open link began
        self.parts: list[str] = []
        self.in_code: list[str] = []             # blocks inside <pre>: lines of code, no nodes
        self.box = "pre"                         # the tag that ends it

    def text(self, text: str) -> None:
        """Add characters to the run, which no blanks begin (but for the indent of code)."""
        if not self.parts and text.isspace() and self.here.tag != "pre":
            return
        if "&" in text:
            text = unescape(text)
        if self.in_link:
            self.link += len(text)
        self.parts.append(text)

    def end_run(self) -> None:
        """Close the run: it becomes a child of the open element, unless it is blank."""
        if self.parts:
            text = "".join(self.parts)
            if text.strip():
                self.here.children.append(Run(text, self.link, self.here))
            self.parts, self.link = [], 0

    def start_link(self, attributes: str, text: str) -> str:
        """A link's opening tag and the text after it; returns what of that is text of the page."""
        if "headerlink" in attributes or "viewcode-" in attributes \
                or "anchor" in attributes and len(text) < 2 \
                or '="#' in attributes and len(text) < 14 and unescape(text).strip() in SELF:
            text = ""                            # the sign after a heading that links to itself
        if "href" not in attributes and ("name=" in attributes or "id=" in attributes
                                         or not attributes):
            return text                          # marks a place, and often nothing ends it
        # a heading that leads to itself is no link
        at_itself = self.here.tag in HEADINGS and '="#' in attributes
        self.in_link = None if at_itself else self.here
        return text

    def pop(self, closed: bool = False) -> None:
        """Close the open element; `closed` says that its own end tag does it."""
        node, self.here = self.here, self.here.parent
        if self.in_link is node:                 # nobody closed the link: its block does
            self.in_link = None
        self.open_tags[node.tag] -= 1
        self.depth -= 1
        # A heading that nobody closed has swallowed the text after it: give it back.
        if not closed and node.tag in HEADINGS:
            at = next((i for i, c in enumerate(node.children) if type(c) is Node), None)
            if at is not None:
                for child in node.children[at:]:
                    child.parent = self.here
                    self.here.children.append(child)
                del node.children[at:]

    def start(self, tag: str, attributes: str, box: str = "pre") -> None:
        """A block's opening tag; ends what HTML lets it end. In <pre> it is a line's beginning.
        A `box` that is no <pre> may hold lines of code too: its own end tag ends it."""
        if self.here.tag == "pre":
            if len(self.in_code) < DEEPEST_CODE and tag not in VOID:
                self.in_code.append(tag)
            return self.new_line()
        if self.parts:
            self.end_run()
        tags = self.open_tags
        if self.here.tag == "p":
            self.pop()
        if tag in HEADINGS and self.here.tag in HEADINGS:
            self.pop()
        for other in ENDS.get(tag, ()):
            if tags.get(other):
                self.end_siblings(ENDS[tag], CELL_FENCES if tag in CELLS else FENCES)
                break
        if self.depth >= DEPTH:
            return                               # flattened: its text goes to the open element
        node = Node(tag, attributes, self.here)
        self.here.children.append(node)
        self.nodes.append(node)
        if tag == "pre":
            self.in_code.clear()
            self.box = box
        if tag not in VOID:
            self.here = node
            self.depth += 1
            tags[tag] = tags.get(tag, 0) + 1

    def end_siblings(self, ends: tuple[str, ...], fences: frozenset[str]) -> None:
        """Close the outermost open element of `ends` that lies inside the nearest fence."""
        node, last = self.here, None
        while node is not None and node.tag not in fences:
            if node.tag in ends:
                last = node
            node = node.parent
        while last is not None and self.here is not last.parent:
            self.pop()

    def end(self, tag: str) -> None:
        """A block's end tag: closes the nearest open element of that name, if there is one, and
        any heading's the heading that is open."""
        if self.here.tag == "pre" and tag in self.in_code:
            while self.in_code.pop() != tag:
                pass
            return self.new_line()
        if self.here.tag == "pre" and tag == self.box:
            tag = "pre"
        if self.parts:
            self.end_run()
        if tag in HEADINGS and self.here.tag in HEADINGS:
            tag = self.here.tag
        if self.open_tags.get(tag, 0) > (tag == "body"):
            while self.here.tag != tag:
                self.pop()
            self.pop(closed=True)

    def new_line(self) -> None:
        """A line's end in code, if its last line has anything on it."""
        if self.parts and not self.parts[-1].endswith(("\n", BREAK)):
            self.parts.append("\n")


def parse(page: str, keep: frozenset[str] = frozenset()) -> tuple[Node, list[Node]]:
    """The tree of a page: its root, and all nodes in document order.

    Elements named in `keep` are read although they are usually skipped.
    """
    if "\0" in page:
        page = page.replace("\0", "")
    builder, never, misses, at = _Builder(), set(), [], 1
    pieces = page.split("<")
    xhtml = page[:200].lstrip().startswith("<?xml") or "/1999/xhtml" in page[:1000]
    builder.text(pieces[0])
    while at < len(pieces):
        head, closed, text = pieces[at].partition(">")
        at += 1
        action, attributes = ACTIONS.get(head) if closed else None, ""
        if action is None:
            action, attributes, head, text, at = read_tag(head, closed, text, pieces, at, misses)
        kind, tag = action
        if attributes and (tag == "td" or tag == "pre" or kind == SPAN and builder.here.tag == "pre"
                           ) and GUTTER.search(attributes):
            text, end = skip_numbers(head, pieces, at, text)
            if end != at:
                at, kind = end, NOTHING
        if kind == START:
            if tag == "div" and at < len(pieces) and "line" in pieces[at][:60] \
                    and holds_lines(pieces, at, text):
                builder.start("pre", attributes, box=tag)
            else:
                builder.start(tag, attributes)
        elif kind == END:
            builder.end(tag)
        elif kind == LINK:
            text = builder.start_link(attributes, text)
        elif kind == END_LINK:
            builder.in_link = None
        elif kind == SPAN:
            if attributes and UNSEEN.search(attributes):
                text, at = skip_span(pieces, at, text)
            elif "postbody" in attributes:
                builder.start(tag, attributes)   # phpBB 2: the text of a post
            elif attributes and builder.here.tag == "pre" and LINE.match(head):
                builder.new_line()
        elif kind == BR:
            builder.parts.append(BREAK)
        elif kind == SKIP and tag not in keep and (head[-1] != "/" or tag in RAW and not xhtml) \
                and "shadowroot" not in attributes \
                and (tag != "button" or builder.here.tag not in HEADINGS):
            # (a heading that is a button opens what is under it)
            end = skip_element(tag, pieces, at, never)
            if tag == "xmp":                     # its contents are shown as they stand
                builder.start("pre", attributes)
                builder.parts.append("<".join([text, *pieces[at:end]]))
                builder.end("pre")
            if end < len(pieces) or head[-1] != "/":
                text, at = ("", end) if end >= 0 else (text, at)
        if text:
            builder.text(text)
    builder.end_run()
    return builder.root, builder.nodes


def read_tag(head: str, closed: str, text: str, pieces: list[str], at: int, misses: list[int]
             ) -> tuple[tuple[int, str], str, str, str, int]:
    """What stands behind a "<" that is no tag of ACTIONS word for word: (action, attributes, the
    tag's inside, the text after it, next piece). `at` is the piece after the one that was cut into
    `head`, `closed` (">" or nothing) and `text`; `misses` as in `whole_tag`."""
    if head[:1] == "/":
        return ACTIONS.get("/" + head[1:].strip().lower(), INLINE), "", head, text, at
    if head[:1].isalpha() and head[:1].isascii():
        if not closed or '"' in head and head.count('"') & 1 or "='" in head:
            head, text, at = whole_tag(pieces, at - 1, misses)
        name, *rest = head.split(None, 1)
        action = ACTIONS.get(name) or ACTIONS.get(name.lower().rstrip("/"), INLINE)
        return action, rest[0] if rest else "", head, text, at
    if head[:1] == "!" or head[:1] == "?":
        return INLINE, "", head, *skip_comment(pieces, at - 1)
    return INLINE, "", head, "<" + pieces[at - 1], at                # a lone "<" is text


def holds_lines(pieces: list[str], at: int, text: str) -> bool:
    """True for a box whose first element, in piece `at`, is a line of code: no block is in it."""
    if text.strip() or at + 1 >= len(pieces) or not LINE.match(pieces[at]):
        return False
    name = pieces[at + 1].partition(">")[0].split(None, 1)
    return not name or name[0].lower() not in BLOCKS
