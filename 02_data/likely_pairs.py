"""Which pairs of a group that met are worth comparing? Few, however large the group is.

    for i, j in likely_pairs(group, sets, 0.8, joined): ...

Pages of one template agree in whole bands, a thousand at a time, and are no copies: to compare
every two of them costs the square of the group. But two sets of Jaccard J >= t share at least
t / (1 + t) of their added sizes, and what a template gives is in all of them: a pair that shares
no RARE shingle can only pass if the frequent ones alone suffice. So of a large group we compare

- the pairs that share shingles which at most FEW members have, if these and the frequent ones
  together can suffice (exact: no other pair with a rare shingle in common can pass);
- of those whose frequent shingles alone may suffice, each member with up to LEADERS others that
  were no copies of each other. They are mostly copies of the first: one comparison each.

The idea is that of set similarity joins (Bayardo, Ma and Srikant 2007; Xiao et al. 2008). Left out:
a pair without a rare shingle in common, when 64 leaders had been found before either of them.
"""

import itertools
from typing import Iterator

import numpy as np

SMALL = 24       # members; of smaller groups every pair is compared
FEW = 8          # members that share a rare shingle
LEADERS = 64


def likely_pairs(group: list[int], sets, threshold: float, joined) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of a group that may have Jaccard >= threshold and are not yet `joined`.

    `sets[i]` are the sorted distinct shingles of i, `joined` a UnionFind that the caller changes
    while it goes through the pairs. Time and number of pairs grow with the shingles of the group.
    """
    if len(group) <= SMALL:
        yield from itertools.combinations(group, 2)
        return
    if len({joined.find(i) for i in group}) == 1:
        return                      # other groups have told all there is to know
    sizes = np.array([len(sets[i]) for i in group])
    rare, frequent = rare_pairs([sets[i] for i in group], threshold)
    for a, b in rare:
        yield group[a], group[b]
    # the largest partner with which a member could pass by its frequent shingles alone
    reach = frequent * (1 + threshold) / threshold - sizes + 1e-6
    order = [k for k in np.argsort(sizes, kind="stable").tolist() if reach[k] >= sizes.min()]
    leaders: list[int] = []
    for k in order:
        alone = True
        for other in leaders:
            if joined.find(group[k]) == joined.find(group[other]):
                alone = False
            elif sizes[k] <= reach[other] and sizes[other] <= reach[k]:
                yield tuple(sorted((group[k], group[other])))
                alone &= joined.find(group[k]) != joined.find(group[other])
        if alone:
            leaders = (leaders + [k])[-LEADERS:]


def rare_pairs(sets: list[np.ndarray], threshold: float) -> tuple[list, np.ndarray]:
    """(pairs of places that share rare shingles and may pass, frequent shingles of each (G,)).

    A shingle is rare that 2 to FEW of the sets hold. A pair may pass if its rare shingles in common
    and the smaller number of frequent ones reach t / (1 + t) of both sizes together: more cannot be
    shared. Exactly that is enough, however the floats are rounded: no copy may be lost.
    """
    sizes = np.array(list(map(len, sets)))
    owner = np.repeat(np.arange(len(sets)), sizes)
    # equal shingles side by side, their owners in ascending order
    shingles = np.concatenate(sets)
    order = np.argsort(shingles, kind="stable")
    owner, shingles = owner[order], shingles[order]
    starts = np.flatnonzero(np.diff(shingles, prepend=~shingles[:1]))
    counts = np.diff(np.append(starts, len(shingles)))
    frequent = np.bincount(owner[np.repeat(counts > FEW, counts)], minlength=len(sets))
    # every two owners of a rare shingle, as one number
    keys = [owner[starts[counts == n] + a] * len(sets) + owner[starts[counts == n] + b]
            for n in range(2, FEW + 1) for a, b in itertools.combinations(range(n), 2)]
    pairs, shared = np.unique(np.concatenate(keys), return_counts=True)
    a, b = pairs // len(sets), pairs % len(sets)
    most = shared + np.minimum(frequent[a], frequent[b])
    passing = most >= threshold / (1 + threshold) * (sizes[a] + sizes[b]) - 1e-6
    return list(zip(a[passing].tolist(), b[passing].tolist())), frequent
