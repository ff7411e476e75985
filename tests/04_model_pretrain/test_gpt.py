"""gpt.py: each piece against a hand-worked table, torch's own operation or a property."""

import math

import pytest
import torch
import torch.nn.functional as F

import gpt
from gpt import GPT, GPT2, GPTConfig, new_norm
from ngram_embedding import tokens_before

torch.set_num_threads(1)
SMALL = dict(vocab_size=50, sequence_length=32, layers=2, width=32, heads=4)


def small_model(**changes) -> GPT:
    """A tiny model with no zero weights, so that every part has an effect."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(**(SMALL | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


VARIANTS = {"default": {}, "gpt2": GPT2, "llama": dict(mlp="swiglu", kv_heads=2, qk_norm=False,
                                                       mix_previous=False, ngram_rows=50),
            "qwen": dict(mlp="swiglu", kv_heads=2, head_size=10, qkv_bias=True, mix_previous=False,
                         norm_eps=1e-5)}


@pytest.mark.parametrize("name", VARIANTS)
def test_no_position_sees_a_later_token(name):
    model, ids = small_model(**VARIANTS[name]), random_ids(2, 16)
    before = model(ids)[0]
    for t in (3, 9, 15):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 7) % 50
        after = model(changed)[0]
        leak = distance(before[:, :t], after[:, :t])
        assert leak == 0, f"{name}: changing token {t} moved logits before it by {leak}: not causal"
        assert distance(before[:, t:], after[:, t:]) > 1e-3, f"{name}: token {t} has no effect"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_is_overfitted(name):
    torch.manual_seed(0)
    model, ids = GPT(GPTConfig(**(SMALL | VARIANTS[name]))), random_ids(4, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(ids[:, :-1], ids[:, 1:])[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5, (f"{name}: 60 steps on one batch of 64 tokens should nearly learn it by "
                        f"heart (ln 50 is {math.log(50):.2f}), but the loss is {loss:.2f}")


def test_first_loss_is_that_of_knowing_nothing():
    torch.manual_seed(0)
    loss = GPT(GPTConfig(**SMALL))(random_ids(8, 32), random_ids(8, 32, seed=2))[1].item()
    assert abs(loss - math.log(50)) < 0.1, f"expected ln 50 = {math.log(50):.3f}, got {loss:.3f}"


def test_targets_of_minus_100_do_not_count():
    model, ids, targets = small_model(), random_ids(1, 8), random_ids(1, 8, seed=2)
    targets[0, 3:] = -100
    logits, loss = model(ids, targets)
    by_hand = -logits[0, :3].log_softmax(-1).gather(1, targets[0, :3, None]).mean()
    assert abs(loss.item() - by_hand.item()) < 1e-5, \
        f"mean over the three targets that count is {by_hand:.5f}, got {loss:.5f}"


def test_packed_rows_equal_separate_documents():
    """Two documents in one row, kept apart by mask and positions, give what each gives alone."""
    model, ids = small_model(), random_ids(1, 12)
    alone = torch.cat([model(ids[:, :5])[0], model(ids[:, 5:])[0]], dim=1)
    document = torch.tensor([0] * 5 + [1] * 7)
    mask = (document[:, None] == document) & torch.ones(12, 12, dtype=torch.bool).tril()
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = model(ids, positions=positions, mask=mask[None, None])[0]
    where = (alone - packed).abs().amax(dim=(0, 2)).argmax().item()
    assert distance(alone, packed) < 1e-5, \
        f"position {where} differs by {distance(alone, packed):.2e}: the documents are not apart"


@pytest.mark.exercise("4.1")
def test_rms_norm_by_hand_and_by_torch():
    norm = gpt.RMSNorm(2)
    got = norm(torch.tensor([[3.0, 4.0]])).tolist()[0]
    expected = [3 / math.sqrt(12.5), 4 / math.sqrt(12.5)]
    assert got == pytest.approx(expected, abs=1e-5), \
        f"[3, 4] has root mean square sqrt(12.5): expected {expected}, got {got}"


@pytest.mark.exercise("4.1")
def test_rms_norm_uses_gain_each_row_and_eps_inside_the_root():
    norm = gpt.RMSNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.0]))
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [100.0, -100.0, 100.0, 100.0]])
    got = norm(x).tolist()
    assert got[0] == pytest.approx([1, 2, -1, 0], abs=1e-4), f"ones times the gain, got {got[0]}"
    assert got[1] == pytest.approx([1, -2, -1, 0], abs=1e-4), \
        f"each row is normed by itself, whatever stands in the others: got {got[1]}"
    assert x.abs().tolist() == [[1] * 4, [100] * 4], "x was changed: it is the residual stream"
    tiny = gpt.RMSNorm(4)(torch.full((1, 4), 1e-3))
    assert tiny[0, 0].item() == pytest.approx(math.sqrt(0.5), abs=1e-4), \
        f"mean of squares 1e-6 and eps 1e-6 give 1/sqrt(2), got {tiny[0, 0]:.4f}: eps in the root"


def turned(x, positions, base=100.0):
    """rotary(x) at these positions, with angles from complex numbers."""
    D = x.shape[-1]
    speed = base ** (-torch.arange(0, D, 2).double() / D)
    angle = positions[:, None].double() * speed
    return gpt.rotary(x, angle.cos().to(x.dtype), angle.sin().to(x.dtype)), torch.polar(
        torch.ones_like(angle), angle)


@pytest.mark.exercise("4.2")
def test_rotary_is_multiplication_by_a_complex_number():
    x = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    got, phase = turned(x, torch.arange(5))
    a, b = x[..., :4].double(), x[..., 4:].double()
    product = torch.complex(a, b) * phase
    expected = torch.cat([product.real, product.imag], dim=-1)
    assert distance(got, expected) < 1e-5, \
        f"channel i pairs with i + D/2, turned by the angle: off by {distance(got, expected):.2f}"
    assert got.dtype == x.dtype and gpt.rotary(x.bfloat16(), phase.real, phase.imag).dtype \
        == torch.bfloat16, "the dtype of x stays"


@pytest.mark.exercise("4.2")
def test_rotary_scores_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 8, generator=generator) for _ in range(2))
    def score(s, t):
        return (turned(q, torch.tensor([s]))[0] * turned(k, torch.tensor([t]))[0]).sum().item()
    assert score(3, 1) == pytest.approx(score(12, 10), abs=1e-4), "q at 3, k at 1: as at 12, 10"
    assert abs(score(3, 1) - score(1, 3)) > 1e-3, "but not as the other way round"
    length = turned(q, torch.tensor([7]))[0].norm().item()
    assert length == pytest.approx(q.norm().item(), abs=1e-4), "a turn keeps the length"


def test_rotary_angles_by_hand():
    cos, sin = gpt.rotary_angles(torch.tensor([0, 1, 2]), 4, 100.0)
    assert cos.tolist()[2] == pytest.approx([math.cos(2), math.cos(0.2)], abs=1e-6)
    assert sin.tolist()[1] == pytest.approx([math.sin(1), math.sin(0.1)], abs=1e-6)
    assert gpt.rotary_angles(torch.zeros(2, 3), 4, 100.0)[0].shape == (2, 3, 2)


@pytest.mark.exercise("4.3")
@pytest.mark.parametrize("T, total", [(6, 6), (1, 6), (3, 6)])
def test_attention_equals_torch(T, total):
    generator = torch.Generator().manual_seed(0)
    q = 3 * torch.randn(2, 3, T, 8, generator=generator)
    k, v = (torch.randn(2, 3, total, 8, generator=generator) for _ in range(2))
    seen = torch.arange(total) <= torch.arange(total - T, total)[:, None]
    expected = F.scaled_dot_product_attention(q, k, v, seen)
    gap = (gpt.causal_attention(q, k, v) - expected).abs().amax(dim=(0, 1, 3))
    assert gap.max() < 1e-5, (f"{T} queries of {total} positions: off by {gap.max():.3f}, most at "
                              f"query {gap.argmax()}; the queries are the last ones")


@pytest.mark.exercise("4.3")
def test_attention_with_a_mask_replaces_the_causal_rule():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.4
    mask |= torch.eye(5, dtype=torch.bool)
    expected = F.scaled_dot_product_attention(q, k, v, mask)
    before = [x.clone() for x in (q, k, v, mask)]
    got = gpt.causal_attention(q, k, v, mask)
    assert distance(got, expected) < 1e-5, \
        f"True means may attend, later keys included: off by {distance(got, expected):.3f}"
    for name, x, was in zip(("q", "k", "v", "the mask"), (q, k, v, mask), before):
        assert torch.equal(x, was), f"{name} was changed: the cache holds it"
    bf16 = gpt.causal_attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert bf16.dtype == torch.bfloat16, f"16-bit in, 16-bit out; got {bf16.dtype}"


@pytest.mark.exercise("4.15")
def test_tokens_before_by_hand():
    ids = torch.tensor([[7, 8, 9]])
    got = tokens_before(ids, torch.arange(3), None).tolist()
    assert got == [[[-1, -1], [7, -1], [8, 7]]], f"one back, two back, -1 for none; got {got}"


@pytest.mark.exercise("4.15")
def test_tokens_before_stop_at_the_start_of_a_text_and_go_on_from_a_cache():
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    got = tokens_before(ids, torch.tensor([[0, 1, 0, 1, 2]]), None)[0].tolist()
    assert got == [[-1, -1], [5, -1], [-1, -1], [7, -1], [8, 7]], \
        f"two texts in a row: nothing may come from the other one; got {got}"
    got = tokens_before(torch.tensor([[8, 9]]), torch.tensor([2, 3]), torch.tensor([[6, 7]]))
    got = got.tolist()
    assert got == [[[7, 6], [8, 7]]], f"`last` holds the two ids before; got {got}"
    got = tokens_before(torch.tensor([[8, 9]]), torch.tensor([1, 2]), torch.tensor([[-1, 7]]))
    assert got.tolist() == [[[7, -1], [8, 7]]], got.tolist()


def test_gpt2_settings_have_the_parameters_of_gpt2():
    """124,439,808 numbers: 12 layers of width 768, 50,257 tokens, 1,024 positions, tied head."""
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab_size=50257, sequence_length=1024, layers=12, width=768,
                              heads=12, **GPT2))
    assert sum(p.numel() for p in model.parameters()) == 124_439_808


def test_wrong_shapes_are_refused():
    for wrong in (dict(heads=3), dict(kv_heads=3), dict(mlp="relu"), dict(norm="batch")):
        with pytest.raises(ValueError):
            GPTConfig(**(dict(width=64, heads=4) | wrong))


@pytest.mark.exercise("4.3")
def test_attention_in_float64_is_not_narrowed():
    """16-bit scores are widened for the softmax; 64-bit ones must stay as exact as they came."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    weights = (q @ k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf).exp()
    gap = distance(gpt.causal_attention(q, k, v), weights / weights.sum(-1, keepdim=True) @ v)
    assert gap < 1e-14, f"float64 attention is {gap:.1e} off: float32 somewhere inside"
    leaves = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(gpt.causal_attention, leaves), "gradient in float64"


def test_a_double_model_computes_in_double():
    """Perturb one weight by 1e-9: a float32 pass cannot see it, a float64 pass must, linearly."""
    model, ids = small_model(tied=True).double(), random_ids(1, 9)
    loss = model(ids[:, :-1], ids[:, 1:])[1]
    assert loss.dtype == torch.float64, f"the loss of a double model is {loss.dtype}"
    loss.backward()
    for name, p in model.named_parameters():
        direction = p.grad / p.grad.norm()
        ahead, behind = [], []
        for sign, losses in ((1, ahead), (-1, behind)):
            with torch.no_grad():
                p.add_(direction, alpha=sign * 1e-6)
                losses.append(model(ids[:, :-1], ids[:, 1:])[1].item())
                p.add_(direction, alpha=-sign * 1e-6)
        slope = (ahead[0] - behind[0]) / 2e-6
        assert slope == pytest.approx(p.grad.norm().item(), rel=1e-5, abs=1e-8), \
            f"{name}: slope {slope} against gradient {p.grad.norm().item()}"


def test_eps_of_the_norm_is_the_configured_one():
    small = torch.full((1, 4), 1e-3)                    # squares of 1e-6: eps decides
    for norm, eps, expected in (("rms", None, 1e-3 / math.sqrt(2e-6)), ("rms", 1e-5, 1e-3 /
                                math.sqrt(1.1e-5)), ("layer", None, 0.0)):
        got = new_norm(GPTConfig(**SMALL, norm=norm, norm_eps=eps), 4)(small)[0, 0].item()
        assert got == pytest.approx(expected, rel=1e-4), f"{norm}, eps {eps}: {got}"
    step = torch.tensor([[1e-3, -1e-3]])                # LayerNorm: variance 1e-6
    for eps, expected in ((None, 1e-3 / math.sqrt(1.1e-5)), (1e-6, 1e-3 / math.sqrt(2e-6))):
        got = new_norm(GPTConfig(**SMALL, norm="layer", norm_eps=eps), 2)(step)[0, 0].item()
        assert got == pytest.approx(expected, rel=1e-4), f"layer, eps {eps}: {got}"
    model = GPT(GPTConfig(**SMALL, norm_eps=1e-3))
    assert {m.eps for m in model.modules() if hasattr(m, "eps")} == {1e-3}, \
        "every norm of the model, those of query and key too"


def test_biases_on_query_key_and_value_alone():
    names = {name for name, _ in GPT(GPTConfig(**SMALL, qkv_bias=True)).named_parameters()
             if name.endswith("bias") and ".0." in name}
    assert names == {f"blocks.0.attention.{part}.bias" for part in ("query", "key", "value")}
    no = GPT(GPTConfig(**SMALL, bias=True, qkv_bias=False)).blocks[0].attention
    assert no.query.bias is None and no.out.bias is not None


def test_a_head_size_of_its_own():
    """Qwen3-0.6B has 16 heads of 128 at width 1,024: the products are not square."""
    config = GPTConfig(**SMALL, head_size=10, kv_heads=2)
    attention = GPT(config).blocks[0].attention
    assert config.D == 10 and attention.query.weight.shape == (40, 32)
    assert attention.key.weight.shape == (20, 32) and attention.out.weight.shape == (32, 40)
    model, ids = small_model(head_size=10, kv_heads=2), random_ids(1, 8)
    assert distance(model(ids)[0][:, :4], model(ids[:, :4])[0]) < 1e-5


def test_exact_gelu_is_not_the_tanh_form():
    x = torch.tensor([[2.0]])
    for kind, expected in (("exact_gelu", 2 * 0.9772498680518208), ("gelu", 1.9545977)):
        mlp = GPT(GPTConfig(**SMALL, mlp=kind)).blocks[0].mlp
        mlp.up = mlp.down = torch.nn.Identity()
        assert mlp(x).item() == pytest.approx(expected, abs=1e-6), kind


def test_rotary_factors_slow_each_pair():
    plain, slow = (gpt.rotary_angles(torch.tensor([6]), 4, 100.0, f) for f in (None, (1.0, 3.0)))
    assert slow[1][0].tolist() == pytest.approx([math.sin(6), math.sin(0.2)], abs=1e-6), \
        f"pair 1 turns by 6 / 10 / 3: {slow[1][0].tolist()}, without factors {plain[1][0].tolist()}"
    config = GPTConfig(**SMALL, rotary_factors=[1, 2, 3, 4])
    assert config.rotary_factors == (1.0, 2.0, 3.0, 4.0)
    model, other = small_model(rotary_factors=(1, 2, 3, 4)), small_model()
    assert distance(model(random_ids(1, 9))[0], other(random_ids(1, 9))[0]) > 1e-3, "no effect"
    with pytest.raises(ValueError, match="3 rotary factors for 4 pairs"):
        GPTConfig(**SMALL, rotary_factors=(1, 2, 3))


def test_more_queries_than_keys_are_refused():
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 3, 8)
    with pytest.raises(ValueError, match="5 queries .* 3 positions"):
        gpt.causal_attention(q, k, k)
    all_seen = torch.ones(1, 1, 5, 3, dtype=torch.bool)
    assert gpt.causal_attention(q, k, k, all_seen).isfinite().all(), "a mask decides by itself"


@pytest.mark.parametrize("name", ["vocab_size", "sequence_length", "layers", "width", "heads"])
def test_a_model_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} 0"):
        GPTConfig(**(SMALL | {name: 0}))
