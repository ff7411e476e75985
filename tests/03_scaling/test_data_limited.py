"""Limits of the repetition law, and allocations against a search."""

import numpy as np
import pytest

import data_limited
from power_laws import ParametricFit, optimal_allocation

LAW = ParametricFit(1.817, 482.0, 2085.4, 0.348, 0.366)


@pytest.mark.exercise("3.11")
def test_tokens_that_are_not_repeated_count_in_full():
    got = data_limited.effective_tokens([1e6, 5e8, 1e9], 1e9)
    assert list(got) == [1e6, 5e8, 1e9], f"up to one epoch D' = D, got {got}"


@pytest.mark.exercise("3.11")
def test_four_epochs_by_hand():
    # R = 3 repetitions: 1 + 15.39 (1 - exp(-3 / 15.39)) = 3.7257
    got = float(data_limited.effective_tokens(4e9, 1e9))
    assert got == pytest.approx(3.7257e9, rel=1e-4), f"repetitions are epochs MINUS one: {got:.5g}"


@pytest.mark.exercise("3.11")
def test_endless_repetition_has_a_ceiling():
    got = float(data_limited.effective_tokens(1e15, 1e9, half_life=10.0))
    assert got == pytest.approx(11e9, rel=1e-6), f"never worth more than U (1 + R*): {got:.4g}"


@pytest.mark.exercise("3.11")
def test_the_law_has_no_kink_at_one_epoch():
    below, at, above = data_limited.effective_tokens(np.array([0.999e9, 1e9, 1.001e9]), 1e9)
    assert (above - at) == pytest.approx(at - below, rel=1e-3), "the first repeat is almost fresh"


def test_text_in_plenty_is_the_closed_form():
    got = data_limited.limited_allocation(LAW, 1e20, unique=1e30)
    assert got == pytest.approx(tuple(map(float, optimal_allocation(LAW, 1e20))), rel=1e-4)


def test_little_text_moves_compute_into_parameters():
    N0, _ = optimal_allocation(LAW, 1e20)
    N, D = data_limited.limited_allocation(LAW, 1e20, unique=2e8)
    assert N > 1.2 * N0 and 6 * N * D == pytest.approx(1e20)
    losses = [data_limited.limited_loss(LAW, n, 1e20 / 6 / n, 2e8)
              for n in np.geomspace(N / 9, N * 9, 999)]
    assert float(data_limited.limited_loss(LAW, N, D, 2e8)) <= min(losses) + 1e-9


@pytest.mark.parametrize("planted", [7.0, 0.05])
def test_the_half_life_is_recovered(planted):
    N, D, U = np.full(5, 1e8), np.array([2e9, 4e9, 8e9, 2e10, 5e10]), 1e9
    L = data_limited.limited_loss(LAW, N, D, U, planted)
    assert data_limited.fit_half_life(LAW, N, D, U, L) == pytest.approx(planted, rel=0.01)


def test_a_tenth_is_lost_after_2_6_epochs():
    assert data_limited.epochs_at_price(0.1) == pytest.approx(2.62, abs=0.01)


@pytest.mark.parametrize("call", [
    lambda: data_limited.effective_tokens(1e9, 0), lambda: data_limited.effective_tokens(
        2e9, 1e9, half_life=0.0), lambda: data_limited.epochs_at_price(1.5),
    lambda: data_limited.fit_half_life(LAW, [1e8], [1e9], [2e9], [3.0])])
def test_what_cannot_be_known_is_refused(call):
    with pytest.raises(ValueError):
        call()
