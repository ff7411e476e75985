"""The lifetime optimum against searches by hand and its limits."""

import numpy as np
import pytest

import inference_aware
from power_laws import ParametricFit, optimal_allocation, predict

LAW = ParametricFit(1.817, 482.0, 2085.4, 0.348, 0.366)


@pytest.mark.exercise("3.12")
def test_tokens_to_reach_inverts_the_law():
    D = inference_aware.tokens_to_reach(LAW, float(predict(LAW, 1e9, 3e10)), np.array([1e9]))
    assert D == pytest.approx([3e10], rel=1e-6), f"D for that loss at that N: {D}"


@pytest.mark.exercise("3.12")
def test_a_model_too_small_never_arrives():
    got = inference_aware.tokens_to_reach(LAW, 2.0, np.array([1e3, 1e6, 1e12]))
    assert np.isinf(got[:2]).all() and np.isfinite(got[2]), f"no loss below E + A / N^alpha: {got}"


@pytest.fixture
def own_inverse(monkeypatch):
    """`tokens_to_reach` by bisection, so that exercise 3.13 does not depend on 3.12."""
    def by_bisection(fit, loss, N):
        low, high = 0.0, 200.0                          # log of the tokens
        if float(predict(fit, N, np.exp(high))) > loss:
            return np.inf
        for _ in range(80):
            middle = (low + high) / 2
            enough = float(predict(fit, N, np.exp(middle))) <= loss
            low, high = (low, middle) if enough else (middle, high)
        return np.exp(high)
    monkeypatch.setattr(inference_aware, "tokens_to_reach", by_bisection)


@pytest.mark.exercise("3.13")
def test_without_demand_it_is_chinchillas_optimum(own_inverse):
    G = (0.348 * 482.0 / (0.366 * 2085.4)) ** (1 / 0.714)
    N0 = G * (1e22 / 6) ** (0.366 / 0.714)              # Chinchilla's closed form, by hand
    D0 = 1e22 / 6 / N0
    got = inference_aware.cheapest(LAW, float(predict(LAW, N0, D0)), 0.0)
    assert got == pytest.approx((N0, D0), rel=1e-3)


@pytest.mark.exercise("3.13")
@pytest.mark.parametrize("demand, price", [(1e12, 1.0), (1e14, 1.0), (1e13, 3.0)])
def test_no_other_model_of_that_loss_is_cheaper(demand, price, own_inverse):
    N, D = inference_aware.cheapest(LAW, 2.0, demand, price)
    assert float(predict(LAW, N, D)) == pytest.approx(2.0), "it must reach the loss"
    others = np.geomspace(N / 3, N * 5, 4001)
    D_others = (2085.4 / np.maximum(2.0 - 1.817 - 482 / others ** 0.348, 1e-9)) ** (1 / 0.366)
    cost = 6 * others * D_others + price * 2 * others * demand
    mine = 6 * N * D + price * 2 * N * demand
    assert mine <= cost.min() * (1 + 1e-5), \
        f"N {others[cost.argmin()]:.3g} costs {cost.min():.4g}, the answer {N:.3g} {mine:.4g}"


@pytest.mark.exercise("3.13")
def test_a_loss_below_the_floor_is_refused(own_inverse):
    for loss in (1.8, LAW.E):               # the floor itself would need an endless model
        with pytest.raises(ValueError):
            inference_aware.cheapest(LAW, loss, 1e12)


def test_150_is_crossed_where_it_says():
    loss = float(predict(LAW, *optimal_allocation(LAW, 5.76e23)))
    demand = inference_aware.demand_for_ratio(LAW, loss, 150)
    N, D = inference_aware.cheapest(LAW, loss, demand)
    assert D / N == pytest.approx(150, rel=1e-3)
    assert 1e12 < demand < 1e14, "a few times Chinchilla's training tokens"


@pytest.mark.parametrize("call", [
    lambda: inference_aware.cheapest(LAW, 2.0, -1e12), lambda: inference_aware.cheapest(
        LAW, float("nan"), 1e12), lambda: inference_aware.cheapest(LAW, 2.0, 1e12, price=-1.0),
    lambda: inference_aware.demand_for_ratio(LAW, 2.0, 1e40)])
def test_what_has_no_answer_is_refused(call):
    with pytest.raises(ValueError):
        call()
