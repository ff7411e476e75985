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


def draw_frontier(rows: dict[str, dict], ppo: list[tuple[float, float]], path: Path,
                  hacked: list[dict] | None = None) -> None:
    """Gold reward over sqrt(KL): best-of-n as a line, the trained policies as points, PPO's own
    way as a thin line, and beside it, if given, the over-optimised runs (proxy and gold)."""
    figure, axes = plt.subplots(1, 2 if hacked else 1, figsize=(10 if hacked else 6, 4.2),
                                squeeze=False)
    axis = axes[0, 0]
    best = sorted((r["kl"], r["gold"]) for name, r in rows.items() if name.startswith("best of"))
    axis.plot([k ** 0.5 for k, _ in best], [g for _, g in best], "o-", color="tab:green",
              label="best of n")
    if ppo:
        axis.plot([max(k, 0) ** 0.5 for k, _ in ppo], [g for _, g in ppo], color="tab:blue",
                  alpha=0.35, lw=1, label="PPO, while training")
    for name, row in rows.items():
        if not name.startswith("best of") and name != "base":
            axis.plot(max(row["kl"], 0) ** 0.5, row["gold"], "s", label=name)
    axis.set(xlabel="sqrt(KL from SFT in nats per answer)", ylabel="gold reward",
             title="How much gold for how long a walk")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)
    for run in hacked or []:
        x = np.sqrt(np.maximum(run["kl"], 0))
        axes[0, 1].plot(x, run["proxy"], color="tab:blue", alpha=0.7)
        axes[0, 1].plot(x, run["gold"], color="tab:orange", alpha=0.7)
    if hacked:
        axes[0, 1].set(xlabel="sqrt(KL from SFT in nats per answer)", ylabel="reward",
                       title="No KL price, 64 pairs: proxy (blue) up, gold (orange) down")
        axes[0, 1].grid(alpha=0.3)
    figure.tight_layout()
    save(figure, path)
