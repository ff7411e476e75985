"""Encoding one piece, against a search that is slow and obvious; tables are written by hand."""

import random
import time

import pytest

from encode_piece import PieceCache, merge_long, merge_short, standing_whole
from token_ids import lookup_tables

BYTES = [bytes([b]) for b in range(256)]
A, B, C = range(3)


def by_hand(ids, ranks, merged):
    """All places of the lowest rank are found anew for each single merge."""
    ids = list(ids)
    while True:
        places = [(ranks[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
        if not places:
            return ids
        rank, i = min(places)
        ids = ids[:i] + [merged[rank]] + ids[i + 2:]


CASES = [
    ([A, B, A, B], {(A, B): 1, (B, A): 0}, [7, 8], [A, 7, B], "the lowest rank first, not the left"),
    ([A, A, A], {(A, A): 0}, [7], [7, A], "of equal ranks the leftmost first"),
    ([A, B, C], {(A, B): 1, (B, C): 0, (7, C): 2}, [8, 7, 9], [A, 8],
     "rank decides: the longest token, abc, is out of reach"),
    ([A, B, C], {(A, B): 0, (7, C): 1}, [7, 9], [9], "a merged token merges on"),
    ([C, A, B], {(A, B): 0, (C, 7): 1}, [7, 9], [9], "with what stands left of it as well"),
    ([A, B, A, B], {(A, B): 0, (7, 7): 1}, [7, 9], [9], "and with its like"),
    ([B, C, A, B, A, B], {(A, B): 0, (B, C): 1, (9, 9): 2}, [9, 9, 8], [8, 9],
     "a token that two pairs make (Llama 3's file has them all): still the leftmost first"),
    ([A, B, A, B], {(7, A): 0, (A, B): 1}, [8, 7], [8, B],
     "a pair of lower rank is born in the middle: it goes before the rest of its elder"),
    ([A], {(A, B): 0}, [7], [A], "one token"),
    ([A, C], {(A, B): 0}, [7], [A, C], "no pair with a rank"),
]


@pytest.mark.exercise("1.10")
@pytest.mark.parametrize("ids, ranks, merged, expected, why", CASES)
def test_merge_short(ids, ranks, merged, expected, why):
    got = merge_short(list(ids), ranks, merged)
    assert got == expected, f"{why}: {ids} with ranks {ranks} expected {expected}, got {got}"


@pytest.mark.exercise("1.11")
@pytest.mark.parametrize("ids, ranks, merged, expected, why", CASES)
def test_merge_long(ids, ranks, merged, expected, why):
    got = merge_long(list(ids), ranks, merged)
    assert got == expected, f"{why}: {ids} with ranks {ranks} expected {expected}, got {got}"


def random_case(rng):
    """Merges over three letters, drawn so that tokens build on tokens; ids as a shuffled vocabulary."""
    known, ranks, merged = [A, B, C], {}, []
    for rank in range(rng.randint(1, 12)):
        pair = (rng.choice(known), rng.choice(known))
        if pair not in ranks:
            ranks[pair] = len(merged)
            merged.append(100 - rank)
            known.append(100 - rank)
    return [rng.randrange(3) for _ in range(rng.randint(0, 40))], ranks, merged


@pytest.mark.exercise("1.10")
def test_merge_short_on_random_tables():
    rng = random.Random(8)
    for _ in range(1500):
        ids, ranks, merged = random_case(rng)
        assert merge_short(list(ids), ranks, merged) == by_hand(ids, ranks, merged), (ids, ranks)


@pytest.mark.exercise("1.11")
def test_merge_long_on_random_tables():
    rng = random.Random(9)
    for _ in range(1500):
        ids, ranks, merged = random_case(rng)
        assert merge_long(list(ids), ranks, merged) == by_hand(ids, ranks, merged), (ids, ranks)


@pytest.mark.exercise("1.11")
def test_a_piece_ten_times_as_long_takes_about_ten_times_as_long():
    ranks = {(A, A): 0, (10, 10): 1, (11, 11): 2}
    seconds = []
    for n in (2_000, 20_000):
        begin = time.process_time()
        assert merge_long([A] * n, ranks, [10, 11, 12]) == [12] * (n // 8)
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 40 * seconds[0] + 0.1, f"quadratic: {seconds} seconds"


def test_only_what_comes_out_whole_may_be_looked_up_whole():
    ids = {bytes([b]): b for b in range(256)} | {b"bc": 300, b"ab": 301, b"abc": 302}
    whole = {token: i for token, i in ids.items() if i >= 300}
    ranks, merged = {(98, 99): 0, (97, 98): 1, (301, 99): 2}, [300, 301, 302]
    assert standing_whole(whole, list(range(256)), ranks, merged) == {b"bc": 300, b"ab": 301}, (
        "b c has the lower rank, and what is left, a bc, never merges")
    rng = random.Random(10)
    for _ in range(1500):
        known, merges = [b"a", b"b", b"c"], []
        for _ in range(rng.randint(1, 12)):
            merges.append((rng.choice(known), rng.choice(known)))
            known.append(b"".join(merges[-1]))
        if rng.random() < 0.2:
            rng.shuffle(merges)
        if rng.random() < 0.3:                   # a part of others that no merge makes
            merges.pop(rng.randrange(len(merges)))
        ids = {token: i for i, token in enumerate([*BYTES, *sorted(set(known) - set(BYTES))])}
        tables = lookup_tables(ids, merges)
        slow = {token: i for token, i in tables[0].items() if by_hand(list(token), *tables[2:]) == [i]}
        assert standing_whole(*tables) == slow, merges


def test_the_cache_gives_the_same_ids_cold_and_warm_and_stays_bounded():
    cache = PieceCache({b"ab": 300}, list(range(256)), {(97, 98): 0}, [300]).smaller(3)
    for text in ("ab", "ba", "x", "y", "ab", "aab" * 40):
        assert cache[text] == cache[text]
        assert len(cache) <= 3
    assert memoryview(cache["bab"]).cast("I").tolist() == [98, 300]
