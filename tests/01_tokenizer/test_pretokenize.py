"""The pieces themselves, on the traps; a hand-written oracle that knows no regular expression."""

import random
import re
import tracemalloc
import unicodedata
from collections import Counter

import pytest

import pretokenize
from artifacts import BadInput
from pretokenize import (compiled, count_pretokens, count_texts, last_safe_cut,
                         mend_surrogates, read_text, safe_blocks, special_splitter, split,
                         split_special)
from unicode_classes import code_points

WHITE_SPACE = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(point) for point in range(0x2000, 0x200b)}
ALPHABET = list("abstrevld'’ \n\t\r09-=_²Ⅷ一éſж\x1c\x85\u3000́") + ["'", " ", "🙂", "𝐀", "𝟙"]


def kind(character):
    if character in WHITE_SPACE:
        return "space"
    general = unicodedata.category(character)[0]
    return {"L": "letter", "N": "number"}.get(general, "other")


def gpt2_by_hand(text):
    """GPT-2's rules as we state them, one character at a time."""
    pieces, i = [], 0
    while i < len(text):
        contraction = next((c for c in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
                            if text.startswith(c, i)), None)
        first = i + (text[i] == " ")
        if contraction:
            end = i + len(contraction)
        elif first < len(text) and kind(text[first]) != "space":
            # A run of one kind, with a blank before it.
            end = first
            while end < len(text) and kind(text[end]) == kind(text[first]):
                end += 1
        else:
            # White space; before a word the last one is left for the next piece.
            end = i
            while end < len(text) and kind(text[end]) == "space":
                end += 1
            if end < len(text) and end - i > 1:
                end -= 1
        pieces.append(text[i:end])
        i = end
    return pieces


def same(text, expected, pattern, why):
    got = compiled(pattern, text.isascii()).findall(text)
    assert got == expected, f"{why}: {text!r} ({pattern}) expected {expected}, got {got}"
    got = compiled(pattern).findall(text)
    assert got == expected, f"{why}, form for all texts: {text!r}: expected {expected}, got {got}"


@pytest.mark.exercise("1.4")
@pytest.mark.parametrize("text, expected, why", [
    ("We've 12 dogs", ["We", "'ve", " 12", " dogs"], "contractions and leading blanks"),
    ("'SHE'S", ["'", "SHE", "'", "S"], "GPT-2's contractions are lower case"),
    ("a  b", ["a", " ", " b"], "of two blanks the second goes with the word"),
    ("a \n b", ["a", " \n", " b"], "white space before a word gives up its last character only"),
    ("a\n\nb", ["a", "\n", "\n", "b"], "a line feed does not join the word"),
    ("x_1", ["x", "_", "1"], "the underscore is no letter"),
    ("m²", ["m", "²"], "² is a number"),
    ("Ⅷb", ["Ⅷ", "b"], "Ⅷ is a number"),
    ("x1²-", ["x", "1²", "-"], "² goes on a number, although it is no decimal digit"),
    ("一b", ["一b"], "一 is a letter, although it is numeric"),
    ("caféж", ["caféж"], "letters of all scripts"),
    ("a\x1cb", ["a", "\x1c", "b"], "U+001C"),
    ("a \x1cb", ["a", " \x1c", "b"], "U+001C is a sign, and takes the blank before it"),
    ("! \x1c", ["!", " \x1c"], "U+001C is no white space, whatever Python's \\s says"),
    ("a\x85\u3000b", ["a", "\x85", "\u3000", "b"], "U+0085 and U+3000 are white space"),
    ("🙂🙂 🙂a", ["🙂🙂", " 🙂", "a"], "characters beyond U+FFFF"),
    ("a𝐀b", ["a𝐀b"], "letters beyond U+FFFF"),
    ("1𝟙", ["1𝟙"], "numbers beyond U+FFFF"),
    ("-🙂", ["-🙂"], "a run of other characters goes on beyond U+FFFF"),
    ("  🙂", [" ", " 🙂"], "a blank and a character beyond U+FFFF"),
    ("", [], "nothing"),
])
def test_gpt2_pieces(text, expected, why):
    same(text, expected, "gpt2", why)


@pytest.mark.exercise("1.4")
@pytest.mark.parametrize("text, expected, why", [
    ("12345", ["123", "45"], "numbers go by three digits"),
    ("a 12", ["a", " ", "12"], "no blank before a number"),
    ("WE'Ve", ["WE", "'Ve"], "contractions in any case"),
    ("IT'Sx", ["IT", "'S", "x"], "and they end after their letters"),
    ("it'ſ", ["it", "'ſ"], "ſ is a lower-case S when case is ignored"),
    ("(word", ["(word"], "one character of any kind may lead a word"),
    ("a\n\n  b", ["a", "\n\n", " ", " b"], "line feeds end a run of white space"),
    ("!!\r\nx", ["!!\r\n", "x"], "line feeds go with the signs before them"),
    ("🙂b", ["🙂b"], "a character beyond U+FFFF may lead a word"),
])
def test_gpt4_pieces(text, expected, why):
    same(text, expected, "gpt4", why)


@pytest.mark.exercise("1.4")
def test_a_pattern_of_ones_own_knows_all_planes_and_a_wrong_one_is_bad_input():
    letters = compiled(r"\p{L}+|\p{N}")
    assert letters.findall("a𝐀b 1𝟙 é") == ["a𝐀b", "1", "𝟙", "é"], "beyond U+FFFF, and not GPT-2's"
    assert compiled(r"\p{L}+|\p{N}", ascii_only=True).findall("ab 1") == ["ab", "1"]
    for pattern in (r"(\p{L}", r"\w+", r"\R"):          # does not compile; engines differ
        with pytest.raises(BadInput):
            compiled(pattern)


def test_blocks_know_special_tokens_of_a_generator_to_the_end():
    for size in range(1, 9):
        blocks = list(safe_blocks(["ab <e x> cd"] * 9, iter(["<e x>"]), size))
        assert "".join(blocks) == "ab <e x> cd" * 9
        assert sum(block.count("<e x>") for block in blocks) == 9, f"one was cut at size {size}"


def test_gpt2_equals_the_rules_by_hand_on_random_text():
    rng = random.Random(3)
    for _ in range(6000):
        text = "".join(rng.choices(ALPHABET, k=rng.randint(0, 12)))
        assert split(text) == gpt2_by_hand(text), repr(text)


def test_every_code_point_alone_and_between_letters():
    every = [chr(p) for p in range(0x110000) if p % 37 == 0 or p < 0x3100]
    text = " ".join(f"a{c}b1{c}" for c in every)
    assert "".join(split(text)) == text
    assert split(text) == gpt2_by_hand(text)


def test_no_letter_or_number_is_above_the_last_plane_we_look_at():
    assert {unicodedata.category(chr(p))[0] for p in range(0x40000, 0x110000)} <= {"C", "M"}
    assert code_points("Nd")[0] == (48, 57)


def test_any_published_pattern_may_be_given_and_a_broken_one_is_refused():
    assert split("Ab1 c", r"\p{Lu}|\p{Ll}+|\p{N}|\s+") == ["A", "b", "1", " ", "c"]
    assert split("ab, c", r"(a|b)+") == ["ab", ", c"], "what it leaves out is a piece too"
    with pytest.raises(BadInput, match="does not compile"):
        split("a", r"(\p{L}")
    for pattern in (r"\w+", r"\p{Han}", r"\P{L}", r"[^\S\n]", r"a\b", r"[\p{L}&&[^a]]",
                    r"\h+", r"\R", r"\p{L}+$", r"^a", r"[a[^bc]]", r"\x{41}", r"\pL",
                    r"[[:alpha:]]", r"\p{^L}",
                    # HF's engine: two or none; twice, and again; a dot is a line feed; ı is no i
                    # when case is ignored, and ß is ss.
                    r"a{2}?", r"(ab){2}+", "(?m:a.b)", "(?i:ties)", "(?i)[a-z]", "(?i:ss)"):
        with pytest.raises(BadInput, match="categories such as"):
            split("a", pattern)
    assert split("THE the!", "(?i:the)|'(?i:[sdmt]|ll|ve|re)") == ["THE", " ", "the", "!"]


@pytest.mark.parametrize("pattern, text, expected", [
    (r"\p{P}", "a[b]-c\\d", ["a", "[", "b", "]", "-", "c", "\\", "d"]),
    (r"[^\p{P}]+", "a[b]-c", ["a", "[", "b", "]-", "c"]),
    (r"[\p{Sm}\p{Ps}]+", "a<=[b]", ["a", "<=[", "b]"]),
    (r"[a[bc]d]+", "abcd[e]", ["abcd", "[e]"]), (r" ?[^(\s|[.,!?])]+", " ab, c|d)", [
        " ab", ",", " c", "|", "d", ")"]), (r"[]a]+|[^]b]", "a]]bc", ["a]]", "b", "c"])])
def test_classes_of_signs_and_sets_inside_sets(pattern, text, expected):
    """\\p{P} holds brackets, hyphen and backslash; a set inside a set is joined with it, as in HF's
    engine and tiktoken's: DeepSeek's and BLOOM's patterns need both."""
    assert split(text, pattern) == expected


@pytest.mark.parametrize("pattern", ["o200k", r"\p{L}+", (r"\p{N}", "gpt4")])
def test_counting_takes_every_pattern(pattern):
    assert count_pretokens(["a b a", "é 1"], pattern) == sum(
        (Counter(split(text, pattern)) for text in ("a b a", "é 1")), Counter())


def test_a_stream_is_not_cut_inside_a_piece_that_few_texts_show():
    text, pattern = "x low lower y lows " * 40, r"low lower|\p{L}+|\s"
    blocks = list(safe_blocks([text[k:k + 7] for k in range(0, len(text), 7)], (), 64, pattern))
    assert len(blocks) > 5
    assert [p for block in blocks for p in split(block, pattern)] == split(text, pattern)


@pytest.mark.exercise("1.3")
@pytest.mark.parametrize("tokens, text, expected, why", [
    (("<|x|>",), "a<|x|>b", ["a", "<|x|>", "b"], "the token itself must stay in the result"),
    (("<|x|>",), "a|b", ["a|b"], "| means | here, not 'or'"),
    (("[a]",), "a[a]", ["a", "[a]", ""], "[ is no character class here"),
    (("<e>", "<e><e>"), "<e><e>", ["", "<e><e>", ""], "the longest token wins"),
    (("<e><e>", "<e>"), "<e><e>", ["", "<e><e>", ""], "the longest wins in any given order"),
    (("<e>", "<f>"), "<f><e>", ["", "<f>", "", "<e>", ""], "several tokens, side by side"),
    (("<e>",), "<E>", ["<E>"], "capital letters are other letters"),
])
def test_special_splitter(tokens, text, expected, why):
    got = special_splitter.__wrapped__(tokens).split(text)
    assert got == expected, f"{why}: {text!r} at {tokens} expected {expected}, got {got}"


@pytest.mark.exercise("1.3")
def test_special_splitter_of_nothing_is_none():
    assert special_splitter.__wrapped__(()) is None, "an empty pattern would match everywhere"


def test_split_special_keeps_spaces():
    assert split_special("a <e> b", ["<e>"]) == ["a ", "<e>", " b"]
    assert split_special("a", []) == ["a"]


def only_end(monkeypatch):
    """A splitter at "END", and a split, that do not depend on the reader's own."""
    def by_hand(text, pattern="gpt2"):
        signs = r" ?[^\sa-zа-я]+" + r"[\r\n]*" * (pattern == "gpt4")
        return re.findall(rf" ?[a-zа-я]+|{signs}|\s+(?!\S)|\s+", text)
    monkeypatch.setattr(pretokenize, "split", by_hand)
    monkeypatch.setattr(pretokenize, "special_splitter",
                        lambda tokens: re.compile("(END)") if tokens else None)


@pytest.mark.exercise("1.5")
@pytest.mark.parametrize("texts, expected, why", [
    (["a a a", "a"], {"a": 2, " a": 2}, "how often, over all texts"),
    (["aENDb"], {"a": 1, "b": 1}, "a special token separates and is not counted or deleted"),
    (["a ENDb"], {"a": 1, " ": 1, "b": 1}, "the blank before a special token is no word's"),
    (["a\n  b\n"], {"a": 1, "\n ": 1, " b": 1, "\n": 1}, "line feeds and indents count"),
    ([" a"], {" a": 1}, "nothing is stripped"),
    (["a", "b"], {"a": 1, "b": 1}, "no piece crosses from text to text"),
    (["a\0b"], {"a": 1, "\0": 1, "b": 1}, "NUL is a character"),
    (["é é é"], {"é": 1, " é": 2}, "how often, also of letters beyond ASCII"),
    ([], {}, "no text"),
])
def test_count_texts(monkeypatch, texts, expected, why):
    only_end(monkeypatch)
    got = dict(count_texts(texts, special_tokens=("END",)))
    assert got == expected, f"{why}: {texts} expected {expected}, got {got}"


@pytest.mark.exercise("1.5")
@pytest.mark.parametrize("text", ["!\n", "−\n"])
def test_count_texts_uses_the_pattern_it_is_given(monkeypatch, text):
    only_end(monkeypatch)
    got = dict(count_texts([text], "gpt4", ("END",)))
    assert got == {text: 1}, f"in GPT-4's pattern a line feed goes with the sign before it: {got}"


@pytest.mark.exercise("1.5")
def test_count_texts_when_more_waits_than_is_kept(monkeypatch):
    only_end(monkeypatch)
    monkeypatch.setattr(pretokenize, "BLOCK", 2)
    got = dict(count_texts(["one two"] * 20 + ["мир"] + ["one"]))
    assert got == {"one": 21, " two": 20, "мир": 1}, f"20 + 20 + 2 pieces in small parts: {got}"


@pytest.mark.parametrize("workers", [1, 2])
def test_counting_files_and_texts_in_parts_and_processes(tmp_path, workers):
    rng = random.Random(5)
    words = ["one", " two", "\n", "\r\n", "  ", "<e>", "é", "🙂", " 12", "'s", "\x85"]
    text = "".join(rng.choices(words, k=60_000))
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    expected = Counter()
    for part in text.split("<e>"):
        expected.update(gpt2_by_hand(part))
    got = count_pretokens([path, "one text"], special_tokens=["<e>"], workers=workers)
    assert got == expected + Counter(["one", " text"])


def test_counts_equal_the_rules_by_hand():
    rng = random.Random(7)
    alphabet = list("abstrevldm''  \n\t12-=\x1c\x7féж") + ["abcdefghijk", "'ll", "x" * 17]
    for _ in range(1500):
        texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 12))) for _ in range(3)]
        expected = Counter(piece for text in texts for piece in gpt2_by_hand(text))
        assert count_texts(texts) == expected, texts


@pytest.mark.exercise("1.14")
@pytest.mark.parametrize("text, expected, why", [
    ("one two\n", 7, "before white space, which no word ends with"),
    ("one tw", 3, "the last word may go on"),
    ("one\r\nx", 3, "not after a line feed: \\r\\n before x splits otherwise than \\r\\n at the end"),
    ("a!\nb", 2, "between a sign and white space"),
    ("мир 🙂", 3, "in every script"),
    ("我。\u3000", 2, "all white space counts"),
    ("nowhere", 0, "0 if there is no such place"),
    ("a  ", 1, "white space at the end may go on"),
    ("a EN", 1, "not inside a special token that may have begun"),
    ("a b END", 3, "before a whole special token one may cut"),
    ("x STOP NOW", 2, "not inside a special token that holds a blank, but before it"),
    ("x STOP N", 1, "nor inside its beginning, whatever blank that holds"),
])
def test_last_safe_cut(monkeypatch, text, expected, why):
    monkeypatch.setattr(pretokenize, "special_splitter",
                        lambda tokens: re.compile("(STOP NOW|END)") if tokens else None)
    got = last_safe_cut(text, ("END", "STOP NOW"))
    assert got == expected, f"{why}: {text!r} expected {expected}, got {got}"


@pytest.mark.exercise("1.14")
def test_last_safe_cut_when_only_the_last_letter_of_a_special_token_is_missing(monkeypatch):
    monkeypatch.setattr(pretokenize, "special_splitter", lambda tokens: re.compile(r"(<\|x\|>)"))
    got = last_safe_cut("one two<|x|", ("<|x|>",))
    assert got == 3, f"'<|x|' may become the token <|x|>, and 'two' goes with it: got {got}"


@pytest.mark.exercise("1.14")
def test_last_safe_cut_when_a_special_token_begins_like_its_end(monkeypatch):
    monkeypatch.setattr(pretokenize, "special_splitter", lambda tokens: re.compile("(a a b)"))
    got = last_safe_cut("z a a", ("a a b",))
    assert got == 1, f"'a a' and 'a' may both begin the token 'a a b': the first counts, got {got}"


@pytest.mark.exercise("1.14")
@pytest.mark.parametrize("text, expected, why", [
    ("a b!\n", 1, "not between a sign and a line feed: GPT-4's pattern joins them"),
    ("a b!\nc", 5, "but after the line feed, when no white space follows"),
    ("a b\nEN", 4, "also before a special token that may have begun"),
    ("a b! ", 4, "a blank joins no sign before it"),
])
def test_last_safe_cut_for_gpt4(monkeypatch, text, expected, why):
    only_end(monkeypatch)
    got = last_safe_cut(text, ("END",), "gpt4")
    assert got == expected, f"{why}: {text!r} expected {expected}, got {got}"


@pytest.mark.parametrize("pattern, cut", [
    (r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", 3), (r"\p{L}+\s*|.", 0), ("(?s:.+)", 0)])
def test_a_pattern_of_ones_own_is_not_cut_where_its_pieces_cross(pattern, cut):
    assert last_safe_cut("one two", (), pattern) == cut


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"\p{L}+\s?|\d|\s"])
def test_blocks_of_a_stream_have_the_pieces_of_the_whole(pattern):
    rng = random.Random(11)
    specials = ["<e>", "<e><e>", "a b", "be"]
    for _ in range(1500):
        alphabet = ["a", "b", "1", " ", "\n", "\r\n", "<e>", "<", "e", "é", "!", "🙂", "'s", "\x85",
                    "一", "。", "\u3000", "\x1c"]
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
        cuts = sorted(rng.randint(0, len(text)) for _ in range(4))
        stream = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]

        def pieces(whole):
            return [piece for k, part in enumerate(split_special(whole, specials))
                    for piece in ([part] if k % 2 else split(part, pattern))]
        blocks = list(safe_blocks(stream, specials, rng.randint(1, 12), pattern))
        assert "".join(blocks) == text
        assert [p for block in blocks for p in pieces(block)] == pieces(text), (text, blocks)


@pytest.mark.parametrize("line", ["some words of a long stream\n", "слова без латинских букв\n",
                                  "我姐姐每天早上上班前都看报纸。\n"])
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_a_stream_needs_memory_for_one_block_in_every_script(line, pattern):
    tracemalloc.start()
    for _ in safe_blocks((line for _ in range(30_000)), pattern=pattern):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6, f"{30_000 * len(line):,} characters went through {peak / 1e6:.1f} MB"


def test_a_stream_without_any_cut_is_looked_through_twice_and_not_every_time(monkeypatch):
    looked = []
    monkeypatch.setattr(pretokenize, "last_safe_cut", lambda text, *_: looked.append(len(text)) or 0)
    assert "".join(safe_blocks(["x" * 100] * 1000, size=100)) == "x" * 100_000
    assert sum(looked) < 300_000, f"{len(looked)} looks at {sum(looked):,} characters"


def test_a_file_that_is_not_utf8_says_where_or_is_mended_on_request(tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes("ab\r\ncaf".encode() + b"\xe9 x")
    with pytest.raises(BadInput, match="latin1.txt is not UTF-8"):
        list(read_text(path))
    assert "".join(read_text(path, errors="replace")) == "ab\r\ncaf\ufffd x"


def test_lone_surrogates_become_the_replacement_character():
    assert mend_surrogates("a\ud83d\ude42b\ud800") == "a🙂b\ufffd"
    assert sum(count_pretokens(["a \ud800"]).values()) == 2


@pytest.mark.parametrize("pattern, text, expected, why", [
    ("qwen2", "ab 123\n", ["ab", " ", "1", "2", "3", "\n"], "Qwen cuts every number out"),
    ("smollm", "a  12 b", ["a", "  ", "1", "2", " b"], "before a digit white space ends a text"),
    ("smollm", "x² y", ["x", "²", " y"], "² is a number"),
    ("o200k", "HTTPServer isn't", ["HTTPServer", " isn't"], "a word keeps its contraction"),
    ("o200k", "camelCase a./\n/b", ["camel", "Case", " a", "./\n/", "b"], "a capital starts a word"),
    ("o200k", "e\u0301a\U000e0100b", ["e\u0301a\U000e0100b"], "marks belong to words, of all planes"),
    (r"\p{N}", "a1b", ["a", "1", "b"], "what is left out is a piece"),
    ((r"\p{N}", "gpt2"), "a  12 b", ["a", "  ", "1", "2", " b"], "one pattern after another"),
    ((r"\p{N}{1,3}", "[一-龥]+", "gpt2"), "a1234一b", ["a", "123", "4", "一", "b"], "three of them"),
])
def test_patterns_of_other_models(pattern, text, expected, why):
    got = split(text, pattern)
    assert got == expected, f"{why}: {text!r} expected {expected}, got {got}"


@pytest.mark.parametrize("pattern", ["qwen2", "smollm", "o200k", (r"\p{N}", "gpt2")])
def test_streams_of_other_patterns_are_cut_where_no_piece_is(pattern):
    rng = random.Random(4)
    for _ in range(300):
        text = "".join(rng.choices([*ALPHABET, "/", "\u0301"], k=rng.randint(0, 60)))
        pieces = [p for block in safe_blocks([text], size=5, pattern=pattern)
                  for p in split(block, pattern)]
        assert pieces == split(text, pattern), repr(text)


def test_smollm_in_one_pattern_is_the_two_steps_of_its_file():
    rng = random.Random(5)
    for _ in range(500):
        text = "".join(rng.choices(ALPHABET, k=rng.randint(0, 30)))
        assert split(text, "smollm") == split(text, (r"\p{N}", "gpt2")), repr(text)


@pytest.mark.exercise("1.14")
def test_special_tokens_may_come_from_a_generator(monkeypatch):
    splitter = re.compile(r"(<\|end\|>|<\|x y\|>)")             # exercise 1.3, right
    monkeypatch.setattr(pretokenize, "special_splitter", lambda tokens: splitter)
    for text, most in (("see <|x y", 4), ("see <|x y|>", 11)):
        listed = last_safe_cut(text, ["<|end|>", "<|x y|>"])
        assert last_safe_cut(text, iter(["<|end|>", "<|x y|>"])) == listed <= most
        assert listed not in (7, 8), "no cut inside of the special token, where its blank stands"
