"""Near copies without comparing every pair: MinHash, bands, verification, clusters (union-find).

    P(two texts share one minimum)  = J, the Jaccard similarity of their shingle sets
    P(they meet in a band)          = 1 - (1 - J^rows)^bands      (the S-curve)

    python 02_data/page_benchmark.py         # speed, and recall beside the S-curve

`near_duplicates` does it all in one process; the parts (`signatures`, `band_keys`,
`candidate_groups`, `cluster`) are what build_corpus calls when many processes share the work.
"""

import numpy as np

from likely_pairs import likely_pairs
from shingles import mix, shingle_batch

_SEED = 20_24
_CHUNK = 256      # texts hashed together: one array of about 256 KB, which fits a core's cache


def s_curve(similarity: np.ndarray | float, bands: int = 14, rows: int = 8):
    """The chance that two texts of Jaccard `similarity` become candidates: 1 - (1 - s^r)^b.

    s_curve(0.75, 14, 8) = 0.77. The usual threshold (1/b)^(1/r), here 0.72, is where it reaches
    1 - (1 - 1/b)^b = 0.65; one half is crossed earlier, at 0.685. (Broder 1997; Leskovec,
    Rajaraman and Ullman, Mining of Massive Datasets, section 3.4)
    """
    # one band agrees if all its rows agree; at least one of the bands must agree
    return 1 - (1 - np.asarray(similarity, float) ** rows) ** bands


def _families(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (odd) and addends of `count` hash functions h(x) = a x + b modulo 2^32."""
    random = np.random.default_rng(_SEED)
    a = random.integers(0, 2**31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, random.integers(0, 2**32, count, dtype=np.uint32)


def signatures(texts: list[str], ngram: int = 5, count: int = 112) -> np.ndarray:
    """The MinHash signatures of `texts`: (len(texts), count) uint32.

    Column k holds, for each text, the smallest value of hash function k over its shingles; two
    texts agree in a column with probability J. A text without words gets 2^32 - 1 everywhere.
    """
    a, b = _families(count)
    # a text without shingles keeps the largest value there is
    out = np.full((len(texts), count), 2**32 - 1, np.uint32)
    for first in range(0, len(texts), _CHUNK):
        hashes, bounds = shingle_batch(texts[first:first + _CHUNK], ngram)
        rows = np.flatnonzero(np.diff(bounds))
        if not len(rows):
            continue
        keys = (hashes >> np.uint64(32)).astype(np.uint32)
        starts = bounds[rows]
        value = np.empty_like(keys)
        # one hash function at a time over all texts of the chunk, so that the array stays in cache;
        # uint32 overflows as the family wants, and each text's smallest value is its signature's
        for k in range(count):
            np.multiply(keys, a[k], out=value)
            np.add(value, b[k], out=value)
            out[first + rows, k] = np.minimum.reduceat(value, starts)
    return out


def band_keys(signature: np.ndarray, bands: int = 14, rows: int = 8) -> np.ndarray:
    """One 64-bit key per band: (D, bands * rows) uint32 -> (D, bands) uint64.

    Two texts share key j exactly when they agree in all `rows` columns of band j (but for hash
    collisions, one in 2^64). This is all that must be kept per document: 8 bytes x bands.
    """
    # (D, bands * rows) -> (D, bands, rows): neighbouring columns make a band.
    parts = signature.astype(np.uint64).reshape(len(signature), bands, rows)
    keys = np.zeros((len(signature), bands), np.uint64)
    # Fold the rows in one after the other: the result must depend on all of them and on
    # their order, so (1, 2) and (2, 1) get different keys; a sum or a xor would not do.
    for r in range(rows):
        keys = mix(keys ^ parts[:, :, r]) * np.uint64(0x9E3779B97F4A7C15)
    return keys


def candidate_groups(keys: np.ndarray) -> list[list[int]]:
    """Rows that share a key in some band: one list per key, of two rows or more, each sorted.

    keys (D, bands), of `band_keys`. A group that several bands find is listed once; lists ascend.
    """
    groups = set()
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        # equal keys are now neighbours; cut where the key changes
        cuts = np.flatnonzero(np.diff(band[order])) + 1
        starts, ends = np.append(0, cuts), np.append(cuts, len(order))
        for i in np.flatnonzero(ends - starts > 1):
            groups.add(tuple(order[starts[i]:ends[i]].tolist()))
    return [list(group) for group in sorted(groups)]


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|A and B| / |A or B| of two sorted arrays without repeats; two empty sets count as 0."""
    if not len(a) or not len(b):
        return 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


class UnionFind:
    """Which things are joined, directly or through others. Near constant time per question."""

    def __init__(self, size: int):
        self.parent = list(range(size))

    def find(self, i: int) -> int:
        """The smallest member of i's cluster."""
        # walk up to the root, and hang everything met on the way one step higher
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def union(self, i: int, j: int) -> None:
        """Join the clusters of i and j; the smaller root stays root, so order does not matter."""
        # Join the roots, not the two elements: each may already belong to a cluster.
        i, j = self.find(i), self.find(j)
        # The smaller index wins, whichever came first, so that the order of joining is forgotten.
        self.parent[max(i, j)] = min(i, j)

    def clusters(self) -> list[list[int]]:
        """Clusters of two members or more, members and clusters in ascending order."""
        members: dict[int, list[int]] = {}
        for i in range(len(self.parent)):
            members.setdefault(self.find(i), []).append(i)
        return [group for group in members.values() if len(group) > 1]


def cluster(size: int, groups: list[list[int]], shingle_set, threshold: float) -> list[list[int]]:
    """Clusters of rows whose candidates really have Jaccard >= `threshold`, joined transitively.

    `shingle_set(i)` gives the sorted distinct shingles of row i and is asked once; `likely_pairs`
    which pairs of a group to try. A pair that is joined already, or was compared in another group,
    is not compared again, so a thousand copies of one page cost a thousand comparisons, not a
    million; the clusters are the connected parts of the graph of true pairs either way.
    """
    joined = UnionFind(size)
    sets: dict[int, np.ndarray] = {}
    different: set[tuple[int, int]] = set()
    for group in groups:
        for i in group:
            if i not in sets:
                sets[i] = shingle_set(i)
        group = [i for i in group if len(sets[i])]  # a text without words is nobody's copy
        for i, j in likely_pairs(group, sets, threshold, joined):
            if (i, j) in different or joined.find(i) == joined.find(j):
                continue
            # sizes alone bound the similarity: J <= smaller / larger
            small, large = sorted((len(sets[i]), len(sets[j])))
            if small >= threshold * large and jaccard(sets[i], sets[j]) >= threshold:
                joined.union(i, j)
            else:
                different.add((i, j))
    return joined.clusters()


def near_duplicates(texts: list[str], ngram: int = 5, bands: int = 14, rows: int = 8,
                    threshold: float = 0.8) -> list[list[int]]:
    """Clusters of near copies among `texts`, as sorted lists of two indices or more.

    Similarity is the Jaccard similarity of the sets of `ngram`-word shingles; pairs proposed by the
    bands are verified, so no pair below `threshold` joins two texts; a pair above it is missed with
    probability 1 - s_curve. Texts without words join nothing. The result as sets of texts does not
    depend on the order of `texts`.
    """
    texts = list(texts)
    keys = band_keys(signatures(texts, ngram, bands * rows), bands, rows)
    hashes, bounds = shingle_batch(texts, ngram)
    return cluster(len(texts), candidate_groups(keys),
                   lambda i: np.unique(hashes[bounds[i]:bounds[i + 1]]), threshold)


def survivor(members: list[int], length, text) -> int:
    """Which member of a cluster stays: the longest; among equals the one of the smallest `text`.

    `length[i]` and `text[i]` are the length of text i and the text, or a hash of it: the rule looks
    at the texts alone, so it does not matter in which order they came.
    """
    return min(members, key=lambda i: (-length[i], text[i], i))


def slow_near_duplicates(texts: list[str], ngram: int = 5, threshold: float = 0.8) -> list:
    """The same clusters by comparing all pairs: the clear version, quadratic, no pair missed."""
    from shingles import slow_shingles
    sets = [slow_shingles(text, ngram) for text in texts]
    joined = UnionFind(len(texts))
    for i in range(len(texts)):
        for j in range(i):
            both = len(sets[i] & sets[j])
            if both and both >= threshold * len(sets[i] | sets[j]):
                joined.union(i, j)
    return joined.clusters()
