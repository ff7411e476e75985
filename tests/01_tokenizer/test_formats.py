"""Formats of others, from files written here by their published rules."""

import base64
import json
import pickle
import random

import pytest

from artifacts import BadInput
from bpe import Tokenizer, train_bpe
from bpe_ranks import merges_from_ranks
from byte_alphabet import Spelt, printable, unprintable
from formats import from_gguf, from_hf, load_gpt2, load_tekken, load_tiktoken, to_hf
from pretokenize import PATTERNS, split

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


def test_a_possessive_count_is_written_so_that_all_engines_agree(tokenizer, tmp_path):
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, (), r"\p{L}+|\p{N}{1,3}+|[^\s\]]{2}+|\s|.")
    own.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    assert loaded.pattern == r"\p{L}+|(?>\p{N}{1,3})|(?>[^\s\]]{2})|\s|."
    assert loaded.encode(TEXT + "12345--") == own.encode(TEXT + "12345--")


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"\p{L}+|\s+|[^\s\p{L}]+", "(?s:.+)"])
def test_tokenizer_json_comes_back_the_same(tokenizer, tmp_path, pattern):
    own = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, pattern)
    own.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    for name in ("vocab", "merges", "special_tokens", "pattern", "vocab_size"):
        assert getattr(loaded, name) == getattr(own, name), name
    assert loaded.encode(TEXT, "all") == own.encode(TEXT, "all")
    text = (tmp_path / "t.json").read_text(encoding="utf-8")
    assert '"unicode_version": "1' in text or pattern == "(?s:.+)"


def test_hf_loads_what_we_write_with_equal_ids(tokenizer, tmp_path):
    hf = pytest.importorskip("tokenizers", reason="the peer `tokenizers` is not installed")
    first = {0: b"<|endoftext|>"} | {i + 1: t for i, t in tokenizer.vocab.items() if i < 270}
    for vocab, specials in ((tokenizer.vocab, ["<|endoftext|>"]), (first, ["<|endoftext|>"]),
                            (tokenizer.vocab, {"<|endoftext|>": 270, "<|far|>": 900, "low<": 901})):
        for pattern in ("gpt2", "gpt4", "(?s:.+)"):
            own = Tokenizer(vocab, tokenizer.merges, specials, pattern)
            to_hf(own, tmp_path / "t.json")
            theirs = hf.Tokenizer.from_file(str(tmp_path / "t.json"))
            for text in (TEXT, "<|far|> low<|endoftext|>low<lower"):
                assert theirs.encode(text).ids == own.encode(text, "all"), (specials, pattern)
                assert theirs.decode(own.encode(text)) == text


def hf_files(**changes):
    """Change a tokenizer.json: {"model.type": "Unigram"} sets content["model"]["type"]."""
    def change(content):
        for name, value in changes.items():
            *outer, last = name.split("__")
            inner = content
            for step in outer:
                inner = inner[step]
            inner[last] = value
    return change


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False}
LAST = BYTE_LEVEL | {"use_regex": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def text_split(regex, **more):
    return SPLIT | {"pattern": {"Regex": regex}} | more


DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize("steps, expected", [
    (BYTE_LEVEL, "gpt2"), (BYTE_LEVEL | {"use_regex": True}, "gpt2"), (LAST, "(?s:.+)"),
    (sequence(SPLIT, LAST), r"\p{L}+"), (sequence(SPLIT, BYTE_LEVEL), (r"\p{L}+", "gpt2")),
    (sequence(SPLIT | {"pattern": {"String": "a.b"}}, LAST), r"a\.b"),
    (sequence(DIGITS, BYTE_LEVEL), "smollm"), (sequence(DIGITS, sequence(BYTE_LEVEL)), "smollm"),
    (sequence(text_split(r"\p{N}{1,3}"), text_split("[一-龥]+"), LAST), (r"\p{N}{1,3}", "[一-龥]+")),
    (sequence(DIGITS | {"individual_digits": False}, SPLIT, LAST), (r"\p{N}+", r"\p{L}+")),
    (sequence(text_split(PATTERNS["qwen2"]), LAST), "qwen2"),
    (sequence(text_split(PATTERNS["gpt4"], behavior="Removed", invert=True), LAST), "gpt4"),
    # HF's engine takes {1,3}+ for one repeat of the other: there any number of digits is a piece.
    (sequence(text_split(r"\p{N}{1,3}+"), LAST), r"(?:\p{N}{1,3})+"),
    (sequence({"type": "Punctuation", "behavior": "Contiguous"}, BYTE_LEVEL),
     (r"[\p{P}$+<=>^`|~]+", "gpt2")),
    (sequence(SPLIT | {"pattern": {"String": r"\p{L}"}}, LAST), r"\\p\{L\}")])
def test_hf_ways_of_splitting_that_we_know(tokenizer, tmp_path, steps, expected):
    rewritten(tokenizer, tmp_path, hf_files(pre_tokenizer=steps))
    assert from_hf(tmp_path / "t.json").pattern == expected


@pytest.mark.parametrize("change, message", [
    (hf_files(normalizer={"type": "NFKC"}), "normalizer NFKC"),
    (hf_files(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}),
     "normalizer NFC and Strip"),
    (hf_files(model__type="Unigram"), "type Unigram"), (hf_files(model__dropout=0.1), "dropout"),
    (hf_files(model__byte_fallback=True), "byte_fallback"),
    (hf_files(model__end_of_word_suffix="</w>"), "end_of_word_suffix"),
    (hf_files(pre_tokenizer=None), "another kind"),
    (hf_files(pre_tokenizer={"type": "Metaspace"}), "another kind"),
    (hf_files(pre_tokenizer=sequence(BYTE_LEVEL, DIGITS)), "another kind"),
    (hf_files(pre_tokenizer=BYTE_LEVEL | {"add_prefix_space": True}), "another kind"),
    (hf_files(pre_tokenizer=sequence(SPLIT | {"behavior": "Removed"}, LAST)), "another kind"),
    (hf_files(pre_tokenizer=sequence(SPLIT | {"behavior": "Removed", "invert": True}, LAST)),
     "another kind"),
    (hf_files(pre_tokenizer=sequence(text_split(r"\P{N}"), LAST)), r"\\\\P"),
    (hf_files(pre_tokenizer=sequence({"type": "Metaspace"}, LAST)), "Metaspace before the last"),
    (hf_files(pre_tokenizer=sequence(text_split("a", behavior="MergedWithNext"), LAST)),
     "Split with behavior MergedWithNext"),
    (hf_files(pre_tokenizer=sequence()), "none comes last"),
    (hf_files(model__unk_token="<u>", model__vocab={"a": 0}, model__merges=[]), "<u>.*255 of the"),
    (hf_files(model__vocab={"a": 0, "b": 0}, model__merges=[]), "two tokens the id 0: 'a' and 'b'"),
    (hf_files(model__vocab={"a": "0"}, model__merges=[]), "'a' the id '0'"),
    (hf_files(added_tokens=[{"id": 900, "content": "<e>"}]), "'<e>' the id 900.* gives 271"),
    (hf_files(added_tokens=[{"id": 270, "content": "low"}]), "'low' the id 270.* gives"),
    (hf_files(added_tokens=[{"id": 64, "content": "a"}]), "'a', which is an ordinary token too"),
    (hf_files(added_tokens=[{"id": 271, "content": "<e>"}, {"id": 272, "content": "<e>"}]),
     "'<e>' the id 272.* gives 271"),
    (hf_files(added_tokens=[{"id": 271, "content": "<e", "normalized": True},
                            {"id": 272, "content": "e>"}]), "'e>' and '<e', which overlap"),
    (hf_files(normalizer={"type": "NFC"}, added_tokens=[
        {"id": 271, "content": "<e>", "normalized": True}]), "'<e>' in the text behind"),
    (hf_files(pre_tokenizer=sequence(text_split(r"\h+"), LAST)), r"\\\\h"),
    (hf_files(pre_tokenizer=sequence(text_split(r"[\p{L}--[a]]"), LAST)), "has --"),
    (hf_files(model__merges={"a b": 0}), "merges that are no list"),
    (hf_files(normalizer={"type": "NFC"}, added_tokens=[
        {"id": 271, "content": "|K|", "normalized": True}]), "'|K|' in the text behind"),
    (hf_files(added_tokens=[{"id": 270, "content": "<e>", "lstrip": True}]), "white space.*<e>")])
def test_what_we_would_do_otherwise_than_hf_is_refused(tokenizer, tmp_path, change, message):
    rewritten(tokenizer, tmp_path, change)
    with pytest.raises(BadInput, match=message) as error:
        from_hf(tmp_path / "t.json")
    assert "t.json" in str(error.value) and "\n" not in str(error.value)


def test_a_piece_that_is_a_token_stays_whole_with_ignore_merges(tokenizer, tmp_path):
    """Llama 3's file says so; its 588 tokens that merges do not reach would be lost otherwise."""
    rewritten(tokenizer, tmp_path, hf_files(model__ignore_merges=True, model__merges=[]))
    loaded = from_hf(tmp_path / "t.json")
    names = {token: i for i, token in tokenizer.vocab.items()}
    assert loaded.encode("low") == [names[b"low"]], "a whole piece is looked up, merges or not"
    assert loaded.encode("lowx") == [names[c] for c in (b"l", b"o", b"w", b"x")]
    loaded.save(tmp_path / "again.json")
    again = from_hf(tmp_path / "again.json")
    assert again.whole_pieces and again.encode(TEXT) == loaded.encode(TEXT)
    del again.vocab[names[b"low"]]
    assert Tokenizer(again.vocab, []).encode("low") == [names[c] for c in (b"l", b"o", b"w")]


def test_a_text_is_composed_before_it_is_split(tokenizer, tmp_path):
    """As Qwen's file says: e and a combining accent are the letter é."""
    rewritten(tokenizer, tmp_path, hf_files(normalizer={"type": "NFC"}))
    loaded = from_hf(tmp_path / "t.json")
    assert loaded.normalizer == "NFC" and loaded.encode("e\u0301") == tokenizer.encode("é")
    assert loaded.encode("e\u0301<|endoftext|>\u0301", "all") == tokenizer.encode(
        "é<|endoftext|>\u0301", "all"), "a special token is a border for composing too"
    assert list(loaded.encode_iterable(["e", "\u0301"])) == loaded.encode("e\u0301")
    loaded.save(tmp_path / "again.json")
    assert from_hf(tmp_path / "again.json").normalizer == "NFC"
    rewritten(tokenizer, tmp_path, hf_files(normalizer={"type": "Sequence", "normalizers": []}))
    assert from_hf(tmp_path / "t.json").normalizer is None


def test_normalizers_inside_sequences_are_one(tokenizer, tmp_path):
    nfc = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    rewritten(tokenizer, tmp_path, hf_files(normalizer={
        "type": "Sequence", "normalizers": [nfc, {"type": "NFC"}]}))
    assert from_hf(tmp_path / "t.json").normalizer == "NFC"
    # White space is the same before and behind the normalizer (GPT-NeoX has such tokens).
    rewritten(tokenizer, tmp_path, hf_files(normalizer=nfc, added_tokens=[
        {"id": 271, "content": "  ", "normalized": True, "special": False},
        {"id": 272, "content": "|||IP_ADDRESS|||", "normalized": True, "special": False}]))
    assert from_hf(tmp_path / "t.json").encode("a  e\u0301", "all")[1] == 271
    # And so are signs that no mark joins (OLMo has such a token).
    assert from_hf(tmp_path / "t.json").encode("a|||IP_ADDRESS|||\u0301", "all")[1] == 272


def test_of_two_equal_merges_the_last_one_counts(tokenizer, tmp_path):
    """As in HF's table and in GPT-2's own program: both fill a mapping from first to last."""
    first, *rest = [f"{printable(a)} {printable(b)}" for a, b in tokenizer.merges]
    rewritten(tokenizer, tmp_path, hf_files(model__merges=["#version: 0.2", first, *rest, first]))
    assert from_hf(tmp_path / "t.json").merges == [*tokenizer.merges[1:], tokenizer.merges[0]]
    vocab, merges = write_gpt2(tokenizer, tmp_path)
    merges.write_text("\n".join([first, *rest, first]), encoding="utf-8-sig")
    assert load_gpt2(vocab, merges).merges == [*tokenizer.merges[1:], tokenizer.merges[0]]


def test_a_token_in_other_letters_than_gpt2s_is_decoded_and_never_reached(tokenizer, tmp_path):
    change = lambda content: content["model"]["vocab"].update({"你": 300})
    rewritten(tokenizer, tmp_path, change)
    loaded = from_hf(tmp_path / "t.json")
    assert loaded.decode([300]) == "你" and loaded.encode("你") == tokenizer.encode("你")
    rewritten(tokenizer, tmp_path, lambda content: (
        change(content), content["model"].update(ignore_merges=True)))
    with pytest.raises(BadInput, match="ignore_merges and the token '你'"):
        from_hf(tmp_path / "t.json")


@pytest.mark.parametrize("name", ["the", "Ġthe"])
def test_a_special_token_spelt_like_an_ordinary_one_is_said_when_it_is_saved(tmp_path, name):
    vocab, merges = train_bpe({"the": 9, " the": 20}, 259)
    own = Tokenizer(vocab, merges, [name])
    with pytest.raises(BadInput, match=f"special token '{name}'.*ordinary token 25.*another name"):
        own.save(tmp_path / "t.json")
    assert not list(tmp_path.iterdir()), "refused before anything is written"


def small_gguf(tokenizer, **changes):
    specials = set(tokenizer.special_tokens.values())
    size = tokenizer.vocab_size
    names = [tokenizer.vocab[i].decode() if i in specials else printable(tokenizer.vocab[i])
             for i in range(size)]
    metadata = {"model": "gpt2", "pre": "smollm", "tokens": names,
                "token_type": [3 if i in specials else 1 for i in range(size)],
                "merges": [f"{printable(a)} {printable(b)}" for a, b in tokenizer.merges]}
    return {"tokenizer.ggml." + name: value for name, value in (metadata | changes).items()
            if value is not None}


def test_the_metadata_of_a_gguf_file(tokenizer):
    loaded = from_gguf(small_gguf(tokenizer))
    assert loaded.pattern == "smollm" and loaded.special_tokens == tokenizer.special_tokens
    text = "low\n\n12 lower<|endoftext|>"
    smollm = Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, "smollm")
    assert loaded.encode(text, "all") == smollm.encode(text, "all") != tokenizer.encode(text, "all")
    assert from_gguf(small_gguf(tokenizer, pre="llama-bpe")).whole_pieces
    assert from_gguf(small_gguf(tokenizer, pre="qwen2")).normalizer == "NFC"
    assert from_gguf(small_gguf(tokenizer, token_type=None)).special_tokens == {}
    # Pieces that are tokens stay whole where llama.cpp says so, and not by the way of splitting.
    smaug = from_gguf(small_gguf(tokenizer, pre="smaug-bpe"))
    assert smaug.pattern == "gpt4" and not smaug.whole_pieces


@pytest.mark.parametrize("pre, text, pieces", [
    ("deepseek-v3", "a1234 [b]，中文ab!?\n x", ["a", "123", "4", " [", "b", "]，", "中文", "ab",
                                               "!?\n", " x"]),
    ("bloom", "ab cd, (e) f", ["ab", " cd", ", (", "e", ")", " f"]),
    ("viking", "ab12 c.", ["ab", "1", "2", " c", "."]),
    ("tekken", "HelloWorld's 12/\n", ["Hello", "World", "'s", " ", "1", "2", "/\n"]),
    ("qwen35", "नमस्ते 12", ["नमस्ते", " ", "1", "2"]), ("glm4", "a\n 1234", ["a", "\n", " ", "123", "4"]),
    ("codeshell", "ab 12", ["ab", " ", "1", "2"]), ("mpt", "ab 12's", ["ab", " 12", "'s"])])
def test_more_ways_to_split_of_gguf_files(tokenizer, pre, text, pieces):
    assert split(text, from_gguf(small_gguf(tokenizer, pre=pre)).pattern) == pieces


@pytest.mark.parametrize("kind, special", [(2, True), (3, True), (4, True), (5, False), (6, False)])
def test_which_kinds_of_gguf_tokens_are_special(tokenizer, kind, special):
    types = [1] * (tokenizer.vocab_size - 1) + [kind]
    assert bool(from_gguf(small_gguf(tokenizer, token_type=types)).special_tokens) == special


@pytest.mark.parametrize("changes, message", [
    ({"model": "llama"}, "'llama' .SentencePiece with byte fallback"), ({"model": None}, "no .*model"),
    ({"pre": "falcon"}, "'falcon'.*known are gpt-2"), ({"pre": None}, "'default'"),
    ({"tokens": None}, "no .*tokens"), ({"merges": ["a b c"]}, "damaged"),
    ({"merges": ["中 a"]}, "damaged"), ({"token_type": [1]}, "damaged"),
    ({"merges": [["a", "b"]]}, "damaged"), ({"tokens": [1, 2]}, "damaged")])
def test_a_gguf_of_another_kind_is_refused_in_one_line(tokenizer, changes, message):
    with pytest.raises(BadInput, match=message) as error:
        from_gguf(small_gguf(tokenizer, **changes))
    assert "\n" not in str(error.value)


def test_a_byte_without_a_token_is_left_out_of_its_piece(tokenizer):
    """As HF tokenizers does; SmolLM2 lacks 21 bytes."""
    vocab = {i: token for i, token in tokenizer.vocab.items() if token not in (b"\x04", b"\xf1")}
    own = Tokenizer(vocab, tokenizer.merges, (), "(?s:.+)")
    assert own.missing_bytes == b"\x04\xf1" and tokenizer.missing_bytes == b""
    assert own.encode("lo\x04w") == own.encode("low"), "what stood around it may merge"
    own = Tokenizer(vocab, tokenizer.merges)
    assert own.encode("\x04") == [] and own.decode(own.encode("a\x04b" * 3000)) == "ab" * 3000


def test_special_tokens_of_any_letters_may_stand_in_the_vocabulary(tokenizer, tmp_path):
    rewritten(tokenizer, tmp_path, lambda content: (
        content["model"]["vocab"].update({"<｜begin▁of text｜>": 300}),
        content["added_tokens"].append({"id": 300, "content": "<｜begin▁of text｜>"})))
    assert from_hf(tmp_path / "t.json").encode("<｜begin▁of text｜>", "all") == [300]


def rewritten(tokenizer, folder, change):
    """The tokenizer.json of `tokenizer` after `change(content)`."""
    to_hf(tokenizer, folder / "t.json")
    content = json.loads((folder / "t.json").read_text(encoding="utf-8"))
    change(content)
    (folder / "t.json").write_text(json.dumps(content), encoding="utf-8")


def test_merges_as_pairs_are_read_too(tokenizer, tmp_path):
    rewritten(tokenizer, tmp_path, lambda content: content["model"].update(
        merges=[m.split(" ") for m in content["model"]["merges"]]))
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


def test_a_lost_line_of_a_merges_file_is_noticed(tokenizer, tmp_path):
    vocab, merges = write_gpt2(tokenizer, tmp_path)
    lines = merges.read_text(encoding="utf-8").splitlines(True)
    merges.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(BadInput, match="no line of.*token 269.*a line is missing"):
        load_gpt2(vocab, merges)


@pytest.mark.parametrize("change, message", [
    ({"zz": "260"}, "'zz' the id '260'"), ({"zz": 5}, "two tokens the id 5"),
    ({"zz": -1}, "the id -1"), (None, "no mapping")])
def test_a_damaged_vocabulary_of_gpt2s_kind_is_refused(tokenizer, tmp_path, change, message):
    vocab, merges = write_gpt2(tokenizer, tmp_path)
    content = change and json.loads(vocab.read_text(encoding="utf-8")) | change
    vocab.write_text(json.dumps(content), encoding="utf-8")
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


def test_text_is_encoded_by_ranks_without_merges(tokenizer, tmp_path):
    """Tokens of any order, some out of reach: what tiktoken's rule says, slowly and obviously."""
    rng = random.Random(7)
    tokens = {"".join(rng.choices("abc", k=rng.randint(2, 6))) for _ in range(40)}
    order = [*map(chr, range(128)), *rng.sample(sorted(tokens), len(tokens))]
    path = tmp_path / "r.tiktoken"
    path.write_text("".join(f"{base64.b64encode(t.encode()).decode()} {i}\n"
                            for i, t in enumerate(order)), encoding="ascii")
    own = load_tiktoken(path, "gpt2", {"<e>": 500})
    ranks = {token.encode(): i for i, token in enumerate(order)}
    words = ["".join(rng.choices("abc", k=rng.choice([1, 4, 9, 30, 70]))) for _ in range(200)]
    for word in words + sorted(tokens):
        assert own.encode(word) == by_rank(word.encode(), ranks), word
    assert "merges" not in vars(own), "no caller asked for them: they take ten times as long"
    own.save(tmp_path / "t.json")
    again, copy = from_hf(tmp_path / "t.json"), pickle.loads(pickle.dumps(own))
    assert again.merges == own.merges == merges_from_ranks(ranks) and again.whole_pieces
    for word in words:
        assert again.encode(word) == copy.encode(word) == own.encode(word), word
    assert list(own.encode_iterable([words[0], "<e>"], "all")) == own.encode(words[0]) + [500]


def by_rank(raw, ranks):
    """What tiktoken does to a piece: a token stays whole, else the lowest rank merges first."""
    if raw in ranks:
        return [ranks[raw]]
    parts = [raw[i:i + 1] for i in range(len(raw))]
    while pairs := [(ranks[a + b], k) for k, (a, b) in enumerate(zip(parts, parts[1:]))
                    if a + b in ranks]:
        k = min(pairs)[1]
        parts[k:k + 2] = [parts[k] + parts[k + 1]]
    return [ranks[part] for part in parts]


def test_a_special_token_in_a_rank_file_is_found_by_its_name(tokenizer, tmp_path):
    """One that its bytes lead to is ordinary text as well, and gets an id of its own."""
    path = write_ranks(tokenizer, tmp_path / "r.tiktoken")
    path.write_text(path.read_text(encoding="ascii")
                    + base64.b64encode(b"<e>").decode() + " 270\n", encoding="ascii")
    assert load_tiktoken(path, "gpt2", ["<e>", "low"]).special_tokens == {"<e>": 270, "low": 271}


def test_a_missing_rank_is_named(tokenizer, tmp_path):
    path = write_ranks(tokenizer, tmp_path / "r.tiktoken")
    lines = path.read_text(encoding="ascii").splitlines()
    path.write_text("\n".join(lines[:256] + lines[257:]), encoding="ascii")
    with pytest.raises(BadInput, match="a rank is missing"):
        load_tiktoken(path, "gpt2")
    leaf = tokenizer.merges.index((b"\n", b"\n")) + 256         # no other token is made of it
    path.write_text("\n".join(lines[:leaf] + lines[leaf + 1:]) + "\n\n", encoding="ascii")
    with pytest.raises(BadInput, match=f"a rank is missing.*{leaf}"):
        load_tiktoken(path, "gpt2")
    load_tiktoken(path, "gpt2", {"<e>": leaf})          # as the one inside p50k_base
    path.write_text("YQ== one", encoding="ascii")
    with pytest.raises(BadInput, match="line 1"):
        load_tiktoken(path, "gpt2")


@pytest.mark.parametrize("line, message", [
    ("enp6 900", "no line has rank 270"), ("enp6 99999999999", "no line has rank 270"),
    ("bG93 -1", "line 271: the rank is negative"), ("enp6 5", "line 271 gives b'zzz' the rank 5"),
    ("YQ== 270", "line 271 gives b'a' the rank 270")])
def test_an_odd_line_of_a_rank_file_is_named(tokenizer, tmp_path, line, message):
    path = write_ranks(tokenizer, tmp_path / "r.tiktoken")
    path.write_text(path.read_text(encoding="ascii") + line, encoding="ascii")
    with pytest.raises(BadInput, match=message):
        load_tiktoken(path, "gpt2")


def test_a_rank_file_may_have_a_mark_empty_lines_and_windows_line_ends(tokenizer, tmp_path):
    path = write_ranks(tokenizer, tmp_path / "r.tiktoken")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"  \r\n\r\n")
    assert load_tiktoken(path, "gpt2").merges == tokenizer.merges
    path.write_bytes(b"\n")
    with pytest.raises(BadInput, match="holds no token"):
        load_tiktoken(path, "gpt2")


def last_two_parts(token, ranks):
    """Merge the bytes of `token` by rank until one or nothing is left to merge; slow and obvious."""
    parts = [token[i:i + 1] for i in range(len(token))]
    before = parts
    while len(parts) > 1:
        found = [(ranks[a + b], k) for k, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
        if not found:
            return None
        before, k = parts, min(found)[1]
        parts = parts[:k] + [parts[k] + parts[k + 1]] + parts[k + 2:]
    return tuple(before)


def test_merges_from_ranks_of_any_order_are_the_last_two_parts():
    rng = random.Random(6)
    for _ in range(300):
        tokens = {"".join(rng.choices("abc", k=rng.randint(2, 6))).encode() for _ in range(25)}
        ranks = {token: k for k, token in enumerate([b"a", b"b", b"c", *rng.sample(
            sorted(tokens), len(tokens))])}
        expected = [pair for token in sorted(tokens, key=ranks.get)
                    if (pair := last_two_parts(token, ranks))]
        assert merges_from_ranks(ranks) == expected, ranks


def test_merges_from_ranks_by_hand():
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5}
    assert merges_from_ranks(ranks) == [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {}}',
                                     '{"model": {"vocab": {"a b": 1}, "merges": []}}'])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        from_hf(tmp_path / "t.json")
    assert "t.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [bytes(range(256)) * 40, b"[" * 100_000, b"\xff\xfe{\x00}\x00",
                                     b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_of_another_kind_is_refused_in_a_short_line(tokenizer, tmp_path, content):
    """The message of one once held the whole file; deep brackets ended in a RecursionError."""
    path = tmp_path / "other"
    path.write_bytes(content)
    vocab, merges = write_gpt2(tokenizer, tmp_path)
    for read in (from_hf, load_tiktoken, lambda p: load_gpt2(p, merges),
                 lambda p: load_gpt2(vocab, p)):
        with pytest.raises(BadInput, match="other") as error:
            read(path)
        assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def tekken(tokenizer, **changes):
    ranks = [t for t in tokenizer.vocab.values() if t != b"<|endoftext|>"] + [b"beyond"]
    config = {"pattern": PATTERNS["qwen2"], "default_vocab_size": 30 + len(ranks) - 1,
              "default_num_special_tokens": 30}
    return {"config": config, "vocab": [
        {"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None}
        for i, t in enumerate(ranks)]} | changes


def test_mistrals_tekken_files(tokenizer, tmp_path):
    path, text = tmp_path / "tekken.json", "lower newest\n\n é 12"
    expected = Tokenizer(tokenizer.vocab, tokenizer.merges, (), "qwen2").encode(text)
    path.write_text(json.dumps(tekken(tokenizer)), encoding="utf-8")
    loaded = load_tekken(path)
    assert loaded.encode(text) == [30 + i for i in expected], "special tokens come first"
    assert b"beyond" not in loaded.vocab.values(), "the file lists more than the model knows"
    assert loaded.encode("[INST]<SPECIAL_29>", "all") == [3, 29] and loaded.vocab_size == 300
    loaded.save(tmp_path / "t.json")
    assert from_hf(tmp_path / "t.json").encode(text + "</s>", "all") == loaded.encode(
        text + "</s>", "all")
    named = [{"rank": 0, "token_str": "<a>", "is_control": True}]
    path.write_text(json.dumps(tekken(tokenizer, special_tokens=named)), encoding="utf-8")
    assert load_tekken(path).encode("<a><SPECIAL_1>", "all") == [0, 1]


@pytest.mark.parametrize("changes, message", [
    ({"vocab": []}, "a rank is missing"), ({"config": {}}, "not a tekken.json"),
    ({"vocab": [{"rank": 0, "token_bytes": "!"}]}, "not a tekken.json")])
def test_a_damaged_tekken_file_is_refused(tokenizer, tmp_path, changes, message):
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(tokenizer) | changes), encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        load_tekken(tmp_path / "tekken.json")


def test_many_names_at_once_are_spelt_like_each_alone():
    every = [bytes([b]) for b in range(256)] + [b" the\n", b"", "é".encode(), b"a" * 300]
    names = [printable(token) for token in every]
    assert Spelt(names) == dict(zip(names, every))
    mixed = Spelt([*names[::-1], "▁the", "a b", "\u0100\u0200"])
    assert mixed == dict(zip(names, every)), "a name outside the alphabet has no bytes"
    assert mixed["ĠĠthe"] == b"  the", "a name that was not among them is spelt when asked for"
    assert mixed.token("▁the") == "▁the".encode() and mixed.token("Ġ") == b" "
    with pytest.raises(KeyError):
        mixed["▁the"]


def test_a_merge_outside_the_alphabet_is_refused_by_its_character(tmp_path):
    content = {"model": {"type": "BPE", "vocab": {"t": 0, "▁": 1, "▁t": 2}, "merges": ["▁ t"]},
               "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
    (tmp_path / "odd.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadInput, match="odd.json has a merge with '▁', which is not in GPT-2's"):
        Tokenizer.load(tmp_path / "odd.json")
