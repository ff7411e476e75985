"""What few bits cost: the sizes follow from the blocks, the bits are those of pretraining."""

import json
import math

import numpy as np
import pytest
import torch

from batches import Shard
from gpt import GPT, GPTConfig
from held_out import held_out_bits
from quantisation import BLOCKS
from quantisation_table import held_out_part, in_blocks, table_of


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=64, width=32, layers=1, heads=2, sequence_length=32)).eval()


def test_the_size_of_a_model_is_that_of_its_blocks(model):
    whole = {p.data_ptr(): p for p in model.parameters()}.values()
    matrices = sum(p.numel() for p in whole if p.dim() == 2 and p.shape[1] % 32 == 0)
    rest = sum(p.numel() for p in whole) - matrices
    assert matrices > 10 * rest > 0
    for kind in ("F32", "F16", "Q8_0", "Q4_1"):
        numbers, width = BLOCKS[kind]
        counted = matrices if numbers > 1 else sum(p.numel() for p in whole if p.dim() == 2)
        left = sum(p.numel() for p in whole) - counted
        assert in_blocks(model, kind)[1] == counted * width // numbers + 4 * left, \
            f"{kind}: {counted} numbers in blocks, {left} in 32 bits"


def test_float32_changes_nothing_fewer_bits_more_and_the_model_itself_is_left_alone(model):
    ids = torch.arange(20)[None]
    before = model(ids)[0].detach().clone()
    gaps = [float((in_blocks(model, kind)[0](ids)[0] - before).detach().abs().max())
            for kind in ("F32", "F16", "Q8_0", "Q4_0")]
    assert gaps[0] == 0 < gaps[1] < gaps[2] < gaps[3]
    assert torch.equal(model(ids)[0], before), "the model itself was changed"


class Bytes:
    """A tokenizer: a byte is a token."""
    def __init__(self, shift):
        self.shift = shift

    def encode(self, text):
        return [byte - self.shift for byte in text.encode("utf-8")]

    def decode(self, ids):
        return bytes(i + self.shift for i in ids).decode("utf-8")


@pytest.fixture
def shards(tmp_path):
    texts = ["abcabc", "aabbccdd", "b"]
    rows = [[ord(c) - 60 for c in text] + [63] for text in texts]
    length = [len(row) for row in rows]
    np.concatenate(rows).astype(np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "index.json").write_text(json.dumps({
        "dtype": "uint16", "eot": 63, "vocab_size": 64, "tokenizer_sha256": "", "corpus_sha256": "",
        "domains": ["d"], "splits": {"val": {"tokens": sum(length), "documents": {
            "start": np.cumsum([0, *length[:-1]]).tolist(), "length": length,
            "bytes": [len(t) for t in texts], "domain": [0] * 3}}}}))
    return tmp_path


def test_of_all_documents_it_measures_what_pretraining_does(model, shards):
    part = held_out_part(shards, 10**6, Bytes(60), None, 63)
    assert part.bytes.sum() == 15, "the end token is no text"
    assert part.length.sum() == 18, "15 tokens and three ends"
    assert math.isclose(held_out_bits(model, part, 16), held_out_bits(model, Shard(shards, "val"),
                                                                      16), rel_tol=1e-6)


def test_another_tokenizer_reads_the_same_text_and_the_draw_ends_with_enough(shards):
    part = held_out_part(shards, 10**6, Bytes(60), Bytes(90), 5)
    texts = [Bytes(90).decode(part.tokens[a:a + n - 1].tolist())
             for a, n in zip(part.start, part.length)]
    assert sorted(texts) == ["aabbccdd", "abcabc", "b"]
    assert (part.tokens[part.start + part.length - 1] == 5).all(), "each ends with eot"
    few = held_out_part(shards, 2, Bytes(60), None, 63)
    assert few.bytes.sum() - few.bytes[-1] < 2, "it drew on after it had enough"


def test_a_row_for_each_kind_beside_float32(model, shards):
    rows = table_of(model, held_out_part(shards, 99, Bytes(60), None, 63), ("F32", "Q8_0"))
    assert [row["bits"] for row in rows] == [32, 8.5]
    assert rows[0]["ratio"] == 1 and rows[1]["megabytes"] < rows[0]["megabytes"] / 3
