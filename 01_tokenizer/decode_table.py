"""Token ids back to bytes: a list of a thousand ids in a few array operations.

Joining a thousand `bytes` objects is a walk through memory, object by object. Here every token lies
in one array, as one or more words of eight bytes that are filled up with NUL; decoding gathers the
words and drops the NULs. Tokens that hold a NUL themselves, and short lists, go the plain way.
"""

from array import array
from operator import itemgetter
from typing import Iterable, Mapping

import numpy as np

from artifacts import BadInput

MANY_IDS = 256            # from here on the array operations are faster than one join


class DecodeTable:
    """Id -> bytes for all ids of a vocabulary."""

    def __init__(self, vocab: Mapping[int, bytes]):
        self.vocab, self.size = vocab, max(vocab, default=-1) + 1
        # A list is faster than a dict. Its second half is None, so that id -1 is an error too.
        self.tokens = [vocab.get(i) for i in range(self.size)] + self.size * [None]
        # Words of each token; 0 for an id that the words cannot tell: unknown, empty, or with NUL.
        self.words_of = np.array([0 if token is None or 0 in token else -(-len(token) // 8)
                                  for token in self.tokens[:self.size]], np.int64)
        self.first = np.cumsum(self.words_of) - self.words_of
        self.words = np.frombuffer(b"".join(
            token.ljust(8 * n, b"\0") for token, n in
            zip(self.tokens, self.words_of.tolist()) if n), np.uint64)

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for; an unknown id is BadInput: which, and where."""
        small = isinstance(ids, np.ndarray) and ids.dtype in (np.uint16, np.uint32)
        if not small:
            ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        try:
            if len(ids) >= MANY_IDS:
                many = ids if small else np.frombuffer(array("I", ids), np.uint32)
                if (joined := self.gather(many)) is not None:
                    return joined
            # One call that looks all ids up; for fewer than two it would not return a tuple.
            return b"".join(itemgetter(*ids)(self.tokens) if len(ids) > 1 else
                            [self.tokens[i] for i in ids])
        except (IndexError, TypeError, OverflowError):
            at = next((k for k, i in enumerate(ids) if i not in self.vocab), 0)
            raise BadInput(f"token id {ids[at]!r} at place {at} is not in the vocabulary "
                           f"(ids 0 to {self.size - 1})") from None

    def gather(self, ids: np.ndarray) -> bytes | None:
        """The bytes of the ids by their words, or None if one of them has no words."""
        ids = ids.astype(np.int64)
        count, place = self.words_of.take(ids), self.first.take(ids)
        most = count.max()
        if not count.min():
            return None
        if most > 1:
            # A token of n words stands n times, at its first word and those behind it.
            end = np.cumsum(count)
            place = np.repeat(place - (end - count), count) + np.arange(end[-1])
        return self.words.take(place).tobytes().translate(None, b"\0")
