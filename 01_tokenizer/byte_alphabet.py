"""GPT-2's alphabet: a printable character for each byte, so that a merge fits on one line of text.

    from byte_alphabet import printable, unprintable
    printable(b" the\\n")                       # 'ĠtheĊ'

Printable bytes stand for themselves, the other 68 for U+0100, U+0101, ... in order: a space is Ġ.
Source: bytes_to_unicode in encoder.py of openai/gpt-2.
"""

from itertools import accumulate
from typing import Iterable

PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
# HF numbers the bytes in the order of their characters: "!" comes first, then to "~", then the
# upper half, and the control bytes last.
HF_BYTE_ORDER = PRINTABLE + [b for b in range(256) if b not in set(PRINTABLE)]

TO_PRINTABLE = {b: chr(b) if b in set(PRINTABLE) else chr(256 + HF_BYTE_ORDER.index(b)
                                                         - len(PRINTABLE)) for b in range(256)}
FROM_PRINTABLE = {character: byte for byte, character in TO_PRINTABLE.items()}
# The same for `translate`, twice as fast: in Latin-1 byte b is the character b, and what is not in
# the alphabet becomes U+0100, which Latin-1 lacks.
_LATIN = {b: 256 for b in range(256)} | {ord(c): b for c, b in FROM_PRINTABLE.items()}


def printable(token: bytes) -> str:
    """`token` in GPT-2's alphabet: `printable(b" the\\n")` is `'ĠtheĊ'`."""
    return "".join([TO_PRINTABLE[b] for b in token])


def unprintable(text: str) -> bytes:
    """The bytes that `printable` shows as `text`; KeyError for other characters."""
    try:
        return text.translate(_LATIN).encode("latin-1")
    except UnicodeEncodeError as error:
        raise KeyError(text[error.start]) from None


class Spelt(dict):
    """Name -> the bytes that it shows, for those of many names that the alphabet can spell.

    A character is a byte, so that all names are turned at once, ten times as fast as one by one,
    and cut apart again. Another name is tried when it is asked for: KeyError, as in `unprintable`.
    """

    def __init__(self, names: Iterable[str]):
        names = list(names)
        if not FROM_PRINTABLE.keys() >= set("".join(names)):
            names = [name for name in names if FROM_PRINTABLE.keys() >= set(name)]
        raw, ends = unprintable("".join(names)), [*accumulate(map(len, names))]
        super().__init__(zip(names, [raw[a:b] for a, b in zip([0, *ends], ends)]))

    def __missing__(self, name: str) -> bytes:
        return unprintable(name)

    def token(self, name: str) -> bytes:
        """The bytes of `name`, one of the names; what the alphabet cannot spell (no text reaches
        it) stands for itself, as in HF's decoder."""
        return self[name] if name in self else name.encode()
