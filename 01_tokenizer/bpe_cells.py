"""Byte-pair training, second rung: every pair knows where it stands.

The textbook loop (bpe_textbook.py) counts all pairs again for every merge. Here a merge touches
only the places where its pair stands, and the next pair waits in a heap. A third of the time of
HF's Rust trainer on 50 MB, in plain lists (python 01_tokenizer/tokenizer_benchmark.py measures it).

All distinct pre-tokens lie one after the other in one list of cells, a byte per cell, with an edge
between them. A token that covers several cells writes its id into its first and its last cell, so
that both neighbours are found by arithmetic, without linked lists and without rebuilding words:

    cells    t   h   e   |   t   h   a   n   |        after merging (t, h) into 256:
    token   256 256  e   |  256 256  a   n   |
"""

from heapq import heapify, heappop, heappush
from types import SimpleNamespace
from typing import Callable, Mapping

import numpy as np

EDGE = -1         # the "token" between two pre-tokens: no pair includes it
NONE = -1         # the pair slot of a cell where no pair starts


class Cells(SimpleNamespace):
    """The state of training: cells, and the pairs in numbered slots. All fields are lists.

    Per cell i:  token[i], the token that starts or ends there (inside longer ones: meaningless);
    slot[i], the slot of the pair whose left token starts there, or NONE; weight[i], how often the
    pre-token around it occurs. Per slot: its tokens left and right, its count, and the ascending
    places (cells) where it was born; `slot` tells which are outdated. Per token: its cells, length.
    """


def lay_out(counts: Mapping[bytes, int], byte_ids: list[int]) -> dict[str, np.ndarray]:
    """The first state, as arrays named like the fields of Cells, from pre-token -> count.

    Byte b is the token `byte_ids[b]`. `places` is one array; those of slot s are
    `places[start[s]:start[s + 1]]`. `lay_out({b"aab": 3}, range(256))` has 5 cells and 2 slots.
    """
    words = [word for word in counts if len(word) > 1]
    # An edge before every pre-token and one after the last.
    raw = np.frombuffer(b"".join([b"\0" + word for word in words]) + b"\0", np.uint8)
    sizes = np.array([len(word) + 1 for word in words], np.int64)
    edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    token = np.array(byte_ids, np.int32)[raw]
    token[edges] = EDGE
    weight = np.zeros(len(raw), np.int64)
    weight[:-1] = np.repeat(np.array([counts[word] for word in words], np.int64), sizes)
    # Two bytes make a 16-bit key: a stable sort by it lists the places of each pair, ascending.
    places = np.flatnonzero((token[:-1] != EDGE) & (token[1:] != EDGE))
    keys = (token[places] * 256 + token[places + 1]).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    places, keys = places[order].astype(np.int32), keys[order].astype(np.int32)
    first = np.diff(keys, prepend=-1) != 0
    start = np.flatnonzero(first)
    # The slots are numbered in the order of their keys.
    slot = np.full(len(raw), NONE, np.int32)
    slot[places] = np.cumsum(first) - 1
    count = np.add.reduceat(weight[places], start) if len(start) else np.zeros(0, np.int64)
    return {"token": token, "slot": slot, "weight": weight, "places": places, "count": count,
            "start": np.append(start, len(places)), "left": keys[start] // 256,
            "right": keys[start] % 256, "length": np.ones(256, np.int32)}


def as_lists(arrays: dict[str, np.ndarray]) -> Cells:
    """The same state in Python lists, which are faster than arrays for one element at a time."""
    lists = {name: array.tolist() for name, array in arrays.items()}
    start, places = lists.pop("start"), lists["places"]
    # A pair that is gone (count 0) needs its places no more.
    lists["places"] = [places[a:b] if n else [] for a, b, n in
                       zip(start, start[1:], lists["count"])]
    return Cells(**lists)


def merge_slot(cells: Cells, best: int) -> range:
    """Make one new token of the pair in slot `best` wherever it stands; the slots born by it.

    The new token's id is the next one. Afterwards `count` is exact for every other pair. Overlaps
    go left to right: of `aaa` the first two merge.
    """
    token, slot, weight, count, places = (cells.token, cells.slot, cells.weight, cells.count,
                                          cells.places)
    left, right, length = cells.left, cells.right, cells.length
    new, born = len(length), len(left)
    free = born                           # the next slot
    length_a, length_b = length[left[best]], length[right[best]]
    length.append(length_a + length_b)
    before, after = {}, {}                # neighbour -> slot of (neighbour, new) / (new, neighbour)
    for i in places[best]:
        if slot[i] != best:
            continue                      # outdated: taken by an earlier merge, or inside `aaa`
        slot[i] = NONE
        j = i + length_a                  # b starts here
        end = j + length_b                # and the next token here
        w = weight[i]
        # The left neighbour ends just before i. It loses its pair with a and wins one with new.
        x = token[i - 1]
        if x != EDGE:
            p = i - length[x]
            count[slot[p]] -= w
            s = before.get(x)
            if s is None:
                s = before[x] = free
                free += 1
                left.append(x), right.append(new), count.append(w), places.append([p])
            else:
                count[s] += w
                places[s].append(p)
            slot[p] = s
        # The same on the right.
        y = token[end]
        if y != EDGE:
            count[slot[j]] -= w
            s = after.get(y)
            if s is None:
                s = after[y] = free
                free += 1
                left.append(new), right.append(y), count.append(w), places.append([i])
            else:
                count[s] += w
                places[s].append(i)
            slot[i] = s
        # No pair may start inside the new token any more, and both its ends carry its name.
        slot[j] = NONE
        token[i] = token[end - 1] = new
    count[best], places[best] = 0, []
    return range(born, free)


def run_merges(cells: Cells, merges: int, key: Callable[[int, int], object],
               on_merge: Callable[[int, int], None]) -> None:
    """Merge the most frequent pair, `merges` times or until no pair is left.

    Of equally frequent pairs (a, b) the one with the smallest `key(a, b)` goes first. `on_merge(a,
    b)` is told each one before it happens.
    """
    left, right, count = cells.left, cells.right, cells.count
    # Most pairs never become frequent. Only those with a count of `least` or more queue at all;
    # when the queue is empty, the bar falls to half, and those below it are let in.
    heap, least = [], max(count, default=0) + 1
    while merges:
        if not heap:
            if least <= 1:
                return
            above, least = least, least // 2
            heap = [(-n, key(left[s], right[s]), s) for s, n in enumerate(count)
                    if least <= n < above]
            heapify(heap)
            continue
        minus, tie, best = heappop(heap)
        # A pair is born in one merge and only shrinks later, so one entry is enough: it is never
        # too low, and goes back with the present count when it turns out to be too high.
        if -minus != count[best]:
            if count[best] >= least:
                heappush(heap, (-count[best], tie, best))
            continue
        on_merge(left[best], right[best])
        merges -= 1
        for s in merge_slot(cells, best):
            if count[s] >= least:
                heappush(heap, (-count[s], key(left[s], right[s]), s))


def train_cells(counts: Mapping[bytes, int], merges: int, byte_ids: list[int],
                key: Callable[[int, int], object], on_merge: Callable[[int, int], None]) -> None:
    """Find up to `merges` merges in pre-token -> count; see run_merges for `key` and `on_merge`."""
    run_merges(as_lists(lay_out(counts, byte_ids)), merges, key, on_merge)
