"""ngram.py: probabilities that sum to one, discounts by hand, Kneser-Ney's own example."""

import numpy as np
import pytest

from ngram import NgramModel, discounts


@pytest.mark.exercise("2.32")
def test_discounts_by_hand():
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] * 1)
    # Y = 8 / (8 + 2 * 4) = 0.5; D1 = 1 - 2 Y 4/8; D2 = 2 - 3 Y 2/4; D3 = 3 - 4 Y 1/2
    assert discounts(counts).tolist() == pytest.approx([0, 0.5, 1.25, 2.0]), discounts(counts)


@pytest.mark.exercise("2.32")
def test_discounts_stay_between_nothing_and_the_count():
    for counts in ([1, 1, 1], [5, 5], [1, 2, 2, 2, 3, 3, 3, 3, 3]):
        D = discounts(np.array(counts))
        assert np.isfinite(D).all() and (D >= 0).all() and (D <= [0, 1, 2, 3]).all(), (counts, D)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_after_any_history(order):
    rng = np.random.default_rng(0)
    text = rng.zipf(1.5, 800) % 7
    model = NgramModel(text, 7, order)
    for history in ([], [0], [1, 2, 3, 4], [6, 6, 6, 6, 6], list(text[10:14]), list(text[-4:])):
        p = [np.exp(model.log_probabilities(np.array(history + [w]))[-1]) for w in range(7)]
        assert sum(p) == pytest.approx(1, abs=1e-6), f"after {history} they sum to {sum(p)}"
        assert min(p) > 0, "nothing is impossible"


def test_unigram_without_smoothing_mass_is_frequency():
    text = np.repeat([0, 1, 2, 3], [400, 200, 100, 100])
    p = np.exp(NgramModel(text, 4, 1).log_probabilities(np.arange(4)))
    assert p == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.01), p


def test_lower_orders_count_different_histories():
    """Token 9 is frequent but always after 8: elsewhere it must be rarer than token 5, which is
    less frequent but follows many (Kneser and Ney's Francisco)."""
    rng = np.random.default_rng(0)
    text = []
    for _ in range(300):
        text += [int(rng.integers(0, 5)), 8, 9, 8, 9]
        text += [int(rng.integers(0, 5)), 5] if rng.random() < 0.6 else []
    model = NgramModel(np.array(text), 12, 2)
    after_unseen = [model.log_probabilities(np.array([11, w]))[-1] for w in (9, 5)]
    assert text.count(9) > 2 * text.count(5)
    assert after_unseen[1] > after_unseen[0], \
        f"after an unknown token 5 should be likelier than 9: {np.exp(after_unseen)}"


def test_higher_orders_learn_a_longer_pattern():
    text = np.tile([0, 1, 2, 0, 1, 3], 200)
    bits = [-NgramModel(text, 4, k).log_probabilities(text)[20:].mean() for k in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True) and bits[3] < 0.1 < bits[2], \
        f"after '0 1' only three tokens of history tell 2 from 3; nats by order: {bits}"


@pytest.mark.exercise("2.32")
@pytest.mark.parametrize("n", [(8, 4, 2, 1), (10, 1, 5, 9), (3, 3, 0, 4), (20, 5, 4, 0)])
def test_discounts_of_other_counts(n):
    counts = np.repeat([1, 2, 3, 4, 7], [*n, 6])
    np.random.default_rng(0).shuffle(counts)
    got = discounts(counts)
    Y = n[0] / (n[0] + 2 * n[1])
    for k in (1, 2, 3):
        if n[k - 1]:
            want = min(max(k - (k + 1) * Y * n[k] / n[k - 1], 0), k)
            assert abs(got[k] - want) < 1e-6, f"D_{k} = {got[k]}, not {want}"
        assert 0 <= got[k] <= k
    assert got[0] == 0 and np.isfinite(discounts(np.array([5, 6]))).all()


def test_nothing_is_impossible_even_where_every_discount_is_zero():
    # every bigram stands three times or more, ever more of them the more often: D_3 would be 0
    ids = np.array([0, 1] * 3 + [0, 2] * 4 + [0, 3] * 4 + [0, 4] * 5 + [0, 5] * 5 + [0, 6] * 5)
    for order in (2, 3, 4):
        logs = NgramModel(ids, 9, order).log_probabilities(np.array([0, 1, 2, 8, 0, 7, 3, 3]))
        assert np.isfinite(logs).all(), f"order {order}: {logs}"
