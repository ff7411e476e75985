"""Decode long lists of ids with numpy: no Python object for each token.

    from array_decode import ArrayDecoder
    ArrayDecoder([b"low", b"er"]).join([0, 1])              # b'lower'

Every token has a row of sixteen bytes, filled up with 0xFF, so that one look-up fetches the rows of
many ids, and one call drops the filling. Two bytes never occur in UTF-8: 0xFF, and 0xFE, behind
which the row of a longer token (one in 150, in code) holds three bytes that name it.
"""

from array import array
from typing import Sequence

import numpy as np

WIDTH, FILL, LONG = 16, b"\xff", b"\xfe"
BLOCK = 1 << 14           # ids at once: their rows fit into the processor's cache


class ArrayDecoder:
    """Ids to the joined bytes of their tokens, from a table id -> bytes (None: no such token)."""

    def __init__(self, table: Sequence[bytes | None]):
        self.long, rows = {}, []
        for i, token in enumerate(table):
            if token is None or len(token) > WIDTH or FILL in token or LONG in token:
                # Digits of base 200, so that neither of the two bytes is among them.
                name = bytes([i // 40_000, i // 200 % 200, i % 200])
                if token is not None:
                    self.long[name] = token
                token = LONG + name
            rows.append(token.ljust(WIDTH, FILL))
        # numpy has no integer of sixteen bytes; what it fetches fastest of that size is this.
        self.rows = np.frombuffer(b"".join(rows), np.complex128)

    def join(self, ids: Sequence[int] | np.ndarray) -> bytes:
        """The bytes of the tokens `ids` together; IndexError, KeyError, OverflowError or TypeError
        if one of them is no token."""
        if not isinstance(ids, np.ndarray):
            ids = np.frombuffer(array("I", ids), np.uint32)
        elif len(ids) and ids.min() < 0:             # numpy would count them from the end
            raise IndexError("a negative id")
        return b"".join([self._join_block(ids[k:k + BLOCK]) for k in range(0, len(ids), BLOCK)])

    def _join_block(self, ids: np.ndarray) -> bytes:
        data = self.rows.take(ids).tobytes().translate(None, FILL)
        if LONG not in data:
            return data
        first, *rest = data.split(LONG)
        return first + b"".join([self.long[part[:3]] + part[3:] for part in rest])
