"""Encode long ASCII text with numpy: pieces that are one token are looked up all at once.

Three pieces of four are a single token of up to eight bytes. Their numbers (ascii_split.py) are
looked up in a hash table made of two arrays; only the other pieces go through Python one by one,
and through the cache of encode_piece.py.
"""

import numpy as np

from ascii_split import numbered_pieces
from encode_piece import PieceCache

FACTOR = np.uint64(0x9E3779B97F4A7C15)       # Knuth's multiplicative hashing: 2**64 / golden ratio


class AsciiEncoder:
    """The tokens of up to eight ASCII bytes in a hash table, and a cache for all other pieces."""

    def __init__(self, cache: PieceCache):
        tokens = {bytes([b]): i for b, i in enumerate(cache.byte_ids)
                  if i is not None} | dict(cache.whole)
        short = [t for t in tokens if len(t) <= 8 and t.isascii() and 0 not in t]
        numbers = np.array([int.from_bytes(token, "little") for token in short], np.uint64)
        # Four to eight places a token: most find their own place free.
        self.cache, bits = cache, len(short).bit_length() + 2
        self.shift = np.uint64(64 - bits)
        self.numbers = np.zeros((1 << bits) + 64, np.uint64)      # 0: a free place
        self.ids = np.zeros(len(self.numbers), np.uint32)
        self.steps = 0                                            # how far the farthest one moved
        ids = np.array([tokens[token] for token in short], np.uint32)
        places = ((numbers * FACTOR) >> self.shift).astype(np.int64)
        while len(places):
            # Of those that want the same free place one gets it; the others move one on.
            free = np.flatnonzero(self.numbers[places] == 0)
            won = free[np.unique(places[free], return_index=True)[1]]
            self.numbers[places[won]], self.ids[places[won]] = numbers[won], ids[won]
            numbers, ids, places = (np.delete(x, won) for x in (numbers, ids, places))
            places += 1
            self.steps += 1

    def look_up(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids, found) of pieces by their numbers; where not found, the id means nothing."""
        places = ((numbers * FACTOR) >> self.shift).astype(np.int64)
        found, ids = self.numbers[places] == numbers, self.ids[places]
        missing = np.flatnonzero(~found)
        for step in range(1, self.steps):
            # A free place ends the search: the number would stand there.
            missing = missing[self.numbers[places[missing] + (step - 1)] != 0]
            here = places[missing] + step
            hit = self.numbers[here] == numbers[missing]
            found[missing[hit]], ids[missing[hit]] = True, self.ids[here[hit]]
            missing = missing[~hit]
        return ids, found

    def pack(self, text: str) -> bytes:
        """The ids of `text`, which is ASCII without NUL, as packed uint32 bytes."""
        starts, lengths, numbers = numbered_pieces(text)
        ids, found = self.look_up(numbers)
        found &= lengths <= 8
        other = np.flatnonzero(~found)
        begin = starts[other]
        packed = [self.cache[text[a:b]] for a, b in
                  zip(begin.tolist(), (begin + lengths[other]).tolist())]
        # How many ids each piece has, and so where each one's ids go.
        size = np.ones(len(starts), np.int64)
        size[other] = np.fromiter(map(len, packed), np.int64, len(packed)) // 4
        result = np.repeat(ids, size)
        result[np.repeat(~found, size)] = np.frombuffer(b"".join(packed), np.uint32)
        return result.tobytes()
