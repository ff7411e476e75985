"""Parabolas with known minima, and laws through them."""

import numpy as np
import pytest

import isoflop
from power_laws import ParametricFit, optimal_allocation, predict


@pytest.mark.exercise("3.9")
def test_the_minimum_of_an_exact_parabola_in_log_n():
    N = np.array([1e5, 3e5, 2e6, 9e6])
    L = 2.5 + 0.2 * (np.log(N) - np.log(7e5)) ** 2
    best, loss, curve = isoflop.parabola_minimum(N, L)
    assert best == pytest.approx(7e5, rel=1e-6), f"minimum at {best:.4g}, planted 7e5"
    assert loss == pytest.approx(2.5), f"loss there {loss}, planted 2.5"
    assert np.polyval(curve, np.log(N)) == pytest.approx(L), "coefficients are in log N"


@pytest.mark.exercise("3.9")
@pytest.mark.parametrize("L", [[3.0, 3.2, 3.0], [5.0, 4.0, 3.1]], ids=["downwards", "outside"])
def test_no_minimum_is_said_not_invented(L):
    with pytest.raises(ValueError):
        isoflop.parabola_minimum(np.array([1e5, 1e6, 1e7]), np.array(L))


def test_budgets_are_grouped_although_steps_are_whole():
    C = np.array([1.02e12, 3e12, 0.99e12, 3.05e12, 1e12])
    groups = [sorted(C[g]) for g in isoflop.group_budgets(C)]
    assert groups == [[0.99e12, 1e12, 1.02e12], [3e12, 3.05e12]]


@pytest.mark.parametrize("noise, tolerance", [(0.0, 0.02), (0.003, 0.08)])
def test_minima_follow_the_planted_law(noise, tolerance):
    law, rng = ParametricFit(1.8, 482.0, 2085.4, 0.348, 0.366), np.random.default_rng(0)
    C = np.repeat(np.geomspace(1e18, 1e21, 7), 9)
    N = optimal_allocation(law, C)[0] * np.tile(np.exp(np.linspace(-1.2, 1.2, 9)), 7)
    L = predict(law, N, C / 6 / N) * np.exp(noise * rng.standard_normal(len(C)))
    fit = isoflop.fit_isoflop(C, N, L, bootstrap=200)
    want = 0.366 / 0.714
    assert fit.law.exponent == pytest.approx(want, abs=tolerance), \
        f"exponent {fit.law.exponent:.3f}, planted {want:.3f}"
    low, high = fit.law.exponent_interval
    assert low - 1e-3 <= want + 0.02 and high + 1e-3 >= want - 0.02, "the interval covers it"


def test_too_few_budgets_are_refused():
    with pytest.raises(ValueError, match="two are needed"):
        isoflop.fit_isoflop([1e12] * 4, [1e5, 3e5, 1e6, 3e6], [3.0, 2.5, 2.6, 3.1])
