"""How much arithmetic a token costs, and how fast this machine does arithmetic.

Model FLOPs utilisation (MFU) is the one divided into the other: the share of the machine's
measured speed at plain matrix products that a training run turns into learning.
"""

import time

import torch

from gpt import GPT


def flops_per_token(model: GPT) -> float:
    """FLOPs of training on one token: 6 per weight of every matrix it is multiplied with (forward
    2, backward 4), plus 6 T C per layer for causal attention (half of 12 T C)."""
    config = model.config
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    return 6.0 * matrices + 6.0 * config.layers * config.sequence_length * config.width


def measured_peak(device: torch.device, precision: str, size: int = 0) -> float:
    """FLOPs per second of a square matrix product on random numbers, the best of five."""
    size = size or (8192 if device.type == "cuda" else 768)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size ** 3 / best
