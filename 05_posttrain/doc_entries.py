"""Documentation text -> its entries: one function, method or class each, with what is said of it.

The corpus keeps of a pydoc page a definition's signature on a line of its own, then its
documentation, then a blank line:

    argsort(a, axis=-1, kind=None)
        Returns the indices that would sort an array.

    class Counter(builtins.dict)
        Dict subclass for counting hashable items.
"""

import re
from dataclasses import dataclass
from typing import Iterator
from urllib.parse import urlsplit

SIGNATURE = re.compile(r"^(?:(class)\s+)?([A-Za-z_]\w*)\s*(?:=\s*[\w.]+\s*)?"
                       r"(\((?:[^()]|\([^()]*\))*\))(?:\s*->\s*\S.*)?$")


@dataclass(frozen=True)
class Entry:
    """One documented object. `doc` is its text, lines joined by newlines, indentation kept."""
    package: str
    module: str
    owner: str          # the class of a method, else ""
    name: str
    arguments: str      # "a, axis=-1", without the parentheses
    is_class: bool
    doc: str

    @property
    def full_name(self) -> str:
        """The dotted path, "numpy.argsort" or "collections.Counter.elements"."""
        return ".".join(part for part in (self.module, self.owner, self.name) if part)


def module_of(url: str) -> str:
    """The module a page documents: "https://numpy.pydoc.example/numpy.fft.html" -> "numpy.fft"."""
    page = urlsplit(url).path.rsplit("/", 1)[-1]
    return re.sub(r"\.html?$", "", page)


def class_text(lines: list[str]) -> str:
    """What is said of a class itself: without the call pydoc repeats, up to its list of bases."""
    text = "\n".join(lines).split("\nMethod resolution order:")[0].strip("\n")
    return re.sub(r"\A\s*\w+\([^\n]*\)[^\n]*\n", "", text).strip("\n")


def entries(document: dict) -> Iterator[Entry]:
    """The documented objects of one corpus record {"url", "text", "package", ...}, in order.

    A signature alone on its line, not indented, opens an entry; everything up to the next one is
    its text.
    A function whose first argument is `self` or `cls` belongs to the class above it. Objects
    without a text, private ones and repeated names are left out.
    """
    module, owner, seen = module_of(document["url"]), "", set()
    opened, lines = None, []

    def close() -> Iterator[Entry]:
        doc = class_text(lines) if opened and opened[3] else "\n".join(lines).strip("\n")
        if opened and doc.strip():
            entry = Entry(document["package"], module, *opened, doc)
            if entry.full_name not in seen and entry.module:
                seen.add(entry.full_name)
                yield entry

    for line in document["text"].split("\n"):
        match = SIGNATURE.match(line)
        if not match or ">>>" in line:
            lines.append(line)
            continue
        yield from close()
        is_class, name, arguments = bool(match[1]), match[2], match[3][1:-1].strip()
        if is_class:
            owner = name
        method = re.match(r"(self|cls)\b", arguments) is not None and not is_class
        opened = (owner if method else "", name, arguments, is_class)
        lines = []
    yield from close()


def first_sentence(doc: str) -> str:
    """The first sentence of a documentation text on one line, as it stands there; "" if none fits.

    The first paragraph, joined, cut after the first period that closes a sentence. It must have
    3 to 30 words, start with a letter and look like prose: a page's "TYPE_CHECKING = False" or
    "clear(self)" is none.
    """
    paragraph = re.split(r"\n\s*\n", doc.strip(), maxsplit=1)[0]
    text = " ".join(paragraph.split())
    text = re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)\s+(?=[A-Z`'\"(:])", text)[0]
    words = text.split()
    prose = (3 <= len(words) <= 30 and text[0].isalpha() and text.isascii()
             and not re.match(r"(?:async )?[\w.]+(?:\(| = )", text)
             and not re.search(r">>>|::|\.\. |==|->|[{}\\|<]|https?:", text)
             and sum(c.isalpha() or c == " " for c in text) > 0.85 * len(text))
    return text if prose else ""


def returns_sentence(doc: str) -> str:
    """What a text says in its "Returns" section, one line of 2 to 25 words; "" if it has none.

    Reads numpy's sections (a title underlined by dashes), Google's ("Returns:") and Sphinx fields
    (":returns: ...").
    """
    match = (re.search(r"^\s*Returns?\s*\n\s*-{3,}\s*\n(?P<body>(?:.*\S.*\n?)+)", doc, re.M)
             or re.search(r"^\s*Returns?:\s*(?P<body>(?:.*\S.*\n?)+)", doc, re.M)
             or re.search(r"^\s*:returns?:\s*(?P<body>.*(?:\n\s+\S.*)*)", doc, re.M))
    if not match:
        return ""
    body = [line.strip() for line in match["body"].split("\n") if line.strip()]
    # numpy's first line is "name : type"; the description follows, up to the next such line.
    if len(body) > 1 and re.match(r"^[\w, ]+\s*:\s*\S|^\w+$", body[0]):
        body = body[1:]
    more = [i for i, line in enumerate(body) if i and re.match(r"^[\w, ]+ : \S", line)]
    body = body[:more[0]] if more else body
    text = re.split(r"(?<=[.])\s+(?=[A-Z`])", " ".join(body))[0]
    good = 2 <= len(text.split()) <= 25 and text[:1].isalpha() and text.isascii()
    return text if good and not re.search(r">>>|::|[{}\\|<]|-{3}", text) else ""
