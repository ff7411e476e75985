"""Runs that can be points of a law: finite, positive, equally many; else the wrong one is named.

    N, D, L = checked_runs(N=N, D=D, L=L)

A NaN in a table of runs is the worst kind of point: comparisons with it are false, minima return
it, and a fit that swallows it looks like any other fit. A run that diverged has no loss; it is
left out by the person who knows why, not by the code.
"""

import numpy as np


def checked_runs(**columns) -> list[np.ndarray]:
    """The columns as arrays of floats (n,); ValueError that names the first number at fault.

    Every number must be finite and above zero, and all columns equally long.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise ValueError("columns must be equally long lists: " + ", ".join(
            f"{name} {shape}" for name, shape in shapes.items()))
    for name, array in arrays.items():
        wrong = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(wrong):
            raise ValueError(f"all numbers must be positive: {name} is {array[wrong[0]]:g} in run "
                             f"{wrong[0] + 1} of {len(array)} ({len(wrong)} such); a run that "
                             "diverged is no point of a law: leave it out")
    return list(arrays.values())


def different_runs(*columns: np.ndarray) -> int:
    """How many different settings the runs have: a second seed tells nothing new about a law."""
    return len(np.unique(np.stack(columns, axis=1), axis=0))


def spread_across(log_N: np.ndarray, log_D: np.ndarray) -> float:
    """How far the runs lie beside their own line in the plane of (log N, log D): the standard
    deviation across it. Zero for a ladder of D = 20 N, however long."""
    points = np.stack([log_N - log_N.mean(), log_D - log_D.mean()], axis=1)
    # The smaller singular value is the spread in the direction of which there is least.
    return float(np.linalg.svd(points, compute_uv=False)[-1] / np.sqrt(len(points)))
