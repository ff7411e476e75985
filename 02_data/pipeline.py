"""The pipeline as one list: what happens to a page, in order, what is dropped, and why.

    python 02_data/pipeline.py          # prints the list as the lesson's table

Everything else follows from PIPELINE: `run_steps` sends a page through the steps of one pass, the
funnel shows every step by its name, and the README's table is this list. A step is a function of a
page and of what is known: (page, known) -> None if the page goes on, or the reason why not.
"""

import time
from dataclasses import dataclass
from typing import Any, Callable

import corpus_steps as corpus
import page_steps as pages

REJECTS_PER_REASON = 5        # samples per part and reason kept for the reader


@dataclass(frozen=True)
class Step:
    """One step: its name, the pass that runs it, its function, what it drops, and the reason."""
    name: str
    stage: str                 # "pages": a page alone; "unique", "final": with all pages known
    drops: str
    why: str
    run: Callable[[dict, Any], str | None] | None = None      # None: counted by its pass


PIPELINE = (
    Step("read", "pages", "nothing", "every record of every source is counted"),
    Step("page type", "pages", "pictures, PDFs, errors, damaged records",
         "only HTML and plain text hold text", pages.is_page),
    Step("address", "pages", "blocked hosts, indecent words in the address",
         "cheapest: nothing has been parsed yet", pages.address),
    Step("extract", "pages", "menus, scripts, pages without a story",
         "half of a page's text is the site's, not the author's", pages.extract),
    Step("rule set", "pages", "nothing", "prose and documentation need different rules",
         pages.choose_rules),
    Step("language", "pages", "other languages, and doubtful ones",
         "each rule after this one was made for a language", pages.language),
    Step("page repeats", "pages", "entries that a page shows twice",
         "a class listed under two names says nothing about quality", pages.page_repeats),
    Step("personal data", "pages", "addresses (masked), directories of people",
         "a model learns by heart what it reads often", pages.personal_data),
    Step("safety", "pages", "pornography (NSFW, \"not safe for work\") and harmful pages",
         "nobody should learn from them",
         pages.safety),
    Step("repetition", "pages", "pages that repeat lines or phrases",
         "a loop of one sentence teaches loops", pages.repetition),
    Step("quality rules", "pages", "too short, too few words that are words, no stop words",
         "lists, tables and debris look unlike prose", pages.quality_rules),
    Step("line rules", "pages", "notices, braces, pages of short lines",
         "what a browser says is not what an author wrote", pages.line_rules),
    Step("repeated lines", "pages", "lines seen before in the same part (off by default)",
         "CCNet's way with menus that extraction left"),
    Step("URL copies", "unique", "the same address again", "a crawl meets a page many times",
         corpus.url_copies),
    Step("exact copies", "unique", "the same text again", "mirrors", corpus.exact_copies),
    Step("near copies", "unique", "nearly the same text again",
         "what is read ten times is learned by heart", corpus.near_page_copies),
    Step("repeated entries", "unique", "paragraphs and definitions that another page has",
         "the largest part of documentation is inherited", corpus.repeated_entries),
    Step("near-copy entries", "final", "nearly the same entries", "sister classes",
         corpus.near_entry_copies),
    Step("outlier tokens", "final", "pages whose words are nobody else's",
         "number lists and dumps waste a model's time", corpus.outlier_tokens),
    Step("quality", "final", "what no encyclopaedia would cite",
         "a model finds what rules cannot say", corpus.quality),
    Step("evaluation overlap", "final", "pages that quote an exam",
         "who has seen the exam has not learned the subject", corpus.evaluation_overlap),
    Step("shards", "final", "nothing", "tokens, in two splits without twins"),
)


def new_count() -> dict:
    """Counters of one step for one part."""
    return {"pages": 0, "bytes": 0, "rejected": 0, "seconds": 0.0, "reasons": {}, "samples": []}


def run_steps(page: dict, stage: str, known: Any, counters: dict) -> bool:
    """Send one page through the steps of one pass, counting in `counters`; True if it survives.

    counters[step] = {pages, bytes, rejected, seconds, reasons, samples}: what LEFT the step, why
    pages did not, and CPU seconds. An unexpected error rejects this page alone and is counted.
    """
    for step in PIPELINE:
        if step.stage != stage or step.run is None:
            continue
        count = counters.setdefault(step.name, new_count())
        start, before = time.process_time(), page.get("text", "")
        try:
            reason = step.run(page, known)
        except Exception as error:  # one strange page must not end a run over millions
            reason = f"error {type(error).__name__}: {error}"[:200]
        count["seconds"] += time.process_time() - start
        if reason is not None:
            reject(count, page["url"], reason, before or page.get("text", ""))
            return False
        count["pages"] += 1
        count["bytes"] += size_of(page)
    return True


def reject(count: dict, url: str, reason: str, text: str) -> None:
    """Count a rejected page under its reason without the numbers; keep a few to look at.

    "words: 3 is under 50" is counted as "words".
    """
    kind = reason.split(": ")[0]
    seen = count["reasons"].get(kind, 0)
    count["reasons"][kind] = seen + 1
    count["rejected"] += 1
    if seen < REJECTS_PER_REASON:
        count["samples"].append({"url": url, "reason": reason, "text": text[:500]})


def size_of(page: dict) -> int:
    """Bytes of the page's text, or of its raw body before extraction."""
    return len(page["text"].encode("utf-8", "replace")) if "text" in page else len(page["body"])


def table() -> str:
    """PIPELINE as a table in Markdown."""
    rows = [f"| {i} | {step.name} | {step.drops} | {step.why} |"
            for i, step in enumerate(PIPELINE, 1)]
    return "\n".join(["| | step | what is dropped | why |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
