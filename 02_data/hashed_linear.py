"""Logistic regression on hashed words and word pairs: the whole model is one array of weights.

    model = fit(["good text", ...], ["bad text", ...])
    model.score("some text")                           # P(good), between 0 and 1

Used three times: quality.py (would an encyclopaedia cite it?) and safety.py (NSFW, harmful). No
vocabulary is stored: a word's hash says which weight is its own, and collisions share one (with
2^18 weights and 20,000 features about 4 % of them). The loss is convex, so there is one answer, and
L-BFGS finds it the same way every time.

Left out: subword features (fastText has them), more than two classes.
"""

import functools
from pathlib import Path

import numpy as np

from artifacts import BadInput, shown, whole
from shingles import ngram_hashes, normalise_text, word_hashes

BITS = 18
WORDS_READ = 3000     # of a page; the rest cannot change its mind


@functools.lru_cache(2)          # several models read the same page one after the other
def features(text: str, bits: int = BITS) -> np.ndarray:
    """Which weights a text switches on: sorted distinct ids below 2^bits, one per word and pair.

    Presence, not counts: a page that says "free" a hundred times is one page that says "free".
    """
    words = word_hashes(normalise_text(text[:WORDS_READ * 8]))[0][:WORDS_READ]
    both = np.concatenate([words, ngram_hashes(words, 2)])
    return np.unique(both >> np.uint64(64 - bits)).astype(np.int64)


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z) without overflow for large |z|: sigmoid(0) = 0.5, sigmoid(-1000) = 0."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


class HashedLinear:
    """w (2^bits,) and a bias: P(positive | text) = sigmoid(bias + sum of w[features] / sqrt(n))."""

    def __init__(self, weights: np.ndarray, bias: float, labels: tuple[str, str] = ("1", "0")):
        self.weights, self.bias, self.labels = weights.astype(np.float32), float(bias), labels
        self.bits = int(len(weights)).bit_length() - 1

    def score(self, text: str) -> float:
        """The probability that `text` is of the positive kind; the bias alone for an empty text."""
        ids = features(text, self.bits)
        total = float(self.weights[ids].sum(dtype=np.float64)) / max(len(ids), 1) ** 0.5
        return float(sigmoid(np.array(total + self.bias)))

    def score_many(self, texts: list[str]) -> np.ndarray:
        """`score` of several short texts at once, (len(texts),): one pass of numpy for a page."""
        pieces = [normalise_text(text) for text in texts]
        words, starts = word_hashes(b" ".join(pieces))
        owner = np.searchsorted(np.cumsum([len(p) + 1 for p in pieces]), starts, side="right")
        inside = owner[1:] == owner[:-1]            # no pair across two texts
        both = np.concatenate([words, ngram_hashes(words, 2)[inside]])
        owner = np.concatenate([owner, owner[1:][inside]]).astype(np.uint64)
        # each feature once a text, as in `features`
        keys = np.unique(owner << np.uint64(self.bits) | both >> np.uint64(64 - self.bits))
        owner = (keys >> np.uint64(self.bits)).astype(np.int64)
        weights = self.weights[(keys & np.uint64(2**self.bits - 1)).astype(np.int64)]
        total = np.bincount(owner, weights, len(texts))
        count = np.maximum(np.bincount(owner, minlength=len(texts)), 1)
        return sigmoid(total / np.sqrt(count) + self.bias)

    def save(self, path: Path) -> Path:
        """Write the model as .npz: only the weights that are not zero."""
        used = np.flatnonzero(self.weights)
        with whole(path, "wb") as file:
            np.savez(file, size=len(self.weights), ids=used.astype(np.int32),
                     values=self.weights[used], bias=self.bias, labels=np.array(self.labels))
        return Path(path)

    @staticmethod
    def load(path: Path) -> "HashedLinear":
        """Read what `save` wrote; BadInput for anything else."""
        try:
            with np.load(path, allow_pickle=False) as data:
                weights = np.zeros(int(data["size"]), np.float32)
                weights[data["ids"]] = data["values"]
                return HashedLinear(weights, float(data["bias"]), tuple(map(str, data["labels"])))
        except (ValueError, KeyError, OSError, IndexError) as error:
            raise BadInput(f"{shown(path)} is not a classifier ({error}): train one with "
                           "python 02_data/train_classifier.py")


def loss_and_gradient(w: np.ndarray, x: tuple, y: np.ndarray, sample: np.ndarray, l2: float):
    """Mean logistic loss with l2 |w|^2 / 2 and its gradient; the last entry of w is the bias.

    x = (ids (F,), values (F,), starts (N,)): the rows' features one after the other. y (N,) is 1 or
    0, `sample` (N,) the weight of each row, summing to 1. d loss / d score = p - y.
    """
    ids, values, starts = x
    score = np.add.reduceat(w[ids] * values, starts) + w[-1]
    p = sigmoid(score)
    # log(1 + e^-|s|) is the part of the loss that a naive log(p) loses to overflow
    loss = np.log1p(np.exp(-np.abs(score))) + np.maximum(score, 0) - y * score
    error = sample * (p - y)
    rows = np.repeat(error, np.diff(np.append(starts, len(ids))))
    gradient = np.bincount(ids, rows * values, len(w))
    gradient[-1] = error.sum()
    gradient[:-1] += l2 * w[:-1]
    return float(sample @ loss + 0.5 * l2 * (w[:-1] @ w[:-1])), gradient


def lbfgs(function, w: np.ndarray, steps: int = 60, memory: int = 8) -> np.ndarray:
    """Minimise a smooth convex `function(w) -> (value, gradient)` (Nocedal and Wright, ch. 7)."""
    value, gradient = function(w)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(steps):
        # direction = - H gradient, with H built from the last moves (two-loop recursion)
        direction, alphas = -gradient, []
        for s, t in reversed(history):
            alphas.append((s @ direction) / (s @ t))
            direction = direction - alphas[-1] * t
        if history:
            s, t = history[-1]
            direction = direction * ((s @ t) / (t @ t))
        for (s, t), alpha in zip(history, reversed(alphas)):
            direction = direction + s * (alpha - (t @ direction) / (s @ t))
        # halve the step until the value falls (Armijo)
        slope, step = gradient @ direction, 1.0
        for _ in range(30):
            new_value, new_gradient = function(w + step * direction)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        move, change = step * direction, new_gradient - gradient
        if move @ change > 1e-12:
            history = (history + [(move, change)])[-memory:]
        w = w + move
        done = abs(value - new_value) < 1e-7 * abs(value)
        value, gradient = new_value, new_gradient
        if done:
            break
    return w


def fit(positives: list[str], negatives: list[str], bits: int = BITS, l2: float = 3e-5,
        labels: tuple[str, str] = ("1", "0")) -> HashedLinear:
    """Train on two lists of texts; both sides weigh the same however many texts they have."""
    if not positives or not negatives:
        raise BadInput(f"a classifier needs examples of both kinds, got {len(positives)} positive "
                       f"and {len(negatives)} negative texts")
    rows = [features(text, bits) for text in [*positives, *negatives]]
    # a row without features still has a score (the bias): give it one feature of value 0
    rows = [row if len(row) else np.zeros(1, np.int64) for row in rows]
    counts = np.array([len(row) for row in rows])
    ids = np.concatenate(rows)
    values = np.repeat(1 / np.sqrt(counts), counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    y = np.repeat([1.0, 0.0], [len(positives), len(negatives)])
    sample = np.where(y > 0, 0.5 / len(positives), 0.5 / len(negatives))
    # only the weights that occur take part: a dense problem of that size
    used, ids = np.unique(ids, return_inverse=True)
    w = lbfgs(lambda v: loss_and_gradient(v, (ids, values, starts), y, sample, l2),
              np.zeros(len(used) + 1))
    weights = np.zeros(2**bits)
    weights[used] = w[:-1]
    return HashedLinear(weights, w[-1], labels)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a random positive scores above a random negative; ties count one half.

    auc([0.9, 0.5], [0.5, 0.1]) = 3.5 / 4. From ranks: no pair is compared (Mann and Whitney 1947).
    """
    both = np.concatenate([positive, negative])
    # the rank of a value, averaged over equal values
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def calibration(probability: np.ndarray, y: np.ndarray, bins: int = 10) -> tuple[list, float]:
    """Do 70 % of the texts scored 0.7 hold? Rows (mean score, share positive, count), and the gap.

    The gap is the expected calibration error: the mean of |score - share| weighted by count, over
    `bins` equal intervals, each with its lower end, the last one with 1 too; empty bins are left
    out, rows ascend (Guo et al. 2017).
    """
    probability, y = np.asarray(probability, float), np.asarray(y, float)
    # `bins` equal intervals of [0, 1]; a score of exactly 1 belongs to the last one.
    which = np.minimum((probability * bins).astype(int), bins - 1)
    rows = []
    for b in range(bins):
        inside = which == b
        if inside.any():
            rows.append((float(probability[inside].mean()), float(y[inside].mean()),
                         int(inside.sum())))
    # A bin weighs as much as the texts in it: ten texts must not count like ten thousand.
    gap = sum(abs(p - share) * n for p, share, n in rows) / len(y)
    return rows, float(gap)
