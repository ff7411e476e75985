"""Vocabularies without merges: in tiktoken's files the number of a token is its rank.

    from bpe_ranks import RankCache, merges_from_ranks, read_ranks

Two neighbours merge if together they are a token, the lowest rank first: bytes and their ranks are
all that encoding needs. The merges that the ranks imply, one for each token, are what other formats
ask for; to find them takes some ten times as long as to read the file, so it is done last.
"""

import binascii
import codecs
import os
from math import inf
from pathlib import Path
from typing import Iterable, Mapping

from artifacts import BadInput, shown
from encode_piece import CACHE_PIECES, LONG_PIECE, PieceCache


def read_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """Token -> rank, from a tiktoken rank file; BadInput names the line that is none."""
    data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    columns = data.split()
    try:
        tokens = [binascii.a2b_base64(name, strict_mode=True) for name in columns[::2]]
        ranks = dict(zip(tokens, map(int, columns[1::2]), strict=True))
        if len({*ranks.values()}) == len(tokens) and min(ranks.values()) >= 0:
            return ranks
    except ValueError:                    # also what binascii raises
        pass
    # Something is wrong in this file: line by line, to say where.
    ranks, tokens = {}, {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            name, rank = line.split() if line.strip() else (None, 0)
            token, rank = name and binascii.a2b_base64(name, strict_mode=True), int(rank)
        except ValueError:
            raise BadInput(f"{shown(path)} line {number} is not 'base64 rank': {line[:80]!r}")
        if rank < 0:
            raise BadInput(f"{shown(path)} line {number}: the rank is negative")
        if name and (tokens.setdefault(rank, token) != token
                     or ranks.setdefault(token, rank) != rank):
            raise BadInput(f"{shown(path)} line {number} gives {token!r} the rank {rank}: another "
                           "line gives it another rank, or the rank to another token")
    if not ranks:
        raise BadInput(f"{shown(path)} holds no token")
    return ranks


def merge_by_rank(raw: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The ids of the tokens into which the bytes `raw` merge; an id is the token's rank.

    With the ranks `{b"a": 0, b"b": 1, b"ba": 2, b"ab": 3}`, b"abab" becomes `[0, 2, 1]`.
    """
    get, parts = ranks.get, [raw[i:i + 1] for i in range(len(raw))]
    waiting = [get(a + b, inf) for a, b in zip(parts, parts[1:])]
    while waiting:
        best = min(waiting)
        if best == inf:
            break
        i = waiting.index(best)               # the leftmost of equals
        parts[i:i + 2] = [token] = [parts[i] + parts[i + 1]]
        # Only the two pairs around the new token change.
        del waiting[i]
        if i < len(waiting):
            waiting[i] = get(token + parts[i + 1], inf)
        if i:
            waiting[i - 1] = get(parts[i - 1] + token, inf)
    return [ranks[token] for token in parts]


class RankCache(PieceCache):
    """A cache of pieces (encode_piece.py) that merges by the ranks of bytes, not of pairs."""

    def __init__(self, ranks: Mapping[bytes, int], size: int, pieces: int = CACHE_PIECES):
        """`ranks`: token -> id; `size`: more than any of them."""
        self.tokens = {i: token for token, i in ranks.items()}
        super().__init__(ranks, [ranks.get(bytes([b])) for b in range(256)],
                         _PairRanks(ranks, self.tokens), range(size), pieces)

    def smaller(self, pieces: int) -> "RankCache":
        return RankCache(self.whole, len(self.merged), pieces)

    def merge(self, raw: bytes) -> list[int]:
        if len(raw) > LONG_PIECE or self.missing:
            return super().merge(raw)
        return merge_by_rank(raw, self.whole)


class _PairRanks:
    """The rank of a pair of ids, for functions that ask for it: that of their bytes together."""

    def __init__(self, ranks: Mapping[bytes, int], tokens: Mapping[int, bytes]):
        self.ranks, self.tokens = ranks, tokens

    def get(self, pair: tuple[int, int], default: int | None = None) -> int | None:
        return self.ranks.get(self.tokens[pair[0]] + self.tokens[pair[1]], default)


def merges_from_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges implied by ranks, in order: a token is the merge of the last two parts it had.

    tiktoken merges any two neighbours that make a token, the lowest rank first. Inside one token
    this goes the same way whatever stands around it, so that one pair per token is enough; a token
    that its own bytes do not lead to has none.
    `merges_from_ranks({b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5})` is
    `[(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]`.
    """
    # Token -> when it was made, and its two parts, both older.
    born, parts, merges = {token: -1 for token in ranks if len(token) == 1}, {}, []
    for token in sorted((t for t in ranks if len(t) > 1), key=ranks.get):
        rank = ranks[token]
        for k in range(1, len(token)):
            pair = left, right = token[:k], token[k:]
            # Nothing merges across the border between them before: these are the two. Six times
            # faster than to encode the token.
            if left in born and right in born and _stay_apart(*pair, rank, ranks, parts, born):
                parts[token], born[token] = pair, rank
                merges.append(pair)
                break
        else:                     # Llama 3 has 107 tokens that are older than one of their parts
            merges += _last_parts(token, ranks)
    return merges


def reached_by_rank(names: Iterable[str], vocab: Mapping[int, bytes]) -> set[bytes]:
    """Those of the names that are tokens to which their own bytes merge."""
    ranks = {token: i for i, token in vocab.items()}
    return {token for token in map(str.encode, names)
            if token in ranks and (len(token) == 1 or _last_parts(token, ranks))}


def _last_parts(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The two parts that `token` has last when its bytes merge by rank; [] if it stays in more."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, k = min((ranks.get(a + b, inf), k) for k, (a, b) in
                      enumerate(zip(parts, parts[1:])))
        if rank == inf:
            return []
        parts[k:k + 2] = [parts[k] + parts[k + 1]]
    return [tuple(parts)]


def _stay_apart(left: bytes, right: bytes, rank: int, ranks: Mapping, parts: Mapping,
                born: Mapping) -> bool:
    """Whether no merge below `rank` crosses the border between two neighbouring tokens."""
    left_end = right_end = rank               # until when `left` and `right` are neighbours
    born_left, born_right = born[left], born[right]
    while born_left >= 0 or born_right >= 0:
        # Before the younger of the two was made, a part of it stood here; of two of the same rank
        # the left one was made first.
        if born_left > born_right:
            left_end, left = born_left, parts[left][1]
            born_left = born[left]
        else:
            right_end, right = born_right, parts[right][0]
            born_right = born[right]
        across = ranks.get(left + right, rank)
        # Of equal ranks the leftmost merges first, also across.
        if across < left_end and across <= right_end:
            return False
    return True
