"""What the lesson claims with numbers, computed."""

from pathlib import Path

import bpe
from bpe import train_bpe
from bpe_textbook import count_pairs, encode
from pretokenize import split
from train_tokenizer import SPECIAL_TOKENS

LESSON = (Path(bpe.__file__).parent / "README.md")
COUNTS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def test_the_example_by_hand():
    pairs = count_pairs({tuple(word.encode()): n for word, n in COUNTS.items()})
    assert [pairs[tuple(pair)] for pair in (b"es", b"st", b"we", b"lo")] == [9, 9, 8, 7]
    merges = train_bpe(COUNTS, 256 + 7)[1]
    assert [a + b for a, b in merges] == [b"st", b"est", b"ow", b"low", b"west", b"ne", b"newest"]
    assert train_bpe(COUNTS, 257, tie="smallest_ids")[1] == [(b"e", b"s")]
    assert encode("lowest", merges) == [259, 257], "low, est"
    assert encode("newer", merges) == [261, *b"wer"], "ne, w, e, r"
    assert split("We've 12 dogs") == ["We", "'ve", " 12", " dogs"]


def test_the_answers():
    text = LESSON.read_text(encoding="utf-8")
    assert f"{4096 - 256 - len(SPECIAL_TOKENS):,}" == "3,835" and "= 3,835" in text
    assert split("a  b\n") == ["a", " ", " b", "\n"]
    assert len("<|endoftext|>") == 13 and "the 13 characters" in text
    assert 2 ** 16 == 65_536 and "65,536: ids" in text
