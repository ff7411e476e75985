"""Near copies among all pages and entries of a crawl, from files, in memory that stays small.

Each part file keeps band keys (minhash.py), one array a band. One band of all parts at a time goes
through key files: equal keys meet there. What met is read again for the proof, at most BATCH texts
at a time. What stays in memory is a number for each text that is a near copy of another.
"""

from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from dedup import entries_of
from key_files import KeyFiles
from minhash import UnionFind, band_keys, cluster, signatures, survivor
from parts import read_pages
from shingles import mix, shingles
from work_files import WorkFiles

BANDS, ROWS, NGRAM = 14, 8, 5
BATCH = 20_000                # texts read again and compared at a time
MEETING = np.dtype([("key", "<u8"), ("number", "<i8")])
MEMBER = np.dtype([("key", "<u8"), ("group", "<u8"), ("member", "<i8")])


def band_columns(texts: list[str]) -> dict[str, np.ndarray]:
    """The MinHash keys of texts, {"band0": (len(texts),) uint64, ...}: all that is kept of each."""
    keys = band_keys(signatures(texts, NGRAM, BANDS * ROWS), BANDS, ROWS)
    return {f"band{j}": keys[:, j] for j in range(BANDS)}


def members_of(rows: np.ndarray, total: int) -> np.ndarray:
    """Rows of (key, number) whose key occurs twice or more, as rows of (key, group, member).

    The group is a hash of its members, so that the same group found in two bands is one; the key
    grows with the group's first member among `total`, so that neighbours come together.
    """
    rows = rows[np.lexsort((rows["number"], rows["key"]))]
    starts = np.flatnonzero(np.diff(rows["key"], prepend=~rows["key"][:1]))
    counts = np.diff(np.append(starts, len(rows)))
    hashes = np.add.reduceat(mix(rows["number"].astype(np.uint64) + np.uint64(1)), starts)
    first = rows["number"][starts].astype(np.float64) / max(total, 1)
    out = np.zeros(len(rows), MEMBER)
    out["key"] = np.repeat((first * 2.0**63).astype(np.uint64) << np.uint64(1), counts)
    out["group"], out["member"] = np.repeat(hashes, counts), rows["number"]
    return out[np.repeat(counts > 1, counts)]


def meetings(work: WorkFiles, stage: str, alive: np.ndarray) -> Iterator[list[list[int]]]:
    """Lists of groups of texts that share a key in some band, ordered by their first members.

    `alive` (N,) says which texts of all parts take part. A group that several bands find is given
    once.
    """
    parts, total = work.parts(stage), len(alive)
    with KeyFiles(work.folder / "met", BANDS * total) as met:
        for j in range(BANDS):
            with KeyFiles(work.folder / "band", total) as band:
                start = 0
                for part in parts:
                    keys = np.load(work.keys(stage, part))[f"band{j}"]
                    use = np.flatnonzero(alive[start:start + len(keys)])
                    rows = np.empty(len(use), MEETING)
                    rows["key"], rows["number"] = keys[use], use + start
                    band.add(rows)
                    start += len(keys)
                for rows in band:
                    if len(rows):
                        met.add(members_of(rows, total))
        for rows in met:
            rows = np.unique(rows)                        # sorted by first member, then by group
            starts = np.flatnonzero(np.diff(rows["group"], prepend=~rows["group"][:1]))
            yield [group.tolist() for group in np.split(rows["member"], starts[1:]) if len(group)]


def batches_of(groups: list[list[int]], most: int = BATCH) -> Iterator[list[list[int]]]:
    """The groups in lists with at most about `most` different members each, in order.

    A group of more is cut in pieces that have its first member in common.
    """
    batch: list[list[int]] = []
    held: set[int] = set()
    for group in groups:
        for k in range(1, len(group), max(most - 1, 1)):
            piece = group[:1] + group[k:k + max(most - 1, 1)]
            if batch and len(held) + len(piece) > most:
                yield batch
                batch, held = [], set()
            batch.append(piece)
            held.update(piece)
    if batch:
        yield batch


class Links(UnionFind):
    """A union-find that remembers only what was joined, of numbers as large as they come."""

    class Parents(dict):
        """Who is not there is its own parent."""
        def __missing__(self, i: int) -> int:
            return i

    def __init__(self):
        self.parent = Links.Parents()

    def clusters(self) -> list[list[int]]:
        """Clusters of two members or more, members and clusters in ascending order."""
        found: dict[int, list[int]] = {}
        for i in sorted(set(self.parent) | set(self.parent.values())):
            found.setdefault(self.find(i), []).append(i)
        return sorted(group for group in found.values() if len(group) > 1)


def near_copies(work: WorkFiles, stage: str, alive: np.ndarray, threshold: float,
                texts_of: Callable[[list[int]], dict[int, str]]) -> list[int]:
    """All members but the survivor of each verified cluster; `texts_of(numbers)` reads texts."""
    links = Links()
    for groups in meetings(work, stage, alive):
        for batch in batches_of(groups):
            members = sorted({i for group in batch for i in group})
            place = {i: k for k, i in enumerate(members)}
            texts = texts_of(members)
            local = [[place[i] for i in group] for group in batch]
            for copies in cluster(len(members), local,
                                  lambda k: shingles(texts[members[k]], NGRAM), threshold):
                for k in copies[1:]:
                    links.union(members[copies[0]], members[k])
    clusters = links.clusters()
    length, text = facts_of(work, stage, [i for members in clusters for i in members])
    return [i for members in clusters for best in [survivor(members, length, text)]
            for i in members if i != best]


def facts_of(work: WorkFiles, stage: str, numbers: list[int]) -> tuple[dict, dict]:
    """(length, digest) of the texts with these numbers, from the parts' arrays."""
    wanted, start = np.sort(np.array(numbers, np.int64)), 0
    length: dict[int, int] = {}
    text: dict[int, int] = {}
    for part in work.parts(stage) if numbers else []:
        arrays = np.load(work.keys(stage, part))
        count = len(arrays["length"])
        mine = wanted[np.searchsorted(wanted, start):np.searchsorted(wanted, start + count)]
        length |= zip(mine.tolist(), arrays["length"][mine - start].tolist())
        text |= zip(mine.tolist(), arrays["text"][mine - start].tolist())
        start += count
    return length, text


def near_pages(work: WorkFiles, alive: np.ndarray, threshold: float) -> list[int]:
    """Which of the pages that are `alive`, (D,) bool, are near copies of a longer one."""
    def texts_of(numbers: list[int]) -> dict[int, str]:
        return {n: page["text"] for page, found in found_in(work, "pages", numbers)
                for n, _ in found}
    return near_copies(work, "pages", alive, threshold, texts_of)


def near_entries(work: WorkFiles, count: int, threshold: float) -> list[int]:
    """Which of all `count` long entries are near copies of a longer one: methods of sister classes.
    """
    def texts_of(numbers: list[int]) -> dict[int, str]:
        texts = {}
        for page, found in found_in(work, "unique", numbers):
            entries = entries_of(page["text"])
            texts |= {n: entries[place] for n, place in found}
        return texts
    return near_copies(work, "unique", np.ones(count, bool), threshold, texts_of)


def found_in(work: WorkFiles, stage: str,
             numbers: list[int]) -> Iterator[tuple[dict, list[tuple[int, int]]]]:
    """Pages with the (number, place) of what is asked of them; only parts that hold some are read.

    In "pages" a number is a page's, in "unique" that of a long entry at a place in its page.
    """
    wanted, start = np.array(numbers, np.int64), 0
    for part in work.parts(stage):
        arrays = np.load(work.keys(stage, part))
        count = len(arrays["length"])
        low, high = np.searchsorted(wanted, (start, start + count))
        mine = wanted[low:high] - start
        if len(mine):
            owner, place = (arrays["owner"][mine], arrays["number"][mine]) if stage == "unique" \
                else (mine, mine * 0)
            of_page: dict[int, list[tuple[int, int]]] = {}
            for page, n, k in zip(owner.tolist(), (mine + start).tolist(), place.tolist()):
                of_page.setdefault(page, []).append((n, k))
            for i, page in enumerate(read_pages(work.texts(stage, part))):
                if i in of_page:
                    yield page, of_page[i]
        start += count
