"""How sure may we be? Intervals for shares, and how honest a model's own confidence is.

    from calibration import expected_calibration_error, wilson_interval

Sources: Wilson 1927; HELM's calibration metrics (ten bins of equal mass, selective accuracy).
"""

import math

import numpy as np


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval (low, high) for a share of `successes` out of n; n = 0 gives (0, 1).

    Solves |share - p| = z * sqrt(p (1 - p) / n) for p, so it stays inside [0, 1] and is never
    empty, not even at 0 of n. Example: 5 of 10 -> (0.2366, 0.7634); 0 of 10 -> (0.0, 0.2775).
    Source: Wilson 1927, J. Am. Stat. Assoc. 22.
    """
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
    by its size; equal confidences always share a bin: where a cut falls between equal ones, there
    is none. Below about 300 answers it is mostly noise.
    Example, one bin: confidence 0.9 on four answers of which two are right -> 0.4.
    Source: HELM (arXiv 2211.09110), appendix C; equal-mass bins as in Kumar et al. 2019.
    """
    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
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


def selective_accuracy(confidence: np.ndarray, right: np.ndarray, coverage: float = 0.1) -> float:
    """Accuracy on the share `coverage` of answers of which the model is surest (at least one).

    Example: the surest tenth of 50 answers is 5 answers; 4 of them right -> 0.8.
    """
    keep = max(1, round(coverage * len(confidence)))
    surest = np.argsort(-np.asarray(confidence, dtype=float), kind="stable")[:keep]
    return float(np.asarray(right, dtype=float)[surest].mean())
