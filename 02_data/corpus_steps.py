"""The steps that need to know of all pages: copies, repeated entries, outliers, quality, overlap.

Each is a function (page, known) -> None if the page goes on, or the reason why not, as in
page_steps.py; `known` holds what rank 0 found out (decisions.py). A page has a number over all
pages, and `first_entry`, the number of its first entry over all entries.
"""

from dataclasses import dataclass

import numpy as np

from decontaminate import contaminated
from dedup import entries_of
from hashed_linear import HashedLinear
from outliers import TokenProfile
from page_steps import Settings
from work_files import WorkFiles
from writing_systems import words_of

KEPT, URL_COPY, EXACT_COPY, NEAR_COPY = 0, 1, 2, 3


@dataclass(frozen=True)
class Known:
    """The decisions that one pass needs, read from the work folder; arrays stay on the disk."""
    settings: Settings
    copies: np.ndarray | None = None           # (D,) KEPT, URL_COPY ...
    entries: np.ndarray | None = None          # (E,) does this entry stay?
    near: np.ndarray | None = None             # (L,) is this long entry a near copy?
    profile: TokenProfile | None = None
    quality: HashedLinear | None = None
    evaluation: np.ndarray | None = None       # sorted 13-grams of evaluation sets

    @staticmethod
    def about_copies(work: WorkFiles, settings: Settings) -> "Known":
        """What pass 2 needs."""
        copies, entries = (np.load(work.decision(name), mmap_mode="r")
                           for name in ("copies", "entries"))
        return Known(settings, copies=copies, entries=entries)

    @staticmethod
    def about_quality(work: WorkFiles, settings: Settings) -> "Known":
        """What pass 3 needs."""
        model = work.decision("quality")
        return Known(settings, near=np.load(work.decision("near"), mmap_mode="r"),
                     profile=TokenProfile(np.load(work.decision("profile"))),
                     quality=HashedLinear.load(model) if model.exists() else None,
                     evaluation=np.load(work.decision("evaluation"), mmap_mode="r"))


def url_copies(page: dict, known: Known) -> str | None:
    """Of one address the longest text stays."""
    return "the same address as a longer page" \
        if known.copies[page["number"]] == URL_COPY else None


def exact_copies(page: dict, known: Known) -> str | None:
    """Of one text the most specific page stays."""
    return "the same text as another page" if known.copies[page["number"]] == EXACT_COPY else None


def near_page_copies(page: dict, known: Known) -> str | None:
    """Of near copies the longest stays."""
    return "near copy of a longer page" if known.copies[page["number"]] == NEAR_COPY else None


def repeated_entries(page: dict, known: Known) -> str | None:
    """Entries that a more specific page has are cut; a page with little left goes."""
    entries = entries_of(page["text"])
    mine = known.entries[page["first_entry"]:page["first_entry"] + len(entries)]
    page["text"] = "".join(e for e, stays in zip(entries, mine) if stays).strip("\n")
    count, least = len(words_of(page["text"])), known.settings.min_words
    return f"little new: {count} words are under {least}" if count < least else None


def near_entry_copies(page: dict, known: Known) -> str | None:
    """Long entries that are near copies of longer ones are cut; `long_entries` numbers them."""
    cut = {place for place, number in page["long_entries"] if known.near[number]}
    if cut:
        page["text"] = "".join(e for j, e in enumerate(entries_of(page["text"]))
                               if j not in cut).strip("\n")
    return "nothing but near copies of other entries" \
        if len(words_of(page["text"])) < known.settings.min_words else None


def outlier_tokens(page: dict, known: Known) -> str | None:
    """Pages whose words are nobody else's: number lists, dumps."""
    wasted, most = known.profile.divergence(page["text"]), known.settings.max_divergence
    return f"outlier tokens: {wasted:.2f} nats are over {most:g}" if wasted > most else None


def quality(page: dict, known: Known) -> str | None:
    """Would an encyclopaedia cite it? The score is noted, and filters what its model is for."""
    page["quality"] = round(known.quality.score(page["text"]), 4) if known.quality else 0.5
    if known.settings.judges(page) and page["quality"] < known.settings.min_quality:
        return f"quality: {page['quality']:.3f} is under {known.settings.min_quality:g}"
    return None


def evaluation_overlap(page: dict, known: Known) -> str | None:
    """Pages that quote an exam."""
    shared = contaminated(page["text"], known.evaluation)
    return f"shared 13-grams: {shared}" if shared > known.settings.max_overlap else None
