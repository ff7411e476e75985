"""Byte-level BPE: train merges from counted pre-tokens, then text to token ids and back.

    from bpe import Tokenizer, train_bpe
    vocab, merges = train_bpe(count_pretokens(["low low lower"]), 260)
    Tokenizer(vocab, merges).encode("low lower")

`train_bpe` leads to the fast trainer; bpe_textbook.py and bpe_cells.py are the rungs below it, with
the same merges. Encoding looks whole pre-tokens up in a cache and merges only the new ones.
"""

import os
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from artifacts import BadInput
from bpe_hybrid import train_hybrid
from pretokenize import mend_surrogates, safe_blocks, special_splitter, split

# GPT-2 shows each byte as a printable character; sorted by it, "!" comes first, then to "~", then
# the upper half, and the control bytes last. HF numbers the bytes in this order.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
HF_BYTE_ORDER = PRINTABLE + [b for b in range(256) if b not in set(PRINTABLE)]

LONG_PIECE = 48           # bytes: beyond, a heap finds the next merge faster than a scan
CACHE_PIECES = 1 << 18    # about 60 MB; then the cache starts again
CACHE_LENGTH = 64         # characters; longer pieces hardly come twice


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
    do not fit. `trainer` is the rung of the ladder: train_textbook, train_cells, train_hybrid.
    `train_bpe({"aab": 3}, 257)[1]` is `[(b'a', b'b')]`: (a, a) occurs as often, but b > a.
    """
    wanted = vocab_size - 256 - len(special_tokens)
    if wanted < 0:
        raise BadInput(f"a vocabulary of {vocab_size} cannot hold the 256 bytes and "
                       f"{len(special_tokens)} special tokens: ask for at least {vocab_size - wanted}")
    if tie not in ("greatest", "smallest_ids"):
        raise ValueError(f'tie is "greatest" or "smallest_ids", not {tie!r}')
    order = list(range(256)) if tie == "greatest" else HF_BYTE_ORDER
    tokens, merges = [bytes([b]) for b in order], []

    def on_merge(a: int, b: int) -> None:
        merges.append((tokens[a], tokens[b]))
        tokens.append(tokens[a] + tokens[b])

    words = {w if isinstance(w, bytes) else w.encode(): n for w, n in counts.items() if n > 0}
    trainer(words, wanted, [order.index(b) for b in range(256)], tie_key(tie, tokens), on_merge)
    return dict(enumerate(tokens + [name.encode() for name in special_tokens])), merges


class PieceCache(dict):
    """Piece (str) -> its token ids, packed as uint32 bytes; a missing piece is encoded and kept."""

    def __init__(self, encode_piece):
        self.encode_piece = encode_piece

    def __missing__(self, piece: str) -> bytes:
        packed = np.array(self.encode_piece(piece.encode()), np.uint32).tobytes()
        if len(piece) <= CACHE_LENGTH:
            if len(self) >= CACHE_PIECES:
                self.clear()
            self[piece] = packed
        return packed


class Tokenizer:
    """Text to token ids and back, with the merges and the vocabulary given.

    vocab           id -> bytes, the special tokens included
    merges          pairs of bytes, in order of rank
    special_tokens  name -> id; given as a mapping or as names, new names get the next free ids
    pattern         "gpt2", "gpt4" or a pattern in the published notation
    """

    def __init__(self, vocab: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]],
                 special_tokens: Mapping[str, int] | Sequence[str] | None = (),
                 pattern: str = "gpt2"):
        self.vocab = dict(vocab)
        self.merges = [(bytes(a), bytes(b)) for a, b in merges]
        self.pattern = pattern
        ids = {token: i for i, token in self.vocab.items()}
        self.special_tokens = _special_ids(special_tokens or (), self.vocab, ids)
        for name, i in self.special_tokens.items():
            ids.pop(name.encode(), None)          # never from plain text, even as a whole piece
        try:
            self._byte_ids = [ids[bytes([b])] for b in range(256)]
        except KeyError as error:
            raise BadInput(f"the vocabulary lacks the single byte {error}: not a byte-level BPE")
        # (left id, right id) -> rank, and rank -> the merged id.
        self._ranks, self._merged = {}, []
        for rank, (a, b) in enumerate(self.merges):
            if a not in ids or b not in ids or a + b not in ids:
                raise BadInput(f"merge {rank} ({a!r} + {b!r}) uses a token that the vocabulary "
                               "lacks: vocabulary and merges do not belong together")
            self._ranks.setdefault((ids[a], ids[b]), rank)
            self._merged.append(ids[a + b])
        self._ids = ids
        self._cache = PieceCache(self._encode_piece)

    @property
    def vocab_size(self) -> int:
        """The number of ids: the greatest id plus one."""
        return max(self.vocab) + 1

    def encode(self, text: str, allowed_special: str | Iterable[str] = (),
               disallowed_special: str | Iterable[str] = ()) -> list[int]:
        """The token ids of `text`.

        Special tokens in the text are plain text unless named in `allowed_special` ("all" for all
        of them): a user cannot forge `<|endoftext|>`. One named in `disallowed_special` raises
        ValueError instead. Lone surrogates become U+FFFD.
        """
        return memoryview(self._packed(text, allowed_special, disallowed_special)).cast("I").tolist()

    def encode_to_numpy(self, text: str, allowed_special: str | Iterable[str] = ()) -> np.ndarray:
        """The same ids as a uint32 array, without a list of them in between."""
        return np.frombuffer(self._packed(text, allowed_special), np.uint32)

    def encode_iterable(self, texts: Iterable[str], allowed_special: str | Iterable[str] = (),
                        ) -> Iterator[int]:
        """The ids of a stream of strings, lazily: the same as of all strings joined.

        The stream is cut only where the cut cannot change a token, so that memory stays bounded.
        """
        allowed = self._allowed(allowed_special)
        for block in safe_blocks(texts, allowed, size=1 << 16):
            yield from self.encode(block, allowed)

    def encode_batch(self, texts: Iterable[str], workers: int = 1,
                     allowed_special: str | Iterable[str] = ()) -> list[list[int]]:
        """`[encode(text) for text in texts]`, by `workers` processes."""
        return [self.encode(text, allowed_special) for text in texts]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for; an unknown id is BadInput with its place."""
        ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        try:
            return b"".join(map(self.vocab.__getitem__, ids))
        except KeyError:
            at = next(k for k, i in enumerate(ids) if i not in self.vocab)
            raise BadInput(f"token id {ids[at]} at place {at} is not in the vocabulary "
                           f"(ids 0 to {self.vocab_size - 1})") from None

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD (or raise, "strict")."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def stream_decode(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of a stream of ids, piece by piece; incomplete characters are held back."""
        import codecs
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            text = decoder.decode(self.decode_bytes([int(i)]))
            if text:
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest

    def save(self, path: str | os.PathLike) -> None:
        """Write a tokenizer.json, whole or not at all; HF tokenizers opens it too."""
        from formats import to_hf
        to_hf(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a tokenizer.json that `save` or HF tokenizers wrote."""
        from formats import from_hf
        return from_hf(path)

    def _allowed(self, allowed: str | Iterable[str]) -> tuple[str, ...]:
        return tuple(self.special_tokens) if allowed == "all" else tuple(allowed)

    def _packed(self, text: str, allowed_special: str | Iterable[str],
                disallowed_special: str | Iterable[str] = ()) -> bytes:
        """The ids of `text` as packed uint32 bytes."""
        allowed = self._allowed(allowed_special)
        if disallowed_special:
            refused = special_splitter(tuple(s for s in self._allowed(disallowed_special)
                                             if s not in allowed))
            if refused and (found := refused.search(text)):
                raise ValueError(f"the text holds the special token {found[0]!r} at character "
                                 f"{found.start()}: allow it, or pass disallowed_special=()")
        try:
            if not allowed:
                return b"".join(map(self._cache.__getitem__, split(text, self.pattern)))
            parts = special_splitter(allowed).split(text)
            packed = []
            for k, part in enumerate(parts):
                packed.append(self.special_tokens[part].to_bytes(4, "little") if k % 2 else
                              b"".join(map(self._cache.__getitem__, split(part, self.pattern))))
            return b"".join(packed)
        except UnicodeEncodeError:
            return self._packed(mend_surrogates(text), allowed)

    def _encode_piece(self, piece: bytes) -> list[int]:
        """The ids of one pre-token: merge the pair of lowest rank, leftmost first, until none is left."""
        if (whole := self._ids.get(piece)) is not None:
            return [whole]
        ids = [self._byte_ids[b] for b in piece]
        if len(ids) > LONG_PIECE:
            return merge_long(ids, self._ranks, self._merged)
        return merge_short(ids, self._ranks, self._merged)


def merge_short(ids: list[int], ranks: dict[tuple[int, int], int], merged: list[int]) -> list[int]:
    """Merge the pair of lowest rank, the leftmost of equals, until no pair of `ids` has a rank."""
    none = len(merged)
    get = ranks.get
    waiting = [get(pair, none) for pair in zip(ids, ids[1:])]
    while waiting:
        best = min(waiting)
        if best == none:
            break
        i = waiting.index(best)               # the leftmost
        ids[i:i + 2] = [merged[best]]
        # Only the two pairs around the new token change.
        del waiting[i]
        if i < len(waiting):
            waiting[i] = get((ids[i], ids[i + 1]), none)
        if i:
            waiting[i - 1] = get((ids[i - 1], ids[i]), none)
    return ids


def merge_long(ids: list[int], ranks: dict[tuple[int, int], int], merged: list[int]) -> list[int]:
    """The same for a long piece, with a heap of (rank, place): n log n instead of n squared."""
    n = len(ids)
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    heap = [(ranks[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
    heapify(heap)
    ids.append(-1)                            # what stands after the last token: in no pair
    while heap:
        rank, i = heappop(heap)
        j = after[i]
        # Outdated entries: a merge in between took one of the two tokens away or changed it.
        if ids[i] < 0 or j >= n or ranks.get((ids[i], ids[j])) != rank:
            continue
        ids[i], ids[j] = merged[rank], -1
        after[i] = k = after[j]
        if k < n:
            before[k] = i
            if (r := ranks.get((ids[i], ids[k]))) is not None:
                heappush(heap, (r, i))
        if (h := before[i]) >= 0 and (r := ranks.get((ids[h], ids[i]))) is not None:
            heappush(heap, (r, h))
    return [i for i in ids if i >= 0]


def _special_ids(special_tokens: Mapping[str, int] | Sequence[str], vocab: dict[int, bytes],
                 ids: dict[bytes, int]) -> dict[str, int]:
    """Name -> id; a name the vocabulary knows keeps its id, a new one gets the next free id."""
    named = {}
    for name in special_tokens:
        if not name:
            raise BadInput("a special token is empty: give it at least one character")
        i = special_tokens[name] if isinstance(special_tokens, Mapping) else ids.get(name.encode())
        if i is None:
            i = max(vocab, default=-1) + 1
        if vocab.setdefault(i, name.encode()) != name.encode():
            raise BadInput(f"special token {name!r} has id {i}, which is {vocab[i]!r} already")
        named[name] = i
    return named
