"""fast_decoding.py: the same model as GPT, through its cache, in batches and in few bits."""

import pytest
import torch

from fast_decoding import TalkingGPT, packed
from batch_generation import generate_batch
from few_bits import Product4, Product8, Product16
from generate import KVCache, generate
from gpt import GPT, GPTConfig
from model_families import LLAMA

torch.set_num_threads(1)
SHAPES = {"llama": LLAMA | dict(kv_heads=2, tied=True), "qwen2": LLAMA | dict(qkv_bias=True),
          "qwen3": LLAMA | dict(qk_norm=True, head_size=32, kv_heads=1),
          "ours, without parts of its own": dict(mix_previous=False, bias=True),
          "ours": dict(tied=True, late_keys=True, ngram_rows=50),
          "late keys in groups": dict(late_keys=True, kv_heads=2, mlp="gelu", norm_eps=1e-3)}
IDS = torch.arange(24)[None] * 7 % 64


def small_model(name: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**dict(vocab_size=64, sequence_length=48, layers=2, width=64, heads=4,
                                 mlp_width=128) | SHAPES[name])).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bits, within", [(16, 0.03), (8, 0.05), (4, 0.5)])
def test_it_computes_what_the_model_computes(name, bits, within):
    model = small_model(name)
    talk = TalkingGPT(model.config, model.state_dict(), bits)
    with torch.inference_mode():
        expected, got = model(IDS)[0], talk(IDS)[0]
        gap = ((got - expected).norm() / expected.norm()).item()
        assert gap < within, f"{name} in {bits} bits: {gap:.3f} of the logits' size"
        cache, pieces = KVCache(2, 24), []
        for piece in IDS.split([9, 1, 1, 6, 7], dim=1):
            h = talk.hidden(piece, cache=cache)
            pieces.append(talk.head(h.flatten(0, 1)))
    step = ((torch.cat(pieces) - got[0]).norm() / got.norm()).item()
    assert step < 0.02, f"{name} in {bits} bits: in pieces through the cache {step:.3f} off"


def test_a_cache_that_grows_is_read_all_the_same(monkeypatch):
    """Another right answer to exercise 4.16 keeps what it has and no room for what comes."""
    def extend(cache, layer, k, v):
        for store, new in ((cache.keys, k), (cache.values, v)):
            old = [] if store[layer] is None else [store[layer][:, :, :cache.length]]
            store[layer] = torch.cat([*old, new], dim=2)
        return cache.keys[layer], cache.values[layer]
    model = small_model("ours")
    plain = list(generate(model, [5, 6, 7], 12, temperature=0))
    monkeypatch.setattr(KVCache, "extend", extend)
    assert list(generate(model, [5, 6, 7], 12, temperature=0)) == plain


def test_it_writes_what_the_model_writes():
    """Greedy, with a clear winner at each step: 16 bits may not change a token."""
    model = small_model("llama")
    with torch.no_grad():
        model.embedding.weight.mul_(4)
    talk = TalkingGPT(model.config, model.state_dict(), 16)
    plain = list(generate(model, [5, 6, 7], 30, temperature=0))
    assert list(generate(talk, [5, 6, 7], 30, temperature=0)) == plain
    prompts = [[5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8], [9]]
    assert generate_batch(talk, prompts, 10, temperature=0) == \
        generate_batch(model, prompts, 10, temperature=0), "ragged prompts, with a mask"


def test_the_products_against_exact_arithmetic():
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 96, generator=g), torch.randn(64, generator=g)
    for rows in (1, 3, 9):                  # few rows and many go different ways
        x = torch.randn(rows, 96, generator=g)
        for product, within in ((Product16, 0.01), (Product8, 0.02), (Product4, 0.15)):
            gap = (product(64, weight.split([50, 14]), bias)(x) - (x @ weight.T + bias)).norm() / (x @ weight.T).norm()
            assert gap < within, f"{product.__name__}, {rows} rows: {gap:.3f}"


def test_four_bits_of_a_q4_1_file_come_through():
    from quantisation import dequantise, quantise
    g = torch.Generator().manual_seed(0)
    weight = torch.from_numpy(dequantise(quantise(torch.randn(32, 64, generator=g).numpy(), "Q4_1"),
                                         "Q4_1"))
    x = torch.randn(1, 64, generator=g).bfloat16().float()
    gap = (Product4(32, [weight])(x) - x @ weight.T).norm() / (x @ weight.T).norm()
    assert gap < 0.01, f"16 steps fitted anew change the weights: {gap:.3f}"


@pytest.mark.parametrize("name", SHAPES)
def test_in_32_bits_it_is_the_model(name):
    """Whole, in pieces through the cache (one token alone among them), and with pads before it."""
    model = small_model(name)
    talk = packed(model)
    assert isinstance(talk, TalkingGPT), f"{name}: a small GPT talks packed"
    assert talk.one_token is not None, f"{name}: its single tokens go through one_token.py"
    with torch.inference_mode():
        expected = model(IDS)[0]
        caches = KVCache(2, 24), KVCache(2, 24)
        pieces = [[m.head(m.hidden(piece, cache=cache)) for piece in IDS.split([1, 8, 1, 14], 1)]
                  for m, cache in zip((talk, model), caches)]
        for got, words in ((talk(IDS)[0], "whole"), (torch.cat(pieces[0], 1), "in pieces")):
            gap = (got - expected).abs().max().item()
            assert gap < 1e-4, f"{name}, {words}: logits {gap:.1e} off"
        pads, column = torch.tensor([0, 9]), torch.arange(24)
        positions = (column - pads[:, None]).clamp(min=0)
        mask = ((column <= column[:, None]) & (column >= pads[:, None])[:, None, None]) \
            | torch.eye(24, dtype=torch.bool)
        padded = [m(IDS.repeat(2, 1), positions=positions, mask=mask)[0] for m in (talk, model)]
        gap = (padded[0] - padded[1])[column >= pads[:, None]].abs().max().item()
        assert gap < 1e-4, f"{name}, behind pads: logits {gap:.1e} off"


def test_a_model_with_other_parts_talks_as_it_is():
    from lora import add_lora
    from gpt import GPT2
    model = small_model("ours")
    assert packed(add_lora(model, 2, 4, ("query",))) is model, "LoRA's products would be left out"
    learned = GPT(GPTConfig(vocab_size=64, layers=1, width=32, heads=2, **GPT2))
    exact = small_model("llama").double()
    assert packed(learned) is learned and packed(exact) is exact


def test_another_shape_is_refused():
    for changes, bits, words in ((dict(positions="learned"), 8, "positions"),
                                 (dict(norm="layer"), 8, "norm"), (LLAMA, 5, "5 bits")):
        model = GPT(GPTConfig(vocab_size=64, layers=1, width=32, heads=2, **changes))
        with pytest.raises(ValueError, match=words):
            TalkingGPT(model.config, model.state_dict(), bits)
