"""Straight lines in logarithms against points worked by hand; envelopes of planted runs."""

import math

import numpy as np
import pytest

import log_lines


@pytest.mark.exercise("3.7")
def test_a_power_law_through_exact_points():
    law = log_lines.fit_power_law([1, 10, 100], [2, 20 * math.sqrt(10), 2000])
    assert (law.constant, law.exponent) == pytest.approx((2, 1.5)), "slope and offset of the logs"
    assert law(1000) == pytest.approx(2 * 1000 ** 1.5)
    two = log_lines.fit_power_law([1, 10], [2, 20])
    assert (two.constant, two.exponent) == pytest.approx((2, 1)), "two points are a line"


@pytest.mark.exercise("3.7")
def test_a_power_law_is_fitted_in_logs_not_in_values():
    # the small values count as much as the large ones: one is off by e, one by 1 / e
    law = log_lines.fit_power_law([1, 10, 100, 1000], [math.e, 10, 100, 1000 / math.e])
    want = 1 - 2 * 3 / (20 / 4 * 2 * math.log(10)) * 0.5 * 2
    assert law.exponent == pytest.approx(want, abs=1e-9), f"{law.exponent}, by hand {want}"


@pytest.mark.exercise("3.7")
def test_the_bootstrap_interval_holds_the_slope_and_repeats():
    rng = np.random.default_rng(1)
    x = np.geomspace(1, 1e4, 40)
    y = 3 * x ** -0.1 * np.exp(0.05 * rng.standard_normal(40))
    law = log_lines.fit_power_law(x, y, bootstrap=300, seed=5)
    low, high = law.exponent_interval
    assert low < -0.1 < high and high - low < 0.03, f"95 % interval [{low:.3f}, {high:.3f}]"
    again = log_lines.fit_power_law(x, y, bootstrap=300, seed=5)
    assert again.exponent_interval == law.exponent_interval, "the same seed, the same interval"
    with pytest.raises(ValueError):
        log_lines.fit_power_law([2, 2], [1, 3])


@pytest.fixture
def own_line(monkeypatch):
    """A straight line of our own, so that exercise 3.8 does not depend on 3.7."""
    def line(x, y, bootstrap=0, seed=0):
        x, y = np.log(x), np.log(y)
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        return log_lines.PowerLaw(math.exp(y.mean() - slope * x.mean()), float(slope))
    monkeypatch.setattr(log_lines, "fit_power_law", line)


@pytest.mark.exercise("3.8")
def test_the_envelope_of_runs_that_include_bad_ones(own_line):
    C = np.geomspace(1e12, 1e16, 9)
    N = 0.1 * C ** 0.5
    D, L = C / 6 / N, 10 * C ** -0.05
    # the same compute on a model ten times too large or too small is worse, and must not count
    bad = [(N * 10, D / 10, L * 1.1), (N / 10, D * 10, L * 1.2)]
    every = [np.concatenate(parts) for parts in zip((N, D, L), *bad)]
    law = log_lines.fit_envelope(*every)
    assert law.exponent == pytest.approx(0.5, abs=1e-6), f"exponent {law.exponent}, planted 0.5"
    assert law.constant == pytest.approx(0.1, rel=1e-4)


@pytest.mark.exercise("3.8")
def test_a_run_that_costs_more_and_is_no_better_is_not_on_the_envelope(own_line):
    N, D = np.array([1e3, 1e4, 1e5, 2e4]), np.array([1e6, 1e6, 1e6, 1e9])
    law = log_lines.fit_envelope(N, D, np.array([5.0, 4.0, 3.0, 3.0]))
    assert law.exponent == pytest.approx(1.0), "equal loss at more compute does not count"
    with pytest.raises(ValueError):
        log_lines.fit_envelope(N, D, np.array([3.0, 3.5, 4.0, 5.0]))
