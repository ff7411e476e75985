"""Planted laws are recovered, intervals cover, and closed forms agree with searching by hand."""


import math

import numpy as np
import pytest

import data_limited
import isoflop
import log_lines
import power_laws
import robust_fit
from power_laws import ParametricFit

LAW = ParametricFit(1.817, 482.0, 2085.4, 0.348, 0.366)


def planted(noise: float, seed: int = 0, law: ParametricFit = LAW):
    """240 runs around the law: sizes 5e7 to 1.6e10, budgets 6e18 to 3e21."""
    rng = np.random.default_rng(seed)
    N = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), 240))
    D = np.exp(rng.uniform(np.log(6e18), np.log(3e21), 240)) / (6 * N)
    E, A, B, alpha, beta = law
    L = (E + A / N ** alpha + B / D ** beta) * np.exp(noise * rng.standard_normal(240))
    return N, D, L


@pytest.mark.exercise("3.4")
def test_huber_by_hand():
    got = robust_fit.huber(np.array([-3.0, -0.5, 0.0, 0.5, 1.0, 3.0]), 1.0)
    assert got == pytest.approx([2.5, 0.125, 0, 0.125, 0.5, 2.5]), \
        f"r^2 / 2 inside, delta (|r| - delta / 2) outside, both signs alike: {got}"


@pytest.mark.exercise("3.4")
def test_huber_joins_without_a_step_or_a_kink():
    below, above = robust_fit.huber(np.array([0.0099999, 0.0100001]), 0.01)
    assert abs(below - above) < 1e-8, "the two pieces meet at delta with the same value"
    high, low = (robust_fit.huber(np.array([r]), 0.01) for r in (0.5, 0.4))
    slope = (high - low) / 0.1
    assert slope == pytest.approx(0.01), f"outside the slope is delta, 0.01: {slope}"


@pytest.mark.exercise("3.5")
def test_log_law_is_the_log_of_the_law():
    N, D = np.array([1e8, 1e9]), np.array([1e9, 1e11])
    theta = np.array([[np.log(482.0), np.log(2085.4), np.log(1.817), 0.348, 0.366]])
    value, _ = power_laws.log_law(theta, np.log(N), np.log(D))
    hand = np.log(1.817 + 482.0 / N ** 0.348 + 2085.4 / D ** 0.366)
    assert value.shape == (1, 2) and value[0] == pytest.approx(hand), "log L, shape (P, n)"


@pytest.mark.exercise("3.5")
def test_log_law_survives_extreme_constants():
    theta = np.array([[900.0, -900.0, 0.0, 1.0, 1.0]])
    value, slopes = power_laws.log_law(theta, np.zeros(1), np.zeros(1))
    assert value[0, 0] == pytest.approx(900.0), "take the largest term out before exponentiating"
    assert np.isfinite(slopes).all()


@pytest.mark.exercise("3.5")
def test_each_law_and_each_run_has_a_largest_term_of_its_own():
    theta = np.array([[-900.0, -900.0, -900.0, 1.0, 1.0], [900.0, -900.0, -900.0, 1.0, 1.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        value, slopes = power_laws.log_law(theta, np.array([0.0, 1800.0]), np.zeros(2))
    want = np.log([[3.0, 2.0], [1.0, 3.0]]) + [[-900.0, -900.0], [900.0, -900.0]]
    assert value == pytest.approx(want), "a small loss beside a large one is rounded away"
    assert slopes[..., 2] == pytest.approx(np.array([[1 / 3, 1 / 2], [0.0, 1 / 3]]))


@pytest.mark.exercise("3.5")
def test_log_law_derivatives_against_differences():
    theta = np.array([[5.0, 6.0, 0.4, 0.3, 0.25]])
    x, y = np.log(np.array([3e6, 2e9])), np.log(np.array([5e7, 1e8]))
    _, slopes = power_laws.log_law(theta, x, y)
    for i, name in enumerate(("a", "b", "e", "alpha", "beta")):
        step = np.zeros((1, 5))
        step[0, i] = 1e-6
        up, down = (power_laws.log_law(theta + s * step, x, y)[0][0] for s in (1, -1))
        want = (up - down) / 2e-6
        assert slopes[0, :, i] == pytest.approx(want, rel=1e-5), f"d log L / d {name}"


def test_a_planted_law_is_recovered_exactly_without_noise():
    fit = power_laws.fit_parametric(*planted(0.0))
    for name, want in zip(("E", "A", "B", "alpha", "beta"), LAW):
        got = getattr(fit, name)
        assert got == pytest.approx(want, rel=2e-3), f"{name}: {got}, planted {want}"


def test_outliers_do_not_move_the_law():
    N, D, L = planted(0.001)
    L[::24] *= 1.3                                      # ten runs that failed
    fit = power_laws.fit_parametric(N, D, L)
    assert fit.alpha == pytest.approx(LAW.alpha, abs=0.015), "Huber holds where squares would not"
    assert fit.E == pytest.approx(LAW.E, abs=0.03)


def test_no_nearby_law_is_better():
    N, D, L = planted(0.01, seed=3)
    fit = power_laws.fit_parametric(N, D, L)
    rng = np.random.default_rng(0)

    def cost(law):
        return robust_fit.huber(np.log(power_laws.predict(law, N, D)) - np.log(L), 1e-3).sum()
    for _ in range(200):
        other = ParametricFit(*(v * (1 + 0.003 * rng.standard_normal()) for v in fit))
        assert cost(other) >= cost(fit) * (1 - 1e-7), "a random neighbour beats the fit"


def test_bootstrap_intervals_cover_the_planted_exponents():
    inside = []
    for seed in range(8):
        fit = power_laws.fit_parametric(*planted(0.01, seed), bootstrap=100, delta=0.05)
        for name in ("alpha", "beta", "E"):
            low, high = fit.intervals[name]
            inside.append(low <= getattr(LAW, name) <= high)
    # 24 intervals of 95 %: fewer than 18 inside has a chance under 1 in 1,000
    assert sum(inside) >= 18, f"{sum(inside)} of 24 intervals of 95 % hold the planted value"


@pytest.mark.exercise("3.6")
@pytest.mark.parametrize("C", [1e18, 5.76e23])
def test_allocation_is_the_lowest_point_of_a_fine_search(C):
    N, D = power_laws.optimal_allocation(LAW, C)
    assert 6 * N * D == pytest.approx(C), "all the compute is spent: 6 N D = C"
    sizes = np.exp(np.linspace(np.log(N) - 2, np.log(N) + 2, 20_001))
    E, A, B, alpha, beta = LAW
    losses = E + A / sizes ** alpha + B / (C / 6 / sizes) ** beta
    best = sizes[np.argmin(losses)]
    assert N == pytest.approx(best, rel=1e-3), f"N {N:.4g}, a search finds {best:.4g}"


@pytest.mark.exercise("3.6")
def test_allocation_takes_arrays_and_lopsided_laws():
    law = ParametricFit(1.0, 10.0, 5000.0, 0.2, 0.5)
    N, D = power_laws.optimal_allocation(law, np.array([6e12, 6e15]))
    slope = np.log(N[1] / N[0]) / np.log(1000)
    assert slope == pytest.approx(0.5 / 0.7), f"N ~ C^(beta / (alpha + beta)): {slope:.3f}"
    assert N * D == pytest.approx([1e12, 1e15])


@pytest.mark.parametrize("N, D, L, why", [
    ([1e6] * 5, [1e8] * 5, [3.0] * 5, "at least 6"), ([1e6] * 6, [1e8] * 5, [3.0] * 6, "equally"),
    ([1e6] * 6, [1e8] * 6, [math.nan] * 6, "positive"),
    ([1e6] * 6, [1e8] * 6, [3.0] * 6, "one size")])
def test_bad_points_are_refused(N, D, L, why):
    with pytest.raises(ValueError, match=why):
        power_laws.fit_parametric(N, D, L)


def test_predict_on_published_runs():
    assert float(power_laws.predict(LAW, 70e9, 1.4e12)) == pytest.approx(1.973, abs=0.01)


def ladder(ratio_noise: float, noise: float = 0.003, seed: int = 0):
    """Twelve runs of 20 tokens per parameter, as most people have; the ratio varies a little."""
    rng = np.random.default_rng(seed)
    N = np.geomspace(1e7, 1e10, 12)
    D = 20 * N * np.exp(ratio_noise * rng.standard_normal(12))
    return N, D, power_laws.predict(LAW, N, D) * np.exp(noise * rng.standard_normal(12))


@pytest.mark.parametrize("ratio_noise, noise", [(0, 0.003), (0, 0), (0.01, 0.003), (0.05, 0.003)])
def test_a_ladder_on_which_data_follows_size_is_refused_with_the_way_out(ratio_noise, noise):
    with pytest.raises(ValueError, match="never vary apart.*Vary N at fixed C"):
        power_laws.fit_parametric(*ladder(ratio_noise, noise))


def test_a_ladder_along_another_power_and_one_budget_are_refused_too():
    N = np.geomspace(1e7, 1e10, 12)
    for D in (3e4 * N ** 0.7, 1e19 / N):
        with pytest.raises(ValueError, match="never vary apart"):
            power_laws.fit_parametric(N, D, power_laws.predict(LAW, N, D))


def test_two_ladders_are_a_law():
    N = np.tile(np.geomspace(1e7, 1e10, 6), 2)
    D = N * np.repeat([10.0, 80.0], 6)
    fit = power_laws.fit_parametric(N, D, power_laws.predict(LAW, N, D))
    assert fit.alpha == pytest.approx(LAW.alpha, rel=0.01), fit


def test_seeds_of_one_run_do_not_count_as_runs():
    N, D = np.repeat([1e7, 1e8, 1e9], 4), np.repeat([1e9, 1e9, 3e10], 4)
    with pytest.raises(ValueError, match="3 different runs"):
        power_laws.fit_parametric(N, D, power_laws.predict(LAW, N, D))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("fit", [
    lambda N, D, L: power_laws.fit_parametric(N, D, L), lambda N, D, L: log_lines.fit_envelope(
        N, D, L), lambda N, D, L: isoflop.fit_isoflop(6 * N * D, N, L),
    lambda N, D, L: isoflop.parabola_minimum(N, L), lambda N, D, L: log_lines.fit_power_law(N, L),
    lambda N, D, L: data_limited.fit_half_life(LAW, N, D, D / 2, L)])
def test_a_run_that_diverged_is_named_by_every_fit(fit, bad):
    N, D, L = planted(0.0)
    L[17] = bad
    with pytest.raises(ValueError, match="L|y.*run 18 of 240"):
        fit(N, D, L)


def test_a_law_that_is_none_has_no_allocation():
    for law in (ParametricFit(1, 10, 10, 0.3, -0.001), ParametricFit(1, 10, 10, 0.0, 0.3)):
        with pytest.raises(ValueError, match="no best allocation"):
            power_laws.optimal_allocation(law, 1e20)
