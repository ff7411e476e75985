"""Splitting, counting and encoding by numpy against the way through `re`, on traps and real text."""

import random
from collections import Counter

import numpy as np
import pytest

import array_encode
import bpe
from array_split import FAMILIES, ArrayCounter, numbered_pieces
from bpe import Tokenizer, train_bpe
from docstrings import source_files
from number_table import NumberTable
from pretokenize import count_pretokens, split

PARTS = ["a", "the ", " return", "s", "'s", "'LL", "'ſ", "'", " ", "  ", "\n", "    ", "12", "3456", "-",
         "=", "numpy", "argsort", "é", "🙂", "\0", "\r\n", "-" * 20, "x" * 30, "\x1c", "eightchr", "<e>",
         "! \n", "(x", "\u3000", "𝐀𝟙", "²Ⅷ", "слово", "\n\n", "\t", "e\u0301", "sixteen_letters!"]


@pytest.mark.parametrize("pattern", FAMILIES)
def test_the_pieces_are_those_of_the_pattern(pattern):
    rng = random.Random(11)
    for k in range(1500):
        chosen = PARTS if k % 2 else [part for part in PARTS if part.isascii()]
        texts = ["".join(rng.choices(chosen, k=rng.randint(0, 8))).replace("\0", "")
                 for _ in range(rng.randint(1, 3))]
        pieces = numbered_pieces("\0".join(texts), pattern)
        got = [pieces.raw[a:a + n].decode() for a, n in
               zip(pieces.starts.tolist(), pieces.lengths.tolist())]
        expected = [piece for text in texts for piece in split(text, pattern)]
        assert got == expected, f"{texts} ({pattern})"


@pytest.mark.parametrize("pattern", FAMILIES)
def test_counting_by_arrays_is_counting(pattern):
    rng = random.Random(12)
    counter, expected = ArrayCounter(pattern, size=300), Counter()
    for _ in range(200):
        text = "".join(rng.choices(PARTS, k=rng.randint(0, 30))).replace("\0", "")
        counter.add(text)
        expected.update(split(text, pattern))
    assert counter.total() == expected
    assert ArrayCounter(pattern).total() == Counter()


def test_a_table_of_numbers_is_a_dictionary():
    rng = np.random.default_rng(13)
    table, known = NumberTable(10), {}
    for _ in range(5):
        keys = {(int(a), int(b)) for a, b in rng.integers(1, 40, (99, 2)).astype(np.uint64)
                if (int(a), int(b)) not in known}
        low, high = np.array(sorted(keys), np.uint64).T
        values = rng.integers(0, 1 << 40, len(keys))
        table.insert(low, high, values)
        known |= dict(zip(sorted(keys), values.tolist()))
        asked = rng.integers(1, 45, (500, 2)).astype(np.uint64)
        value, found = table.look_up(asked[:, 0], asked[:, 1])
        for (a, b), v, f in zip(asked.tolist(), value.tolist(), found.tolist()):
            assert f == ((a, b) in known) and (not f or v == known[a, b])


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


@pytest.mark.parametrize("pattern", FAMILIES)
def test_random_text(tokenizer, monkeypatch, pattern):
    monkeypatch.setattr(array_encode, "BITS", 9)               # so small that it starts again
    monkeypatch.setattr(bpe, "ARRAY_BLOCK", 150)
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, pattern)
    rng = random.Random(17)
    for _ in range(300):
        text = "".join(rng.choices(PARTS, k=rng.randint(0, 60)))
        slow, fast = both_ways(monkeypatch, own, text)
        assert slow == fast, repr(text)


def test_real_text(tokenizer, monkeypatch):
    for _, path in source_files()[:12]:
        slow, fast = both_ways(monkeypatch, tokenizer, path.read_bytes().decode("utf-8", "replace"))
        assert slow == fast, path
