"""Decoding with numpy, beside a table and a join."""

import random

import numpy as np
import pytest

from array_decode import BLOCK, ArrayDecoder
from artifacts import BadInput
from bpe import LONG_IDS, Tokenizer

TABLE = [b"a", b"\xff", b"\xfe", b"x\xfey", b"\x00", b"", b"0123456789abcdef", b"0123456789abcdefg",
         "é".encode(), "é".encode()[:1], b" " * 80, None]


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda ids: np.array(ids, np.int64)])
def test_tokens_of_every_length_and_the_two_bytes_that_mark_rows(kind):
    rng = random.Random(5)
    for length in (0, 1, 3, 100, BLOCK + 7):
        ids = rng.choices(range(len(TABLE) - 1), k=length)
        assert ArrayDecoder(TABLE).join(kind(ids)) == b"".join(TABLE[i] for i in ids), length


def test_long_tokens_of_a_large_vocabulary_keep_their_names_apart():
    table = [b"%d" % i if i % 7 else b"number %9d of all" % i for i in range(90_000)]
    ids = random.Random(6).choices(range(len(table)), k=4000)
    assert ArrayDecoder(table).join(ids) == b"".join(table[i] for i in ids)


@pytest.mark.parametrize("length", [3, LONG_IDS])
@pytest.mark.parametrize("wrong", [256, 300, 257, -1, -200, 1 << 32, 1 << 40])
@pytest.mark.parametrize("kind", [list, np.array])
def test_an_id_that_is_no_token_is_named_in_short_lists_and_in_long_ones(length, wrong, kind):
    tokenizer = Tokenizer({i: bytes([i]) for i in range(256)} | {301: b"ab" * 20}, [])
    ids = [97] * length
    ids[2] = wrong
    with pytest.raises(BadInput, match=f"{wrong}.* at place 2 .*ids 0 to 301"):
        tokenizer.decode_bytes(kind(ids))
    ids[2] = 301
    assert tokenizer.decode_bytes(kind(ids)) == b"aa" + b"ab" * 20 + b"a" * (length - 3)
