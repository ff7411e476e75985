"""Train byte-level BPE: from counted pre-tokens to a vocabulary and its merges.

    from bpe_training import train_bpe
    vocab, merges = train_bpe({"low": 5, " lower": 2}, 260)

`train_bpe` leads to the fast trainer, bpe_hybrid.py; bpe_textbook.py and bpe_cells.py are the rungs
below it, with the same merges. A trainer speaks in ids and knows neither bytes nor special tokens.
"""

import gc
from collections import Counter
from typing import Callable, Mapping, Sequence

from artifacts import BadInput
from bpe_hybrid import train_hybrid
from bpe_textbook import count_pairs, merge_pair
from byte_alphabet import HF_BYTE_ORDER


def tie_key(tie: str, tokens: list[bytes]) -> Callable[[int, int], object]:
    """A function of a pair of ids that is smallest for the pair which wins among equal counts.

    "greatest": the greatest (bytes, bytes) pair, compared token by token (`tokens` may grow
    later). "smallest_ids": the smallest (id, id). With `tokens = [b"a", b"b", b"ab"]`, "greatest"
    prefers (1, 0) to (2, 1) to (0, 1).
    """
    if tie == "smallest_ids":
        return lambda a, b: a << 32 | b
    # Complemented bytes turn greatest into smallest. An end mark above all of them puts b"ab"
    # before b"a", and makes comparing the two strings joined the same as comparing the pair.
    complement = bytes(range(255, -1, -1))
    known = []

    def greatest(a: int, b: int) -> str:
        while len(known) < len(tokens):
            known.append(tokens[len(known)].translate(complement).decode("latin-1") + "\u0100")
        return known[a] + known[b]
    return greatest


def train_bpe(counts: Mapping[str | bytes, int], vocab_size: int,
              special_tokens: Sequence[str] = (), tie: str = "greatest", *,
              trainer: Callable = train_hybrid,
              ) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """Byte-pair merges from counted pre-tokens: the vocabulary (id -> bytes) and the merges.

    The vocabulary holds the 256 bytes, then one token per merge in order, then the special tokens:
    `vocab_size` in all, fewer if the text has no pair left. Between pairs of equal count,
    tie="greatest" takes the greatest (bytes, bytes) pair, and byte b has the id b;
    tie="smallest_ids" takes the smallest pair of ids, with the bytes in the order of their
    printable characters, as HF tokenizers does. BadInput if the 256 bytes and the special tokens
    do not fit (it names the size they need), or if a special token is "empty" or there "twice".
    `trainer` is the rung of the ladder: train_textbook, train_cells, train_hybrid.
    `train_bpe({"aab": 3}, 257)[1]` is `[(b'a', b'b')]`: (a, a) occurs as often, but b > a.
    """
    # Merges get what the bytes and the special tokens leave.
    wanted = vocab_size - 256 - len(special_tokens)
    if wanted < 0:
        raise BadInput(f"a vocabulary of {vocab_size} cannot hold the 256 bytes and "
                       f"{len(special_tokens)} special tokens: ask for "
                       f"{256 + len(special_tokens)} or more")
    if "" in special_tokens or len(set(special_tokens)) < len(special_tokens):
        raise BadInput(f"the special tokens {list(special_tokens)} hold an empty one, or one twice")
    if tie not in ("greatest", "smallest_ids"):
        raise ValueError(f'tie is "greatest" or "smallest_ids", not {tie!r}')
    # The trainer speaks in ids: it is told the id of each byte, and tells the two ids of each
    # merge, whose token takes the next id.
    order = list(range(256)) if tie == "greatest" else HF_BYTE_ORDER
    tokens, merges = [bytes([b]) for b in order], []

    def on_merge(a: int, b: int) -> None:
        merges.append((tokens[a], tokens[b]))
        tokens.append(tokens[a] + tokens[b])

    words = {w if isinstance(w, bytes) else w.encode(): n for w, n in counts.items() if n > 0}
    collecting = gc.isenabled()
    gc.disable()              # millions of small lists and no cycles: the collector costs 15 %
    try:
        trainer(words, wanted, [order.index(b) for b in range(256)], tie_key(tie, tokens), on_merge)
    finally:
        if collecting:
            gc.enable()
    return dict(enumerate(tokens + [name.encode() for name in special_tokens])), merges


def train_textbook(counts: Mapping[bytes, int], merges: int, byte_ids: Sequence[int],
                   key: Callable[[int, int], object], on_merge: Callable[[int, int], None]) -> None:
    """bpe_textbook.py as a `trainer`: any counts, any numbers for the bytes, any rule for ties."""
    words = Counter()
    for word, count in counts.items():
        words[tuple(byte_ids[b] for b in word)] += count
    for new in range(256, 256 + merges):
        if not (pairs := count_pairs(words)):
            return                         # every word is one token already
        best = min(pairs, key=lambda pair: (-pairs[pair], key(*pair)))
        on_merge(*best)
        words = {merge_pair(word, best, new): count for word, count in words.items()}
