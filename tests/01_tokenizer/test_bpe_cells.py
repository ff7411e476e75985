"""The taught trainer: one merge against a full recount, and the queue with merges played by hand."""

import random
from collections import Counter

import pytest

import bpe_cells
from bpe_cells import EDGE, Cells, as_lists, lay_out, merge_slot, run_merges

A, B, C = b"abc"


def start(counts):
    return as_lists(lay_out({word: n for word, n in counts.items()}, list(range(256))))


def tokens_of(cells):
    """(weight, tokens) of every pre-token, read from the cells by the lengths of the tokens."""
    words, i = [], 1
    while i < len(cells.token):
        word, weight = [], cells.weight[i]
        while cells.token[i] != EDGE:
            word.append(cells.token[i])
            i += cells.length[cells.token[i]]
        words.append((weight, tuple(word)))
        i += 1
    return words


def recount(cells):
    pairs = Counter()
    for weight, word in tokens_of(cells):
        for pair in zip(word, word[1:]):
            pairs[pair] += weight
    return pairs


def slot_counts(cells):
    counted = Counter()
    for a, b, n in zip(cells.left, cells.right, cells.count):
        counted[a, b] += n
    return +counted


def check(cells, what):
    expected, got = recount(cells), slot_counts(cells)
    wrong = {pair: (got[pair], expected[pair]) for pair in got | expected
             if got[pair] != expected[pair]}
    assert not wrong, f"{what}: pair: (count kept, count found by recounting): {wrong}"


def test_lay_out_of_a_small_corpus():
    cells = start({b"aab": 3, b"b": 7})
    assert cells.token == [EDGE, A, A, B, EDGE]
    assert (cells.left, cells.right, cells.count) == ([A, A], [A, B], [3, 3])
    assert cells.places == [[1], [2]]
    assert start({}).token == [EDGE]


@pytest.mark.exercise("1.8")
@pytest.mark.parametrize("words, pair, expected, why", [
    ({b"ab": 2}, (A, B), [(2, (256,))], "the pair becomes one token"),
    ({b"cabc": 2}, (A, B), [(2, (C, 256, C))], "both neighbours get new pairs"),
    ({b"abab": 1}, (A, B), [(1, (256, 256))], "two tokens side by side make a new pair"),
    ({b"aaa": 1}, (A, A), [(1, (256, A))], "runs merge left to right"),
    ({b"aaaa": 5}, (A, A), [(5, (256, 256))], "a run of four"),
    ({b"ab": 1, b"ba": 4}, (A, B), [(1, (256,)), (4, (B, A))], "words stay apart"),
])
def test_one_merge(words, pair, expected, why):
    cells = start(words)
    best = list(zip(cells.left, cells.right)).index(pair)
    merge_slot(cells, best)
    assert tokens_of(cells) == expected, why
    check(cells, f"{words} after merging {pair}")


@pytest.mark.exercise("1.8")
def test_many_merges_keep_every_count_exact():
    rng = random.Random(2)
    for _ in range(120):
        words = {bytes(rng.choices(b"abc", k=rng.randint(1, 10))): rng.randint(1, 5)
                 for _ in range(rng.randint(1, 8))}
        cells = start(words)
        for _ in range(8):
            pairs = recount(cells)
            if not pairs:
                break
            pair = rng.choice(sorted(pairs))
            best = next(s for s, n in enumerate(cells.count)
                        if (cells.left[s], cells.right[s]) == pair and n > 0)
            before = len(cells.count)
            born = sorted(merge_slot(cells, best))
            assert born == list(range(before, len(cells.count))), f"the new slots, got {born}"
            assert b"".join(words) and pair not in recount(cells), f"{pair} is left in {words}"
            check(cells, f"{words} after merging {pair}")


class Script:
    """Merges played by hand: merging a slot sets other slots to given counts, or bears new ones."""

    def __init__(self, monkeypatch, counts, effects):
        slots = range(len(counts))
        self.cells = Cells(token=[], slot=[], weight=[], left=list(slots), right=[s + 100 for s in slots],
                           count=list(counts), places=[[] for _ in slots], length=[1] * 256)
        self.effects, self.order = effects, []
        monkeypatch.setattr(bpe_cells, "merge_slot", self.merge)

    def merge(self, cells, best):
        self.order.append(best)
        cells.count[best] = 0
        born = len(cells.count)
        for slot, count in self.effects.get(best, {}).items():
            if slot < born:
                cells.count[slot] = count
        for slot, count in self.effects.get(best, {}).items():
            if slot >= len(cells.count):
                cells.left.append(slot), cells.right.append(slot + 100)
                cells.count.append(count), cells.places.append([])
        cells.length.append(2)
        return range(born, len(cells.count))

    def run(self, merges=99, key=lambda a, b: a):
        def checked(a, b):
            assert b == a + 100, f"key and on_merge take (left, right), in this order: {a, b}"
            return key(a, b)

        def told(a, b):
            assert a not in self.order and checked(a, b) is not None, "told before it happens"
        run_merges(self.cells, merges, checked, told)
        return self.order


@pytest.mark.exercise("1.9")
@pytest.mark.parametrize("counts, effects, expected, why", [
    ([1, 5, 3], {}, [1, 2, 0], "the most frequent pair first"),
    ([4, 4, 4], {}, [0, 1, 2], "equal counts go by the key"),
    ([9, 8, 6], {0: {1: 3}}, [0, 2, 1], "a pair that shrank waits for its present count"),
    ([9, 8, 7], {0: {1: 6}}, [0, 2, 1], "it waits also if it is still frequent"),
    ([9, 8, 3], {0: {1: 7}}, [0, 1, 2], "a pair that shrank a little goes back into the queue"),
    ([9, 8, 6], {0: {1: 0}}, [0, 2], "a pair that is gone never merges"),
    ([9, 2], {0: {2: 5}}, [0, 2, 1], "a pair that was born takes its place"),
    ([90, 1], {0: {2: 1, 3: 7}}, [0, 3, 1, 2], "a rare pair is not forgotten"),
    ([90, 60], {0: {2: 50, 1: 2}, 2: {3: 44}}, [0, 2, 3, 1], "pairs born rarer than the bar"),
    ([90, 70], {0: {1: 35}, 1: {2: 1}}, [0, 1, 2], "a pair that fell below the bar comes back"),
    ([], {}, [], "nothing to merge"),
])
def test_the_queue(monkeypatch, counts, effects, expected, why):
    got = Script(monkeypatch, counts, effects).run()
    assert got == expected, f"{why}: counts {counts}, effects {effects}: merged {got}"


@pytest.mark.exercise("1.9")
def test_the_queue_stops_after_the_wanted_merges_and_prefers_the_smallest_key(monkeypatch):
    assert Script(monkeypatch, [5, 9, 7], {}).run(merges=2) == [1, 2], "two merges were wanted"
    assert Script(monkeypatch, [5, 5, 5], {}).run(key=lambda a, b: -a) == [2, 1, 0], (
        "of equal counts the smallest key goes first, here that of the last slot")
