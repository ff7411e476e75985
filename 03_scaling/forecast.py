"""From a sweep's runs to a forecast: the law of our own recipe, and how far to trust it.

    python 03_scaling/forecast.py                       the recorded sweep, at once
    python 03_scaling/forecast.py out/03_scaling/runs.csv

prints the laws of a sweep and how well its smaller budgets forecast its largest one. In code:
`forecast(fit_laws(N, D, L, budgets), N=3e6, D=4e6)` gives {"loss", "low", "high", "level"}.

A small sweep cannot tell all five constants of L = E + A/N^alpha + B/D^beta apart, so the fit
starts from beliefs (`PRIOR`: exponents near those published for large models, within 0.1 or 0.3)
which the runs then move. And the law has D + shift for D: at D = 0 a model is at ln V, not at
infinity, and runs of 100,000 tokens still feel that. Nothing is ever fitted on the run that is
forecast.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from artifacts import BadInput, CommandLine, command, within
from data_limited import HALF_LIFE, limited_loss
from isoflop import fit_isoflop, group_budgets
from log_lines import fit_envelope
from power_laws import ParametricFit, fit_parametric, optimal_allocation, predict
from run_table import load_points, read_rows

# (a, b, e, alpha, beta): logs of A, B and E, then the exponents. A and B are left free. E is
# far below anything seen here: half a bit per byte of documentation, 1 nat per token.
PRIOR_MEAN = np.array([5.0, 5.0, math.log(1.0), 0.35, 0.35])
PRIOR_SD = np.array([10.0, 10.0, 0.20, 0.30, 0.10])
# The shift of D, in units of the shortest run's tokens.
SHIFTS, SHIFT_MEAN, SHIFT_SD = (0.05, 0.08, 0.125, 0.2, 0.32, 0.5, 0.8, 1.25, 2.0), 0.4, 1.0
NOISE = 0.006               # of a run's log loss: seeds, and how well any such law can fit
DELTA = 0.02                # beyond it a run counts as an outlier
LEVEL = 0.9
RECORDED = Path(__file__).parent / "recorded" / "runs.csv"


def fit_law(N, D, L, bootstrap: int = 0, seed: int = 0) -> ParametricFit:
    """The parametric law of a small sweep, with the beliefs above; its shift by trying a few."""
    def fit(share: float, resamples: int = 0) -> tuple[float, ParametricFit]:
        shift = share * float(np.min(D))
        law = fit_parametric(N, np.asarray(D) + shift, L, resamples, delta=DELTA, seed=seed,
                             prior=(PRIOR_MEAN, PRIOR_SD, NOISE))
        doubt = NOISE * math.log(share / SHIFT_MEAN) / SHIFT_SD
        return law.cost + doubt * doubt / 2, replace(law, shift=shift)

    best = min(SHIFTS, key=lambda share: fit(share)[0])
    return fit(best, bootstrap)[1]


def held_out_errors(N, D, L, budgets) -> dict | None:
    """Forecast the runs of the largest budget from all smaller ones, and compare.

    Gives {"errors": relative, signed, per run, "rms", "step": log of the factor between the
    largest budget and the next}, or None if too few runs are left to fit.
    """
    budgets = np.asarray(budgets, float)
    groups = group_budgets(budgets)
    last = groups[-1]
    rest = np.setdiff1d(np.arange(len(L)), last)
    if len(groups) < 2 or len(rest) < 5:
        return None
    law = fit_law(N[rest], D[rest], L[rest])
    errors = predict(law, N[last], D[last]) / L[last] - 1
    step = math.log(budgets[last].mean() / budgets[groups[-2]].mean())
    return {"errors": errors.tolist(), "rms": float(np.sqrt((errors ** 2).mean())), "step": step,
            "runs": last.tolist()}


def fit_laws(N, D, L, budgets, bootstrap: int = 400, seed: int = 0) -> dict:
    """All laws of a sweep as plain values (laws.json): see the keys. L in nats per token."""
    N, D, L = (np.asarray(x, float) for x in (N, D, L))
    fit = fit_law(N, D, L, bootstrap, seed)
    residuals = np.log(predict(fit, N, D)) - np.log(L)
    freedom = max(1, len(L) - 5)
    laws = {"parametric": dict(zip(("E", "A", "B", "alpha", "beta"), map(float, fit)))
            | {"shift": fit.shift},
            "intervals": fit.intervals, "samples": fit.samples.tolist(),
            "residual": float(np.sqrt((residuals ** 2).sum() / freedom)),
            "largest_flops": float(np.max(6 * N * D)),
            "held_out": held_out_errors(N, D, L, budgets),
            "exponents": {"parametric": interval_of(fit)}}
    for name, way in (("isoflop", lambda: fit_isoflop(budgets, N, L, bootstrap, seed)),
                      ("envelope", lambda: fit_envelope(N, D, L, bootstrap, seed))):
        try:
            found = way()
        except ValueError as why:
            laws["exponents"][name] = {"why": str(why)}
            continue
        law = getattr(found, "law", found)
        laws["exponents"][name] = {"exponent": law.exponent, "interval": law.exponent_interval,
                                   "constant": law.constant}
        if name == "isoflop":
            laws["isoflop"] = {"budgets": found.budgets.tolist(), "N_opt": found.N_opt.tolist(),
                               "L_opt": found.L_opt.tolist(), "curves": found.curves.tolist()}
    return laws


def interval_of(fit: ParametricFit) -> dict:
    """The exponent of N_opt against C by the parametric law, with its 95 % interval."""
    share = fit.samples[:, 4] / (fit.samples[:, 3] + fit.samples[:, 4])
    low, high = np.percentile(share, [2.5, 97.5]) if len(share) else (math.nan, math.nan)
    return {"exponent": fit.beta / (fit.alpha + fit.beta), "interval": [float(low), float(high)],
            "constant": float(optimal_allocation(fit, 6.0)[0])}


def law_of(laws: dict) -> ParametricFit:
    """The parametric law in laws.json, with its bootstrap samples."""
    return ParametricFit(**laws["parametric"], samples=np.array(laws["samples"]).reshape(-1, 5))


def forecast(laws: dict, N: float, D: float, unique: float = math.inf, offset: float = 1.0
             ) -> dict:
    """The loss of a run of N parameters and D tokens, written down before it: nats per token.

    `unique`: different tokens at hand, what reading them again is worth follows from the laws'
    "half_life", measured or published; `offset`: loss on all held-out text over loss on the part
    of it that the sweep measured. The 90 % interval joins three doubts about the log loss: other
    runs could have been drawn (bootstrap), runs scatter around any law (residuals), and a law
    that erred by so much one budget ahead errs by more several budgets ahead (held-out runs).
    """
    fit = law_of(laws)
    stale = min(unique, 1e300), laws.get("half_life", HALF_LIFE)
    loss = float(limited_loss(fit, N, D, *stale)) * offset
    drawn = [math.log(limited_loss(f, N, D, *stale)) for f in fit.draws()]
    doubts = [float(np.std(drawn)) if drawn else 0.0, laws["residual"]]
    # A sweep too small to hold runs out has no smaller doubt than the larger ones have shown.
    held_out = laws.get("held_out") or {"rms": 0.02, "step": math.log(3)}
    ahead = max(0.0, math.log(6 * N * D / laws["largest_flops"]))
    doubts.append(held_out["rms"] * max(1.0, ahead / held_out["step"]))
    half = 1.645 * math.sqrt(sum(d * d for d in doubts))
    return {"loss": loss, "low": loss * math.exp(-half), "high": loss * math.exp(half),
            "level": LEVEL, "doubts": dict(zip(("bootstrap", "residual", "extrapolation"), doubts))}


def summary(laws: dict, runs: int) -> str:
    """The laws in a few lines."""
    p = laws["parametric"]
    lines = [f"{runs} runs: L = {p['E']:.2f} + {p['A']:.3g}/N^{p['alpha']:.3f} + "
             f"{p['B']:.3g}/(D + {p.get('shift', 0):.2g})^{p['beta']:.3f}, "
             f"runs scatter by {laws['residual']:.2%}"]
    for name, found in laws["exponents"].items():
        if "why" in found:
            lines.append(f"  {name}: {found['why']}")
        else:
            low, high = found["interval"]
            lines.append(f"  {name}: N_opt ~ C^{found['exponent']:.2f} [{low:.2f}, {high:.2f}]")
    if laws["held_out"]:
        lines.append(f"  the largest budget, forecast from the smaller ones: off by "
                     f"{laws['held_out']['rms']:.1%} (rms)")
    return "\n".join(lines)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("csv", nargs="?", type=Path, default=RECORDED, help="runs of a sweep")
    parser.add_argument("--bootstrap", type=within(int, low=0), default=400,
                        help="resamples for intervals")
    parser.add_argument("--figure", help="draw the parabolas into this .png")
    args = parser.parse_args()
    N, D, L = load_points(args.csv, fewest=5)
    rows = [row for row in read_rows(args.csv) if row.get("family") != "repeat"]
    budgets = [float(row.get("budget_flops") or 6 * n * d) for row, n, d in zip(rows, N, D)]
    try:
        laws = fit_laws(N, D, L, budgets, args.bootstrap)
    except ValueError as why:
        raise BadInput(f"{args.csv}: {why}") from why
    print(summary(laws, len(rows)))
    if args.figure:
        from scaling_figures import draw_isoflop
        draw_isoflop(args.figure, laws, budgets, N, L)
    held_out = laws["held_out"] or {"runs": [], "errors": []}
    for run, error in zip(held_out["runs"], held_out["errors"]):
        print(f"    N = {N[run]:,.0f}, D = {D[run]:,.0f}: measured {L[run]:.3f}, forecast "
              f"{L[run] * (1 + error):.3f} ({error:+.1%})")


if __name__ == "__main__":
    command(main)
