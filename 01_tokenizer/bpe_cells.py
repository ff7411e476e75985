"""Byte-pair training, second rung: every pair knows where it stands (about 80 lines).

The textbook loop (bpe_textbook.py) counts all pairs again for every merge. Here a merge touches
only the places where its pair stands, and the next pair waits in a heap.

All distinct pre-tokens lie one after the other in one list of cells, a byte per cell, with an edge
between them. A token that covers several cells writes its id into its first and its last cell, so
that both neighbours are found by arithmetic, without linked lists and without rebuilding words:

    cells   t  h  e  |  t  h  a  n  |         after merging (t, h) into 256
    token  256 256 e  | 256 256 a  n  |
"""

import gc
from heapq import heapify, heappop, heappush
from typing import Callable, Mapping

import numpy as np

EDGE = -1         # the "token" between two pre-tokens: no pair includes it
NONE = -1         # the pair slot of a cell where no pair starts


class Cells:
    """The state of training: cells, and pairs in numbered slots.

    token[i]     id of the token that starts or ends at cell i (EDGE between pre-tokens)
    slot[i]      the slot of the pair whose left token starts at cell i, or NONE
    weight[i]    how often the pre-token around cell i occurs in the corpus
    left, right, count, places: per slot, its two tokens, its count, and the cells where it starts
                 (places ascend; some may be outdated, which `slot` tells)
    length[t]    cells covered by token t
    """

    def __init__(self, counts: Mapping[bytes, int], byte_ids: list[int]):
        """Lay out the pre-tokens (bytes -> count); byte b is the token byte_ids[b]."""
        words = [word for word in counts if len(word) > 1]
        raw = np.frombuffer(b"".join(b"\0" + word for word in words) + b"\0", np.uint8)
        sizes = np.array([len(word) for word in words], np.int64)
        # Edges stand before the first, between all and after the last pre-token.
        edges = np.concatenate([[0], np.cumsum(sizes + 1)]).astype(np.int64)
        token = np.array(byte_ids, np.int64)[raw]
        token[edges] = EDGE
        weight = np.zeros(len(raw), np.int64)
        weight[:edges[-1]] = np.repeat(np.array([counts[w] for w in words], np.int64), sizes + 1)
        # Two bytes make a 16-bit key: a stable sort by it lists the places of each pair in order.
        starts = np.flatnonzero((token[:-1] != EDGE) & (token[1:] != EDGE))
        keys = (token[starts] * 256 + token[starts + 1]).astype(np.uint16)
        order = np.argsort(keys, kind="stable")
        firsts = np.flatnonzero(np.diff(keys[order], prepend=-1))
        slot = np.full(len(raw), NONE)
        slot[starts[order]] = np.cumsum(np.diff(keys[order], prepend=-1) != 0) - 1
        found = keys[order][firsts].astype(np.int64)
        totals = np.add.reduceat(weight[starts[order]], firsts) if len(firsts) else firsts
        self.token, self.slot, self.weight = token.tolist(), slot.tolist(), weight.tolist()
        self.left, self.right = (found // 256).tolist(), (found % 256).tolist()
        self.count = totals.tolist()
        self.places = [p.tolist() for p in np.split(starts[order], firsts[1:])] if words else []
        self.length = [1] * 256


def merge_slot(cells: Cells, best: int, new: int) -> range:
    """Replace the pair in slot `best` by the token `new` wherever it stands; the slots born by it.

    Counts and places of all pairs around stay exact. Overlaps go left to right: of `aaa` the first
    two merge.
    """
    token, slot, weight = cells.token, cells.slot, cells.weight
    left, right, count, places = cells.left, cells.right, cells.count, cells.places
    length, born = cells.length, len(cells.left)
    before, after = {}, {}                # neighbour -> slot of (neighbour, new) / (new, neighbour)
    length_a, length_b = length[left[best]], length[right[best]]
    length.append(length_a + length_b)
    for i in places[best]:
        if slot[i] != best:
            continue                      # merged away since: `aaa`, or a merge in between
        j = i + length_a                  # b starts here
        end = j + length_b                # and the next token here
        w = weight[i]
        # The left neighbour ends just before i; its pair with a is lost, one with new is won.
        x = token[i - 1]
        if x != EDGE:
            p = i - length[x]
            count[slot[p]] -= w
            s = before.get(x)
            if s is None:
                s = before[x] = len(left)
                left.append(x), right.append(new), count.append(0), places.append([])
            slot[p] = s
            count[s] += w
            places[s].append(p)
        # The same on the right.
        y = token[end]
        if y != EDGE:
            count[slot[j]] -= w
            s = after.get(y)
            if s is None:
                s = after[y] = len(left)
                left.append(new), right.append(y), count.append(0), places.append([])
            slot[i] = s
            count[s] += w
            places[s].append(i)
        else:
            slot[i] = NONE
        # Nothing may start inside the new token any more, and both its ends carry its name.
        slot[j] = NONE
        token[i] = token[end - 1] = new
    count[best], places[best] = 0, None
    return range(born, len(left))


def train_cells(counts: Mapping[bytes, int], merges: int, byte_ids: list[int],
                keys: Callable[[int, int], object], on_merge: Callable[[int, int], None]) -> None:
    """Find up to `merges` merges; `on_merge(a, b)` hears each one, tokens numbered from 256.

    The most frequent pair goes first; among equals the one with the smallest `keys(a, b)`.
    """
    cells = Cells(counts, byte_ids)
    collecting = gc.isenabled()
    gc.disable()              # millions of small lists and no cycles: the collector costs 15 %
    try:
        run_merges(cells, merges, keys, on_merge)
    finally:
        if collecting:
            gc.enable()


def run_merges(cells: Cells, merges: int, keys: Callable[[int, int], object],
               on_merge: Callable[[int, int], None]) -> None:
    """The loop: take the best pair from the heap, merge it, queue the pairs that were born."""
    left, right, count = cells.left, cells.right, cells.count
    heap = [(-n, keys(left[s], right[s]), s) for s, n in enumerate(count) if n > 0]
    heapify(heap)
    while merges and heap:
        minus, key, best = heappop(heap)
        # A pair is born complete, in one merge, and only shrinks later: one entry is enough,
        # put back with its present count when it turns out to be too old.
        if -minus != count[best]:
            if count[best] > 0:
                heappush(heap, (-count[best], key, best))
            continue
        on_merge(left[best], right[best])
        for s in merge_slot(cells, best, len(cells.length)):
            if count[s] > 0:
                heappush(heap, (-count[s], keys(left[s], right[s]), s))
        merges -= 1
