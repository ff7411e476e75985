"""gguf_file.py and safetensors_file.py: files built here byte by byte, round trips, damaged files."""

import json
import struct

import numpy as np
import pytest
import torch

from artifacts import BadInput
from gguf_file import read_gguf, write_gguf
from safetensors_file import read_safetensors, write_safetensors


def text(words: str) -> bytes:
    return struct.pack("<Q", len(words.encode())) + words.encode()


def by_hand(version: int = 3, alignment: int = 32, kind: int = 0) -> bytes:
    """Two tensors and one value of every type, written as the specification says."""
    pairs = [(text("general.architecture"), 8, text("llama")),
             (text("general.alignment"), 4, struct.pack("<I", alignment)),
             (text("a.u8"), 0, b"\xff"), (text("a.i8"), 1, b"\xff"),
             (text("a.u16"), 2, b"\xfe\xff"), (text("a.i16"), 3, b"\xfe\xff"),
             (text("a.i32"), 5, struct.pack("<i", -7)), (text("a.f32"), 6, struct.pack("<f", 0.5)),
             (text("a.true"), 7, b"\x01"), (text("a.u64"), 10, struct.pack("<Q", 2 ** 40)),
             (text("a.i64"), 11, struct.pack("<q", -2 ** 40)),
             (text("a.f64"), 12, struct.pack("<d", 1 / 3)),
             (text("a.words"), 9, struct.pack("<IQ", 8, 2) + text("é") + text("")),
             (text("a.numbers"), 9, struct.pack("<IQ2h", 3, 2, 1, -2)),
             (text("a.lists"), 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQB", 0, 1, 9))]
    head = b"GGUF" + struct.pack("<IQQ", version, 2, len(pairs))
    head += b"".join(key + struct.pack("<I", type_) + value for key, type_, value in pairs)
    head += text("m") + struct.pack("<IQQIQ", 2, 3, 2, kind, 0)         # 2 rows of 3
    head += text("v") + struct.pack("<IQIQ", 1, 2, 1, alignment)        # F16
    head += bytes(-len(head) % alignment)
    return head + struct.pack("<6f", *range(6)).ljust(alignment, b"\0") + struct.pack("<2e", 1, -2)


@pytest.mark.parametrize("version, alignment", [(2, 32), (3, 32), (3, 64)])
def test_a_file_written_by_hand(tmp_path, version, alignment):
    (tmp_path / "m.gguf").write_bytes(by_hand(version, alignment))
    metadata, tensors = read_gguf(tmp_path / "m.gguf")
    assert {k.removeprefix("a."): v for k, v in metadata.items() if k.startswith("a.")} == dict(
        u8=255, i8=-1, u16=65534, i16=-2, i32=-7, f32=0.5, true=True, u64=2 ** 40, i64=-2 ** 40,
        f64=1 / 3, words=["é", ""], numbers=[1, -2], lists=[[9]])
    assert list(tensors) == ["m", "v"] and tensors["m"].dtype == np.float32
    assert tensors["m"].tolist() == [[0, 1, 2], [3, 4, 5]], "sizes stand innermost first"
    assert tensors["v"].tolist() == [1, -2]


def test_what_was_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    metadata = {"general.architecture": "llama", "n": 3, "minus": -3, "big": 2 ** 33, "f": 0.25,
                "yes": True, "words": ["a", "ü"], "ids": [1, 2], "shares": [0.5, 0.25], "none": []}
    arrays = {"a": rng.standard_normal((3, 64), np.float32), "b": np.arange(5, dtype=np.float32),
              "c": rng.standard_normal((2, 2, 32), np.float32)}
    write_gguf(tmp_path / "m.gguf", metadata, {"a": (arrays["a"], "Q8_0"), "b": arrays["b"],
                                               "c": (arrays["c"], "F16")})
    got, tensors = read_gguf(tmp_path / "m.gguf")
    assert got == metadata
    assert [tensors.entries[n].kind for n in "abc"] == ["Q8_0", "F32", "F16"]
    for name, within in (("a", 0.02), ("b", 0), ("c", 2e-3)):
        assert tensors[name].shape == arrays[name].shape
        assert np.abs(tensors[name] - arrays[name]).max() <= within, name
    for wrong, words in (({"x": {}}, "cannot hold dict"), ({"x": [1, "a"]}, "one type")):
        with pytest.raises(ValueError, match=words):
            write_gguf(tmp_path / "n.gguf", wrong, {})
    with pytest.raises(ValueError, match="tensor a: .*not finite"):
        write_gguf(tmp_path / "n.gguf", {}, {"a": np.array([np.inf])})
    assert not (tmp_path / "n.gguf").exists()


def changed(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert raw.count(old) == 1, (old, raw.count(old))
    return raw.replace(old, new)


HUGE = struct.pack("<Q", 2 ** 60)
DAMAGE = {
    "another file": (lambda r: b"PK" + r, "does not begin with GGUF"),
    "version 1": (lambda r: by_hand(1), "version 1 is not read"),
    "big-endian": (lambda r: r[:4] + r[4:8][::-1] + r[8:], "big-endian"),
    "cut in the numbers": (lambda r: r[:-3], "tensor 'v' ends at byte"),
    "cut in the metadata": (lambda r: r[:420], "announced at byte|past the end"),
    "a huge string": (lambda r: changed(r, text("llama"), HUGE + b"llama"), "announced at byte"),
    "a huge count": (lambda r: r[:8] + HUGE + r[16:], "values are announced in"),
    "a huge list": (lambda r: changed(r, struct.pack("<IQ2h", 3, 2, 1, -2),
                                      struct.pack("<IQ2h", 3, 2 ** 60, 1, -2)), "announced"),
    "a huge list of words": (lambda r: changed(r, struct.pack("<IQ", 8, 2), struct.pack(
        "<IQ", 8, 2 ** 40)), "announced"),
    "a huge tensor": (lambda r: changed(r, struct.pack("<IQQ", 2, 3, 2), struct.pack(
        "<IQQ", 2, 2 ** 40, 2)), "tensor 'm' ends at byte"),
    "an unknown quantisation": (lambda r: by_hand(kind=16), "tensor 'm' has quantisation number 16"),
    "blocks that do not fit": (lambda r: by_hand(kind=8), "tensor 'm' has rows of 3 numbers"),
    "an alignment of 7": (lambda r: changed(r, text("general.alignment") + struct.pack(
        "<II", 4, 32), text("general.alignment") + struct.pack("<II", 4, 7)), "alignment is 7"),
    "a type that is not known": (lambda r: changed(r, text("a.u8") + b"\0", text("a.u8") + b"\x63"),
                                 "type 99"),
    "a name twice": (lambda r: changed(r, text("v") + struct.pack("<I", 1), text("m") + struct.pack(
        "<I", 1)), "'m' is there twice"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_line(tmp_path, damage):
    change, words = DAMAGE[damage]
    (tmp_path / "m.gguf").write_bytes(change(by_hand()))
    with pytest.raises(BadInput, match=words) as caught:
        read_gguf(tmp_path / "m.gguf")
    assert "m.gguf" in str(caught.value) and "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_refused(tmp_path):
    raw = by_hand()
    for end in range(1, len(raw)):
        (tmp_path / "m.gguf").write_bytes(raw[:end])
        with pytest.raises(BadInput):
            read_gguf(tmp_path / "m.gguf")


# ---------------------------------------------------------------- safetensors

def safetensors_bytes(header: dict, numbers: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + numbers


TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
           "c": torch.tensor([True, False]), "d": torch.zeros(0, 3), "e": torch.tensor(7)}


def test_safetensors_by_hand_and_round_trip(tmp_path):
    path = tmp_path / "m.safetensors"
    for pad in ("", " "):               # a header that ends at an odd place is allowed
        header = {"__metadata__": {"format": "pt" + pad},
                  "x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                  "y": {"dtype": "BF16", "shape": [2], "data_offsets": [16, 20]}}
        path.write_bytes(safetensors_bytes(header, struct.pack("<4fHH", 1, 2, 3, 4, 0x3F80, 0xC000)))
        got = read_safetensors(path)
        assert got["x"].tolist() == [[1, 2], [3, 4]] and got["y"].tolist() == [1, -2]
        assert got["y"].dtype == torch.bfloat16, "in the dtype in which it is stored"
    got = read_safetensors(write_safetensors(path, TENSORS))
    assert set(got) == set(TENSORS)
    for name, value in TENSORS.items():
        assert got[name].dtype == value.dtype and torch.equal(got[name], value), name


def test_shards_are_one_mapping(tmp_path):
    write_safetensors(tmp_path / "model-1.safetensors", {"a": TENSORS["a"]})
    write_safetensors(tmp_path / "model-2.safetensors", {"b": TENSORS["b"]})
    index, places = tmp_path / "model.safetensors.index.json", {"a": "model-1.safetensors",
                                                                "b": "model-2.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    got = read_safetensors(tmp_path)
    assert sorted(got) == ["a", "b"] and torch.equal(got["a"], TENSORS["a"])
    for change, words in (({"c": "model-1.safetensors"}, "lacks tensor c"),
                          ({"c": "../x.safetensors"}, "not a file beside it"),
                          ({"c": "model-3.safetensors"}, "model-3.safetensors is missing")):
        index.write_text(json.dumps({"weight_map": places | change}))
        with pytest.raises(BadInput, match=words):
            read_safetensors(tmp_path)
    index.write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_safetensors(tmp_path)


def test_damaged_safetensors_are_one_line(tmp_path):
    path = tmp_path / "m.safetensors"
    good = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    for raw, words in (
            (safetensors_bytes(good, bytes(7)), "x lies at bytes 0 to 8 of 7"),
            (safetensors_bytes({"x": good["x"] | {"shape": [3]}}, bytes(8)), "shape says 12"),
            (safetensors_bytes({"x": good["x"] | {"dtype": "F9"}}, bytes(8)), "x has the dtype F9"),
            (safetensors_bytes({"x": good["x"] | {"shape": [-1, -2]}}, bytes(8)), "not whole num"),
            (safetensors_bytes({"x": good["x"] | {"shape": [2.0]}}, bytes(8)), "not whole numbers"),
            (safetensors_bytes({"x": {}}, bytes(8)), "not a complete"),
            (safetensors_bytes([1], bytes(8)), "not a complete"),
            (HUGE + b"{}", "a header of"), (b"hello", "not a complete"),
            (b"hello world, this is no tensor", "download it again")):
        path.write_bytes(raw)
        with pytest.raises(BadInput, match=words) as caught:
            read_safetensors(path)
        assert "\n" not in str(caught.value)
