"""Blind votes become a leaderboard: Elo, Bradley-Terry with intervals, vote counts.

    from arena import bradley_terry, elo
    bradley_terry([("dpo", "sft", "a"), ("sft", "base", "a"), ("base", "dpo", "tie")])

A battle is (model_a, model_b, winner) or a mapping with these three keys; `winner` is "a", "b",
"tie" or "both_bad" (the published arena files' "model_a", "model_b", "tie (bothbad)" work too).
Both kinds of draw count as half a win for each side, as the Chatbot Arena counts them.
Leaves out: what the answers look like (style_control.py), time-varying strength, odd voters.
Sources: Elo 1978; Bradley & Terry 1952; Chiang et al. 2024 (arXiv 2403.04132).
"""

import math
import statistics
from typing import Iterable, Mapping, Sequence

import numpy as np

from artifacts import BadInput
from who_met_whom import check_sizes, islands, leagues, no_bound, no_order, unbeaten

WINS = {"a": 1.0, "model_a": 1.0, "b": 0.0, "model_b": 0.0,
        "tie": 0.5, "both_bad": 0.5, "tie (bothbad)": 0.5}


class Leaderboard(dict):
    """Ratings by model, best first, with .low and .high (95 %) and .rank, each by model, and
    .remarks: what the votes cannot say, in words."""

    def __init__(self, names: Sequence[str], ratings: np.ndarray,
                 low: np.ndarray, high: np.ndarray, remarks: Sequence[str] = ()) -> None:
        order = sorted(range(len(names)), key=lambda i: (-ratings[i], names[i]))
        super().__init__((names[i], float(ratings[i])) for i in order)
        self.low = {names[i]: float(low[i]) for i in order}
        self.high = {names[i]: float(high[i]) for i in order}
        self.rank, self.remarks = rank_with_uncertainty(self.low, self.high), list(remarks)


def tabulate(battles: Iterable) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Sorted model names and three arrays over battles: index of a, index of b, score of a.

    The score of a is 1 for a win, 0 for a loss, 0.5 for either kind of draw.
    BadInput names the first battle whose winner is unknown or where a model meets itself.
    Example: [("x", "y", "b")] -> ["x", "y"], [0], [1], [0.0].
    """
    index: dict[str, int] = {}
    first, second, score = [], [], []
    for number, battle in enumerate(battles):
        try:
            a, b, winner = ([battle.get(key) for key in ("model_a", "model_b", "winner")]
                            if isinstance(battle, Mapping) else battle)
            sound = winner in WINS and a != b and isinstance(a, str) and isinstance(b, str)
        except (TypeError, ValueError):         # not three things, or a winner that is a list
            sound = False
        if not sound:
            raise BadInput(f"battle {number} ({str(battle)[:120]}): the names of two different "
                           f"models and a winner out of {', '.join(WINS)} are needed")
        first.append(index.setdefault(a, len(index)))
        second.append(index.setdefault(b, len(index)))
        score.append(WINS[winner])
    names = sorted(index)
    place = np.empty(len(index), dtype=np.int64)
    place[[index[name] for name in names]] = np.arange(len(names))
    return (names, place[np.array(first, dtype=np.int64)], place[np.array(second, dtype=np.int64)],
            np.array(score))


def elo(battles: Iterable, k: float = 4.0, start: float = 1000.0,
        scale: float = 400.0) -> dict[str, float]:
    """Elo ratings after the battles, in the order given, best first; every model begins at `start`.

    A battle is (a, b, winner), winner a key of WINS; `tabulate` makes arrays of them.
    a is expected to score 1 / (1 + 10^((R_b - R_a) / scale)); each battle moves k times the
    surprise from one side to the other, so the sum of all ratings never changes.
    Example: one win between equals with k = 4 gives {"winner": 1002.0, "loser": 998.0}.
    Ratings further apart than 10 to the power of a float leave nothing to expect: 0 or 1.
    ValueError for a k, start or scale that is no size: not finite, below 0, or a scale of 0.
    Source: Elo, The Rating of Chessplayers, 1978; the Chatbot Arena used K = 4.
    """
    check_sizes(scale, k=k, start=start)
    names, first, second, score = tabulate(battles)
    ratings = [float(start)] * len(names)
    for a, b, won in zip(first.tolist(), second.tolist(), score.tolist()):
        # What the ratings before this battle led us to expect of a, between 0 and 1.
        expected = 1.0 / (1.0 + 10.0 ** min((ratings[b] - ratings[a]) / scale, 300.0))
        # One side gains exactly what the other loses.
        ratings[a] += k * (won - expected)
        ratings[b] -= k * (won - expected)
    return dict(sorted(zip(names, ratings), key=lambda item: (-item[1], item[0])))


def win_matrix(first: np.ndarray, second: np.ndarray, score: np.ndarray, models: int,
               weights: np.ndarray | None = None) -> np.ndarray:
    """W (models, models): W[i, j] = wins of i over j, a draw counted as half a win for each.

    Vote k counts `weights[k]` times, once if there are none.
    Example: first [0], second [1], score [0.5] -> [[0, 0.5], [0.5, 0]].
    """
    weights = np.ones(len(first)) if weights is None else weights
    # `score` is the first model's share of the vote, so the second gets what is left of 1.
    wins = np.zeros((models, models))
    # The same pair comes up many times: `wins[i, j] += x` would keep only its last vote.
    np.add.at(wins, (first, second), weights * score)
    np.add.at(wins, (second, first), weights * (1.0 - score))
    return wins


def fit_strengths(wins: np.ndarray, prior: float = 1e-7) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood Bradley-Terry strengths (natural log odds) and the Hessian there.

    Maximises sum_ij W[i, j] log sigmoid(theta_i - theta_j) - prior/2 |theta|^2. Only differences
    matter; the tiny prior puts the mean at 0 and keeps a model that never lost from running to
    infinity. Example: W = [[0, 3], [1, 0]] -> theta_0 - theta_1 = ln 3.
    Source: Hunter 2004; Newton's method on a concave likelihood.
    """
    models = len(wins)
    games = wins + wins.T
    theta = np.zeros(models)
    for _ in range(200):
        # The chance that i beats j if these strengths were true.
        chance = 0.5 * (1.0 + np.tanh(0.5 * (theta[:, None] - theta[None, :])))
        gradient = (wins - games * chance).sum(axis=1) - prior * theta
        # Each pair contributes its binomial variance: plus on the diagonal, minus across.
        variance = games * chance * (1.0 - chance)
        hessian = np.diag(variance.sum(axis=1) + prior) - variance
        if np.abs(gradient).max(initial=0.0) < 1e-10 * max(1.0, games.sum()):
            break
        step = np.linalg.solve(hessian, gradient)
        # A bounded step: far from the optimum Newton's parabola says nothing about the likelihood.
        theta = theta + step / max(1.0, np.abs(step).max() / 2.0)
        theta -= theta.mean()
    return theta, hessian


def bradley_terry(battles: Iterable, bootstrap: int = 0, scale: float = 400.0,
                  anchor: tuple[str, float] | None = None, prior: float | None = None,
                  seed: int = 0) -> Leaderboard:
    """Ratings that best explain all battles at once, whatever their order, with 95 % intervals.

    P(a beats b) = 1 / (1 + 10^((R_b - R_a) / scale)), draws half a win each. `anchor`
    ("model", rating) pins one model; without it the mean is 1000. bootstrap = 0 gives normal-theory
    intervals from the curvature, narrower by what draws take from the variance; bootstrap = n
    refits n resamples and takes 2.5 and 97.5 percent; where all votes agree, so that
    all resamples are alike, no less than the curvature says. Example: three wins to one -> ratings
    400 * log10(3) = 190.8 apart. No battles -> empty.

    Models that never met, not even through others, are rated and ranked apart, each island by
    itself. Without a `prior` a model that never lost has no finite rating: it then gets a weak one
    (0.1), and the others are measured against each other. `.remarks` says both in words.
    ValueError for a scale, prior or anchor's rating that is no size.
    """
    check_sizes(scale, prior=prior, bootstrap=bootstrap, rating=anchor and abs(anchor[1]))
    names, first, second, score = tabulate(battles)
    if not names:
        return Leaderboard([], *np.zeros((3, 0)))
    if anchor is not None and anchor[0] not in names:
        raise BadInput(f"the anchor {anchor[0]!r} is in no battle; models are {', '.join(names)}")
    apart = islands(win_matrix(first, second, np.ones(len(first)), len(names)))
    boards = []
    for group in apart:
        here = np.isin(first, group)
        place = np.full(len(names), -1)
        place[group] = np.arange(len(group))
        members = [names[i] for i in group]
        boards.append(_rate_island(members, place[first[here]], place[second[here]], score[here],
                                   bootstrap, scale, anchor if anchor and anchor[0] in members
                                   else None, prior, seed))
    return _side_by_side(boards)


def _rate_island(names: list[str], first: np.ndarray, second: np.ndarray, score: np.ndarray,
                 bootstrap: int, scale: float, anchor: tuple[str, float] | None,
                 prior: float | None, seed: int) -> Leaderboard:
    """The leaderboard of models that can all be compared, at least through others."""
    wins = win_matrix(first, second, score, len(names))
    never_lost, core = unbeaten(wins), max(leagues(wins), key=len)
    remarks = [no_bound(names[i] for i in group) for group in never_lost]
    # Ratings are only known up to a shift: subtract the mean, or the anchor's own strength. The
    # mean is of those that have a rating: one without bound would drag all the others along.
    reference = np.ones(len(names))
    if prior is None and len(core) < len(names):
        prior, reference = 0.1, np.isin(np.arange(len(names)), core).astype(float)
    reference /= reference.sum()
    base, unit = (1000.0 if anchor is None else anchor[1]), scale / math.log(10.0)
    if anchor is not None:
        reference = np.array([float(name == anchor[0]) for name in names])

    def rating(strengths: np.ndarray) -> np.ndarray:
        return base + unit * (strengths - (strengths @ reference)[..., None])

    theta, hessian = fit_strengths(wins, 1e-7 if prior is None else max(prior, 1e-7))
    # Covariance of the differences to the reference, from the inverse curvature.
    contrast = np.eye(len(names)) - reference[None, :]
    covariance = contrast @ np.linalg.pinv(hessian, hermitian=True) @ contrast.T
    covariance *= variance_left_by_draws(score, theta[first] - theta[second])
    half = 1.96 * unit * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    low, high = rating(theta) - half, rating(theta) + half
    if bootstrap:       # in some resample somebody never loses: there a weak prior must hold
        rounds = rating(_resampled_strengths(first, second, score, len(names), bootstrap,
                                             0.1 if prior is None else max(prior, 1e-7), seed))
        drawn = np.percentile(rounds, [2.5, 97.5], axis=0)
        # Votes that all agree are the same votes in every resample, and say little all the same.
        agreed = ~np.isin(np.arange(len(names)), core) | (np.ptp(drawn, axis=0) < 1e-9)
        low = np.where(agreed, np.minimum(low, drawn[0]), drawn[0])
        high = np.where(agreed, np.maximum(high, drawn[1]), drawn[1])
    return Leaderboard(names, rating(theta), low, high, remarks)


def _side_by_side(boards: list[Leaderboard]) -> Leaderboard:
    """One leaderboard of several islands; ranks count within an island only."""
    if len(boards) == 1:
        return boards[0]
    names = [name for board in boards for name in board]
    rated, low, high = (np.array([values[n] for values in parts for n in values]) for parts in (
        boards, [b.low for b in boards], [b.high for b in boards]))
    whole = Leaderboard(names, rated, low, high,
                        [no_order(boards), *(r for b in boards for r in b.remarks)])
    whole.rank = {name: board.rank[name] for board in boards for name in board}
    return whole


def variance_left_by_draws(score: np.ndarray, gaps: np.ndarray) -> float:
    """Which share of Bernoulli variance p (1 - p) the votes really have, draws being half points.

    score (n,) of the first model, gaps (n,) the fitted log odds. A vote with score 1, 0 or 1/2 of
    mean p has the variance p (1 - p) - P(draw) / 4: a draw is the middle itself. 1 without draws;
    at least 4 / (n + 4), as if four decided votes were still to come.
    Example: half of the votes between equals are draws -> 0.5.
    """
    chance = 0.5 * (1.0 + np.tanh(0.5 * gaps))
    # Summed over all votes: a share of draws for each pair would be too rough.
    full, drawn = (chance * (1.0 - chance)).sum(), ((score > 0) & (score < 1)).sum() / 4.0
    return float(max(1.0 - drawn / max(full, 1e-12), 4.0 / (len(score) + 4.0)))


def _resampled_strengths(first: np.ndarray, second: np.ndarray, score: np.ndarray, models: int,
                         rounds: int, prior: float, seed: int) -> np.ndarray:
    """(rounds, models) strengths refitted to votes drawn with replacement."""
    # Equal battles are interchangeable, so one multinomial draw over distinct battles will do.
    kinds, counts = np.unique(np.stack([first, second, (2 * score).astype(np.int64)]),
                              axis=1, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), rounds)
    return np.stack([fit_strengths(win_matrix(kinds[0], kinds[1], kinds[2] / 2.0, models, draw),
                                   prior)[0] for draw in draws])


def rank_with_uncertainty(low: dict[str, float], high: dict[str, float]) -> dict[str, int]:
    """Rank by model: 1 + the number of models whose lower bound lies above this one's upper bound.

    Models whose intervals overlap share a rank: the votes do not order them.
    Example: intervals [5, 9], [8, 12], [13, 15] -> ranks 2, 2, 1.
    """
    # The best possible rank is 1; overlapping intervals order nothing.
    # Only a model that is surely better, lower bound above our upper one, pushes us down.
    return {name: 1 + sum(low[other] > high[name] for other in low) for name in low}


def votes_needed(gap: float, scale: float = 400.0, power: float = 0.8) -> int:
    """Votes on one pair `gap` points apart until a two-sided 5 % test sees it with this power.

    From the normal approximation of a coin with P = 1 / (1 + 10^(-gap / scale)) against a fair one.
    Example: a gap of 191 points (3 to 1) needs 29 votes at 80 % power; a gap of 35, 778.
    ValueError for a gap or scale that is not positive and finite, or a power not between 0 and 1.
    """
    if not 0 < power < 1:
        raise ValueError(f"power {power} must lie between 0 and 1")
    check_sizes(scale)
    if not 0 < gap < math.inf:
        raise ValueError("no number of votes orders two equal models")
    # By the ratings, how often does the better one win? Far from one half is seen early.
    chance = 1.0 / (1.0 + 10.0 ** (-gap / scale))
    # 1.95996 and the power's own quantile are distances in standard errors.
    quantile = statistics.NormalDist().inv_cdf(power)
    spread = 1.959964 * 0.5 + quantile * math.sqrt(chance * (1.0 - chance))
    return math.ceil((spread / (chance - 0.5)) ** 2)


def logistic_fit(design: np.ndarray, target: np.ndarray, penalty: np.ndarray,
                 weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and covariance of a logistic regression on soft targets in [0, 1].

    Minimises the weighted cross-entropy plus sum(penalty * beta^2) / 2 by Newton's method.
    A direction of which the rows say nothing (a column of zeros without a penalty) stays at 0: the
    covariance is the curvature's pseudo-inverse. ValueError for a target outside of [0, 1] or a
    NaN anywhere. Example: design [[1.0]] * 4, target [1, 1, 1, 0], penalty [0] -> beta = [ln 3].
    """
    weights = np.ones(len(target)) if weights is None else weights
    if not (all(np.isfinite(x).all() for x in (design, penalty, weights))
            and ((target >= 0) & (target <= 1)).all()):
        raise ValueError("targets must lie in [0, 1] and all other numbers must be finite")
    # Start from 0, every chance one half, and take Newton's steps to the only minimum.
    beta = np.zeros(design.shape[1])
    for _ in range(200):
        # The logistic function as a tanh: exp(-x) would overflow for large x.
        chance = 0.5 * (1.0 + np.tanh(0.5 * (design @ beta)))
        # First and second derivative of the objective, the penalty in both.
        gradient = design.T @ (weights * (target - chance)) - penalty * beta
        curvature = (design.T * (weights * chance * (1 - chance))) @ design + np.diag(penalty)
        # Where votes say nothing of a direction the curvature is singular: lstsq stays out of it.
        # A step of over 2 is cut, or perfectly separable votes would throw beta away.
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        beta = beta + step / max(1.0, np.abs(step).max(initial=0.0) / 2.0)
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    # The inverse curvature is the covariance of the coefficients.
    return beta, np.linalg.pinv(curvature, hermitian=True)


def simulate_votes(strengths: Mapping[str, float], votes: int, seed: int, ties: float = 0.1,
                   scale: float = 400.0) -> list[tuple[str, str, str]]:
    """Votes of honest voters on random pairs of models whose true ratings are `strengths`.

    A share `ties` of the votes is a draw; the others follow Bradley-Terry. The sides are random.
    Because draws pull towards one half, the strengths that a fit recovers are those at which
    (1 - ties) * P + ties / 2 is the score; with ties = 0 they are `strengths` themselves.
    """
    rng = np.random.default_rng(seed)
    names = list(strengths)
    battles = []
    for draw, coin in rng.random((votes, 2)):
        a, b = rng.choice(len(names), size=2, replace=False)
        gap = (strengths[names[b]] - strengths[names[a]]) / scale
        chance = 1.0 / (1.0 + 10.0 ** min(gap, 300.0))
        winner = "tie" if draw < ties else ("a" if coin < chance else "b")
        battles.append((names[a], names[b], winner))
    return battles
