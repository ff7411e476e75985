"""Power laws as straight lines in logarithms, and Chinchilla's approach 1, the envelope.

    law = fit_power_law(sizes, losses, bootstrap=1000)
    law.exponent, law.exponent_interval, law(1e9)

Kaplan's laws are of this kind: L(N) = (8.8e13 / N)^0.076. But: no floor. On data with an
irreducible loss a straight line is only true over a short range.

Letters: N parameters, D training tokens, C = 6 N D FLOPs, L loss in nats per token.
"""

from dataclasses import dataclass, field

import numpy as np

from run_checks import checked_runs


@dataclass(frozen=True)
class PowerLaw:
    """y = constant * x^exponent, with 95 % intervals."""
    constant: float
    exponent: float
    exponent_interval: tuple[float, float] = (float("nan"), float("nan"))
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)), repr=False)

    def __call__(self, x):
        return self.constant * np.asarray(x, float) ** self.exponent


def fit_power_law(x, y, bootstrap: int = 0, seed: int = 0) -> PowerLaw:
    """The straight line through log y against log x, by least squares.

    x, y (n,) -> PowerLaw; ValueError for a number that is not finite and positive, or without two
    different x. `bootstrap`: so many resamples of the points with replacement, by `seed` (one
    without two different x is drawn again); `samples` (bootstrap, 2) has constant and exponent of
    each, `exponent_interval` the middle 95 % of the exponents. Without: no samples, and nan.
    fit_power_law([1, 10, 100], [2, 20, 200]) is constant 2, exponent 1. Kaplan's L(N) is this
    with a negative exponent: (8.8e13 / N)^0.076 has constant 8.8e13^0.076.
    """
    x, y = checked_runs(x=x, y=y)
    log_x, log_y = np.log(x), np.log(y)
    if len(log_x) < 2 or np.ptp(log_x) == 0:
        raise ValueError("a power law needs at least two different x")
    # log y = log constant + exponent log x; a resample draws points with replacement
    slope, offset = np.polyfit(log_x, log_y, 1)
    rng, samples = np.random.default_rng(seed), []
    while len(samples) < bootstrap:
        chosen = rng.integers(0, len(log_x), len(log_x))
        if np.ptp(log_x[chosen]) > 0:               # a line needs two points that differ
            s, o = np.polyfit(log_x[chosen], log_y[chosen], 1)
            samples.append((np.exp(o), s))
    table = np.array(samples).reshape(-1, 2)
    interval = tuple(np.percentile(table[:, 1], [2.5, 97.5])) if samples else (np.nan, np.nan)
    return PowerLaw(float(np.exp(offset)), float(slope),
                    (float(interval[0]), float(interval[1])), table)


def fit_envelope(N, D, L, bootstrap: int = 0, seed: int = 0) -> PowerLaw:
    """Chinchilla's approach 1: N against C along the lower envelope of all runs.

    A run is on the envelope if every run of less compute C = 6 N D has a higher loss, and no run of
    equal compute a lower one; of several with the same C and loss one counts. Any order of runs.
    Gives N = constant * C^exponent through those runs. ValueError if fewer than three are, or for
    a number that is not finite and positive.
    Source: Hoffmann et al. 2022, section 3.1 (there with every point of the training curves).
    """
    N, D, L = checked_runs(N=N, D=D, L=L)
    C = 6 * N * D
    # Cheapest first; among equally cheap ones the lowest loss first.
    order = np.lexsort((L, C))
    # Walking up in compute, a run counts if it beats everything cheaper.
    before = np.minimum.accumulate(np.concatenate([[np.inf], L[order][:-1]]))
    best = order[L[order] < before]
    if len(best) < 3:
        raise ValueError(f"only {len(best)} runs are on the envelope: more budgets are needed")
    return fit_power_law(C[best], N[best], bootstrap, seed)
