"""The chapter's figures: isoFLOP parabolas, the parametric law, residuals, and the forecast.

Each function writes one .png from plain arrays; nothing is computed here that is not drawn.
"""

from pathlib import Path
from typing import Callable

import numpy as np


def _axes(wide: float = 6.4, high: float = 4.2, panels: int = 1):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, panels, figsize=(wide * panels, high), dpi=150)
    for axis in np.atleast_1d(axes):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path | str) -> None:
    import matplotlib.pyplot as plt
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    # No date and no version inside: the same numbers give the same bytes.
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _legend(axis, **options) -> None:
    """A legend right of the picture, where no point and no line can lie under it."""
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)


def _colours(count: int):
    import matplotlib
    return matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, max(1, count)))


def draw_isoflop(path: Path | str, laws: dict, budgets, N, L) -> None:
    """Loss against parameters, one parabola per budget, minima joined."""
    figure, axis = _axes()
    budgets, N, L = (np.asarray(x, float) for x in (budgets, N, L))
    iso = laws.get("isoflop", {"budgets": [], "curves": [], "N_opt": [], "L_opt": []})
    unique = sorted(set(budgets))
    for colour, budget in zip(_colours(len(unique)), unique):
        mine = budgets == budget
        axis.plot(N[mine], L[mine], "o", color=colour, label=f"{budget:.1e} FLOPs")
        for fitted, curve in zip(iso["budgets"], iso["curves"]):
            if abs(np.log(fitted / budget)) < 0.1:
                x = np.linspace(np.log(N[mine].min()) - 0.2, np.log(N[mine].max()) + 0.2, 60)
                axis.plot(np.exp(x), np.polyval(curve, x), color=colour)
    # A minimum left or right of all sizes tried is a guess of the parabola: a hollow star.
    tried = [N[abs(np.log(budgets / C)) < 0.1] for C in iso["budgets"]]
    seen = [sizes.min() <= n <= sizes.max() for sizes, n in zip(tried, iso["N_opt"])]
    axis.plot(iso["N_opt"], iso["L_opt"], "k--", lw=1)
    for n, L_best, inside in zip(iso["N_opt"], iso["L_opt"], seen):
        axis.plot(n, L_best, "k*", ms=10, mfc="k" if inside else "w")
    axis.set(xscale="log", xlabel="parameters N that a token is multiplied with",
             ylabel="held-out loss (nats per token)",
             title=f"IsoFLOP curves: {sum(seen)} of {len(unique)} budgets show their best size")
    axis.legend(fontsize=8)
    _save(figure, path)


def draw_parametric(path: Path | str, fit, predicted: Callable, N, D, L) -> None:
    """Measured against fitted loss over tokens, one curve per model size; `predicted(N, D)` is the
    loss by the law `fit`, whose constants stand in the title."""
    figure, axis = _axes(7.6)
    N, D, L = (np.asarray(x, float) for x in (N, D, L))
    sizes = sorted(set(N))
    grid = np.geomspace(D.min() * 0.8, D.max() * 3, 80)
    for colour, size in zip(_colours(len(sizes)), sizes):
        axis.plot(grid, predicted(size, grid), color=colour, lw=1)
        axis.plot(D[N == size], L[N == size], "o", color=colour, label=f"N = {size:,.0f}")
    axis.set(xscale="log", xlabel="training tokens D", ylabel="held-out loss (nats per token)",
             title=f"L = {fit.E:.2f} + {fit.A:.3g}/N^{fit.alpha:.2f} + "
                   f"{fit.B:.3g}/{f'(D + {fit.shift:.2g})' if fit.shift else 'D'}^{fit.beta:.2f}")
    _legend(axis)
    _save(figure, path)


def draw_residuals(path: Path | str, predicted, N, D, L) -> None:
    """How far each run's loss lies from the predicted one, in per cent, over N and over D."""
    figure, axes = _axes(5, 3.6, panels=2)
    error = 100 * (np.asarray(L) / predicted - 1)
    for axis, x, name in zip(axes, (N, D), ("parameters N", "training tokens D")):
        axis.axhline(0, color="k", lw=1)
        axis.plot(x, error, "o", ms=3, alpha=0.6)
        axis.set(xscale="log", xlabel=name, ylabel="loss above the law (%)")
    _save(figure, path)


def draw_forecast(path: Path | str, best: Callable, budgets, L, C: float, planned: dict,
                  truth: float | None = None) -> None:
    """The sweep's runs over compute, the law's frontier `best(FLOPs)`, and the forecast run with
    its interval."""
    figure, axis = _axes()
    compute = np.geomspace(min(budgets) * 0.7, C * 1.6, 100)
    axis.plot(compute, best(compute), color="tab:blue",
              label="the law's best for each budget")
    axis.plot(budgets, L, "o", color="0.5", ms=4, label="runs of the sweep")
    down, up = planned["loss"] - planned["low"], planned["high"] - planned["loss"]
    axis.errorbar([C], [planned["loss"]], [[down], [up]], fmt="s", color="tab:red", capsize=4,
                  label=f"forecast {planned['loss']:.3f} [{planned['low']:.3f}, "
                        f"{planned['high']:.3f}]")
    if truth is not None:
        axis.plot([C], [truth], "k*", ms=12, label=f"measured {truth:.3f}")
    axis.set(xscale="log", xlabel="training FLOPs", ylabel="held-out loss (nats per token)",
             title="The forecast, written down before training")
    axis.legend(fontsize=8)
    _save(figure, path)


def draw_rivals(path: Path | str, found: dict) -> None:
    """Loss against size for both families, and their losses by position in the context."""
    figure, (left, right) = _axes(5, 3.8, panels=2)
    for family, colour, name in (("gpt", "tab:blue", "transformer"),
                                 ("lstm", "tab:orange", "LSTM")):
        for size, losses in found["losses"][family].items():
            left.plot([size] * len(losses), losses, "o", ms=4, color=colour)
        sizes = np.array(sorted(found["losses"][family]))
        left.plot(sizes, found[family](sizes), color=colour,
                  label=f"{name}: N^{found[family].exponent:.3f}")
    left.set(xscale="log", xlabel="parameters without embeddings",
             ylabel="held-out loss (nats per byte)")
    left.legend(fontsize=8)
    for family, colour in (("gpt", "tab:blue"), ("lstm", "tab:orange")):
        edges = [tuple(map(int, name.split("_"))) for name in found["positions"][family]]
        right.plot([((a + 1) * b) ** 0.5 for a, b in edges], found["positions"][family].values(),
                   "o-", color=colour)
    right.set(xscale="log", xlabel="position in the context (bytes)",
              ylabel="loss there, largest size")
    _save(figure, path)


def draw_rates(path: Path | str, found: dict) -> None:
    """Loss against learning rate, one curve per width, each optimum marked."""
    figure, axis = _axes(7.4)
    for colour, (width, curve) in zip(_colours(len(found["curves"])), found["curves"].items()):
        rates, losses = zip(*curve)
        axis.plot(rates, losses, "o-", color=colour, label=f"width {width}")
        axis.axvline(found["optimum"][width], color=colour, ls=":", lw=1)
    axis.axvline(found["predicted"], color="tab:red", lw=1,
                 label=f"predicted\nfor width {found['largest']}")
    axis.set(xscale="log", xlabel="peak learning rate (Muon)",
             ylabel="held-out loss (nats per token)")
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.minorticks_off()
    _legend(axis)
    _save(figure, path)
