"""outliers.py and dirty_words.py: divergences of word counts, shares of dirty words."""

import math

import pytest

import dirty_words
import outliers


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
