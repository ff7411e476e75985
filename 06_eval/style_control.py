"""How much do voters reward the look of an answer? Bradley-Terry with style as extra terms.

    from style_control import style_control
    ratings, coefficients = style_control(battles, features)    # lengths, lists, headers ...

The leaderboard of `arena.py` without what longer or prettier answers earn by that alone; and how
much that is. What it cannot know: whether a longer answer was really better.
"""

import math
from typing import Sequence

import numpy as np

from artifacts import BadInput
from arena import Leaderboard, logistic_fit, tabulate, variance_left_by_draws, win_matrix
from who_met_whom import check_sizes, islands, leagues, no_bound, no_order, unbeaten


def style_control(battles: Sequence, features: np.ndarray, ridge: float = 0.5, scale: float = 400.0,
                  anchor: tuple[str, float] | None = None) -> tuple[Leaderboard, np.ndarray]:
    """Bradley-Terry with what the answers look like as extra terms: (ratings, coefficients).

    features (n, S, 2): S style counts (length, lists, headers ...) of answer a and of answer b.
    Each enters as (f_a - f_b) / (f_a + f_b + 1), divided by its root mean square; its coefficient
    (natural log odds per root mean square) says how much the votes reward that style alone, and
    the ratings are what is left. `ridge` penalises the style coefficients only (half its square).
    Between islands there is no order here either, and a model that never lost has no upper bound:
    as in `bradley_terry` it gets a weak prior, and `.remarks` says both. ValueError for features of
    another shape, below 0 or not finite; BadInput for an anchor that is in no battle.
    Source: LMSYS, "Does style matter?", August 2024.
    """
    check_sizes(scale, ridge=ridge)
    names, first, second, score = tabulate(battles)
    features = np.asarray(features, dtype=float)
    if features.ndim != 3 or features.shape[0::2] != (len(score), 2) or not (
            np.isfinite(features) & (features >= 0)).all():
        raise ValueError(f"features of shape {features.shape}: for each of {len(score)} battles S "
                         "pairs of counts are needed, (n, S, 2), finite and not below 0")
    if not names:
        return Leaderboard([], *np.zeros((3, 0))), np.zeros(features.shape[1])
    if anchor is not None and anchor[0] not in names:
        raise BadInput(f"the anchor {anchor[0]!r} is in no battle; models are {', '.join(names)}")
    wins = win_matrix(first, second, score, len(names))
    apart = islands(wins)
    never_lost, core = unbeaten(wins), max(leagues(wins), key=len)
    bounded = len(leagues(wins)) == len(apart)      # each island is one league
    rows = np.arange(len(score))
    difference = (features[..., 0] - features[..., 1]) / (features[..., 0] + features[..., 1] + 1.0)
    # No mean is subtracted, so that naming the sides the other way round changes nothing.
    size = np.sqrt((difference ** 2).mean(axis=0))
    design = np.zeros((len(score), len(names) + difference.shape[1]))
    design[rows, first], design[rows, second] = 1.0, -1.0
    design[:, len(names):] = difference / np.where(size > 0, size, 1.0)
    penalty = np.concatenate([np.full(len(names), 1e-7 if bounded else 0.1),
                              np.full(difference.shape[1], ridge)])
    beta, covariance = logistic_fit(design, score, penalty)
    strengths, unit = beta[:len(names)], scale / math.log(10.0)
    # The mean is of those that have a rating: one without bound would drag all the others along.
    reference = (np.ones(len(names)) if bounded else
                 np.isin(np.arange(len(names)), core).astype(float))
    if anchor is not None:
        reference = np.array([float(name == anchor[0]) for name in names])
    reference /= reference.sum()
    ratings = (1000.0 if anchor is None else anchor[1]) + unit * (strengths - strengths @ reference)
    contrast = np.eye(len(names)) - reference
    spread = contrast @ covariance[:len(names), :len(names)] @ contrast.T
    spread *= variance_left_by_draws(score, design @ beta)
    half = 1.96 * unit * np.sqrt(np.maximum(np.diag(spread), 0.0))
    remarks = [no_order([[names[i] for i in group] for group in apart])] if len(apart) > 1 else []
    remarks += [no_bound(names[i] for i in group) for group in never_lost]
    return Leaderboard(names, ratings, ratings - half, ratings + half, remarks), beta[len(names):]
