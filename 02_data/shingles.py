"""Text to the hashes of its word n-grams ("shingles"), a few hundred documents at a time in numpy.

    words: lower case, marks and punctuation off     "The caf\u00e9, the bar!" -> the cafe the bar
    shingles: hashes of n consecutive words           n = 2 -> {the cafe, cafe the, the bar}

MinHash, verification, quality features and decontamination all start from these. `slow_shingles`
is the clear version: a set of word tuples, about nine times slower; the tests hold both equal.
Left out: stemming, and numbers mapped to one digit (in documentation float32 is not float64).
"""

import functools
import re
import unicodedata

import numpy as np

from writing_systems import MARKS, UNSPACED

# ASCII in one pass: letters to lower case, digits kept, everything else to a space.
_ASCII = bytes(ord(chr(c).lower()) if chr(c).isalnum() else 32 for c in range(128)) + \
    bytes(range(128, 256))
_SIGNS = "\u2019\u2018\u201c\u201d\u2013\u2014\u2026\u00a0\u2022"       # in most English texts
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
# Scripts written without spaces: each character is a word of its own.
_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
# Accents that one may leave out, and the points of Hebrew and Arabic; the vowel signs of Hindi or
# Thai are letters like others.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670]+")
_NOT_WORD = re.compile(f"[^\\w{MARKS}]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)                 # odd, so it has an inverse modulo 2^64
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_NGRAM_BASE = np.uint64(0xD6E8FEB86659FD93)
_powers = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


def normalise_text(text: str) -> bytes:
    """The words of `text` as UTF-8, in lower case, one space or more between words.

    Accents are dropped, punctuation and underscores become spaces, and each character of a script
    without spaces (Chinese, Japanese, Thai, Khmer ...) is a word: "Caf\u00e9_bar" -> b"cafe bar".
    """
    if not text.isascii():
        for sign in _SIGNS:             # ten times faster than a pattern
            text = text.replace(sign, " ")
    if not text.isascii():
        text = _FOREIGN.sub(lambda run: _plain(run[0]), text)
    return text.encode("utf-8", "replace").translate(_ASCII)


@functools.lru_cache(1 << 14)
def _plain(run: str) -> str:
    """A run of characters beyond ASCII in lower case, without accents and signs."""
    # NFD splits an accented letter into letter and mark
    letters = _ACCENTS.sub("", unicodedata.normalize("NFD", run.lower()))
    letters = unicodedata.normalize("NFC", letters)      # Korean syllables and kana whole again
    return _UNSPACED_RUN.sub(lambda part: f" {' '.join(part[0])} ", _NOT_WORD.sub(" ", letters))


def mix(h: np.ndarray) -> np.ndarray:
    """Scramble 64-bit hashes so that every input bit reaches every output bit (splitmix64)."""
    h = h ^ (h >> np.uint64(30))
    h = h * np.uint64(0xBF58476D1CE4E5B9)
    h = h ^ (h >> np.uint64(27))
    h = h * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _grow_powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE^i and BASE^-i modulo 2^64 for i < length, kept between calls."""
    if len(_powers[0]) < length:
        size = max(length, 2 * len(_powers[0]))
        for slot, base in ((0, _BASE), (1, _INVERSE)):
            steps = np.full(size, base, np.uint64)
            steps[0] = 1
            _powers[slot] = np.multiply.accumulate(steps)
    return _powers[0], _powers[1]


def word_hashes(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Hash every space-separated word of `data` at once: (hashes (W,) uint64, starts (W,)).

    A word's hash is the polynomial sum_i byte_i * BASE^i modulo 2^64, scrambled. With prefix sums
    S it costs no loop: (S[end] - S[start]) * BASE^-start. Equal words get equal hashes anywhere.
    """
    a = np.frombuffer(data, np.uint8)
    if not len(a):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    power, inverse = _grow_powers(len(a) + 1)
    letter = a != 32
    edges = np.flatnonzero(np.diff(letter, prepend=False, append=False))
    starts, ends = edges[0::2], edges[1::2]
    # S[i] = sum of the first i terms; the +1 keeps a word of NUL bytes apart from no word.
    sums = np.zeros(len(a) + 1, np.uint64)
    np.cumsum((a.astype(np.uint64) + np.uint64(1)) * power[: len(a)], out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverse[starts]), starts


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Hash n consecutive word hashes: (W,) -> (max(W - n + 1, 0),) uint64; order matters."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    count = len(words) - n + 1
    h = np.zeros(count, np.uint64)
    for k in range(n):  # Horner: h = (((w0) B + w1) B + w2) ...
        h = h * _NGRAM_BASE + words[k:k + count]
    return mix(h)


def shingle_batch(texts: list[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Shingles of many texts in one array: (hashes (S,) uint64, bounds (len(texts) + 1,)).

    Text i owns hashes[bounds[i]:bounds[i + 1]], repeats included. A text of fewer than n words has
    one shingle made of all its words; a text without words has none.
    """
    pieces = [normalise_text(text) for text in texts]
    words, starts = word_hashes(b" ".join(pieces))
    ends = np.cumsum([len(p) + 1 for p in pieces]) if pieces else np.zeros(0, np.int64)
    bounds = np.concatenate([[0], np.searchsorted(starts, ends)]).astype(np.int64)
    counts = np.diff(bounds)
    # n-grams of the whole batch, then only those which do not cross from one text to the next
    grams = ngram_hashes(words, n)
    own = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    out = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
    offsets = np.arange(out[-1]) - np.repeat(out[:-1], own) + np.repeat(bounds[:-1], own)
    full = np.repeat(counts >= n, own)
    hashes = np.zeros(out[-1], np.uint64)
    hashes[full] = grams[offsets[full]] if len(grams) else 0
    for i in np.flatnonzero((counts > 0) & (counts < n)):
        hashes[out[i]] = ngram_hashes(words[bounds[i]:bounds[i + 1]], counts[i])[0]
    return hashes, out


def shingles(text: str, n: int = 5) -> np.ndarray:
    """The sorted distinct 64-bit shingle hashes of one text."""
    return np.unique(shingle_batch([text], n)[0])


def slow_shingles(text: str, n: int = 5) -> set[tuple[bytes, ...]]:
    """The distinct n-tuples of words of `text`: the clear version of `shingles`."""
    words = normalise_text(text).split()
    if 0 < len(words) < n:
        return {tuple(words)}
    return {tuple(words[i:i + n]) for i in range(len(words) - n + 1)}
