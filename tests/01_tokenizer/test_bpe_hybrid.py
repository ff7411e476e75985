"""The numpy head: one merge against a recount, and the three rungs against each other."""

import random
from collections import Counter

import numpy as np
import pytest

from bpe_training import train_bpe, train_textbook
from bpe_cells import EDGE, lay_out, train_cells
from bpe_hybrid import Column, merge_places, train_hybrid, without_overlaps
from docstrings import source_files
from pretokenize import count_pretokens


def head(words):
    state = lay_out(words, list(range(256)))
    growing = ("left", "right", "count", "start", "places", "length")
    return state | {name: Column(state[name]) for name in growing}


def recount(state):
    """Pair -> count, and pair -> ascending places, by walking over the cells."""
    pairs, places, i, before = Counter(), {}, 0, None
    while i < len(state["token"]):
        token = int(state["token"][i])
        if before and token != EDGE:
            pairs[before[1], token] += int(state["weight"][i])
            places.setdefault((before[1], token), []).append(before[0])
        before = None if token == EDGE else (i, token)
        i += 1 if token == EDGE else int(state["length"].array[token])
    return pairs, places


def check(state, what):
    pairs, places = recount(state)
    for s in range(state["count"].size):
        pair = (int(state["left"].array[s]), int(state["right"].array[s]))
        n = int(state["count"].array[s])
        if n > 0 or pair in pairs:
            if n == 0:
                continue                       # an older slot of the same pair, all used up
            assert n == pairs[pair], f"{what}: {pair} is counted {n}, a recount says {pairs[pair]}"
            kept = state["places"].array[state["start"].array[s]:state["start"].array[s + 1]]
            kept = [int(p) for p in kept if state["slot"][p] == s]
            assert kept == places[pair], f"{what}: places of {pair}: {kept}, not {places[pair]}"
    assert sum(pairs.values()) == int(state["count"].used.sum()), f"{what}: a pair is missing"


@pytest.mark.exercise("1.15")
@pytest.mark.parametrize("words, pair, why", [
    ({b"ab": 2, b"cabc": 3}, b"ab", "neighbours on both sides"),
    ({b"abab": 1, b"ababab": 2}, b"ab", "merges side by side"),
    ({b"aaaaa": 1, b"baaab": 4}, b"aa", "overlaps"),
    ({b"ab": 1, b"xab": 1}, b"xa", "a neighbour that is no pair's start"),
])
def test_one_merge_in_numpy(words, pair, why):
    state = head(words)
    pairs = list(zip(state["left"].used.tolist(), state["right"].used.tolist()))
    merge_places(state, pairs.index(tuple(pair)), 256)
    check(state, f"{why}: {words} after merging {pair}")


@pytest.mark.exercise("1.15")
def test_places_ascend_in_long_runs_of_a_multi_byte_character():
    # An unstable sort passes small corpora: more than 16 equal keys are needed to see it.
    rng = random.Random(4)
    words = {("─" * rng.randint(1, 40) + rng.choice("ab")).encode() * rng.randint(1, 3): k + 1
             for k in range(60)}
    state = head(words)
    for new in range(256, 268):
        best = int(np.argmax(state["count"].used))
        merge_places(state, best, new)
        check(state, f"runs of ─ after merge {new - 255}")


def test_overlapping_places():
    assert without_overlaps(np.array([0, 1, 2, 9]), 1).tolist() == [0, 2, 9]
    assert without_overlaps(np.array([0, 2, 4, 6, 9]), 2).tolist() == [0, 4, 9]


@pytest.mark.parametrize("tie", ["greatest", "smallest_ids"])
def test_the_three_rungs_agree_on_random_small_corpora(tie):
    rng = random.Random(6)
    for _ in range(60):
        counts = Counter("".join(rng.choices("abcé─"[:rng.randint(1, 5)], k=rng.randint(1, 9)))
                         for _ in range(rng.randint(1, 20)))
        textbook, cells, hybrid = (train_bpe(counts, 256 + 25, tie=tie, trainer=t)[1]
                                   for t in (train_textbook, train_cells, train_hybrid))
        assert textbook == cells == hybrid, dict(counts)


def test_the_two_fast_rungs_agree_on_megabytes_of_real_text():
    paths = [path for _, path in source_files()[:90]]
    texts = [path.read_bytes().decode("utf-8", "replace") for path in paths]
    texts.append("── ─── ────── ═══════\n" * 50 + "🙂" * 99 + " " * 5000)
    counts = count_pretokens(texts)
    cells, hybrid = (train_bpe(counts, 5000, trainer=t)[1] for t in (train_cells, train_hybrid))
    first = next((k for k, (a, b) in enumerate(zip(cells, hybrid)) if a != b), None)
    assert first is None and len(cells) == len(hybrid), f"merge {first} differs"


@pytest.mark.exercise("1.15")
def test_the_pair_is_merged_and_the_slots_and_places_are_told():
    state = head({b"cabc": 3, b"ab": 2})
    pairs = list(zip(state["left"].used.tolist(), state["right"].used.tolist()))
    best, before = pairs.index(tuple(b"ab")), state["left"].size
    born, at = merge_places(state, best, 256)
    assert len(at) == 2 and (state["token"][at] == 256).all(), "a body that does nothing passed"
    assert state["count"].array[best] == 0
    assert sorted(born.tolist()) == list(range(before, before + 2)), "(c, new) and (new, c)"
    assert born.tolist() == list(range(before, state["left"].size)), f"the slots born: {born}"


@pytest.mark.exercise("1.15")
def test_of_places_that_overlap_those_are_told_that_were_merged():
    state = head({b"aaaaa": 1, b"aab": 2})              # cells 1 to 5 and 7 to 9
    pairs = list(zip(state["left"].used.tolist(), state["right"].used.tolist()))
    _, at = merge_places(state, pairs.index(tuple(b"aa")), 256)
    assert at.tolist() == [1, 3, 7], f"of five a's the first two and the next two merge: {at}"
