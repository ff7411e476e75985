"""More inputs for the exercises of chapter 3: orders, ties, arrays, edges, each option used."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import flops
import log_lines
from data_limited import effective_tokens
from hyperparameters import best_rate, mup_rates
from inference_aware import cheapest, tokens_to_reach
from isoflop import parabola_minimum
from log_lines import fit_envelope, fit_power_law
from power_laws import ParametricFit, log_law, optimal_allocation
from robust_fit import huber


def near(got, want, said="", tolerance=1e-9):
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape, f"{said}: shape {got.shape}, not {want.shape}"
    assert np.allclose(got, want, rtol=tolerance, atol=1e-12), f"{said}: got {got}, not {want}"


LAW = ParametricFit(1.7, 400.0, 900.0, 0.35, 0.28)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(flops, "parameters", lambda config: {
        "products": 1000, "total": 1700, "non_embedding": 900})             # exercise 3.1
    return SimpleNamespace(sequence_length=8, layers=3, heads=2, D=5, width=10, vocab_size=50)


@pytest.mark.exercise("3.2")
@pytest.mark.parametrize("batch, length, causal", [(1, None, False), (4, None, True), (2, 5, False),
                                                   (3, 7, True), (1, 1, True), (2, 20, True)])
def test_batch_length_and_mask_all_count(counted, batch, length, causal):
    T = length or 8
    seen = sum(t + 1 if causal else T for t in range(T))
    want = batch * (2 * 1000 * T + 3 * 2 * 2 * seen * 2 * 5)
    assert flops.forward_flops(counted, batch, length, causal) == want


@pytest.mark.exercise("3.3")
@pytest.mark.parametrize("tokens", [8, 1000, 1003])      # the last: no whole number of rows
def test_the_four_ways_of_counting(counted, tokens, monkeypatch):
    monkeypatch.setattr(flops, "forward_flops", lambda config, batch=1, length=None, causal=False:
                        batch * (length or 8) * (100 if causal else 130))   # exercise 3.2
    want = {"6N": 6 * 1700 * tokens, "kaplan": 6 * 900 * tokens, "exact": 3 * 100 * tokens,
            "chinchilla": 3 * (130 + 2 * 50 * 10 + 3 * 3 * 2 * 8) * tokens}
    for name, value in want.items():
        near(flops.training_flops(counted, tokens, name), value, name)
    with pytest.raises(ValueError):
        flops.training_flops(counted, tokens, "5N")


@pytest.mark.exercise("3.4")
@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_huber_on_both_sides_and_at_the_border(delta):
    r = np.array([[-3.0, -delta, -0.3], [0, delta, 7]])
    want = [[x * x / 2 if abs(x) <= delta else delta * (abs(x) - delta / 2) for x in row]
            for row in r]
    near(huber(r, delta), want, f"delta {delta}")
    near(huber(np.array([-3, 1, 0]), delta), [huber(np.array(float(x)), delta) for x in (-3, 1, 0)],
         "whole numbers have losses that are none")


@pytest.mark.exercise("3.5")
def test_each_set_of_constants_and_each_run_by_itself():
    theta = np.array([[3.0, 4, 0.5, 0.3, 0.2], [6, 1, -1, 0.5, 0.1]])
    N, D = np.log([1e6, 3e7, 1e9]), np.log([1e8, 1e9, 2e9])

    def law(t, n, d):
        return math.log(math.exp(t[0] - t[3] * n) + math.exp(t[1] - t[4] * d) + math.exp(t[2]))
    got, slopes = log_law(theta, N, D)
    near(got, [[law(t, n, d) for n, d in zip(N, D)] for t in theta])
    assert slopes.shape == (2, 3, 5)
    for p in range(2):
        for i in range(5):
            step = np.eye(5)[i] * 1e-6
            want = [(law(theta[p] + step, n, d) - law(theta[p] - step, n, d)) / 2e-6
                    for n, d in zip(N, D)]
            near(slopes[p, :, i], want, f"set {p}, constant {i}", 1e-5)
    big, _ = log_law(np.array([[2000.0, 0, 0, 0.1, 0.1]]), N, D)
    assert np.isfinite(big).all(), "the largest term is taken out first"


@pytest.mark.exercise("3.6")
def test_the_best_of_all_shares_for_each_budget():
    for C in (1e18, np.array([1e18, 1e20, 3e22])):
        N, D = optimal_allocation(LAW, C)
        near(6 * N * D, C, "6 N D = C")
        for factor in (0.99, 1.01):
            worse = LAW.A / (N * factor) ** LAW.alpha + LAW.B / (D / factor) ** LAW.beta
            assert np.all(worse > LAW.A / N ** LAW.alpha + LAW.B / D ** LAW.beta)
    for i in (1, 2, 3, 4):
        for value in (0.0, -0.1):
            with pytest.raises(ValueError):
                optimal_allocation(ParametricFit(*[value if j == i else x
                                                   for j, x in enumerate(LAW)]), 1e18)


@pytest.mark.exercise("3.6")
def test_constants_may_be_arrays_and_a_shift_is_left_out():
    rows = [list(LAW), [1.5, 80.0, 2000.0, 0.2, 0.4], [1.6, 500.0, 500.0, 0.5, 0.3]]
    single = [optimal_allocation(ParametricFit(*row), 1e20) for row in rows]
    samples = ParametricFit(*np.array(rows).T)              # constants of three resamples at once
    near(optimal_allocation(samples, 1e20), np.array(single).T, "each resample by itself")
    rows[1][3] = 0.0
    with pytest.raises(ValueError):
        optimal_allocation(ParametricFit(*np.array(rows).T), 1e20)
    near(optimal_allocation(ParametricFit(*LAW, shift=1e9), 1e18), optimal_allocation(LAW, 1e18))


def test_a_budget_may_be_a_whole_number_of_more_than_64_bits():
    near(optimal_allocation(LAW, 10 ** 24), optimal_allocation(LAW, 1e24))


@pytest.mark.exercise("3.7")
def test_the_line_its_bootstrap_and_what_is_refused():
    rng = np.random.default_rng(0)
    x = rng.permutation(10.0 ** np.arange(1, 9))
    x[0] = x[1]                                 # two runs of one size count as two
    y = 3 * x ** -0.4 * np.exp(0.1 * rng.normal(size=8))
    fit = fit_power_law(x, y)
    A = np.stack([np.ones(8), np.log(x)], 1)
    want = np.linalg.lstsq(A, np.log(y), rcond=None)[0]
    near([np.log(fit.constant), fit.exponent], want, "least squares in logarithms")
    assert np.isnan(fit.exponent_interval).all() and len(fit.samples) == 0, "no bootstrap: no interval, no samples"
    a, b, c = (fit_power_law(x, y, 50, seed) for seed in (1, 1, 2))
    near(a.samples, b.samples), near([a.constant, a.exponent], [fit.constant, fit.exponent])
    assert a.samples.shape == (50, 2) and not np.allclose(a.samples, c.samples), "the seed decides the samples"
    near(a.exponent_interval, np.percentile(a.samples[:, 1], [2.5, 97.5]), "the interval is that of the exponents")
    assert np.ptp(a.samples[:, 1]) > 0
    for bad_x, bad_y in (([1, 0], [1, 2]), ([1, 2], [1, -2]), ([1, 2], [1, np.nan]), ([2, 2], [1, 2]),
                         ([1], [1]), ([1, np.inf], [1, 2])):
        with pytest.raises(ValueError):
            fit_power_law(bad_x, bad_y)
    for bad in (0.0, -1.0, np.nan, np.inf):     # one such number among many good ones
        for columns in ((np.append(x, bad), np.append(y, 1.0)), (np.append(x, 3.0), np.append(y, bad))):
            with pytest.raises(ValueError), np.errstate(all="ignore"):
                fit_power_law(*columns)


@pytest.mark.exercise("3.8")
@pytest.mark.parametrize("seed", range(6))
def test_the_envelope_of_shuffled_runs_with_equal_budgets(seed, monkeypatch):
    rng, seen = np.random.default_rng(seed), {}
    monkeypatch.setattr(log_lines, "fit_power_law", lambda x, y, bootstrap=0, seed=0: seen.update(
        x=np.asarray(x), y=np.asarray(y), options=(bootstrap, seed)))       # exercise 3.7
    # three sizes to every budget, so that many runs have the very same compute; losses differ
    C = np.repeat(6.0 * 2.0 ** np.arange(20, 30, 2), 3)
    N = np.tile([2.0 ** 6, 2.0 ** 7, 2.0 ** 8], 5)
    D = C / (6 * N)
    L = rng.permutation(np.linspace(5, 2, 15)) + 9 - 0.2 * np.log(C)
    order = rng.permutation(15)
    N, D, L, C = N[order], D[order], L[order], C[order]
    on = [i for i in range(15) if not any(C[j] <= C[i] and L[j] < L[i] for j in range(15))]
    if len(on) < 3:
        with pytest.raises(ValueError):
            fit_envelope(N, D, L)
        return
    fit_envelope(N, D, L, 7, 3)
    assert sorted(zip(seen["x"], seen["y"])) == sorted(zip(C[on], N[on])), \
        f"on the envelope are N {sorted(N[on])}, not {sorted(seen['y'])}"
    assert seen["options"] == (7, 3), "bootstrap and seed are passed on"


@pytest.mark.exercise("3.8")
def test_of_runs_with_equal_compute_only_the_best_counts_in_any_order(monkeypatch):
    monkeypatch.setattr(log_lines, "fit_power_law", lambda x, y, *_: sorted(map(float, y)))
    N = np.array([64.0, 128, 256, 512, 1024, 2048])
    D = 2.0 ** 20 / N * np.array([1, 1, 4, 4, 16, 16])
    L = np.array([4.0, 3.9, 3.6, 3.5, 3.0, 3.2])
    for order in (np.arange(6), np.arange(6)[::-1], np.array([1, 0, 3, 2, 5, 4])):
        assert fit_envelope(N[order], D[order], L[order]) == [128, 512, 1024]


@pytest.mark.exercise("3.8")
def test_a_run_repeated_counts_once_a_small_gain_counts_and_no_bad_run_is_left_out(monkeypatch):
    monkeypatch.setattr(log_lines, "fit_power_law", lambda x, y, *_: sorted(map(float, y)))
    N = np.array([64.0, 128, 256, 512, 512, 256, 64, 128, 512])         # each run twice or more
    L = 4 - 1e-6 * np.log2(N)
    assert fit_envelope(N, 100 * N, L) == [64, 128, 256, 512], "the same C and loss: one counts"
    for bad in (np.nan, np.inf, 0.0, -1.0):
        for column in range(3):
            runs = [np.append(z, z[0]) for z in (N, 100 * N, L)]
            runs[column][-1] = bad
            with pytest.raises(ValueError), np.errstate(all="ignore"):
                fit_envelope(*runs)


@pytest.mark.exercise("3.9")
@pytest.mark.parametrize("c2, middle", [(0.05, 15.0), (0.3, 14.2), (1.0, 16.0)])
def test_the_parabola_from_noisy_unsorted_sizes(c2, middle):
    rng = np.random.default_rng(2)
    x = rng.permutation(np.linspace(13.5, 16.5, 7))
    x[2:4] = x[0]                               # three runs of one size count as three
    L = c2 * (x - middle) ** 2 + 3 + 0.01 * rng.normal(size=7)
    want = np.linalg.lstsq(np.vander(x, 3), L, rcond=None)[0]
    N, low, coefficients = parabola_minimum(np.exp(x), L)
    near(coefficients, want, "highest power first", 1e-6)
    near(np.log(N), -want[1] / (2 * want[0]), "the minimum", 1e-6)
    near(low, np.polyval(want, np.log(N)), "the loss there", 1e-6)


@pytest.mark.exercise("3.9")
def test_what_has_no_minimum_is_refused():
    x = np.linspace(0, 1, 5) + 10
    parabola_minimum(np.exp(x), (x - 11 - 0.6) ** 2 + 3)        # within a factor 2 beyond the last
    for L in (-(x - 10.5) ** 2 + 3, (x - 11.8) ** 2 + 3, (x - 9.2) ** 2 + 3,
              np.where(x == 10, np.nan, (x - 10.5) ** 2 + 3), (x - 10.5) ** 2 - 1):
        with pytest.raises(ValueError):
            parabola_minimum(np.exp(x), L)
    with pytest.raises(ValueError):
        parabola_minimum(np.exp([10.0, 10, 11, 11]), np.array([3.0, 3, 2, 2]))


@pytest.mark.exercise("3.10")
def test_a_cell_row_by_row():
    torch = pytest.importorskip("torch")
    from lstm import lstm_cell
    g = torch.Generator().manual_seed(0)
    x, h, c, wx, wh, b = (torch.randn(*s, generator=g, dtype=torch.float64) for s in (
        (3, 4), (3, 2), (3, 2), (8, 4), (8, 2), (8,)))
    cell = torch.nn.LSTMCell(4, 2).double()
    with torch.no_grad():
        cell.weight_ih.copy_(wx), cell.weight_hh.copy_(wh), cell.bias_ih.copy_(b)
        cell.bias_hh.zero_()
        for got, want in zip(lstm_cell(x, h, c, wx, wh, b), cell(x, (h, c))):
            near(got, want, "torch's own cell")
    every = [z.requires_grad_() for z in (x, h, c, wx, wh, b)]
    assert torch.autograd.gradcheck(lstm_cell, every), "the past learns too"


@pytest.mark.exercise("3.11")
@pytest.mark.parametrize("half_life", [15.39, 2.0])
def test_repeated_tokens_number_by_number(half_life):
    tokens, unique = np.array([0.0, 50, 100, 150, 1e6]), np.array([100.0, 100, 100, 60, 10])
    want = [t if t <= u else u + u * half_life * (1 - math.exp(-(t / u - 1) / half_life))
            for t, u in zip(tokens, unique)]
    near(effective_tokens(tokens, unique, half_life), want)
    near(effective_tokens(150, 60, half_life), want[3], "plain numbers")
    table = [[float(effective_tokens(t, u, half_life)) for u in unique] for t in tokens]
    near(effective_tokens(tokens[:, None], unique, half_life), table, "every pair of two arrays")
    near(effective_tokens(150, unique, half_life), table[3], "one number of tokens, many texts")
    for bad in ((10, 0, 1), (10, -5, 1), (10, 5, 0), (10, np.array([5.0, 0.0]), 1),
                (10, 5, np.array([0.0, 1.0])), (np.array([10.0, -1.0]), 5, 1)):
        with pytest.raises(ValueError):
            effective_tokens(*bad)


@pytest.mark.exercise("3.12")
def test_the_tokens_that_reach_a_loss_size_by_size():
    N = np.array([1e3, 1e6, 1e8, 1e10])
    for loss in (2.5, 3.5):
        left = loss - LAW.E - LAW.A / N ** LAW.alpha
        want = [(LAW.B / x) ** (1 / LAW.beta) if x > 0 else math.inf for x in left]
        near(tokens_to_reach(LAW, loss, N), want, f"loss {loss}")
        near(tokens_to_reach(LAW, loss, 1e8), want[2], "a number")
        near(tokens_to_reach(LAW, loss, N.reshape(2, 2)), np.reshape(want, (2, 2)), "any shape")
    assert tokens_to_reach(LAW, LAW.E, 1e12) == math.inf, "the floor is never reached"
    for D in (7.4, 1e20, 1e25):             # a data term of 500, and one of a ten-thousandth
        loss = LAW.E + LAW.A / 1e9 ** LAW.alpha + LAW.B / D ** LAW.beta
        near(tokens_to_reach(LAW, loss, 1e9), D, "few tokens or many", 1e-6)


@pytest.mark.exercise("3.13")
@pytest.mark.parametrize("demand, price", [(0.0, 1.0), (1e12, 1.0), (1e12, 0.2), (1e10, 5.0)])
def test_no_other_size_is_cheaper_over_a_lifetime(demand, price, monkeypatch):
    import inference_aware

    def reach(fit, loss, N):                                                # exercise 3.12
        left = loss - fit.E - fit.A / np.asarray(N, float) ** fit.alpha
        return np.where(left > 0, (fit.B / np.maximum(left, 1e-300)) ** (1 / fit.beta), np.inf)
    monkeypatch.setattr(inference_aware, "tokens_to_reach", reach)
    N, D = cheapest(LAW, 2.6, demand, price)
    near(LAW.E + LAW.A / N ** LAW.alpha + LAW.B / D ** LAW.beta, 2.6, "the loss is reached", 1e-6)
    cost = 6 * N * D + price * 2 * N * demand
    for factor in (0.9, 0.97, 1.03, 1.1):
        other = N * factor
        assert 6 * other * reach(LAW, 2.6, other) + price * 2 * other * demand > cost, factor
    for bad in ((LAW.E, 0.0, 1.0), (2.6, -1.0, 1.0), (2.6, 1.0, -1.0), (math.inf, 1.0, 1.0)):
        with pytest.raises(ValueError):
            cheapest(LAW, *bad)
    # where serving is all that costs, the best model is nearly the smallest: 6 N D + 2 N d is flat
    # where D + d / 3 = N |dD / dN|
    low, high = (LAW.A / (2.6 - LAW.E)) ** (1 / LAW.alpha), 1e15
    for _ in range(200):
        N = math.sqrt(low * high)
        left = 2.6 - LAW.E - LAW.A / N ** LAW.alpha
        D = (LAW.B / left) ** (1 / LAW.beta) if left > 0 else math.inf
        falls = left <= 0 or D + 1e25 / 3 < D / LAW.beta * LAW.alpha * LAW.A / N ** LAW.alpha / left
        low, high = (N, high) if falls else (low, N)
    near(cheapest(LAW, 2.6, 1e25)[0], N, "many readers", 1e-5)
    # laws of models of hundreds, of 1e17, and one whose best model is 1,000 times the smallest
    for law, N0 in ((ParametricFit(1.0, 5.0, 20.0, 0.4, 0.5), 300.4), (LAW, 1e17),
                    (ParametricFit(1.0, 8.0, 8.0, 0.1, 0.1), 1e8)):
        D0 = (law.beta * law.B * N0 ** law.alpha / (law.alpha * law.A)) ** (1 / law.beta)
        loss = law.E + law.A / N0 ** law.alpha + law.B / D0 ** law.beta
        near(cheapest(law, loss, 0.0), [N0, D0], "the training optimum of any law", 1e-4)


@pytest.mark.exercise("3.14")
def test_the_three_points_around_the_best_in_any_order_with_seeds():
    rates = np.array([1.0, 0.01, 0.1, 0.001, 10, 0.1, 100])
    losses = np.array([2.6, 3.0, 2.1, 9.0, 8.0, 2.3, np.nan])
    x = np.log([0.01, 0.1, 1.0])
    c = np.polyfit(x, [3.0, 2.2, 2.6], 2)
    want = -c[1] / (2 * c[0])
    got = best_rate(rates, losses)
    near(got, [math.exp(want), np.polyval(c, want)], "mean of the seeds, parabola of three", 1e-6)
    near(best_rate(list(rates), list(losses)), got, "lists too")
    near(best_rate(rates, 3 + losses / 1e4), [got[0], 3 + got[1] / 1e4], "a flat curve too", 1e-6)
    for bad in (([0.1, 1, 10], [1, 2, 3]), ([0.1, 1, 10], [3, 2, 1]), ([1, 2, 3], [np.nan] * 3),
                ([0.1, 1, 10], [2, 1, np.inf]), ([0.1, 1, 10, 100], [2, 1, 2]),
                ([0.1, 1, 10], [2, 1, 2, 3])):
        with pytest.raises(ValueError):
            best_rate(*bad)


@pytest.mark.exercise("3.15")
@pytest.mark.parametrize("rate, width, base", [(0.01, 512, 128), (0.3, 64, 256), (1.0, 100, 100)])
def test_which_rates_shrink_with_the_width(rate, width, base):
    got = mup_rates(rate, width, base)
    assert set(got) == {"embedding", "vector", "matrix", "head"}
    near([got["embedding"], got["vector"]], [rate, rate])
    near([got["matrix"], got["head"]], [rate * base / width] * 2)
