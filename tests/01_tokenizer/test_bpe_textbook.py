"""The textbook rung, by hand-made tables."""

import os
import random
import subprocess
import sys

import pytest

import bpe_textbook
from bpe import Tokenizer, train_bpe
from bpe_textbook import count_pairs, decode, encode, merge_pair, train
from pretokenize import count_pretokens


@pytest.mark.exercise("1.1")
@pytest.mark.parametrize("words, expected, mistake", [
    ({(1, 2): 3}, {(1, 2): 3}, "a word that occurs 3 times brings its pairs 3 times"),
    ({(1, 2, 1, 2): 1}, {(1, 2): 2, (2, 1): 1}, "a pair may occur twice in one word"),
    ({(5, 5, 5): 2}, {(5, 5): 4}, "(5, 5) starts at two places of 5 5 5"),
    ({(1, 2): 1, (2, 1): 4}, {(1, 2): 1, (2, 1): 4}, "pairs are ordered and end with the word"),
    ({(7,): 9}, {}, "one token has no pair"),
])
def test_count_pairs(words, expected, mistake):
    got = dict(count_pairs(words))
    assert got == expected, f"{mistake}: of {words} expected {expected}, got {got}"


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize("word, expected, mistake", [
    ((1, 2, 3), (9, 3), "the pair becomes one token"),
    ((1, 2, 1, 2), (9, 9), "every occurrence merges, not only the first"),
    ((3, 1, 2), (3, 9), "also at the end of the word"),
    ((1, 1, 2), (1, 9), "a first token whose partner differs stays"),
    ((2, 1), (2, 1), "the order of the pair matters"),
    ((1,), (1,), "a single token stays"),
    ((11, 2), (11, 2), "numbers are compared, not their digits"),
    ((1, 21, 2), (1, 21, 2), "nor the digits behind"),
])
def test_merge_pair(word, expected, mistake):
    got = merge_pair(word, (1, 2), 9)
    assert got == expected, f"{mistake}: {word} with (1, 2) -> 9 expected {expected}, got {got}"


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize("length, expected", [(2, (9,)), (3, (9, 1)), (4, (9, 9)), (5, (9, 9, 1))])
def test_merge_pair_goes_left_to_right_without_overlaps(length, expected):
    got = merge_pair((1,) * length, (1, 1), 9)
    assert got == expected, f"1 x {length} with (1, 1) -> 9: expected {expected}, got {got}"


def parts(text, merges):
    """The tokens of a text as bytes, so that a wrong one can be read."""
    tokens = [bytes([b]) for b in range(256)] + [a + b for a, b in merges]
    return [tokens[i] if i < len(tokens) else i for i in encode(text, merges)]


@pytest.mark.exercise("1.17")
@pytest.mark.parametrize("text, size, expected, why", [
    ("aab\naab", 257, [(b"a", b"b")], "(a, a) and (a, b) occur twice each; b > a"),
    ("ab ab ab cd", 258, [(b"a", b"b"), (b" ", b"ab")], "the most frequent pair first"),
    ("ab\nab\nab\ncd", 258, [(b"a", b"b"), (b"c", b"d")], "no merge crosses two pieces"),
    ("zb\nzb\nya\nya\nya", 257, [(b"y", b"a")], "a piece counts as often as it occurs"),
    ("ab", 300, [(b"a", b"b")], "it ends when no pair is left"),
    ("ab", 256, [], "the 256 bytes are part of the vocabulary"),
    ("", 300, [], "no text, no merges"),
    ("é", 257, [(b"\xc3", b"\xa9")], "é is two bytes"),
    ("abab\nab\nzb", 259, [(b"a", b"b"), (b"z", b"b"), (b"ab", b"ab")],
     "of (z, b) and (ab, ab), once each, z > ab decides by bytes, not by number"),
    ("ac\nac\nabd\nabd\nac\nabd\nabd\nac", 258, [(b"b", b"d"), (b"a", b"c")],
     "(a, c) = (a, bd) in count: the pair is compared, c > bd"),
])
def test_train(text, size, expected, why):
    got = train(text, size)
    assert got == expected, f"{why}: of {text!r} expected {expected}, got {got}"


def by_hand(words, wanted):
    """Recount every pair after every merge, over lists of bytes."""
    words, merges = [[bytes([b]) for b in word.encode()] for word in words], []
    while len(merges) < wanted:
        pairs = [pair for word in words for pair in zip(word, word[1:])]
        if not pairs:
            break
        merges.append(max(set(pairs), key=lambda pair: (pairs.count(pair), pair)))
        for word in words:
            for k in range(len(word) - 1):
                if tuple(word[k:k + 2]) == merges[-1]:
                    word[k:k + 2] = [b"".join(merges[-1])]
    return merges


@pytest.mark.exercise("1.17")
def test_train_on_random_words():
    rng = random.Random(3)
    for _ in range(100):
        words = ["".join(rng.choices("aabbcé", k=rng.randint(1, 7))) for _ in range(12)]
        got, expected = train("\n".join(words), 256 + 15), by_hand(words, 15)
        assert got == expected, f"of {words} expected {expected}, got {got}"


@pytest.mark.exercise("1.18")
@pytest.mark.parametrize("text, merges, expected, why", [
    ("abab", [(b"b", b"a"), (b"a", b"b")], [b"a", b"ba", b"b"], "rank decides, not the place"),
    ("abc", [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")], [b"a", b"bc"],
     "the longest token has no precedence"),
    ("aaa", [(b"a", b"a")], [b"aa", b"a"], "overlaps go left to right"),
    ("low low", [(b"w", b" "), (b"l", b"o"), (b" ", b"lo")], [b"lo", b"w", b" lo", b"w"],
     "no merge crosses two pieces: w and the blank stand in different ones"),
    ("é", [(b"\xc3", b"\xa9")], ["é".encode()], "the letters are bytes"),
    ("é", [], [b"\xc3", b"\xa9"], "without merges every byte is a token"),
    ("", [(b"a", b"b")], [], "no text"),
])
def test_encode(text, merges, expected, why):
    got = parts(text, merges)
    assert got == expected, f"{why}: {text!r} expected {expected}, got {got}"


def test_what_the_textbook_trains_the_ladder_trains():
    text = "low lower newest\nwidest  " * 3 + "Zürich 🙂\n"
    assert train(text, 290) == train_bpe(count_pretokens([text]), 290)[1]


def test_what_it_trains_it_encodes_and_decodes_with_the_ids_of_the_ladder():
    text = "low lower newest widest " * 3 + "Zürich 🙂\n"
    merges = train(text, 290)
    vocab = dict(enumerate([bytes([b]) for b in range(256)] + [a + b for a, b in merges]))
    for other in (text, "lowest news, 🙂\r\n", ""):
        ids = encode(other, merges)
        assert decode(ids, merges) == other
        assert ids == Tokenizer(vocab, merges).encode(other)
    assert decode([0xF0], merges) == "\ufffd"


def test_the_demo_prints_every_merge():
    shown = subprocess.run([sys.executable, bpe_textbook.__file__], capture_output=True, text=True,
                           check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    lines = shown.stdout.splitlines()
    assert lines[1].split() == ["256", "s", "+", "t", "->", "st", "85", "tokens"]
    assert len(lines) == 9 and lines[-1] == "lowest = low|est = 259 257 = lowest"


@pytest.mark.exercise("1.18")
def test_of_two_tokens_with_the_same_bytes_the_older_one_counts():
    merges = [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc"), (b"abc", b"d")]
    assert encode("abcd", merges) == [260], "abc is 258 here, never 259"
