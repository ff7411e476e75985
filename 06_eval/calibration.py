"""How sure may we be? Intervals for shares, and how honest a model's own confidence is.

    from calibration import expected_calibration_error, wilson_interval

Sources: Wilson 1927; HELM's calibration metrics (ten bins of equal mass, selective accuracy).
"""

import math

import numpy as np


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval (low, high) for a share of `successes` out of n; n = 0 gives (0, 1). ValueError
    unless successes lie between 0 and n, and for a z that is below 0 or not finite.

    Solves |share - p| = z * sqrt(p (1 - p) / n) for p, so it stays inside [0, 1] and is never
    empty, not even at 0 of n. Example: 5 of 10 -> (0.2366, 0.7634); 0 of 10 -> (0.0, 0.2775).
    Source: Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    if not (0 <= successes <= n and 0 <= z < math.inf):
        raise ValueError(f"{successes} of {n} is no share, or {z} no number of standard errors")
    n = int(n)          # numpy's 32-bit numbers overflow in the squares below
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    # The centre is pulled towards one half, by more the smaller n is.
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    # The width keeps a part that does not vanish at 0 or n of n: nobody is sure after ten tries.
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Mean distance between stated confidence and measured accuracy, over bins of equal mass.

    confidence (n,) in [0, 1], right (n,) bool. Sorted by confidence and cut into `bins` groups of
    (nearly) equal size, as `np.array_split` cuts (fewer, if there are fewer answers), each weighted
    by its size; equal confidences always share a bin: a cut that falls between equal ones moves
    behind them. Below about 300 answers it is mostly noise. ValueError for no answers, for columns
    of two lengths, or for a confidence that is not in [0, 1].
    Example, one bin: confidence 0.9 on four answers of which two are right -> 0.4.
    Source: HELM (arXiv 2211.09110), appendix C; equal-mass bins as in Kumar et al. 2019.
    """
    confidence, right = checked_answers(confidence, right)
    # Groups of equal size show where to cut: halfway between neighbours. A cut between two equal
    # confidences is the confidence itself, and no group ends there.
    groups = np.array_split(np.sort(confidence), min(bins, len(confidence)))
    edges = sorted({(low[-1] + high[0]) / 2 for low, high in zip(groups, groups[1:])})
    # So equal confidences share a bin, and the order of the questions cannot matter.
    place = np.searchsorted(edges, confidence)
    error = 0.0
    for inside in (place == i for i in np.unique(place)):
        error += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    return float(error / len(confidence))


def checked_answers(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both columns as floats; ValueError if there are no answers, if the columns differ in length,
    or if a confidence or a mark is not in [0, 1] (percent, nan)."""
    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if confidence.ndim != 1 or confidence.shape != right.shape or not len(confidence):
        raise ValueError(f"{confidence.size} confidences and {right.size} answers: as many of one "
                         "as of the other are needed, and at least one")
    wrong = np.flatnonzero(~((confidence >= 0) & (confidence <= 1)))
    if len(wrong):
        raise ValueError(f"confidence {confidence[wrong[0]]:g} of answer {wrong[0] + 1} is not in "
                         "[0, 1]")
    if not ((right >= 0) & (right <= 1)).all():
        raise ValueError("an answer is right (1), wrong (0) or right in part, and nothing else")
    return confidence, right


def selective_accuracy(confidence: np.ndarray, right: np.ndarray, coverage: float = 0.1) -> float:
    """Accuracy on the share `coverage` of answers of which the model is surest (at least one).

    Example: the surest tenth of 50 answers is 5 answers; 4 of them right -> 0.8. Of answers that
    are equally sure at the border, each counts in part: their order says nothing. ValueError as
    `expected_calibration_error`, and for a coverage that is not in [0, 1].
    """
    confidence, right = checked_answers(confidence, right)
    if not 0 <= coverage <= 1:
        raise ValueError(f"coverage {coverage:g} is no share of the answers")
    keep = max(1, round(coverage * len(confidence)))
    border = np.sort(confidence)[-keep]
    surer, level = right[confidence > border], right[confidence == border]
    return float((surer.sum() + level.mean() * (keep - len(surer))) / keep)
