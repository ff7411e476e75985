"""How fast one GPU trains, rung by rung, and what a 7B step really holds: tables of gpu_benchmark.

    python 07_systems/gpu_benchmark.py --table training lengths seven_b

`training` climbs from eager fp32 to compiled bf16 with this chapter's kernels, on GPT-2 124M;
`lengths` divides a step with chapter 4's attention by one with ours, over sequence length (the
article's 1.7x); `seven_b` takes real AdamW steps of a 6.7B model in fp32 and counts its bytes.
But: random tokens, no data loading, one GPU; nothing here is about several.
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from flash_attention import use_flash_attention
from fused_kernels import linear_cross_entropy
from gpt import GPT, GPT2, GPTConfig, causal_attention
from memory import measured_bytes

PEAK = 989e12                   # bf16 FLOP/s of an H100 or H200, dense, as its maker states them
SMALL = GPTConfig(**GPT2, vocab_size=50304, layers=12, width=768, heads=12, sequence_length=1024)
SEVEN = GPTConfig(vocab_size=32_000, layers=32, width=4096, heads=32, sequence_length=2048,
                  mlp="swiglu", mlp_width=11_008, qk_norm=False, mix_previous=False)
TINY = dict(vocab_size=96, layers=1, width=32, heads=2, sequence_length=32)
# (name, float32 products, autocast, attention, compiled, our loss): each rung changes one thing.
RUNGS = [("eager, fp32", "highest", False, "chapter 4", False, False),
         ("tf32", "high", False, "chapter 4", False, False),
         ("bf16 autocast", "high", True, "chapter 4", False, False),
         ("torch's fused attention", "high", True, "torch", False, False),
         ("torch.compile", "high", True, "torch", True, False),
         ("our linear + cross-entropy", "high", True, "torch", True, True),
         ("our attention", "high", True, "ours", True, True)]


def torch_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Chapter 4's attention by torch's own kernels; the caller pins the backend."""
    if mask is not None:
        return causal_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def with_attention(model: GPT, kind: str) -> GPT:
    """The model with attention by "chapter 4", "torch" or "ours"."""
    if kind == "ours":
        return use_flash_attention(model)
    for block in model.blocks:
        block.attention.attend = torch_attention if kind == "torch" else causal_attention
    return model


def step_seconds(model: GPT, rows: int, steps: int, autocast: bool, compiled: bool,
                 our_loss: bool) -> dict:
    """The median time of a training step (forward, backward, fused AdamW) and the peak memory."""
    device, T = next(model.parameters()).device, model.config.sequence_length
    cuda = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=cuda)

    def loss_of(ids: Tensor, targets: Tensor) -> Tensor:
        if our_loss:
            return linear_cross_entropy(model.hidden(ids), model.lm_head.weight, targets, 8192)
        return model(ids, targets)[1]
    loss_of = torch.compile(loss_of) if compiled and cuda else loss_of
    ids = torch.randint(model.config.vocab_size, (rows, T + 1), device=device)
    pinned = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if cuda else contextlib.nullcontext()
    times = []
    with pinned:
        for step in range(steps + 3):               # the first three compile and warm up
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss = loss_of(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()                             # waits for the GPU
            times.append(time.perf_counter() - start)
    seconds = statistics.median(times[3:])
    return {"seconds": seconds, "rows": rows, "tokens_per_second": rows * T / seconds,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else 0}


def fitting(measure: Callable[[int], dict], rows: int) -> dict:
    """`measure(rows)`, with half as many rows as often as the memory is too small."""
    while True:
        try:
            return measure(rows)
        except torch.OutOfMemoryError:
            if rows == 1:
                return {"error": "does not fit"}
        rows //= 2
        torch.cuda.empty_cache()


def training_table(device: str, dry: bool) -> dict:
    """GPT-2 124M on random tokens, a rung at a time: tokens per second, MFU, peak memory."""
    config = GPTConfig(**GPT2, **TINY) if dry else SMALL
    found = []
    for name, products, autocast, attention, compiled, our_loss in RUNGS:
        def measure(rows: int) -> dict:
            torch.manual_seed(0)
            if device == "cuda":
                torch.compiler.reset()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            with torch.device(device):
                model = with_attention(GPT(config), attention)
            return step_seconds(model, rows, 1 if dry else 10, autocast, compiled, our_loss)
        torch.set_float32_matmul_precision(products)
        rows = 16 if attention == "chapter 4" else 64       # T x T scores fill the memory
        row = {"rung": name, **fitting(measure, 2 if dry else rows)}
        if "error" not in row:
            # 6 N for the weights, 12 L T C for attention, as GPT-2's published numbers count.
            per_token = 6 * 124e6 + 12 * config.layers * config.sequence_length * config.width
            row["mfu"] = row["tokens_per_second"] * per_token / PEAK
        found.append(row)
    torch.set_float32_matmul_precision("highest")
    return {"rows": found, "peak_flops": PEAK}


def lengths_table(device: str, dry: bool) -> dict:
    """Time of a bf16 step with chapter 4's attention, divided by ours, by sequence length."""
    rows, tokens = [], 64 if dry else 8192
    for T in (32,) if dry else (512, 1024, 2048, 4096, 8192):
        sizes = TINY if dry else dict(vocab_size=50304, layers=12, width=768, heads=12)
        config = GPTConfig(**GPT2, **{**sizes, "sequence_length": T})
        for compiled in (False, True) if T == 1024 else (False,):
            row = {"length": T, "compiled": compiled}
            for kind in ("chapter 4", "torch", "ours"):
                if device == "cuda":
                    torch.compiler.reset()
                    torch.cuda.empty_cache()
                with torch.device(device):
                    model = with_attention(GPT(config), kind)
                row[kind] = fitting(lambda n: step_seconds(model, n, 1 if dry else 8, True,
                                                           compiled, False), tokens // T)
            times = [row[kind].get("seconds") for kind in ("chapter 4", "ours")]
            same = row["chapter 4"].get("rows") == row["ours"].get("rows")
            row["ratio"] = times[0] / times[1] if all(times) and same else None
            rows.append(row)
    return {"rows": rows, "tokens": tokens}


def checkpointed(block: nn.Module) -> None:
    """Let a block forget its activations and compute them again in backward, from outside."""
    block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def seven_b_table(device: str, dry: bool) -> dict:
    """Three fp32 AdamW steps of a 6.7B model: bytes held by kind, peak, seconds."""
    config = GPTConfig(**TINY, mlp="swiglu", mix_previous=False) if dry else SEVEN
    with torch.device(device):
        model = with_attention(GPT(config), "torch")
    for block in model.blocks:
        checkpointed(block)
    # Fused: updates in place. The default makes copies of everything while it computes.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device == "cuda")
    ids = torch.randint(config.vocab_size, (1, config.sequence_length + 1), device=device)
    seconds, losses = [], []
    for step in range(3):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)      # gradients stay where they are
        loss = model(ids[:, :-1], ids[:, 1:])[1]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    held = measured_bytes(model.parameters(), [optimizer])
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "held": held, "losses": losses, "seconds": seconds,
            "bytes_per_parameter": sum(held.values()) / parameters,
            "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0}


TRAINING_TABLES = {"training": training_table, "lengths": lengths_table, "seven_b": seven_b_table}
