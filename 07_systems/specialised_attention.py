"""Attention forward in Gluon for Hopper GPUs: one group of warps fetches, two take turns. Rung 4.

    python 07_systems/ahead_of_time.py --rung 4     # compile it, count what it will use; no GPU
    o, lse = launch(q, k, v, causal=True)           # bf16 or fp16, D 64 or 128, on an H100 or H200

In rung 3 every warp does everything and waits for itself. Here a program (a thread block, 12
warps) has three parts that run at the same time:

    producer    one warp: asks the TMA unit for tiles of K and V, two ahead
    consumer 0  a warp group (4 warps, 128 threads), rows 0 to 63 of the tile of 128 queries
    consumer 1  another one, rows 64 to 127

The two consumers play ping-pong: while one has the tensor cores (O += P V, then S = Q K^T), the
other computes exponentials. They talk through barriers in shared memory (mbarrier): "K has
arrived", "this slot is free again", "your turn". Every barrier flips between two phases, 0 and 1;
who waits names the phase whose end it waits for. Online softmax, mask and ranges of tiles are
rung 3's own functions. But: forward only; 16 bits; no persistent programs; and no overlap of
softmax and products inside of one consumer, FlashAttention 3's second trick.

How it is proved without a GPU: the tests run these very functions with threads in the place of
warps (every barrier, copy and product played in numpy) and compare with exact attention, then
compile for sm_90. Speed and races of real hardware are not proved by that.

Letters as in attention_kernels.py. Source: Shah et al. 2024 (FlashAttention 3), section 3.1.
"""

import math

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (fence_async_shared, mbarrier, tma,
                                                              warpgroup_mma, warpgroup_mma_wait)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from attention_kernels import LOG2_E, seen_by, softmax_step, tiles_of

ROWS = gl.constexpr(64)             # queries of one consumer; a tile has twice as many
STAGES = gl.constexpr(2)            # tiles of K and of V that are in flight


@gluon.jit
def produce(Q, K, V, q, k, v, bars, head, kv, tile, tiles, N: gl.constexpr):
    """The producer: both consumers' queries once, then tile after tile of K and V."""
    q_full, k_full, v_full, k_free, v_free, turn = bars
    mbarrier.expect(q_full, 2 * Q.nbytes_per_cta)
    for half in gl.static_range(2):
        tma.async_load(Q, [head, (2 * tile + half) * ROWS, 0], q_full, q.index(half))
    for j in range(tiles):
        # Each slot is used every STAGES tiles; the first time round nobody has to free it.
        slot, phase = j % STAGES, j // STAGES & 1
        mbarrier.wait(k_free.index(slot), phase ^ 1)
        mbarrier.expect(k_full.index(slot), K.nbytes_per_cta)
        tma.async_load(K, [kv, j * N, 0], k_full.index(slot), k.index(slot))
        mbarrier.wait(v_free.index(slot), phase ^ 1)
        mbarrier.expect(v_full.index(slot), V.nbytes_per_cta)
        tma.async_load(V, [kv, j * N, 0], v_full.index(slot), v.index(slot))


@gluon.jit
def take_turn(turn, me: gl.constexpr, time):
    """Wait until the tensor cores are mine: consumer 0 goes first, then they alternate."""
    mbarrier.wait(turn.index(me), (time & 1) ^ (1 - me))


@gluon.jit
def exponentials(s, m, l, rows, j, S, whole, offset, qk_scale, CAUSAL: gl.constexpr,
                 N: gl.constexpr, scores: gl.constexpr):
    """Scores of tile j -> weights, the shrinking factor, the new m and l (rung 3's functions)."""
    if j * N >= whole:
        keys = j * N + gl.arange(0, N, gl.SliceLayout(0, scores))
        s = gl.where(seen_by(rows, keys, S, offset, CAUSAL), s, float("-inf"))
    return softmax_step(s, m, l, qk_scale)


@gluon.jit
def consume(O, LSE, q, k, v, bars, head, tile, T, S, qk_scale, tiles, whole, offset,
            me: gl.constexpr, CAUSAL: gl.constexpr, D: gl.constexpr, N: gl.constexpr):
    """One consumer: attention of its 64 queries over all tiles of keys."""
    scores: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, N, 16])
    output: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    weights: gl.constexpr = gl.DotOperandLayout(0, output, 2)
    q_full, k_full, v_full, k_free, v_free, turn = bars
    first = (2 * tile + me) * ROWS
    rows = first + gl.arange(0, ROWS, gl.SliceLayout(1, scores))
    m = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, scores))
    l = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, scores))
    acc, none = gl.zeros([ROWS, D], gl.float32, output), gl.zeros([ROWS, N], gl.float32, scores)
    mine = q.index(me).reshape([ROWS, D])
    # Tile 0: only scores, there is nothing to add up yet.
    mbarrier.wait(q_full, 0)
    mbarrier.wait(k_full.index(0), 0)
    take_turn(turn, me, 0)
    s = warpgroup_mma(mine, k.index(0).reshape([N, D]).permute((1, 0)), none, use_acc=False)
    mbarrier.arrive(k_free.index(0))
    mbarrier.arrive(turn.index(1 - me))
    p, shrink, m, l = exponentials(s, m, l, rows, 0, S, whole, offset, qk_scale, CAUSAL, N, scores)
    for j in range(1, tiles):
        slot, last = j % STAGES, (j - 1) % STAGES
        mbarrier.wait(k_full.index(slot), j // STAGES & 1)
        mbarrier.wait(v_full.index(last), (j - 1) // STAGES & 1)
        # My turn: the product that the last softmax was for, and the one for the next softmax.
        operand = gl.convert_layout(p.to(O.dtype), weights)
        take_turn(turn, me, j)
        s = warpgroup_mma(mine, k.index(slot).reshape([N, D]).permute((1, 0)), none,
                          use_acc=False, is_async=True)
        acc = warpgroup_mma(operand, v.index(last).reshape([N, D]), acc, is_async=True)
        s, acc = warpgroup_mma_wait(0, deps=(s, acc))
        mbarrier.arrive(k_free.index(slot))
        mbarrier.arrive(v_free.index(last))
        mbarrier.arrive(turn.index(1 - me))
        # The other one's turn: exponentials.
        p, shrink, m, l = exponentials(s, m, l, rows, j, S, whole, offset, qk_scale, CAUSAL, N,
                                       scores)
        acc *= gl.convert_layout(shrink, gl.SliceLayout(1, output))[:, None]
    final = tiles - 1
    mbarrier.wait(v_full.index(final % STAGES), final // STAGES & 1)
    operand = gl.convert_layout(p.to(O.dtype), weights)
    take_turn(turn, me, tiles)
    acc = warpgroup_mma(operand, v.index(final % STAGES).reshape([N, D]), acc)
    mbarrier.arrive(turn.index(1 - me))
    acc = acc / gl.convert_layout(l, gl.SliceLayout(1, output))[:, None]
    mine.store(acc.to(O.dtype))             # where its queries were: nobody reads them any more
    fence_async_shared()
    tma.async_store(O, [head, first, 0], q.index(me))
    tma.store_wait(0)
    lse = (m + gl.log2(l)) * 0.6931471805599453
    gl.store(LSE + head.to(gl.int64) * T + rows, lse, mask=rows < T)


@gluon.jit
def specialised_kernel(Q, K, V, O, LSE, H, G, T, S, qk_scale, CAUSAL: gl.constexpr,
                       D: gl.constexpr, N: gl.constexpr):
    """128 queries of one head: shared memory, barriers, and the three parts side by side."""
    rows_of_tile: gl.constexpr = 2 * ROWS
    in_head = gl.cdiv(T, rows_of_tile)
    tile, head = in_head - 1 - gl.program_id(0) % in_head, gl.program_id(0) // in_head
    kv = head // H * (H // G) + head % H // G
    whole, hi, offset = tiles_of(tile, T, S, CAUSAL, rows_of_tile, N)
    tiles = gl.cdiv(hi, N)
    q = gl.allocate_shared_memory(Q.dtype, [2, 1, ROWS, D], Q.layout)
    k = gl.allocate_shared_memory(Q.dtype, [STAGES, 1, N, D], K.layout)
    v = gl.allocate_shared_memory(Q.dtype, [STAGES, 1, N, D], V.layout)
    q_full, k_full = mbarrier.allocate_mbarrier(), mbarrier.allocate_mbarrier(batch=STAGES)
    v_full = mbarrier.allocate_mbarrier(batch=STAGES)
    k_free = mbarrier.allocate_mbarrier(batch=STAGES)
    v_free = mbarrier.allocate_mbarrier(batch=STAGES)
    turn = mbarrier.allocate_mbarrier(batch=2)
    mbarrier.init(q_full, count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(k_free.index(i), count=2)         # free when both consumers have read it
        mbarrier.init(v_free.index(i), count=2)
    for i in gl.static_range(2):
        mbarrier.init(turn.index(i), count=1)
    bars = (q_full, k_full, v_full, k_free, v_free, turn)
    gl.warp_specialize([
        (consume, (O, LSE, q, k, v, bars, head, tile, T, S, qk_scale, tiles, whole, offset, 0,
                   CAUSAL, D, N)),
        (consume, (O, LSE, q, k, v, bars, head, tile, T, S, qk_scale, tiles, whole, offset, 1,
                   CAUSAL, D, N)),
        (produce, (Q, K, V, q, k, v, bars, head, kv, tile, tiles, N))], [4, 1], [240, 24])


def layout_of(rows: int, D: int):
    """How a (1, rows, D) tile of 16-bit numbers lies in shared memory: as wgmma reads it."""
    return gl.NVMMASharedLayout.get_default_for([1, rows, D], gl.bfloat16)


def launch(q: Tensor, k: Tensor, v: Tensor, causal: bool, keys: int = 128
           ) -> tuple[Tensor, Tensor]:
    """q (B, H, T, D), k and v (B, H/G, S, D), 16 bits -> o (B, H, T, D), LSE (B, H, T)."""
    (B, H, T, D), S = q.shape, k.shape[2]
    if D not in (64, 128) or q.dtype.itemsize != 2:
        raise ValueError(f"head size {D}, {q.dtype}: rung 4 is made for 64 or 128 in 16 bits")
    flat = [t.reshape(-1, *t.shape[2:]).contiguous() for t in (q, k, v)]
    o, lse = torch.empty_like(flat[0]), q.new_empty(B, H, T, dtype=torch.float32)
    sizes = (ROWS.value, keys, keys, ROWS.value)
    tiles = [TensorDescriptor.from_tensor(t, [1, rows, D], layout_of(rows, D))
             for t, rows in zip((*flat, o), sizes)]
    grid = (-(-T // (2 * ROWS.value)) * B * H,)
    specialised_kernel[grid](*tiles, lse, H, H // k.shape[1], T, S, LOG2_E / math.sqrt(D),
                             CAUSAL=causal, D=D, N=keys, num_warps=4, maxnreg=168)
    return o.view(q.shape), lse
