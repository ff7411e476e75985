"""The fast way for long ASCII text against the way through `re`, on traps and on real text."""

import random

import pytest

import bpe
from bpe import Tokenizer, train_bpe
from docstrings import source_files
from pretokenize import count_pretokens

PARTS = ["a", "the ", " return", "s", "'s", "'ll", "'", " ", "  ", "\n", "    ", "12", "3", "-", "=",
         "numpy", "argsort", "é", "🙂", "\0", "\r\n", "-" * 20, "x" * 30, "\x1c", "eightchr", "<e>"]


@pytest.fixture(scope="module")
def tokenizer():
    counts = count_pretokens(["the numpy argsort return " * 9 + "-" * 9 + "eightchr 12's "])
    vocab, merges = train_bpe(counts, 330, ["<e>"])
    return Tokenizer(vocab, merges, ["<e>"])


def both_ways(monkeypatch, tokenizer, text):
    ids = {}
    for name, long_text in (("re", 1 << 60), ("numpy", 1)):
        monkeypatch.setattr(bpe, "LONG_TEXT", long_text)
        ids[name] = tokenizer.encode(text, "all")
    return ids["re"], ids["numpy"]


def test_random_text(tokenizer, monkeypatch):
    rng = random.Random(17)
    for _ in range(600):
        text = "".join(rng.choices(PARTS, k=rng.randint(0, 60)))
        slow, fast = both_ways(monkeypatch, tokenizer, text)
        assert slow == fast, repr(text)


def test_real_text(tokenizer, monkeypatch):
    for _, path in source_files()[:12]:
        slow, fast = both_ways(monkeypatch, tokenizer, path.read_bytes().decode("utf-8", "replace"))
        assert slow == fast, path
