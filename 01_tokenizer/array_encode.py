"""Encode long text with numpy: pieces that were seen before are looked up all at once.

Nearly every piece of a text is at most sixteen bytes long and has come before. Its two numbers
(array_split.py) are the key of a hash table (number_table.py), whose value says where its ids stand
in one long array of ids. New pieces are encoded once and put into the table; longer ones go through
the cache of encode_piece.py one by one.
"""

import numpy as np

from array_split import Pieces, numbered_pieces
from encode_piece import PieceCache
from number_table import MIX, NumberTable

BITS = 20                 # the table has 2**20 places: 25 MB
MANY = 32                 # the lowest bits of a value say how many ids, those above it where


class ArrayEncoder:
    """Text to packed ids, for the patterns that array_split.py splits by."""

    def __init__(self, cache: PieceCache, pattern: str):
        self.cache, self.pattern = cache, pattern
        single = {bytes([b]): i for b, i in enumerate(cache.byte_ids) if i is not None}
        tokens = single | cache.whole
        self.short = {t: i for t, i in tokens.items() if 0 < len(t) <= 16 and 0 not in t}
        self.start_again()

    def start_again(self) -> None:
        """Fill an empty table with the tokens that a piece may be as it stands."""
        self.table = NumberTable(max(BITS, len(self.short).bit_length() + 2))
        self.ids = np.array(list(self.short.values()), np.uint32)
        words = np.frombuffer(b"".join([t.ljust(16, b"\0") for t in self.short]), "<u8")
        self.table.insert(words[::2], words[1::2], np.arange(len(self.short)) << MANY | 1)

    def pack(self, text: str) -> bytes:
        """The ids of `text`, which holds no NUL, as packed uint32 bytes."""
        if self.table.known > 1 << BITS - 1:          # bounded, however many pieces a text has
            self.start_again()
        pieces = numbered_pieces(text, self.pattern)
        value, found = self.table.look_up(pieces.low, pieces.high)
        long = pieces.lengths > 16
        new = np.flatnonzero(~(found | long))
        if len(new):
            value[new] = self.learn(pieces, new)
        begin = pieces.starts[long]
        packed = [self.cache[pieces.raw[a:b].decode()] for a, b in
                  zip(begin.tolist(), (begin + pieces.lengths[long]).tolist())]
        # How many ids each piece has, and so where each one's ids come from and go.
        value[long] = np.fromiter(map(len, packed), np.int64, len(packed)) // 4
        size = value & (1 << MANY) - 1
        go = np.cumsum(size)
        result = np.repeat((value >> MANY) - go + size, size)
        result += np.arange(len(result))
        if packed:
            from_cache = np.repeat(long, size)
            result[from_cache] = 0
        result = self.ids[result]
        if packed:
            result[from_cache] = np.frombuffer(b"".join(packed), np.uint32)
        return result.tobytes()

    def learn(self, pieces: Pieces, new: np.ndarray) -> np.ndarray:
        """Encode the pieces with the numbers `new` and put them into the table; their values."""
        low, high = pieces.low[new], pieces.high[new]
        _, first, which = np.unique(low + high * MIX, return_index=True, return_inverse=True)
        begin = pieces.starts[new[first]]
        packed = [self.cache.packed(pieces.raw[a:b]) for a, b in
                  zip(begin.tolist(), (begin + pieces.lengths[new[first]]).tolist())]
        size = np.fromiter(map(len, packed), np.int64, len(packed)) // 4
        value = (len(self.ids) + np.cumsum(size) - size) << MANY | size
        self.ids = np.append(self.ids, np.frombuffer(b"".join(packed), np.uint32))
        self.table.insert(low[first], high[first], value)
        return value[which]
