"""vocabularies.py: the same text for every vocabulary, and a verdict that follows the numbers."""

import json

import numpy as np
import pytest
import torch

import artifacts
from bpe import Tokenizer
from vocabularies import (compare, draw, record, shard_in_memory, texts_of, tokenizers, trained,
                          verdict_of)

torch.set_num_threads(1)
TEXTS = [f"The indices that would sort array number {k}.\nReturns them é.\n" * 3 for k in range(20)]


@pytest.fixture(scope="module")
def first():
    return Tokenizer({b: bytes([b]) for b in range(256)}, [], ["<|endoftext|>", "<|pad|>"])


def test_small_vocabularies_begin_the_large_one_and_keep_the_special_tokens(first):
    small, large = tokenizers(first, TEXTS, (0, 300))
    assert (small.vocab_size, large.vocab_size) == (258, 300) and not small.merges
    for tokenizer in (small, large):
        assert list(tokenizer.special_tokens) == ["<|endoftext|>", "<|pad|>"]
        assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]


def test_a_shard_gives_its_texts_back_in_another_order(first):
    for tokenizer in tokenizers(first, TEXTS, (0, 300)):
        shard = shard_in_memory(TEXTS, tokenizer)
        assert sorted(texts_of(shard, tokenizer, 10 ** 9)) == sorted(TEXTS)
        assert shard.bytes.sum() == sum(len(text.encode()) for text in TEXTS)
        assert len(texts_of(shard, tokenizer, 1)) == 1, "documents until the limit is reached"


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(first):
    small, large = (shard_in_memory(TEXTS, t) for t in tokenizers(first, TEXTS, (0, 300)))
    for shard in (small, large):
        bits, _, _ = trained(shard, shard, 1, seed=0)
        know_nothing = np.log2(shard.vocab_size) * shard.length.sum() / shard.bytes.sum()
        assert bits == pytest.approx(know_nothing, rel=0.2), "each token counts once, per byte"


def row(*bits):
    return {"equal_text": list(bits), "equal_time": list(bits)}


def test_the_verdict_follows_the_numbers():
    assert verdict_of({261: row(2.4, 2.41), 4096: row(2.1, 2.1)})[0] == "holds"
    assert verdict_of({261: row(2.11, 2.11), 4096: row(2.1, 2.1)})[0] == "does not hold here"
    assert verdict_of({261: row(2.2, 2.4), 4096: row(2.1, 2.4)})[0] == "does not hold here", (
        "seeds differ more than vocabularies")
    mixed = {261: row(2.4) | {"equal_time": [2.1]}, 4096: row(2.1)}
    assert verdict_of(mixed) == ("holds in part", {"equal_text": 0.1429, "equal_time": 0.0})


def test_everything_is_measured_and_chapter_1_stays_in_the_claim(first, monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    table = compare(TEXTS, TEXTS[:4], first, read=2000, seeds=2, sizes=(0, 300))
    assert list(table) == [258, 300]
    for measured in table.values():
        assert len(measured["equal_text"]) == len(measured["equal_time"]) == 2
        assert 0 < min(measured["equal_text"]) and measured["steps"] >= 1
    draw(table, tmp_path / "v.png")
    artifacts.record_claim("bpe-shapes", measured="shapes", value={"ways": 8}, expected="",
                           verdict="holds", command="chapter 1")
    for _ in range(2):
        record(table, "a test")
        claim = json.loads((tmp_path / "claims" / "bpe-shapes.json").read_text())
        assert claim["value"]["ways"] == 8 and "bits per byte, equal text" in claim["value"]
        assert claim["measured"].count("shapes") == 1 and claim["verdict"] in artifacts.VERDICTS
