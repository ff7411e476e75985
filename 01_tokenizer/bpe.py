"""Byte-level BPE: text to token ids and back, with merges from training or from a file.

    from bpe import Tokenizer, train_bpe
    vocab, merges = train_bpe(count_pretokens(["low low lower"]), 260)
    Tokenizer(vocab, merges).encode("low lower")

`train_bpe` stands in bpe_training.py. Encoding looks whole pre-tokens up in a cache and merges only
the new ones; long texts and long lists of ids go through numpy.
"""

import codecs
import os
import unicodedata
from array import array
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from itertools import chain
from typing import Iterable, Iterator, Mapping, Sequence

import numpy as np

from artifacts import BadInput, shown
from array_decode import ArrayDecoder
from array_encode import ArrayEncoder
from array_split import FAMILIES
from bpe_ranks import RankCache, merges_from_ranks, reached_by_rank
from bpe_training import train_bpe          # the other half of what this file is for
from encode_piece import PieceCache, standing_whole
from hf_json import read_hf, write_hf
from pretokenize import (PATTERNS, Pattern, compiled, mend_surrogates, safe_blocks,
                         special_splitter, split, split_special)
from token_ids import lookup_tables, special_ids

LONG_TEXT = 4096          # characters: from here on numpy finds the pieces faster
LONG_IDS = 512            # ids: from here on numpy decodes faster
ARRAY_BLOCK = 1 << 17     # characters that numpy splits at once
LEAST_BATCH = 1 << 17     # characters: fewer are encoded sooner than a process starts
MOST_IDS = 1 << 22        # a table has a place for each id
STREAM_BLOCK = 4096       # characters of a stream that are encoded at once
STREAM_PIECES = 2048      # pieces that a stream remembers


class Tokenizer:
    """Text to token ids and back, with the merges and the vocabulary given.

    vocab           id -> bytes, the special tokens included
    merges          pairs of bytes, in order of rank; None: two neighbours merge if together they
                    are a token, the lowest id first, as in tiktoken's rank files
    special_tokens  name -> id; given as a mapping or as names, new names get the next free ids
    pattern         a name such as "gpt2" or "gpt4", a pattern in the published notation, or a tuple
                    of them that split one after another
    whole_pieces    a piece that is a token stays whole, also if no merges lead there: as tiktoken
                    does, and HF's `ignore_merges`
    normalizer      "NFC": Unicode's composed form of the text is what is split

    A byte that has no token (`missing_bytes`; SmolLM2 lacks 21) is left out of its piece, as HF
    tokenizers does: it is the one thing that encoding loses.
    """

    def __init__(self, vocab: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]] | None,
                 special_tokens: Mapping[str, int] | Sequence[str] | None = (),
                 pattern: Pattern = "gpt2", whole_pieces: bool = False,
                 normalizer: str | None = None):
        self.vocab, self._by_rank = dict(vocab), merges is None
        if not self._by_rank:
            self.merges = [(bytes(a), bytes(b)) for a, b in merges]
        self.pattern, self.whole_pieces, self.normalizer = pattern, whole_pieces, normalizer
        if normalizer not in (None, "NFC"):
            raise BadInput(f'the normalizer is "NFC" or None, not {normalizer!r}')
        for step in (pattern,) if isinstance(pattern, str) else pattern:
            if step not in PATTERNS:
                compiled(step)            # what `re` cannot read is said now, not hours later
        self.special_tokens = special_ids(special_tokens or (), self.vocab, lambda: (
            reached_by_rank(special_tokens, self.vocab) if self._by_rank else
            {a + b for a, b in self.merges}))
        # Ordinary text reaches the bytes and what merges make of them, and no special token.
        specials = set(self.special_tokens.values())
        ordinary = {token: i for i, token in self.vocab.items() if i not in specials}
        if self._by_rank:
            self._cache = RankCache(ordinary, self.vocab_size)
        else:
            made, *tables = lookup_tables(ordinary, self.merges)
            whole = ordinary if whole_pieces else standing_whole(made, *tables)
            self._cache = PieceCache(whole, *tables)
        self.missing_bytes = self._cache.missing
        self._arrays = self._decoder = None   # made when the first long text comes
        if not 0 <= min(self.vocab, default=0) <= self.vocab_size <= MOST_IDS:
            raise BadInput(f"the ids go from {min(self.vocab)} to {max(self.vocab)}: an id is a "
                           f"number from 0 to {MOST_IDS - 1:,}")
        # A list is faster than a dict. Its second half is None, so that id -1 is an error too.
        self._table = [self.vocab.get(i) for i in range(self.vocab_size)] + self.vocab_size * [None]

    @cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in order of rank; found back from the ranks when they are first asked for."""
        return merges_from_ranks(self._cache.whole)

    def __reduce__(self) -> tuple:
        """Pickle what makes the tokenizer, not its cache: for processes."""
        return Tokenizer, (self.vocab, None if self._by_rank else self.merges, self.special_tokens,
                           self.pattern, self.whole_pieces, self.normalizer)

    def forget(self) -> None:
        """Drop the pieces that were encoded, so that the next text finds empty caches."""
        self._cache.clear()
        if self._arrays is not None:
            self._arrays.start_again()

    @property
    def vocab_size(self) -> int:
        """The number of ids: the greatest id plus one."""
        return max(self.vocab, default=-1) + 1

    def whole_ids(self) -> list[int]:
        """The ids of the ordinary tokens whose bytes, encoded alone, are that token again."""
        return [i for i in {*self._cache.byte_ids, *self._cache.whole.values()} if i is not None]

    def encode(self, text: str, allowed_special: str | Iterable[str] = (),
               disallowed_special: str | Iterable[str] = ()) -> list[int]:
        """The token ids of `text`.

        Special tokens in the text are plain text unless named in `allowed_special` ("all" for all
        of them): a user cannot forge `<|endoftext|>`. One named in `disallowed_special` raises
        ValueError instead. Lone surrogates become U+FFFD.
        """
        packed = self.pack(text, allowed_special, disallowed_special)
        return memoryview(packed).cast("I").tolist()

    def encode_to_numpy(self, text: str, allowed_special: str | Iterable[str] = ()) -> np.ndarray:
        """The same ids as a uint32 array, without a list of them in between."""
        return np.frombuffer(self.pack(text, allowed_special), np.uint32)

    def encode_iterable(self, texts: Iterable[str], allowed_special: str | Iterable[str] = (),
                        ) -> Iterator[int]:
        """The ids of a stream of strings, lazily: the same as of all strings joined.

        The stream is cut only where the cut cannot change a token, and has a small cache of its
        own, so that a stream of any length needs less than a megabyte. Only a tokenizer with a
        normalizer reads the whole stream first.
        """
        if self.normalizer:
            yield from self.encode("".join(texts), allowed_special)
            return
        allowed = self._allowed(allowed_special)
        lookup = self._cache.smaller(STREAM_PIECES).__getitem__
        for block in safe_blocks(texts, allowed, STREAM_BLOCK, self.pattern):
            block = block if block.isascii() else mend_surrogates(block)
            for k, part in enumerate(split_special(block, allowed)):
                if k % 2:
                    yield self.special_tokens[part]
                else:
                    packed = b"".join(map(lookup, split(part, self.pattern)))
                    yield from memoryview(packed).cast("I").tolist()

    def encode_batch(self, texts: Iterable[str], workers: int = 1,
                     allowed_special: str | Iterable[str] = ()) -> list[list[int]]:
        """`[encode(text) for text in texts]`, by `workers` processes."""
        texts, allowed = list(texts), self._allowed(allowed_special)
        if workers <= 1 or sum(map(len, texts)) < LEAST_BATCH:
            return [self.encode(text, allowed) for text in texts]
        shares = [texts[len(texts) * k // workers:len(texts) * (k + 1) // workers]
                  for k in range(workers)]
        # A process gets the tokenizer once, when it starts (where processes fork: for nothing), and
        # one share of the texts; this process is a worker too. Packed bytes come back through the
        # pipe five times faster than lists of ints.
        with ProcessPoolExecutor(workers - 1, initializer=_serve, initargs=(self,)) as pool:
            later = [pool.submit(_pack_share, share, allowed) for share in shares[1:]]
            packed = [self.pack(text, allowed) for text in shares[0]]
            for share in later:
                packed += share.result()
        return [memoryview(ids).cast("I").tolist() for ids in packed]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for; an unknown id is BadInput: which, and where."""
        if not isinstance(ids, (list, tuple, np.ndarray)):
            ids = list(ids)
        try:
            if len(ids) < LONG_IDS:
                return b"".join([self._table[i] for i in ids])
            if self._decoder is None:
                self._decoder = ArrayDecoder(self._table[:self.vocab_size])
            return self._decoder.join(ids)
        except (IndexError, KeyError, OverflowError, TypeError):
            at = next((k for k, i in enumerate(ids) if i not in self.vocab), 0)
            raise BadInput(f"token id {ids[at]!r} at place {at} is not in the vocabulary "
                           f"(ids 0 to {self.vocab_size - 1})") from None

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD (or raise, "strict")."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def stream_decode(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of a stream of ids, as early as possible: joined it is `decode` of all.

        A character whose bytes are not complete yet is held back, and no piece is empty; the end
        flushes what is left as U+FFFD.
        """
        # A decoder with a memory keeps the first bytes of a character until the rest arrives.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            # Not every id ends a character: an empty string is no piece of the stream.
            if text := decoder.decode(self.decode_bytes([int(i)])):
                yield text
        # The stream may end inside a character: what is still held back must come out too.
        if rest := decoder.decode(b"", final=True):
            yield rest

    def save(self, path: str | os.PathLike) -> None:
        """Write a tokenizer.json, whole or not at all; HF tokenizers opens it too."""
        out_of_reach = self.whole_pieces and any(
            self._cache.merge(token) != [i] for token, i in self._cache.whole.items())
        write_hf(path, self.vocab, self.merges, self.special_tokens, self.pattern, out_of_reach,
                 self.normalizer)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a tokenizer.json that `save` or HF tokenizers wrote."""
        parts = read_hf(path)
        try:
            return cls(**parts)
        except BadInput as error:             # the parts do not fit: say in which file
            raise BadInput(f"{shown(path)}: {error}") from None

    def _allowed(self, allowed: str | Iterable[str]) -> tuple[str, ...]:
        if isinstance(allowed, str):
            allowed = self.special_tokens if allowed == "all" else [allowed]
        allowed = tuple(allowed)        # an iterator can be read once
        if unknown := [name for name in allowed if name not in self.special_tokens]:
            raise ValueError(f"{unknown[0]!r} is not one of this tokenizer's special tokens: "
                             f"{', '.join(self.special_tokens) or 'it has none'}")
        return allowed

    def pack(self, text: str, allowed_special: str | Iterable[str] = (),
             disallowed_special: str | Iterable[str] = ()) -> bytes:
        """The ids of `text` as packed uint32 bytes, the form that the cache holds.

        Takes the options of `encode`, whose ValueError names the token and where it begins, as
        in "'<e>' at character 2" of "ab<e>". Leaves no character of `text` out: where it holds an
        allowed special token, its id stands there, and the text before and after it is split
        for itself. A lone surrogate is no UTF-8: `mend_surrogates` first.
        """
        allowed = self._allowed(allowed_special)
        refused = [s for s in self._allowed(disallowed_special) if s not in allowed]
        if refused and (found := special_splitter(tuple(refused)).search(text)):
            raise ValueError(f"the text holds the special token {found[0]!r} at character "
                             f"{found.start()}: allow it, or pass disallowed_special=()")
        # Ordinary text stands at even places, special tokens at odd ones.
        parts = special_splitter(allowed).split(text) if allowed else [text]
        packed = []
        try:
            for k, part in enumerate(parts):
                packed += ([array("I", [self.special_tokens[part]]).tobytes()] if k % 2 else
                           self._pack_plain(part))
        except UnicodeEncodeError:            # rare, so that nobody looks for it beforehand
            return self.pack(mend_surrogates(text), allowed)
        return b"".join(packed)

    def _pack_plain(self, text: str) -> Iterable[bytes]:
        """The packed ids of text without special tokens, in parts."""
        if self.normalizer and not text.isascii():
            text = unicodedata.normalize(self.normalizer, text)
        lookup = self._cache.__getitem__
        if len(text) < LONG_TEXT or self.pattern not in FAMILIES:
            return map(lookup, split(text, self.pattern))
        # Long text goes through numpy, in blocks that the processor's cache holds.
        if self._arrays is None:
            self._arrays = ArrayEncoder(self._cache, self.pattern)
        blocks = safe_blocks([text], size=ARRAY_BLOCK, pattern=self.pattern)
        return chain.from_iterable(
            [self._arrays.pack(block)] if "\0" not in block else
            map(lookup, split(block, self.pattern)) for block in blocks)


def _serve(tokenizer: Tokenizer) -> None:
    """Keep the tokenizer of this worker process."""
    global _served
    _served = tokenizer


def _pack_share(texts: list[str], allowed: tuple[str, ...]) -> list[bytes]:
    """The packed ids of the texts, by the tokenizer of this process."""
    return [_served.pack(text, allowed) for text in texts]
