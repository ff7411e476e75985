"""The page that pydoc renders for a module -> its text, laid out as Python's `help` would.

    pydoc_text(page)   # None if the page is not pydoc's

Large crawlers keep a template for each large site; the embedded crawl is one such site. A template
knows what a general extractor can only guess: which lists are menus, which methods are repeated on
every page that inherits them, and that leading blanks mean something. What remains:

    collections

    class Counter(builtins.dict)
        Dict subclass for counting hashable items. ...

        elements(self)
            Iterator over elements repeating each as many times as its count.

    namedtuple(typename, field_names, *, rename=False)
        Returns a new subclass of tuple with named fields.
"""

import re

from html_tree import unescape

MARK = "<title>Python: "
SECTION = '<td class="section-title" colspan=3>&nbsp;<br>'
PRELUDE = re.compile(r'<td class="[\w -]{0,50}" colspan=2>')
ANCESTORS = "<dl><dt>Method resolution order:</dt>"
NOTE = '<span class="grey"><span class="heading-text">'
MENUS = ("Package Contents", "Modules")
# A call on a line of its own, or with a line for each argument, and nothing beside it.
CALL = r"\((?:.*|\n(?:[ ].*\n)+\).*)(?:\n\n|\Z)"
# Said of every class there is; a page in twenty consists of little else.
STOCK = ("dictionary for instance variables", "list of weak references to the object",
         "Initialize self.  See help(type(self)) for accurate signature.",
         "Return repr(self).", "Create and return a new object.  See help(type) for accurate")


def plain(fragment: str) -> str:
    """Markup -> text with its line ends and leading blanks: "a&nbsp;&lt;<br>\\nb" -> "a <\\nb"."""
    # "<" may not stand in a tag: each one looks as far as the next one and no further
    text = unescape(re.sub(r"<[^<>]*>", "", fragment)).replace("\xa0", " ")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def signature(fragment: str) -> str:
    """The heading of an entry as one line: "loads(s, *, cls=None)"."""
    text = plain(fragment.partition(NOTE)[0])
    # since Python 3.13 a long one has a line for each argument, and one for each parenthesis
    if "\n" in text:                    # (blanks are looked at from their first one only)
        text = re.sub(r"(?:,|(?<![\s,])(?=\s))\s++\)", ")", re.sub(r"\(\n\s*", "(", text))
    return " ".join(text.split())


def indented(text: str, depth: int) -> str:
    """Every line that is not empty moved right by `depth` levels of four blanks."""
    return "\n".join("    " * depth + line if line else "" for line in text.split("\n"))


def entries(body: str, depth: int) -> list[str]:
    """The functions, methods or attributes listed in `body`: signature, then documentation.

    Names with neither arguments nor documentation, and stock phrases, say nothing and are left out.
    """
    found = []
    for part in body.split("<dl><dt>")[1:]:
        heading, _, rest = part.partition("</dl>")[0].partition("<dd>")
        heading, text = signature(heading), plain(rest)
        if text.startswith(STOCK) or (not text and (heading.startswith("_") or "(" not in heading)):
            continue
        if re.match(r"\w+ = <", heading):
            continue                # an attribute: the documentation is that of its type
        lines = indented(heading, depth)
        found.append(lines + "\n" + indented(text, depth + 1) if text else lines)
    return found


def class_text(title: str, content: str) -> list[str]:
    """A class section: its heading with its documentation, then its own methods and attributes.

    Inherited ones are on the page of the class that defines them.
    """
    heading, body = signature(title), content
    prelude = PRELUDE.search(content)
    documentation = ""
    if prelude:
        documentation, _, body = content[prelude.end():].partition("</td></tr>")
        documentation = plain(documentation).strip("\n ")
        # pydoc puts the constructor's call before the text; `__init__` says it again below
        name = re.search(r"\w+", heading.removeprefix("class "))
        call = name and re.match(name[0] + CALL, documentation)
        if call:
            documentation = documentation[call.end():].strip("\n")
    block = heading + ("\n" + indented(documentation, 1) if documentation else "")
    found = [block]
    before, ancestors, after = body.partition(ANCESTORS)
    if ancestors:
        body = before + after.partition("</dl>")[2]
    for group in body.split("<hr>\n"):
        label, _, members = group.partition(":<br>\n")
        if "inherited from" not in label:
            found += entries(members, 1)
    return found


def data_lines(body: str) -> str:
    """The constants of a module, one a line, without Python's own (`__all__`, `__file__`)."""
    start = body.find('<td class="singlecolumn">')
    lines = [" ".join(plain(part).split()) for part in body[max(start, 0):].split("<br>\n")]
    return "\n".join(line for line in lines if line and not line.startswith("__"))


def pydoc_text(page: str) -> str | None:
    """The text of a module's page by pydoc; None if `page` is something else.

    Entries are separated by an empty line; a signature stands on a line of its own, and its
    documentation follows, indented by four blanks more, with its own indentation kept.
    """
    if MARK not in page[:1500] or 'class="heading-text decor"' not in page[:1500]:
        return None
    head, *sections = page.split(SECTION)
    name = plain(head.partition(MARK)[2].partition("</title>")[0])
    # after the heading: the module's own documentation
    blocks = [name, plain(head.partition("</table>")[2].lstrip())]
    for section in sections:
        title, _, content = section.partition("</td>")
        label = plain(title)
        if label in MENUS or label == "Classes":
            continue
        if label == "Functions":
            blocks += entries(content, 0)
        elif label == "Data":
            blocks.append(data_lines(content))
        elif label in ("Author", "Credits"):
            start = content.find('<td class="singlecolumn">')
            blocks.append(f"{label}: {plain(content[max(start, 0):])}")
        else:
            blocks += class_text(title, content)
    return "\n\n".join(block for block in blocks if block.strip())
