"""Row kernels against torch in fp64, with sizes that no block divides."""

import pytest
import torch
import torch.nn.functional as F

import fused_kernels
from flash_attention import flash_attention

attention_kernels = pytest.importorskip("attention_kernels", reason="Triton is for Linux only")
torch.set_num_threads(1)


def randn(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def check(ours, exact, inputs, limit=1e-6):
    """Value and gradients of ours(*inputs) against exact(*inputs) in fp64."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    low = [t.clone().to(device).requires_grad_() for t in inputs]
    high = [t.double().to(device).requires_grad_() for t in inputs]
    got, want = ours(*low), exact(*high)
    d = (randn(*got.shape, seed=9) if got.dim() else torch.tensor(1.0)).to(device)
    pairs = [(got, want), *zip(torch.autograd.grad(got, low, d),
                               torch.autograd.grad(want, high, d.double()))]
    for number, (a, b) in enumerate(pairs):
        error = ((a.double() - b).abs().max() / b.abs().max()).item()
        what = f"gradient of input {number - 1}" if number else "value"
        assert error <= limit, f"{what}: relative error {error:.1e}, allowed {limit:.0e}"


@pytest.mark.parametrize("shape", [(5, 123), (2, 3, 64), (300, 8)])
def test_rms_norm(shape):
    check(fused_kernels.rms_norm, lambda x, w: F.rms_norm(x, w.shape, w, 1e-6),
          [randn(*shape), randn(shape[-1], seed=1)])


def test_swiglu():
    check(fused_kernels.fused_swiglu, lambda g, u: F.silu(g) * u,
          [randn(5, 999, scale=4), randn(5, 999, seed=1)])
    with pytest.raises(ValueError, match="gate"):
        fused_kernels.fused_swiglu(randn(2, 3), randn(3, 2))


TARGETS = torch.tensor([1, -100, 3, 100, 0, 7])


def test_cross_entropy_kernel_turns_logits_into_their_gradient():
    logits = randn(6, 101, scale=5)
    check(lambda x: fused_kernels.cross_entropy_(x.clone(), TARGETS.to(x.device)),
          lambda x: F.cross_entropy(x, TARGETS.to(x.device)), [logits])
    if not attention_kernels.INTERPRETED:
        return
    with torch.no_grad():
        block = logits.clone()
        losses = fused_kernels.row_kernels.launch_cross_entropy(block, TARGETS, 1.0, block=32)
    assert losses[1] == 0 and not block[1].any(), "target -100: no loss, no gradient"


@pytest.mark.exercise("7.12")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_stands_in_a_row_without_a_target_counts_nowhere(bad):
    logits = torch.tensor([[0.0, 0.0], [bad, 1.0]])
    losses = fused_kernels.loss_and_gradient_(logits, torch.tensor([1, -100]), 1.0)
    assert losses[1] == 0 and logits[1].tolist() == [0, 0], f"nan times 0 is nan: {losses} {logits}"


@pytest.mark.exercise("7.12")
def test_loss_and_gradient_in_place():
    logits = torch.tensor([[0.0, 0.0], [5.0, 1.0], [1000.0, 0.0]])
    place = logits.data_ptr()
    losses = fused_kernels.loss_and_gradient_(logits, torch.tensor([1, -100, 0]), 1.0)
    assert abs(losses[0].item() - 0.6931472) < 1e-6, f"[0, 0], target 1: ln 2, got {losses[0]}"
    assert losses[1] == 0, "a target of -100 has no loss"
    assert losses[2] == 0, "exp(1000) must not overflow"
    assert logits.tolist() == [[0.5, -0.5], [0, 0], [0, 0]], f"the logits' gradient: {logits}"
    assert logits.data_ptr() == place, "in place: no second tensor"
    low = randn(6, 101, scale=5).bfloat16()
    wide = low.float()
    fused_kernels.loss_and_gradient_(wide, TARGETS, 1.0)
    fused_kernels.loss_and_gradient_(low, TARGETS, 1.0)
    assert torch.equal(low, wide.bfloat16()), "16-bit logits become their gradient too"
    exact = randn(6, 101, scale=5).double().requires_grad_()
    ours = exact.detach().clone()
    losses = fused_kernels.loss_and_gradient_(ours, TARGETS, 0.25)
    F.cross_entropy(exact, TARGETS, reduction="sum").backward()
    assert torch.allclose(ours, exact.grad * 0.25, rtol=0, atol=1e-12), "scale times the gradient"
    assert torch.allclose(losses, F.cross_entropy(exact, TARGETS, reduction="none"), atol=1e-12)


@pytest.fixture
def rows_by_torch(monkeypatch):
    """loss_and_gradient_ by autograd, so that only the chunks are under test."""
    def by_torch(logits, targets, scale):
        z = logits.detach().double().requires_grad_()
        losses = F.cross_entropy(z, targets, reduction="none", ignore_index=-100)
        logits.copy_(scale * torch.autograd.grad(losses.sum(), z)[0])
        return losses.detach().to(logits.dtype)
    monkeypatch.setattr(fused_kernels, "loss_and_gradient_", by_torch)


def test_16_bit_logits_lose_no_more_than_their_rounding():
    """Exponents taken in bf16 would be off by whole percents."""
    exact = (randn(6, 101, scale=8).bfloat16().double()).requires_grad_()
    ours = exact.detach().bfloat16()
    losses = fused_kernels.loss_and_gradient_(ours, TARGETS, 1.0)
    F.cross_entropy(exact, TARGETS, reduction="sum").backward()
    rounded = (ours.double() - exact.grad).abs() <= exact.grad.abs() * 2 ** -8 + 1e-30
    assert rounded.all(), "each gradient must be the exact one, rounded once to bf16"
    assert torch.allclose(losses.double(), F.cross_entropy(exact, TARGETS, reduction="none"),
                          atol=1e-5)


@pytest.mark.exercise("7.13")
@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_chunked_linear_cross_entropy(chunk, rows_by_torch):
    h, w = randn(10, 8), randn(33, 8, seed=1)
    targets = torch.tensor([0, 1, 2, -100, 32, 5, -100, -100, 7, 9])
    exact = [t.double().requires_grad_() for t in (h, w)]
    want = F.cross_entropy(exact[0] @ exact[1].T, targets)
    want.backward()
    loss, dh, dw = fused_kernels.chunked_linear_cross_entropy(h, w, targets, chunk)
    assert abs(loss.item() - want.item()) < 1e-5, (
        f"chunk {chunk}: loss {loss.item():.6f}, expected {want.item():.6f}, the mean over ALL "
        "counted targets")
    for name, a, b in (("hidden", dh, exact[0].grad), ("weight", dw, exact[1].grad)):
        error = (a - b).abs().max().item()
        assert error < 1e-6, f"chunk {chunk}: gradient of {name} is off by {error:.1e}"
    assert torch.equal(h, randn(10, 8)) and torch.equal(w, randn(33, 8, seed=1)), \
        "the caller's hidden states or weights were changed"


@pytest.mark.exercise("7.13")
def test_chunks_never_hold_all_logits(monkeypatch, rows_by_torch):
    most = []
    original = fused_kernels.torch.Tensor.__matmul__

    def spy(a, b):
        result = original(a, b)
        most.append(result.numel() if result.shape[-1] == 50 else 0)
        return result
    monkeypatch.setattr(fused_kernels.torch.Tensor, "__matmul__", spy)
    h, w = randn(20, 8), randn(50, 8, seed=1)
    fused_kernels.chunked_linear_cross_entropy(h, w, torch.zeros(20, dtype=torch.long), 4)
    assert max(most) <= 4 * 50, f"{max(most)} logits at once, at most chunk x V = 200 allowed"
    loss, dh, _ = fused_kernels.chunked_linear_cross_entropy(
        h, w, torch.full((20,), -100), 4)
    assert loss == 0 and not dh.any(), "nothing counts: zero, not NaN"
    one = torch.tensor([3] + [-100] * 19)
    loss = fused_kernels.chunked_linear_cross_entropy(h, w, one, 4)[0]
    assert abs(loss - F.cross_entropy(h @ w.T, one)) < 1e-5, "one counts: its loss is the mean"


def test_linear_cross_entropy_has_gradients_for_both():
    targets = torch.randint(17, (2, 5), generator=torch.Generator().manual_seed(1))
    check(lambda h, w: fused_kernels.linear_cross_entropy(h, w, targets.to(h.device), chunk=4) * 3,
          lambda h, w: F.cross_entropy((h @ w.T).flatten(0, 1), targets.flatten().to(h.device)) * 3,
          [randn(2, 5, 8), randn(17, 8, seed=1)])


@pytest.mark.parametrize("low", [False, True])
def test_compiled_and_under_autocast_the_loss_is_the_same(low):
    h, w = randn(6, 16).requires_grad_(), randn(17, 16, seed=1).requires_grad_()
    targets = torch.tensor([0, 5, -100, 16, 2, 2])
    compiled = torch.compile(lambda: fused_kernels.linear_cross_entropy(h, w, targets, chunk=4),
                             fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        got, want = compiled(), F.cross_entropy((h @ w.T).float(), targets)
    assert abs(got - want) < (3e-2 if low else 1e-5)
    for a, b in zip(torch.autograd.grad(got, (h, w)), torch.autograd.grad(want, (h, w))):
        assert a.dtype == torch.float32 and (a - b).abs().max() < (1e-2 if low else 1e-6)


def test_tensors_that_no_kernel_can_take_are_answered_by_torch(monkeypatch):
    """A CPU tensor on a machine with a GPU, or a machine without Triton."""
    monkeypatch.setattr(attention_kernels, "INTERPRETED", False)
    test_rms_norm((5, 12))
    test_swiglu()
    q, k, v = randn(1, 4, 9, 8), randn(1, 2, 9, 8, seed=1), randn(1, 2, 9, 8, seed=2)
    check(flash_attention, lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True), [q, k, v])


@pytest.mark.parametrize("wrong", [-1, 5, -101])
@pytest.mark.parametrize("loss", [
    lambda x, w, t: fused_kernels.linear_cross_entropy(x, w, t, 2),
    lambda x, w, t: fused_kernels.cross_entropy_(x @ w.T, t),
    lambda x, w, t: fused_kernels.loss_and_gradient_(x @ w.T, t, 1.0)])
def test_a_target_outside_of_the_vocabulary_is_an_index_error_as_in_torch(loss, wrong):
    x, weight, targets = randn(3, 4), randn(5, 4, seed=1), torch.tensor([0, wrong, -100])
    with pytest.raises(IndexError, match=f"target {wrong} is out of bounds"):
        loss(x.detach(), weight.detach(), targets)


def test_float64_losses_stay_float64():
    x, weight = randn(3, 4).double().detach(), randn(5, 4, seed=1).double().detach()
    targets = torch.tensor([0, 4, -100])
    got = fused_kernels.linear_cross_entropy(x, weight, targets, 2)
    want = torch.nn.functional.cross_entropy(x @ weight.T, targets)
    assert got.dtype == torch.float64 and abs(got - want) < 1e-14, (got, want)
