"""Byte-pair training and encoding, first rung: as the papers tell it, and as slow.

Sennrich et al. 2016 (arXiv:1508.07909, algorithm 1) on bytes instead of letters. Every merge counts
all pairs of all words again: 32,000 merges of 50 MB would take hours. The rungs above it give the
same merges: bpe_cells.py in seconds, bpe_hybrid.py a little faster.
"""

from collections import Counter
from typing import Callable, Mapping, Sequence

Word = tuple[int, ...]                     # the token ids of a pre-token, in order


def count_pairs(words: Mapping[Word, int]) -> Counter:
    """How often each pair of neighbouring tokens occurs, from word -> its count.

    `count_pairs({(1, 2, 1, 2): 3})` is `{(1, 2): 6, (2, 1): 3}`.
    """
    pairs = Counter()
    for word, count in words.items():
        # A word that occurs `count` times brings each of its pairs as often.
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    return pairs


def merge_pair(word: Word, pair: tuple[int, int], new: int) -> Word:
    """`word` with each occurrence of `pair`, from left to right, replaced by the token `new`.

    `merge_pair((1, 1, 1), (1, 1), 9)` is `(9, 1)`: a token takes part in one merge only.
    """
    merged, i = [], 0
    while i < len(word):
        # Two tokens at once where the pair stands, one token everywhere else.
        if word[i:i + 2] == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def train_textbook(counts: Mapping[bytes, int], merges: int, byte_ids: Sequence[int],
                   key: Callable[[int, int], object], on_merge: Callable[[int, int], None]) -> None:
    """Find up to `merges` merges in pre-token -> count, by counting everything again each time.

    Byte b is the token `byte_ids[b]`, the first merge makes the token 256. The most frequent pair
    goes first, of equals the one with the smallest `key(a, b)`; `on_merge(a, b)` hears each.
    """
    words = Counter()
    for word, count in counts.items():
        words[tuple(byte_ids[b] for b in word)] += count
    for new in range(256, 256 + merges):
        pairs = count_pairs(words)
        if not pairs:
            return                         # every word is one token already
        best = min(pairs, key=lambda pair: (-pairs[pair], key(*pair)))
        on_merge(*best)
        words = {merge_pair(word, best, new): count for word, count in words.items()}


def encode_textbook(piece: bytes, merges: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The tokens of one pre-token: each merge in order of rank, wherever it applies.

    `encode_textbook(b"abab", [(b"b", b"a"), (b"a", b"b")])` is `[b'a', b'ba', b'b']`: rank decides,
    not length and not the place in the word.
    """
    parts = [piece[i:i + 1] for i in range(len(piece))]
    for a, b in merges:
        i = 0
        while i < len(parts) - 1:
            # After a merge the next place is looked at, not the new token again.
            if parts[i] == a and parts[i + 1] == b:
                parts[i:i + 2] = [a + b]
            i += 1
    return parts
