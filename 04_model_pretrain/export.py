"""The way out: one of our checkpoints as a Hugging Face folder or as a GGUF file.

    python 04_model_pretrain/export.py out/04_model_pretrain/base.pt --out out/mine            # hf
    python 04_model_pretrain/export.py out/smollm2/model.pt --gguf out/mine.gguf --kind Q8_0

transformers, the `gguf` package and llama.cpp read what is written here, with our logits and our
ids. Only a model whose shape they know can go: GPT-2's, Llama's, Qwen2's, Qwen3's (see
model_families.py). Ours of the default plan has parts of its own (`mix_previous`, `squared_relu`),
and the refusal names them: `pretrain.py --shape llama` trains one that can go.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artifacts import BadInput, CommandLine, command, out, shown, write_json
from checkpoint import load_model
from gguf_file import write_gguf
from gpt import GPT, GPT2, GPTConfig
from model_families import LLAMA, PORTABLE, llama3_factors, pairs_from_halves, their_name
from quantisation import block_of
from safetensors_file import write_safetensors

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


def words_of(checkpoint: Path | str, tokenizer: Path | str | None):
    """The Tokenizer of a checkpoint: of the file `tokenizer`, else of the tokenizer.json beside
    it; None if there is neither."""
    beside = Path(checkpoint).with_name("tokenizer.json")
    path = tokenizer or (beside if beside.exists() else None)
    if path is None:
        return None
    from bpe import Tokenizer
    return Tokenizer.load(path)


def family_of(config: GPTConfig) -> str:
    """"gpt2", "llama", "qwen2" or "qwen3": the family that computes what this model computes.

    BadInput names the settings that no published family has.
    """
    def unlike(wanted: dict, *free: str) -> list[str]:
        return [f"{name} {getattr(config, name)!r}" for name, value in wanted.items()
                if name not in free and getattr(config, name, value) != value]
    if config.positions == "learned":
        wrong = unlike(GPT2 | dict(ngram_rows=0, late_keys=False, qkv_bias=None, kv_heads=None,
                                   head_size=None), "mlp", "tied")
        if not config.tied:
            wrong.append("tied False")
        if config.mlp not in ("gelu", "exact_gelu"):
            wrong.append(f"mlp {config.mlp!r}")
        family = "gpt2"
    else:
        wrong = unlike(LLAMA | dict(ngram_rows=0, late_keys=False), "qk_norm", "bias")
        family = "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias and not config.bias \
            else "llama"
        if config.qk_norm and (config.bias or config.qkv_bias):
            wrong.append("biases beside qk_norm")
    if wrong:
        raise BadInput(f"no published family computes this model ({', '.join(wrong)}): one that "
                       "can go is trained by python 04_model_pretrain/pretrain.py --shape llama "
                       f"(or {', '.join(name for name in PORTABLE if name != 'llama')})")
    return family


def rotary_scaling(config: GPTConfig) -> dict[str, Any] | None:
    """The `rope_scaling` of a config.json from which a reader works out these rotary factors: None,
    the rule "linear", or Llama 3's, whose settings are found back from the factors themselves.

    BadInput for factors that neither rule gives.
    """
    factors = config.rotary_factors
    if not factors or set(factors) == {1.0}:
        return None
    if len(set(factors)) == 1:
        return {"rope_type": "linear", "factor": factors[0]}
    # Llama 3: 1 / factor = (1 - share) / most + share, and share grows in a straight line with the
    # turns that a pair makes in a token. Two points give the line; pairs at the ends are flat.
    most, D = max(factors), config.D
    turns = [config.rotary_base ** (-2 * i / D) / (2 * math.pi) for i in range(D // 2)]
    shares = [(1 / f - 1 / most) / (1 - 1 / most) for f in factors]
    between = [i for i, share in enumerate(shares) if 1e-6 < share < 1 - 1e-6]
    first = between[0] if between else shares.index(0.0)
    edge = [i for i in (first - 1, *between, (between or [first - 1])[-1] + 1) if 0 <= i < D // 2]
    for a, b in itertools.combinations(edge, 2):
        slope = (shares[a] - shares[b]) / (turns[a] - turns[b])
        low = slope * turns[a] - shares[a]              # share = slope turns - low
        if slope <= 0 or low <= 0:
            continue
        # only the ratios of the three settings matter: Llama's own files have low_freq_factor 1
        original = max(1, round(slope / low))
        found = {"rope_type": "llama3", "factor": most,
                 "low_freq_factor": original * low / slope,
                 "high_freq_factor": original * (low + 1) / slope,
                 "original_max_position_embeddings": original}
        again = llama3_factors(D, config.rotary_base, *list(found.values())[1:])
        if np.allclose(again, factors, rtol=1e-5):
            return found
    raise BadInput("the rotary positions of this model are slowed by no rule that config.json has: "
                   "export it to GGUF, which holds the factors themselves")


def hf_config(config: GPTConfig, end_ids: list[int], begin_id: int | None) -> dict[str, Any]:
    """The config.json of a model, whose inverse is `model_families.config_from_hf`."""
    family = family_of(config)
    common = {"model_type": family, "vocab_size": config.vocab_size, "torch_dtype": "float32",
              "bos_token_id": begin_id, "eos_token_id": end_ids[0] if len(end_ids) == 1 else
              end_ids or None, "tie_word_embeddings": config.tied}
    eps = config.norm_eps
    if family == "gpt2":
        return common | {
            "architectures": ["GPT2LMHeadModel"], "n_embd": config.width, "n_layer": config.layers,
            "n_head": config.heads, "n_positions": config.sequence_length,
            "n_inner": config.mlp_width, "layer_norm_epsilon": 1e-5 if eps is None else eps,
            "activation_function": "gelu_new" if config.mlp == "gelu" else "gelu"}
    scaling = rotary_scaling(config)
    return common | {
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family]
                          + "ForCausalLM"],
        "hidden_size": config.width, "num_hidden_layers": config.layers, "head_dim": config.D,
        "num_attention_heads": config.heads, "hidden_act": "silu",
        "num_key_value_heads": config.kv_heads or config.heads,
        "intermediate_size": config.M,
        "max_position_embeddings": config.sequence_length, "rope_theta": config.rotary_base,
        "rope_scaling": scaling, "rms_norm_eps": 1e-6 if eps is None else eps,
        "attention_bias": config.bias, "mlp_bias": config.bias}


def their_tensors(model: GPT, style: str, pairs: bool = False) -> dict[str, Tensor]:
    """The model's tensors under the names and in the layout of "hf" or "gguf"."""
    config, gpt2 = model.config, model.config.positions == "learned"
    theirs: dict[str, list[Tensor]] = {}
    for ours, value in model.state_dict().items():
        if ours == "lm_head.weight" and config.tied:
            continue
        value, owner = value.float(), ours.split(".")[-2]
        if pairs and owner in ("query", "key"):
            value = pairs_from_halves(value, value.shape[0] // config.D)
        theirs.setdefault(their_name(ours, style, gpt2), []).append(value)
    done = {}
    for name, parts in theirs.items():      # GPT-2: query, key and value become one
        value = torch.cat(parts)
        turned = gpt2 and style == "hf" and value.dim() == 2 and name.startswith("h.")
        done[("transformer." if gpt2 and style == "hf" else "") + name] = \
            (value.t() if turned else value).contiguous()
    return done


def export_hf(checkpoint: Path | str, folder: Path | str, tokenizer: Path | str | None = None,
              ) -> Path:
    """Write `checkpoint` as a folder that transformers' from_pretrained opens; gives the folder.

    `model.safetensors`, `config.json`, `generation_config.json`, and, from the file `tokenizer`
    (or the tokenizer.json beside the checkpoint), `tokenizer.json` and `tokenizer_config.json`
    with the chat template that a published model came with. BadInput for a shape that no
    published family has; then nothing is written.
    """
    model, content = load_model(checkpoint)
    published = content["extra"].get("published") or {}
    folder, words = Path(folder), words_of(checkpoint, tokenizer)
    ends, begin = published.get("end_ids", []), published.get("begin_id")
    if words is not None and not ends:
        ends = [words.special_tokens[name] for name in ("<|endoftext|>", "<|end|>")
                if name in words.special_tokens]
    config = hf_config(model.config, ends, begin)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", their_tensors(model, "hf"))
    if words is not None:
        from formats import to_hf
        to_hf(words, folder / "tokenizer.json")
        names = {i: name for name, i in words.special_tokens.items()}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast",
                    "clean_up_tokenization_spaces": False,
                    "model_max_length": model.config.sequence_length}
        settings |= {"eos_token": names[ends[0]]} if ends and ends[0] in names else {}
        if published.get("chat_template"):
            settings["chat_template"] = published["chat_template"]
        write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "generation_config.json",
               {"bos_token_id": begin, "eos_token_id": config["eos_token_id"]})
    write_json(folder / "config.json", config)
    return folder


def export_gguf(checkpoint: Path | str, path: Path | str, kind: str = "F16",
                tokenizer: Path | str | None = None) -> Path:
    """Write `checkpoint` as a GGUF file whose matrices are of `kind` ("F32", "F16", "BF16",
    "Q8_0", "Q4_0", "Q4_1"), vectors in F32; gives the path.

    A matrix whose rows are no whole blocks stays in F16. The vocabulary of `tokenizer` (or of the
    tokenizer.json beside the checkpoint) goes in too. BadInput for a shape that no published
    family has, and for another kind.
    """
    if kind not in KINDS:
        raise BadInput(f"kind {kind!r} is not written here: {', '.join(KINDS)} are")
    model, content = load_model(checkpoint)
    c, family = model.config, family_of(model.config)
    eps = c.norm_eps if c.norm_eps is not None else 1e-6 if c.norm == "rms" else 1e-5
    values = {"context_length": c.sequence_length, "embedding_length": c.width,
              "block_count": c.layers, "attention.head_count": c.heads, "feed_forward_length":
              model.blocks[0].mlp.up.weight.shape[0],
              "attention.layer_norm_epsilon" if family == "gpt2" else
              "attention.layer_norm_rms_epsilon": float(eps)}
    if family != "gpt2":
        values |= {"attention.head_count_kv": c.kv_heads or c.heads, "attention.key_length": c.D,
                   "attention.value_length": c.D, "rope.dimension_count": c.D,
                   "rope.freq_base": float(c.rotary_base), "vocab_size": c.vocab_size}
        slowed = set(c.rotary_factors or ())
        if len(slowed) == 1:
            values |= {"rope.scaling.type": "linear", "rope.scaling.factor": c.rotary_factors[0]}
        elif slowed and family != "llama":
            raise BadInput(f"a GGUF file of the family {family} has no factors of its own for each "
                           "pair of rotary positions: export to hf instead")
    if c.mlp == "exact_gelu":
        raise BadInput("a GGUF file of the family gpt2 has the tanh form of GELU, this model "
                       "exact_gelu: export to hf instead")
    if family == "llama" and c.bias:
        raise BadInput("a GGUF file of the family llama has no biases: export to hf instead")
    metadata = {"general.architecture": family, "general.name": Path(checkpoint).stem,
                "general.file_type": {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7,
                                      "BF16": 32}[kind], "general.quantization_version": 2}
    metadata |= {f"{family}.{name}": value for name, value in values.items()}
    if (words := words_of(checkpoint, tokenizer)) is not None:
        metadata |= vocabulary(words, content["extra"].get("published") or {}, c.vocab_size)
    tensors: dict[str, tuple[np.ndarray, str]] = {}
    if len(set(c.rotary_factors or ())) > 1:
        tensors["rope_freqs.weight"] = np.array(c.rotary_factors, np.float32), "F32"
    for name, value in their_tensors(model, "gguf", pairs=family == "llama").items():
        fits = value.shape[-1] % block_of(kind)[0] == 0
        tensors[name] = (value.numpy(), "F32" if value.dim() < 2 or "position" in name else
                         kind if fits else "F16")
    return write_gguf(path, metadata, tensors)


def vocabulary(words, published: dict, size: int) -> dict[str, Any]:
    """The tokenizer's part of a GGUF file's metadata: tokens, their types, merges, special ids."""
    from byte_alphabet import printable
    from formats import GGUF_PATTERNS
    pre = next((name for name, pattern in GGUF_PATTERNS.items() if pattern == words.pattern), None)
    if pre is None:
        raise BadInput("GGUF has no name for the way in which this tokenizer splits text: "
                       f"{words.pattern!r:.60}; known are {', '.join(GGUF_PATTERNS.values())}")
    special = {i: name for name, i in words.special_tokens.items()}
    tokens = [special[i] if i in special else printable(words.vocab[i]) if i in words.vocab
              else f"[PAD{i}]" for i in range(size)]
    types = [3 if i in special else 1 if i in words.vocab else 5 for i in range(size)]
    ends = published.get("end_ids") or [words.special_tokens.get("<|endoftext|>", 0)]
    found = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "eos_token_id": ends[0],
        "merges": [f"{printable(a)} {printable(b)}" for a, b in words.merges]}
    found |= {"bos_token_id": published["begin_id"]} if published.get("begin_id") else {}
    found = {f"tokenizer.ggml.{name}": value for name, value in found.items()}
    template = published.get("chat_template")
    return found | ({"tokenizer.chat_template": template} if template else {})


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("checkpoint", help="a checkpoint of this repository")
    add("--tokenizer", default=None, help="its tokenizer.json (default: the one beside it, or "
        "chapter 1's)")
    add("--out", type=Path, default=out("04_model_pretrain", "exported"), help="folder for hf")
    add("--gguf", type=Path, help="write this GGUF file instead of the folder")
    add("--kind", default="F16", help="F32, F16, BF16, Q8_0, Q4_0 or Q4_1, with --gguf")
    args = parser.parse_args()
    beside, ours = Path(args.checkpoint).with_name("tokenizer.json"), out("01_tokenizer",
                                                                          "tokenizer.json")
    words = args.tokenizer or (beside if beside.exists() else ours if ours.exists() else None)
    if args.gguf is not None:
        made = export_gguf(args.checkpoint, args.gguf, args.kind, words)
    else:
        made = export_hf(args.checkpoint, args.out, words)
    print(f"wrote {shown(made)}")


if __name__ == "__main__":
    command(main)
