"""Outlier tokens and dirty tokens: pages whose words are nobody else's, or nobody's to print.

    profile = TokenProfile.from_texts(sample)      # how often each word occurs in the corpus
    profile.divergence(text)                       # nats; lists of numbers and hex dumps are high

Llama 3's report names both rules without numbers. Ours: the Kullback-Leibler divergence of the
page's word distribution from the corpus', which says how many nats per word a coder of the corpus
would waste on the page. A short page diverges by chance, so pages are compared at equal length, a
few hundred words. Left out: the n-gram coverage ratio of the same report.
"""

import re
from pathlib import Path
from typing import Iterable

import numpy as np

from artifacts import need
from shingles import normalise_text, word_hashes

BITS = 16                # words are hashed into 65,536 counts
WORDS_COMPARED = 400     # of each page, spread over it
DIRTY_WORDS = frozenset("fuck fucking fucked cunt pussy cock dick tits slut whore blowjob porn "
                        "porno milf bitch retard cumshot dildo xxx".split())


class TokenProfile:
    """Smoothed word frequencies of a corpus, hashed; `divergence` compares a page with them."""

    def __init__(self, counts: np.ndarray):
        counts = np.asarray(counts, float)
        # at most half a count for every slot: a word never seen is rare, not impossible; in a
        # small corpus less, so that this guess does not outweigh what was counted
        smoothed = counts + min(0.5, 0.1 * counts.sum() / len(counts)) + 1e-9
        self.log_q = np.log(smoothed / smoothed.sum())

    @staticmethod
    def from_texts(texts: Iterable[str]) -> "TokenProfile":
        """The profile of a sample of the corpus."""
        return TokenProfile(count_words(texts))

    def divergence(self, text: str) -> float:
        """KL(page || corpus) = sum over words of p log(p / q), in nats; 0 for a text without words.

        p is the page's distribution over the word slots of up to WORDS_COMPARED of its words.
        """
        slots = word_slots(text)
        if not len(slots):
            return 0.0
        # the same number of words from every long page, evenly spread
        if len(slots) > WORDS_COMPARED:
            slots = slots[np.linspace(0, len(slots) - 1, WORDS_COMPARED).astype(int)]
        used, counts = np.unique(slots, return_counts=True)
        p = counts / counts.sum()
        return float((p * (np.log(p) - self.log_q[used])).sum())


def count_words(texts: Iterable[str]) -> np.ndarray:
    """How often each slot's words occur in the texts: (2^BITS,) int64."""
    counts = np.zeros(2**BITS, np.int64)
    for text in texts:
        counts += np.bincount(word_slots(text), minlength=2**BITS)
    return counts


def word_slots(text: str) -> np.ndarray:
    """The slot below 2^BITS of every word of `text`, in order."""
    hashes = word_hashes(normalise_text(text))[0]
    return (hashes >> np.uint64(64 - BITS)).astype(np.int64)


def load_words(paths: list[Path]) -> frozenset[str]:
    """DIRTY_WORDS and the words of text files, one per line; phrases of several words are no words.

    The lists that are handed round (LDNOOBW's, for one) have this form.
    """
    words = set(DIRTY_WORDS)
    for path in paths:
        lines = need(path, "any list of one word per line").read_text("utf-8", "replace").lower()
        words |= {line.strip() for line in lines.splitlines() if line.strip().isalpha()}
    return frozenset(words)


def dirty_tokens(text: str, words: frozenset[str] = DIRTY_WORDS,
                 bound: float = 0.002) -> str | None:
    """None if at most two words, or at most `bound` of them (2 in 1,000), are in `words`.

    C4 drops a page for one such word, and with it every page about Dick Whittington; a share with a
    bound, and three words at least, forgive a quotation and find the page that is made of them.
    """
    found = re.findall(r"[^\W\d_]+", text.lower())
    dirty = sum(1 for word in found if word in words)
    share = dirty / max(len(found), 1)
    return f"dirty tokens: {share:.4g} is over {bound:g}" if dirty > 2 and share > bound else None
