"""Triton kernels that treat a matrix row by row: RMSNorm, SwiGLU, cross-entropy.

Each reads its inputs once and writes its result once (cross-entropy reads twice): on a GPU such
work is as fast as memory, and what fusion saves is the trips in between. Every value is widened
to fp32 (or stays fp64) before any arithmetic. `fused_kernels.py` puts gradients around them.

Letters: n rows, C columns, V vocabulary.
"""

import torch
from torch import Tensor

from attention_kernels import tl, triton


@triton.jit
def rms_forward_kernel(X, W, Y, R, eps, C: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """One row: r = 1 / sqrt(mean(x^2) + eps), y = x r w; keeps r for backward."""
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    x = tl.load(X + row * C + c, mask=c < C, other=0.0).to(ACC)
    w = tl.load(W + c, mask=c < C, other=0.0).to(ACC)
    r = 1 / tl.sqrt(tl.sum(x * x, 0) / C + eps)
    tl.store(Y + row * C + c, (x * r * w).to(Y.dtype.element_ty), mask=c < C)
    tl.store(R + row, r)


@triton.jit
def rms_backward_kernel(X, W, R, DY, DX, DW, n, C: tl.constexpr, BLOCK: tl.constexpr,
                        ACC: tl.constexpr):
    """Every P-th row: dx, and this program's share of dw. Shares are added by torch afterwards,
    in one order: the same bits every time, which atomic additions would not give."""
    program, c = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    w = tl.load(W + c, mask=c < C, other=0.0).to(ACC)
    dw = tl.zeros([BLOCK], ACC)
    for row in tl.range(program, n, tl.num_programs(0)):
        x = tl.load(X + row * C + c, mask=c < C, other=0.0).to(ACC)
        dy = tl.load(DY + row * C + c, mask=c < C, other=0.0).to(ACC)
        r = tl.load(R + row)
        normed, g = x * r, dy * w
        dx = (g - normed * (tl.sum(g * normed, 0) / C)) * r
        tl.store(DX + row * C + c, dx.to(DX.dtype.element_ty), mask=c < C)
        dw += dy * normed
    tl.store(DW + program * C + c, dw, mask=c < C)


@triton.jit
def swiglu_kernel(G, U, Y, size, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """y = g sigmoid(g) u, elementwise."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(G + i, mask=i < size, other=0.0).to(ACC)
    u = tl.load(U + i, mask=i < size, other=0.0).to(ACC)
    y = g / (1 + tl.exp(-g)) * u
    tl.store(Y + i, y.to(Y.dtype.element_ty), mask=i < size)


@triton.jit
def swiglu_backward_kernel(G, U, DY, DG, DU, size, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """dg and du; the sigmoid is computed again, which is cheaper than keeping it."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(G + i, mask=i < size, other=0.0).to(ACC)
    u = tl.load(U + i, mask=i < size, other=0.0).to(ACC)
    dy = tl.load(DY + i, mask=i < size, other=0.0).to(ACC)
    s = 1 / (1 + tl.exp(-g))
    tl.store(DG + i, (dy * u * s * (1 + g * (1 - s))).to(DG.dtype.element_ty), mask=i < size)
    tl.store(DU + i, (dy * g * s).to(DU.dtype.element_ty), mask=i < size)


@triton.jit
def cross_entropy_kernel(LOGITS, TARGETS, LOSS, SCALE, V: tl.constexpr, BLOCK: tl.constexpr,
                         ACC: tl.constexpr):
    """One row: its loss, and its logits REPLACED by scale * (softmax - one-hot)."""
    row, scale = tl.program_id(0).to(tl.int64), tl.load(SCALE)
    base, target = LOGITS + row * V, tl.load(TARGETS + row)
    counted = target >= 0                               # -100: no loss, no gradient
    m = tl.full([], float("-inf"), ACC)
    total = tl.zeros([], ACC)
    for start in tl.range(0, V, BLOCK):                 # first trip: the online softmax
        c = start + tl.arange(0, BLOCK)
        x = tl.load(base + c, mask=c < V, other=float("-inf")).to(ACC)
        m_new = tl.maximum(m, tl.max(x, 0))
        total = total * tl.exp(m - m_new) + tl.sum(tl.exp(x - m_new), 0)
        m = m_new
    at_target = tl.load(base + tl.where(counted, target, 0)).to(ACC)
    tl.store(LOSS + row, tl.where(counted, m + tl.log(total) - at_target, 0.0))
    for start in tl.range(0, V, BLOCK):                 # second trip: the gradient, in place
        c = start + tl.arange(0, BLOCK)
        x = tl.load(base + c, mask=c < V, other=0.0).to(ACC)
        g = tl.exp(x - m) / total - tl.where(c == target, 1.0, 0.0)
        g = tl.where(counted, g * scale, 0.0)
        tl.store(base + c, g.to(LOGITS.dtype.element_ty), mask=c < V)


def _accumulator(dtype: torch.dtype):
    return tl.float64 if dtype == torch.float64 else tl.float32


def launch_rms_forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x (n, C) contiguous, weight (C,) -> y (n, C) and 1/rms (n,)."""
    n, C = x.shape
    y = torch.empty_like(x)
    r = x.new_empty(n, dtype=torch.promote_types(x.dtype, torch.float32))
    block = triton.next_power_of_2(C)
    rms_forward_kernel[(n,)](x, weight, y, r, eps, C=C, BLOCK=block, ACC=_accumulator(x.dtype),
                             num_warps=4 if block <= 2048 else 8)
    return y, r


def launch_rms_backward(x: Tensor, weight: Tensor, r: Tensor, dy: Tensor, programs: int = 264
                        ) -> tuple[Tensor, Tensor]:
    """dx (n, C) and dw (C,). 264 programs: two for each of an H100's 132 processors."""
    n, C = x.shape
    programs, block = min(n, programs), triton.next_power_of_2(C)
    dx, shares = torch.empty_like(x), r.new_empty(programs, C)
    rms_backward_kernel[(programs,)](x, weight, r, dy, dx, shares, n, C=C, BLOCK=block,
                                     ACC=_accumulator(x.dtype), num_warps=4 if block <= 2048 else 8)
    return dx, shares.sum(0).to(weight.dtype)


def launch_swiglu(gate: Tensor, up: Tensor, dy: Tensor | None = None, block: int = 4096):
    """silu(gate) * up, or with `dy` the gradients of gate and up; all contiguous."""
    size = gate.numel()
    grid, options = (triton.cdiv(size, block),), dict(BLOCK=block, ACC=_accumulator(gate.dtype),
                                                      num_warps=8)
    if dy is None:
        y = torch.empty_like(gate)
        swiglu_kernel[grid](gate, up, y, size, **options)
        return y
    d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
    swiglu_backward_kernel[grid](gate, up, dy, d_gate, d_up, size, **options)
    return d_gate, d_up


def launch_cross_entropy(logits: Tensor, targets: Tensor, scale: float | Tensor,
                         block: int = 4096) -> Tensor:
    """Losses (n,) of contiguous logits (n, V), which become scale * their gradient.

    `scale` may be a tensor of one number: then the processor need not wait for the GPU to know it.
    """
    n, V = logits.shape
    losses = logits.new_empty(n, dtype=torch.promote_types(logits.dtype, torch.float32))
    scale = torch.as_tensor(scale, dtype=losses.dtype, device=logits.device)
    cross_entropy_kernel[(n,)](logits, targets, losses, scale, V=V,
                               BLOCK=min(block, triton.next_power_of_2(V)),
                               ACC=_accumulator(logits.dtype), num_warps=8)
    return losses
