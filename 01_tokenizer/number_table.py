"""A hash table of numbers in one array: thousands of look-ups in a dozen numpy operations.

    from number_table import NumberTable

A key is a pair of 64-bit numbers, the first of them not 0; a value is a 64-bit number. Each key has
a place that multiplication finds (Knuth, volume 3, section 6.4); if it is taken, the next free one.
"""

import numpy as np

MIX, FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)    # odd, bits mixed


class NumberTable:
    """(low, high) -> value, for arrays of keys; see the file's head."""

    def __init__(self, bits: int):
        """A table of 2**bits places, about half of which may be used."""
        self.shift, self.known = np.uint64(64 - bits), 0
        # A row holds a key and its value side by side, so that one look into the memory finds all.
        self.rows = np.zeros(((1 << bits) + 4096, 3), np.uint64)
        self.steps = 0                        # how far from its place a key may stand

    def places(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Where keys would like to stand."""
        return (((low ^ (low >> np.uint64(29))) + high * MIX) * FACTOR >> self.shift).view(np.int64)

    def insert(self, low: np.ndarray, high: np.ndarray, value: np.ndarray) -> None:
        """Put keys, all different and none of them known, with their values into the table."""
        keys = np.column_stack([low, high, value.astype(np.uint64)])
        places, step, self.known = self.places(low, high), 0, self.known + len(low)
        while len(places):
            # Of those that want the same free place one gets it; the others move one on.
            free = np.flatnonzero(self.rows[places, 0] == 0)
            won = free[np.unique(places[free], return_index=True)[1]]
            self.rows[places[won]] = keys[won]
            left = np.ones(len(places), bool)
            left[won] = False
            keys, places, step = keys[left], places[left] + 1, step + 1
        self.steps = max(self.steps, step)

    def look_up(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(values, found) of keys; where not found, the value means nothing."""
        places = self.places(low, high)
        rows = self.rows.take(places, 0)
        found = (rows[:, 0] == low) & (rows[:, 1] == high)
        value = rows[:, 2].astype(np.int64)
        missing = np.flatnonzero(~found & (rows[:, 0] != 0))
        for step in range(1, self.steps):
            if not len(missing):
                break
            here = self.rows.take(places[missing] + step, 0)
            hit = (here[:, 0] == low[missing]) & (here[:, 1] == high[missing])
            found[missing[hit]], value[missing[hit]] = True, here[hit, 2].astype(np.int64)
            # A free place ends the search: the key would stand there.
            missing = missing[~hit & (here[:, 0] != 0)]
        return value, found
