"""The attention ladder against torch in fp64: every rung, ragged, grouped, causal and full."""

import math

import pytest
import torch
import torch.nn.functional as F

import tiled_attention
from flash_attention import (FlashAttention, TiledAttention, flash_attention, naive_attention,
                             use_flash_attention)
from gpt import GPT, GPTConfig

torch.set_num_threads(1)
triton = pytest.importorskip("triton", reason="Triton has wheels for Linux only")
attention_kernels = pytest.importorskip("attention_kernels")


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def qkv(B=1, H=1, T=40, D=16, S=None, heads=None, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(B, H, T, D)] + 2 * [(B, heads or H, S or T, D)]
    return [torch.randn(s, generator=generator).to(DEVICE, dtype).requires_grad_() for s in shapes]


def exact(q, k, v, causal):
    """torch's own attention in fp64, with the mask aligned at the last position."""
    q, k, v = (t.detach().double().requires_grad_() for t in (q, k, v))
    group, (T, S) = q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    wide = (z.repeat_interleave(group, 1) for z in (k, v))
    mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T) if causal else None
    return (q, k, v), F.scaled_dot_product_attention(q, *wide, attn_mask=mask)


def assert_close(got, want, what, limit=1e-6):
    error = ((got.double() - want).abs().max() / want.abs().max()).item()
    assert error <= limit, f"{what}: relative error {error:.1e}, allowed {limit:.0e}"


@pytest.mark.exercise("7.3")
def test_online_softmax_equals_softmax_in_any_tiles():
    generator = torch.Generator().manual_seed(0)
    scores, v = torch.randn(2, 5, 12, generator=generator) * 4, torch.randn(2, 12, 3)
    for cuts in ([12], [5, 7], [1, 1, 10], [4, 4, 4]):
        m, l, acc = torch.full((2, 5), -math.inf), torch.zeros(2, 5), torch.zeros(2, 5, 3)
        for s, part in zip(scores.split(cuts, -1), v.split(cuts, -2)):
            m, l, acc = tiled_attention.online_softmax_step(m, l, acc, s, part)
        assert_close(acc / l[..., None], scores.softmax(-1).double() @ v.double(),
                     f"average over tiles of {cuts}")
        assert_close(m + l.log(), scores.double().logsumexp(-1), f"LSE over tiles of {cuts}")


@pytest.mark.exercise("7.3")
def test_online_softmax_survives_huge_scores_and_empty_rows():
    m, l, acc = torch.full((2,), -math.inf), torch.zeros(2), torch.zeros(2, 1)
    # The first row sees nothing, then a score far below zero: it must not be compared with zero.
    for s in (torch.tensor([[-math.inf], [1000.0]]), torch.tensor([[-900.0], [2000.0]])):
        m, l, acc = tiled_attention.online_softmax_step(m, l, acc, s, torch.tensor([[2.0]]))
    assert torch.isfinite(acc).all(), "a row without keys, or exp(1000), must not become NaN"
    assert (acc / l[:, None]).flatten().tolist() == [2.0, 2.0], "weights of one key sum to 1"
    assert m.tolist() == [-900.0, 2000.0], f"the largest scores are -900 and 2000, got {m}"


@pytest.mark.exercise("7.4")
@pytest.mark.parametrize("causal", [True, False])
def test_tiled_backward_equals_torch(causal):
    q, k, v = (t.detach().cpu().requires_grad_() for t in qkv(B=2, H=2, T=50, S=70, D=8))
    reference, want = exact(q, k, v, causal)
    scores = q.detach().double() @ k.detach().double().mT / 8 ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(50, 70, dtype=torch.bool).triu(21), -math.inf)
    o, lse = want.detach().float(), scores.logsumexp(-1).float()
    d_o = torch.randn(o.shape, generator=torch.Generator().manual_seed(1))
    raw = (t.detach() for t in (q, k, v))
    got = tiled_attention.tiled_backward(*raw, o, lse, d_o, causal, 16)
    for name, ours, theirs in zip(("dq", "dk", "dv"), got,
                                  torch.autograd.grad(want, reference, d_o.double())):
        assert_close(ours, theirs, f"{name} ({'causal' if causal else 'full'})")


@pytest.mark.parametrize("attend", [TiledAttention, FlashAttention])
@pytest.mark.parametrize("shape", [(2, 30, 16), (2, 2, 30, 16)])
def test_the_functions_save_one_number_per_row_and_nothing_of_size_t_squared(attend, shape):
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    o = attend.apply(q, k, v, True)
    saved = o.grad_fn.saved_tensors
    lse = [t for t in saved if t.shape == shape[:-1]]
    assert len(lse) == 1, f"want the LSE {shape[:-1]} saved, got {[tuple(t.shape) for t in saved]}"
    scores = (q.double() @ k.double().mT / 4).masked_fill(
        torch.ones(30, 30, dtype=torch.bool).triu(1), -math.inf)
    assert_close(lse[0], scores.logsumexp(-1), "natural-log LSE")
    assert max(t.numel() for t in saved) == q.numel(), "nothing of size T x T may be saved"
    o.sum().backward()
    assert q.grad.shape == shape


@pytest.mark.parametrize("H, heads, T, S, D, causal", [
    (1, 1, 128, 128, 64, True), (2, 1, 77, 77, 32, True), (1, 1, 70, 100, 80, True),
    (4, 2, 65, 130, 16, False), (1, 1, 1, 90, 128, True)])
def test_the_kernel_equals_fp64_ragged_grouped_and_odd_heads(H, heads, T, S, D, causal):
    ours = qkv(2 if T < 70 else 1, H, T, D, S, heads)
    reference, want = exact(*ours, causal)
    got = flash_attention(*ours, causal=causal)
    assert_close(got, want, "forward")
    d_o = torch.randn(got.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    grads = torch.autograd.grad(got, ours, d_o)
    for name, a, b in zip(("dq", "dk", "dv"), grads,
                          torch.autograd.grad(want, reference, d_o.double())):
        assert_close(a, b, name)
    again = torch.autograd.grad(flash_attention(*ours, causal=causal), ours, d_o)
    assert all(torch.equal(a, b) for a, b in zip(grads, again)), "backward must be deterministic"


def test_gradcheck_of_the_very_kernel_in_fp64():
    inputs = qkv(1, 2, 20, 16, heads=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: flash_attention(*x), inputs, fast_mode=True)


@pytest.mark.parametrize("row, first", [(32, 4), (29, 1)])
def test_nothing_is_written_or_read_outside_of_the_tensors(row, first):
    """Inputs inside larger tensors full of NaN (guard bands): one read too far shows. Rows of 32
    and an offset of 4 floats can be described as they are; 29 and 1 must be copied first."""
    ours = []
    for t in qkv(1, 2, 37, 24, 53):
        guarded = torch.full((1, 2, t.shape[2] + 2, row), math.nan, device=DEVICE)
        inside = guarded[:, :, 1:-1, first:first + 24]
        inside.copy_(t.detach())
        assert (attention_kernels.aligned(inside) is inside) == (row == 32)
        ours.append(inside.requires_grad_())
    _, want = exact(*ours, True)
    got = flash_attention(*ours)
    assert_close(got, want, "forward between guard bands")
    assert all(g.isfinite().all() for g in torch.autograd.grad(got.sum(), ours))


def test_transposed_broadcast_and_empty_inputs():
    """(B, T, H, D) in memory, as chapter 4 has it; one key head expanded over all; no queries."""
    q = torch.randn(2, 9, 3, 16).transpose(1, 2).requires_grad_()
    k, v = (torch.randn(2, 1, 9, 16).expand(2, 3, 9, 16).requires_grad_() for _ in range(2))
    _, want = exact(q, k, v, True)
    assert_close(flash_attention(q, k, v), want, "transposed and expanded inputs")
    assert flash_attention(q[:, :, :0], k, v).shape == (2, 3, 0, 16)
    with pytest.raises(ValueError, match="no keys"):
        flash_attention(q, k[:, :, :0], v[:, :, :0], causal=False)


def test_bf16_is_upcast_when_interpreting():
    ours = qkv(1, 1, 70, 32, dtype=torch.bfloat16)
    _, want = exact(*ours, True)
    got = flash_attention(*ours)
    assert got.dtype == torch.bfloat16
    assert_close(got, want, "bf16, whose interpreted products are silently wrong", 8e-3)


def test_torch_compile_takes_the_kernel_as_one_graph():
    ours = qkv(1, 2, 20, 16, heads=1)
    compiled = torch.compile(lambda q, k, v: flash_attention(q, k, v) * 2, fullgraph=True,
                             backend="aot_eager")
    got, want = compiled(*ours), flash_attention(*ours) * 2
    assert torch.equal(got, want)
    for a, b in zip(torch.autograd.grad(got.sum(), ours), torch.autograd.grad(want.sum(), ours)):
        assert torch.equal(a, b), "compiled gradients must be the kernel's own"


def test_wrong_shapes_are_refused_in_words():
    q, k, v = qkv(1, 3, 8, 16)
    with pytest.raises(ValueError, match="2 key heads do not divide 3"):
        flash_attention(q, k[:, :2], v[:, :2])
    with pytest.raises(ValueError, match="9 queries are the last of 8"):
        flash_attention(torch.randn(1, 3, 9, 16, device=DEVICE), k, v)
    with pytest.raises(ValueError, match="one floating dtype"):
        flash_attention(q.double(), k, v)
    with pytest.raises(ValueError, match="head size 256"):
        flash_attention(*qkv(D=256))


def test_chapter_4s_gpt_trains_the_same_with_the_kernel_from_outside():
    config = GPTConfig(vocab_size=32, layers=1, width=32, heads=2, kv_heads=1, sequence_length=20)
    losses = []
    for plug in (lambda m: m, use_flash_attention):
        torch.manual_seed(0)
        model = plug(GPT(config))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        ids = torch.randint(32, (2, 21), generator=torch.Generator().manual_seed(1))
        for _ in range(4):
            loss = model(ids[:, :-1], ids[:, 1:])[1]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) < 1e-5, f"same training, other loss: {losses}"


def test_under_autocast_norms_and_projections_differ_in_dtype_and_the_kernel_takes_both():
    config = GPTConfig(vocab_size=32, layers=1, width=32, heads=2, sequence_length=20)
    losses = []
    for plug in (lambda m: m, use_flash_attention):
        torch.manual_seed(0)
        model, ids = plug(GPT(config)), torch.arange(21)[None]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids[:, :-1], ids[:, 1:])[1]
        loss.backward()
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) < 1e-2, losses
    assert flash_attention(*qkv(1, 1, 8, 16)).dtype == torch.float32


@pytest.mark.parametrize("attend", [TiledAttention.apply, FlashAttention.apply, naive_attention])
def test_more_causal_queries_than_keys_are_refused_everywhere(attend):
    q, k, v = qkv(T=5, S=3)
    with pytest.raises(ValueError, match="5.*3"):
        attend(q, k, v, True)
    assert attend(q, k, v, False).isfinite().all(), "without a mask any lengths will do"
