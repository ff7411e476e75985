"""Counts against the real model and torch's own FLOP counter; conventions against hand tables."""

import math

import pytest
import torch

import flops
from gpt import GPT, GPTConfig

torch.set_num_threads(1)
SMALL = dict(vocab_size=128, sequence_length=64, layers=2, width=64, heads=2)
VARIANTS = {"default": {},
            "swiglu, tied, grouped": dict(mlp="swiglu", tied=True, heads=4, kv_heads=2),
            "GPT-2's choices": dict(mlp="gelu", norm="layer", positions="learned", bias=True,
                                    qk_norm=False, mix_previous=False),
            "swiglu with every bias": dict(mlp="swiglu", norm="layer", bias=True),
            "n-gram table": dict(ngram_rows=32, ngram_width=8),
            "heads of their own size, biased": dict(mlp="swiglu", heads=4, kv_heads=2, head_size=24,
                                                    qkv_bias=True),
            "every size its own, no bias on q, k, v": dict(head_size=24, mlp_width=40, bias=True,
                                                           qkv_bias=False)}


def config_of(name: str) -> GPTConfig:
    return GPTConfig(**SMALL | VARIANTS[name])


@pytest.fixture
def counted_parameters(monkeypatch):
    """`parameters` from the real model, so that exercise 3.2 does not depend on 3.1."""
    def real(config):
        model = GPT(config)
        total = sum(p.numel() for p in model.parameters())
        tables = model.embedding.weight.numel()
        return {"products": sum(m.weight.numel() for m in model.modules()
                                if isinstance(m, torch.nn.Linear)), "total": total,
                "non_embedding": total - tables * (1 if config.tied else 2)}
    monkeypatch.setattr(flops, "parameters", real)


@pytest.fixture
def counted_forward(monkeypatch, counted_parameters):
    """`forward_flops` from the table in the docstring, so that 3.3 does not depend on 3.2."""
    def by_table(config, batch=1, length=None, causal=False):
        T, count = length or config.sequence_length, flops.parameters(config)
        pairs = sum(range(1, T + 1)) if causal else T ** 2
        return batch * (2 * count["products"] * T + 4 * config.layers * pairs * config.width)
    monkeypatch.setattr(flops, "forward_flops", by_table)


@pytest.mark.exercise("3.1")
@pytest.mark.parametrize("name", VARIANTS)
def test_total_is_what_the_model_really_holds(name):
    held = sum(p.numel() for p in GPT(config_of(name)).parameters())
    got = flops.parameters(config_of(name))["total"]
    assert got == held, f"{name}: the model holds {held} numbers, counted were {got}"


@pytest.mark.exercise("3.1")
def test_parts_of_a_table_worked_by_hand():
    # width 64, 2 layers, V 128: q, k, v, o are 4 x 64 x 64; the MLP 2 x 64 x 256
    got = flops.parameters(GPTConfig(**SMALL))
    hand = {"embedding": 8192, "head": 8192, "attention": 2 * 16_384, "mlp": 2 * 32_768,
            "vectors": 5 * 64 + 2 * 2 * 32 + 64, "products": 2 * 49_152 + 8192}
    for part, value in hand.items():
        assert got[part] == value, f"{part}: {got[part]}, by hand {value}"
    assert got["non_embedding"] == got["total"] - 2 * 8192, "Kaplan's N leaves table AND head out"


@pytest.mark.exercise("3.1")
@pytest.mark.parametrize("name", VARIANTS)
def test_each_number_of_the_model_is_in_its_part(name):
    held = dict.fromkeys(("embedding", "attention", "mlp", "ngram", "vectors", "head"), 0)
    for where, p in GPT(config_of(name)).named_parameters():
        part = ("vectors" if p.dim() < 2 else "ngram" if where.startswith("ngram_embedding.up")
                else "embedding" if "embedding" in where else "head" if "lm_head" in where
                else "attention" if ".attention." in where else "mlp")
        held[part] += p.numel()
    got = flops.parameters(config_of(name))
    assert {part: got[part] for part in held} == held, f"{name}: by part the model holds {held}"
    want = held["attention"] + held["mlp"] + held["ngram"] + 128 * 64
    assert got["products"] == want, f"{name}: every matrix and the output matrix, {want}"
    assert got["non_embedding"] == got["total"] - held["embedding"] - held["head"], name


@pytest.mark.exercise("3.1")
def test_a_tied_head_is_stored_once_but_multiplied_all_the_same():
    tied = flops.parameters(GPTConfig(**SMALL, tied=True))
    assert tied["head"] == 0 and tied["products"] == 2 * 49_152 + 8192, \
        "a tied head costs no memory of its own, and the same product as any head"


@pytest.mark.exercise("3.2")
@pytest.mark.parametrize("name", VARIANTS)
def test_forward_equals_torchs_counter(name, counted_parameters):
    config, ids = config_of(name), torch.zeros(3, 64, dtype=torch.long)
    model = GPT(config)
    counted = flops.counted_flops(lambda: model(ids))
    got = flops.forward_flops(config, 3, 64)
    assert got == counted, f"{name}: torch counts {counted}, we {got} ({got / counted:.3f} of it)"


@pytest.mark.exercise("3.2")
def test_causal_counts_the_pairs_that_may_attend(counted_parameters):
    config = GPTConfig(**SMALL)
    full, causal = (flops.forward_flops(config, 1, 8, causal=c) for c in (False, True))
    # 8 queries, 8 keys: 64 pairs, of which 36 have key <= query; 4 FLOPs per pair and channel
    assert full - causal == 4 * 2 * 64 * (64 - 36), "of T x T pairs T (T + 1) / 2 are allowed"


@pytest.mark.exercise("3.3")
def test_training_is_three_forward_passes_by_torchs_counter(counted_forward):
    config, ids = GPTConfig(**SMALL), torch.zeros(3, 64, dtype=torch.long)
    model = GPT(config)
    counted = flops.counted_flops(lambda: model(ids, ids)[1].backward())
    # "exact" leaves out what the causal mask leaves out: 63 / 128 of the attention products
    masked = 3 * 3 * 4 * 2 * 64 * (64 * 64 - 64 * 65 // 2)
    got = flops.training_flops(config, 3 * 64)
    assert got == counted - masked, f"torch counts {counted} less {masked} masked, we say {got}"


@pytest.mark.exercise("3.3")
def test_conventions_on_one_model(counted_forward):
    config = GPTConfig(**SMALL)
    total = 2 * 8192 + 2 * 49_152 + 512
    # Chinchilla's appendix F per token: 2 (matrices + head + table) + 4 L T C + 3 L H T
    chinchilla = 3 * (2 * (2 * 49_152 + 2 * 8192) + 4 * 2 * 64 * 64 + 3 * 2 * 2 * 64)
    for convention, value in (("6N", 6 * total), ("kaplan", 6 * (total - 2 * 8192)),
                              ("chinchilla", chinchilla)):
        got = flops.training_flops(config, 1000, convention)
        assert got == pytest.approx(1000 * value), f"{convention}: {got / 1000}, by hand {value}"


@pytest.mark.exercise("3.3")
def test_an_unknown_convention_is_refused(counted_forward):
    with pytest.raises(ValueError):
        flops.training_flops(GPTConfig(**SMALL), 1, "hoffman")


def test_kaplans_counting_raises_the_exponent_of_the_same_law():
    large, small = flops.kaplan_exponent(1e22, 1e26), flops.kaplan_exponent(1e12, 1e20)
    assert large == pytest.approx(0.366 / 0.714, abs=0.01), "large models: the law's own exponent"
    assert 0.70 < small < 0.80, f"small models counted without embeddings: {small}, Kaplan had 0.73"
    same = flops.kaplan_exponent(1e12, 1e20, omega=0.0)
    assert math.isclose(same, 0.366 / 0.714, rel_tol=1e-3), "without embeddings nothing changes"
