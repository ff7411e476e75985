"""What votes can order at all: models that never met, and models that never lost.

    islands(games)          # groups of models between which there is no game, not even indirectly
    unbeaten(wins)          # groups that nobody outside has ever taken a point from

Bradley-Terry's likelihood has a maximum only if every model can be reached from every other one
along wins (Ford 1957). Where it cannot, some difference is unknown or without bound, and a program
that prints a number there has made it up.
"""

import math
from typing import Iterable, Sequence

import numpy as np


def check_sizes(scale: float, **numbers: float | None) -> None:
    """ValueError unless the scale of ratings is finite and above 0, and the other settings (those
    that are not None) finite and not below."""
    for name, value in {"scale": scale, **numbers}.items():
        if value is not None and not (0 <= value < math.inf and (value or name != "scale")):
            raise ValueError(f"{name} {value} must be finite and "
                             f"{'above' if name == 'scale' else 'at least'} 0")


def no_order(groups: Sequence[Iterable[str]]) -> str:
    """The remark about groups of models that never met, for readers of a leaderboard."""
    return ("no game, not even through others, connects "
            + " with ".join(f"{{{', '.join(group)}}}" for group in groups) + ": between them there "
            "is no order, each group is rated and ranked by itself")


def no_bound(group: Iterable[str]) -> str:
    """The remark about models that nobody outside of their group has taken a point from."""
    return (f"{' and '.join(group)} never lost to the others: by these votes the rating has no "
            "upper bound")


def reachable(arrows: np.ndarray) -> np.ndarray:
    """Which models are reached from which along arrows, themselves included: (M, M) bool.

    arrows (M, M) bool: an arrow from i to j where arrows[i, j].
    """
    reach = arrows | np.eye(len(arrows), dtype=bool)
    # Each squaring doubles the length of the paths that are known.
    for _ in range(max(1, len(arrows)).bit_length()):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return reach


def groups(together: np.ndarray) -> list[list[int]]:
    """The classes of an equivalence (M, M) bool, each a sorted list, in order of their first."""
    return [members.tolist() for i in range(len(together))
            if (members := np.flatnonzero(together[i]))[0] == i]


def islands(games: np.ndarray) -> list[list[int]]:
    """Groups of models with no game between them, directly or through others: games (M, M)."""
    return groups(reachable((games + games.T) > 0))


def leagues(wins: np.ndarray) -> list[list[int]]:
    """Groups of models that took points from each other, directly or round a ring: wins (M, M),
    wins[i, j] the points of i against j. One group: every difference has a finite estimate."""
    reach = reachable(wins > 0)
    return groups(reach & reach.T)


def unbeaten(wins: np.ndarray) -> list[list[int]]:
    """The leagues from which nobody outside has taken a point, though somebody tried."""
    return [group for group in leagues(wins)
            if (outside := np.setdiff1d(np.arange(len(wins)), group)).size
            and not wins[np.ix_(outside, group)].any() and wins[np.ix_(group, outside)].any()]
