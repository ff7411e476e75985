"""Chinchilla's approach 2: at each compute budget a parabola over model size, then its minima.

    fit = fit_isoflop(C, N, L, bootstrap=1000)
    fit.law(1e15)          # parameters of the best model for 1e15 FLOPs
"""

from dataclasses import dataclass

import numpy as np

from log_lines import PowerLaw, fit_power_law
from run_checks import checked_runs


@dataclass(frozen=True)
class IsoflopFit:
    """One parabola per budget (`curves`: coefficients in log N), minima, and a law through them."""
    budgets: np.ndarray             # (budgets,) FLOPs
    N_opt: np.ndarray               # (budgets,) parameters at the minimum
    L_opt: np.ndarray               # (budgets,) loss there
    curves: np.ndarray              # (budgets, 3)
    law: PowerLaw                   # N_opt = constant * C^exponent


def group_budgets(C: np.ndarray, gap: float = 0.1) -> list[np.ndarray]:
    """Indices of the runs of each budget, ascending; budgets differ by more than e^gap."""
    order = np.argsort(C, kind="stable")
    jumps = np.flatnonzero(np.diff(np.log(C[order])) > gap) + 1
    return np.split(order, jumps)


def parabola_minimum(N: np.ndarray, L: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The minimum of the parabola L = c2 x^2 + c1 x + c0 in x = log N, by least squares.

    N, L (n,), n >= 3 -> (N at the minimum, L there, coefficients (3,), highest power first).
    ValueError for fewer than three different sizes, a loss that is not finite and positive, losses
    that are all equal, if it opens downwards, or if its minimum lies outside the sizes that were
    tried (by more than a factor 2): then the budget does not say where its best model is.
    """
    N, L = checked_runs(N=N, L=L)
    if len(np.unique(N)) < 3:
        raise ValueError("three different sizes are needed for a parabola")
    if np.ptp(L) == 0:          # rounding would choose a minimum
        raise ValueError("all losses are equal: no size is best")
    x = np.log(N)
    # Centred, or the powers of log N would be too alike to tell apart.
    middle = x.mean()
    c2, c1, c0 = np.polyfit(x - middle, L, 2)
    if c2 <= 0:
        raise ValueError("the parabola opens downwards")
    # Where the slope is zero; the coefficients are those of the centred x.
    bottom = -c1 / (2 * c2)
    if not x.min() - np.log(2) <= bottom + middle <= x.max() + np.log(2):
        raise ValueError("the minimum lies outside the sizes that were tried")
    shifted = np.array([c2, c1 - 2 * c2 * middle, c0 - c1 * middle + c2 * middle ** 2])
    return float(np.exp(bottom + middle)), float(c0 - c1 ** 2 / (4 * c2)), shifted


def fit_isoflop(C, N, L, bootstrap: int = 0, seed: int = 0) -> IsoflopFit:
    """A parabola per budget, and the power law through the minima.

    C, N, L (n,): runs of nearly equal C form a budget; budgets of fewer than three sizes, or
    without a minimum, are left out. Intervals: residuals of each parabola are drawn again.
    ValueError if fewer than two budgets are left. Source: Hoffmann et al. 2022, section 3.2.
    """
    C, N, L = checked_runs(C=C, N=N, L=L)
    found = []
    for group in group_budgets(C):
        if len(np.unique(N[group])) < 3:
            continue
        try:
            found.append((group, *parabola_minimum(N[group], L[group])))
        except ValueError:
            continue
    if len(found) < 2:
        raise ValueError(f"{len(found)} budgets have a minimum inside the sizes tried; two are "
                         "needed")
    groups, N_opt, L_opt, curves = zip(*found)
    budgets = np.array([np.exp(np.log(C[g]).mean()) for g in groups])
    line = fit_power_law(budgets, N_opt)
    samples = _redraw(groups, N, L, curves, budgets, bootstrap, seed)
    interval = np.percentile(samples[:, 1], [2.5, 97.5]) if len(samples) else (np.nan, np.nan)
    law = PowerLaw(line.constant, line.exponent, (float(interval[0]), float(interval[1])), samples)
    return IsoflopFit(budgets, np.array(N_opt), np.array(L_opt), np.array(curves), law)


def _redraw(groups, N, L, curves, budgets, bootstrap: int, seed: int) -> np.ndarray:
    """(constant, exponent) of the law for each resample of the parabolas' residuals."""
    rng, samples = np.random.default_rng(seed), []
    smooth = [np.polyval(curve, np.log(N[g])) for g, curve in zip(groups, curves)]
    # A parabola through n points takes up three degrees of freedom: residuals look too small.
    pool = np.concatenate([(L[g] - s) * np.sqrt(len(g) / max(1, len(g) - 3))
                           for g, s in zip(groups, smooth)])
    for _ in range(bootstrap):
        minima = []
        for g, s, budget in zip(groups, smooth, budgets):
            try:
                minima.append((budget, parabola_minimum(N[g], s + rng.choice(pool, len(g)))[0]))
            except ValueError:
                continue
        if len(minima) >= 2:
            law = fit_power_law(*zip(*minima))
            samples.append((law.constant, law.exponent))
    return np.array(samples).reshape(-1, 2)
