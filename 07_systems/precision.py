"""Fewer bits per number: fp32, tf32, bf16 autocast, pure bf16, fp16 with a loss scaler.

    record = train_in("bf16 autocast", model, batches, steps=20)
    python 07_systems/precision.py          # the table, about 15 s

What 16 bits save and cost, measured: bytes by kind, CPU seconds, loss. bf16 keeps fp32's range
and 3 digits; fp16 has 4 digits and almost no range, so small gradients vanish unless the loss is
scaled up first. tf32 exists on GPUs only. But: fp8 is left out, which needs newer hardware.
"""

import contextlib
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from artifacts import CommandLine, command, within
from equality import seed_batch
from gpt import GPT, GPTConfig
from memory import measured_bytes, saved_bytes

WAYS = ("fp32", "tf32", "bf16 autocast", "pure bf16", "fp16 + scaler")


def spacing(value: float, dtype: torch.dtype) -> float:
    """The distance from `value` (positive) to the next larger number of this dtype; ValueError for
    another value. Below the dtype's smallest normal number (finfo.tiny) it does not shrink any
    more: spacing(1e-6, torch.float16) is 2^-24, the smallest number there is.

    spacing(1.0, torch.bfloat16) is 0.0078: adding less than half of it changes nothing, so an
    Adam step of 0.001 on a weight of 1 is lost. From finfo.eps, the spacing at 1.
    """
    # Numbers between two powers of two are evenly spaced: eps times the lower power.
    # The power of two at or below the value, from its parts: value = m 2^e with 0.5 <= m < 1. A
    # logarithm would be rounded up just below a power of two.
    if not 0 < value < math.inf:
        raise ValueError(f"{value} is not a positive number")
    power = 2.0 ** (math.frexp(value)[1] - 1)
    power = max(power, torch.finfo(dtype).tiny)         # subnormal numbers are evenly spaced
    return torch.finfo(dtype).eps * power


class LossScaler:
    """Keeps fp16 gradients from vanishing: the loss is multiplied, the gradients divided again.

    Use: scaler.scale(loss).backward(); scaler.step(optimizer). An overflow skips the update and
    halves the factor; `interval` good steps in a row double it. Source: Micikevicius et al. 2018.
    """

    def __init__(self, factor: float = 2.0 ** 16, interval: int = 200) -> None:
        self.factor, self.interval, self.good_steps = factor, interval, 0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss * self.factor

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Divide the gradients by the factor and update, unless one is inf or NaN; True if updated.

        After an overflow: no update, factor / 2, and the count of good steps starts again. After
        `interval` good steps in a row: factor * 2. It stays between 2^-100 and 2^100: at 0 or at
        infinity it could never come back. The gradients are left unscaled, so clipping
        can be done by a caller that steps itself.
        """
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]
                 if p.grad is not None]
        # Back to their true size, in the dtype that they have (fp32 under autocast).
        for grad in grads:
            grad /= self.factor
        # One infinity anywhere spoils the whole step: Adam would keep it in its averages.
        if not all(torch.isfinite(grad).all() for grad in grads):
            self.factor, self.good_steps = max(self.factor / 2, 2.0 ** -100), 0
            return False
        optimizer.step()
        # A long good stretch: there may be room for a larger factor, and finer gradients.
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.factor, self.good_steps = min(self.factor * 2, 2.0 ** 100), 0
        return True


def context(way: str, device: str):
    """The context for the forward pass of one of WAYS."""
    if way == "tf32":
        torch.set_float32_matmul_precision("high")
    dtype = {"bf16 autocast": torch.bfloat16, "fp16 + scaler": torch.float16}.get(way)
    return torch.autocast(device, dtype=dtype) if dtype else contextlib.nullcontext()


def train_in(way: str, model: nn.Module, batches: Callable, steps: int, rate: float = 1e-3) -> dict:
    """Train `model` for `steps` in one of WAYS; gives losses, bytes by kind and seconds per step.

    Seconds are CPU seconds on a CPU and wall seconds on a GPU, the median over steps.
    """
    device = next(model.parameters()).device.type
    model = model.to(torch.bfloat16) if way == "pure bf16" else model
    optimizer, scaler = torch.optim.AdamW(model.parameters(), lr=rate), LossScaler(2.0 ** 12)
    losses, seconds, before = [], [], torch.get_float32_matmul_precision()
    clock = time.perf_counter if device == "cuda" else time.process_time
    for step in range(steps):
        ids, targets = (t.to(device) for t in batches(step))
        start = clock()
        with context(way, device):
            loss = model(ids, targets)[1]
        if way == "fp16 + scaler":
            scaler.scale(loss).backward()
            scaler.step(optimizer)
        else:
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        seconds.append(clock() - start)
        held = measured_bytes(model.parameters(), [optimizer])
        optimizer.zero_grad()
    with context(way, device):
        held["activations"] = saved_bytes(model, ids, targets)
    torch.set_float32_matmul_precision(before)
    return {"way": way, "losses": losses, "bytes": held,
            "seconds_per_step": sorted(seconds)[len(seconds) // 2]}


def precision_rows(steps: int, config: GPTConfig, rows: int) -> list[dict]:
    """`train_in` for every way that this machine has, from the same weights on the same batches
    (two, again and again: a model of this size learns them by heart)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = []
    for way in WAYS:
        if way == "tf32" and device == "cpu":
            continue
        torch.manual_seed(0)
        model = GPT(config).to(device)
        results.append(train_in(way, model, lambda step: seed_batch(step % 2, config, rows), steps))
    return results


def main() -> None:
    """Print the table."""
    parser = CommandLine(__doc__)
    parser.add_argument("--steps", type=within(int, low=1), default=20)
    parser.add_argument("--width", type=within(int, low=1), default=256, help="of the model")
    args = parser.parse_args()
    config = GPTConfig(vocab_size=1024, layers=2, width=args.width, heads=4, sequence_length=128)
    print(f"{'way':14s}{'ms/step':>9s}{'loss':>7s}  MB: weights, gradients, optimizer, activations")
    for row in precision_rows(args.steps, config, rows=8):
        print(f"{row['way']:14s}{row['seconds_per_step'] * 1e3:9.0f}{row['losses'][-1]:7.3f}  "
              + "".join(f"{value / 1e6:9.1f}" for value in row["bytes"].values()))


if __name__ == "__main__":
    command(main)
