"""What depends on the machine and not on the model: the attention kernel and the compiler.

    module = fitted(model, torch.device("cuda"), compiling=True)

A GPU has one fused kernel for attention that never writes the (T, T) scores to memory. A CPU does
better with the five plain lines of `gpt.py`, which torch.compile fuses by itself (6,380 tokens
per second against 5,610 here).
"""

import os
import shutil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artifacts import out
from gpt import GPT


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`gpt.causal_attention` by torch's fused kernels: the same arguments, the same result."""
    T, T_total = q.shape[-2], k.shape[-2]
    if mask is None and 1 < T < T_total:        # torch's causal rule would count from the first key
        mask = torch.ones(T, T_total, dtype=torch.bool, device=q.device).tril(T_total - T)
    return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, mask,
                                          is_causal=mask is None and T > 1)


def can_compile(device: torch.device) -> bool:
    """True if torch.compile can work here: on a CPU it needs a C++ compiler."""
    compilers = (os.environ.get("CXX"), "g++", "clang++", "cl")
    return device.type == "cuda" or any(c and shutil.which(c) for c in compilers)


def fitted(model: GPT, device: torch.device, compiling: bool) -> nn.Module:
    """The model with this device's attention kernel, compiled if wished and possible."""
    if device.type == "cuda":
        for block in model.blocks:
            block.attention.attend = fused_attention
    if compiling and not can_compile(device):
        print("no C++ compiler found: training without torch.compile, slower")
        return model
    if compiling:       # what the compiler made is kept: the next process has it in seconds
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(out("compiled")))
    return torch.compile(model) if compiling else model
