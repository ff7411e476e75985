"""The published splits as numpy operations, for text in any script: many times as fast as `re`.

    from array_split import numbered_pieces, piece_starts

A regular expression walks from piece to piece. But where a piece starts depends only on a few
characters around the place, so that all starts of a text can be found at once. A piece of up to
sixteen bytes is two 64-bit numbers, so that equal pieces are counted by sorting numbers, and looked
up by hashing them (array_encode.py). `split` in pretokenize.py says the same in patterns, and is
what the tests compare this with. Left out: o200k, and patterns of the reader's own.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple, Sequence

import numpy as np

from unicode_classes import SPACE, code_points

BLANK, LINE, LETTER, NUMBER, OTHER, EDGE = range(6)     # BLANK: white space, but not \r and \n
# Name of a pattern -> the rules for white space, and how many numbers make a piece (0: any).
FAMILIES = {"gpt2": ("gpt2", 0), "smollm": ("gpt2", 1), "gpt4": ("gpt4", 3), "qwen2": ("gpt4", 1)}
# The lowest `length` bytes of a 64-bit word.
LOW_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)


@lru_cache(maxsize=2)
def kinds(last: int) -> np.ndarray:
    """The kind of every code point up to `last`; NUL is the edge between two texts."""
    table = np.full(last + 1, OTHER, np.uint8)
    for category, kind in (("L", LETTER), ("N", NUMBER)):
        for first, end in code_points(category):
            table[first:end + 1] = kind
    white = re.compile(f"[{SPACE}]")
    table[[point for point in range(min(last, 0x3000) + 1) if white.match(chr(point))]] = BLANK
    table[[10, 13]] = LINE
    table[0] = EDGE
    return table


def piece_starts(code: np.ndarray, pattern: str = "gpt2") -> np.ndarray:
    """Where the pieces of a text start in the split `pattern`, one of FAMILIES.

    `code` holds the code points (uint8 if all are ASCII); NUL separates texts and must stand at the
    end. For the text "a  b's" and GPT-2's split the starts are `[0, 1, 2, 4, 6]`: `a`, one space,
    ` b`, `'s`, and the edge.
    """
    rules, digits = FAMILIES[pattern]
    kind = kinds(127 if code.dtype == np.uint8 else 0x10FFFF)[code]
    # A piece is a run of one kind, so that it starts where the kind changes ...
    group = np.maximum(kind, LINE)                        # both kinds of white space are one
    starts = np.ones(len(code), bool)
    np.not_equal(group[1:], group[:-1], out=starts[1:])
    if digits:                                            # ... and after every so many numbers ...
        numbers = np.flatnonzero(kind == NUMBER)
        place = np.arange(len(numbers))
        first = np.maximum.accumulate(np.where(starts[numbers], place, 0))
        starts[numbers[(place - first) % digits == 0]] = True
    # ... but white space before a word gives its last character up, which may go with the word.
    (_gpt2_white if rules == "gpt2" else _gpt4_white)(code, kind, group, starts, digits)
    if rules == "gpt4":
        # One sign goes with the letters behind it, if it is a piece of its own.
        word = np.flatnonzero(starts[1:] & starts[:-1] & (kind[1:] == LETTER)
                              & (kind[:-1] == OTHER)) + 1
        starts[word] = False
        _contractions(code, starts, word[code[word - 1] == ord("'")] - 1, fold=32)
    else:
        _contractions(code, starts, np.flatnonzero((code == ord("'")) & starts), fold=0)
    return np.flatnonzero(starts)


def _gpt2_white(code, kind, group, starts, digits) -> None:
    """GPT-2: a blank goes with whatever follows; SmolLM: white space before a number stays."""
    word = np.flatnonzero(starts[1:] & (group[:-1] == LINE) & (kind[1:] != EDGE)) + 1
    if digits:
        word = word[kind[word] != NUMBER]
    starts[word - 1] = True
    starts[word[code[word - 1] == ord(" ")]] = False


def _gpt4_white(code, kind, group, starts, digits) -> None:
    """GPT-4: line feeds go with the signs before them, or end a piece of white space."""
    edges = np.flatnonzero(starts)
    white = group[edges] == LINE
    begin, end = edges[white], edges[1:][white[:-1]]
    lines = np.flatnonzero(kind == LINE)
    if len(lines):
        # Those at the beginning of a run belong to the signs before it.
        taken = (kind[begin] == LINE) & (kind[begin - 1] == OTHER) & (begin > 0)
        behind = lines[np.append(np.diff(lines) > 1, True)] + 1       # the end of each row of them
        starts[begin[taken]] = False
        begin[taken] = behind[np.searchsorted(behind, begin[taken], "right")]
        begin, end = begin[begin < end], end[begin < end]
        starts[begin] = True
        # The last one in a run ends a piece, and what is left of the run starts behind it.
        last = lines[np.searchsorted(lines, end) - 1]
        begin = np.where((last >= begin) & (last < end), last + 1, begin)
        begin, end = begin[begin < end], end[begin < end]
        starts[begin] = True
    word = end[kind[end] != EDGE]
    starts[word - 1] = True
    joins = (kind[word] == LETTER) | (kind[word] == OTHER) & (code[word - 1] == ord(" "))
    starts[word[joins]] = False


def _contractions(code: np.ndarray, starts: np.ndarray, quote: np.ndarray, fold: int) -> None:
    """Let 's 't 'm 'd 're 've 'll be pieces where a quote starts one; with fold=32 capitals too."""
    after, third = code[quote + 1] | fold, code[np.minimum(quote + 2, len(code) - 1)] | fold
    one = (after == ord("s")) | (after == ord("t")) | (after == ord("m")) | (after == ord("d"))
    if fold:
        one |= after == 0x17F                                            # ſ is a capital s
    two = (((after == ord("r")) | (after == ord("v"))) & (third == ord("e"))
           | (after == ord("l")) & (third == ord("l")))
    # It ends after its letters, whatever follows.
    for found, length in ((one, 2), (two, 3)):
        starts[quote[found] + 1] = False
        starts[quote[found] + length] = True


class Pieces(NamedTuple):
    """The pieces of a text: its UTF-8 bytes, where each piece starts in them, how long it is, and
    its first and second eight bytes as numbers, the first byte lowest. Up to sixteen bytes, pieces
    are equal if their numbers are."""

    raw: bytes
    starts: np.ndarray
    lengths: np.ndarray
    low: np.ndarray
    high: np.ndarray


def numbered_pieces(text: str, pattern: str = "gpt2") -> Pieces:
    """The pieces of `text`, NUL characters left out; see Pieces.

    For "ab c" the starts are `[0, 2]`, the lengths `[2, 2]`, the low numbers `[0x6261, 0x6320]`.
    UnicodeEncodeError for lone surrogates.
    """
    # Sixteen bytes more, so that the last piece too can be read as two whole words.
    raw = text.encode() + bytes(16)
    if text.isascii():
        code = np.frombuffer(raw, np.uint8)[:-15]
        starts = piece_starts(code, pattern)
        ends = np.append(starts[1:], len(code))
    else:
        code = np.frombuffer(text.encode("utf-32-le") + bytes(4), np.uint32)
        starts = piece_starts(code, pattern)
        # From characters to bytes: how many bytes stand before each.
        size = 1 + (code > 0x7F).astype(np.int8) + (code > 0x7FF) + (code > 0xFFFF)
        offset = np.append(0, np.cumsum(size, dtype=np.int64))
        starts, ends = offset[starts], offset[np.append(starts[1:], len(code))]
    inside = np.frombuffer(raw, np.uint8)[starts] != 0
    starts, lengths = starts[inside], (ends - starts)[inside]
    # Eight bytes from every place on, as one number; a short piece is the low bytes of it.
    words = np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))
    low = words[starts] & LOW_BYTES[np.minimum(lengths, 8)]
    high = words[starts + 8 * (lengths > 8)] & LOW_BYTES[np.clip(lengths - 8, 0, 8)]
    return Pieces(raw, starts, lengths, low, high)


class ArrayCounter:
    """Counts the pieces of texts without NUL, many texts at once."""

    def __init__(self, pattern: str = "gpt2", size: int = 1 << 19):
        self.pattern, self.size = pattern, size
        # ASCII waits apart from the rest: it needs half the time.
        self.texts, self.waiting = {True: [], False: []}, {True: 0, False: 0}
        # A row (low, high, count) for each piece of up to sixteen bytes, and the rest as bytes.
        self.numbered, self.longer = [np.zeros((0, 3), np.uint64)], Counter()

    def add(self, text: str) -> None:
        """Take one more text; no piece crosses from one to the next."""
        kind = text.isascii()
        self.texts[kind].append(text)
        self.waiting[kind] += len(text)
        if self.waiting[kind] >= self.size:
            self.count(kind)

    def count(self, kind: bool) -> None:
        """Count the texts that wait: those of ASCII, or the others."""
        if not self.texts[kind]:              # nor need numpy know the pattern then
            return
        pieces = numbered_pieces("\0".join(self.texts[kind]), self.pattern)
        self.texts[kind], self.waiting[kind] = [], 0
        self.numbered.append(grouped(pieces))
        if sum(map(len, self.numbered)) > 4 * self.size:
            self.numbered = [summed(np.concatenate(self.numbered))]
        # Longer pieces are rare enough for Python.
        long = pieces.lengths > 16
        first = pieces.starts[long]
        self.longer.update([pieces.raw[a:b] for a, b in
                            zip(first.tolist(), (first + pieces.lengths[long]).tolist())])

    def total(self) -> Counter:
        """How often each piece occurred, by its text."""
        self.count(True), self.count(False)
        numbered = summed(np.concatenate(self.numbered))
        # Back to text: numpy drops the zero bytes at the end of a string.
        short = np.ascontiguousarray(numbered[:, :2].astype("<u8")).view("S16").ravel().tolist()
        pieces = b"\0".join([*short, *self.longer]).decode().split("\0")
        occurrences = numbered[:, 2].astype(np.int64).tolist() + list(self.longer.values())
        return Counter(dict(zip(pieces, occurrences)) if occurrences else {})


def grouped(pieces: Pieces) -> np.ndarray:
    """A row (low, high, count) for each piece of up to sixteen bytes; a piece may have several."""
    tiny, middle = pieces.lengths <= 8, (pieces.lengths > 8) & (pieces.lengths <= 16)
    # Eight bytes are one number, and to sort numbers is the fastest way to count them.
    low, count = np.unique(pieces.low[tiny], return_counts=True)
    once = np.ones(np.count_nonzero(middle), np.uint64)
    return np.concatenate([np.stack([low, np.zeros_like(low), count.astype(np.uint64)], 1),
                           np.stack([pieces.low[middle], pieces.high[middle], once], 1)])


def summed(numbered: np.ndarray) -> np.ndarray:
    """The rows (low, high, count) with those of one piece made one, their counts added."""
    numbered = numbered[np.lexsort((numbered[:, 1], numbered[:, 0]))]
    new = np.ones(len(numbered), bool)
    new[1:] = (numbered[1:, :2] != numbered[:-1, :2]).any(1)
    first = np.flatnonzero(new)
    count = np.add.reduceat(numbered[:, 2], first) if len(first) else numbered[:, 2]
    return np.column_stack([numbered[first, :2], count])
