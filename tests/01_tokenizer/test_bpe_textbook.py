"""The textbook rung, by hand-made tables."""

import pytest

from bpe_textbook import count_pairs, encode_textbook, merge_pair


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
])
def test_merge_pair(word, expected, mistake):
    got = merge_pair(word, (1, 2), 9)
    assert got == expected, f"{mistake}: {word} with (1, 2) -> 9 expected {expected}, got {got}"


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize("length, expected", [(2, (9,)), (3, (9, 1)), (4, (9, 9)), (5, (9, 9, 1))])
def test_merge_pair_goes_left_to_right_without_overlaps(length, expected):
    got = merge_pair((1,) * length, (1, 1), 9)
    assert got == expected, f"1 x {length} with (1, 1) -> 9: expected {expected}, got {got}"


def test_encode_textbook_follows_rank_not_length_or_place():
    assert encode_textbook(b"abab", [(b"b", b"a"), (b"a", b"b")]) == [b"a", b"ba", b"b"]
    assert encode_textbook(b"aaa", [(b"a", b"a")]) == [b"aa", b"a"]
