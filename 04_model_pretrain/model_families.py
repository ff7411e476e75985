"""Which published model is which of our settings, and under what names its tensors travel.

    config = config_from_hf(json.load(open("config.json")))         # a Hugging Face folder
    config = config_from_gguf(metadata, tensors)                    # a GGUF file
    their_name("blocks.0.attention.query.weight", "gguf")           # "blk.0.attn_q.weight"

Four families are one model with other settings: GPT-2, Llama (SmolLM2, TinyLlama, Mistral, Llama 3
with its slowed rotation), Qwen2 (biases on query, key and value), Qwen3 (norms on query and key).
What none of them is refused in one line that names the setting: a model that is almost right says
fluent nonsense. Sources: the config classes and modelling files of transformers 5.23; ggml's
docs/gguf.md; llama.cpp's convert_hf_to_gguf.py for the order of rotary rows.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artifacts import BadInput
from gpt import GPT2, GPTConfig

ROTARY_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
LLAMA = dict(mlp="swiglu", norm="rms", positions="rotary", qk_norm=False, bias=False,
             mix_previous=False)        # GPTConfig(**LLAMA, ...): Touvron et al. 2023
# what `pretrain.py --shape` builds: models that other people's programs can open (export.py)
PORTABLE = {"llama": LLAMA | dict(late_keys=False, ngram_rows=0),
            "qwen3": LLAMA | dict(late_keys=False, ngram_rows=0, qk_norm=True),
            "gpt2": GPT2 | dict(ngram_rows=0)}

# our name -> (Hugging Face's, GGUF's), Llama and Qwen
NAMES = {"embedding": ("model.embed_tokens", "token_embd"), "final_norm": ("model.norm",
         "output_norm"), "lm_head": ("lm_head", "output"),
         "attention_norm": ("input_layernorm", "attn_norm"),
         "mlp_norm": ("post_attention_layernorm", "ffn_norm"),
         "attention.query": ("self_attn.q_proj", "attn_q"),
         "attention.key": ("self_attn.k_proj", "attn_k"),
         "attention.value": ("self_attn.v_proj", "attn_v"),
         "attention.out": ("self_attn.o_proj", "attn_output"),
         "attention.q_norm": ("self_attn.q_norm", "attn_q_norm"),
         "attention.k_norm": ("self_attn.k_norm", "attn_k_norm"),
         "mlp.gate": ("mlp.gate_proj", "ffn_gate"), "mlp.up": ("mlp.up_proj", "ffn_up"),
         "mlp.down": ("mlp.down_proj", "ffn_down")}
# the same for GPT-2, whose query, key and value are one matrix
GPT2_NAMES = {"embedding": ("wte", "token_embd"), "position_embedding": ("wpe", "position_embd"),
              "final_norm": ("ln_f", "output_norm"), "lm_head": ("lm_head", "output"),
              "attention_norm": ("ln_1", "attn_norm"), "mlp_norm": ("ln_2", "ffn_norm"),
              "attention.query": ("attn.c_attn", "attn_qkv"),
              "attention.key": ("attn.c_attn", "attn_qkv"),
              "attention.value": ("attn.c_attn", "attn_qkv"),
              "attention.out": ("attn.c_proj", "attn_output"), "mlp.up": ("mlp.c_fc", "ffn_up"),
              "mlp.down": ("mlp.c_proj", "ffn_down")}

# settings of a GGUF file that change what is computed, and the value at which they do not
NEUTRAL = {"expert_count": 0, "logit_scale": 1, "embedding_scale": 1, "residual_scale": 1,
           "attention.causal": True, "use_parallel_residual": False, "attention.clamp_kqv": 0,
           "attention.max_alibi_bias": 0, "attn_logit_softcapping": 0, "pooling_type": 0,
           "final_logit_softcapping": 0, "nextn_predict_layers": 0, "rope.scaling.attn_factor": 1}


def their_name(ours: str, style: str, gpt2: bool = False) -> str:
    """The name of our parameter `ours` in a Hugging Face folder ("hf") or GGUF file ("gguf")."""
    owner, _, kind = ours.rpartition(".")
    layer = ""
    if owner.startswith("blocks."):
        _, number, owner = owner.split(".", 2)
        layer = f"blk.{number}." if style == "gguf" else \
            f"h.{number}." if gpt2 else f"model.layers.{number}."
    name = (GPT2_NAMES if gpt2 else NAMES)[owner][style == "gguf"]
    return f"{layer}{name}.{kind}"


def halves_from_pairs(rows: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix, ordered for turning neighbours, as our `rotary` wants them.

    (H D, ...) -> (H D, ...): in each head row 2 i goes to place i and row 2 i + 1 to i + D / 2.
    One head of D = 4: rows a b c d become a c b d, in the dtype they came in. Llama's own files
    and GGUF's "llama" keep the two sides of a pair next to each other; ours, like Hugging Face's,
    half a head apart.
    """
    # (H D, ...) -> (H, D / 2, 2, ...): the pair's two sides are the third dimension
    pairs = rows.unflatten(0, (heads, -1, 2))
    # both halves of a head in turn
    return pairs.transpose(1, 2).flatten(0, 2)


def pairs_from_halves(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `halves_from_pairs`: what a GGUF file of the family "llama" holds."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def llama3_factors(size: int, base: float, factor: float, low: float, high: float,
                   original: int) -> tuple[float, ...]:
    """By how much Llama 3 slows each pair of channels, to reach `factor` times its old context.

    Pair i turns once in 2 pi base^(2 i / size) tokens. Pairs that turn more than `high` times in
    the `original` context stay (1); those that turn less than `low` times are slowed `factor`
    times; between them the speed goes from the one to the other in a straight line over the number
    of turns. Gives size / 2 numbers. Source: Meta's llama-models, `apply_scaling`.
    """
    factors = []
    for i in range(0, size, 2):
        # how often this pair turns in the context that the model was first trained on
        turns = original / (2 * math.pi * base ** (i / size))
        # 0: slowed in full, 1: left alone
        share = min(1.0, max(0.0, (turns - low) / (high - low)))
        # speeds are mixed, not times; the factor is what the speed is divided by
        factors.append(1 / ((1 - share) / factor + share))
    return tuple(factors)


def _needs(values: Mapping[str, Any], name: str, where: str, kind: type = int) -> Any:
    """A value that cannot be guessed, of the right type."""
    value = values.get(name)
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        value = value[0]                        # one number a layer, all the same
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < (
            2 ** 28 if kind is int else 2 ** 60):
        raise BadInput(f"{where} gives {name} as {value!r}; a positive number is needed: give the "
                       "whole model with its settings")
    return value


def _refuse(where: str, why: str) -> None:
    raise BadInput(f"{where}: {why}, which this code does not compute; the families it loads are "
                   f"gpt2, {', '.join(ROTARY_FAMILIES)}")


def _number(values: Mapping[str, Any], name: str, where: str, default: float) -> float:
    """A positive finite number that has a default; null means the default too."""
    value = values.get(name)
    return default if value is None else _needs(values, name, where, float)


def _made(where: str, **settings) -> GPTConfig:
    factors = settings.get("rotary_factors") or ()
    if not all(isinstance(f, (int, float)) and 0 < f < math.inf for f in factors):
        raise BadInput(f"{where} slows its rotary positions by {min(factors, key=str)!r} times; "
                       "positive numbers are needed")
    try:
        return GPTConfig(**settings)
    except (ValueError, TypeError, ZeroDivisionError) as why:
        raise BadInput(f"{where} describes no model: {why}") from why


def _hf_rotation(c: Mapping, D: int, where: str) -> dict[str, Any]:
    """rotary_base and rotary_factors of a config.json, old style or new (`rope_parameters`)."""
    new = c.get("rope_parameters") or {}
    scaling = new or c.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise BadInput(f"{where} gives the scaling of rotary positions as {scaling!r}; an object "
                       "with rope_type is needed")
    base = _number(new if "rope_theta" in new else c, "rope_theta", where, 10_000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if new.get("partial_rotary_factor", c.get("partial_rotary_factor", 1.0)) not in (None, 1, 1.0):
        _refuse(where, "only a part of each head is turned (partial_rotary_factor)")
    if kind == "default":
        return {"rotary_base": base}
    if kind == "linear":
        factor = _needs(scaling, "factor", where, float)
        return {"rotary_base": base, "rotary_factors": (factor,) * (D // 2)}
    if kind != "llama3":
        _refuse(where, f"rotary positions are scaled by the rule {kind!r}")
    values = [_needs(scaling, name, where, float) for name in
              ("factor", "low_freq_factor", "high_freq_factor",
               "original_max_position_embeddings")]
    if values[1] >= values[2]:
        raise BadInput(f"{where}: low_freq_factor {values[1]} must be below high_freq_factor "
                       f"{values[2]}")
    return {"rotary_base": base, "rotary_factors": llama3_factors(D, base, *values)}


def _gpt2_from_hf(c: Mapping, where: str) -> GPTConfig:
    gelu = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "exact_gelu"}
    act = c.get("activation_function", "gelu_new")
    if act not in gelu:
        _refuse(where, f"activation_function is {act!r}")
    if c.get("scale_attn_by_inverse_layer_idx") or not c.get("scale_attn_weights", True):
        _refuse(where, "attention scores are scaled in another way")
    return _made(where, **GPT2 | dict(
        mlp=gelu[act], vocab_size=_needs(c, "vocab_size", where), tied=c.get("tie_word_embeddings",
                                                                             True),
        sequence_length=_needs(c, "n_positions" if "n_positions" in c else "n_ctx", where),
        layers=_needs(c, "n_layer", where), width=_needs(c, "n_embd", where),
        heads=_needs(c, "n_head", where), mlp_width=c.get("n_inner"),
        norm_eps=_number(c, "layer_norm_epsilon", where, 1e-5)))


def hf_biases(c: Mapping[str, Any]) -> dict[str, bool]:
    """Which layers of a rotary family add a bias: {"qkv": ..., "out": ..., "mlp": ...}."""
    kind = c["model_type"]
    attention = kind in ("llama", "qwen3") and bool(c.get("attention_bias"))
    return {"qkv": attention or kind == "qwen2", "out": attention,
            "mlp": kind == "llama" and bool(c.get("mlp_bias"))}


def gguf_biases(tensors: Mapping) -> dict[str, bool]:
    """The same, told by which tensors a GGUF file has: its metadata does not say."""
    return {group: f"blk.0.{name}.bias" in tensors for group, name in
            (("qkv", "attn_q"), ("out", "attn_output"), ("mlp", "ffn_up"))}


def _bias_settings(has: Mapping[str, bool]) -> dict[str, Any]:
    bias = has["out"] or has["mlp"]
    return {"bias": bias, "qkv_bias": None if has["qkv"] == bias else has["qkv"]}


def absent_biases(config: GPTConfig, has: Mapping[str, bool]) -> tuple[str, ...]:
    """The ends of the names of our biases that stay zero: our GPT has one switch for the biases of
    the attention's way out and of the MLP, some models have only the one or the other."""
    out, mlp = (".attention.out.bias",), (".mlp.up.bias", ".mlp.gate.bias", ".mlp.down.bias")
    return () if not config.bias else (() if has["out"] else out) + (() if has["mlp"] else mlp)


def config_from_hf(c: Mapping[str, Any], where: str = "config.json") -> GPTConfig:
    """Our settings for the `config.json` of a published model of the four families.

    Heads, sizes, eps and rotation are taken from it and never guessed. BadInput, naming `where`,
    if a needed value is missing or the model does something that our GPT does not.
    """
    if not isinstance(c, Mapping) or not isinstance(c.get("model_type"), str):
        raise BadInput(f"{where} has no model_type: it is not the config of a language model")
    kind = c["model_type"]
    if packed := c.get("quantization_config"):
        method = packed.get("quant_method") if isinstance(packed, Mapping) else packed
        _refuse(where, f"the weights are packed by the method {method!r} (quantization_config)")
    if kind == "gpt2":
        return _gpt2_from_hf(c, where)
    if kind not in ROTARY_FAMILIES:
        _refuse(where, f"the model is of the family {kind!r}")
    if c.get("hidden_act", "silu") not in ("silu", "swish"):
        _refuse(where, f"hidden_act is {c['hidden_act']!r}")
    width, heads = _needs(c, "hidden_size", where), _needs(c, "num_attention_heads", where)
    head_size = c.get("head_dim") or (128 if kind == "qwen3" else None)
    length = _needs(c, "max_position_embeddings", where)
    window = c.get("sliding_window")
    if window and (kind == "mistral" or c.get("use_sliding_window")):
        length = min(length, _needs(c, "sliding_window", where))    # within it attention is full
    settings = LLAMA | dict(
        vocab_size=_needs(c, "vocab_size", where), sequence_length=length, width=width,
        layers=_needs(c, "num_hidden_layers", where), heads=heads, head_size=head_size,
        kv_heads=_needs(c, "num_key_value_heads", where) if c.get("num_key_value_heads") else heads,
        mlp_width=_needs(c, "intermediate_size", where),
        norm_eps=_number(c, "rms_norm_eps", where, 1e-6), qk_norm=kind == "qwen3",
        tied=bool(c.get("tie_word_embeddings", False)), **_bias_settings(hf_biases(c)))
    D = _made(where, **settings).D
    return _made(where, **settings | _hf_rotation(c, D, where))


def short(number: float) -> float:
    """The decimal number that was meant when float32 says 9.99999974e-06: 1e-05."""
    return float(str(np.float32(number)))


def config_from_gguf(metadata: Mapping[str, Any], tensors: Mapping, where: str = "the file"
                     ) -> GPTConfig:
    """Our settings for the metadata and the tensors of a GGUF file; BadInput as above."""
    kind = metadata.get("general.architecture")
    if kind not in ("gpt2", *ROTARY_FAMILIES):
        _refuse(where, f"general.architecture is {kind!r}")
    own = {name.removeprefix(kind + "."): value for name, value in metadata.items()}
    changed = [f"{name} {own[name]!r}" for name, value in NEUTRAL.items()
               if own.get(name) not in (None, value)]
    if changed:
        _refuse(where, f"the model has {', '.join(changed)}")
    if (parts := metadata.get("split.count", 1)) not in (0, 1):
        raise BadInput(f"{where} is one of {parts} parts of a model: join them first "
                       "(llama.cpp's gguf-split --merge)")
    if "token_embd.weight" not in tensors:
        raise BadInput(f"{where} has no tensor token_embd.weight: it holds no whole model")
    heads, width = _needs(own, "attention.head_count", where), _needs(own, "embedding_length",
                                                                      where)
    eps = _number(own, "attention.layer_norm_epsilon" if kind == "gpt2" else
                  "attention.layer_norm_rms_epsilon", where, 1e-5 if kind == "gpt2" else 1e-6)
    length = _needs(own, "context_length", where)
    window = _needs(own, "attention.sliding_window", where) \
        if own.get("attention.sliding_window") else length
    settings = (GPT2 if kind == "gpt2" else LLAMA) | dict(
        vocab_size=tensors.entries["token_embd.weight"].shape[0], width=width, heads=heads,
        layers=_needs(own, "block_count", where), mlp_width=_needs(own, "feed_forward_length",
                                                                   where),
        sequence_length=min(length, window),
        norm_eps=short(eps), tied="output.weight" not in tensors)
    if kind == "gpt2":
        return _made(where, **settings)
    kv = "attention.head_count_kv"
    settings |= dict(
        kv_heads=_needs(own, kv, where) if own.get(kv) else heads, qk_norm=kind == "qwen3",
        head_size=own.get("attention.key_length"), **_bias_settings(gguf_biases(tensors)),
        rotary_base=short(_number(own, "rope.freq_base", where, 10_000.0)))
    D = _made(where, **settings).D
    if own.get("rope.dimension_count", D) != D or own.get("attention.value_length", D) != D:
        _refuse(where, f"heads of {D} of which {own.get('rope.dimension_count')} are turned")
    if abs(own.get("attention.scale", D ** -0.5) - D ** -0.5) > 1e-6:
        _refuse(where, f"attention scores are scaled by {own['attention.scale']}")
    old = own.get("rope.scale_linear", 1.0)     # its name before there were other rules
    scaling = own.get("rope.scaling.type", "none" if old in (0, 1) else "linear")
    if scaling not in ("none", "linear"):
        _refuse(where, f"rotary positions are scaled by the rule {scaling!r}")
    if scaling == "linear":
        factor = _number(own, "rope.scaling.factor", where, old or 1.0)
        settings["rotary_factors"] = (factor,) * (D // 2)
    if "rope_freqs.weight" in tensors:          # Llama 3's, worked out by whoever wrote the file
        settings["rotary_factors"] = tuple(tensors["rope_freqs.weight"].tolist())
    return _made(where, **settings)
