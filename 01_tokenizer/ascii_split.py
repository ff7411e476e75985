"""GPT-2's split of plain ASCII text as numpy operations: twice as fast as `re`.

A regular expression walks from piece to piece. But where a piece starts depends only on a few bytes
around the place, so that all starts of a megabyte can be found at once; and a piece of up to eight
bytes is one 64-bit number, so that equal pieces are counted by sorting numbers, and looked up by
hashing them (ascii_encode.py). Most of a corpus in English or code goes this way; `count_texts` in
pretokenize.py sends the rest through `re`.
"""

from collections import Counter
from typing import Sequence

import numpy as np

SPACE, LETTER, DIGIT, OTHER, EDGE = range(5)
# The class of each byte. NUL is the edge between two texts: no piece crosses it.
CLASS = np.full(256, OTHER, np.uint8)
CLASS[list(b"\t\n\v\f\r ")] = SPACE
CLASS[[byte for byte in range(128) if chr(byte).isalpha()]] = LETTER
CLASS[[byte for byte in range(128) if chr(byte).isdigit()]] = DIGIT
CLASS[0] = EDGE
# The lowest `length` bytes of a 64-bit word.
LOW_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)


def piece_starts(raw: np.ndarray) -> np.ndarray:
    """Where the pieces of ASCII text start, in GPT-2's split; NUL bytes separate texts.

    `raw` holds the bytes (uint8). For `b"a  b's"` the starts are `[0, 1, 2, 4]`: `a`, one space,
    ` b` and `'s`.
    """
    kind = CLASS[raw]
    # A piece is a run of one class, so that it starts where the class changes ...
    starts = np.ones(len(raw), bool)
    np.not_equal(kind[1:], kind[:-1], out=starts[1:])
    # ... but before a word the last white space stands alone, and a blank goes with the word.
    word = np.flatnonzero(starts[1:] & (kind[:-1] == SPACE) & (kind[1:] != EDGE)) + 1
    starts[word - 1] = True
    starts[word[raw[word - 1] == ord(" ")]] = False
    # An apostrophe that starts a piece may be a contraction: 's 't 'm 'd, or 're 've 'll.
    quote = np.flatnonzero((raw[:-1] == ord("'")) & starts[:-1])
    after = raw[quote + 1]
    one = quote[np.isin(after, list(b"stmd"))]
    quote, after = quote[quote + 2 < len(raw)], after[quote + 2 < len(raw)]
    third = raw[quote + 2]
    two = quote[((after == ord("r")) | (after == ord("v"))) & (third == ord("e"))
                | (after == ord("l")) & (third == ord("l"))]
    # It ends after its letters, whatever follows.
    for found, length in ((one, 2), (two, 3)):
        starts[found + 1] = False
        ends = found + length
        starts[ends[ends < len(raw)]] = True
    return np.flatnonzero(starts)


def numbered_pieces(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces of an ASCII text as (starts, lengths, numbers), NUL characters left out.

    A piece's number is its first eight bytes, the first one lowest: `numbered_pieces("ab c")` is
    `[0, 2], [2, 2], [0x6261, 0x6320]`. Pieces of up to eight bytes are equal if their numbers are.
    """
    # Eight bytes more, so that the last piece too can be read as a whole word.
    raw = np.frombuffer(text.encode("ascii") + bytes(8), np.uint8)
    starts = piece_starts(raw)
    lengths = np.diff(starts, append=len(raw))
    inside = raw[starts] != 0
    starts, lengths = starts[inside], lengths[inside]
    # Eight bytes from every place on, as one number; a short piece is the low bytes of it.
    words = np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))
    return starts, lengths, words[starts] & LOW_BYTES[np.minimum(lengths, 8)]


def count_ascii(texts: Sequence[str]) -> Counter:
    """How often each piece of GPT-2's split occurs in texts of ASCII characters without NUL.

    `count_ascii(["a a a", "a"])` is `Counter({'a': 2, ' a': 2})`.
    """
    joined = "\0".join(texts)
    starts, lengths, numbers = numbered_pieces(joined)
    short = lengths <= 8
    numbers, occurrences = np.unique(numbers[short], return_counts=True)
    # Back to text: numpy drops the zero bytes at the end of a string.
    pieces = numbers.astype("<u8").view("S8").astype("U8").tolist()
    counts = Counter(dict(zip(pieces, occurrences.tolist())))
    # Longer pieces are rare enough for Python.
    first = starts[~short]
    counts.update([joined[a:b] for a, b in zip(first.tolist(), (first + lengths[~short]).tolist())])
    return counts
