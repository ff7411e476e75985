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
        if i > 3:
            small.set_xlabel("iteration", fontsize=7)
    figure.tight_layout()
    save(figure, path)


COLOURS = {"sft": "black", "best": "tab:green", "dpo": "tab:red", "ppo": "tab:blue",
           "grpo": "tab:purple", "reinforce": "tab:cyan", "rft": "tab:orange",
           "rft_random": "tab:brown"}
MARKS = {"dpo 0.05": "v", "dpo 0.2": "^", "rft": "D", "rft_random": "X"}
NAMES = {"reinforce": "REINFORCE (RLOO)", "rft": "best of k, imitated",
         "rft_random": "random ones, imitated"}
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
    # Each point is the mean of the last five iterations, of fewer at the start.
    way = np.array([np.mean(ppo[max(0, i - 4):i + 1], axis=0) for i in range(len(ppo))]).T
    axis.plot(distance(way[0]), way[1], color=COLOURS["ppo"], alpha=0.4, lw=1.2,
              label="PPO, while training\n(its training questions)")
    frontier_of_seeds(axis, [{"rows": rows}])
    tidy(axis, xlabel=FAR, ylabel="gold reward", title="How much gold for how long a walk")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
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
                  label=NAMES.get(kind, kind.upper()) + (f", beta {beta}" if beta else ""), **look)


def over_optimised(axes, traces: list[dict]) -> None:
    """Proxy and gold reward of the runs without a KL price, and their KL in the axis below, over
    iterations: each seed thin, the mean of the seeds thick. KL is no x axis: it goes back too."""
    x = np.arange(1, 1 + min(len(run["kl"]) for run in traces))
    for axis, name, colour, label in (
            (axes[0], "proxy", "tab:blue", "what it is paid (proxy)"),
            (axes[0], "gold", "tab:orange", "what it is worth (gold)"),
            (axes[1], "kl", "0.3", None)):
        runs = np.array([run[name][:len(x)] for run in traces])
        for values in runs if len(runs) > 1 else []:
            axis.plot(x, values, color=colour, alpha=0.35, lw=1)
        axis.plot(x, runs.mean(0), color=colour, lw=2, label=label)
    seeds = f"{len(traces)} seeds" if len(traces) > 1 else "one seed"
    tidy(axes[0], ylabel="reward per answer", title=f"PPO without a KL price, {seeds}")
    tidy(axes[1], xlabel="iteration", ylabel="KL (nats)")
    axes[0].tick_params(labelbottom=False)
    axes[0].legend(fontsize=8, loc="lower left", framealpha=0.9)


def draw_center(runs: list[dict], path: Path) -> None:
    """The frontier of all seeds, and beside it what happens without a price for straying."""
    figure = plt.figure(figsize=(11, 4.4))
    grid = figure.add_gridspec(3, 2, wspace=0.22)
    left = figure.add_subplot(grid[:, 0])
    frontier_of_seeds(left, runs)
    seeds = f"{len(runs)} seeds and their mean" if len(runs) > 1 else "one seed"
    tidy(left, xlabel=FAR, ylabel="gold reward per answer", title=f"The same labels, {seeds}")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    over_optimised([figure.add_subplot(grid[:2, 1]), figure.add_subplot(grid[2, 1])],
                   [run["traces"]["hacked"] for run in runs])
    save(figure, path)


def draw_over_optimisation(traces: list[dict], path: Path) -> None:
    """`over_optimised` as a figure of its own."""
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.4), height_ratios=(2, 1))
    over_optimised(axes, traces)
    save(figure, path)
