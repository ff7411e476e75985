"""counting_model.py and outliers.py: probabilities sum to one, hand-worked counts, divergences."""

import math

import numpy as np
import pytest

import dirty_words
import outliers
from counting_model import CountingModel


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_sum_to_one_after_any_context(order):
    rng = np.random.default_rng(order)
    model = CountingModel(rng.integers(0, 5, 300), 6, order)      # word 5 was never seen
    for context in ([], [1], [4, 4, 4], [5, 5, 5], [0, 5, 1]):
        total = sum(math.exp(model.log_probabilities(np.array([*context, w]))[-1])
                    for w in range(6))
        assert total == pytest.approx(1, abs=1e-9), f"order {order} after {context}: {total}"


def test_kneser_ney_by_hand():
    # a b a b a c: bigrams ab 2, ba 2, ac 1; n1 = 1, n2 = 2, D2 = 1/5
    model = CountingModel(np.array([0, 1, 0, 1, 0, 2]), 3, 2)
    # one order down: a, b, c each follow one different word; n1 = 3, n2 = 0, D1 = 1, capped at .95
    unigram = {w: 0.05 / 3 + 0.95 * 3 / 3 / 3 for w in range(3)}
    assert sum(unigram.values()) == pytest.approx(1)
    after_a = math.exp(model.log_probabilities(np.array([0, 1]))[-1])
    assert after_a == pytest.approx((2 - 0.2) / 3 + 0.2 * 2 / 3 * unigram[1], abs=1e-9)
    assert math.exp(model.log_probabilities(np.array([1]))[0]) == pytest.approx(unigram[1])


def test_a_frequent_word_after_one_context_is_not_likely_elsewhere():
    # word 9 occurs often, but only after word 8; word 1 less often, after many words
    ids = [8, 9] * 20 + [2, 1, 3, 1, 4, 1, 5, 1, 6, 1] + [8, 9] * 20
    model = CountingModel(np.array(ids), 10, 2)
    p = np.exp([model.log_probabilities(np.array([7, w]))[-1] for w in (9, 1)])
    assert p[1] > p[0], "lower orders count different contexts, not occurrences"


def test_memorised_text_is_cheap_and_orders_that_do_not_fit_are_refused():
    ids = np.random.default_rng(0).integers(0, 1000, 3000)
    model = CountingModel(ids, 1000)
    assert -model.log_probabilities(ids).mean() < 2.5 < math.log(1000)
    with pytest.raises(ValueError, match="64 bits"):
        CountingModel(ids, 1000, order=7)


def test_divergence_is_large_for_other_words_and_zero_for_the_corpus_itself():
    text = "the river runs to the sea and the boats wait for the wind " * 30
    profile = outliers.TokenProfile.from_texts([text])
    assert profile.divergence(text) < 0.1
    assert profile.divergence("0x3f 0x9a 0x1b 0x77 zz9 qq8") > 5
    assert profile.divergence("") == 0
    # one word of two equally frequent ones: log 2 nats are wasted
    two = outliers.TokenProfile(outliers.count_words(["a b " * 50_000]))
    assert two.divergence("a") == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize("dirty, words, kept", [
    (2, 100, True), (3, 1500, True), (3, 1499, False), (20, 100, False)])
def test_dirty_tokens_at_two_in_a_thousand_and_three_at_least(dirty, words, kept):
    text = "porn " * dirty + "fish " * (words - dirty)
    assert (dirty_words.dirty_tokens(text) is None) == kept
