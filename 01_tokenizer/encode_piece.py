"""One pre-token to token ids: merge the pair of lowest rank, the leftmost of equals, and again.

Three rungs: `encode` in bpe_textbook.py goes through all merges; `merge_short` looks only at
the pairs at hand; `merge_long` keeps the places of every rank, so that 100 KB without a space take
a fifth of a second and not minutes.
"""

from array import array
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Mapping

import numpy as np

Pair = tuple[int, int]

LONG_PIECE = 48           # tokens: beyond, the heap is faster than the scan
CACHE_PIECES = 1 << 18    # about 60 MB; when it is full, it starts again
CACHE_LENGTH = 128        # characters: longer pieces hardly come twice


def merge_short(ids: list[int], ranks: Mapping[Pair, int], merged: list[int]) -> list[int]:
    """The ids after all merges that apply, each time the pair of lowest rank, leftmost first.

    `ranks` gives the rank of a pair of ids, `merged[rank]` the id of the token it becomes; without
    a rank a pair stays. `ids` may be changed. With `ranks = {(0, 1): 1, (1, 0): 0}` and
    `merged = [7, 8]`, the ids `[0, 1, 0, 1]` become `[0, 7, 1]`.
    """
    none, get = len(merged), ranks.get
    waiting = [get(pair, none) for pair in zip(ids, ids[1:])]
    while waiting:
        best = min(waiting)
        if best == none:
            break
        i = waiting.index(best)               # the leftmost of equals
        ids[i:i + 2] = [merged[best]]
        # Only the two pairs around the new token change.
        del waiting[i]
        if i < len(waiting):
            waiting[i] = get((ids[i], ids[i + 1]), none)
        if i:
            waiting[i - 1] = get((ids[i - 1], ids[i]), none)
    return ids


def merge_long(ids: list[int], ranks: Mapping[Pair, int], merged: list[int]) -> list[int]:
    """What `merge_short` returns, in a time that grows with the length of `ids`, not its square."""
    n, gone, get = len(ids), -1, ranks.get
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    # Rank -> the places where its pair stands. Only the ranks wait in a queue: they are few, and a
    # queue of all places would cost n log n.
    places = {}
    for i, pair in enumerate(zip(ids, ids[1:])):
        if (rank := get(pair)) is not None:
            places.setdefault(rank, []).append(i)
    heap = list(places)
    heapify(heap)
    while heap:
        rank = heappop(heap)
        # From left to right; places that came later may stand before others.
        waiting = sorted(places.pop(rank))
        for k, i in enumerate(waiting):
            j = after[i]
            # Outdated: a merge in between took one of the two tokens away, or changed it.
            if ids[i] == gone or j >= n or get((ids[i], ids[j])) != rank:
                continue
            ids[i], ids[j] = merged[rank], gone
            # Neighbours are linked across the gap, and their pairs with the new token wait.
            after[i] = right = after[j]
            if right < n:
                before[right] = i
            lowest = rank
            for a, b in ((before[i], i), (i, right)):
                if a >= 0 and b < n and (new := get((ids[a], ids[b]))) is not None:
                    if new not in places:
                        places[new] = []
                        heappush(heap, new)
                    places[new].append(a)
                    lowest = min(lowest, new)
            # A pair of lower rank than this one was born: it goes first, the rest waits again.
            if lowest < rank:
                places.setdefault(rank, []).extend(waiting[k + 1:])
                heappush(heap, rank)
                break
    return [i for i in ids if i != gone]


def standing_whole(whole: Mapping[bytes, int], byte_ids: list[int], ranks: Mapping[Pair, int],
                   merged: list[int]) -> dict[bytes, int]:
    """Those of the tokens `whole` (bytes -> id) whose bytes, encoded alone, are that one token.

    After a training all are. In a list of merges from elsewhere a lower rank may join the end of
    one half to the beginning of the other first: with the merges b+c, a+b, ab+c, in this order,
    the bytes abc become a, bc; abc is then no piece that one may look up.
    """
    parts = np.fromiter(chain.from_iterable(ranks), np.int64, 2 * len(ranks)).reshape(-1, 2)
    rank = np.fromiter(ranks.values(), np.int64, len(ranks))
    made = np.array(merged, np.int64)[rank]
    size = 1 + max(parts.max(initial=0), made.max(initial=0))
    born, left, right = np.full((3, size), -1)            # of each id; -1: no merge makes it
    born[made], left[made], right[made] = rank, *parts.T
    if len({*made.tolist()}) < len(made) or (born[parts] >= rank[:, None]).any():
        # A token made twice, or before its parts: simply try all.
        return {token: i for token, i in whole.items()
                if merge_short([byte_ids[b] for b in token], ranks, merged) == [i]}
    # A part that is no byte, and that no merge makes, is never there.
    lost = born < 0
    lost[[i for i in byte_ids if i is not None and i < size]] = False
    lost[made[joined_across(parts, rank, born, left, right)]] = True
    # Whoever has a lost part is lost too, and so on.
    while (more := made[lost[parts].any(1) & ~lost[made]]).size:
        lost[more] = True
    lost = {*np.flatnonzero(lost).tolist()}
    return {token: i for token, i in whole.items() if i not in lost}


def joined_across(parts: np.ndarray, rank: np.ndarray, born: np.ndarray, left: np.ndarray,
                  right: np.ndarray) -> np.ndarray:
    """Which merges come too late: a lower rank joins something across the border of the two parts.

    Merge k makes `rank[k]` from the ids `parts[k]`. For each id, `born`, `left` and `right` are the
    rank and the two parts that made it (-1: a byte). Every border is walked back in time, all
    borders at once, down to the two bytes beside it. The result is an array of bool.
    """
    keys = parts @ (len(born), 1)
    order = np.argsort(keys)
    keys, key_ranks = keys[order], rank[order]
    (a, b), k = parts.T.copy(), np.arange(len(rank))      # who stands at the border of merge k
    until_a, until_b = rank.copy(), rank.copy()           # until when they are neighbours
    late = np.zeros(len(rank), bool)
    while len(k):
        pair = a * len(born) + b
        at = np.minimum(np.searchsorted(keys, pair), len(keys) - 1)
        across = np.where(keys[at] == pair, key_ranks[at], rank[k])
        # Of equal ranks the leftmost merges first, also across.
        crossed = (across < until_a) & (across <= until_b)
        late[k[crossed]] = True
        on = ~crossed & ((born[a] >= 0) | (born[b] >= 0))
        a, b, k, until_a, until_b = a[on], b[on], k[on], until_a[on], until_b[on]
        # Before the younger of the two was made, a part of it stood here.
        born_a, born_b = born[a], born[b]
        back = born_a >= born_b
        until_a, a = np.where(back, born_a, until_a), np.where(back, right[a], a)
        until_b, b = np.where(back, until_b, born_b), np.where(back, b, left[b])
    return late


class PieceCache(dict):
    """Piece (str) -> its token ids, packed as uint32 bytes; a missing piece is encoded and kept.

    Language repeats itself: in 50 MB of code only one piece in eighty is new. Packed ids of many
    pieces are joined by one call, and are an array without further work.
    """

    def __init__(self, whole: Mapping[bytes, int], byte_ids: list[int], ranks: Mapping[Pair, int],
                 merged: list[int], pieces: int = CACHE_PIECES):
        """`whole`: the tokens that a piece may be as it stands; `byte_ids[b]`: the id of byte b,
        or None."""
        self.whole, self.byte_ids, self.ranks, self.merged = whole, byte_ids, ranks, merged
        self.pieces = pieces
        self.missing = bytes(b for b in range(256) if byte_ids[b] is None)

    def smaller(self, pieces: int) -> "PieceCache":
        """An empty cache with the same tables that keeps fewer pieces."""
        return PieceCache(self.whole, self.byte_ids, self.ranks, self.merged, pieces)

    def __missing__(self, piece: str) -> bytes:
        packed = self.packed(piece.encode())
        if len(piece) <= CACHE_LENGTH:
            # Bounded, so that a stream of ever new pieces cannot fill the memory.
            if len(self) >= self.pieces:
                self.clear()
            self[piece] = packed
        return packed

    def packed(self, raw: bytes) -> bytes:
        """The ids of a piece, given as its bytes, encoded anew."""
        found = self.whole.get(raw)
        return array("I", self.merge(raw) if found is None else (found,)).tobytes()

    def merge(self, raw: bytes) -> list[int]:
        """The ids that the bytes of a piece merge to."""
        # A byte without a token is left out, and what stood around it may merge.
        raw = raw.translate(None, self.missing) if self.missing else raw
        ids = [*map(self.byte_ids.__getitem__, raw)]
        return (merge_short if len(ids) <= LONG_PIECE else merge_long)(
            ids, self.ranks, self.merged)
