"""Training and encoding against brute force that a reader can check by eye."""

import random
from collections import Counter

import pytest

from artifacts import BadInput
from bpe import Tokenizer, train_bpe


def brute_force(counts, wanted):
    """Recount every pair after every merge, over words as tuples of bytes."""
    words = {tuple(bytes([b]) for b in w.encode()): n for w, n in counts.items()}
    merges = []
    while len(merges) < wanted:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {replace(word, best): n for word, n in words.items()}
    return merges


def replace(word, pair):
    merged, i = [], 0
    while i < len(word):
        step = 2 if word[i:i + 2] == pair else 1
        merged.append(b"".join(word[i:i + step]))
        i += step
    return tuple(merged)


def test_random_small_corpora_give_the_merges_of_brute_force():
    rng = random.Random(1)
    for _ in range(150):
        alphabet = "abcé"[:rng.randint(1, 4)]
        counts = Counter("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9)))
                         for _ in range(rng.randint(1, 20)))
        assert train_bpe(counts, 256 + 25)[1] == brute_force(counts, 25), dict(counts)


def test_round_trip_of_any_text(tokenizer):
    for text in ("", "low lower", "\r\n\x85 ſ 🙂é\u3000", "a" * 1000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert "".join(tokenizer.stream_decode(tokenizer.encode(text))) == text


def test_specials_come_from_text_only_when_allowed(tokenizer):
    plain = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.special_tokens["<|endoftext|>"] not in plain
    assert tokenizer.encode("a<|endoftext|>b", "all")[1] == tokenizer.special_tokens["<|endoftext|>"]


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    assert (loaded.vocab, loaded.merges, loaded.special_tokens, loaded.pattern) == (
        tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, tokenizer.pattern)


def test_unknown_id_names_the_id_and_its_place(tokenizer):
    with pytest.raises(BadInput, match="99999 at place 1"):
        tokenizer.decode([1, 99999])


@pytest.fixture(scope="module")
def tokenizer():
    counts = {"low": 5, " lower": 2, " newest": 6, " widest": 3}
    vocab, merges = train_bpe(counts, 280, ["<|endoftext|>", "<|user|>"])
    return Tokenizer(vocab, merges, ["<|endoftext|>", "<|user|>"])
