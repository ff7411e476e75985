"""Rules of thumb that throw pages away: Gopher's, C4's, FineWeb's, and our own for documentation.

    gopher_quality("short page")       -> "Gopher words: 2 is under 50"
    gopher_quality(a_good_page)        -> None, kept

Every rule set is a function from a text to None (kept) or the reason with the number. Where papers
and their code disagree, this is what we do, and why (tests/02_data/test_heuristics.py has an
example at each exact threshold; a bound itself is always kept):

- A word is a run of non-space characters, for every rule; in scripts without blanks a piece of such
  a run (writing_systems.py). Counting punctuation as words makes clean prose fail the 80 % rule
  (2 of 20 real pages in datatrove's reading, 5 of 20 in another). A Chinese sign counts as three
  letters, a Korean one as two; each script has its own full stops, a language its own stop words.
- Word length: the mean (datatrove, DCLM), not the median (Dolma).
- Symbols: '#' and the ellipsis are tested apart (datatrove), not added (DCLM).
- Bullets: the union of what the three projects count. Stop words: two DIFFERENT ones, in any case;
  "the the" says little about a page, and headings are written in capitals.
- Lines: blank ones are none (datatrove counts them among Gopher's, so that three lines of ten
  may be two of six).
- Duplicate lines and paragraphs: second and later copies count, by number and by characters.
- Duplicate n-grams: every copy counts, each character once however many n-grams cover it (Gopher's
  own words and DCLM's code; datatrove leaves out the first copy, Dolma's sum can exceed 1).
- C4: a line has at least 5 words, a page at least 3 sentences (the final paper and its code; the
  early paper, and datatrove, have 3 and 5). A "{" anywhere ends a page (the paper; the code looks
  only at lines that survived). C4 as FineWeb ran it keeps lines without a full stop and drops those
  under 3 words; we keep the short ones too, because in a code block they are code. Each line that
  stays is at least one sentence, as in datatrove.
- FineWeb: at most 0.1 of the characters in repeated lines (the paper; datatrove's default is 0.01).
  A closing quote ends a line (the code of the paper's time; datatrove's is since without quotes).

On 100 news pages and 80 that we bent, datatrove agrees in 155 (Gopher quality; 18 of the rest are
its punctuation words), 175 (repetition), 177 (C4 at 5 and 3) and 178 (FineWeb at 0.1) of 180.

Left out: C4's language test (language.py), its bad words (safety.py), its three-sentence spans
(dedup.py works on lines and entries).
"""

import re
from pathlib import Path

import numpy as np

from writing_systems import (LETTERS, ends_sentence, letters_in, sentence_ends, signs_used,
                             UNSPACED, words_of)

BULLETS = ("\u2022", "\u25cf", "*", "-")
ELLIPSES = ("\u2026", "...")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies",
          "use cookies")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]", re.IGNORECASE)
_ANY_UNSPACED = re.compile(f"[{UNSPACED}]")
_SIGNS = ".,;:!?()\"'\u060c\u061b\u061f\u06d4\u0964"


def read_stop_words(path: Path) -> dict[str, frozenset[str]]:
    """Lines of code, tab, words -> the words of each language; lines that start with # are remarks.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    return {code: frozenset(words.split()) for code, _, words in
            (line.partition("\t") for line in lines if line and line[0] != "#")}


STOP_WORDS_OF = read_stop_words(Path(__file__).with_name("stop_words.tsv"))
STOP_WORDS = STOP_WORDS_OF["en"]


def lines_of(text: str) -> list[str]:
    """The lines of `text` that are not blank, without the white space around them."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
    """The parts of `text` between blank lines, stripped."""
    return [part for part in map(str.strip, re.split(r"\n\s*\n", text)) if part]


def _outside(name: str, value: float, low: float, high: float) -> str | None:
    """None if low <= value <= high, else the reason with the number."""
    if value < low:
        return f"{name}: {value:.4g} is under {low:g}"
    if value > high:
        return f"{name}: {value:.4g} is over {high:g}"
    return None


def gopher_quality(text: str, stop_words: frozenset[str] = STOP_WORDS) -> str | None:
    """Gopher's quality rules (Rae et al. 2021, table A1): None if kept, else the first reason.

    50 to 100,000 words of mean length 3 to 10; at most 0.1 '#' or ellipses per word, wherever they
    stand; at most 0.9 of the lines (blank ones are none) start with a bullet and 0.3 end in an
    ellipsis; at least 0.8 of the words hold a letter; at least two different words of `stop_words`,
    in any case (without any, no such rule: the eight are English; STOP_WORDS_OF has other
    languages'). Words and letters are those of `words_of` and `letters_in`.
    A text of one sentence repeated passes here: that is gopher_repetition's business.
    """
    words, lines = words_of(text), lines_of(text)
    count, rows = max(len(words), 1), max(len(lines), 1)
    # cheapest first: the page's size
    reason = (_outside("Gopher words", len(words), 50, 100_000)
              or _outside("Gopher word length", letters_in("".join(words)) / count, 3, 10))
    if reason:
        return reason
    # then what the words and lines are made of
    dots = text.count(ELLIPSES[0]) + text.count(ELLIPSES[1])
    stops = {w.strip(_SIGNS).lower() for w in words} & stop_words
    if not text.isascii() and _ANY_UNSPACED.search(signs_used(text)):
        # without blanks a stop word is wherever its signs stand
        stops |= {w for w in stop_words if _ANY_UNSPACED.match(w) and w in text}
    return (_outside("Gopher hashes per word", text.count("#") / count, 0, 0.1)
            or _outside("Gopher ellipses per word", dots / count, 0, 0.1)
            or _outside("Gopher bullet lines", sum(x.startswith(BULLETS) for x in lines) / rows,
                        0, 0.9)
            or _outside("Gopher ellipsis lines", sum(x.endswith(ELLIPSES) for x in lines) / rows,
                        0, 0.3)
            or _outside("Gopher alphabetic words",
                        sum(1 for w in words if w.isalpha() or LETTERS.search(w)) / count, 0.8, 1)
            or _outside("Gopher stop words", len(stops), 2 if stop_words else 0, 10**9))


def repeated_parts(parts: list[str]) -> tuple[float, float]:
    """Share of `parts` that are second or later copies: (by number, by characters).

    repeated_parts(["ab", "ab", "abcd"]) = (1/3, 2/8); parts without a character, and
    an empty list, give (0, 0).
    """
    total = sum(map(len, parts))
    if not total:
        return 0.0, 0.0
    # all parts, less one of each kind
    kinds = set(parts)
    return ((len(parts) - len(kinds)) / len(parts),
            (total - sum(map(len, kinds))) / total)


def top_ngram_share(ids: np.ndarray, lengths: np.ndarray, n: int) -> float:
    """Characters in the most frequent n-gram that occurs at least twice, over all word characters.

    `ids` (W,) says which word stands where, `lengths` (W,) its characters; n >= 2. Equally frequent
    n-grams: the longest counts. The words a b a b c (one letter each) for n = 2: the top is "a b",
    twice, 4 of 5 characters. Overlapping copies count in full here, so cap at 1.
    """
    if len(ids) < n:
        return 0.0
    grams = _ngram_ids(ids, n)
    # how often each n-gram occurs, and how many characters it has
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    top = counts.max()
    if top < 2:
        return 0.0
    ends = np.concatenate([[0], np.cumsum(lengths)])
    longest = (ends[first + n] - ends[first])[counts == top].max()
    return min(1.0, float(top * longest / ends[-1]))


def duplicate_ngram_share(ids: np.ndarray, lengths: np.ndarray, n: int) -> float:
    """Share of word characters inside n-grams that occur more than once, each counted once.

    All copies count, the first as well. The words a b c a b d (one letter each), n = 2: "a b"
    occurs twice and covers four of six words: 4/6.
    """
    if len(ids) < n:
        return 0.0
    _, inverse, counts = np.unique(_ngram_ids(ids, n), return_inverse=True, return_counts=True)
    starts = np.flatnonzero(counts[inverse] > 1)
    # mark the n words from each repeated start: +1 where cover begins, -1 where it ends
    cover = np.zeros(len(ids) + 1, np.int64)
    np.add.at(cover, starts, 1)
    np.add.at(cover, starts + n, -1)
    covered = np.cumsum(cover[:-1]) > 0
    return float(lengths[covered].sum() / max(lengths.sum(), 1))


def _ngram_ids(ids: np.ndarray, n: int) -> np.ndarray:
    """One 64-bit number per n-gram of word ids: (W,) -> (W - n + 1,)."""
    count = len(ids) - n + 1
    h = np.zeros(count, np.uint64)
    for k in range(n):
        h = (h ^ ids[k:k + count].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
    return h


def gopher_repetition(text: str) -> str | None:
    """Gopher's repetition rules (Rae et al. 2021, table A1): None if kept, else the first reason.

    Repeated lines and paragraphs: at most 0.30 by number and 0.20 by characters. The most frequent
    2-, 3-, 4-gram holds at most 0.20, 0.18, 0.16 of the characters; n-grams that occur more than
    once, n = 5 ... 10, cover at most 0.15, 0.14, 0.13, 0.12, 0.11, 0.10.
    """
    for name, parts in (("line", lines_of(text)), ("paragraph", paragraphs_of(text))):
        by_number, by_characters = repeated_parts(parts)
        reason = (_outside(f"Gopher repeated {name}s", by_number, 0, 0.30)
                  or _outside(f"Gopher characters in repeated {name}s", by_characters, 0, 0.20))
        if reason:
            return reason
    # words become small numbers once, so that all nine n-gram rules work on arrays
    words = words_of(text)
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(w, len(numbers)) for w in words], np.int64)
    lengths = np.array([len(w) for w in words], np.int64)
    for n, bound in ((2, 0.20), (3, 0.18), (4, 0.16)):
        reason = _outside(f"Gopher top {n}-gram", top_ngram_share(ids, lengths, n), 0, bound)
        if reason:
            return reason
    for n, bound in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        share = duplicate_ngram_share(ids, lengths, n)
        reason = _outside(f"Gopher duplicate {n}-grams", share, 0, bound)
        # what longer ones cover, these cover: under the last bound no other rule can object
        if reason or share <= 0.10:
            return reason
    return None


def _c4_line(line: str) -> bool:
    """Does C4 keep this line? Ends in punctuation (no ellipsis), 5 words, no _c4_boilerplate."""
    return (ends_sentence(line) and not line.endswith(ELLIPSES)
            and len(words_of(line)) >= 5 and not _c4_boilerplate(line))


def _c4_boilerplate(line: str) -> bool:
    """Is this line a notice or debris? It names javascript or a policy, or has an endless word."""
    low = line.lower()
    return ("javascript" in low or any(phrase in low for phrase in POLICY)
            or (len(line) > 1000 and max(map(len, words_of(line)), default=0) > 1000))


def c4_clean(text: str, terminal_punctuation: bool = True) -> tuple[str, str | None]:
    """C4's line rules, then its page rules (Raffel et al. 2020, section 2.2): (text, reason).

    Lines stay that end in . ! ? or a quote (an ellipsis does not count), have at least 5 words and
    none over 1000 characters, and mention neither "javascript" nor a policy of POLICY; citation
    marks [1], [edit], [citation needed] are cut. The page goes if it holds "lorem ipsum" or "{", or
    fewer than 3 sentences remain (a line is one at least). With `terminal_punctuation` off
    (FineWeb) a line's end and length do not matter, and indentation and blank lines stay; the other
    line rules hold.
    """
    # Page rules that one phrase decides: on the whole text, before any line is dropped.
    low = text.lower()
    if "lorem ipsum" in low:
        return "", "C4 lorem ipsum"
    if "{" in text:
        return "", "C4 curly bracket"
    # Marks first: "the end.[1]" must still end in a full stop when its line is judged.
    cleaned = _CITATION.sub("", text)
    if terminal_punctuation:
        cleaned = "\n".join(line for line in lines_of(cleaned) if _c4_line(line))
    else:
        cleaned = "\n".join(x for x in cleaned.split("\n") if not _c4_boilerplate(x))
    # Count sentences in what is left of the page, not in what came in; a line is one at least.
    sentences = sum(max(1, sentence_ends(line)) for line in lines_of(cleaned))
    return cleaned, _outside("C4 sentences", sentences, 3, float("inf"))


def c4(text: str) -> str | None:
    """None if C4 keeps the page, else the reason; `c4_clean` also gives the cleaned text."""
    return c4_clean(text)[1]


def fineweb(text: str) -> str | None:
    """FineWeb's own rules (Penedo et al. 2024, section 3.6): None if kept, else the first reason.

    At least 0.12 of the lines end in punctuation; at most 0.1 of the characters are in repeated
    lines; at most 0.67 of the lines have 30 characters or fewer; at most 0.3 newlines per word.
    """
    lines, words = lines_of(text), words_of(text)
    if not lines:
        return "FineWeb: no text"
    ended = sum(map(ends_sentence, lines)) / len(lines)
    return (_outside("FineWeb lines ending in punctuation", ended, 0.12, 1)
            or _outside("FineWeb characters in repeated lines", repeated_parts(lines)[1], 0, 0.1)
            or _outside("FineWeb short lines",
                        sum(letters_in(line) <= 30 for line in lines) / len(lines), 0, 0.67)
            or _outside("FineWeb newlines per word", text.count("\n") / len(words), 0, 0.3))
