"""Splitting, counting and encoding by numpy against the way through `re`, on traps and real text."""

import random
from collections import Counter

import numpy as np
import pytest

import array_encode
import bpe
from array_split import FAMILIES, ArrayCounter, numbered_pieces
from bpe import Tokenizer, train_bpe
from bpe_ranks import RankCache
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
    monkeypatch.setattr(array_encode, "BATCH", 3)
    monkeypatch.setattr(bpe, "ARRAY_BLOCK", 150)
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, pattern)
    rng = random.Random(17)
    for _ in range(300):
        text = "".join(rng.choices(PARTS, k=rng.randint(0, 60)))
        slow, fast = both_ways(monkeypatch, own, text)
        assert slow == fast, repr(text)


def random_ranks(rng, size):
    """A rank file's tokens in any order: some are older than their parts, some out of reach."""
    tokens = {bytes(rng.choices(b"abcd", k=rng.randint(2, 9))) for _ in range(size)}
    return {token: k for k, token in enumerate([*(bytes([b]) for b in range(256)), *rng.sample(
        sorted(tokens), len(tokens))])}


def test_many_pieces_merged_at_once_are_merged_one_by_one():
    rng = random.Random(18)
    for size in (0, 5, 20, 60, 200):
        for _ in range(4):
            cache = RankCache(random_ranks(rng, size), 500)
            encoder = array_encode.ArrayEncoder(cache, "gpt2")
            pieces = [bytes(rng.choices(b"abcd", k=rng.randint(1, 16))) for _ in range(150)]
            low, high = np.frombuffer(b"".join(p.ljust(16, b"\0") for p in pieces), "<u8").reshape(
                -1, 2).T
            ids, sizes = encoder.merger.merge(low, high)
            expected = [cache.merge(piece) for piece in pieces]
            for piece, want, got in zip(pieces, expected, np.split(ids, np.cumsum(sizes))):
                assert got.tolist() == want, f"{piece}: one by one {want}, together {got.tolist()}"


def test_numpy_merges_pieces_only_where_their_bytes_decide():
    ids = {bytes([b]): b for b in range(256)} | {b"bc": 300, b"ab": 301, b"abc": 302}
    trained = [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]
    out_of_reach = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")]     # a, bc stay two beside each other
    for merges, decide in ((trained, True), (out_of_reach, False)):
        tokenizer = Tokenizer({i: t for t, i in ids.items()}, merges)
        assert tokenizer._cache.bytes_decide() == decide, merges
    assert tokenizer.encode("abc") == [97, 300]
    assert not RankCache({b"a": 0}, 1).bytes_decide(), "255 bytes have no token"


def test_real_text(tokenizer, monkeypatch):
    for _, path in source_files()[:12]:
        slow, fast = both_ways(monkeypatch, tokenizer, path.read_bytes().decode("utf-8", "replace"))
        assert slow == fast, path
