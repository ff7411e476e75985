"""Training rules, the Tokenizer, and bad input; one property a test."""

import os
import pickle
import random
import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest

import bpe
from artifacts import BadInput
from bpe import Tokenizer, train_bpe
from bpe_training import tie_key
from token_ids import lookup_tables, special_ids

BYTES = {bytes([b]): b for b in range(256)}


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
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        words = {replace(word, merges[-1]): n for word, n in words.items()}
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
        counts = Counter("".join(rng.choices(alphabet, k=rng.randint(1, 9)))
                         for _ in range(rng.randint(1, 20)))
        assert train_bpe(counts, 256 + 25)[1] == brute_force(counts, 25), dict(counts)


# ---------------------------------------------------------------- 1.6: ties

@pytest.mark.exercise("1.6")
@pytest.mark.parametrize("tokens, winner, loser, why", [
    ([b"a", b"b"], (1, 0), (0, 1), "(b, a) is greater than (a, b)"),
    ([b"a", b"b"], (0, 1), (0, 0), "equal first tokens: the second decides"),
    ([b"a", b"ab", b"c", b"bc"], (1, 2), (0, 3), "(ab, c) > (a, bc): pairs, not joined bytes"),
    ([b"a", b"ab", b"z"], (1, 0), (0, 2), "ab is greater than its beginning a, whatever follows"),
    ([b" ", b"A"], (1, 1), (0, 0), "bytes compare by value: A > blank, unlike their stand-ins"),
    ([b"\xff", b"a"], (0, 1), (1, 0), "0xff is the greatest byte"),
    ([b"\x00", b"a"], (1, 0), (0, 1), "0 is the smallest byte"),
    ([b"a", b"a\xff", b"a\x00"], (1, 0), (2, 0), "bytes within a token too"),
])
def test_tie_greatest(tokens, winner, loser, why):
    key = tie_key("greatest", tokens)
    assert key(*winner) < key(*loser), f"{why}: {[tokens[i] for i in winner]} must go first"


@pytest.mark.exercise("1.6")
def test_tie_greatest_learns_of_later_tokens():
    tokens = [b"a", b"b"]
    key = tie_key("greatest", tokens)
    assert key(1, 0) < key(0, 1)
    tokens.append(b"ba")
    assert key(2, 0) < key(1, 1), "(ba, a) is greater than (b, b)"


@pytest.mark.exercise("1.6")
def test_tie_smallest_ids():
    key = tie_key("smallest_ids", [b"z", b"a"])
    assert key(0, 1) < key(1, 0) and key(1, 0) < key(1, 1)
    assert key(0, 70_000) < key(1, 0), "the first id decides, however large the second is"


# ---------------------------------------------------------------- 1.7: what train_bpe hands out

def recorder(told, pairs=()):
    """A trainer that notes what it is told, and merges the given pairs."""
    def trainer(counts, merges, byte_ids, key, on_merge):
        told.update(counts=dict(counts), merges=merges, byte_ids=list(byte_ids))
        for pair in pairs:
            on_merge(*pair)
    return trainer


@pytest.mark.exercise("1.7")
def test_special_tokens_and_bytes_use_up_the_vocabulary():
    told = {}
    vocab, _ = train_bpe({"ab": 1}, 300, ["<a>", "<b>"], trainer=recorder(told))
    assert told["merges"] == 300 - 256 - 2, "256 bytes and 2 special tokens are part of the 300"
    assert list(vocab.values())[-2:] == [b"<a>", b"<b>"], "special tokens stand last, in order"


@pytest.mark.exercise("1.7")
def test_vocabulary_and_merges_follow_from_what_the_trainer_reports():
    vocab, merges = train_bpe({"ab": 1}, 300, ["<e>"],
                              trainer=recorder({}, [(97, 98), (256, 97), (257, 256)]))
    assert merges == [(b"a", b"b"), (b"ab", b"a"), (b"aba", b"ab")]
    assert [vocab[i] for i in (0, 97, 255)] == [b"\x00", b"a", b"\xff"], "byte b has the id b"
    assert [vocab[i] for i in range(256, 260)] == [b"ab", b"aba", b"abaab", b"<e>"]
    assert len(vocab) == 260


@pytest.mark.exercise("1.7")
def test_smallest_ids_numbers_the_bytes_as_hf_does():
    told = {}
    vocab, _ = train_bpe({"!": 1}, 256, tie="smallest_ids", trainer=recorder(told))
    assert vocab[0] == b"!" and told["byte_ids"][ord("!")] == 0, "! is the first printable byte"
    assert vocab[220] == b" ", "a blank is shown as Ġ, the 33rd of the 68 stand-ins: id 220"
    assert [told["byte_ids"][vocab[i][0]] for i in range(256)] == list(range(256)), (
        "the trainer's ids and the vocabulary's differ")


@pytest.mark.exercise("1.7")
def test_counts_reach_the_trainer_as_bytes():
    told = {}
    train_bpe({"é": 2, b"ab": 3}, 300, trainer=recorder(told))
    assert told["counts"] == {"é".encode(): 2, b"ab": 3}


@pytest.mark.exercise("1.7")
def test_a_vocabulary_too_small_is_refused():
    assert len(train_bpe({"ab": 1}, 258, ["<a>", "<b>"], trainer=recorder({}))[0]) == 258
    with pytest.raises(BadInput, match="258"):
        train_bpe({"ab": 1}, 257, ["<a>", "<b>"], trainer=recorder({}))
    for wrong in (["<a>", ""], ["<a>", "<a>"]):
        with pytest.raises(BadInput, match="empty|twice"):
            train_bpe({"ab": 1}, 300, wrong, trainer=recorder({}))


def test_a_text_with_fewer_pairs_gives_a_smaller_vocabulary():
    vocab, merges = train_bpe({"ab": 1}, 1000, ["<e>"])
    assert merges == [(b"a", b"b")] and len(vocab) == 258
    with pytest.raises(ValueError, match="tie"):
        train_bpe({"ab": 1}, 300, tie="first")


# ---------------------------------------------------------------- 1.12: the tables of encoding

def vocabulary(*tokens):
    return BYTES | {token: 300 + 7 * k for k, token in enumerate(tokens)}


@pytest.mark.exercise("1.12")
def test_tables():
    whole, byte_ids, ranks, merged = lookup_tables(vocabulary(b"th", b"the"),
                                                   [(b"t", b"h"), (b"th", b"e")])
    assert ranks == {(116, 104): 0, (300, 101): 1}
    assert merged == [300, 307], "ids come from the vocabulary: they need not follow the ranks"
    assert whole == {b"th": 300, b"the": 307}
    assert byte_ids == list(range(256))


@pytest.mark.exercise("1.12")
def test_byte_ids_are_looked_up():
    shuffled = {bytes([b]): (b * 7 + 3) % 256 for b in range(256)}
    byte_ids = lookup_tables(shuffled, [])[1]
    assert byte_ids[0] == 3 and byte_ids[1] == 10, "GPT-2's byte ids are not the byte values"


@pytest.mark.exercise("1.12")
def test_a_byte_may_have_no_token():
    some = {token: i for token, i in BYTES.items() if token not in (b"\x04", b"\xff")}
    byte_ids = lookup_tables(some, [])[1]
    assert len(byte_ids) == 256 and byte_ids[4] is byte_ids[255] is None, (
        f"SmolLM2 has no token for 21 bytes: None stands for them, got {byte_ids[4]!r}")
    assert byte_ids[5] == 5


@pytest.mark.exercise("1.12")
def test_a_token_that_no_merge_makes_is_not_taken_whole():
    assert lookup_tables(vocabulary(b"word"), [])[0] == {}, "b'word' is out of reach of merges"


@pytest.mark.exercise("1.12")
def test_a_merge_that_comes_twice_keeps_its_first_rank():
    _, _, ranks, merged = lookup_tables(vocabulary(b"ab", b"bc"), [(b"a", b"b"), (b"b", b"c"),
                                                                    (b"a", b"b")])
    assert ranks == {(97, 98): 0, (98, 99): 1} and len(merged) == 3


@pytest.mark.exercise("1.12")
@pytest.mark.parametrize("ids, merges, named", [
    ({b"a": 1}, [(b"a", b"b")], "b'ab'"), (vocabulary(), [(b"a", b"b")], "b'ab'"),
    (vocabulary(b"abc"), [(b"ab", b"c")], "b'ab'")])
def test_tables_of_what_does_not_belong_together(ids, merges, named):
    with pytest.raises(BadInput, match=named):
        lookup_tables(ids, merges)


# ---------------------------------------------------------------- 1.13: streaming decode

@pytest.fixture
def raw():
    """Every byte a token: characters come in parts."""
    return Tokenizer({b: bytes([b]) for b in range(256)}, [])


@pytest.mark.exercise("1.13")
def test_stream_decode_holds_incomplete_characters_back(raw):
    got = list(raw.stream_decode("a🙂b".encode()))
    assert got == ["a", "🙂", "b"], f"a character comes when its last byte is there, got {got}"


@pytest.mark.exercise("1.13")
def test_stream_decode_is_early(raw):
    ids = iter("xyz".encode())
    stream = raw.stream_decode(ids)
    assert next(stream) == "x"
    assert next(ids) == ord("y"), "the first text must come before the second id is taken"


@pytest.mark.exercise("1.13")
@pytest.mark.parametrize("data, why", [
    (b"a\xffbc", "a byte that starts nothing"), (b"\xe2\x82abc", "an interrupted character"),
    ("ab\ufffd".encode(), "U+FFFD itself, whose bytes are complete")])
def test_stream_decode_is_early_behind_what_is_no_utf_8(raw, data, why):
    pieces, before_the_end = [], []

    def ids():
        yield from data
        before_the_end.append("".join(pieces))      # the stream asks whether there is more
    for piece in raw.stream_decode(ids()):
        pieces.append(piece)
    expected = data.decode("utf-8", "replace")
    assert before_the_end == [expected], f"{why} holds nothing back: {before_the_end}"


@pytest.mark.exercise("1.13")
@pytest.mark.parametrize("data, why", [
    (b"ab\xf0\x9f\x99", "an unfinished character at the end shows as U+FFFD"),
    (b"a\xffb", "a byte that starts nothing shows as U+FFFD"),
    (b"\xe2\x82a", "an interrupted character shows as U+FFFD"), (b"", "nothing")])
def test_stream_decode_joined_is_decode(raw, data, why):
    got, expected = "".join(raw.stream_decode(data)), data.decode("utf-8", "replace")
    assert got == expected, f"{why}: expected {expected!r}, got {got!r}"


# ---------------------------------------------------------------- 1.16: special tokens in a text

@pytest.fixture
def packing(monkeypatch):
    """Bytes only, split at blanks, with a special token: what pack relies on is known here."""
    monkeypatch.setattr(bpe, "special_splitter", lambda tokens: re.compile("(<e>)"))
    monkeypatch.setattr(bpe, "split", lambda text, pattern: re.findall(r"\s+|\S+", text))
    tokenizer = Tokenizer({b: bytes([b]) for b in range(256)} | {300: b"<e>"}, [], {"<e>": 300})
    return lambda *args: memoryview(tokenizer.pack(*args)).cast("I").tolist()


@pytest.mark.exercise("1.16")
@pytest.mark.parametrize("text, allowed, expected, why", [
    ("a<e>b", "all", [97, 300, 98], "an allowed special token becomes its id"),
    ("a<e>b", ("<e>",), [97, 300, 98], "allowed by name"),
    ("a<e>b", (), list(b"a<e>b"), "without permission it is plain text: nobody can forge it"),
    ("a <e> b", "all", [97, 32, 300, 32, 98], "the blanks around it stay"),
    ("<e><e>", "all", [300, 300], "side by side"),
    ("a\n", "all", [97, 10], "a line feed at the end stays"),
    ("é", (), list("é".encode()), "text is UTF-8"),
    ("x\ud83d\ude42\ud800", (), list("x🙂\ufffd".encode()), "surrogates are mended"),
    ("\ud800<e>", "all", [*"\ufffd".encode(), 300], "also beside a special token"),
    (" \ud800\n", (), list(" \ufffd\n".encode()), "and the blanks around them stay"),
])
def test_pack(packing, text, allowed, expected, why):
    got = packing(text, allowed)
    assert got == expected, f"{why}: {text!r} expected {expected}, got {got}"


@pytest.mark.exercise("1.16")
def test_pack_refuses_what_is_disallowed(packing):
    with pytest.raises(ValueError, match="<e>.*2"):
        packing("ab<e>", (), "all")
    assert packing("ab<e>", "all", "all") == [97, 98, 300], "what is allowed is not refused"
    assert packing("ab", (), "all") == [97, 98]
    with pytest.raises(ValueError, match="<e>.*character 2"):
        packing("é🙂<e>", (), ["<e>"])              # characters are counted, not bytes


@pytest.mark.exercise("1.16")
def test_names_of_special_tokens_may_come_from_a_generator(packing):
    for text, want in (("a<e>", [97, 300]), ("\ud800<e>", [*"\ufffd".encode(), 300])):
        assert packing(text, iter(["<e>"])) == want, "allowed by an iterable that is read once"
        assert packing(text, iter(["<e>"]), iter(["<e>"])) == want, "and what is allowed is not refused"
    with pytest.raises(ValueError, match="<e>"):
        packing("ab<e>", (), iter(["<e>"]))


# ---------------------------------------------------------------- the whole Tokenizer

@pytest.fixture(scope="module")
def tokenizer():
    counts = {"low": 5, " lower": 2, " newest": 6, " widest": 3, "é": 4, " the": 9, "🙂": 4}
    vocab, merges = train_bpe(counts, 290, ["<|endoftext|>", "<|end|>", "<|end|><|end|>"])
    return Tokenizer(vocab, merges, ["<|endoftext|>", "<|end|>", "<|end|><|end|>"])


def random_text(rng):
    parts = ["low", " lower", "\r\n", "\x85", "ſ", "🙂", "é", "\u3000", "\x1c", "<|end|>", "  ", "−",
             "'s", "\0", "\U0010ffff", "12", "的", "\u0301"]
    return "".join(rng.choices(parts, k=rng.randint(0, 30)))


def test_round_trip_of_random_text_and_bytes(tokenizer):
    rng = random.Random(12)
    for _ in range(1000):
        text = random_text(rng)
        for allowed in ((), "all"):
            ids = tokenizer.encode(text, allowed)
            assert tokenizer.decode(ids) == text
            assert tokenizer.encode_to_numpy(text, allowed).tolist() == ids
            assert "".join(tokenizer.stream_decode(ids)) == text
        data = rng.randbytes(30)
        lossy = data.decode("utf-8", "replace")
        assert tokenizer.decode(list(data)) == lossy == tokenizer.decode(tokenizer.encode(lossy))


def test_a_stream_has_the_ids_of_the_whole_however_it_is_cut(tokenizer):
    rng = random.Random(13)
    for _ in range(300):
        text = random_text(rng)
        cuts = sorted(rng.randint(0, len(text)) for _ in range(3))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        assert list(tokenizer.encode_iterable(parts, "all")) == tokenizer.encode(text, "all")


@pytest.mark.parametrize("line", ["low lower {} newest <|end|>\n", "слова без {} латинских букв\n"])
def test_encode_iterable_needs_little_memory(tokenizer, line):
    stream = (line.format("".join(map(chr, range(k % 90 + 1040, k % 97 + 1050)))) + hex(k) for k in
              range(25_000))
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens)
    own.encode("é")                                  # the pattern is compiled
    tracemalloc.start()
    count = sum(1 for _ in own.encode_iterable(stream, "all"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 200_000 and peak < 1e6, f"a stream of {count:,} ids took {peak / 1e6:.1f} MB"


def test_the_longest_token_has_no_precedence_over_a_lower_rank():
    own = Tokenizer({b: bytes([b]) for b in range(256)} | {256: b"bc", 257: b"ab", 258: b"abc"},
                    [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")])
    for text in ("abc", "abc " * 2000):
        assert own.encode(text)[:2] == [97, 256], "b c merges first, and a bc never merges"
        assert list(own.encode_iterable([text])) == own.encode(text)


def test_the_longest_special_token_wins(tokenizer):
    ids = tokenizer.encode("<|end|><|end|><|end|>", "all")
    assert [tokenizer.vocab[i] for i in ids] == [b"<|end|><|end|>", b"<|end|>"]


def test_special_tokens_may_be_allowed_by_name_and_unknown_names_are_refused(tokenizer):
    assert tokenizer.encode("<|end|>", "<|end|>") == [tokenizer.special_tokens["<|end|>"]]
    assert tokenizer.encode("<|end|>", {"<|end|>"}) == [tokenizer.special_tokens["<|end|>"]]
    with pytest.raises(ValueError, match="<.end_of_text.>.*endoftext"):
        tokenizer.encode("a", {"<|end_of_text|>"})


def test_batches_by_processes_are_the_same(tokenizer, monkeypatch):
    monkeypatch.setattr(bpe, "LEAST_BATCH", 0)
    texts = [random_text(random.Random(k)) for k in range(40)]
    expected = [tokenizer.encode(text, "all") for text in texts]
    assert tokenizer.encode_batch(texts, 1, "all") == expected
    assert tokenizer.encode_batch(texts, 2, "all") == expected
    assert tokenizer.encode_batch(texts[:2], 3, "all") == expected[:2]
    assert tokenizer.encode_batch([], 2) == []
    assert pickle.loads(pickle.dumps(tokenizer)).encode(texts[0], "all") == expected[0]


def test_a_worker_gets_the_tokenizer_once_not_with_every_text(tokenizer, monkeypatch):
    made = []
    monkeypatch.setattr(Tokenizer, "__reduce__", lambda self: made.append(1) or (
        Tokenizer, (self.vocab, self.merges, self.special_tokens)))
    texts = [f"low lower {k} newest the widest" for k in range(20_000)]
    assert tokenizer.encode_batch(texts, 2)[-1] == tokenizer.encode(texts[-1])
    assert len(made) <= 1, f"the tokenizer was pickled {len(made)} times for two processes"


@pytest.mark.parametrize("piece", ["a" * 100_000, "low" * 33_000, " " * 100_000, "9" * 100_000,
                                   "é" * 50_000, "=-" * 50_000, "🙂" * 25_000])
def test_one_piece_of_100_kb(tokenizer, piece):
    begin = os.times().user
    assert tokenizer.decode(tokenizer.encode(piece)) == piece
    assert os.times().user - begin < 3, "a long piece must not take quadratic time"


@pytest.mark.parametrize("ids, message", [
    ([108, 9999], "id 9999 at place 1"), ([-1], "id -1 at place 0"), ([108, 108, -3], "-3 at place 2"),
    ([10 ** 12, 1], "id 1000000000000 at place 0"), ([0.5], "id 0.5 at place 0")])
@pytest.mark.parametrize("more", [0, 1000])
def test_unknown_ids_are_named(tokenizer, ids, message, more):
    with pytest.raises(BadInput, match=message):
        tokenizer.decode(ids + more * [97])


def test_decoding_many_ids_at_once_is_decoding_them_one_by_one():
    rng = random.Random(15)
    vocab = {b: bytes([b]) for b in range(256)} | {
        300 + k: rng.randbytes(rng.randint(1, 30)).replace(b"\0", b"" if k % 40 else b"\0")
        for k in range(400)} | {800: b"x" * 8, 801: b"x" * 9, 802: b""}
    own = Tokenizer(vocab, [])
    for k in range(40):
        chosen = [i for i in vocab if k % 2 or 0 not in vocab[i] and vocab[i]]
        ids = rng.choices(chosen, k=rng.randint(200, 900))
        expected = b"".join(vocab[i] for i in ids)
        for form in (ids, np.array(ids), np.array(ids, np.uint16), iter(ids)):
            assert own.decode_bytes(form) == expected
    with pytest.raises(BadInput, match="id 299 at place 700"):
        own.decode([97] * 700 + [299])


def test_decode_of_numpy_of_nothing_and_of_half_a_character(tokenizer):
    assert tokenizer.decode(np.array([108, 108], np.uint16)) == "ll"
    assert tokenizer.decode([]) == "" and tokenizer.encode("") == []
    assert tokenizer.decode([0xf0]) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode([0xf0], errors="strict")


def test_special_tokens_get_ids_of_their_own():
    vocab, merges = train_bpe({"the": 9}, 258)
    own = Tokenizer(vocab, merges, ["the", "<e>"])
    assert own.special_tokens == {"the": 258, "<e>": 259}, "a merge keeps its id for plain text"
    assert own.encode("the") == [257] and own.encode("the", "all") == [258]
    assert special_ids({"<e>": 5}, {5: b"<e>"}) == {"<e>": 5}
    with pytest.raises(BadInput, match="empty"):
        special_ids([""], {})
    with pytest.raises(BadInput, match="already"):
        special_ids({"<e>": 5}, {5: b"x"})
