"""gpt2_weights.py: a small GPT-2 in its own file format against GPT-2's formulas, written here."""

import json
import struct

import pytest
import torch
import torch.nn.functional as F

from artifacts import BadInput
from gpt2_weights import from_gpt2, read_safetensors

torch.set_num_threads(1)
V, T, C, H, L = 40, 12, 128, 2, 2


def gpt2_tensors() -> dict[str, torch.Tensor]:
    """Random weights under GPT-2's names and in its layout: matrices (in, out)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"wte.weight": (V, C), "wpe.weight": (T, C), "ln_f.weight": (C,), "ln_f.bias": (C,)}
    for i in range(L):
        for name, shape in (("ln_1.weight", (C,)), ("ln_1.bias", (C,)), ("ln_2.weight", (C,)),
                            ("ln_2.bias", (C,)), ("attn.c_attn.weight", (C, 3 * C)),
                            ("attn.c_attn.bias", (3 * C,)), ("attn.c_proj.weight", (C, C)),
                            ("attn.c_proj.bias", (C,)), ("mlp.c_fc.weight", (C, 4 * C)),
                            ("mlp.c_fc.bias", (4 * C,)), ("mlp.c_proj.weight", (4 * C, C)),
                            ("mlp.c_proj.bias", (C,))):
            shapes[f"h.{i}.{name}"] = shape
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_safetensors(path, tensors) -> None:
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, value in tensors.items():
        blob = value.numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def gpt2_logits(w, ids):
    """GPT-2 in its own notation: x @ W + b, post-scaled scores, tanh GELU, tied head."""
    x = w["wte.weight"][ids] + w["wpe.weight"][:len(ids)]
    future = torch.ones(len(ids), len(ids)).triu(1).bool()
    for i in range(L):
        g = {name.removeprefix(f"h.{i}."): value for name, value in w.items()}
        h = F.layer_norm(x, (C,), g["ln_1.weight"], g["ln_1.bias"], 1e-5)
        q, k, v = (h @ g["attn.c_attn.weight"] + g["attn.c_attn.bias"]).split(C, dim=-1)
        heads = []
        for a in range(H):
            part = slice(a * C // H, (a + 1) * C // H)
            scores = q[:, part] @ k[:, part].T / (C // H) ** 0.5
            heads.append(scores.masked_fill(future, -1e9).softmax(-1) @ v[:, part])
        x = x + torch.cat(heads, -1) @ g["attn.c_proj.weight"] + g["attn.c_proj.bias"]
        h = F.layer_norm(x, (C,), g["ln_2.weight"], g["ln_2.bias"], 1e-5)
        h = F.gelu(h @ g["mlp.c_fc.weight"] + g["mlp.c_fc.bias"], approximate="tanh")
        x = x + h @ g["mlp.c_proj.weight"] + g["mlp.c_proj.bias"]
    return F.layer_norm(x, (C,), w["ln_f.weight"], w["ln_f.bias"], 1e-5) @ w["wte.weight"].T


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_loaded_weights_compute_gpt2(tmp_path, prefix):
    tensors = gpt2_tensors()
    write_safetensors(tmp_path / "m.safetensors", {prefix + k: v for k, v in tensors.items()})
    model = from_gpt2(read_safetensors(tmp_path / "m.safetensors"))
    ids = torch.arange(10) * 3 % V
    expected, got = gpt2_logits(tensors, ids), model(ids[None])[0][0]
    gap = (got - expected).abs().max().item()
    assert gap < 1e-4, f"logits differ by {gap:.3f} (they reach {expected.abs().max():.1f})"


def test_a_cut_file_and_a_foreign_one_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    write_safetensors(path, gpt2_tensors())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="not a complete .safetensors file"):
        read_safetensors(path)
    path.write_bytes(b"hello world, this is no tensor")
    with pytest.raises(BadInput, match="download it again"):
        read_safetensors(path)
    with pytest.raises(BadInput, match="not GPT-2's"):
        from_gpt2({"a": torch.zeros(2)})
