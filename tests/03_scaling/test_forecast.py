"""A planted small law: the forecast far ahead lies inside its interval, and tells its doubts."""

import math

import numpy as np
import pytest

import forecast
import on_paper
from power_laws import ParametricFit, predict

LAW = ParametricFit(1.6, 60.0, 120.0, 0.30, 0.30)       # a small model's law, 4k-token vocabulary


def small_sweep(seed: int, noise: float = 0.004):
    """14 runs of three budgets, as the default sweep makes them."""
    rng, rows = np.random.default_rng(seed), []
    for budget, sizes in ((3e11, (3e5, 4.5e5, 6e5, 1e6, 1.6e6)),
                          (1e12, (4.5e5, 6e5, 1e6, 1.6e6, 3e6)),
                          (3.2e12, (6e5, 1e6, 1.6e6, 3e6))):
        for N in sizes:
            D = budget / 6 / N
            rows.append((N, D, float(predict(LAW, N, D)) * math.exp(noise * rng.normal()), budget))
    return (np.array(column) for column in zip(*rows))


def test_a_run_20_times_larger_lies_within_its_interval_and_3_percent():
    inside, worst = 0, 0.0
    for seed in range(8):
        laws = forecast.fit_laws(*small_sweep(seed), bootstrap=100)
        said = forecast.forecast(laws, 3.3e6, 4.5e6)
        truth = float(predict(LAW, 3.3e6, 4.5e6))
        inside += said["low"] <= truth <= said["high"]
        worst = max(worst, abs(said["loss"] / truth - 1))
    assert inside >= 7, f"{inside} of 8 forecasts hold within their 90 % interval"
    assert worst < 0.03, f"the worst forecast is off by {worst:.1%}"


def test_doubt_grows_with_distance():
    laws = forecast.fit_laws(*small_sweep(0), bootstrap=50)
    near, far = (forecast.forecast(laws, 3e6, D) for D in (1e6, 1e9))
    width = [math.log(f["high"] / f["low"]) for f in (near, far)]
    assert width[1] > 1.5 * width[0], f"interval widths {width}"


def test_a_sweep_too_small_to_hold_runs_out_doubts_its_reach_too():
    N, D, L, budgets = (column[[0, 1, 2, 5, 6, 7, 8]] for column in small_sweep(0))
    laws = forecast.fit_laws(N, D, L, budgets, bootstrap=20)
    assert laws["held_out"] is None
    near, far = (forecast.forecast(laws, 1e6, D) for D in (3e5, 3e7))
    width = [math.log(f["high"] / f["low"]) for f in (near, far)]
    assert width[1] > 2 * width[0] > 0.08, f"interval widths {width}"


def test_repeated_tokens_are_forecast_as_worth_less():
    laws = forecast.fit_laws(*small_sweep(0), bootstrap=5)
    fresh, stale = (forecast.forecast(laws, 3e6, 2e7, unique)["loss"] for unique in (1e9, 1e6))
    assert stale > fresh * 1.01
    worthless = forecast.forecast(laws | {"half_life": 0.01}, 3e6, 2e7, 1e6)["loss"]
    once = forecast.forecast(laws, 3e6, 1e6)["loss"]
    assert worthless == pytest.approx(once, rel=0.01), \
        "with R* near 0, what was measured in the sweep, reading again is worth nothing"


def test_the_largest_budget_is_held_out():
    N, D, L, budgets = small_sweep(1)
    found = forecast.held_out_errors(N, D, L, budgets)
    assert sorted(found["runs"]) == [10, 11, 12, 13] and found["rms"] < 0.03
    poisoned = L.copy()
    poisoned[10:] *= 1.5
    again = forecast.held_out_errors(N, D, poisoned, budgets)
    assert np.mean(again["errors"]) == pytest.approx(-1 / 3, abs=0.03), \
        "the runs that are forecast must not be fitted"


def test_runs_that_begin_at_a_finite_loss_are_not_forecast_too_high():
    """A law in D + 60,000: fitted in D alone it bends too early."""
    shifted = ParametricFit(1.1, 400.0, 45.0, 0.53, 0.20, shift=6e4)
    rng, errors = np.random.default_rng(0), {"shift": [], "none": []}
    for _ in range(4):
        N, D, _, budgets = small_sweep(0)
        L = predict(shifted, N, D) * np.exp(0.003 * rng.normal(size=len(N)))
        truth = float(predict(shifted, 3.3e6, 8e6))
        law = forecast.fit_law(N, D, L)
        alone = forecast.fit_parametric(N, D, L, delta=forecast.DELTA, prior=(
            forecast.PRIOR_MEAN, forecast.PRIOR_SD, forecast.NOISE))
        for name, fit in (("shift", law), ("none", alone)):
            errors[name].append(float(predict(fit, 3.3e6, 8e6)) / truth - 1)
    assert max(map(abs, errors["shift"])) < 0.02, f"with a shift: {errors['shift']}"
    assert min(errors["none"]) > 0.01, f"the test shows nothing: {errors['none']}"


def test_a_sweep_whose_larger_models_came_out_worse_still_has_a_best_allocation():
    """Half budgets on a busy machine: the widest models had read too little to be better."""
    N, D, L, budgets = small_sweep(0)
    worse = L * (N / N.min()) ** 0.05 * np.exp(0.02 * np.random.default_rng(0).normal(size=len(N)))
    laws = forecast.fit_laws(N, D, worse, budgets, bootstrap=60)
    exponents = np.array(laws["samples"])[:, 3:]
    assert exponents.min() >= 0.01, f"a resample by which more is worse: {exponents.min():.3f}"
    ratio = on_paper.tokens_per_parameter(forecast.law_of(laws), laws["largest_flops"])
    assert np.isfinite(ratio).all() and ratio[1] <= ratio[0] <= ratio[2], ratio


def test_every_draw_of_a_law_keeps_its_shift():
    laws = forecast.fit_laws(*small_sweep(0), bootstrap=3)
    law = forecast.law_of(laws)
    assert law.shift == laws["parametric"]["shift"] > 0
    assert {draw.shift for draw in law.draws()} == {law.shift}, \
        "an interval from laws without the shift would lie elsewhere"
    assert float(predict(law, 1e6, 0)) < 100, "at D = 0 the loss is finite"
