"""Attention in Triton: one kernel forward, two backward, and their launches. Rung 3 of the ladder.

Each program owns one tile of rows and walks over the tiles it needs; nothing of size T x S ever
leaves the chip. Backward goes twice over the tiles (first dQ, then dK and dV), which costs two
products more than adding into dQ atomically, and gives the same bits every time.

Tiles move by tensor descriptors: on a Hopper GPU one instruction of the TMA unit brings a tile,
so that no register holds an address, and what lies outside of a tensor arrives as zero. A program
waits for its softmax between two products; that is why the tiles are small enough for TWO programs
on each processor: one computes products while the other computes exponentials.

On a machine without a GPU the kernels run in Triton's interpreter: the very same lines, slowly.
It proves arithmetic and indexing, never races or speed; compiling ahead of time for a GPU that is
not there (ahead_of_time.py) proves registers and shared memory. But: 32 and 64 bits multiply
without tensor cores, for exactness, not for speed; and no warp specialisation, from which
FlashAttention 3 gets its last third: that is rung 4 (specialised_attention.py), in Gluon, because
Triton's own `warp_specialize` does nothing on Hopper.

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
from triton.tools.tensor_descriptor import TensorDescriptor     # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOG2_E = math.log2(math.e)
# (queries, keys, warps, stages, most registers) by padded head size, for 16-bit inputs: what
# compiles for sm_90 without a spilled register and leaves room for a second program.
TILES = {"forward": {64: (128, 64, 8, 3, None), 128: (128, 64, 8, 2, 128)},
         "dq": {64: (128, 64, 8, 3, None), 128: (64, 64, 4, 2, None)},
         "dkdv": {64: (64, 64, 4, 3, None), 128: (64, 64, 4, 2, None)}}


@triton.jit
def seen_by(rows, keys, S, offset, CAUSAL: tl.constexpr):
    """(M, N): which of these keys each of these queries may see; none beyond the S-th."""
    seen = keys[None, :] < S
    if CAUSAL:
        seen = seen & (keys[None, :] <= rows[:, None] + offset)
    return seen


@triton.jit
def softmax_step(s, m, l, qk_scale):
    """One more tile of scores (M, N): its weights p, the factor by which what was summed before
    shrinks, the new largest m (in units of log2) and the new sum l. Rung 4 uses it too."""
    # exp2 is the instruction that the GPU has; the scale is part of it.
    m_new = tl.maximum(m, tl.max(s, 1) * qk_scale)
    p = tl.exp2(s * qk_scale - m_new[:, None])
    shrink = tl.exp2(m - m_new)
    return p, shrink, m_new, l * shrink + tl.sum(p, 1)


@triton.jit
def tiles_of(tile, T, S, CAUSAL: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """Which keys a tile of M queries walks over: (whole, hi, offset). Keys before `whole` are in
    full tiles that all rows see, from there to `hi` a mask is needed."""
    offset, hi = S - T, S
    whole = S // N * N                              # tiles before this one have no ragged edge
    if CAUSAL:
        hi = tl.minimum(S, tile * M + M + offset)   # nothing to see beyond the last row's own key
        whole = tl.minimum(whole, (tile * M + offset + 1) // N * N)     # all visible to all rows
    return whole, hi, offset


@triton.jit
def _attend(m, l, acc, q, K, V, b, kv, rows, lo, hi, S, offset, qk_scale, CAUSAL: tl.constexpr,
            MASK: tl.constexpr, N: tl.constexpr, BLOCK_D: tl.constexpr, ACC: tl.constexpr):
    """The online softmax over the key tiles from lo to hi; MASK only where a mask can bite."""
    for start in tl.range(lo, hi, N):
        k = K.load([b, kv, start, 0]).reshape(N, BLOCK_D)
        s = tl.dot(q, tl.trans(k), input_precision="ieee", out_dtype=ACC)
        if MASK:
            seen = seen_by(rows, start + tl.arange(0, N), S, offset, CAUSAL)
            s = tl.where(seen, s, float("-inf"))
        p, shrink, m, l = softmax_step(s, m, l, qk_scale)
        v = V.load([b, kv, start, 0]).reshape(N, BLOCK_D)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee",
                     out_dtype=ACC)
    return m, l, acc


@triton.jit
def forward_kernel(Q, K, V, O, LSE, H, G, T, S, qk_scale, CAUSAL: tl.constexpr,
                   BLOCK_D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """One tile of M queries of one head: its output and its LSE (FlashAttention-2, algorithm 1)."""
    # Neighbours share a head, and its keys in the L2 cache. Causal rows at the end have the most
    # work: start them first, so that none is left alone.
    tiles, head = tl.cdiv(T, M), tl.program_id(0) // tl.cdiv(T, M)
    tile, b, h = tiles - 1 - tl.program_id(0) % tiles, head // H, head % H
    rows = tile * M + tl.arange(0, M)
    q = Q.load([b, h, tile * M, 0]).reshape(M, BLOCK_D)
    m = tl.full([M], float("-inf"), ACC)
    l, acc = tl.zeros([M], ACC), tl.zeros([M, BLOCK_D], ACC)
    whole, hi, offset = tiles_of(tile, T, S, CAUSAL, M, N)
    m, l, acc = _attend(m, l, acc, q, K, V, b, h // G, rows, 0, whole, S, offset, qk_scale,
                        CAUSAL, False, N, BLOCK_D, ACC)
    m, l, acc = _attend(m, l, acc, q, K, V, b, h // G, rows, whole, hi, S, offset, qk_scale,
                        CAUSAL, True, N, BLOCK_D, ACC)
    O.store([b, h, tile * M, 0], (acc / l[:, None]).to(O.dtype).reshape(1, 1, M, BLOCK_D))
    lse = (m + tl.log2(l)) * 0.6931471805599453    # back from log2 to natural
    tl.store(LSE + head.to(tl.int64) * T + rows, lse, mask=rows < T)


@triton.jit
def _dq_tiles(dq, q, do, K, V, b, kv, rows, lse, delta, lo, hi, S, offset, qk_scale,
              CAUSAL: tl.constexpr, MASK: tl.constexpr, N: tl.constexpr, BLOCK_D: tl.constexpr,
              ACC: tl.constexpr):
    """What the key tiles from lo to hi add to dQ of M queries; MASK only where it can bite."""
    for start in tl.range(lo, hi, N):
        # Both tiles first: they wait for memory together.
        k = K.load([b, kv, start, 0]).reshape(N, BLOCK_D)
        v = V.load([b, kv, start, 0]).reshape(N, BLOCK_D)
        # The weights again, from the saved LSE: no running maximum is needed a second time.
        s = tl.dot(q, tl.trans(k), input_precision="ieee", out_dtype=ACC)
        p = tl.exp2(s * qk_scale - lse[:, None])
        if MASK:        # here a weight is wiped out, not a score: exp2(-inf - lse) may be NaN
            p = tl.where(seen_by(rows, start + tl.arange(0, N), S, offset, CAUSAL), p, 0.0)
        # Through the softmax: dP = dO V^T, and dS = P (dP - delta), its distance from its mean.
        dp = tl.dot(do, tl.trans(v), input_precision="ieee", out_dtype=ACC)
        ds = p * (dp - delta[:, None])
        # Each key's share of the query's gradient; the scale 1 / sqrt(D) comes once, at the end.
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee", out_dtype=ACC)
    return dq


@triton.jit
def dq_kernel(Q, K, V, O, DO, LSE, DELTA, DQ, H, G, T, S, scale, qk_scale, CAUSAL: tl.constexpr,
              BLOCK_D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """First pass: dQ of M queries, and delta = sum(do * o), which the second pass needs too."""
    tiles, head = tl.cdiv(T, M), tl.program_id(0) // tl.cdiv(T, M)
    tile, b, h = tiles - 1 - tl.program_id(0) % tiles, head // H, head % H
    rows = tile * M + tl.arange(0, M)
    q = Q.load([b, h, tile * M, 0]).reshape(M, BLOCK_D)
    o = O.load([b, h, tile * M, 0]).reshape(M, BLOCK_D)
    do = DO.load([b, h, tile * M, 0]).reshape(M, BLOCK_D)
    delta = tl.sum(o.to(ACC) * do.to(ACC), 1)
    line = head.to(tl.int64) * T + rows
    tl.store(DELTA + line, delta, mask=rows < T)
    lse = tl.load(LSE + line, mask=rows < T, other=float("inf")) * 1.4426950408889634
    whole, hi, offset = tiles_of(tile, T, S, CAUSAL, M, N)
    dq = tl.zeros([M, BLOCK_D], ACC)
    dq = _dq_tiles(dq, q, do, K, V, b, h // G, rows, lse, delta, 0, whole, S, offset, qk_scale,
                   CAUSAL, False, N, BLOCK_D, ACC)
    dq = _dq_tiles(dq, q, do, K, V, b, h // G, rows, lse, delta, whole, hi, S, offset, qk_scale,
                   CAUSAL, True, N, BLOCK_D, ACC)
    DQ.store([b, h, tile * M, 0], (dq * scale).to(DQ.dtype).reshape(1, 1, M, BLOCK_D))


@triton.jit
def dkdv_kernel(Q, K, V, DO, LSE, DELTA, DK, DV, H, G, T, S, scale, qk_scale,
                CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
                ACC: tl.constexpr):
    """Second pass: dK and dV of N keys of one key head, over all queries of its G query heads."""
    tiles, heads = tl.cdiv(S, N), H // G
    first = tl.program_id(0) % tiles * N                # early keys have the most queries
    b, kv = tl.program_id(0) // tiles // heads, tl.program_id(0) // tiles % heads
    keys = first + tl.arange(0, N)
    k = K.load([b, kv, first, 0]).reshape(N, BLOCK_D)
    v = V.load([b, kv, first, 0]).reshape(N, BLOCK_D)
    dk, dv = tl.zeros([N, BLOCK_D], ACC), tl.zeros([N, BLOCK_D], ACC)
    offset, lo = S - T, 0
    if CAUSAL:
        lo = tl.maximum(0, first - offset) // M * M     # earlier queries see none of these keys
    for g in range(0, G):                               # one program: the sum has one order
        h = kv * G + g
        for start in tl.range(lo, T, M):
            rows = start + tl.arange(0, M)
            line = (b * H + h).to(tl.int64) * T + rows
            # Both loads first: they wait for memory together. Rows beyond T have LSE +inf, so
            # their probabilities are exactly zero.
            lse = tl.load(LSE + line, mask=rows < T, other=float("inf")) / scale
            delta = tl.load(DELTA + line, mask=rows < T, other=0.0)
            q = Q.load([b, h, start, 0]).reshape(M, BLOCK_D)
            # (N, M): transposed, as dK and dV want it. The product starts from -LSE, and below
            # from -delta: subtracting them after took 253 registers, not 184, at D = 64.
            s = tl.dot(k, tl.trans(q), tl.zeros([N, M], ACC) - lse[None, :],
                       input_precision="ieee", out_dtype=ACC)
            p = tl.exp2(s * qk_scale)
            if CAUSAL:                                  # in every tile: a second loop would spill
                p = tl.where(keys[:, None] <= rows[None, :] + offset, p, 0.0)
            do = DO.load([b, h, start, 0]).reshape(M, BLOCK_D)
            dv = tl.dot(p.to(do.dtype), do, dv, input_precision="ieee", out_dtype=ACC)
            dp = tl.dot(v, tl.trans(do), tl.zeros([N, M], ACC) - delta[None, :],
                        input_precision="ieee", out_dtype=ACC)
            dk = tl.dot((p * dp).to(q.dtype), q, dk, input_precision="ieee", out_dtype=ACC)
    DK.store([b, kv, first, 0], (dk * scale).to(DK.dtype).reshape(1, 1, N, BLOCK_D))
    DV.store([b, kv, first, 0], dv.to(DV.dtype).reshape(1, 1, N, BLOCK_D))


def settings(kernel: str, D: int, dtype: torch.dtype, causal: bool) -> dict:
    """The launch settings of one kernel: tile sizes by head size, accumulator by dtype."""
    block = max(16, triton.next_power_of_2(D))
    M, N, warps, stages, registers = TILES[kernel][64 if block <= 64 else 128]
    if dtype.itemsize > 2 or INTERPRETED:
        M, N, warps, stages, registers = (64, 64, 4, 1, None) if INTERPRETED else (
            32, 32, 8, 1, None)
    return dict(CAUSAL=causal, BLOCK_D=block, M=M, N=N,
                ACC=tl.float64 if dtype == torch.float64 else tl.float32, num_warps=warps,
                num_stages=stages, **({"maxnreg": registers} if registers else {}))


def aligned(t: Tensor) -> Tensor:
    """`t`, or a copy that a descriptor can describe: last stride 1, the others and the address
    multiples of 16 bytes."""
    strides = [s * t.element_size() for s, n in zip(t.stride()[:-1], t.shape) if n > 1]
    if t.stride(-1) == 1 and t.data_ptr() % 16 == 0 and all(s and s % 16 == 0 for s in strides):
        return t
    room = -t.shape[-1] % (16 // t.element_size())
    copy = t.new_empty(*t.shape[:-1], t.shape[-1] + room)[..., :t.shape[-1]]
    return copy.copy_(t)


def describe(t: Tensor, rows: int, block_d: int) -> TensorDescriptor:
    """The descriptor of an aligned (B, H, T, D) tensor in tiles of `rows` rows of one head."""
    strides = [s if n > 1 else 16 for s, n in zip(t.stride()[:-1], t.shape)]
    return TensorDescriptor(t, list(t.shape), [*strides, 1], [1, 1, rows, block_d])


def launch_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """q (B, H, T, D), k and v (B, H/G, S, D) -> o (B, H, T, D), LSE (B, H, T)."""
    (B, H, T, D), S = q.shape, k.shape[2]
    options = settings("forward", D, q.dtype, causal)
    M, N, block = options["M"], options["N"], options["BLOCK_D"]
    q, k, v, o = (aligned(t) for t in (q, k, v, torch.empty(q.shape, dtype=q.dtype,
                                                            device=q.device)))
    lse = q.new_empty(B, H, T, dtype=torch.promote_types(q.dtype, torch.float32))
    forward_kernel[(triton.cdiv(T, M) * B * H,)](
        describe(q, M, block), describe(k, N, block), describe(v, N, block),
        describe(o, M, block), lse, H, H // k.shape[1], T, S, LOG2_E / math.sqrt(D), **options)
    return o.contiguous(), lse


def launch_backward(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, d_o: Tensor,
                    causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v; shapes as in `launch_forward`."""
    (B, H, T, D), (S, heads) = q.shape, (k.shape[2], k.shape[1])
    q, k, v, o, d_o = (aligned(t) for t in (q, k, v, o, d_o))
    dq, dk, dv = (aligned(torch.empty(t.shape, dtype=t.dtype, device=t.device))
                  for t in (q, k, v))
    delta, numbers = torch.empty_like(lse), (H, H // heads, T, S, 1 / math.sqrt(D),
                                             LOG2_E / math.sqrt(D))
    options = settings("dq", D, q.dtype, causal)
    rows, columns = ([options[x], options["BLOCK_D"]] for x in "MN")
    dq_kernel[(triton.cdiv(T, options["M"]) * B * H,)](
        describe(q, *rows), describe(k, *columns), describe(v, *columns), describe(o, *rows),
        describe(d_o, *rows), lse, delta, describe(dq, *rows), *numbers, **options)
    options = settings("dkdv", D, q.dtype, causal)
    rows, columns = ([options[x], options["BLOCK_D"]] for x in "MN")
    dkdv_kernel[(triton.cdiv(S, options["N"]) * B * heads,)](
        describe(q, *rows), describe(k, *columns), describe(v, *columns), describe(d_o, *rows),
        lse, delta, describe(dk, *columns), describe(dv, *columns), *numbers, **options)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()
