"""vocabulary.py: smaller tokenizers are the beginning of larger ones, and claims are joined once."""

import json

import numpy as np
import torch

import artifacts
import vocabulary
from bpe import train_bpe
from pretokenize import count_pretokens

torch.set_num_threads(1)
TEXTS = ["the sum of the squares of the values\n" * 3, "return the mean of values\n" * 5]


def test_cut_tokenizers_read_the_same_text_in_fewer_and_fewer_tokens():
    vocab, merges = train_bpe(count_pretokens(TEXTS), 276)
    lengths = []
    for size in (256, 266, 276):
        shard = vocabulary.shard_of(TEXTS, vocabulary.cut(vocab, merges, size))
        tokenizer = vocabulary.cut(vocab, merges, size)
        first = shard.tokens[:shard.length[0] - 1]
        assert tokenizer.decode(first.tolist()) == TEXTS[0], f"{size} tokens: not the text"
        assert shard.tokens[shard.length[0] - 1] == shard.eot and shard.vocab_size == size + 1
        assert shard.bytes.tolist() == [len(t) for t in TEXTS]
        lengths.append(int(shard.length.sum()))
    assert lengths[0] == sum(map(len, TEXTS)) + 2 and lengths == sorted(lengths, reverse=True)


def test_a_model_reads_each_text_once(monkeypatch):
    monkeypatch.setattr(vocabulary, "T", 32)
    vocab, merges = train_bpe(count_pretokens(TEXTS), 270)
    run = vocabulary.read_with(vocabulary.cut(vocab, merges, 270), TEXTS * 4, TEXTS, 2, seed=0)
    assert 0 < run["bits_per_byte"] < 8 and run["updates"] * 2 * 32 == run["tokens"]


def test_the_claim_keeps_what_chapter_1_said_and_is_joined_once(monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    artifacts.record_claim("bpe-shapes", measured="a sentence costs 5.8", value={"a": 1},
                           expected="", verdict="holds", command="", details={"b": 2})
    runs = {"256": {"bits_per_byte": 2.2}, "4096": {"bits_per_byte": 2.0}}
    for _ in range(2):
        vocabulary.claim(runs)
    said = json.loads((tmp_path / "claims" / "bpe-shapes.json").read_text(encoding="utf-8"))
    assert said["measured"] == ("a sentence costs 5.8; one small model on the same text needs 2.000 "
                                "bits per byte with 4,096 tokens, and 10.0% more with 256")
    assert said["value"] == {"a": 1, "worst over best vocabulary": 1.1}
    assert said["details"] == {"b": 2, "by_vocabulary": runs} and said["verdict"] == "holds"
