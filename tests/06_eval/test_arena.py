"""Leaderboards against hand tables, closed forms, invariances and simulated truth."""

import math
import time

import numpy as np
import pytest

from arena import (bradley_terry, elo, logistic_fit, rank_with_uncertainty, simulate_votes,
                   tabulate, variance_left_by_draws, votes_needed, win_matrix)
from artifacts import BadInput
from style_control import style_control

TRUTH = {"a": 1100.0, "b": 1040.0, "c": 1000.0, "d": 960.0, "e": 900.0}


@pytest.mark.exercise("6.13")
def test_elo_by_hand():
    """Two battles worked on paper: equals, then a favourite of 4 points loses."""
    once = elo([("x", "y", "a")], k=4, start=1000)
    assert once == pytest.approx({"x": 1002.0, "y": 998.0}, abs=1e-9), (
        f"a win between equals moves K/2 = 2 points from loser to winner; got {once}. "
        "Is the expected score base 10 over 400, and are both sides updated?")
    twice = elo([("x", "y", "a"), ("x", "y", "b")], k=4)
    expected = 1002 - 4 / (1 + 10 ** (-4 / 400))
    assert twice["x"] == pytest.approx(expected, abs=1e-9), (
        f"after losing as a 4-point favourite x should hold {expected:.5f}, got {twice['x']:.5f}: "
        "base 10 and scale 400, not e")


@pytest.mark.exercise("6.13")
def test_elo_draw_and_sum():
    """A draw moves points from the favourite to the other; points are never made or lost."""
    ratings = elo([("x", "y", "a")] * 30 + [("x", "y", "tie")], k=32)
    before = elo([("x", "y", "a")] * 30, k=32)
    assert ratings["x"] < before["x"], "a draw costs the favourite points: it counts as half a win"
    battles = simulate_votes(TRUTH, 300, seed=1)
    total = sum(elo(battles, k=16, start=1500).values())
    assert total == pytest.approx(7500, abs=1e-6), (
        f"five models that start at 1500 hold 7500 points for ever, got {total}")
    assert elo(battles, scale=200) != elo(battles, scale=400), "scale must enter the expectation"


@pytest.mark.exercise("6.14")
def test_win_matrix_counts_draws_as_half():
    wins = win_matrix(np.array([0, 0, 1]), np.array([1, 1, 2]), np.array([1.0, 0.5, 0.0]), 3)
    expected = np.array([[0, 1.5, 0], [0.5, 0, 0], [0, 1, 0]])
    assert np.array_equal(wins, expected), f"expected\n{expected}\ngot\n{wins}"
    doubled = win_matrix(np.array([0]), np.array([1]), np.array([1.0]), 2, np.array([7.0]))
    assert doubled[0, 1] == 7 and doubled[1, 0] == 0, "a weight is how often the battle happened"
    lost = win_matrix(np.array([0]), np.array([1]), np.array([0.25]), 2, np.array([8.0]))
    assert lost[0, 1] == 2 and lost[1, 0] == 6, f"a weight counts for both sides: 2 and 6, got {lost}"
    repeated = win_matrix(np.array([0] * 5), np.array([1] * 5), np.ones(5), 2)
    assert repeated[0, 1] == 5, f"five equal battles are five wins, got {repeated[0, 1]}"


def test_two_models_closed_form():
    """With two models the likelihood has its maximum where the odds are the win ratio."""
    ratings = bradley_terry([("x", "y", "a")] * 3 + [("y", "x", "a")])
    assert ratings["x"] - ratings["y"] == pytest.approx(400 * math.log10(3), abs=1e-4)
    half = ratings.high["x"] - ratings["x"]
    # One pair: the variance of the log odds is 1 / (n p q); each side carries half the gap.
    expected = 1.96 * 0.5 * 400 / math.log(10) / math.sqrt(4 * 0.75 * 0.25)
    assert half == pytest.approx(expected, rel=1e-3)


@pytest.mark.exercise("6.15")
def test_fit_matches_a_general_optimiser():
    """The stationary point: expected wins equal counted wins for every model."""
    names, first, second, score = tabulate(simulate_votes(TRUTH, 2000, seed=3))
    wins = win_matrix(first, second, score, len(names))
    import arena
    theta, hessian = arena.fit_strengths(wins.copy())      # so that no change of it hides an error
    chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    missing = (wins - (wins + wins.T) * chance).sum(axis=1)
    assert np.abs(missing).max() < 1e-4, (
        f"at the optimum each model's expected wins equal its wins; they differ by {missing}")
    assert abs(theta.mean()) < 1e-6, f"strengths are centred, mean is {theta.mean()}"
    assert np.allclose(hessian.sum(axis=1), 0, atol=1e-5), "rows of the curvature sum to the tiny prior"
    gap = arena.fit_strengths(np.array([[0.0, 3.0], [1.0, 0.0]]))[0]
    assert gap[0] - gap[1] == pytest.approx(math.log(3), abs=1e-5), (
        f"three wins to one: strengths ln 3 = 1.0986 apart, got {gap[0] - gap[1]:.4f}")


@pytest.mark.exercise("6.15")
def test_fit_survives_a_model_that_never_lost():
    import arena
    theta, _ = arena.fit_strengths(np.array([[0.0, 5.0], [0.0, 0.0]]))
    assert np.isfinite(theta).all() and 5 < theta[0] - theta[1] < 50, (
        f"a perfect record is finite because of the tiny prior, got {theta}")


def test_order_and_sides_do_not_matter():
    battles = simulate_votes(TRUTH, 600, seed=5)
    flip = {"a": "b", "b": "a", "tie": "tie"}
    shuffled = [battles[i] for i in np.random.default_rng(0).permutation(len(battles))]
    swapped = [(b, a, flip[w]) for a, b, w in battles]
    fit = bradley_terry(battles)
    for other, what in ((shuffled, "order of votes"), (swapped, "naming of sides")):
        again = bradley_terry(other)
        assert all(abs(fit[m] - again[m]) < 1e-6 for m in fit), f"the {what} changed the ratings"
    assert elo(battles, k=32) != elo(shuffled, k=32), "online Elo does depend on the order"


def test_anchor_and_published_words():
    battles = [{"model_a": "m", "model_b": "n", "winner": "model_a"},
               {"model_a": "m", "model_b": "n", "winner": "tie (bothbad)"}]
    fit = bradley_terry(battles, anchor=("n", 1114))
    assert fit["n"] == pytest.approx(1114) and fit["m"] > 1114
    assert fit.low["n"] == pytest.approx(1114), "the anchor is certain by definition"
    with pytest.raises(BadInput, match="battle 0"):
        bradley_terry([("m", "n", "perhaps")])
    with pytest.raises(BadInput, match="battle 0"):
        bradley_terry([("m", "m", "a")])
    with pytest.raises(BadInput, match="anchor"):
        bradley_terry(battles, anchor=("z", 1000))
    assert bradley_terry([]) == {} and elo([]) == {}


def test_intervals_cover_the_truth():
    """200 simulated arenas: 95 % intervals hold the planted difference 90 to 99 % of the time."""
    mean = sum(TRUTH.values()) / len(TRUTH)
    hits, boot_hits, total = 0, 0, 0
    for seed in range(200):
        battles = simulate_votes(TRUTH, 400, seed=seed, ties=0.0)
        fit = bradley_terry(battles)
        boot = bradley_terry(battles, bootstrap=60, seed=seed) if seed < 60 else None
        for model, true in TRUTH.items():
            wanted = true - mean + 1000
            hits += fit.low[model] <= wanted <= fit.high[model]
            total += 1
            if boot is not None:
                boot_hits += boot.low[model] <= wanted <= boot.high[model]
    assert 0.90 <= hits / total <= 0.99, f"normal-theory intervals cover {hits / total:.3f}"
    assert 0.88 <= boot_hits / 300 <= 0.99, f"bootstrap intervals cover {boot_hits / 300:.3f}"


@pytest.mark.exercise("6.16")
def test_rank_with_uncertainty():
    low, high = {"p": 5, "q": 8, "r": 13}, {"p": 9, "q": 12, "r": 15}
    got = rank_with_uncertainty(low, high)
    assert got == {"p": 2, "q": 2, "r": 1}, (
        f"p and q overlap, so both are second behind r; got {got}")
    same = rank_with_uncertainty({"p": 1, "q": 1}, {"p": 3, "q": 3})
    assert same == {"p": 1, "q": 1}, "overlapping intervals share the rank"
    touching = rank_with_uncertainty({"p": 1, "q": 3}, {"p": 3, "q": 5})
    assert touching == {"p": 1, "q": 1}, "an upper bound that touches a lower one is not beaten"


@pytest.mark.exercise("6.17")
def test_votes_needed():
    assert votes_needed(400 * math.log10(3)) == 29, "3 to 1 odds at 80 % power: 29 votes"
    at_half = votes_needed(35, power=0.5)
    chance = 1 / (1 + 10 ** (-35 / 400))
    assert at_half == math.ceil((1.959964 * 0.5 / (chance - 0.5)) ** 2), (
        "with a power of one half only the 1.96 standard errors remain")
    assert votes_needed(20) > 3.5 * votes_needed(40), "half the gap needs about four times the votes"
    with pytest.raises(ValueError):
        votes_needed(0)


def test_votes_needed_in_simulation():
    """The promised power arrives: 200 duels of the stated length, 80 % significant."""
    n, chance = votes_needed(100), 1 / (1 + 10 ** (-100 / 400))
    wins = np.random.default_rng(0).binomial(n, chance, 4000)
    seen = np.abs(wins - n / 2) > 1.96 * 0.5 * math.sqrt(n)
    assert 0.76 < seen.mean() < 0.84, f"power {seen.mean():.3f} at {n} votes"


@pytest.mark.exercise("6.18")
def test_logistic_fit_by_hand():
    beta, covariance = logistic_fit(np.ones((4, 1)), np.array([1, 1, 1, 0.0]), np.zeros(1))
    assert beta[0] == pytest.approx(math.log(3), abs=1e-8), f"log odds of 3 to 1, got {beta[0]}"
    assert covariance[0, 0] == pytest.approx(4 / 3, abs=1e-6), "variance is 1 / (n p q) = 4/3"
    soft, _ = logistic_fit(np.ones((2, 1)), np.array([0.75, 0.75]), np.zeros(1))
    assert soft[0] == pytest.approx(math.log(3), abs=1e-8), "a soft target of 3/4 is 3 to 1 odds"
    weighted, _ = logistic_fit(np.ones((2, 1)), np.array([1, 0.0]), np.zeros(1), np.array([3, 1.0]))
    assert weighted[0] == pytest.approx(math.log(3), abs=1e-8), "a weight of 3 is three rows"
    shrunk, _ = logistic_fit(np.ones((4, 1)), np.array([1, 1, 1, 0.0]), np.array([2.0]))
    slope = 4 * (0.75 - 1 / (1 + math.exp(-shrunk[0]))) - 2.0 * shrunk[0]
    assert abs(slope) < 1e-8, "at the optimum the data's pull equals penalty * beta"


def test_style_control_takes_out_planted_length():
    """Equal models, one writes longer, voters like length: control brings them level."""
    rng = np.random.default_rng(2)
    battles, features = [], []
    for i in range(3000):
        long_first = bool(rng.integers(2))
        lengths = rng.gamma(20, 10, 2) * ([1.5, 1.0] if long_first else [1.0, 1.5])
        pull = 1.5 * (lengths[0] - lengths[1]) / (lengths[0] + lengths[1] + 1) / 0.25
        won = rng.random() < 1 / (1 + math.exp(-pull))
        names = ("long", "short") if long_first else ("short", "long")
        battles.append((*names, "a" if won else "b"))
        features.append([lengths])
    raw = bradley_terry(battles)
    controlled, coefficient = style_control(battles, np.array(features))
    assert raw["long"] - raw["short"] > 100, "the planted bias must show before control"
    gap = controlled["long"] - controlled["short"]
    assert controlled.low["long"] - 1000 < 0 < controlled.high["long"] - 1000, (
        f"length-controlled gap {gap:.0f} should be zero within its interval")
    assert coefficient[0] > 0.5, f"the length coefficient {coefficient} carries the bias"


def test_300_000_votes_are_fast():
    rng = np.random.default_rng(0)
    strengths = rng.normal(0, 100, 50)
    first = rng.integers(0, 50, 300_000)
    second = (first + rng.integers(1, 50, 300_000)) % 50
    won = rng.random(300_000) < 1 / (1 + 10 ** ((strengths[second] - strengths[first]) / 400))
    names = [f"m{i:02d}" for i in range(50)]
    battles = [(names[a], names[b], "a" if w else "b") for a, b, w in
               zip(first.tolist(), second.tolist(), won.tolist())]
    began = time.process_time()
    fit = bradley_terry(battles)
    seconds = time.process_time() - began
    error = [fit[n] - 1000 - (s - strengths.mean()) for n, s in zip(names, strengths)]
    assert seconds < 5, f"{seconds:.1f} s"
    assert max(map(abs, error)) < 25, f"planted strengths recovered within {max(map(abs, error))}"


def games(pair, wins, losses, draws=0):
    a, b = pair
    return [(a, b, "a")] * wins + [(a, b, "b")] * losses + [(a, b, "tie")] * draws


def test_islands_are_not_ordered():
    """a beats b 90:10, c beats d 60:40, and nobody of the one pair ever met the other."""
    board = bradley_terry(games("ab", 90, 10) + games("cd", 60, 40))
    assert board.rank == {"a": 1, "b": 2, "c": 1, "d": 2}, f"no order between islands: {board.rank}"
    assert board["a"] + board["b"] == pytest.approx(2000) == board["c"] + board["d"]
    assert "{a, b} with {c, d}" in board.remarks[0] and "no order" in board.remarks[0]
    assert not bradley_terry(games("ab", 9, 1) + games("bc", 6, 4) + games("cd", 6, 4)).remarks


def test_a_model_that_never_lost_leaves_the_others_measured():
    board = bradley_terry(games("ab", 10, 0) + games("ac", 10, 0) + games("bc", 6, 4))
    assert "a never lost" in board.remarks[0]
    assert board["b"] - board["c"] == pytest.approx(400 * math.log10(1.5), rel=0.05)
    assert board.high["b"] - board.low["b"] < 300, "measured against c, whatever a did"
    assert board.rank["a"] == 1 and board.rank["b"] == board.rank["c"] == 2
    assert math.isfinite(board["a"]) and board.low["a"] > board.high["b"]


def test_a_model_that_never_won_or_two_leagues_are_said():
    loser = bradley_terry(games("ab", 6, 4) + games("ac", 5, 0))
    assert "a and b never lost" in loser.remarks[0] and list(loser)[-1] == "c"
    both = bradley_terry(games("ab", 6, 4) + games("cd", 6, 4) + games("ac", 5, 0))
    assert "a and b never lost to the others" in both.remarks[0]
    assert all(map(math.isfinite, both.values()))


@pytest.mark.parametrize("draws", [0.0, 0.3, 0.5])
def test_intervals_cover_with_draws(draws):
    inside, truth = [], {"a": 1060.0, "b": 1000.0, "c": 940.0}
    # The ratings that a fit recovers: those at which the score is (1 - draws) P + draws / 2.
    many = bradley_terry(simulate_votes(truth, 200_000, 7, ties=draws))
    for seed in range(150):
        board = bradley_terry(simulate_votes(truth, 200, seed, ties=draws))
        inside += [board.low[m] <= many[m] <= board.high[m] for m in truth]
    assert 0.92 <= np.mean(inside) <= 0.975, f"{draws:.0%} draws: covers {np.mean(inside):.3f}"


def test_variance_left_by_draws_by_hand():
    assert variance_left_by_draws(np.array([1, 0.5, 0, 0.5] * 25), np.zeros(100)) == 0.5
    assert variance_left_by_draws(np.array([1.0, 0, 1, 0]), np.zeros(4)) == 1.0
    assert variance_left_by_draws(np.full(10, 0.5), np.zeros(10)) == pytest.approx(4 / 14)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.9, 0.95, 0.99, 0.63])
def test_any_power_has_an_answer(power):
    votes = votes_needed(50, power=power)
    rng = np.random.default_rng(0)
    chance = 1 / (1 + 10 ** (-50 / 400))
    share = rng.binomial(votes, chance, 20_000) / votes
    seen = np.mean(np.abs(share - 0.5) > 1.96 * math.sqrt(0.25 / votes))
    assert abs(seen - power) < 0.03, f"{votes} votes see it in {seen:.3f}, wanted {power}"
    with pytest.raises(ValueError):
        votes_needed(50, power=1.0)


def test_a_nan_does_not_enter_a_fit():
    with pytest.raises(ValueError, match="finite"):
        logistic_fit(np.ones((2, 1)), np.array([1.0, math.nan]), np.zeros(1))
