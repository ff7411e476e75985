"""The figures of chapter 5: PPO's diagnostics, and gold reward over distance walked."""

from pathlib import Path

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from artifacts import whole  # noqa: E402

PANELS = (("kl", "KL from SFT\n(nats per answer)"), ("entropy", "entropy\n(nats per token)"),
          ("clip_fraction", "clip fraction"), ("explained_variance", "explained\nvariance"),
          ("length", "tokens per answer"), ("end_rate", "share that ends"))


def save(figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, and close it."""
    with whole(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)


def draw_diagnostics(log: list[dict], gold: list[float], path: Path) -> None:
    """Proxy and gold reward in one panel, six gauges beside it, over PPO's iterations."""
    x = [line["iteration"] for line in log]
    figure = plt.figure(figsize=(11, 5))
    grid = figure.add_gridspec(3, 4)
    axis = figure.add_subplot(grid[:, :2])
    axis.plot(x, [line["reward"] for line in log], color="tab:blue", label="proxy (reward model)")
    axis.plot(x, gold[:len(x)], color="tab:orange", label="gold (never seen)")
    axis.set(xlabel="iteration", ylabel="reward per answer",
             title="What PPO is paid for, and what it should have been")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    for i, (name, label) in enumerate(PANELS):
        small = figure.add_subplot(grid[i // 2, 2 + i % 2])
        small.plot(x, [line[name] for line in log], color="0.2", lw=1)
        small.set_ylabel(label, fontsize=7)
        small.tick_params(labelsize=7)
        small.grid(alpha=0.3)
    figure.tight_layout()
    save(figure, path)


COLOURS = {"sft": "black", "best": "tab:green", "dpo": "tab:red", "ppo": "tab:blue",
           "grpo": "tab:purple"}
MARKS = {"dpo 0.05": "v", "dpo 0.2": "^"}
FAR = "distance from SFT: sqrt(KL in nats per answer)"


def distance(kl: float | list[float]) -> np.ndarray:
    """sqrt(KL), 0 where an estimate from samples fell below 0."""
    return np.sqrt(np.maximum(kl, 0))


def tidy(axis, **labels: str) -> None:
    """Labels, a faint grid and no box around an axis."""
    axis.set(**labels)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def draw_frontier(rows: dict[str, dict], ppo: list[tuple[float, float]], path: Path) -> None:
    """Gold reward over sqrt(KL) of one run: best-of-n as a line, the trained policies as points,
    and PPO's own way there (means of 64 answers, five iterations together)."""
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    way = [np.convolve(values, np.ones(5) / 5, mode="valid") for values in zip(*ppo)] \
        if len(ppo) > 5 else [np.array(values) for values in zip(*ppo)]
    axis.plot(distance(way[0]), way[1], color=COLOURS["ppo"], alpha=0.4, lw=1.2,
              label="PPO, while training")
    frontier_of_seeds(axis, [{"rows": rows}])
    tidy(axis, xlabel=FAR, ylabel="gold reward", title="How much gold for how long a walk")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    save(figure, path)


def frontier_of_seeds(axis, runs: list[dict]) -> None:
    """Gold over sqrt(KL): best-of-n as a line, the policies as points: the mean of the seeds
    large, each seed small."""
    def places(name: str) -> np.ndarray:                    # (2, seeds)
        return np.array([(distance(r["rows"][name]["kl"]), r["rows"][name]["gold"])
                         for r in runs]).T
    names = [name for name in runs[0]["rows"] if name != "base"]
    best = sorted((name for name in names if name.startswith("best")),
                  key=lambda name: runs[0]["rows"][name]["kl"])
    if best:
        line = np.array([places(name).mean(1) for name in best]).T
        axis.plot(*line, "o-", color=COLOURS["best"], ms=4,
                  label=f"best of 1 to {best[-1].split()[-1]}")
    for name in (name for name in names if name not in best):
        kind, _, beta = name.partition(" ")
        look = {"color": COLOURS.get(kind, "0.5"), "marker": MARKS.get(name, "s"), "ls": ""}
        if len(runs) > 1:
            axis.plot(*places(name), ms=4, alpha=0.45, mew=0, **look)
        axis.plot(*places(name).mean(1), ms=9, mec="white",
                  label=f"{kind.upper()}{f', beta {beta}' if beta else ''}", **look)


def over_optimised(axis, traces: list[dict]) -> None:
    """Proxy and gold reward over sqrt(KL) of the runs without a KL price: each seed thin, and the
    mean of the seeds at equal distance, as far as all of them went."""
    def smooth(values: list[float]) -> np.ndarray:
        return np.convolve(values, np.ones(3) / 3, mode="valid") if len(values) > 4 \
            else np.array(values)
    # A policy never walks back for long: the farthest point so far keeps the order of the walk.
    ways = [np.maximum.accumulate(distance(smooth(run["kl"]))) for run in traces]
    common = np.linspace(max(way[0] for way in ways), min(way[-1] for way in ways), 40)
    for name, colour, label in (("proxy", "tab:blue", "what it is paid (64-pair reward model)"),
                                ("gold", "tab:orange", "what it is worth (gold)")):
        values = [smooth(run[name]) for run in traces]
        for way, value in zip(ways, values):
            axis.plot(way, value, color=colour, alpha=0.35, lw=1)
        mean = np.mean([np.interp(common, *pair) for pair in zip(ways, values)], axis=0)
        axis.plot(common, mean, color=colour, lw=2.5, label=label)
    tidy(axis, xlabel=FAR, ylabel="proxy in spreads of SFT, gold in points",
         title=f"PPO without a KL price, {len(traces)} seeds")
    axis.legend(frameon=False, fontsize=8)


def draw_center(runs: list[dict], path: Path) -> None:
    """The frontier of all seeds, and beside it what happens without a price for straying."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    frontier_of_seeds(axes[0], runs)
    tidy(axes[0], xlabel=FAR, ylabel="gold reward per answer",
         title=f"The same labels, {len(runs)} seeds and their mean")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    over_optimised(axes[1], [run["traces"]["hacked"] for run in runs])
    figure.tight_layout(w_pad=3)
    save(figure, path)


def draw_over_optimisation(traces: list[dict], path: Path) -> None:
    """`over_optimised` as a figure of its own."""
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    over_optimised(axis, traces)
    save(figure, path)
