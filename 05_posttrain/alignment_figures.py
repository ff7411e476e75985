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


MARKS = {"0.05": "v", "0.2": "^"}
COLOURS = {"sft": "black", "dpo": "tab:red", "ppo": "tab:blue", "grpo": "tab:purple"}


def draw_frontier(rows: dict[str, dict], ppo: list[tuple[float, float]], path: Path) -> None:
    """Gold reward over sqrt(KL): best-of-n as a line, the trained policies as points, and PPO's
    own way there as a thin line (its answers while training, 64 an iteration: noisy)."""
    figure, axis = plt.subplots(figsize=(6, 4.2))
    best = sorted((r["kl"], r["gold"]) for name, r in rows.items() if name.startswith("best of"))
    axis.plot([k ** 0.5 for k, _ in best], [g for _, g in best], "o-", color="tab:green",
              label="best of n")
    axis.plot([max(k, 0) ** 0.5 for k, _ in ppo], [g for _, g in ppo], color="tab:blue",
              alpha=0.35, lw=1, label="PPO, while training")
    for name, row in rows.items():
        if not name.startswith("best of") and name != "base":
            axis.plot(max(row["kl"], 0) ** 0.5, row["gold"], "s", ms=8, label=name,
                      color=COLOURS.get(name.split()[0], "0.5"))
    axis.set(xlabel="sqrt(KL from SFT in nats per answer)", ylabel="gold reward",
             title="How much gold for how long a walk")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)
    save(figure, path)


def frontier_of_seeds(axis, runs: list[dict]) -> None:
    """Gold over sqrt(KL): best-of-n as a line, the trained policies as points, one set a seed."""
    named = set()
    for run in runs:
        best = sorted((r["kl"], r["gold"]) for n, r in run["rows"].items() if n.startswith("best"))
        axis.plot([k ** 0.5 for k, _ in best], [g for _, g in best], ".-", color="tab:green",
                  lw=1, label=None if "best" in named else "best of 1 to 16")
        named.add("best")
        for name, row in run["rows"].items():
            kind, _, beta = name.partition(" ")
            if kind in COLOURS:
                axis.plot(max(row["kl"], 0) ** 0.5, row["gold"], MARKS.get(beta, "s"), ms=6,
                          color=COLOURS[kind], label=None if name in named else
                          f"{kind.upper()}{', beta ' * bool(beta)}{beta}")
                named.add(name)
    axis.set(xlabel="sqrt(KL from SFT in nats per answer)", ylabel="gold reward",
             title=f"The same labels, {len(runs)} seeds")


def over_optimised(axis, traces: list[dict]) -> None:
    """Proxy and gold reward over sqrt(KL) of the runs without a KL price, one line per seed."""
    for i, run in enumerate(traces):
        x = np.sqrt(np.maximum(run["kl"], 0))
        for name, colour in (("proxy", "tab:blue"), ("gold", "tab:orange")):
            axis.plot(x, run[name], color=colour, alpha=0.8, lw=1.2,
                      label={"proxy": "proxy (64-pair reward model)", "gold": "gold"}[name]
                      if i == 0 else None)
    axis.set(xlabel="sqrt(KL from SFT in nats per answer)", ylabel="reward per answer",
             title=f"PPO without a KL price, {len(traces)} seeds")


def draw_center(runs: list[dict], path: Path) -> None:
    """The frontier of all seeds, and beside it what happens without a price for straying."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    frontier_of_seeds(axes[0], runs)
    over_optimised(axes[1], [run["traces"]["hacked"] for run in runs])
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.3)
    save(figure, path)


def draw_over_optimisation(traces: list[dict], path: Path) -> None:
    """`over_optimised` as a figure of its own."""
    figure, axis = plt.subplots(figsize=(6, 4.2))
    over_optimised(axis, traces)
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)
    save(figure, path)
