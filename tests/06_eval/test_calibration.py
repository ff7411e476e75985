"""Intervals and calibration error against worked numbers."""

import numpy as np
import pytest

from calibration import expected_calibration_error, selective_accuracy, wilson_interval


@pytest.mark.exercise("6.8")
def test_wilson_interval():
    low, high = wilson_interval(5, 10)
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4), f"got {low:.4f}, {high:.4f}"
    low, high = wilson_interval(0, 10)
    assert (low, high) == pytest.approx((0.0, 0.2775), abs=1e-4), (
        f"no success in ten still leaves up to 27.8 %, got {low:.4f} to {high:.4f}")
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0), "nothing seen, nothing excluded"
    # The defining equation: at both ends the distance to the share is z standard errors.
    for end in wilson_interval(30, 100):
        assert abs(0.3 - end) == pytest.approx(1.96 * (end * (1 - end) / 100) ** 0.5, abs=1e-9)


def test_wilson_covers():
    rng = np.random.default_rng(0)
    for p in (0.05, 0.3, 0.9):
        hits = [low <= p <= high for low, high in
                (wilson_interval(int(k), 60) for k in rng.binomial(60, p, 2000))]
        assert 0.92 < np.mean(hits) < 0.98, f"at {p} the interval covers {np.mean(hits):.3f}"


@pytest.mark.exercise("6.9")
def test_calibration_error():
    ece = expected_calibration_error(np.full(4, 0.9), np.array([1, 1, 0, 0]), bins=1)
    assert ece == pytest.approx(0.4), f"says 90 %, is right in 50 %: 0.4, got {ece}"
    confidence = np.array([0.1, 0.9, 0.2, 0.8])
    right = np.array([0, 1, 0, 1])
    two = expected_calibration_error(confidence, right, bins=2)
    assert two == pytest.approx(0.15), (
        f"lower half says 0.15 and is right 0, upper says 0.85 and is right 1: 0.15, got {two}")
    mass = expected_calibration_error(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1]), bins=2)
    assert mass == pytest.approx(0.225), (
        f"halves of equal size, 0.1 and 0.2 against 0.3 and 0.9: 0.225; got {mass} (equal width "
        "would be 0.125)")
    uneven = expected_calibration_error(np.array([0.5, 0.5, 1.0]), np.array([0, 0, 1]), bins=2)
    assert uneven == pytest.approx(2 / 3 * 0.5 + 0), f"bins weigh by their size, got {uneven}"
    skewed = np.concatenate([np.full(90, 0.99), np.linspace(0.3, 0.5, 10)])
    right = np.concatenate([np.ones(90), np.zeros(10)])
    assert expected_calibration_error(skewed, right) == pytest.approx(
        0.9 * 0.01 + 0.1 * 0.4, abs=1e-9), "ten groups of equal mass, not of equal width"
    assert expected_calibration_error(np.array([0.7]), np.array([True])) == pytest.approx(0.3), (
        "one answer is one bin")


@pytest.mark.exercise("6.9")
def test_calibration_error_does_not_depend_on_the_order():
    """Half of twenty answers at 0.5 are right: no error, also when the right ones come first."""
    flat = np.full(20, 0.5)
    for right in (np.arange(20) < 10, np.arange(20) % 2):
        got = expected_calibration_error(flat, right)
        assert got == pytest.approx(0.0, abs=1e-12), (
            f"it says 0.5 twenty times and is right ten times: error 0, got {got}. Equal "
            "confidences belong in one bin, or the order of the questions changes the result")
    rng = np.random.default_rng(1)
    confidence = rng.choice([0.3, 0.5, 0.8, 0.9], 200)
    right = rng.random(200) < 0.6
    values = [expected_calibration_error(confidence[order], right[order])
              for order in (np.arange(200), np.argsort(right), np.argsort(~right))]
    by_level = sum((confidence == c).mean() * abs(c - right[confidence == c].mean())
                   for c in (0.3, 0.5, 0.8, 0.9))
    assert values == pytest.approx([by_level] * 3), f"four levels, four bins: {by_level}, {values}"


def test_a_calibrated_forecaster_has_little_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.25, 1, 20_000)
    right = rng.random(20_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.015


def test_selective_accuracy():
    confidence = np.arange(50) / 50
    right = np.array([0] * 46 + [1] * 4)
    assert selective_accuracy(confidence, right, 0.1) == pytest.approx(0.8)
    assert selective_accuracy(np.array([0.4]), np.array([1]), 0.1) == 1.0
