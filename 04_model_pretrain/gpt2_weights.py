"""Load OpenAI's GPT-2 into our GPT: the same arithmetic under other names.

    python 04_model_pretrain/gpt2_weights.py model.safetensors --out out/gpt2.pt

reads the weights file of GPT-2 in any of its four sizes (Hugging Face's `model.safetensors`) and
writes a checkpoint for this repository. Text needs GPT-2's own tokenizer: chapter 1's
`formats.load_gpt2` reads its vocab.json and merges.txt.
"""

import json
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from artifacts import CommandLine, BadInput, command, need, out, shown
from checkpoint import restore, save_checkpoint
from gpt import GPT, GPT2, GPTConfig

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MADE_BY = "04_model_pretrain/gpt2_weights.py with the path of a downloaded model.safetensors"


def read_safetensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name, as float32.

    The format: 8 bytes length of a JSON header, the header (name -> dtype, shape, offsets), raw
    little-endian numbers. Tensors of other dtypes (masks) are left out. BadInput if damaged.
    """
    data = need(path, MADE_BY).read_bytes()
    try:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in DTYPES:
                continue
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            count = math.prod(entry["shape"])
            flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]])
            if flat.numel() != count:
                raise ValueError(f"{name} holds {flat.numel()} numbers, its shape says {count}")
            tensors[name] = flat.view(entry["shape"]).float()
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as why:
        raise BadInput(f"{shown(path)} is not a complete .safetensors file ({why}): download it "
                       "again") from why
    return tensors


def from_gpt2(tensors: dict[str, Tensor]) -> GPT:
    """Our GPT with GPT-2's weights, its shape read off the tensors.

    GPT-2 keeps query, key and value in one matrix, and every matrix transposed (its "Conv1D"
    computes x @ W). Its head is the embedding again, so it has none of its own.
    """
    old = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    if "wte.weight" not in old or "wpe.weight" not in old:
        raise BadInput("these are not GPT-2's weights: wte.weight or wpe.weight is missing")
    (V, C), T = old["wte.weight"].shape, old["wpe.weight"].shape[0]
    layers = 1 + max(int(name.split(".")[1]) for name in old if name.startswith("h."))
    # heads are not written in the file: in all four sizes a head has 64 channels
    model = GPT(GPTConfig(vocab_size=V, sequence_length=T, layers=layers, width=C,
                          heads=max(1, C // 64), **GPT2))
    new = {"embedding.weight": old["wte.weight"], "lm_head.weight": old["wte.weight"],
           "position_embedding.weight": old["wpe.weight"]}
    for kind in ("weight", "bias"):
        new[f"final_norm.{kind}"] = old[f"ln_f.{kind}"]
        for i in range(layers):
            theirs, ours = f"h.{i}", f"blocks.{i}"
            new[f"{ours}.attention_norm.{kind}"] = old[f"{theirs}.ln_1.{kind}"]
            new[f"{ours}.mlp_norm.{kind}"] = old[f"{theirs}.ln_2.{kind}"]
            # (C, 3 C) -> three (C, C), each turned for nn.Linear, which computes x @ W^T
            parts = old[f"{theirs}.attn.c_attn.{kind}"].chunk(3, dim=-1)
            for name, part in zip(("query", "key", "value"), parts):
                new[f"{ours}.attention.{name}.{kind}"] = part.t() if part.dim() == 2 else part
            for name, place in (("attn.c_proj", "attention.out"), ("mlp.c_fc", "mlp.up"),
                                ("mlp.c_proj", "mlp.down")):
                part = old[f"{theirs}.{name}.{kind}"]
                new[f"{ours}.{place}.{kind}"] = part.t() if part.dim() == 2 else part
    restore(model, new, "GPT-2's weights")
    return model.eval()


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("weights", help="GPT-2's model.safetensors")
    parser.add_argument("--out", default=out("04_model_pretrain", "gpt2.pt"))
    args = parser.parse_args()
    model = from_gpt2(read_safetensors(args.weights))
    save_checkpoint(args.out, model=model, extra={"origin": Path(args.weights).name})
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; wrote {shown(args.out)}")


if __name__ == "__main__":
    command(main)
