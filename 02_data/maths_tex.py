"""Formulae in a web page -> TeX between dollars, once each, before anything else is done to it.

    inline_maths('<math alttext="x^2">...</math>')  ->  '$x^2$'

A formula on the web is mostly there twice or three times: as MathML for screen readers, hidden; as
a picture or a heap of spans for the eye; as a script with the TeX it was made from. Extractors drop
what is hidden and cannot read the rest, so formulae get lost. We take the TeX where it is given
(annotation, alttext, script, alt text of the picture), put it in the text, and delete the twins.
A dollar sign that is only money is not touched.
"""

import html
import json
import re
from typing import Callable
from urllib.parse import unquote

from html_tree import attribute, unescape
from mathml import mathml_tex

# Only pages with one of these are looked at, one in a hundred: a word that is quick to look for,
# and what it must be part of.
HINTS = {"math": re.compile(r"<(?:\w+:)?math|math/(?:tex|asc)|mwe-math|math-tex|mathtex|r/math"),
         **{f"class={quote}math": re.compile(f"class={quote}math[ {quote}]") for quote in "\"'"},
         "data-tex=": re.compile("data-tex="),
         "atex": re.compile("atex"), "imetex": re.compile("imetex"), "codecogs": re.compile("cogs"),
         "cht=tx": re.compile("cht"), "/equation?": re.compile("tex="),
         "upmath.me/": re.compile("upmath"),
         "s2cms.ru/": re.compile("s2cms"), "z-dn.net/": re.compile(r"\?f="),
         "texrender": re.compile("texrender"), "data-expr": re.compile("data-expr"),
         '="tex': re.compile('="tex(?:error)?[" ]')}
GENERATORS = ("doxygen", "latex2html", "texi2html", "tth")            # they write pictures too
# No pattern may run past the next "<", or a page of unclosed tags would take quadratic time.
ATTRIBUTES = r"""((?:[^<>"']++|"[^"<]*+"|'[^'<]*+'|["'])*+)"""      # a ">" may stand in quotes
MATHML = re.compile(r"<((?:\w{1,9}:)?math)\b" + ATTRIBUTES + ">", re.I)
ANNOTATION = re.compile(r"<(?:\w{1,9}:)?annotation\b[^<>]{0,200}?encoding\s*=\s*[\"']?"
                        r"(?:application/x-)?(?:tex|latex)[\"']?[^<>]{0,200}>(?:\s*<!\[CDATA\["
                        r"((?:[^]<]++|<(?!!)|\](?!\]>))*+)\]\]>|([^<]{0,9000})<)", re.I)
SCRIPT = re.compile(r"<script\b[^<>]{0,200}?type\s*=\s*[\"']?math/(tex|asciimath|mml)"
                    r"([^<>\"']{0,50})[\"']?[^<>]{0,200}>", re.I)
# "++" and "}+" never give back what they took, so this cannot backtrack
IMAGE = re.compile(r"""<img\b(?:[^<>"']{1,3000}+|"[^"]{0,3000}+"|'[^']{0,3000}+'){0,60}+>""", re.I)
IMAGE_CLASS = re.compile(r"\b(?:latex|tex|mwe-math-fallback-image\S*|mathtex|wp-latex|eqn?|"
                         r"math-inline|displaymath|katex|quicklatex|texrender|"
                         r"formula(?:Inl|Dsp))\b|(?<![\w-])math(?![\w-])", re.I)
# An alternative text that is marked as TeX, as LaTeX2HTML writes it.
TEX_ALT = re.compile(r"\s*(?:\$(?!\d+[\d.,]*[\s-])[^$]+\$|\$\$[^$]+\$\$|\\\(.+\\\)|\\\[.+\\\]|"
                     r"\\begin\{(\w+\*?)\}.+\\end\{\1\})\s*", re.S)
DISPLAYED = ("$$", r"\[", r"\begin{displaymath", r"\begin{eq")
IMAGE_ADDRESSES = ("src", "data-src", "data-lazy-src", "data-original")
# Services that draw a formula from its TeX in the address: as the whole query (there "+" and "&"
# are TeX), as the rest of the path, or as one field of a form ("+" is a blank).
DRAWN = re.compile(r"""(?:codecogs\.com/[^?]*|mathtex\.cgi|mimetex\.cgi)\?(?P<whole>.+)|
    (?:upmath\.me|s2cms\.ru)/(?:svg|png|g)/(?P<path>.+)|
    (?:latex\.php|chart(?=\?(?:.*&)?cht=tx)|/equation|render/math|z-dn\.net/)
    \?(?:.*&)?(?:latex|chl|tex|math|f)=(?P<field>[^&]+)""", re.I | re.X | re.S)
SIZES = re.compile(r"\\(?:inline|dpi\s?\{\d+\}|[bf]g_\w+|fn_\w+)\s*")    # codecogs' own commands
ELEMENT = re.compile(r"<(span|div|mjx-container)\b" + ATTRIBUTES + ">", re.I)
TWIN = re.compile(r"(?<![\w-])(?:katex-html|MathJax_Preview|MathJax_Display|MathJax_SVG|MathJax|"
                  r"MathJax_CHTML|MJX_Assistive_MathML|mwe-math-fallback-image\S{0,20})(?![\w-])")
BOTH = re.compile(r"</math>\s*</span>\s*$", re.I)
CONTAINER = re.compile(r"data-(?:expr|latex|tex)\s*=|\bjax\s*=|"
                       r"(?<![\w-])(?:wp-katex-eq|math-tex|texerror|latex-rendered)(?![\w-])")
EXPRESSION = re.compile(r'"persistentExpression":("(?:[^"\\]++|\\.)*+")')     # Substack's
# LaTeXML breaks long formulae with "%" at the end of a line; "\\%" is a sign.
COMMENT = re.compile(r"((?<!\\)(?:\\\\)*)%(?:[^\n]*\n\s*|\s*$)")
NESTED = 8                # how often a page may be read for what is in its elements
FAILURES = 20             # elements that do not end: after so many the page is not worth the time


def clean_tex(tex: str) -> str:
    """One formula without its wrappers, entities resolved, on one line.

    "{\\displaystyle x^{2}}" -> "x^{2}", "$$x$$" -> "x", "\\(a &lt; b\\)" -> "a < b". Entities
    first: they may spell any of the signs that follow. Then a comment (from "%" to the end of its
    line) goes together with its line end, or it would swallow what follows; "\\%" is a sign. Then,
    once each and in this order, a pair of $$, $, \\( \\) or \\[ \\]; one that nothing closes stays.
    Then {\\displaystyle ...}, {\\textstyle ...} or {\\scriptstyle ...}, if these braces belong
    together (`balanced`): "{\\displaystyle a}+{b}" stays as it is. Last a \\displaystyle or
    \\textstyle without braces, and a "%", at the very start. Blanks inside what is taken off go.
    """
    tex = " ".join(COMMENT.sub(r"\1", unescape(tex)).split())
    # Delimiters that the page wrote around it.
    for start, end in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if tex.startswith(start) and tex.endswith(end) and len(tex) >= len(start + end):
            tex = tex[len(start):len(tex) - len(end)].strip()
    # Wikipedia's wrapper, if its two braces are a pair: "{\displaystyle a}+{b}" has none.
    found = re.match(r"\{\s*\\(?:displaystyle|textstyle|scriptstyle)\b\s*(.*)\}$", tex)
    if found and balanced(found[1]):
        tex = found[1].strip()
    tex = re.sub(r"^\\(?:displaystyle|textstyle)\s+", "", tex)
    return re.sub(r"^%\s*", "", tex)


def balanced(tex: str) -> bool:
    """True if every brace in `tex` closes one that is open: "a}{b" is not balanced."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", tex):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def dollars(tex: str, display: bool) -> str:
    """The formula as it goes into the page: $x$ in a line, $$x$$ on its own; "" stays ""."""
    tex = clean_tex(tex)
    if not tex:
        return ""
    mark = "$$" if display else "$"
    return html.escape(f" {mark}{tex}{mark} ", quote=False)


def element_end(page: str, tag: str, start: int, limit: int = 200_000) -> int:
    """Where the element whose contents begin at `start` ends, counting nested ones of its name;
    -1 if it does not end within `limit` characters."""
    depth, stop = 1, start + limit
    for found in re.compile(rf"<(/?){tag}\b[^>]*>", re.I).finditer(page, start, stop):
        depth += -1 if found[1] else 1
        if not depth:
            return found.end()
    return -1


def replace_mathml(page: str) -> str:
    """Every <math> becomes the TeX that it gives (annotation, alttext), else that of its parts."""
    pieces, at, looked, failures = [], 0, 0, 0
    for found in MATHML.finditer(page):
        if found.start() < looked:
            continue
        closing = f"</{found[1]}"
        end = page.find(closing, found.end(), found.end() + 200_000)
        if end < 0:
            failures += 1
            if failures > FAILURES:
                break
            continue
        looked = max(page.find(">", end) + 1, end + len(closing))
        annotation = ANNOTATION.search(page, found.end(), end)
        tex = (annotation[1] or annotation[2] or "") if annotation else ""
        tex = tex if tex.strip() else attribute(" " + found[2], "alttext")
        tex = tex if tex.strip() else html.escape(mathml_tex(page[found.end():end]), quote=False)
        if tex.strip():
            before = page[max(0, found.start() - 300):found.start()]
            display = attribute(" " + found[2], "display") == "block" or \
                re.search(r"katex-display|mwe-math-mathml-display", before) is not None
            pieces += [page[at:found.start()], dollars(tex, display)]
            at = looked
    return "".join(pieces) + page[at:]


def replace_elements(page: str, names: re.Pattern,
                     new: Callable[[str, str, str], str | None]) -> str:
    """Every span or div whose attributes match `names` becomes `new(attributes, contents, the
    fifty characters before it)`; None leaves it."""
    pieces, at, failures, looked = [], 0, 0, 0
    for found in ELEMENT.finditer(page):
        if found.start() < at or not names.search(found[2]):
            continue
        end = element_end(page, found[1], found.end())
        if end < 0:
            failures += 1
            if failures > FAILURES:
                break
            continue
        looked += end - found.end()
        if looked > NESTED * len(page):        # elements in elements: no formula, but an attack
            break
        text = new(" " + found[2], page[found.end():page.rfind("<", 0, end)],
                   page[max(0, found.start() - 50):found.start()])
        if text is not None:
            pieces += [page[at:found.start()], text]
            at = end
    return "".join(pieces) + page[at:]


def drop_twins(page: str) -> str:
    """Delete the rendered copies (KaTeX's and MathJax's spans) of formulae that are given as TeX.

    KaTeX's go only right after the MathML they repeat (with html output alone they are all there
    is), MathJax's if the page has the scripts they were made from.
    """
    scripts = SCRIPT.search(page) is not None

    def twin(attributes: str, contents: str, before: str) -> str | None:
        if "katex" in attributes:
            return "" if BOTH.search(before) else None
        return "" if scripts or "mwe-math" in attributes else None
    return replace_elements(page, TWIN, twin)


def replace_containers(page: str) -> str:
    """Elements whose attribute or whole text is TeX (`data-expr`, wp-katex-eq, math-tex)."""
    def container(attributes: str, contents: str, before: str) -> str | None:
        tex = next(filter(None, (attribute(attributes, "data-" + name)
                                 for name in ("expr", "latex", "tex"))), "")
        if "jax" in attributes and not tex:              # MathJax 4, unless it gives the MathML
            inside = contents.partition("data-latex=")
            tex = attribute(inside[1] + inside[2][:9000], "data-latex")
            if "<math" in contents or not tex:
                return None
        if found := EXPRESSION.search(attribute(attributes, "data-attrs")):
            tex = read_json_string(found[1])
        tex = tex or ("" if "<" in contents else contents)
        return dollars(html.escape(tex, quote=False), "display" in attributes.lower()) \
            if tex.strip() else None
    return replace_elements(page, CONTAINER, container)


def read_json_string(text: str) -> str:
    """What a string in JSON says: '"a\\\\b"' -> "a\\b"; "" if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return ""


def replace_scripts(page: str) -> str:
    """<script type="math/tex; mode=display">x</script> -> $$x$$."""
    pieces, at = [], 0
    for found in SCRIPT.finditer(page):
        end = page.find("</script", found.end())
        if end < 0:
            break
        if found.start() < at:
            continue
        tex = page[found.end():end].replace("<![CDATA[", "").replace("]]>", "").strip("% \n")
        display = "display" in found[2] or tex.startswith("$$")
        pieces += [page[at:found.start()], dollars(tex, display)]
        at = page.find(">", end) + 1 or len(page)
    return "".join(pieces) + page[at:]


def replace_images(page: str) -> str:
    """Pictures of formulae become the TeX in their alt text or in the address that draws them.

    A picture right after a formula that we have already (Wikipedia's fallback) is deleted.
    """
    def image(found: re.Match) -> str:
        tag = found[0]
        name, alt = attribute(tag, "class"), attribute(tag, "alt")
        addresses = (DRAWN.search(attribute(tag, at)) for at in IMAGE_ADDRESSES)
        drawn = next(filter(None, addresses), None)
        if alt.strip() and (IMAGE_CLASS.search(name) or TEX_ALT.fullmatch(alt)):
            tex = alt
        elif drawn and drawn["field"]:
            tex = unquote(drawn["field"].replace("+", " "))
        elif drawn:
            tex = drawn["whole"] or drawn["path"]
            tex = SIZES.sub("", unquote(tex.replace("&space;", " ").replace("&hash;", "#")))
        else:
            return tag
        before = page[max(0, found.start() - len(tex) * 6 - 400):found.start()]
        before = before.rpartition("-->")[2]          # LaTeX2HTML gives the TeX in a comment too
        known = dollars(tex, False).strip().strip("$")
        if known and known + "$" in before:
            return ""
        return dollars(tex, "display" in name or "block" in name or "Dsp" in name
                       or tex.lstrip().startswith(DISPLAYED))
    return IMAGE.sub(image, page)


def inline_maths(page: str) -> str:
    """The page with every formula whose TeX it gives as $...$ or $$...$$, once each.

    '<p>Let <math><annotation encoding="application/x-tex">a&lt;b</annotation></math>' ->
    '<p>Let $a&lt;b$'. A page without formulae comes back as it is.
    """
    if not any(hint in page and pattern.search(page) for hint, pattern in HINTS.items()) \
            and not any(name in page[:3000].lower() for name in GENERATORS):
        return page
    for step in (drop_twins, replace_containers, replace_mathml, replace_scripts, replace_images):
        page = step(page)
    # "$n$ -th" was "<math>...</math>-th"
    return re.sub(r"\$ (?=[^\s\w$<]|th\b)", "$", page)
