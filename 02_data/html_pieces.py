"""The pieces of a page between its "<" signs: where a tag, a comment or a script ends.

A page cut at every "<" is a list of pieces. Most tags end in the piece that they begin in; the five
functions here look further where one does not, each as far as its limit, so that the time for a
page stays linear in its length. Each returns the text after what it skipped, and the next piece.
"""

import re

QUOTE = 20_000            # characters that a quoted attribute may have
MISSES = 30               # quotes that do not close, before we stop to believe in them
LONGEST_UNSEEN = 40       # pieces
DEEPEST_NUMBERS = 3       # elements of one name in each other that hold numbers of lines
NUMBERS = re.compile(r"(?:[\d\s]|&nbsp;|&#160;)*+")
COMMENT_END = re.compile("--!?>")
# What is inside a tag; "++" never gives back what it took, so that this cannot backtrack.
INSIDE = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+""")
# Elements that only their own end tag ends, whatever stands before it.
RAW = frozenset("script style title textarea iframe noembed xmp".split())


def whole_tag(pieces: list[str], at: int, misses: list[int]) -> tuple[str, str, int]:
    """(inside of the tag, text after it, next piece) for the tag in piece `at`, minding quotes:
    a ">" or "<" in a quoted attribute does not end it. `misses` notes quotes that never closed:
    on a page with many, nobody looks far for the next one."""
    piece = pieces[at]
    end = INSIDE.match(piece).end()
    if piece[end:end + 1] == ">":
        return piece[:end], piece[end + 1:], at + 1
    # It reaches over several pieces: look further and further, as far as an attribute may go.
    look, size = at, 0
    for window in (200, 2_000, QUOTE) if len(misses) < MISSES else (200,):
        while look < len(pieces) and size < window:
            size += len(pieces[look]) + 1
            look += 1
        text = "<".join(pieces[at:look])
        end = INSIDE.match(text).end()
        if text[end:end + 1] == ">":
            rest, _, _ = text[end + 1:].partition("<")
            return text[:end], rest, at + 1 + text.count("<", 0, end)
    if end == len(text):
        return text, "", look                    # no end in sight: all of it is the tag
    misses.append(at)
    tag, _, rest = piece.partition(">")          # a quote that never closes is no quote
    return tag, rest, at + 1


def skip_element(tag: str, pieces: list[str], at: int, never: set[str]) -> int:
    """The piece with the end tag of a skipped element that starts before piece `at`; -1 if it has
    none and was opened by mistake."""
    if tag not in never:
        end = "/" + tag
        for i in range(at, len(pieces)):
            if pieces[i][:len(end)].lower() == end:
                return i
            # one button ends another: nobody closed the first
            if tag == "button" and pieces[i][:6].lower() == tag:
                return -1
        never.add(tag)
    # An unclosed script is a script to the end; an unclosed button is a mistake.
    return len(pieces) if tag in RAW else -1


def skip_span(pieces: list[str], at: int, text: str) -> tuple[str, int]:
    """(text after the end of a short span that is not shown, next piece); (text, at) if it does not
    end soon."""
    depth = 1
    for i in range(at, min(at + LONGEST_UNSEEN, len(pieces))):
        depth += pieces[i].startswith("span") - pieces[i].startswith("/span")
        if not depth:
            return pieces[i].partition(">")[2], i + 1
    return text, at


def skip_numbers(head: str, pieces: list[str], at: int, text: str) -> tuple[str, int]:
    """(text after an element that holds the numbers of lines and nothing else, next piece); (text,
    at) for another. `head` is the inside of its tag, `text` what follows it."""
    tag, depth = head.split(None, 1)[0].lower(), 1
    if not NUMBERS.fullmatch(text):
        return text, at
    for i in range(at, len(pieces)):
        head, _, rest = pieces[i].partition(">")
        name = head.split(None, 1)[0].lower() if head.strip() else ""
        depth += (name == tag) - (name == "/" + tag)
        if not depth:
            return rest.removeprefix("&#160;"), i + 1
        if depth > DEEPEST_NUMBERS or not NUMBERS.fullmatch(rest):
            break
    return text, at


def skip_comment(pieces: list[str], at: int) -> tuple[str, int]:
    """(text after the comment or declaration in piece `at`, next piece)."""
    piece = pieces[at]
    if not piece.startswith("!--"):
        return piece.partition(">")[2], at + 1
    if piece.startswith(("!-->", "!--->")):
        return piece.partition(">")[2], at + 1
    for i in range(at, len(pieces)):
        end = COMMENT_END.search(pieces[i], 3 if i == at else 0)
        if end:
            return pieces[i][end.end():], i + 1
    return "", len(pieces)
