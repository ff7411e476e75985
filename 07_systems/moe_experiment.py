"""Does a mixture of experts pay? The same GPT with one MLP and with eight experts, same text.

    result = moe_against_dense(steps=120)         # three seeds, about 20 s

The text is Python's own reference (pydoc_data.topics), as bytes: always there, 700 kB. Both models
see the same batches with the same FLOPs per token; the dense one also trains on, until it has had
the experts' time. But: one size, short runs, a loop over experts: a hint, not a law.
"""

import math
import time

import numpy as np
import torch
from pydoc_data.topics import topics
from torch.utils.flop_counter import FlopCounterMode

from gpt import GPT, GPTConfig
from moe import MoE, balance_of, update_bias, use_moe

CONFIG = GPTConfig(vocab_size=256, layers=2, width=64, heads=2, sequence_length=64)


def text_batches(seed: int = 0, rows: int = 8, T: int = 64):
    """`batches(step) -> (ids, targets)` of random windows; step -1, -2, ... are held out."""
    text = np.frombuffer("\n".join(topics[key] for key in sorted(topics)).encode(), np.uint8)
    cut = len(text) * 9 // 10

    def batches(step: int):
        rng = np.random.default_rng([seed, abs(step), step < 0])
        part = text[cut:] if step < 0 else text[:cut]
        starts = rng.integers(0, len(part) - T - 1, rows)
        windows = torch.from_numpy(np.stack([part[s:s + T + 1] for s in starts]).astype(np.int64))
        return windows[:, :-1], windows[:, 1:]
    return batches


def held_out(model: GPT, batches) -> float:
    """Mean loss in nats per byte over 20 held-out batches."""
    with torch.no_grad():
        return sum(model(*batches(-1 - i))[1].item() for i in range(20)) / 20


def train_timed(model: GPT, batches, steps: int, seconds: float = math.inf) -> dict:
    """Train for `steps` or `seconds` of CPU time; the loss, the time, the fullest expert's load."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    layers = [module for module in model.modules() if isinstance(module, MoE)]
    start, step, fullest = time.process_time(), 0, []
    while step < steps and time.process_time() - start < seconds:
        loss = model(*batches(step))[1]
        (loss + 0.01 * balance_of(model) if layers else loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        for layer in layers:
            layer.bias = update_bias(layer.bias, layer.counts)
            fullest.append((layer.counts.max() / layer.counts.float().mean()).item())
        step += 1
    return {"loss": held_out(model, batches), "steps": step,
            "cpu_seconds": time.process_time() - start,
            "fullest_expert": sum(fullest[-20:]) / max(1, len(fullest[-20:]))}


def flops_of(module: torch.nn.Module) -> int:
    """FLOPs of forward and backward of a feed-forward layer on 512 tokens, counted by torch."""
    x = torch.randn(1, 512, CONFIG.width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    return counter.get_total_flops()


def moe_against_dense(steps: int, seeds: int = 3) -> dict:
    """Train both from several seeds; losses are means over seeds, with each seed's beside them.
    Ratios are of the feed-forward layers alone."""
    layers = {"dense": GPT(CONFIG).blocks[0].mlp, "moe": use_moe(GPT(CONFIG)).blocks[0].mlp}
    parameters = {n: sum(p.numel() for p in layer.parameters()) for n, layer in layers.items()}
    flops = {name: flops_of(layer) for name, layer in layers.items()}
    runs: dict[str, list[dict]] = {"dense": [], "moe": [], "dense_at_equal_time": []}
    for seed in range(seeds):
        batches = text_batches(seed)
        for name, limit in (("dense", math.inf), ("moe", math.inf), ("dense_at_equal_time", None)):
            torch.manual_seed(seed)
            model = use_moe(GPT(CONFIG)) if name == "moe" else GPT(CONFIG)
            most = steps if limit else 100 * steps
            limit = limit or runs["moe"][-1]["cpu_seconds"]
            runs[name].append(train_timed(model, batches, most, limit))
    losses = {name: [run["loss"] for run in found] for name, found in runs.items()}
    return {"parameters": parameters, "flops": flops, "runs": runs, "losses": losses,
            "mean_loss": {name: sum(found) / seeds for name, found in losses.items()},
            "parameters_ratio": parameters["moe"] / parameters["dense"],
            "flops_ratio": flops["moe"] / flops["dense"]}
