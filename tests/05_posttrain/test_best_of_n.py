"""best_of_n.py: the KL formula and the estimator, against brute force."""

import itertools
import math

import numpy as np
import pytest

from best_of_n import best_of_n_kl, expected_best


@pytest.mark.exercise("5.17")
@pytest.mark.parametrize("n, want", [(1, 0.0), (2, math.log(2) - 0.5), (4, 0.636294),
                                     (16, 1.835089), (64, 3.174508)])
def test_kl_by_hand(n, want):
    assert abs(best_of_n_kl(n) - want) < 1e-6, f"log {n} - {n - 1}/{n} = {want:.6f}"


@pytest.mark.exercise("5.17")
def test_kl_is_that_of_the_best_of_n_uniform_ranks():
    # Best of n of many equally likely, ranked answers: p_i = (i/M)^n - ((i-1)/M)^n against 1/M.
    M, n = 20_000, 3
    i = np.arange(1, M + 1)
    p = (i / M) ** n - ((i - 1) / M) ** n
    assert abs(best_of_n_kl(n) - float((p * np.log(p * M)).sum())) < 1e-3
    with pytest.raises(ValueError):
        best_of_n_kl(0)


@pytest.mark.exercise("5.18")
def test_expected_best_by_hand():
    got = expected_best(np.array([[1.0, 2, 3]]), np.array([[10.0, 20, 60]]), 2)
    assert got[0] == pytest.approx(140 / 3), f"(20 + 2 * 60) / 3 = 46.67, got {got}"
    tied = expected_best(np.array([[1.0, 2, 2]]), np.array([[10.0, 20, 60]]), 3)
    assert tied[0] == 60, f"ties keep the order of the samples: the later, 60, wins; got {tied}"


@pytest.mark.exercise("5.18")
@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_expected_best_against_every_choice(n):
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(3, 7)), rng.normal(size=(3, 7))
    got = expected_best(proxy, gold, n)
    assert got.shape == (3,), "one number per question"
    for q in range(3):
        winners = [gold[q, max(choice, key=lambda i: proxy[q, i])]
                   for choice in itertools.combinations(range(7), n)]
        assert abs(got[q] - np.mean(winners)) < 1e-9, \
            f"question {q}, n = {n}: expected {np.mean(winners):.4f}, got {got[q]:.4f}; the " \
            "winner is chosen by the proxy and paid in gold"


@pytest.mark.exercise("5.18")
def test_expected_best_needs_enough_samples():
    with pytest.raises(ValueError):
        expected_best(np.ones((1, 3)), np.ones((1, 3)), 4)
