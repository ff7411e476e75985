"""Scaling laws: loss as a function of parameters N and training tokens D, fitted to real runs.

    python 03_scaling/power_laws.py runs.csv --bootstrap 1000

prints Chinchilla's three answers to "how large a model for this compute?", each with its 95 %
interval, for any csv of sizes, tokens (or FLOPs) and losses; --figure draws the residuals.
4,000 bootstraps of 240 points take about a minute. But: it believes what it is given. Runs with
an untuned learning rate, or stopped before their schedule ended, give a law of bad runs.

Letters: N parameters, D training tokens, C = 6 N D FLOPs, L loss in nats per token.
"""

from dataclasses import dataclass, field

import numpy as np

from artifacts import BadInput, CommandLine, command, out, shown, within, write_json
from isoflop import fit_isoflop
from log_lines import fit_envelope
from robust_fit import minimise
from run_checks import checked_runs, different_runs, spread_across
from run_table import load_points
from scaling_figures import draw_residuals


@dataclass(frozen=True)
class ParametricFit:
    """L(N, D) = E + A / N^alpha + B / (D + shift)^beta, and how sure we are (bootstrap `samples`).

    Published laws have no shift. It matters for runs of few tokens: a model that has read nothing
    is at ln V, not at infinity.
    """
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    cost: float = 0.0
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 5)), repr=False)
    shift: float = 0.0

    def __iter__(self):
        """E, A, B, alpha, beta = fit"""
        return iter((self.E, self.A, self.B, self.alpha, self.beta))

    def draws(self) -> list["ParametricFit"]:
        """One fit per bootstrap resample."""
        return [ParametricFit(*row, shift=self.shift) for row in self.samples]

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap interval of each constant (empty without bootstrap)."""
        if not len(self.samples):
            return {}
        low, high = np.percentile(self.samples, [2.5, 97.5], axis=0)
        return {name: (float(a), float(b))
                for name, a, b in zip(("E", "A", "B", "alpha", "beta"), low, high)}


def predict(fit: ParametricFit, N, D):
    """The law's loss at N parameters and D tokens, numbers or arrays that broadcast.

    With E 1.82, A 482, B 2085, alpha 0.348, beta 0.366: N = 70e9, D = 1.4e12 gives 1.97.
    """
    E, A, B, alpha, beta = fit
    if not (np.greater(N, 0).all() and np.add(D, fit.shift).min() > 0):
        raise ValueError("a model without parameters or without tokens has no loss")
    # An irreducible part, a part that more parameters reduce, and one that more tokens reduce.
    return E + A / np.asarray(N, float) ** alpha + B / (np.asarray(D, float) + fit.shift) ** beta


def log_law(theta: np.ndarray, log_N: np.ndarray, log_D: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Log of the law and its derivatives, for P sets of constants at once.

    theta (P, 5) = (a, b, e, alpha, beta) with A = exp(a), B = exp(b), E = exp(e), so that all
    three stay positive; log_N, log_D (n,) -> log L (P, n) and d log L / d theta (P, n, 5).
    log L = log-sum-exp(a - alpha log N, b - beta log D, e): Hoffmann et al. 2022, equation 11.
    """
    a, b, e, alpha, beta = (theta[:, i, None] for i in range(5))
    # (P, n) each: the logs of the three terms.
    terms = np.stack([a - alpha * log_N, b - beta * log_D, e + 0 * log_N])
    # The largest term is taken out first, so that no exponential overflows.
    top = terms.max(0)
    shares = np.exp(terms - top)
    total = shares.sum(0)
    shares = shares / total             # each term's share of the loss: also its derivative
    sN, sD, sE = shares
    slopes = np.stack([sN, sD, sE, -sN * log_N, -sD * log_D], axis=-1)
    return top + np.log(total), slopes


def start_grid() -> np.ndarray:
    """Starting points (a, b, e, alpha, beta): a coarser version of Hoffmann et al.'s grid."""
    axes = np.meshgrid([0, 5, 10, 15], [0, 5, 10, 15], [-0.5, 0.5, 1.0], [0.2, 0.5, 1.0],
                       [0.2, 0.5, 1.0], indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=-1)


def fit_parametric(N, D, L, bootstrap: int = 0, *, delta: float = 1e-3, seed: int = 0,
                   prior: tuple[np.ndarray, np.ndarray, float] | None = None) -> ParametricFit:
    """Fit L = E + A / N^alpha + B / D^beta to n runs: Chinchilla's approach 3.

    N, D, L (n,) -> ParametricFit. Minimises the sum of Huber losses (delta on log L) from a grid
    of starts, best one wins. `bootstrap` resamples the runs that many times for intervals.
    `prior` = (mean (5,), sd (5,), noise): beliefs about (a, b, e, alpha, beta), weighed against
    log-losses with this standard deviation; for sweeps too narrow to tell all five constants.
    Whoever holds beliefs also believes that more is never worse: alpha and beta stay above 0.01,
    in the resamples too, or a noisy sweep would have a resample without any best allocation.
    ValueError for fewer than 6 different runs (5 with a prior), all of one N or one D, a ladder on
    which D follows N (then N's share and D's cannot be told apart), values not finite and
    positive, losses that are all equal, a delta that is not above 0, or if the best law that fits
    does not fall with N and with D.
    Source: Hoffmann et al. 2022, section 3.3; refit by Besiroglu et al. 2024.
    """
    N, D, L = checked_runs(N=N, D=D, L=L)
    if not delta > 0 or bootstrap < 0:
        raise ValueError(f"delta is {delta:g} and bootstrap {bootstrap}: the Huber loss needs a "
                         "delta above 0, and resamples are 0 or more")
    log_N, log_D, log_L = np.log(N), np.log(D), np.log(L)
    check_that_runs_can_tell(log_N, log_D, 5 if prior else 6, beliefs=bool(prior))
    if np.ptp(log_L) == 0:
        raise ValueError("all runs have the same loss: nothing lowered it")

    def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slopes = log_law(theta, log_N, log_D)
        value = value - log_L
        if prior:                                   # beliefs count as five more measurements
            mean, sd, noise = prior
            value = np.concatenate([value, noise * (theta - mean) / sd], axis=1)
            rows = np.broadcast_to(np.diag(noise / sd), (len(theta), 5, 5))
            slopes = np.concatenate([slopes, rows], axis=1)
        return value, slopes

    n = len(N) + (5 if prior else 0)
    lowest = np.array([-np.inf] * 3 + [0.01 if prior else -np.inf] * 2)
    # Many starts, a few steps each; only the most promising are followed to the end.
    theta, cost = minimise(residuals, start_grid(), delta, np.ones(n), iterations=40,
                           lowest=lowest)
    promising = theta[np.argsort(cost)[:12]]
    theta, cost = minimise(residuals, promising, delta, np.ones(n), iterations=2000,
                           lowest=lowest)
    cost = np.where(np.isfinite(cost), cost, np.inf)    # argmin would take a NaN for the best
    best = theta[np.argmin(cost)]
    if not prior and not (best[3:] > 0).all():
        raise ValueError(f"the best fit has alpha {best[3]:.2g} and beta {best[4]:.2g}: by it the "
                         "loss does not fall with size and data. Vary N at fixed C")
    samples = np.zeros((0, 5))
    if bootstrap:
        # How often each run was drawn is its weight, so all resamples are one batch.
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(N), np.full(len(N), 1 / len(N)), size=bootstrap)
        weights = np.concatenate([drawn, np.ones((bootstrap, n - len(N)))], axis=1)
        again = np.concatenate([minimise(residuals, np.tile(best, (len(part), 1)), delta, part,
                                         lowest=lowest)[0]
                                for part in np.array_split(weights, -(-bootstrap // 250))])
        samples = constants(again)
    return ParametricFit(*map(float, constants(best)), cost=float(cost.min()), samples=samples)


def check_that_runs_can_tell(log_N: np.ndarray, log_D: np.ndarray, fewest: int, beliefs: bool
                             ) -> None:
    """ValueError, with the reason and the way out, for runs that no fit can learn a law from."""
    if len(log_N) >= fewest and min(len(np.unique(log_N)), len(np.unique(log_D))) < 2:
        raise ValueError("all runs have one size or one length: nothing can be told from them")
    if (found := different_runs(log_N, log_D)) < fewest:
        raise ValueError(f"{found} different runs cannot tell five constants: at least {fewest} "
                         "are needed (a second seed of a run is not a different run)")
    if not beliefs and spread_across(log_N, log_D) < 0.1:
        raise ValueError("N and D never vary apart (all runs lie on one line of log D against "
                         "log N, as on a ladder of D = 20 N): which of the two lowered the loss "
                         "cannot be known. Vary N at fixed C = 6 N D, at two budgets or more")


def constants(theta: np.ndarray) -> np.ndarray:
    """(..., 5) of (a, b, e, alpha, beta) -> (..., 5) of (E, A, B, alpha, beta)."""
    a, b, e, alpha, beta = np.moveaxis(np.asarray(theta), -1, 0)
    return np.stack([np.exp(e), np.exp(a), np.exp(b), alpha, beta], axis=-1)


def optimal_allocation(fit: ParametricFit, C):
    """The N and D of lowest loss with 6 N D = C, in closed form; C a number or an array, and so
    may the fit's constants be (bootstrap samples).

    N = G (C/6)^(beta/(alpha+beta)), D = (C/6)^(alpha/(alpha+beta)) / G,
    G = (alpha A / (beta B))^(1/(alpha+beta)). A shift is left out: D should be large beside it.
    ValueError unless alpha, beta, A, B and every C are finite and above zero.
    Source: Hoffmann et al. 2022, equation 4.
    """
    _, A, B, alpha, beta = fit
    if not all(np.all(np.greater(x, 0) & np.isfinite(x))
               for x in (alpha, beta, A, B, np.asarray(C, float))):
        raise ValueError(f"a law with alpha {alpha}, beta {beta}, A {A}, B {B} has no best "
                         f"allocation of {C} FLOPs: all five must be finite and positive")
    # Where one more per cent of N gains as much as one more per cent of D.
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    products = np.asarray(C, float) / 6     # N D: the two shares of it multiply back to it
    return G * products ** (beta / (alpha + beta)), products ** (alpha / (alpha + beta)) / G


def report(fit: ParametricFit, N: np.ndarray, D: np.ndarray, L: np.ndarray, bootstrap: int,
           seed: int = 0) -> str:
    """The three approaches side by side, as text."""
    lines = [f"{len(N)} runs: L = {fit.E:.4g} + {fit.A:.4g}/N^{fit.alpha:.3f} + "
             f"{fit.B:.5g}/D^{fit.beta:.3f}"]
    errors = fit.samples.std(axis=0) if bootstrap else np.full(5, np.nan)
    for name, error in zip(("E", "A", "B", "alpha", "beta"), errors):
        low, high = fit.intervals.get(name, (np.nan, np.nan))
        lines.append(f"  {name:6s}{getattr(fit, name):10.4g}   standard error {error:8.3g}   "
                     f"95 % interval [{low:.4g}, {high:.4g}]")
    share = fit.samples[:, 4] / (fit.samples[:, 3] + fit.samples[:, 4]) if bootstrap else [np.nan]
    ways = [("3 parametric", fit.beta / (fit.alpha + fit.beta), np.percentile(share, [2.5, 97.5]))]
    for name, way in (("1 envelope", lambda: fit_envelope(N, D, L, bootstrap, seed)),
                      ("2 isoFLOP", lambda: fit_isoflop(6 * N * D, N, L, bootstrap, seed).law)):
        try:
            law = way()
            ways.insert(len(ways) - 1, (name, law.exponent, law.exponent_interval))
        except ValueError as why:
            lines.append(f"  approach {name}: {why}")
    lines += [f"  approach {name:13s} N_opt ~ C^{value:.3f}  [{low:.3f}, {high:.3f}]"
              for name, value, (low, high) in ways]
    return "\n".join(lines)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("csv", nargs="?", default=out("03_scaling", "runs.csv"),
                        help="columns for N, D or FLOPs, and loss")
    parser.add_argument("--drop-worst", type=within(int, low=0), default=0,
                        help="leave out the highest losses")
    parser.add_argument("--bootstrap", type=within(int, low=0), default=1000,
                        help="resamplings for the intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="write a residual plot to this .png")
    parser.add_argument("--save", help="write constants, intervals, 200 samples to this .json")
    args = parser.parse_args()
    N, D, L = load_points(args.csv, fewest=6 + args.drop_worst)
    keep = np.argsort(L, kind="stable")[:len(L) - args.drop_worst]
    N, D, L = N[keep], D[keep], L[keep]
    try:
        fit = fit_parametric(N, D, L, args.bootstrap, seed=args.seed)
    except ValueError as why:
        raise BadInput(f"{shown(args.csv)}: {why}") from why
    print(report(fit, N, D, L, args.bootstrap, args.seed))
    if args.figure:
        draw_residuals(args.figure, predict(fit, N, D), N, D, L)
    if args.save:
        thin = fit.samples[::max(1, len(fit.samples) // 200)][:200]
        write_json(args.save, {"constants": list(map(float, fit)), "runs": len(L),
                               "intervals": fit.intervals,
                               "standard_errors": fit.samples.std(axis=0).tolist(),
                               "samples": [[float(f"{v:.6g}") for v in row] for row in thin]})


if __name__ == "__main__":
    command(main)
