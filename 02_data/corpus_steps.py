"""The steps that need all pages: which copies stay, which entries, which near copies, what is good.

Between passes only small arrays travel (a few 8-byte hashes per page and entry); texts stay in part
files, and every pass reads and writes one part at a time. The `decide_...` functions look at the
arrays of all parts (those for near copies are in near_copies.py); `unique_part` and `score_part`
carry the decisions out, one part per task, on any process of any machine.
"""

import json
import time
from pathlib import Path

import numpy as np

from artifacts import whole, write_json
from decontaminate import contaminated
from dedup import digest64, entries_of, first_copies
from domains import classify_domain
from hashed_linear import HashedLinear
from near_copies import band_columns
from outliers import TokenProfile
from page_steps import PAGE_STEPS, REJECTS_PER_REASON, page_keys, run_page_steps, sample
from parts import name_of, read_pages, write_pages
from quality import default_examples, train_quality
from writing_systems import words_of

LONG_ENTRY = 100              # characters; shorter entries share words by chance
COPY_KEYS = ("url", "text", "length", "address", "specific", "entries", "entry_counts")
KEPT, URL_COPY, EXACT_COPY, NEAR_COPY = 0, 1, 2, 3
COPY_STEPS = {"URL copies": "the same address as a longer page",
              "exact copies": "the same text as another page",
              "near copies": "near copy of a longer page"}
# The pipeline in the order in which a page meets it; the funnel shows it so.
STEP_NAMES = ("read", *(name for name, _ in PAGE_STEPS), *COPY_STEPS, "repeated entries",
              "near-copy entries", "outlier tokens", "quality", "evaluation overlap")


def new_count() -> dict:
    """Counters of one step for one part."""
    return {"pages": 0, "bytes": 0, "rejected": 0, "seconds": 0.0, "reasons": {}, "samples": []}


def reject(count: dict, page: dict, reason: str) -> None:
    """Count one rejected page under the kind of its reason, and keep a few to look at."""
    kind = reason.split(": ")[0]
    seen = count["reasons"].get(kind, 0)
    count["reasons"][kind] = seen + 1
    count["rejected"] += 1
    if seen < REJECTS_PER_REASON:
        count["samples"].append(sample(page["url"], reason, page["text"]))


def accept(count: dict, text: str) -> None:
    """Count one page that goes on."""
    count["pages"] += 1
    count["bytes"] += len(text.encode("utf-8"))


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays whole; the same bytes each time."""
    with whole(path, "wb") as file:
        np.savez(file, **arrays)


def load_arrays(paths: list[Path], keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of these names of all parts, one part after the other."""
    parts = [np.load(path) for path in paths]
    return {key: np.concatenate([part[key] for part in parts]) for key in keys}


def read_part(task: tuple) -> Path:
    """Pass 1: the records of one part through all page steps; returns the stats file, made last."""
    source, part, items, work, settings = task
    counters: dict = {"read": new_count()}
    pages = []
    for kind, url, body, charset in items:
        counters["read"]["pages"] += 1
        counters["read"]["bytes"] += len(body)
        page = {"url": url, "kind": kind, "body": body, "charset": charset}
        if run_page_steps(page, settings, counters):
            del page["body"], page["kind"], page["charset"]
            pages.append(page)
    name = name_of(source, part)
    write_pages(work / "pages" / f"{name}.jsonl.gz", pages)
    start = time.process_time()
    bands = band_columns([page["text"] for page in pages])
    counters["near copies"] = dict(new_count(), seconds=time.process_time() - start)
    save_arrays(work / "pages" / f"{name}.npz", **page_keys(pages), **bands)
    return write_json(work / "pages" / f"{name}.json", counters)


def most_specific_first(keys: dict[str, np.ndarray]) -> np.ndarray:
    """The rank of each page, (D,), 0 for the most specific (see page_steps.specific); no ties.

    Ties go by the hash of the URL: the order of the input decides nothing.
    """
    place = np.lexsort((keys["address"], keys["specific"]))
    rank = np.empty(len(place), np.int64)
    rank[place] = np.arange(len(place))
    return rank


def decide_copies(keys: dict[str, np.ndarray]) -> np.ndarray:
    """Which pages are copies: (D,) of KEPT, URL_COPY, EXACT_COPY.

    Of one URL the longest text stays, of one text the most specific page.
    """
    rank = most_specific_first(keys)
    drop = np.zeros(len(rank), np.uint8)
    for code, key, first in ((URL_COPY, "url", -keys["length"]), (EXACT_COPY, "text", rank)):
        alive = np.flatnonzero(drop == KEPT)
        rows = alive[np.lexsort((rank[alive], first[alive], keys[key][alive]))]
        same = keys[key][rows[1:]] == keys[key][rows[:-1]]
        drop[rows[1:][same]] = code
    return drop


def decide_entries(keys: dict[str, np.ndarray], drop: np.ndarray) -> np.ndarray:
    """Which entries of the kept pages stay, (E,) bool: each on the most specific page with it."""
    rank = most_specific_first(keys)
    owner = np.repeat(np.arange(len(rank)), keys["entry_counts"])
    mine = np.flatnonzero(drop[owner] == KEPT)
    mine = mine[np.argsort(rank[owner[mine]], kind="stable")]
    keep = np.zeros(len(owner), bool)
    keep[mine] = first_copies(keys["entries"][mine])
    return keep


def unique_part(task: tuple) -> Path:
    """Pass 2: copies and repeated entries of one part out, then band keys of its long entries."""
    name, work, first_page, first_entry, settings = task
    drop = np.load(work / "drop.npy", mmap_mode="r")
    keep = np.load(work / "keep.npy", mmap_mode="r")
    counters = {step: new_count() for step in (*COPY_STEPS, "repeated entries")}
    start, kept = time.process_time(), []
    for i, page in enumerate(read_pages(work / "pages" / f"{name}.jsonl.gz")):
        entries = entries_of(page["text"])
        mine = keep[first_entry:first_entry + len(entries)]
        first_entry += len(entries)
        code = int(drop[first_page + i])
        for step, (name_of_copy, reason) in enumerate(COPY_STEPS.items(), 1):
            if code == step:
                reject(counters[name_of_copy], page, reason)
                break
            accept(counters[name_of_copy], page["text"])
        if code != KEPT:
            continue
        text = "".join(e for e, k in zip(entries, mine) if k).strip("\n")
        if (count := len(words_of(text))) < settings.min_words:
            reject(counters["repeated entries"], page,
                   f"little new: {count} words are under {settings.min_words}")
            continue
        kept.append(page | {"text": text, "number": first_page + i})
        accept(counters["repeated entries"], text)
    counters["repeated entries"]["seconds"] = time.process_time() - start
    start = time.process_time()
    long = [(i, j, entry) for i, page in enumerate(kept)
            for j, entry in enumerate(entries_of(page["text"])) if len(entry) >= LONG_ENTRY]
    arrays = {**band_columns([entry for _, _, entry in long]),
              "owner": np.array([i for i, _, _ in long], np.int64),
              "number": np.array([j for _, j, _ in long], np.int64)}
    counters["near-copy entries"] = dict(new_count(), seconds=time.process_time() - start)
    write_pages(work / "unique" / f"{name}.jsonl.gz", kept)
    save_arrays(work / "unique" / f"{name}.npz", **arrays)
    return write_json(work / "unique" / f"{name}.json", counters | {"kept": len(kept)})


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


def score_part(task: tuple) -> Path:
    """Pass 3: near-copy entries out; quality, evaluation overlap and domain of what is left."""
    name, work, first_entry, settings = task
    mine = np.load(work / "unique" / f"{name}.npz")
    gone = np.load(work / "near.npy", mmap_mode="r")[first_entry:first_entry + len(mine["owner"])]
    cut = set(zip(mine["owner"][gone].tolist(), mine["number"][gone].tolist()))
    seen = np.load(work / "evaluation.npy", mmap_mode="r")
    model = HashedLinear.load(work / "quality.npz") if (work / "quality.npz").exists() else None
    profile = TokenProfile(np.load(work / "profile.npy"))
    counters = {s: new_count() for s in STEP_NAMES[-4:]}
    kept = []
    for i, page in enumerate(read_pages(work / "unique" / f"{name}.jsonl.gz")):
        page["text"] = "".join(e for j, e in enumerate(entries_of(page["text"]))
                               if (i, j) not in cut).strip("\n")
        if len(words_of(page["text"])) < settings.min_words:
            reject(counters["near-copy entries"], page, "nothing but near copies of other entries")
            continue
        accept(counters["near-copy entries"], page["text"])
        if (wasted := profile.divergence(page["text"])) > settings.max_divergence:
            reject(counters["outlier tokens"], page,
                   f"outlier tokens: {wasted:.2f} nats are over {settings.max_divergence:g}")
            continue
        accept(counters["outlier tokens"], page["text"])
        start = time.process_time()
        page["quality"] = round(model.score(page["text"]), 4) if model else 0.5
        counters["quality"]["seconds"] += time.process_time() - start
        if settings.judges(page) and page["quality"] < settings.min_quality:
            reject(counters["quality"], page,
                   f"quality: {page['quality']:.3f} is under {settings.min_quality:g}")
            continue
        accept(counters["quality"], page["text"])
        shared = contaminated(page["text"], seen)
        if shared > settings.max_overlap:
            reject(counters["evaluation overlap"], page, f"shared 13-grams: {shared}")
            continue
        accept(counters["evaluation overlap"], page["text"])
        kept.append(page | {"domain": classify_domain(page["text"])})
    write_pages(work / "final" / f"{name}.jsonl.gz", kept)
    return write_json(work / "final" / f"{name}.json", counters)


def read_counters(path: Path) -> dict:
    """What one part counted."""
    return json.loads(path.read_text(encoding="utf-8"))
