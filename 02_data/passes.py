"""The three passes over the part files: what one worker does with one part.

    read_part      records -> page steps -> pages, and their keys
    unique_part    pages -> copies out -> pages, and the keys of their long entries
    score_part     pages -> near-copy entries out, scored, with a domain

Between passes only small arrays travel (a few 8-byte hashes per page and entry); texts stay in part
files. Rank 0 looks at the arrays of all parts in decisions.py. A part's counters are written last.
"""

import time
from pathlib import Path

import numpy as np

from artifacts import write_json
from corpus_steps import Known
from dedup import dedup_lines, digest64, entries_of
from domains import classify_domain
from near_copies import band_columns
from page_steps import Settings, page_keys
from parts import read_pages, write_pages
from pipeline import PIPELINE, new_count, reject, run_steps, size_of
from work_files import WorkFiles, save_arrays

LONG_ENTRY = 100              # characters; shorter entries share words by chance


def counters_of(stage: str) -> dict:
    """Empty counters for the steps of one pass."""
    return {step.name: new_count() for step in PIPELINE
            if step.stage == stage and step.name != "shards"}


def read_part(task: tuple[WorkFiles, str, list, Settings]) -> Path:
    """Pass 1: the records of one part through all page steps; returns the file made last."""
    work, part, records, settings = task
    counters = counters_of("pages")
    pages = []
    for kind, url, body, charset in records:
        counters["read"]["pages"] += 1
        counters["read"]["bytes"] += len(body)
        page = {"url": url, "kind": kind, "body": body, "charset": charset}
        if run_steps(page, "pages", settings, counters):
            del page["body"], page["kind"], page["charset"]
            pages.append(page)
    pages = without_repeated_lines(pages, settings, counters["repeated lines"])
    write_pages(work.texts("pages", part), pages)
    start = time.process_time()
    bands = band_columns([page["text"] for page in pages])
    counters["near copies"] = dict(new_count(), seconds=time.process_time() - start)
    save_arrays(work.keys("pages", part), **page_keys(pages), **bands)
    return write_json(work.counts("pages", part), counters)


def without_repeated_lines(pages: list[dict], settings: Settings, count: dict) -> list[dict]:
    """The pages of one part without lines that repeat in it, if that is asked for."""
    if settings.repeated_lines != "keep":
        web = [page for page in pages if page["rules"] == "web"]
        texts = dedup_lines([page["text"] for page in web], settings.repeated_lines)
        for page, text in zip(web, texts):
            page["text"] = text.strip("\n")
    kept = []
    for page in pages:
        if page["text"].strip():
            count["pages"], count["bytes"] = count["pages"] + 1, count["bytes"] + size_of(page)
            kept.append(page)
        else:
            reject(count, page["url"], "nothing but repeated lines", "")
    return kept


def unique_part(task: tuple[WorkFiles, str, int, int, Settings]) -> Path:
    """Pass 2: copies and repeated entries of one part out, then band keys of its long entries.

    The part's first page and first entry have these numbers over all parts.
    """
    work, part, first_page, first_entry, settings = task
    known, counters, kept = Known.about_copies(work, settings), counters_of("unique"), []
    sizes = np.load(work.keys("pages", part))["entry_counts"]
    starts = first_entry + np.cumsum(sizes) - sizes
    for i, page in enumerate(read_pages(work.texts("pages", part))):
        page |= {"number": first_page + i, "first_entry": int(starts[i])}
        if run_steps(page, "unique", known, counters):
            del page["first_entry"]
            kept.append(page)
    start = time.process_time()
    long = [(i, j, entry) for i, page in enumerate(kept)
            for j, entry in enumerate(entries_of(page["text"])) if len(entry) >= LONG_ENTRY]
    arrays = {**band_columns([entry for _, _, entry in long]),
              "owner": np.array([i for i, _, _ in long], np.int64),
              "number": np.array([j for _, j, _ in long], np.int64),
              "length": np.array([len(entry) for _, _, entry in long], np.int64),
              "text": np.array([digest64(entry) for _, _, entry in long], np.uint64)}
    counters["near-copy entries"] = dict(new_count(), seconds=time.process_time() - start)
    write_pages(work.texts("unique", part), kept)
    save_arrays(work.keys("unique", part), **arrays)
    return write_json(work.counts("unique", part), counters)


def score_part(task: tuple[WorkFiles, str, int, Settings]) -> Path:
    """Pass 3: near-copy entries out; quality, evaluation overlap and domain of what is left.

    The part's first long entry has this number over all parts.
    """
    work, part, first_long, settings = task
    known, counters, kept = Known.about_quality(work, settings), counters_of("final"), []
    arrays = np.load(work.keys("unique", part))
    of_page: dict[int, list[tuple[int, int]]] = {}
    for k, (page, place) in enumerate(zip(arrays["owner"].tolist(), arrays["number"].tolist())):
        of_page.setdefault(page, []).append((place, first_long + k))
    for i, page in enumerate(read_pages(work.texts("unique", part))):
        page["long_entries"] = of_page.get(i, [])
        if run_steps(page, "final", known, counters):
            del page["long_entries"]
            kept.append(page | {"domain": classify_domain(page["text"])})
    write_pages(work.texts("final", part), kept)
    return write_json(work.counts("final", part), counters)
