"""A language model that only counts: interpolated Kneser-Ney on token ids, in numpy.

    model = CountingModel(ids, vocab_size)       # 1M tokens in about a second
    model.log_probabilities(other_ids)           # nats, one per token

Chapter 2 must judge data before chapter 4 has built a transformer, and in seconds. A counting model
learns nothing but which sequences the data holds, so what it gains from better data is a floor for
what a model that generalises gains. (Kneser and Ney 1995; Chen and Goodman 1999, section 2.7)
"""

import numpy as np


class CountingModel:
    """Tables of n-grams of order 1 to `order`, each with discounted counts.

    P_k(w | h) = max(c(h w) - D_k, 0) / c(h) + D_k n(h) / c(h) * P_{k-1}(w | shorter h), where n(h)
    is how many different words follow h; P_0 is uniform. Below the highest order c(h w) is not how
    often h w occurs but how many different words precede it: "Francisco" is frequent, but only
    after "San". D_k = n1 / (n1 + 2 n2) from the numbers of n-grams counted once and twice.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int, order: int = 4):
        self.vocab_size, self.order = vocab_size, order
        self.bits = np.uint64(max(1, int(vocab_size - 1).bit_length()))
        if int(self.bits) * order > 64:
            raise ValueError(f"order {order} of {vocab_size} tokens does not fit 64 bits: use a "
                             f"smaller order than {order}")
        self.tables = []
        keys, counts = np.unique(self.pack(ids, order), return_counts=True)
        for k in range(order, 0, -1):
            self.tables.append(self._table(keys, counts))
            # one order down: drop the first word; count the different first words
            mask = np.uint64((1 << (int(self.bits) * (k - 1))) - 1)
            keys, counts = np.unique(keys & mask, return_counts=True)
        self.tables.reverse()     # tables[k - 1] has the k-grams

    def pack(self, ids: np.ndarray, k: int) -> np.ndarray:
        """Every k-gram as one number, the first word in the highest bits: (T,) -> (T - k + 1,)."""
        ids = np.asarray(ids).astype(np.uint64)
        keys = np.zeros(max(len(ids) - k + 1, 0), np.uint64)
        for j in range(k):
            keys = (keys << self.bits) | ids[j:j + len(keys)]
        return keys

    def _table(self, keys: np.ndarray, counts: np.ndarray) -> tuple:
        """(keys, counts, contexts, their totals, their numbers of followers, discount)."""
        contexts, starts = np.unique(keys >> self.bits, return_index=True)
        totals = np.add.reduceat(counts, starts) if len(starts) else counts
        followers = np.diff(np.append(starts, len(keys)))
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        return keys, counts, contexts, totals, followers, min(max(discount, 0.05), 0.95)

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """The natural logarithm of P(token | up to order - 1 before it), for every token: (T,)."""
        p = np.full(len(ids), 1.0 / self.vocab_size)
        for k in range(1, self.order + 1):
            keys, counts, contexts, totals, followers, discount = self.tables[k - 1]
            grams = self.pack(ids, k)
            if not len(grams):
                break
            count = _look_up(keys, counts, grams)
            context = grams >> self.bits
            total = _look_up(contexts, totals, context)
            known = total > 0      # an unseen context leaves the shorter one's opinion as it is
            spread = discount * _look_up(contexts, followers, context)
            lower = p[k - 1:]
            new = (np.maximum(count - discount, 0) + spread * lower) / np.where(known, total, 1)
            p[k - 1:] = np.where(known, new, lower)
        return np.log(p)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """values[where keys == wanted], 0 where there is none; `keys` sorted."""
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0).astype(float)
