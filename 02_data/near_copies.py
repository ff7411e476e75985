"""Near copies among all pages and entries of a crawl, from files, in memory that stays small.

Each part file keeps band keys (minhash.py) in one array per band, so that one band of all parts can
be sorted at a time: 8 bytes per text. Texts that met are read again for the proof, BATCH of them at
a time; whole groups of texts that met one another, so that no pair is torn apart.
"""

from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from dedup import entries_of
from minhash import UnionFind, band_keys, candidate_groups, cluster, signatures, survivor
from parts import read_pages
from shingles import shingles

BANDS, ROWS, NGRAM = 14, 8, 5
BATCH = 20_000                # texts read again and compared at a time


def band_columns(texts: list[str]) -> dict[str, np.ndarray]:
    """The MinHash keys of texts, {"band0": (len(texts),) uint64, ...}: all that is kept of each."""
    keys = band_keys(signatures(texts, NGRAM, BANDS * ROWS), BANDS, ROWS)
    return {f"band{j}": keys[:, j] for j in range(BANDS)}


def meetings(paths: list[Path], rows: np.ndarray | None = None) -> list[list[int]]:
    """Texts that share a key in some band, as in `candidate_groups`, over all parts.

    `paths` are the .npz files; `rows` (ascending numbers over all parts) are those that take part.
    """
    groups: set[tuple[int, ...]] = set()
    for j in range(BANDS):
        column = np.concatenate([np.load(path)[f"band{j}"] for path in paths])
        column = column if rows is None else column[rows]
        groups.update(map(tuple, candidate_groups(column[:, None])))
    number = (lambda i: i) if rows is None else rows.tolist().__getitem__
    return [[number(i) for i in group] for group in sorted(groups)]


def batches_of(groups: list[list[int]], most: int = BATCH) -> Iterator[list[list[int]]]:
    """The groups in lists that can be judged apart: all groups with a member in common together.

    A list ends when it holds `most` members or more.
    """
    members = sorted({i for group in groups for i in group})
    place = {i: k for k, i in enumerate(members)}
    joined = UnionFind(len(members))
    for group in groups:
        for i in group[1:]:
            joined.union(place[group[0]], place[i])
    apart: dict[int, list[list[int]]] = {}
    for group in groups:
        apart.setdefault(joined.find(place[group[0]]), []).append(group)
    batch: list[list[int]] = []
    held: set[int] = set()
    for component in apart.values():
        batch += component
        held.update(i for group in component for i in group)
        if len(held) >= most:
            yield batch
            batch, held = [], set()
    if batch:
        yield batch


def near_copies(groups: list[list[int]], texts_of: Callable[[list[int]], dict[int, str]],
                threshold: float) -> list[int]:
    """All members but the survivor of each verified cluster; `texts_of(numbers)` reads texts."""
    gone = []
    for batch in batches_of(groups):
        members = sorted({i for group in batch for i in group})
        place = {i: k for k, i in enumerate(members)}
        found = texts_of(members)
        texts = [found[i] for i in members]
        local = [[place[i] for i in group] for group in batch]
        for copies in cluster(len(texts), local, lambda k: shingles(texts[k], NGRAM), threshold):
            best = survivor(copies, texts)
            gone += [members[k] for k in copies if k != best]
    return gone


def texts_at(paths: list[Path], wanted: set[int]) -> dict[int, str]:
    """The texts of the pages with these numbers, counted over all part files in order."""
    found, number = {}, 0
    for path in paths:
        for page in read_pages(path):
            if number in wanted:
                found[number] = page["text"]
            number += 1
    return found


def near_pages(alive: np.ndarray, arrays: list[Path], pages: list[Path],
               threshold: float) -> list[int]:
    """Which of the pages `alive` (ascending numbers) are near copies of a longer one.

    Only pages that met in a band are read again. In a cluster the longest text stays.
    """
    return near_copies(meetings(arrays, alive), lambda numbers: texts_at(pages, set(numbers)),
                       threshold)


def near_entries(owner: np.ndarray, number: np.ndarray, arrays: list[Path], pages: list[Path],
                 threshold: float) -> np.ndarray:
    """Which long entries are near copies of a longer one, (E,) bool: methods of sister classes.

    `owner` (E,) is the page's number over all parts, `number` (E,) the entry's in its page.
    """
    def texts_of(numbers: list[int]) -> dict[int, str]:
        texts = texts_at(pages, set(owner[numbers].tolist()))
        split = {page: entries_of(text) for page, text in texts.items()}
        return {i: split[int(owner[i])][number[i]] for i in numbers}

    gone = np.zeros(len(owner), bool)
    gone[near_copies(meetings(arrays), texts_of, threshold)] = True
    return gone
