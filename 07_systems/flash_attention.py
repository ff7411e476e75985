"""Attention that never holds the T x T matrix, ready to use: exact, and safe to compile.

    from flash_attention import flash_attention, use_flash_attention
    o = flash_attention(q, k, v, causal=True)       # (B, H, T, D), grouped queries welcome
    use_flash_attention(model)                      # chapter 4's GPT, from outside

The ladder: `naive_attention` and `TiledAttention` (tiled_attention.py) -> `FlashAttention`, the
Triton kernels of attention_kernels.py behind torch's custom operators, so that torch.compile
takes them as they are. Where Triton is missing (macOS, Windows) rung 2 answers instead. On a CPU
the kernels run in Triton's interpreter: right, and thousands of times slower than torch.
"""

import torch
from torch import Tensor, nn

from gpt import causal_attention
from tiled_attention import TiledAttention, naive_attention, tiled_backward, tiled_forward

try:
    import attention_kernels
except ImportError:             # Triton has wheels for Linux only
    attention_kernels = None

__all__ = ["FlashAttention", "TiledAttention", "flash_attention", "naive_attention",
           "use_flash_attention"]


def check_shapes(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    """ValueError, in words, for what the kernels would read wrongly instead of refusing."""
    if q.dim() != 4 or k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}: want q (B, "
                         "H, T, D) and k, v (B, H_kv, S, D)")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}: want one floating dtype")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{k.shape[1]} key heads do not divide {q.shape[1]} query heads")
    if q.shape[3] > 128:
        raise ValueError(f"head size {q.shape[3]}: the tiles are made for up to 128")
    if k.shape[2] == 0:
        raise ValueError("no keys: an average over nothing")
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries are the last of {k.shape[2]} positions: impossible")


def by_kernel(t: Tensor) -> bool:
    """Whether the kernels can take `t`: tensors on a GPU, or any where they are interpreted. A
    CPU tensor on a machine with a GPU goes to rung 2, as everything does without Triton."""
    return attention_kernels is not None and (t.is_cuda or attention_kernels.INTERPRETED)


def _widened(*tensors: Tensor) -> list[Tensor]:
    # Interpreted bf16 products are garbage without an error (bit patterns taken for integers),
    # and fp16 ones are rounded elsewhere than on a GPU: the interpreter computes both in fp32.
    widen = attention_kernels.INTERPRETED and tensors[0].element_size() == 2
    return [(t.float() if widen and t.element_size() == 2 else t) for t in tensors]


@torch.library.custom_op("build_llm::attention_forward", mutates_args=())
def attention_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """o (B, H, T, D) and the natural-log LSE (B, H, T) of q (B, H, T, D), k, v (B, H_kv, S, D)."""
    if not by_kernel(q):
        k, v = (z.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for z in (k, v))
        return tiled_forward(q, k, v, causal)
    if not q.numel():
        return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    o, lse = attention_kernels.launch_forward(*_widened(q, k, v), causal)
    return o.to(q.dtype), lse


@attention_forward.register_fake
def _(q, k, v, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    return (torch.empty_like(q, memory_format=torch.contiguous_format),
            q.new_empty(q.shape[:3], dtype=wide))


@torch.library.custom_op("build_llm::attention_backward", mutates_args=())
def attention_backward(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, d_o: Tensor,
                       causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, in their shapes; deterministic to the bit."""
    if not by_kernel(q):
        group = q.shape[1] // k.shape[1]
        wide = (z.repeat_interleave(group, dim=1) for z in (k, v))
        dq, dk, dv = tiled_backward(q, *wide, o, lse, d_o, causal)
        return dq, *(z.unflatten(1, (-1, group)).sum(2) for z in (dk, dv))
    if not q.numel():
        return torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    wide = _widened(q, k, v, o, lse, d_o)
    return tuple(g.to(q.dtype) for g in attention_kernels.launch_backward(*wide, causal))


@attention_backward.register_fake
def _(q, k, v, o, lse, d_o, causal):
    return tuple(torch.empty_like(z, memory_format=torch.contiguous_format) for z in (q, k, v))


class FlashAttention(torch.autograd.Function):
    """`apply(q, k, v, is_causal)`: the kernels with gradients; saves q, k, v, o and the LSE.

    q (B, H, T, D), k and v (B, H_kv, S, D), or all three without the head dimension.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        heads = [t if t.dim() == 4 else t.unsqueeze(1) for t in (q, k, v)]
        check_shapes(*heads, is_causal)
        o, lse = attention_forward(*heads, is_causal)
        o = o.view(q.shape)
        ctx.save_for_backward(q, k, v, o, lse.view(q.shape[:-1]))
        ctx.is_causal = is_causal
        return o

    @staticmethod
    def backward(ctx, d_o: Tensor) -> tuple:
        q, k, v, o, lse = ctx.saved_tensors
        if q.dim() == 4:
            return *attention_backward(q, k, v, o, lse, d_o, ctx.is_causal), None
        heads = (t.unsqueeze(1) for t in (q, k, v, o, lse, d_o))
        return *(g.squeeze(1) for g in attention_backward(*heads, ctx.is_causal)), None


def flash_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, exact, in memory that grows with T and not with T^2.

    q (B, H, T, D), k and v (B, H_kv, S, D) with H_kv dividing H -> (B, H, T, D). D up to 128,
    any T and S. With `causal` the T queries are the last of the S positions.
    ValueError for shapes that do not fit together. Under autocast: in its 16 bits.
    """
    if torch.is_autocast_enabled(q.device.type):
        q, k, v = (t.to(torch.get_autocast_dtype(q.device.type)) for t in (q, k, v))
    return FlashAttention.apply(q, k, v, causal)


def use_flash_attention(model: nn.Module) -> nn.Module:
    """Put the kernels into every attention of chapter 4's GPT, from outside; gives the model.

    A call with an explicit mask (packed rows, padding) still goes to chapter 4's own attention.
    """
    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            return causal_attention(q, k, v, mask)
        return flash_attention(q, k, v, causal=True)

    for module in model.modules():
        if hasattr(module, "attend"):
            module.attend = attend
    return model
