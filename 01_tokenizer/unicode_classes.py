r"""Unicode's classes of characters in words that the standard library's `re` knows.

    from unicode_classes import translate
    translate(r"\p{L}+|\s")                   # the same pattern with two long character classes

`re` has no `\p{L}`, and its `\s`, `\d` and `\w` are other sets than those of the engines that split
patterns are published for.
"""

import re
import unicodedata
from functools import lru_cache

import numpy as np

UNICODE_VERSION = unicodedata.unidata_version
# Unicode's White_Space property. Python's own \s also takes U+001C to U+001F, and cuts elsewhere.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
ASTRAL = "\U00010000-\U0010ffff"          # beyond the first 65,536 code points: emoji, old scripts


@lru_cache(maxsize=2)
def categories(last: int) -> np.ndarray:
    """The general category of every code point below `last`: `categories(128)[65]` is `b"Lu"`."""
    return np.frombuffer("".join(map(unicodedata.category, map(chr, range(last)))).encode(), "S2")


@lru_cache(maxsize=None)
def code_points(category: str) -> tuple[tuple[int, int], ...]:
    """The ranges (first, last) of all code points whose general category starts with `category`.

    `code_points("Nd")[0]` is `(48, 57)`, the digits 0 to 9. Source: the Unicode standard, 4.5.
    """
    # No letter or number is assigned above plane 3; marks are.
    known = categories(0x40000 if category[0] in "LN" else 0x110000)
    inside = known.astype(f"S{len(category)}") == category.encode()
    # Where the answer changes, a range begins or has just ended.
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return tuple(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist()))


def character_class(category: str, last: int = 0x10FFFF) -> str:
    r"""The inside of a `re` character class for a category, without the points above `last`.

    `character_class("Nd", 0x200)` is `"0-9"`. `re` has no `\p{Nd}`, and its `\d`, `\w` and
    `[^\W\d_]` are other sets: `\w` takes `_`, and `[^\W\d_]` also the 1,131 numbers like ² and Ⅷ.
    """
    # A bracket or hyphen that ends a range is escaped: \p{P} goes from % to *, and from [ to ].
    def shown(point: int) -> str:
        return re.escape(chr(point)) if point < 128 else chr(point)
    return "".join(shown(a) if a == b else f"{shown(a)}-{shown(b)}"
                   for a, b in ((a, min(b, last)) for a, b in code_points(category) if a <= last))


# One symbol of a pattern: a category, an escape, the beginning of a set, options, a count of these
# kinds, or a character. The contractions, in any case, are one symbol.
CONTRACTIONS = r"\(\?i:(?![^)]*ss)['sdtmrevl|[\]]+\)"
COUNTS = r"\{\d+\}\?|\)\{[\d,]*\d[\d,]*\}\+"
SYMBOL = re.compile(rf"{CONTRACTIONS}|{COUNTS}|\(\?[aiLmsux-]+"
                    r"|\\[pP]\{\^?\w+\}|\\x\{|\\.|\[\^?\]?|&&|--|~~|\|\||.", re.S)
# What `re` lacks or reads otherwise than the engines that patterns are published for.
UNLIKE = re.compile(rf"\\[PwWbBAGhHKNORXyYzZ].*|\\x\{{|\\p(?!\{{[CLMNPSZ][a-z]?\}}).*|{COUNTS}"
                    r"|\(\?[a-zL-]*[aLmu][a-zL-]*")
# Behind an option to ignore case: letters, categories and ranges of which engines fold other sets.
UNLIKE_CASE = re.compile(r"[iI]|[sS]{2}|\\p|[^\[]-|[^\0-\x7f]")


def translate(pattern: str, astral: bool = True) -> str:
    r"""A published pattern in words that `re` knows: `\p{..}`, `\s` and `\S` become plain classes.

    A set inside a set is joined with it: `[a[bc]]` is `[abc]`. With `astral=False` no class matches
    a character above U+FFFF (`\S` still does). ValueError holds the symbol that engines read
    differently: scripts, some escapes, `&&`, `--` and negated sets inside sets, and outside of them
    the anchors (a line's end, or the text's?), `a{2}?` (two, or two or none?), `(ab){2}+`, the
    option `m` (a dot is a line feed, or anchors are?), and ignoring the case of more than a few
    letters.
    """
    last, beyond = (0x10FFFF, "") if astral else (0xFFFF, ASTRAL)
    depth, parts = 0, []
    for match in SYMBOL.finditer(pattern):
        symbol, behind = match[0], pattern[match.end():match.end() + 1]
        inside = depth > 0
        if symbol.startswith("(?") and "i" in symbol and not symbol.endswith(")"):
            # What stands behind it, without the letters of further options.
            if not inside and UNLIKE_CASE.search(pattern[match.end():].replace("(?i:", "")):
                raise ValueError(symbol)
        if UNLIKE.fullmatch(symbol) or symbol in (
                ("[^", "[^]", "&&", "--", "~~", "||", r"\S") if inside else ("^", "$")) or (
                inside and symbol[0] == "[" and behind in "-:"):
            raise ValueError(symbol)
        if symbol.startswith(r"\p"):
            members = character_class(symbol[3:-1], last)
            symbol = members if inside else f"[{members}]"
        elif symbol == r"\s":
            symbol = SPACE if inside else f"[{SPACE}]"
        elif symbol == r"\S":
            symbol = f"[^{SPACE}]"
        elif symbol[0] == "[":
            depth += 1
            symbol = symbol[1:] if inside else symbol + (beyond if "^" in symbol else "")
        elif symbol == "]" and inside:
            depth -= 1
            symbol = "" if depth else "]"
        parts.append(symbol)
    return "".join(parts)
