"""Attention without the T x T matrix, in plain torch: the two clear rungs below the kernel.

    o = naive_attention(q, k, v)                    # rung 1: the matrix of scores in full
    o = TiledAttention.apply(q, k, v, True)         # rung 2: tiles, online softmax, own backward

Rung 2 is the paper's algorithm line by line, with loops where the GPU has thread blocks. Rung 3,
`attention_kernels.py`, is the same loops in Triton. Both keep one number per row for backward:
the natural logarithm of the sum of exponentials (LSE). But: python loops, so it is slow on
purpose, and it computes masked tiles that the kernel skips.

Letters: B batch, H heads, T queries, S keys, D head size. Source: Dao et al. 2022
(FlashAttention), algorithms 1 and 4; Dao 2023 (FlashAttention-2), algorithms 1 and 2.
"""

import math

import torch
from torch import Tensor

TILE = 64


def visible(rows: Tensor, columns: Tensor, offset: int) -> Tensor:
    """Which keys each query may see: (rows, columns) bool. The T queries are the last T of the S
    positions, so query i sees keys up to i + offset, with offset = S - T."""
    return columns[None, :] <= rows[:, None] + offset


def check_lengths(T: int, S: int, causal: bool) -> None:
    """ValueError for causal attention of more queries than keys: the first would see nothing."""
    if causal and T > S:
        raise ValueError(f"{T} causal queries over {S} keys: the queries are the last ones of the "
                         "positions, so there cannot be more of them")


def naive_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(D)) v with every score in memory at once.

    q (..., T, D), k and v (..., S, D) -> (..., T, D). With `causal` the queries are the LAST T
    of the S positions and see no later key. Keeps T x S numbers per head for backward: at
    T = 16,384 in 16 bits, half a gigabyte a head. Source: Vaswani et al. 2017, equation 1.
    """
    T, S = q.shape[-2], k.shape[-2]
    check_lengths(T, S, causal)
    scores = q @ k.mT / math.sqrt(q.shape[-1])              # (..., T, S)
    if causal:
        i, j = torch.arange(T, device=q.device), torch.arange(S, device=q.device)
        scores = scores.masked_fill(~visible(i, j, S - T), -math.inf)
    return torch.softmax(scores, dim=-1) @ v


def online_softmax_step(m: Tensor, l: Tensor, acc: Tensor, scores: Tensor, v: Tensor
                        ) -> tuple[Tensor, Tensor, Tensor]:
    """Take one more tile of keys into a running softmax; gives the new (m, l, acc).

    m (..., T) is the largest score so far, l (..., T) the sum of exp(score - m), acc (..., T, D)
    the sum of exp(score - m) v. `scores` (..., T, S_tile) and v (..., S_tile, D) are the next
    tile. Start with m = -inf, l = 0, acc = 0; at the end acc / l is the softmax average and
    m + log l the LSE. A row that has seen nothing yet keeps m = -inf, and is free of NaN.
    For one row, m=0 l=1 acc=[2.] and a score of 1 with v=[4.]: m=1, l=1.37, acc=[4.74].
    Source: Milakov and Gimelshein 2018; FlashAttention-2, algorithm 1, lines 8 to 10.
    """
    # The new largest score: everything is kept relative to it, so exp can never overflow.
    m_new = torch.maximum(m, scores.amax(dim=-1))
    # A row without any visible key has m_new = -inf, and -inf - -inf is NaN: use 0 there.
    safe = m_new.masked_fill(m_new == -math.inf, 0.0)
    p = torch.exp(scores - safe[..., None])
    # What was summed under the old maximum shrinks by this factor.
    shrink = torch.exp(m - safe)
    # Sum and weighted sum, both rescaled before the new tile is added.
    l = l * shrink + p.sum(dim=-1)
    acc = acc * shrink[..., None] + p @ v
    return m_new, l, acc


def tiled_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, tile: int = TILE
                  ) -> tuple[Tensor, Tensor]:
    """Attention tile by tile: o (..., T, D) and LSE (..., T); no more than `tile` columns of
    scores exist at once. Shapes as in `naive_attention`."""
    (T, D), S = q.shape[-2:], k.shape[-2]
    check_lengths(T, S, causal)
    i = torch.arange(T, device=q.device)
    m = q.new_full(q.shape[:-1], -math.inf)
    l, acc = q.new_zeros(q.shape[:-1]), torch.zeros_like(q)
    for start in range(0, S, tile):
        j = torch.arange(start, min(start + tile, S), device=q.device)
        scores = q @ k[..., start:start + tile, :].mT / math.sqrt(D)        # (..., T, tile)
        if causal:
            scores = scores.masked_fill(~visible(i, j, S - T), -math.inf)
        m, l, acc = online_softmax_step(m, l, acc, scores, v[..., start:start + tile, :])
    return acc / l[..., None], m + torch.log(l)


def tiled_backward(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, d_o: Tensor,
                   causal: bool, tile: int = TILE) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients dq, dk, dv from the output's gradient, with the scores computed again by tile.

    Shapes as in `naive_attention`; `lse` (..., T) is tiled_forward's. Never holds T x S.
    With P = exp(s - LSE):  dv = P^T do;  dP = do v^T;  ds = P (dP - delta), delta = sum_D(do o);
    dq = ds k / sqrt(D);  dk = ds^T q / sqrt(D). Source: FlashAttention-2, algorithm 2.
    """
    (T, D), S = q.shape[-2:], k.shape[-2]
    i = torch.arange(T, device=q.device)
    # The softmax's own gradient needs sum_j P_ij dP_ij; it equals do . o, one number a row.
    delta = (d_o * o).sum(dim=-1, keepdim=True)             # (..., T, 1)
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for start in range(0, S, tile):
        columns = slice(start, min(start + tile, S))
        k_tile, v_tile = k[..., columns, :], v[..., columns, :]
        # The probabilities again, from the saved LSE: no second softmax pass is needed.
        scores = q @ k_tile.mT / math.sqrt(D)
        if causal:
            j = torch.arange(columns.start, columns.stop, device=q.device)
            scores = scores.masked_fill(~visible(i, j, S - T), -math.inf)
        p = torch.exp(scores - lse[..., None])              # (..., T, tile)
        # v's gradient is p's weights read the other way.
        dv[..., columns, :] = p.mT @ d_o
        # Through the softmax: probabilities times their gradient's distance from its mean.
        ds = p * (d_o @ v_tile.mT - delta) / math.sqrt(D)
        # Each tile finishes its own rows of dk, and adds its share to every row of dq.
        dk[..., columns, :] = ds.mT @ q
        dq += ds @ k_tile
    return dq, dk, dv


class TiledAttention(torch.autograd.Function):
    """`apply(q, k, v, is_causal)`: rung 2 with its own backward; saves q, k, v, o and the LSE.

    q (B, H, T, D) or (B, T, D), k and v the same with S for T.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        o, lse = tiled_forward(q, k, v, is_causal)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.is_causal = is_causal
        return o

    @staticmethod
    def backward(ctx, d_o: Tensor) -> tuple:
        return *tiled_backward(*ctx.saved_tensors, d_o, ctx.is_causal), None
