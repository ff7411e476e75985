"""The report's seventh section: chapter 7's figures, each with what it shows, and its tables."""

from pathlib import Path
from typing import Any, Callable

from page_parts import escape, missing, number, picture, tree
from report_training import folded, read


def memory(value: dict) -> str:
    """What a parameter costs, measured and for seven billion."""
    row = value["rows"][-1]
    measured = sum(row["measured"].values()) / row["parameters"]
    full, half = value["seven_billion"]["fp32"], value["seven_billion"]["bf16"]
    return (f"Trained naively, one parameter takes {measured:.0f} bytes: measured on a GPT of "
            f"{number(row['parameters'])} parameters, weights, gradients and AdamW's two averages "
            f"in fp32. For 7 billion that is {full / 1e9:.0f} GB before any activation, and "
            f"{half / 1e9:.0f} GB if all of it were bf16.")


def precision(value: dict) -> str:
    """Bytes and time by precision."""
    rows = {row["way"]: row for row in value["rows"]}
    full, auto, pure = (sum(rows[way]["bytes"].values()) for way in ("fp32", "bf16 autocast",
                                                                     "pure bf16"))
    return (f"bf16 autocast runs {value['speed_of_bf16']:.1f} times as fast as fp32 on this "
            f"machine and keeps {auto / full:.0%} of its bytes, because weights and optimizer stay "
            f"fp32; pure bf16 keeps {pure / full:.0%}.")


def attention(value: dict) -> str:
    """What attention keeps for the backward pass."""
    row = value["rows"][-1]
    return (f"At {number(row['T'])} tokens naive attention keeps {row['naive_bytes'] / 1e6:.1f} MB "
            f"for the backward pass, the tiled one {row['tiled_bytes'] / 1e6:.2f} MB, "
            f"{row['naive_bytes'] / row['tiled_bytes']:.0f} times less, for the same result.")


def zero(value: dict) -> str:
    """Bytes a rank holds, by sharding."""
    rows = {(row["method"], row["ranks"]): row for row in value["rows"]}
    most = max(ranks for _, ranks in rows)

    def cost(method: str) -> float:
        return rows[method, most]["held_most"] / rows[method, most]["parameters"]

    return (f"Bytes per parameter on one of {most} ranks: {cost('ddp'):.0f} where every rank holds "
            f"everything, {cost('zero1'):.0f} with the optimizer sharded, {cost('zero2'):.0f} with "
            f"the gradients too, {cost('zero3'):.0f} with the weights too. Each trains to the same "
            "weights as one process.")


def parallel(value: dict) -> str:
    """Splitting one model by matrix and by layer."""
    gap = max(row["weight_gap"] for row in value["rows"])
    names = ", ".join(f"{row['method']} on {row['ranks']}" for row in value["rows"])
    return (f"One model split over ranks, by matrix (tensor, sequence) and by layer (GPipe, 1F1B): "
            f"after training its weights differ from one process's by at most {number(gap)}. "
            f"Measured: {names}. The figure is a pipeline of four stages: its idle corners are the "
            "bubble.")


def moe(value: dict) -> str:
    """Experts against one dense layer."""
    loss = value["mean_loss"]
    return (f"Eight experts, two for each token: {value['parameters_ratio']:.1f} times the "
            f"parameters for {value['flops_ratio']:.2f} times the FLOPs. Held-out loss "
            f"{loss['moe']:.3f} nats per byte against {loss['dense']:.3f} at equal FLOPs, and "
            f"{loss['dense_at_equal_time']:.3f} for the dense model given the same time.")


TOPICS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "memory": ("Why a 7B model does not fit", memory), "precision": ("Sixteen bits", precision),
    "attention": ("Attention in tiles", attention), "zero": ("Sharding the optimizer", zero),
    "parallel": ("Splitting the model", parallel), "moe": ("Experts", moe)}


def systems(out: Path) -> str:
    """Chapter 7's measurements: a figure and a sentence for each, the numbers folded below."""
    folder = out / "07_systems"
    files = {p.stem: p for p in sorted(folder.glob("*.json")) if not p.name.startswith(".")}
    if not files:
        return missing("Memory, kernels and communication", "07_systems/benchmark.py")
    parts, machine = [], {}
    for name in [*(n for n in TOPICS if n in files), *(n for n in files if n not in TOPICS)]:
        value = read(files[name])
        if isinstance(value, dict):
            machine = value.pop("machine", None) or machine
            value = {k: v for k, v in value.items() if k not in ("quick", "seed")}
        title, tell = TOPICS.get(name, (name.replace("_", " "), lambda _: ""))
        try:
            said = tell(value)
        except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            said = ""           # another form than we know: the table below still shows it
        drawn = picture(folder / f"{name}.png", said) or (f"<p>{escape(said)}</p>" if said else "")
        parts.append(f"<h3>{escape(title)}</h3>{drawn}" + folded("All numbers", tree(value)))
    about = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in machine.items()
                      if v is not None) if isinstance(machine, dict) else ""
    return "".join(parts) + (f'<p class="soft">Measured on: {escape(about)}.</p>' if about else "")
