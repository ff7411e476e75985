"""Byte-pair training, third rung: whole merges at once in numpy, while merges are large.

The first merges touch thousands of places each, the last ones two or three. A numpy operation costs
the same for either, so the head of training runs on arrays, and the tail on the lists of
bpe_cells.py: same state, same merges. python 01_tokenizer/tokenizer_benchmark.py measures the gain.

    merges (50 MB of source)   0-256   -1k   -4k   -8k   -16k   -32k
    mean places of a merge      1648   257    68    21      9      4
"""

from heapq import heapify, heappop, heappush
from typing import Callable, Mapping

import numpy as np

from bpe_cells import EDGE, NONE, as_lists, lay_out, run_merges

SMALL = 24        # places: below this running mean, lists are faster than arrays


class Column:
    """An array that grows at its end; `.used` is the filled part."""

    def __init__(self, values: np.ndarray):
        self.array, self.size = values, len(values)

    @property
    def used(self) -> np.ndarray:
        return self.array[:self.size]

    def extend(self, values: np.ndarray) -> None:
        end = self.size + len(values)
        # Doubling keeps the cost of copying below that of writing.
        if end > len(self.array):
            self.array = np.resize(self.array, max(end, 2 * len(self.array)))
        self.array[self.size:end] = values
        self.size = end


def without_overlaps(places: np.ndarray, width: int) -> np.ndarray:
    """The ascending places where a pair (a, a) merges, left to right: each uses 2 `width` cells.

    `without_overlaps([0, 1, 2, 9], 1)` is `[0, 2, 9]`: the pair at 1 shares a token with that at 0.
    """
    # Within a run of places one token apart, every other one merges.
    run_start = np.concatenate([[True], np.diff(places) != width])
    number = np.arange(len(places))
    first = np.maximum.accumulate(np.where(run_start, number, 0))
    return places[(number - first) % 2 == 0]


def merge_places(state: dict, best: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge the pair in slot `best` wherever it stands, all places at once.

    Changes token, slot, count, left, right, places and start of `state`. Returns the slots that
    were born and the places that were merged.
    """
    token, slot, weight, length = state["token"], state["slot"], state["weight"], state["length"]
    left, right, count, start = (state[name] for name in ("left", "right", "count", "start"))
    a, b = int(left.array[best]), int(right.array[best])
    length.extend([length.array[a] + length.array[b]])
    at = state["places"].array[start.array[best]:start.array[best + 1]]
    at = at[slot[at] == best]                          # the others are outdated
    if a == b and len(at) > 1:
        at = without_overlaps(at, length.array[a])
    second = at + length.array[a]                      # where b starts
    end = second + length.array[b]                     # and the next token
    token[at] = new
    token[end - 1] = new
    # Left neighbours lose their pair with a. Where the left neighbour was merged too (`abab`), the
    # pair in between is the right-hand pair of that one, and is counted there only.
    x, y, w = token[at - 1], token[end], weight[at]
    has_left, has_right = (x != EDGE) & (x != new), y != EDGE
    before = at[has_left] - length.array[x[has_left]]
    np.subtract.at(count.array, slot[before], w[has_left])
    np.subtract.at(count.array, slot[second[has_right]], w[has_right])
    slot[at] = NONE
    slot[second] = NONE
    # The pairs born: (x, new) under the key x, (new, y) under y + new + 1, so that none collide.
    keys = np.concatenate([x[has_left], y[has_right] + (new + 1)])
    places = np.concatenate([before, at[has_right]])
    weights = np.concatenate([w[has_left], w[has_right]])
    # A stable sort: the places of each pair must ascend, or runs like `───` would merge wrongly.
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    first = np.diff(keys, prepend=-1) != 0
    starts = np.flatnonzero(first)
    born = np.arange(left.size, left.size + len(starts))
    slot[places] = (left.size - 1) + np.cumsum(first)
    neighbour = keys[starts]
    is_left = neighbour <= new
    left.extend(np.where(is_left, neighbour, new))
    right.extend(np.where(is_left, new, neighbour - (new + 1)))
    count.extend(np.add.reduceat(weights[order], starts) if len(starts) else weights)
    start.extend(state["places"].size + np.append(starts, len(places))[1:])
    state["places"].extend(places)
    count.array[best] = 0
    return born, at


def run_head(state: dict, merges: int, key: Callable[[int, int], object],
             on_merge: Callable[[int, int], None]) -> int:
    """Merge on arrays until merges become small; how many merges are left to do.

    The queue is that of run_merges in bpe_cells.py.
    """
    left, right, count = state["left"], state["right"], state["count"]
    heap, least = [], int(count.used.max(initial=0)) + 1
    mean = 4 * SMALL
    while merges and mean > SMALL:
        if not heap:
            if least <= 1:
                return merges
            above, least = least, least // 2
            fresh = np.flatnonzero((count.used >= least) & (count.used < above))
            heap = entries(state, fresh, key)
            heapify(heap)
            continue
        minus, tie, best = heappop(heap)
        present = int(count.array[best])
        if -minus != present:
            if present >= least:
                heappush(heap, (-present, tie, best))
            continue
        on_merge(int(left.array[best]), int(right.array[best]))
        merges -= 1
        born, at = merge_places(state, best, state["length"].size)
        for entry in entries(state, born[count.array[born] >= least], key):
            heappush(heap, entry)
        mean += (len(at) - mean) / 64
    return merges


def entries(state: dict, slots: np.ndarray, key: Callable[[int, int], object]) -> list[tuple]:
    """The heap entries (-count, tie key, slot) of these slots."""
    left, right, count = (state[name].array[slots].tolist() for name in ("left", "right", "count"))
    return [(-n, key(a, b), s) for n, a, b, s in zip(count, left, right, slots.tolist())]


def train_hybrid(counts: Mapping[bytes, int], merges: int, byte_ids: list[int],
                 key: Callable[[int, int], object], on_merge: Callable[[int, int], None]) -> None:
    """Find up to `merges` merges in pre-token -> count; the same ones as train_cells."""
    growing = ("left", "right", "count", "start", "places", "length")
    state = lay_out(counts, byte_ids)
    state |= {name: Column(state[name]) for name in growing}
    merges = run_head(state, merges, key, on_merge)
    state |= {name: state[name].used for name in growing}
    run_merges(as_lists(state), merges, key, on_merge)
