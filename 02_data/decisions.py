"""What rank 0 decides between the passes: which copies stay, and by what pages are judged.

The keys of all pages go through key files (key_files.py): equal keys meet, a few hundred thousand
at a time, so that the memory does not grow with the crawl. Every decision is one array on the disk,
a byte for each page or entry.
"""

from pathlib import Path
from typing import Iterator

import numpy as np

from artifacts import BadInput
from corpus_steps import EXACT_COPY, KEPT, NEAR_COPY, URL_COPY
from decontaminate import evaluation_ngrams, load_evaluation
from dedup import digest64, keep_best
from hashed_linear import HashedLinear
from key_files import KeyFiles
from near_copies import near_entries, near_pages
from outliers import count_words
from parts import read_pages
from quality import default_examples, train_quality
from work_files import WorkFiles

SAMPLE = 1200         # pages for the token profile and the default quality model
ROW = np.dtype([("key", "<u8"), ("first", "<i8"), ("specific", "<i8"), ("address", "<u8"),
                ("number", "<i8")])


def decide_copies(work: WorkFiles, near_threshold: float) -> None:
    """Which pages and entries are copies: copies.npy and entries.npy.

    Of one URL the longest text stays, of one text the most specific page, of near copies the
    longest, of an entry the copy on the most specific page.
    """
    sizes = [np.load(work.keys("pages", part))["entry_counts"] for part in work.parts("pages")]
    if not sizes:
        raise BadInput("the sources hold no records: give WARC files with pages in them")
    copies = on_disk(work.decision("copies"), np.uint8, sum(map(len, sizes)))
    for code, key in ((URL_COPY, "url"), (EXACT_COPY, "text")):
        with KeyFiles(work.folder / "keys", len(copies)) as files:
            for rows in page_rows(work, key, copies):
                files.add(rows)
            for rows in files:
                copies[copies_in(rows)] = code
    copies[near_pages(work, copies == KEPT, near_threshold)] = NEAR_COPY
    copies.flush()
    entries = on_disk(work.decision("entries"), np.bool_, sum(int(s.sum()) for s in sizes))
    with KeyFiles(work.folder / "keys", len(entries)) as files:
        for rows in entry_rows(work, copies):
            files.add(rows)
        for rows in files:
            entries[first_entries(rows)] = True
    entries.flush()


def on_disk(path: Path, dtype: type, size: int) -> np.ndarray:
    """A new array of zeros, in a file; .npy."""
    return np.lib.format.open_memmap(path, "w+", dtype, (size,))


def page_rows(work: WorkFiles, key: str, copies: np.ndarray) -> Iterator[np.ndarray]:
    """A ROW for each page that no earlier decision dropped, part by part.

    Ties go by how specific a page is, then by the hash of its URL: the order of the input decides
    nothing.
    """
    start = 0
    for part in work.parts("pages"):
        arrays = np.load(work.keys("pages", part))
        use = np.flatnonzero(copies[start:start + len(arrays["url"])] == KEPT)
        rows = np.empty(len(use), ROW)
        rows["key"], rows["number"] = arrays[key][use], use + start
        rows["first"] = -arrays["length"][use] if key == "url" else 0
        for name in ("specific", "address"):
            rows[name] = arrays[name][use]
        yield rows
        start += len(arrays["url"])


def copies_in(rows: np.ndarray) -> np.ndarray:
    """The numbers of the pages that share their key with a better one."""
    better = list(zip(rows["first"].tolist(), rows["specific"].tolist(), rows["address"].tolist(),
                      rows["number"].tolist()))
    copy = np.ones(len(rows), bool)
    copy[keep_best(rows["key"].tolist(), better)] = False
    return rows["number"][copy]


def entry_rows(work: WorkFiles, copies: np.ndarray) -> Iterator[np.ndarray]:
    """A ROW for each entry of the pages that are kept, part by part."""
    page = entry = 0
    for part in work.parts("pages"):
        arrays = np.load(work.keys("pages", part))
        owner = np.repeat(np.arange(len(arrays["url"])), arrays["entry_counts"])
        use = np.flatnonzero(copies[page + owner] == KEPT)
        rows = np.zeros(len(use), ROW)
        rows["key"], rows["number"] = arrays["entries"][use], use + entry
        for name in ("specific", "address"):
            rows[name] = arrays[name][owner[use]]
        yield rows
        page, entry = page + len(arrays["url"]), entry + len(owner)


def first_entries(rows: np.ndarray) -> np.ndarray:
    """The numbers of the entries that stay: of each key the best one; of key 0 (no words) all."""
    rows = rows[np.lexsort((rows["number"], rows["address"], rows["specific"], rows["key"]))]
    first = np.diff(rows["key"], prepend=~rows["key"][:1]) != 0
    return rows["number"][first | (rows["key"] == 0)]


def decide_quality(work: WorkFiles, near_threshold: float, model: Path | None,
                   evaluation: list[Path]) -> None:
    """Near-copy entries over all parts, token profile, quality model, evaluation n-grams."""
    parts = work.parts("unique")
    near = on_disk(work.decision("near"), np.bool_,
                   sum(len(np.load(work.keys("unique", part))["length"]) for part in parts))
    near[near_entries(work, len(near), near_threshold)] = True
    near.flush()
    kept = sum(work.counted("unique", part)["repeated entries"]["pages"] for part in parts)
    sample = sample_pages([work.texts("unique", part) for part in parts], SAMPLE / max(kept, 1))
    np.save(work.decision("profile"), count_words(page["text"] for page in sample))
    quality = HashedLinear.load(model) if model else default_quality(sample)
    if quality:
        quality.save(work.decision("quality"))
    np.save(work.decision("evaluation"), evaluation_ngrams(load_evaluation(evaluation)))


def sample_pages(paths: list[Path], share: float) -> list[dict]:
    """About `share` of the pages, chosen by a hash of the URL: the same in each run."""
    return [page for path in paths for page in read_pages(path)
            if digest64(page["url"]) < share * 2**64]


def default_quality(pages: list[dict]) -> HashedLinear | None:
    """The quality model trained on these pages' own weak labels; None if they give too few."""
    positives, negatives = default_examples(
        page["text"] for page in pages if page["rules"] == "documentation")
    if min(len(positives), len(negatives)) < 20:
        return None
    return train_quality(positives, negatives)
