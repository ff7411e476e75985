"""heuristics.py: every rule at its exact threshold, worked by hand."""

import numpy as np
import pytest

import heuristics as h

PROSE = ("The river runs to the sea and the boats that have come with it wait in the harbour. "
         "Nobody knows how long they will be there, but all of them carry salt and wool.\n")
GOOD = PROSE * 2


def words(n, word="fish"):
    """n words of which two are stop words, on lines of ten."""
    parts = ["the", "of"] + [word] * (n - 2)
    return "\n".join(" ".join(parts[i:i + 10]) for i in range(0, n, 10))


@pytest.mark.exercise("2.13")
@pytest.mark.parametrize("text, kept, rule", [
    (words(50), True, "50 words are enough"),
    (words(49), False, "49 words are too few"),
    (words(100_000), True, "100,000 words are allowed"),
    (words(100_001), False, "100,001 words are too many"),
    ("the of " + "abc " * 58 + "a", False, "a mean word length under 3"),
    ("the the the of oft " * 12, False, "2.8 letters a word is under 3: the mean, not the median"),
    ("the and off " * 20, True, "exactly 3 letters a word is kept: the bound itself is inside"),
    ("the of " + "abcdefghijklmno " * 58, False, "a mean word length over 10"),
    (words(90) + " #" * 10, True, "10 hashes in 100 words: 0.1 is allowed"),
    (words(89) + " #" * 10, False, "10 hashes in 99 words: over 0.1"),
    (words(90) + " fish..." * 5 + " fish\u2026" * 5, True, "10 ellipses in 100 words"),
    (words(90) + " fish..." * 11, False, "11 ellipses of three dots in 101 words: over 0.1"),
    (words(90) + " fish\u2026" * 11, False, "11 ellipses of one character in 101 words: over 0.1"),
    (words(85) + " a#fish##" * 5, False, "15 hashes in 90 words, wherever they stand"),
    (words(95) + " fish...fish\u2026" * 5, True, "10 ellipses in 100 words, two in a word"),
    (words(94) + " fish...fish\u2026" * 5 + " fi...sh", False, "11 in 100 words, wherever they stand"),
    ("the of " + "abcdefghijk " * 58, False, "10.7 letters a word is over 10"),
    (words(80) + " #" * 9 + " fish..." * 9, True,
     "9 hashes and 9 ellipses in 98 words: tested apart, not added"),
    ("\n".join(["- the small fish of rivers"] * 9 + ["one fish and then another"]), True,
     "9 of 10 lines are bullets: 0.9 is allowed"),
    ("\n".join(["\u2022 the small fish of rivers"] * 10), False, "all lines are bullets"),
    ("\n\n".join(["- the small fish of rivers"] * 10), False,
     "all lines are bullets: a blank line is no line"),
    ("\n".join(["the fish swims off and..."] * 3 + ["the fish comes back to us"] * 7), True,
     "3 of 10 lines end in an ellipsis: 0.3 is allowed"),
    ("\n".join(["the fish swims off and\u2026"] * 4 + ["the fish comes back to us"] * 6), False,
     "4 of 10 lines end in an ellipsis"),
    (words(80) + " 12345" * 20, True, "80 of 100 words hold a letter"),
    (words(79) + " 12345" * 21, False, "79 of 100 words hold a letter"),
    ("the " * 30 + "fishes " * 30, False, "one stop word thirty times is one stop word"),
    ("The " * 30 + "OF, " * 30, True, "two different stop words, in any case"),
    ("the of " + "\u732b\u5750\u5728\u57ab\u5b50\u4e0a" * 17, True,
     "Chinese has no blanks: two signs are a word, as much as six letters"),
])
def test_gopher_quality_at_its_bounds(text, kept, rule):
    got = h.gopher_quality(text)
    assert (got is None) == kept, f"{rule}: expected {'kept' if kept else 'a reason'}, got {got!r}"


def test_gopher_quality_names_rule_and_number():
    assert h.gopher_quality(words(49)) == "Gopher words: 49 is under 50"
    assert h.gopher_quality("") == "Gopher words: 0 is under 50"


def test_one_sentence_repeated_passes_quality_but_not_repetition():
    text = "The fish that have come to the sea swim off.\n" * 20
    assert h.gopher_quality(text) is None
    assert h.gopher_repetition(text).startswith("Gopher repeated lines")


@pytest.mark.exercise("2.12")
@pytest.mark.parametrize("parts, number, characters", [
    (["ab", "ab", "abcd"], 1 / 3, 2 / 8),
    (["a", "a", "a", "a"], 3 / 4, 3 / 4),
    (["long line", "x", "x"], 1 / 3, 1 / 11),
    (["b", "a", "b", "a"], 2 / 4, 2 / 4),
    (["one", "two"], 0, 0),
    ([], 0, 0),
])
def test_repeated_parts_counts_second_and_later_copies(parts, number, characters):
    assert h.repeated_parts(parts) == pytest.approx((number, characters), abs=1e-12), \
        f"{parts}: the first copy is not a repetition; shares are of all parts, of all characters"


def ids_of(text):
    """Word numbers and lengths, as gopher_repetition makes them."""
    ws, numbers = text.split(), {}
    return (np.array([numbers.setdefault(w, len(numbers)) for w in ws]),
            np.array([len(w) for w in ws]))


@pytest.mark.exercise("2.15")
@pytest.mark.parametrize("text, n, share, why", [
    ("a b c a b d", 2, 4 / 6, "both copies of 'a b' count, c and d do not"),
    ("a b c d e", 2, 0, "nothing repeats"),
    ("a a a a", 2, 1, "overlapping copies: each word once, so the share cannot pass 1"),
    ("xx y xx y z", 2, 6 / 7, "characters count, not words"),
    ("a b a b a b c", 3, 6 / 7, "'a b a' and 'b a b' each occur twice and cover six words"),
    ("a b", 3, 0, "shorter than one n-gram"),
    ("", 2, 0, "no words"),
    ("q a b c r a b c", 3, 6 / 8, "the last n-gram of the text counts too"),
])
def test_duplicate_ngrams_cover_all_copies_once(text, n, share, why):
    got = h.duplicate_ngram_share(*ids_of(text), n)
    assert got == pytest.approx(share, abs=1e-9), f"{text!r}, n={n}: {why}"


@pytest.mark.parametrize("text, n, share", [
    ("a b a b c", 2, 4 / 5), ("a b c", 2, 0), ("aa b c aa b d e", 2, 6 / 9), ("a", 2, 0)])
def test_top_ngram_by_hand(text, n, share):
    assert h.top_ngram_share(*ids_of(text), n) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("repeated, kept", [(3, True), (4, False)])
def test_repeated_lines_at_thirty_percent(repeated, kept):
    # ten lines of which `repeated` are later copies; short, so that the character rule stays quiet
    lines = [f"{w} " * 8 + f"{w}q" for w in "alpha beta gamma delta eps zeta eta".split()]
    text = "\n".join(lines[:10 - repeated] + ["ox"] * (repeated + 1))
    lines = text.split("\n")
    share = (len(lines) - len(set(lines))) / len(lines)
    assert (h.gopher_repetition(text) is None
            or not h.gopher_repetition(text).startswith("Gopher repeated lines")) == (share <= 0.3)


def test_good_prose_passes_every_rule_set():
    text = ("The river runs to the sea. Boats wait in the harbour with salt and wool.\n"
            "Nobody knows how long they will be there, but the crews have time to tell stories.\n"
            "In winter the ice comes, and that is when the town turns to its fires and its books.\n"
            "By spring all of it is forgotten; the first sail on the horizon empties the schools.")
    for rule in (h.gopher_quality, h.gopher_repetition, h.c4, h.fineweb):
        assert rule(text) is None, f"{rule.__name__} rejects plain prose: {rule(text)}"


@pytest.mark.exercise("2.14")
@pytest.mark.parametrize("line, kept", [
    ("Five words make a line.", True), ("Four words do not.", False),
    ("No mark at the end of it", False), ("Does a question mark count here?", True),
    ('He said that it was "good"', True), ("This line trails off like that...", False),
    ("You must enable JavaScript to read this.", False),
    ("Read our privacy policy before you go on.", False),
    ("This page uses cookies to know you better.", False),
    (f"One word of {'x' * 1001} is too long here.", False),
    (f"One word of {'x' * 1000} is still fine here.", True),
])
def test_c4_lines(line, kept):
    page = "The first sentence of a page. Here is a second sentence, too. This is number three.\n"
    cleaned, reason = h.c4_clean(page + line)
    assert reason is None
    assert (line in cleaned) == kept, f"C4 {'keeps' if kept else 'drops'} the line {line!r}"


@pytest.mark.exercise("2.14")
@pytest.mark.parametrize("text, reason", [
    ("One short sentence is here now. A second sentence follows it there.", "C4 sentences"),
    ("One short sentence is here now. A second sentence follows it there. And a third one.", None),
    ("One short sentence is here now. A second sentence follows it there.\nNo. No. No.",
     "C4 sentences"),                          # the line of three goes before sentences are counted
    ("if (x) { y } " * 5, "C4 curly bracket"),
    ("Lorem Ipsum dolor sit amet is here. " * 5, "C4 lorem ipsum"),
])
def test_c4_pages(text, reason):
    got = h.c4(text)
    right = got is None if reason is None else (got or "").startswith(reason)
    assert right, f"expected {reason}, got {got}"


@pytest.mark.exercise("2.14")
def test_c4_cuts_citation_marks_and_fineweb_keeps_lines():
    text = ("Salt was dear.[12] Wool was not [citation needed] cheap.[edit] "
            "Fish was free to all.\nMenu")
    assert h.c4_clean(text)[0] == "Salt was dear. Wool was not  cheap. Fish was free to all."
    assert h.c4_clean(text, terminal_punctuation=False)[0].endswith("Menu"), \
        "without the punctuation rule a line's end does not matter"


@pytest.mark.exercise("2.14")
def test_c4_as_fineweb_ran_it_still_drops_notices():
    text = ("Salt was dear.\n    Wool was not.\n\nFish was free to all.\nMenu\n"
            "Please enable JavaScript\nOur use of cookies\n" + "x" * 1001)
    assert h.c4_clean(text, terminal_punctuation=False) == (
        "Salt was dear.\n    Wool was not.\n\nFish was free to all.\nMenu", None), \
        "notices and endless words go; short lines, indentation and blank lines stay"


@pytest.mark.exercise("2.14")
def test_a_line_that_stays_is_one_sentence_at_least():
    text = "Salt was dear in the harbour\nWool was not\nFish was free to all"
    assert h.c4_clean(text, terminal_punctuation=False)[1] is None, "three lines, three sentences"
    assert h.c4_clean("\n\n".join(text.split("\n")[:2]), terminal_punctuation=False)[1] == \
        "C4 sentences: 2 is under 3", "blank lines are none"


def test_stop_words_of_another_language():
    text = "Das Schiff liegt im Hafen und die Leute warten auf den Wind aus Norden.\n" * 5
    assert h.gopher_quality(text).startswith("Gopher stop words"), "the eight words are English"
    assert h.gopher_quality(text, h.STOP_WORDS_OF["de"]) is None
    assert h.gopher_quality(text, frozenset(("und", "die"))) is None
    assert h.gopher_quality(text, frozenset()) is None, "no stop words, no such rule"


def lines_for_fineweb(ended, short, total):
    """`total` lines; `ended` end in a full stop, `short` have exactly 30 characters or fewer."""
    rows = []
    for i in range(total):
        words = "a bc de fg hi jk lm n" if i < short else "a bc de fg hi jk lm no pq r ss"
        base = f"{i:03d} {words}"
        rows.append(base + ("." if i >= total - ended else "x"))
    return "\n".join(rows)


@pytest.mark.parametrize("ended, short, kept", [
    (12, 0, True), (11, 0, False), (50, 67, True), (50, 68, False)])
def test_fineweb_at_its_bounds(ended, short, kept):
    got = h.fineweb(lines_for_fineweb(ended, short, 100))
    assert (got is None) == kept, f"{ended} of 100 lines ended, {short} short: got {got!r}"


def test_fineweb_counts_thirty_characters_as_short():
    text = "\n".join(f"{i:02d} bc de fg hi jk lm no pq rs." for i in range(10))
    assert {len(x) for x in text.split("\n")} == {30}
    assert h.fineweb(text).startswith("FineWeb short lines"), "30 characters are still short"


def test_fineweb_repeated_lines_follow_the_paper_not_the_code():
    # one line of 40 characters repeated once among 12: 1/13 = 0.077 of the characters
    line = "the sea is wide and the boats are small."
    others = [f"{w * 3} is wide and the boats are few and old."[:40].ljust(40, ".") for w in
              "ab cd ef gh ij kl mn op qr st uv".split()]
    text = "\n".join([line, line, *others])
    assert h.fineweb(text) is None, "0.077 is over datatrove's 0.01 and under the paper's 0.1"


def test_empty_texts_raise_nothing():
    for rule in (h.gopher_quality, h.gopher_repetition, h.c4, h.fineweb):
        rule("")
        rule("\n\n \n")
        rule("\x00\ud800")
