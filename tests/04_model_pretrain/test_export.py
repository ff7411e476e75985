"""export.py: what goes out comes in again with the same logits; what cannot go is named. (That
transformers and the gguf package read it with equal logits is measured in MEASURED.md.)"""

import json

import pytest
import torch

from artifacts import BadInput
from checkpoint import save_checkpoint
from export import export_gguf, export_hf, rotary_scaling
from gguf_file import read_gguf
from gpt import GPT, GPT2, GPTConfig
from model_families import LLAMA, PORTABLE, llama3_factors
from published_models import open_folder, open_gguf

torch.set_num_threads(1)
SMALL = dict(vocab_size=300, sequence_length=32, layers=2, width=64, heads=4)
# llama3_factors(16, 500.0, 8.0, 1.0, 4.0, 64): written out, so that a file with its blank can be read
SLOWED = (1.0, 1.0, 2.166375206080068, 8.0, 8.0, 8.0, 8.0, 8.0)
SHAPES = {"llama": LLAMA | dict(kv_heads=2, norm_eps=1e-5, rotary_base=500.0),
          "tied, slowed": LLAMA | dict(tied=True, mlp_width=96, rotary_factors=(2.0,) * 8),
          "llama 3": LLAMA | dict(rotary_base=500.0, rotary_factors=SLOWED),
          "qwen2": LLAMA | dict(qkv_bias=True, kv_heads=1),
          "qwen3": LLAMA | dict(qk_norm=True, head_size=24), "gpt2": GPT2,
          "gpt2, exact gelu": GPT2 | dict(mlp="exact_gelu", mlp_width=96, norm_eps=1e-3)}
IDS = torch.arange(20)[None] * 13 % 300


@pytest.fixture
def saved(tmp_path):
    def make(name: str):
        torch.manual_seed(0)
        model = GPT(GPTConfig(**SMALL | SHAPES.get(name, {}))).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))
        return model, save_checkpoint(tmp_path / "m.pt", model=model)
    return make


@pytest.mark.parametrize("name", SHAPES)
def test_out_and_in_again(saved, tmp_path, name):
    model, path = saved(name)
    expected = model(IDS)[0]
    back, _, _ = open_folder(export_hf(path, tmp_path / "hf"), torch.float32)
    assert torch.allclose(back(IDS)[0], expected, atol=1e-5), f"{name}: folder"
    for kind, within in (("F32", 1e-5), ("F16", 0.02), ("Q8_0", 0.15)):
        if name == "gpt2, exact gelu":
            continue                        # GGUF has one GELU: see the next test
        back, _, _ = open_gguf(export_gguf(path, tmp_path / "m.gguf", kind), torch.float32)
        gap = ((back(IDS)[0] - expected).abs().max() / expected.abs().max()).item()
        assert gap < within, f"{name} as {kind}: {gap:.2g}"
        entry = read_gguf(tmp_path / "m.gguf")[1].entries["blk.0.ffn_up.weight"]
        assert entry.kind == kind and read_gguf(tmp_path / "m.gguf")[1].entries[
            "blk.0.attn_norm.weight"].kind == "F32"


@pytest.mark.parametrize("D, base, settings", [
    (64, 500_000.0, (8.0, 1.0, 4.0, 8192)), (64, 500_000.0, (32.0, 1.0, 4.0, 8192)),
    (128, 500_000.0, (8.0, 1.0, 4.0, 8192)), (16, 500.0, (8.0, 1.0, 4.0, 64)),
    (8, 10_000.0, (4.0, 1.0, 1.5, 2048)), (6, 1000.0, (8.0, 1.0, 4.0, 100))])
def test_llama_3s_settings_are_found_back_from_its_factors(D, base, settings):
    factors = llama3_factors(D, base, *settings)
    config = GPTConfig(vocab_size=8, width=D, heads=1, rotary_base=base, rotary_factors=factors)
    found = rotary_scaling(config)
    again = llama3_factors(D, base, *list(found.values())[1:])
    assert max(abs(a / b - 1) for a, b in zip(again, factors)) < 1e-5, (found, settings)
    if D >= 64:                                     # several pairs between: the very settings
        assert list(found.values())[1:] == pytest.approx(settings, rel=1e-3)


def test_factors_of_no_rule_are_refused_for_a_folder(saved, tmp_path):
    config = GPTConfig(vocab_size=8, width=8, heads=1, rotary_factors=(1.0, 3.0, 2.0, 3.0))
    with pytest.raises(BadInput, match="by no rule .* export it to GGUF"):
        rotary_scaling(config)


@pytest.mark.parametrize("shape", PORTABLE)
def test_a_model_of_every_shape_that_pretrain_offers_can_go(tmp_path, shape):
    from argparse import Namespace
    from plan_file import Plan, with_flags
    from training_loop import Recipe
    ours = GPTConfig(**SMALL | dict(late_keys=True, tied=True, ngram_rows=64))
    plan = Plan(ours, Recipe(), steps=2, rows=2, forecast={"loss": 3.0})
    plan = with_flags(plan, Namespace(shape=shape, tokens=None))
    assert plan.forecast is None, "the forecast was for another model"
    assert plan.model.width == 64 and plan.model.tied and not plan.model.late_keys
    with pytest.raises(BadInput, match="late_keys True.*pretrain.py --shape llama"):
        export_hf(save_checkpoint(tmp_path / "o.pt", model=GPT(ours)), tmp_path / "o")
    model = GPT(plan.model).eval()
    path = save_checkpoint(tmp_path / "m.pt", model=model)
    back = open_folder(export_hf(path, tmp_path / "hf"), torch.float32)[0]
    assert torch.allclose(back(IDS)[0], model(IDS)[0], atol=1e-5)


def test_the_vocabulary_goes_along(saved, tmp_path):
    from bpe import Tokenizer, train_bpe
    from collections import Counter
    vocab, merges = train_bpe(Counter({"hello": 5, " world": 4, " hello": 3}), 262,
                              ["<|endoftext|>"])
    Tokenizer(vocab, merges, ["<|endoftext|>"]).save(tmp_path / "tokenizer.json")
    model, path = saved("llama")
    text = "hello world, héllo<|endoftext|>"
    export_gguf(path, tmp_path / "m.gguf"), export_hf(path, tmp_path / "hf")
    want = Tokenizer.load(tmp_path / "tokenizer.json").encode(text)
    for _, words, settings in (open_gguf(tmp_path / "m.gguf", torch.float32),
                               open_folder(tmp_path / "hf", torch.float32)):
        assert list(words().encode(text)) == list(want)
        assert settings["end_ids"] == [words().special_tokens["<|endoftext|>"]]


def test_what_cannot_go_is_named_and_nothing_is_written(saved, tmp_path):
    _, path = saved("our own")
    for write, target in ((export_hf, tmp_path / "hf"), (export_gguf, tmp_path / "m.gguf")):
        with pytest.raises(BadInput, match="squared_relu.*mix_previous True"):
            write(path, target)
        assert not target.exists()
    _, path = saved("llama")
    with pytest.raises(BadInput, match="kind 'Q6_K'"):
        export_gguf(path, tmp_path / "m.gguf", "Q6_K")
    _, path = saved("gpt2, exact gelu")
    with pytest.raises(BadInput, match="exact_gelu"):
        export_gguf(path, tmp_path / "m.gguf")
    assert json.loads((export_hf(path, tmp_path / "hf") / "config.json").read_text())[
        "activation_function"] == "gelu"
