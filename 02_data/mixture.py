"""How much of each domain? Weights from fitted mixing laws, under a cap on repetition.

    law = fit_mixing_law(weights, losses)     # (R, D) mixtures tried, (R, M) losses they gave
    law.predict(weights)                      # (R, M), also for mixtures never tried
    best = optimise(law, caps)                # (D,) weights that promise the lowest mean loss

The exponential law (Ye et al. 2024, eq. 1): the loss on validation domain i after training on the
mixture r is L_i(r) = c_i + k_i exp(sum_j t_ij r_j). Small models try a few dozen mixtures, the law
interpolates. `doremi_update` is the other school: no law, the weights move during one training run
towards domains whose excess loss over a reference model is large (Xie et al. 2023, algorithm 1).
`python 02_data/mix_domains.py` measures both on the corpus.
"""

from dataclasses import dataclass
from typing import Iterable

import numpy as np

from hashed_linear import lbfgs

EPOCHS_NEARLY_FREE = 4.0      # up to here repeated data is worth about as much as new (Muennighoff)


def natural_mixture(documents: Iterable[dict]) -> dict[str, float]:
    """Each domain's share of the training bytes, in alphabetical order; the shares sum to 1."""
    sizes: dict[str, int] = {}
    for d in documents:
        size = len(d["text"].encode("utf-8", "surrogatepass")) if d["split"] == "train" else 0
        sizes[d["domain"]] = sizes.get(d["domain"], 0) + size
    total = sum(sizes.values()) or 1
    return {name: sizes[name] / total for name in sorted(sizes)}


def sample_mixtures(natural: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Mixtures to try, (count, D): Dirichlet draws around natural^0.5, from vague to strict.

    RegMix's recipe: the square root lifts small domains; strengths from 0.3 to 30 give mixtures
    with one dominant domain and balanced ones.
    """
    random = np.random.default_rng(seed)
    prior = np.sqrt(np.maximum(natural, 1e-6))
    prior /= prior.sum()
    strengths = np.geomspace(0.3, 30, count) * len(natural) / 2
    draws = np.array([random.dirichlet(prior * s + 1e-3) for s in strengths])
    draws = draws.reshape(count, len(natural))
    return draws / draws.sum(1, keepdims=True)


@dataclass(frozen=True)
class MixingLaw:
    """L_i(r) = c_i + exp(b_i + sum_j t_ij r_j^power): c (M,), b (M,) = log k, t (M, D).

    power 1 is the paper's law. The first tokens of a domain are worth most, which it cannot bend
    to, so it may give a domain nothing at all; a power below 1 can. `choose_power` asks the data.
    """
    c: np.ndarray
    b: np.ndarray
    t: np.ndarray
    power: float = 1.0

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """Losses (R, M) for mixtures (R, D)."""
        return self.c + np.exp(self.b + np.atleast_2d(weights) ** self.power @ self.t.T)


def law_error(parameters: np.ndarray, weights: np.ndarray, loss: np.ndarray, ridge: float,
              delta: float = 0.01) -> tuple[float, np.ndarray]:
    """Mean pseudo-Huber error of one domain's law, plus ridge |t|^2, and its gradient.

    parameters = (c, b, t_1 ... t_D); the law says c + exp(b + t . r) for a mixture r, a row of
    `weights` (R, D), and e is what it says too much of `loss` (R,). The error of a residual e is
    sqrt(1 + (e/delta)^2) - 1: quadratic for small ones, linear for outliers. b + t . r counts as
    50 at most, so that nothing overflows.
    """
    c, b, t = parameters[0], parameters[1], parameters[2:]
    scale = np.exp(np.minimum(b + weights @ t, 50.0))       # k exp(t r), (R,)
    e = c + scale - loss
    root = np.sqrt(1 + (e / delta) ** 2)
    # d error / d e = e / root; through the exponential every parameter but c is scaled by `scale`
    slope = e / delta**2 / root / len(loss)
    gradient = np.concatenate([[slope.sum(), slope @ scale],
                               weights.T @ (slope * scale) + 2 * ridge * t])
    value = (root - 1).mean() + ridge * t @ t
    return float(value), gradient


def fit_mixing_law(weights: np.ndarray, losses: np.ndarray, ridge: float = 1e-3,
                   power: float = 1.0) -> MixingLaw:
    """Fit one exponential law per column of `losses` (R, M) on mixtures `weights` (R, D).

    For a fixed floor c the law is linear in the logarithm, so each start solves least squares; the
    best of several floors is then polished by L-BFGS on a Huber error of width 0.01 nats.
    ValueError for losses that are not finite, or of another number of runs.
    """
    weights, losses = np.asarray(weights, float) ** power, np.asarray(losses, float)
    if losses.ndim != 2 or len(losses) != len(weights) or not np.isfinite(losses).all():
        raise ValueError("losses are (runs, domains), a row for each mixture, and finite: leave "
                         "out runs that diverged")
    design = np.hstack([np.ones((len(weights), 1)), weights])
    rows = []
    for loss in losses.T:
        spread = max(float(np.ptp(loss)), 1e-3)
        best: tuple[float, np.ndarray] | None = None
        # floors from just below the lowest loss to far below
        for below in (0.1, 0.3, 1.0, 3.0):
            c = loss.min() - below * spread
            line = np.linalg.lstsq(design, np.log(loss - c), rcond=1e-6)[0]
            start = np.concatenate([[c], line])
            found = lbfgs(lambda p: law_error(p, weights, loss, ridge), start, steps=200)
            value = law_error(found, weights, loss, ridge)[0]
            if best is None or value < best[0]:
                best = (value, found)
        rows.append(best[1])
    table = np.array(rows)
    return MixingLaw(table[:, 0], table[:, 1], table[:, 2:], power)


def choose_power(weights: np.ndarray, losses: np.ndarray, powers=(1.0, 0.75, 0.5),
                 folds: int = 4) -> float:
    """The power whose law best predicts runs it was not fitted on, by cross-validation."""
    folds = min(folds, len(weights))
    if folds < 2:
        return powers[0]
    fold = np.arange(len(weights)) % folds
    errors = [np.mean([np.abs(
        fit_mixing_law(weights[fold != k], losses[fold != k], power=p).predict(weights[fold == k])
        - losses[fold == k]).mean() for k in range(folds)]) for p in powers]
    return powers[int(np.argmin(errors))]


def cross_predict(weights: np.ndarray, losses: np.ndarray, powers=(1.0, 0.75, 0.5),
                  folds: int = 4) -> np.ndarray:
    """Each run's losses (R, M) as a law says that has not seen it: powers chosen, law fitted on
    the other folds. What a scatter of predicted against measured should show."""
    folds = min(folds, len(weights))
    if folds < 2:
        raise ValueError("one run cannot be predicted from others: give two mixtures or more")
    predicted, fold = np.empty_like(losses), np.arange(len(weights)) % folds
    for k in range(folds):
        seen = fold != k
        power = choose_power(weights[seen], losses[seen], powers) if len(powers) > 1 else powers[0]
        law = fit_mixing_law(weights[seen], losses[seen], power=power)
        predicted[~seen] = law.predict(weights[~seen])
    return predicted


def repetition_caps(available: np.ndarray, budget: float,
                    epochs: float = EPOCHS_NEARLY_FREE) -> np.ndarray:
    """The largest weight of each domain: `epochs` passes over its tokens, as a share of budget.

    repetition_caps([100, 900], 1000) = [0.4, 1.0]. ValueError if all cannot fill the budget, or if
    the budget is not above 0.
    """
    if not budget > 0:
        raise ValueError(f"a budget of {budget:g} tokens: give more than 0")
    caps = np.minimum(1.0, epochs * np.asarray(available, float) / budget)
    if caps.sum() < 1 - 1e-9:
        raise ValueError(f"{np.sum(available):,.0f} tokens at {epochs:g} epochs cannot fill a "
                         f"budget of {budget:,.0f}")
    return caps


def cap_weights(weights: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """Scale `weights` to sum to 1 with none above its cap; what a cap cuts goes to the others.

    cap_weights([0.8, 0.1, 0.1], [0.5, 1, 1]) = [0.5, 0.25, 0.25]. The others keep their
    proportions, again and again until all caps hold; a weight of 0 counts as a very small one, so
    that it takes what is left over. Caps of 1 or less in all leave no choice: caps / their sum.
    ValueError if there is not one cap for each weight, if a cap is below 0 or no number, if all
    are 0, or if a weight is not finite.
    """
    w, caps = np.maximum(np.asarray(weights, float), 1e-12), np.asarray(caps, float)
    if w.shape != caps.shape or not np.isfinite(w).all() or not (caps >= 0).all() or not caps.any():
        raise ValueError(f"weights {weights} under caps {caps}: one cap for each weight, finite "
                         "weights, no cap below 0 and not all 0")
    if caps.sum() <= 1:
        return caps / caps.sum()
    fixed = np.zeros(len(w), bool)
    for _ in range(len(w)):
        # share what the fixed ones leave among the free ones, then fix those that go over
        free = np.where(fixed, 0, w)
        scaled = np.where(fixed, caps, free / max(free.sum(), 1e-300) * (1 - caps[fixed].sum()))
        over = ~fixed & (scaled > caps)
        if not over.any():
            return scaled
        fixed |= over
    return scaled


def optimise(law: MixingLaw, caps: np.ndarray, importance: np.ndarray | None = None,
             steps: int = 2000, rate: float = 0.05) -> np.ndarray:
    """The mixture (D,) under `caps` with the lowest predicted loss, weighted by `importance` (M,).

    Multiplicative gradient steps stay inside the simplex by themselves; caps are enforced after
    each. With power 1 the law is convex in r: there is one minimum.
    """
    importance = np.ones(len(law.c)) if importance is None else np.asarray(importance, float)
    if not (importance >= 0).all() or not importance.sum() > 0:
        raise ValueError(f"importance {importance}: no number below 0, and not all 0")
    importance = importance / importance.sum()
    r = cap_weights(np.ones(law.t.shape[1]), caps)
    for _ in range(steps):
        # d/dr_j of sum_i importance_i L_i = p r_j^(p-1) sum_i importance_i t_ij k_i exp(t_i r^p)
        slope = law.power * np.maximum(r, 1e-3) ** (law.power - 1)
        gradient = (importance * np.exp(law.b + law.t @ r ** law.power)) @ law.t * slope
        gradient -= r @ gradient
        r = cap_weights(r * np.exp(-rate * gradient / (np.abs(gradient).max() + 1e-12)), caps)
    return r


def doremi_update(weights: np.ndarray, excess: np.ndarray, step: float = 1.0,
                  smoothing: float = 1e-4) -> np.ndarray:
    """One step of DoReMi: domains with excess loss gain weight (Xie et al. 2023, algorithm 1).

    `excess` (D,) is each domain's mean of max(proxy loss - reference loss, 0); what is below 0
    counts as 0. The new weights are
    (1 - c) softmax(log w + step * excess) + c / D with c = `smoothing`, so none ever dies.
    doremi_update([.5, .5], [log 3, 0], smoothing=0) = [.75, .25]. A weight of 0 gets its c / D.
    ValueError if a weight is below 0 or no number, if all are 0, or if an excess is not finite.
    """
    w = np.asarray(weights, float)
    if not (w >= 0).all() or not w.any() or not np.isfinite(excess).all():
        raise ValueError(f"weights {weights} and excess {excess}: no weight below 0, not all 0, "
                         "and every excess finite")
    # exponentiated gradient, in logarithms, less the largest so that nothing overflows
    with np.errstate(divide="ignore"):            # log 0: its share stays 0 until the smoothing
        z = np.log(w) + step * np.maximum(np.asarray(excess, float), 0)
    w = np.exp(z - z.max())
    return (1 - smoothing) * w / w.sum() + smoothing / len(w)
