"""One figure for each table of benchmark.py.

    FIGURES["zero"](result, "out/07_systems/zero.png")
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt                         # noqa: E402

KINDS = {"weights": "#4477aa", "gradients": "#66ccee", "optimizer": "#ccbb44",
         "activations": "#ee6677"}


def _bars(axes, labels: list[str], rows: list[dict], kinds, unit: float) -> None:
    bottom = [0.0] * len(rows)
    for kind in kinds:
        heights = [row[kind] / unit for row in rows]
        axes.bar(labels, heights, bottom=bottom, label=kind, color=KINDS[kind], width=0.6)
        bottom = [b + h for b, h in zip(bottom, heights)]
    for x, total in enumerate(bottom):
        axes.annotate(f"{total:.3g}", (x, total), ha="center", va="bottom", fontsize=8)
    axes.set_ylim(0, 1.28 * max(bottom))                # the legend has a strip of its own
    axes.legend(fontsize=7, loc="upper left", ncols=len(kinds), columnspacing=1)


def _save(figure, path: Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def memory_figure(result: dict, path: Path) -> None:
    """7B by precision."""
    from memory import bytes_by_kind
    names = list(result["seven_billion"])
    figure, axes = plt.subplots(figsize=(6, 3.6))
    _bars(axes, names, [bytes_by_kind(7_000_000_000, n) for n in names], list(KINDS)[:3], 1e9)
    axes.axhline(80, color="black", linestyle=":", linewidth=1)
    axes.annotate("one 80 GB GPU", (len(names) - 1.45, 82), fontsize=8)
    axes.set(ylabel="GB (no activations)", title="Training 7 billion parameters with AdamW")
    _save(figure, path)


def precision_figure(result: dict, path: Path) -> None:
    """Bytes by kind and time, by way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    names = [row["way"].replace(" ", "\n") for row in result["rows"]]
    _bars(left, names, [row["bytes"] for row in result["rows"]], KINDS, 1e6)
    left.set(ylabel="MB", title="Memory by kind")
    first = result["rows"][0]["seconds_per_step"]
    right.bar(names, [row["seconds_per_step"] / first for row in result["rows"]], color="#4477aa")
    right.set(ylabel="time of a step, fp32 = 1 (log)", yscale="log", title="Time")
    _save(figure, path)


def attention_figure(result: dict, path: Path) -> None:
    """Bytes kept for backward over length; beside it the speed on a GPU, where it was measured."""
    gpu = result.get("gpu")
    figure, panels = plt.subplots(1, 2 if gpu else 1, figsize=(11 if gpu else 6, 3.6),
                                  squeeze=False)
    axes, lengths = panels[0][0], [row["T"] for row in result["rows"]]
    for name, colour in (("naive", "#ee6677"), ("tiled", "#4477aa")):
        axes.plot(lengths, [row[f"{name}_bytes"] / 1e6 for row in result["rows"]], "o-",
                  color=colour, label=f"{name}: grows with {'T²' if name == 'naive' else 'T'}")
    axes.set(xscale="log", yscale="log", xlabel="sequence length T", ylabel="MB kept for backward",
             title="What attention keeps (2 heads of size 32)")
    axes.legend(fontsize=8)
    if gpu:
        _speed_panel(panels[0][1], gpu)
    _save(figure, path)


def _speed_panel(axes, gpu: dict) -> None:
    rows = sorted((r for r in gpu["rows"] if r["head"] == 128), key=lambda r: r["length"])
    for name, colour in (("ours", "#4477aa"), ("FlashAttention-2", "#ee6677"),
                         ("cuDNN", "#ccbb44")):
        for way, line in (("forward", "o-"), ("backward", "s:")):
            found = [(r["length"], r[name][f"{way}_tflops"]) for r in rows if way in r[name]]
            axes.plot(*zip(*found) if found else ([], []), line, color=colour,
                      label=f"{name}, {way}")
    axes.set(xscale="log", xlabel="sequence length T", ylabel="TFLOP/s",
             title=f"Causal, D = 128, bf16, {gpu['machine']['gpu']}")
    axes.legend(fontsize=7)


def zero_figure(result: dict, path: Path) -> None:
    """Bytes per parameter and rank, by method and number of ranks."""
    rows = [r for r in result["rows"] if r["method"] in ("bucketed", "zero1", "zero2", "zero3")]
    figure, axes = plt.subplots(figsize=(7.5, 3.6))
    labels = [f"{'DDP' if r['method'] == 'bucketed' else r['method'].replace('zero', 'ZeRO-')}"
              f"\n{r['ranks']} ranks" for r in rows]
    per_parameter = [{k: v / r["parameters"] for k, v in r["held"].items()} for r in rows]
    _bars(axes, labels, per_parameter, list(KINDS)[:3], 1)
    axes.set(ylabel="bytes per parameter on one rank", title="Measured storages, fp32 AdamW")
    _save(figure, path)


def parallel_figure(result: dict, path: Path) -> None:
    """Two pipeline schedules as printed, and the traffic of each method."""
    from pipeline_parallel import bubble, gpipe, one_f_one_b, simulate
    figure, panels = plt.subplots(2, 1, figsize=(8, 4), sharex=True)
    for axes, (name, make) in zip(panels, (("GPipe", gpipe), ("1F1B", one_f_one_b))):
        schedule = make(4, 8)
        for stage, row in enumerate(simulate(schedule)):
            for start, action, micro in row:
                length = 1 if action == "F" else 2
                axes.barh(stage, length, left=start, edgecolor="white", height=0.9,
                          color="#4477aa" if action == "F" else "#ccbb44")
                axes.text(start + length / 2, stage, micro, ha="center", va="center", fontsize=6)
        axes.set(ylabel="stage", yticks=range(4),
                 title=f"{name}: {bubble(schedule):.0%} of the time idle")
        axes.invert_yaxis()
    panels[1].set_xlabel("time (blue: forward of a micro-batch, yellow: backward)")
    _save(figure, path)


def moe_figure(result: dict, path: Path) -> None:
    """Ratios, and losses at equal FLOPs and at equal time."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    left.bar(["parameters", "FLOPs"], [result["parameters_ratio"], result["flops_ratio"]],
             color="#4477aa", width=0.5)
    left.axhline(1, color="black", linewidth=0.8)
    left.set(ylabel="experts / dense", title="Feed-forward layer: 2 of 8 experts")
    names = ["dense,\nequal FLOPs", "experts", "dense,\nequal time"]
    order = ("dense", "moe", "dense_at_equal_time")
    losses = [result["mean_loss"][name] for name in order]
    right.bar(names, losses, color=["#66ccee", "#4477aa", "#66ccee"], width=0.5)
    right.set(ylim=(0.9 * min(losses), 1.03 * max(losses)), ylabel="held-out nats per byte",
              title="Loss on the same text (dots: seeds)")
    for x, name in enumerate(order):
        right.plot([x] * len(result["losses"][name]), result["losses"][name], "k.", markersize=5)
    _save(figure, path)


FIGURES = {"memory": memory_figure, "precision": precision_figure, "attention": attention_figure,
           "zero": zero_figure, "parallel": parallel_figure, "moe": moe_figure}
