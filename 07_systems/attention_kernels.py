"""Attention in Triton: one kernel forward, two backward, and their launches. Rung 3 of the ladder.

Each program owns one tile of rows and walks over the tiles it needs; nothing of size T x S ever
leaves the chip. Backward goes twice over the tiles (first dQ, then dK and dV), which costs one
product more than adding into dQ atomically, and gives the same bits every time.

On a machine without a GPU the kernels run in Triton's interpreter: the very same lines, slowly.
It proves arithmetic and indexing, never races or speed; compiling ahead of time for a GPU that is
not there (tests) proves registers and shared memory. Plain pointers only: block pointers are gone
from Triton 3.9. But: no tensor descriptors (TMA) and no warp specialisation, which FlashAttention
3 gets its last third from.

Letters: B batch, H query heads, G query heads per key head, T queries, S keys, D head size.
"""

import math
import os

import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")      # before the first @triton.jit
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton                                           # noqa: E402
import triton.language as tl                            # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOG2_E = math.log2(math.e)
# (rows, columns, warps, stages) by head size (padded), for 16-bit inputs: the largest tiles that
# compile for sm_90 without spilling a register. 32 and 64 bits take the small tile.
TILES = {"forward": {64: (128, 64, 4, 3), 128: (128, 64, 8, 3)},
         "dq": {64: (128, 64, 8, 2), 128: (128, 64, 8, 2)},
         "dkdv": {64: (64, 128, 8, 2), 128: (64, 64, 8, 2)}}


@triton.jit
def _load(base, rows, columns, stride, n_rows, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A (rows, columns) tile of one head, zeros outside of it; columns have stride 1."""
    inside = rows[:, None] < n_rows
    if D != BLOCK_D:
        inside = inside & (columns[None, :] < D)
    return tl.load(base + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _store(base, rows, columns, stride, n_rows, value, D: tl.constexpr, BLOCK_D: tl.constexpr):
    inside = rows[:, None] < n_rows
    if D != BLOCK_D:
        inside = inside & (columns[None, :] < D)
    tl.store(base + rows[:, None] * stride + columns[None, :], value.to(base.dtype.element_ty),
             mask=inside)


@triton.jit
def _attend(m, l, acc, q, K, V, kt, vt, rows, columns, lo, hi, S, offset, qk_scale,
            CAUSAL: tl.constexpr, MASK: tl.constexpr, N: tl.constexpr, D: tl.constexpr,
            BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The online softmax over the key tiles from lo to hi; MASK only where a mask can bite."""
    for start in tl.range(lo, hi, N):
        keys = start + tl.arange(0, N)
        k = _load(K, keys, columns, kt, S, D, BLOCK_D)
        # Scores in units of log2: exp2 is the instruction that the GPU has.
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION, out_dtype=ACC) * qk_scale
        if MASK:
            seen = keys[None, :] < S
            if CAUSAL:
                seen = seen & (keys[None, :] <= rows[:, None] + offset)
            s = tl.where(seen, s, float("-inf"))
        m_new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - m_new[:, None])
        shrink = tl.exp2(m - m_new)
        l = l * shrink + tl.sum(p, 1)
        v = _load(V, keys, columns, vt, S, D, BLOCK_D)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION,
                     out_dtype=ACC)
        m = m_new
    return m, l, acc


@triton.jit
def forward_kernel(Q, K, V, O, LSE, qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot, H, G, T, S,
                   qk_scale, CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
                   M: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """One tile of M queries of one head: its output and its LSE (FlashAttention-2, algorithm 1)."""
    # Causal rows at the end have the most work: start them first, so that none is left alone.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    b, h = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    Q, O = Q + b * qb + h * qh, O + b * ob + h * oh
    K, V = K + b * kb + h // G * kh, V + b * vb + h // G * vh
    rows, columns = tile * M + tl.arange(0, M), tl.arange(0, BLOCK_D)
    q = _load(Q, rows, columns, qt, T, D, BLOCK_D)
    m = tl.full([M], float("-inf"), ACC)
    l, acc = tl.zeros([M], ACC), tl.zeros([M, BLOCK_D], ACC)
    offset, hi = S - T, S
    whole = S // N * N                              # tiles before this one have no ragged edge
    if CAUSAL:
        hi = tl.minimum(S, tile * M + M + offset)   # nothing to see beyond the last row's own key
        whole = tl.minimum(whole, (tile * M + offset + 1) // N * N)     # all visible to all rows
    m, l, acc = _attend(m, l, acc, q, K, V, kt, vt, rows, columns, 0, whole, S, offset, qk_scale,
                        CAUSAL, False, N, D, BLOCK_D, ACC, PRECISION)
    m, l, acc = _attend(m, l, acc, q, K, V, kt, vt, rows, columns, whole, hi, S, offset, qk_scale,
                        CAUSAL, True, N, D, BLOCK_D, ACC, PRECISION)
    _store(O, rows, columns, ot, T, acc / l[:, None], D, BLOCK_D)
    lse = (m + tl.log2(l)) * 0.6931471805599453    # back from log2 to natural
    tl.store(LSE + tl.program_id(1).to(tl.int64) * T + rows, lse, mask=rows < T)


@triton.jit
def _dq_tiles(dq, q, do, K, V, kt, vt, rows, columns, lse, delta, lo, hi, S, offset, qk_scale,
              CAUSAL: tl.constexpr, MASK: tl.constexpr, N: tl.constexpr, D: tl.constexpr,
              BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    for start in tl.range(lo, hi, N):
        keys = start + tl.arange(0, N)
        k = _load(K, keys, columns, kt, S, D, BLOCK_D)
        v = _load(V, keys, columns, vt, S, D, BLOCK_D)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION, out_dtype=ACC) * qk_scale
        p = tl.exp2(s - lse[:, None])
        if MASK:
            seen = keys[None, :] < S
            if CAUSAL:
                seen = seen & (keys[None, :] <= rows[:, None] + offset)
            p = tl.where(seen, p, 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION, out_dtype=ACC)
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION, out_dtype=ACC)
    return dq


@triton.jit
def dq_kernel(Q, K, V, O, DO, LSE, DELTA, DQ, qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot,
              gb, gh, gt, H, G, T, S, scale, qk_scale, CAUSAL: tl.constexpr, D: tl.constexpr,
              BLOCK_D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr,
              PRECISION: tl.constexpr):
    """First pass: dQ of M queries, and delta = sum(do * o), which the second pass needs too.
    DO and DQ share the strides gb, gh, gt."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    b, h = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    K, V = K + b * kb + h // G * kh, V + b * vb + h // G * vh
    rows, columns = tile * M + tl.arange(0, M), tl.arange(0, BLOCK_D)
    q = _load(Q + b * qb + h * qh, rows, columns, qt, T, D, BLOCK_D)
    o = _load(O + b * ob + h * oh, rows, columns, ot, T, D, BLOCK_D)
    do = _load(DO + b * gb + h * gh, rows, columns, gt, T, D, BLOCK_D)
    delta = tl.sum(o.to(ACC) * do.to(ACC), 1)
    line = tl.program_id(1).to(tl.int64) * T + rows
    tl.store(DELTA + line, delta, mask=rows < T)
    lse = tl.load(LSE + line, mask=rows < T, other=float("inf")) * 1.4426950408889634
    offset, hi = S - T, S
    whole = S // N * N
    if CAUSAL:
        hi = tl.minimum(S, tile * M + M + offset)
        whole = tl.minimum(whole, (tile * M + offset + 1) // N * N)
    dq = tl.zeros([M, BLOCK_D], ACC)
    dq = _dq_tiles(dq, q, do, K, V, kt, vt, rows, columns, lse, delta, 0, whole, S, offset,
                   qk_scale, CAUSAL, False, N, D, BLOCK_D, ACC, PRECISION)
    dq = _dq_tiles(dq, q, do, K, V, kt, vt, rows, columns, lse, delta, whole, hi, S, offset,
                   qk_scale, CAUSAL, True, N, D, BLOCK_D, ACC, PRECISION)
    _store(DQ + b * gb + h * gh, rows, columns, gt, T, dq * scale, D, BLOCK_D)


@triton.jit
def dkdv_kernel(Q, K, V, DO, LSE, DELTA, DK, DV, qb, qh, qt, kb, kh, kt, vb, vh, vt, gb, gh, gt,
                db, dh, dt, H, G, T, S, scale, qk_scale, CAUSAL: tl.constexpr, D: tl.constexpr,
                BLOCK_D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr,
                PRECISION: tl.constexpr):
    """Second pass: dK and dV of N keys of one key head, over all queries of its G query heads.
    DK and DV share the strides db, dh, dt."""
    first = tl.program_id(0) * N
    b = (tl.program_id(1) // (H // G)).to(tl.int64)
    kv = (tl.program_id(1) % (H // G)).to(tl.int64)
    keys, columns = first + tl.arange(0, N), tl.arange(0, BLOCK_D)
    k = _load(K + b * kb + kv * kh, keys, columns, kt, S, D, BLOCK_D)
    v = _load(V + b * vb + kv * vh, keys, columns, vt, S, D, BLOCK_D)
    dk, dv = tl.zeros([N, BLOCK_D], ACC), tl.zeros([N, BLOCK_D], ACC)
    offset, lo = S - T, 0
    if CAUSAL:
        lo = tl.maximum(0, first - offset) // M * M     # earlier queries see none of these keys
    for g in range(0, G):                               # one program: the sum has one order
        h = kv * G + g
        for start in tl.range(lo, T, M):
            rows = start + tl.arange(0, M)
            line = (b * H + h) * T + rows
            q = _load(Q + b * qb + h * qh, rows, columns, qt, T, D, BLOCK_D)
            do = _load(DO + b * gb + h * gh, rows, columns, gt, T, D, BLOCK_D)
            # Rows beyond T have LSE +inf, so their probabilities are exactly zero.
            lse = tl.load(LSE + line, mask=rows < T, other=float("inf")) * 1.4426950408889634
            delta = tl.load(DELTA + line, mask=rows < T, other=0.0)
            s = tl.dot(k, tl.trans(q), input_precision=PRECISION, out_dtype=ACC) * qk_scale
            p = tl.exp2(s - lse[None, :])               # (N, M): transposed, as dK, dV want it
            if CAUSAL:
                p = tl.where(keys[:, None] <= rows[None, :] + offset, p, 0.0)
            dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION, out_dtype=ACC)
            dp = tl.dot(v, tl.trans(do), input_precision=PRECISION, out_dtype=ACC)
            ds = p * (dp - delta[None, :])
            dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION, out_dtype=ACC)
    _store(DK + b * db + kv * dh, keys, columns, dt, S, dk * scale, D, BLOCK_D)
    _store(DV + b * db + kv * dh, keys, columns, dt, S, dv, D, BLOCK_D)


def settings(kernel: str, D: int, dtype: torch.dtype, causal: bool) -> dict:
    """The launch settings of one kernel: tile sizes by head size, accumulator by dtype."""
    block = max(16, triton.next_power_of_2(D))
    narrow = dtype.itemsize > 2 or INTERPRETED
    M, N, warps, stages = (64, 64, 4, 1) if narrow else TILES[kernel][64 if block <= 64 else 128]
    if dtype.itemsize > 2 and not INTERPRETED:
        M, N = 32, 32
    return dict(CAUSAL=causal, D=D, BLOCK_D=block, M=M, N=N, PRECISION="ieee",
                ACC=tl.float64 if dtype == torch.float64 else tl.float32,
                num_warps=warps, num_stages=stages)


def launch_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """q (B, H, T, D), k and v (B, H/G, S, D), last stride 1 -> o (B, H, T, D), LSE (B, H, T)."""
    (B, H, T, D), S = q.shape, k.shape[2]
    o = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = q.new_empty(B, H, T, dtype=torch.promote_types(q.dtype, torch.float32))
    options = settings("forward", D, q.dtype, causal)
    forward_kernel[(triton.cdiv(T, options["M"]), B * H)](
        q, k, v, o, lse, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *o.stride()[:3],
        H, H // k.shape[1], T, S, LOG2_E / math.sqrt(D), **options)
    return o, lse


def launch_backward(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, d_o: Tensor,
                    causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v; shapes as in `launch_forward`."""
    (B, H, T, D), (S, heads) = q.shape, (k.shape[2], k.shape[1])
    d_o = d_o.contiguous()
    dq = torch.empty_like(d_o)
    dk = torch.empty_like(k, memory_format=torch.contiguous_format)
    dv, delta = torch.empty_like(dk), torch.empty_like(lse)
    scale, qk_scale = 1 / math.sqrt(D), LOG2_E / math.sqrt(D)
    inputs = [*q.stride()[:3], *k.stride()[:3], *v.stride()[:3]]
    options = settings("dq", D, q.dtype, causal)
    dq_kernel[(triton.cdiv(T, options["M"]), B * H)](
        q, k, v, o, d_o, lse, delta, dq, *inputs, *o.stride()[:3], *d_o.stride()[:3],
        H, H // heads, T, S, scale, qk_scale, **options)
    options = settings("dkdv", D, q.dtype, causal)
    dkdv_kernel[(triton.cdiv(S, options["N"]), B * heads)](
        q, k, v, d_o, lse, delta, dk, dv, *inputs, *d_o.stride()[:3], *dk.stride()[:3],
        H, H // heads, T, S, scale, qk_scale, **options)
    return dq, dk, dv
