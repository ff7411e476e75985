"""Best of n: sample n answers, keep the one the reward model likes best. No training at all.

    python 05_posttrain/compare.py        # measures it beside DPO and PPO

The baseline that every trained policy must beat: it costs n times the sampling, and strays from
the SFT model by a known amount, log n - (n - 1) / n nats. Source: Stiennon et al. 2020, app. G.
"""

import math

import numpy as np


def best_of_n_kl(n: int) -> float:
    """KL of best-of-n from the policy it samples, in nats: log n - (n - 1) / n.

    n = 1 -> 0; n = 4 -> 0.636; n = 16 -> 1.835. Exact only if no two answers tie: with ties the
    truth is smaller. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best of {n} answers does not exist")
    # The best of n has density n F^(n - 1) times the policy's, F its rank in (0, 1):
    # E[log n + (n - 1) log F] under that density, and E[log F] is -1 / n.
    return math.log(n) - (n - 1) / n


def expected_best(proxy: np.ndarray, gold: np.ndarray, n: int) -> np.ndarray:
    """What the best of n earns in gold, from N >= n samples of each question, without waste.

    proxy, gold (Q, N): two rewards of the same answers. Returns (Q,): the mean gold reward, over
    all choices of n of the N samples, of the one with the largest proxy. The sample with the i-th
    smallest proxy (i from 1) is the best of C(i - 1, n - 1) of the C(N, n) choices.
    proxy [[1, 2, 3]], gold [[10, 20, 60]], n = 2 -> [46.67] = (20 + 2 * 60) / 3.
    Ties of the proxy keep the order of the samples. The counts of choices are whole numbers of any
    size: N = 1100, n = 550 works. Raises ValueError if n > N, or for a reward that is not finite.
    """
    samples = proxy.shape[1]
    if not 1 <= n <= samples:
        raise ValueError(f"best of {n} needs at least {n} samples, there are {samples}")
    if not (np.isfinite(proxy).all() and np.isfinite(gold).all()):
        raise ValueError("a reward is nan or infinite: it would win every choice")
    # Gold in the order of the proxy: the last one wins every choice that it is part of.
    ordered = np.take_along_axis(gold, np.argsort(proxy, axis=1, kind="stable"), axis=1)
    # In how many choices each rank is the winner: the others come from the ranks below it.
    # Divided as whole numbers: C(1100, 550) is no float, its share of itself is.
    choices = math.comb(samples, n)
    return ordered @ np.array([math.comb(i, n - 1) / choices for i in range(samples)])
