"""Outlier tokens: pages whose words are nobody else's.

    profile = TokenProfile.from_texts(sample)      # how often each word occurs in the corpus
    profile.divergence(text)                       # nats; lists of numbers and hex dumps are high

Llama 3's report names the rule without numbers. Ours: the Kullback-Leibler divergence of the
page's word distribution from the corpus', which says how many nats per word a coder of the corpus
would waste on the page. A short page diverges by chance, so pages are compared at equal length, a
few hundred words. Left out: the n-gram coverage ratio of the same report.
"""

from typing import Iterable

import numpy as np

from shingles import normalise_text, word_hashes

BITS = 16                # words are hashed into 65,536 counts
WORDS_COMPARED = 400     # of each page, spread over it


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
