"""What the statements of chapter 3's exercises say once in passing, asked for on its own."""

import math

import numpy as np
import pytest

import inference_aware
from data_limited import effective_tokens
from hyperparameters import best_rate, mup_rates
from inference_aware import cheapest, tokens_to_reach
from isoflop import parabola_minimum
from log_lines import fit_envelope, fit_power_law
from power_laws import ParametricFit, optimal_allocation

LAW = ParametricFit(1.8, 480.0, 2100.0, 0.35, 0.37)


@pytest.mark.exercise("3.7")
def test_a_resample_of_one_point_alone_is_drawn_again():
    law = fit_power_law([1, 10], [2, 20], bootstrap=40, seed=1)
    assert law.samples.shape == (40, 2) and np.allclose(law.samples, [2.0, 1.0]), (
        "half of all resamples of two points hold one of them twice, which is no line: draw again")
    assert np.allclose(law.exponent_interval, 1.0)


@pytest.fixture
def own_inverse(monkeypatch):
    """Exercise 3.12, right."""
    def reach(fit, loss, N):
        left = loss - fit.E - fit.A / np.asarray(N, float) ** fit.alpha
        return np.where(left > 0, (fit.B / np.maximum(left, 1e-300)) ** (1 / fit.beta), np.inf)
    monkeypatch.setattr(inference_aware, "tokens_to_reach", reach)


@pytest.mark.exercise("3.13")
@pytest.mark.parametrize("budget", [1e18, 1e23])
def test_the_cheapest_without_demand_is_found_to_five_digits(budget, own_inverse):
    G = (LAW.alpha * LAW.A / (LAW.beta * LAW.B)) ** (1 / (LAW.alpha + LAW.beta))
    N0 = G * (budget / 6) ** (LAW.beta / (LAW.alpha + LAW.beta))
    D0 = budget / 6 / N0
    loss = LAW.E + LAW.A / N0 ** LAW.alpha + LAW.B / D0 ** LAW.beta
    assert cheapest(LAW, loss, 0.0) == pytest.approx((N0, D0), rel=1e-5), "to a part in 100,000"


@pytest.mark.exercise("3.13")
@pytest.mark.parametrize("demand, price", [(math.nan, 1.0), (math.inf, 1.0), (1e9, math.nan),
                                           (1e9, math.inf)])
def test_a_demand_or_price_that_is_no_number_is_refused(demand, price, own_inverse):
    with pytest.raises(ValueError):
        cheapest(LAW, 2.6, demand, price)


@pytest.mark.exercise("3.14")
@pytest.mark.parametrize("rates", [[0.0, 0.5, 1, 2], [-1.0, 0.5, 1, 2], [0.5, 1, 2, 0.0]])
def test_a_rate_that_is_not_above_zero_has_no_logarithm(rates):
    with pytest.raises(ValueError), np.errstate(all="ignore"):
        best_rate(rates, [5.0, 3, 1, 2] if rates[0] <= 0 else [3.0, 1, 2, 5])


@pytest.mark.exercise("3.6")
@pytest.mark.parametrize("C", [0.0, -1e18, math.nan, math.inf, np.array([1e18, 0.0])])
def test_no_compute_has_no_best_allocation(C):
    with pytest.raises(ValueError):
        optimal_allocation(LAW, C)


@pytest.mark.exercise("3.8")
def test_two_runs_on_the_envelope_are_too_few():
    with pytest.raises(ValueError):
        fit_envelope([1e6, 1e7, 1e8, 1e9], [1e9] * 4, [3.0, 2.0, 2.5, 2.0])


@pytest.mark.exercise("3.12")
def test_a_model_whose_own_term_is_all_that_may_be_left_never_reaches_the_loss():
    law = ParametricFit(1.0, 1.0, 4.0, 1.0, 2.0)
    got = tokens_to_reach(law, 1.5, np.array([1.0, 2.0, 4.0]))
    assert got.tolist() == [np.inf, np.inf, 4.0], "1 + 1/2 is reached with endless data only"


@pytest.mark.exercise("3.15")
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_a_rate_or_width_that_is_no_size_is_refused(place, bad):
    numbers = [0.01, 256, 128]
    numbers[place] = bad
    with pytest.raises(ValueError):
        mup_rates(*numbers)


@pytest.mark.exercise("3.7")
def test_every_point_is_drawn_as_often_as_the_others():
    for odd in (0, 2):
        x, y = np.array([1.0, 10, 100]), np.array([1.0, 10, 100])
        y[odd] *= 7                             # without it the exponent is 1
        share = np.isclose(fit_power_law(x, y, 400, seed=odd).samples[:, 1], 1.0).mean()
        assert abs(share - 0.25) < 0.09, f"point {odd}: 6 of 24 resamples lack it, got {share:.2f}"


@pytest.mark.exercise("3.9")
@pytest.mark.parametrize("bottom", [0.6, 0.9, 1.1, 3.0, 7.0])
def test_three_sizes_are_enough_and_a_factor_of_two_outside_is_allowed(bottom):
    N = np.array([1.0, 2.0, 4.0])
    got = parabola_minimum(N, 2 + 0.3 * (np.log(N) - np.log(bottom)) ** 2)
    assert got[:2] == pytest.approx((bottom, 2.0)), "within a factor 2 of 1 to 4"
    with pytest.raises(ValueError):
        parabola_minimum(N, 2 + 0.3 * (np.log(N) - np.log(0.45)) ** 2)


@pytest.mark.exercise("3.11")
@pytest.mark.parametrize("tokens, unique, half_life", [
    (-1.0, 10.0, 15.0), (5.0, 0.0, 15.0), (5.0, 10.0, 0.0), (math.nan, 10.0, 15.0),
    (np.array([5.0, -1.0]), 10.0, 15.0)])
def test_tokens_below_zero_and_texts_of_nothing_are_refused(tokens, unique, half_life):
    with pytest.raises(ValueError):
        effective_tokens(tokens, unique, half_life)
