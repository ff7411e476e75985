"""Merge many short pieces at once with numpy: in each round every piece makes its next merge.

    from array_merge import ArrayMerger
    ArrayMerger(find, ranks).merge(low, high)               # see array_encode.py

A piece is a row, and its tokens are named by where they begin in it. One merge takes one beginning
out of each row, so that the rows stay equally long and a round is some sixty array operations,
however many pieces there are. Only for vocabularies where the bytes of two neighbours say whether
they merge: all rank files, and lists of merges where every token stands whole (encode_piece.py).
"""

from typing import Callable

import numpy as np

from array_split import word_numbers

WIDTH = 16                # bytes: longer pieces are not merged here
NONE = np.iinfo(np.int32).max


class ArrayMerger:
    """Pieces of up to sixteen bytes, none of them NUL, to their ids."""

    def __init__(self, find: Callable[[np.ndarray, np.ndarray], np.ndarray], ranks: np.ndarray):
        """`find(low, high)`: the ids of tokens, -1 where there is none, from their first and second
        eight bytes as numbers (array_split.py); `ranks[id]`: its rank, `ranks[-1]` is NONE."""
        self.find, self.ranks = find, ranks
        # Two bytes are one small number: a table of all of them needs no search.
        two = np.arange(1 << 16, dtype=np.uint64)
        real = (two > 255) & (two & 255 > 0)
        self.of_two = np.full(1 << 16, NONE, np.int32)
        self.of_two[real] = ranks[find(two[real], np.zeros(np.count_nonzero(real), np.uint64))]

    def merge(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids of all pieces one after another, how many each has), from the pieces' numbers."""
        words = np.column_stack([low, high, np.zeros_like(low)])
        letters = words.view(np.uint8)[:, :WIDTH + 1].astype(np.int64)
        # Token k of a row goes from begins[k] to begins[k + 1]; behind the last, all are the end.
        begins = np.minimum(np.arange(WIDTH + 2), np.count_nonzero(letters, 1)[:, None])
        waiting = self.of_two[letters[:, :-1] | letters[:, 1:] << 8]
        rows, ready = np.arange(len(low)), []
        while len(rows):
            best = waiting.argmin(1)                      # the leftmost of equals
            done = waiting[np.arange(len(rows)), best] == NONE
            if done.any():
                size = np.diff(begins[done], axis=1)
                at, k = np.nonzero(size)
                ready.append((rows[done][at], begins[done][at, k], size[at, k]))
                rows, begins, waiting, best = (x[~done] for x in (rows, begins, waiting, best))
            begins, waiting = _without(begins, best + 1), _without(waiting, best)
            # Only the two pairs around the new token change; a row whose first it is has one.
            row = np.tile(np.arange(len(rows)), 2)
            pair = np.concatenate([best, np.maximum(best - 1, 0)])
            first, middle, end = (begins[row, pair + step] for step in range(3))
            found = self.find(*word_numbers(words, 24 * rows[row] + first, end - first))
            waiting[row, pair] = np.where(middle < end, self.ranks[found], NONE)
        row, first, size = (np.concatenate(x) for x in zip(*ready))
        order = np.argsort(row, kind="stable")
        tokens = word_numbers(words, (24 * row + first)[order], size[order])
        return self.find(*tokens), np.bincount(row)


def _without(table: np.ndarray, column: np.ndarray) -> np.ndarray:
    """`table` without the cell `column[i]` in each row i."""
    keep = np.ones(table.shape, bool)
    keep[np.arange(len(table)), column] = False
    return table[keep].reshape(len(table), table.shape[1] - 1)
