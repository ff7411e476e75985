"""Formats of others, from files written here by their published rules."""

import base64
import json

import pytest

from artifacts import BadInput
from bpe import Tokenizer, train_bpe
from formats import (from_hf, load_gpt2, load_tiktoken, merges_from_ranks, printable, to_hf,
                     unprintable)

COUNTS = {"low": 5, " lower": 2, " newest": 6, "\n": 9, "\n\n": 4, "é": 3, "\x85": 2}
TEXT = "lower newest\n\n é\x85 <|endoftext|> low"


@pytest.fixture(scope="module")
def tokenizer():
    vocab, merges = train_bpe(COUNTS, 275, ["<|endoftext|>"], "smallest_ids")
    return Tokenizer(vocab, merges, ["<|endoftext|>"])


def test_the_printable_alphabet():
    assert printable(b" the\n") == "ĠtheĊ" and printable(b"\x00\xad") == "ĀŃ"
    every = bytes(range(256))
    assert unprintable(printable(every)) == every and printable(every).isprintable()


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"\p{L}+|\s+|[^\s\p{L}]+"])
def test_tokenizer_json_comes_back_the_same(tokenizer, tmp_path, pattern):
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, pattern)
    own.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    for name in ("vocab", "merges", "special_tokens", "pattern", "vocab_size"):
        assert getattr(loaded, name) == getattr(own, name), name
    assert loaded.encode(TEXT, "all") == own.encode(TEXT, "all")
    assert '"unicode_version": "1' in (tmp_path / "t.json").read_text(encoding="utf-8")


def test_hf_loads_what_we_write_with_equal_ids(tokenizer, tmp_path):
    hf = pytest.importorskip("tokenizers", reason="the peer `tokenizers` is not installed")
    for pattern in ("gpt2", "gpt4"):
        own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, pattern)
        to_hf(own, tmp_path / "t.json")
        theirs = hf.Tokenizer.from_file(str(tmp_path / "t.json"))
        assert theirs.encode(TEXT).ids == own.encode(TEXT, "all")
        assert theirs.decode(own.encode(TEXT)) == TEXT


def test_merges_as_pairs_are_read_too(tokenizer, tmp_path):
    to_hf(tokenizer, tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    content["model"]["merges"] = [m.split(" ") for m in content["model"]["merges"]]
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8")
    assert from_hf(tmp_path / "t.json").merges == tokenizer.merges


def write_gpt2(tokenizer, folder):
    (folder / "vocab.json").write_text(json.dumps(
        {"<|endoftext|>" if token == b"<|endoftext|>" else printable(token): i
         for i, token in tokenizer.vocab.items()}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(
        f"{printable(a)} {printable(b)}" for a, b in tokenizer.merges) + "\n", encoding="utf-8")
    return folder / "vocab.json", folder / "merges.txt"


def test_gpt2_files(tokenizer, tmp_path):
    loaded = load_gpt2(*write_gpt2(tokenizer, tmp_path))
    assert loaded.encode(TEXT, "all") == tokenizer.encode(TEXT, "all")
    assert loaded.special_tokens == tokenizer.special_tokens


@pytest.mark.parametrize("broken, message", [
    ("l o\n\x85 x y\n", "line 2"), ("l o\nlow\n", "line 2"), ("l o\nĠ \n\n", "line 2")])
def test_a_broken_merges_file_names_the_line(tokenizer, tmp_path, broken, message):
    vocab, merges = write_gpt2(tokenizer, tmp_path)
    merges.write_text(broken, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        load_gpt2(vocab, merges)


def write_ranks(tokenizer, path):
    path.write_text("".join(f"{base64.b64encode(token).decode()} {i}\n"
                            for i, token in tokenizer.vocab.items()
                            if token != b"<|endoftext|>"), encoding="ascii")
    return path


def test_tiktoken_rank_files(tokenizer, tmp_path):
    loaded = load_tiktoken(write_ranks(tokenizer, tmp_path / "r.tiktoken"), "gpt2",
                           tokenizer.special_tokens)
    assert loaded.merges == tokenizer.merges, "merges must be recovered from the ranks"
    assert loaded.encode(TEXT, "all") == tokenizer.encode(TEXT, "all")


def test_a_missing_rank_is_named(tokenizer, tmp_path):
    path = write_ranks(tokenizer, tmp_path / "r.tiktoken")
    lines = path.read_text(encoding="ascii").splitlines()
    path.write_text("\n".join(lines[:256] + lines[257:]), encoding="ascii")
    with pytest.raises(BadInput, match="a rank is missing"):
        load_tiktoken(path, "gpt2")
    path.write_text("YQ== one", encoding="ascii")
    with pytest.raises(BadInput, match="line 1"):
        load_tiktoken(path, "gpt2")


def test_merges_from_ranks_by_hand():
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5}
    assert merges_from_ranks(ranks) == [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]


def test_what_we_would_do_otherwise_is_refused(tokenizer, tmp_path):
    to_hf(tokenizer, tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "NFC"}
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadInput, match="normalizer"):
        from_hf(tmp_path / "t.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {}}',
                                     '{"model": {"vocab": {"a b": 1}, "merges": []}}'])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        from_hf(tmp_path / "t.json")
    assert "t.json" in str(error.value) and "\n" not in str(error.value)
