"""Would an encyclopaedia cite this page? A hashed linear classifier gives the probability.

    model = train_quality(positives, negatives)      # two lists of texts
    model.score(text)                                # probability of being like the positives

The papers' positives are pages that Wikipedia cites (LLaMA), their negatives random crawl. Without
such lists `default_examples` takes both from the corpus itself: entries that a person documented at
length, against generated stubs packed to the same length. That default knows documentation only: it
is used to filter documentation, and for web pages its score is merely noted. Give other examples to
`python 02_data/train_classifier.py quality` and the model to `build_corpus --quality-model`.
"""

from typing import Iterable

import numpy as np

from dedup import entries_of, is_signature
from hashed_linear import HashedLinear, fit

LABELS = ("wiki", "cc")


def train_quality(positives: list[str], negatives: list[str]) -> HashedLinear:
    """A model whose `.score(text)` is the probability that `text` is like the positives."""
    return fit(list(positives), list(negatives), labels=LABELS)


def default_examples(texts: Iterable[str], each: int = 1500,
                     seed: int = 0) -> tuple[list[str], list[str]]:
    """Weak labels from documentation: (hand-written entries, packed stubs), `each` at most.

    Hand-written: an entry of 40 words or more, without its signature. Stub: a signature with under
    6 words about it. A heading, an item or a short paragraph is no stub: it has no signature. As a
    stub is short, 12 of them make one example, so that length alone does not tell.
    """
    written, stubs = [], []
    for text in texts:
        for entry in entries_of(text):
            first, _, below = entry.strip().partition("\n")
            defines = is_signature(first)
            words = len((below if defines else entry).split())
            if words >= 40:
                written.append(entry[:2000])
            elif words < 6 and defines:
                stubs.append(entry.strip())
    random = np.random.default_rng(seed)
    stubs = [stubs[i] for i in random.permutation(len(stubs))[:12 * each]]
    packed = ["\n".join(stubs[i:i + 12]) for i in range(0, len(stubs), 12)]
    return [written[i] for i in random.permutation(len(written))[:each]], packed


def keep_rate(scores: np.ndarray, y: np.ndarray) -> list[tuple[float, float, float]]:
    """(threshold, share of positives kept, share of negatives kept) for thresholds 0 to 1."""
    scores, y = np.asarray(scores), np.asarray(y).astype(bool)
    return [(t / 20, float((scores[y] >= t / 20).mean()), float((scores[~y] >= t / 20).mean()))
            for t in range(21)]
