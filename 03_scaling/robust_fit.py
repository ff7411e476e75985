"""Many small robust least-squares problems at once: Huber loss, Levenberg-Marquardt, in numpy.

    theta, cost = minimise(residuals, starts, delta=1e-3, weights=weights)

A law with five parameters is fitted from hundreds of starts, then again for thousands of
bootstrap resamples. Each problem is tiny; one after the other they take an hour, as one batch
of arrays they take seconds. P problems, n points, k parameters.
"""

from typing import Callable

import numpy as np

Residuals = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    """Huber's loss: r^2 / 2 for |r| <= delta, and the straight line delta (|r| - delta / 2) beyond.

    Any shape -> the same shape. An outlier pulls with a constant force, however far away it is.
    huber([0.5, 3], 1) is [0.125, 2.5]. Source: Huber 1964.
    """
    # Both signs alike.
    size = np.abs(residual)
    # Both pieces have value delta^2 / 2 and slope delta where they meet.
    return np.where(size <= delta, 0.5 * residual ** 2, delta * (size - 0.5 * delta))


def minimise(residuals: Residuals, starts: np.ndarray, delta: float, weights: np.ndarray,
             iterations: int = 300, tolerance: float = 1e-9,
             lowest: np.ndarray | float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Minimise sum_i weights_i huber(r_i(theta)) for P problems side by side.

    starts (P, k) -> theta (P, k), cost (P,). `residuals(theta)` gives r (P, n) and its
    derivatives J (P, n, k); weights (P, n) or (n,): how often each point counts; no step takes a
    parameter below `lowest` (k,). A problem stops when a step improves it by less than
    `tolerance` of its cost several times in a row.
    """
    theta = np.array(starts, dtype=np.float64)
    P, k = theta.shape
    r, J = residuals(theta)
    weights = np.broadcast_to(weights, r.shape)
    cost = (weights * huber(r, delta)).sum(1)
    damping = np.full(P, 1e-2)
    stalled = np.zeros(P, dtype=int)
    active = np.arange(P)
    for _ in range(iterations):
        # Iteratively reweighted: beyond delta a point counts as a smaller quadratic.
        w = weights[active] * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-15))
        JT = (J * w[..., None]).swapaxes(1, 2)                      # (P, k, n)
        H, g = JT @ J, (JT @ r[..., None])[..., 0]
        diagonal = np.einsum("pii->pi", H)
        damped = H + (damping[active, None] * diagonal + 1e-14)[..., None] * np.eye(k)
        step = -np.linalg.solve(damped, g[..., None])[..., 0]
        step = np.clip(step, -2.0, 2.0)                             # stay where exp is finite
        moved = np.maximum(theta[active] + step, lowest)
        new_r, new_J = residuals(moved)
        new_cost = (weights[active] * huber(new_r, delta)).sum(1)
        better = np.isfinite(new_cost) & (new_cost < cost[active])
        gain = np.where(better, cost[active] - new_cost, 0.0)
        stalled[active] = np.where(gain > tolerance * cost[active], 0, stalled[active] + 1)
        won = active[better]
        theta[won] = moved[better]
        cost[won] = new_cost[better]
        r[better], J[better] = new_r[better], new_J[better]
        # Trust the linear model more after a success, less after a failure.
        damping[active] = np.clip(np.where(better, damping[active] / 3, damping[active] * 4),
                                  1e-9, 1e6)
        keep = stalled[active] < 12
        active, r, J = active[keep], r[keep], J[keep]
        if not len(active):
            break
    return theta, cost
