"""Safetensors, the file in which whole weights travel: one file, or several with their index.

    tensors = read_safetensors("model.safetensors")     # or a folder with model.safetensors(.index)
    write_safetensors("model.safetensors", {"embedding.weight": weight})

The whole format: 8 bytes with the length of a JSON header, the header (name -> dtype, shape, first
and last byte), the little-endian numbers. No code, so a stranger's file can only be wrong.
Every offset is held against the size of the file before it is used.
Specification: safetensors 0.5, README, "Format".
"""

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from artifacts import BadInput, need, shown, whole

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
          "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16,
          "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool, "U16": torch.uint16,
          "U32": torch.uint32, "U64": torch.uint64, "F8_E4M3": torch.float8_e4m3fn,
          "F8_E5M2": torch.float8_e5m2}
MADE_BY = "04_model_pretrain/published_models.py with the path of a model that you have"


class TensorFile(Mapping):
    """The tensors of one .safetensors file by name, each a view of the memory-mapped file."""

    def __init__(self, path: Path | str) -> None:
        self.path = need(path, MADE_BY)
        with open(self.path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            self.start, self.entries = self._read_header()
        except (struct.error, ValueError, KeyError, TypeError, AttributeError,
                RecursionError) as why:
            raise BadInput(f"{shown(path)} is not a complete .safetensors file ({why}): download "
                           "it again") from why

    def _read_header(self) -> tuple[int, dict[str, dict]]:
        length = struct.unpack_from("<Q", self.data, 0)[0]
        if length > len(self.data) - 8:
            raise ValueError(f"a header of {length:,} bytes in a file of {len(self.data):,}")
        entries = json.loads(self.data[8:8 + length])
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            begin, end = entry["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (begin, end, *entry["shape"])):
                raise ValueError(f"{name} has the shape {entry['shape']} and bytes {begin!r} to "
                                 f"{end!r}: not whole numbers")
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"{name} has the dtype {entry['dtype']}, which is not read here")
            size = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize
            if not 0 <= begin <= end <= len(self.data) - 8 - length:
                raise ValueError(f"{name} lies at bytes {begin:,} to {end:,} of "
                                 f"{len(self.data) - 8 - length:,}")
            if end - begin != size:
                raise ValueError(f"{name} has {end - begin:,} bytes, its shape says {size:,}")
        return 8 + length, entries

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        if begin == end:
            return torch.empty(shape, dtype=dtype)
        if (self.start + begin) % dtype.itemsize:       # no header need end at a multiple of 8
            raw = bytearray(self.data[self.start + begin:self.start + end])
            return torch.frombuffer(raw, dtype=dtype).view(shape)
        return torch.frombuffer(self.data, dtype=dtype, count=(end - begin) // dtype.itemsize,
                                offset=self.start + begin).view(shape)

    def __contains__(self, name: object) -> bool:       # Mapping's own would read the tensor
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Shards(Mapping):
    """Several files as one mapping: `model.safetensors.index.json` says which file has which."""

    def __init__(self, index: Path) -> None:
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            self.places = {str(name): str(file) for name, file in places.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as why:
            raise BadInput(f"{shown(index)} is damaged ({why}): download it again") from why
        self.files = {}
        for name in sorted(set(self.places.values())):
            if Path(name).name != name:
                raise BadInput(f"{shown(index)} names {name!r}, which is not a file beside it")
            self.files[name] = TensorFile(index.parent / name)
        for name, file in self.places.items():
            if name not in self.files[file]:
                raise BadInput(f"{shown(index.parent / file)} lacks tensor {name}, which its index "
                               "promises: download it again")

    def __getitem__(self, name: str) -> Tensor:
        return self.files[self.places[name]][name]

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def read_safetensors(path: Path | str) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors file, or of a folder that holds `model.safetensors` or its
    parts with `model.safetensors.index.json`, by name, in the dtypes in which they are stored.

    A tensor is read when it is looked up. BadInput names the file and the tensor that is wrong.
    """
    path = Path(path)
    if path.is_dir():
        single, index = path / "model.safetensors", path / "model.safetensors.index.json"
        path = index if index.exists() and not single.exists() else single
    return Shards(path) if path.name.endswith(".index.json") else TensorFile(path)


def write_safetensors(path: Path | str, tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors by name, whole or not at all; gives the path. `read_safetensors` gives back
    the same bits."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, value in tensors.items():
        size = value.numel() * value.itemsize
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)             # the numbers begin at a multiple of 8
    with whole(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
                       .tobytes() if value.numel() else b"")
    return Path(path)
