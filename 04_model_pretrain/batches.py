"""Rows of tokens from the shards: documents packed whole, in an order that needs no memory.

    shard = Shard("out/02_data", "train")
    batches = PackedBatches(shard, sequence_length=256, rows=16, seed=0)
    ids, targets = batches(step)            # (16, 256) each, on step 0, 1, 2, ...

Which rows a step takes is a function of (seed, step) alone. So a run that is stopped at step 700
goes on with step 700, on one machine or split over eight, and sees the very same tokens.
The shards are memory-mapped: they may be larger than the memory.
But: a document longer than a row has to be cut. Its pieces fill rows; nothing else is cut.
"""

import bisect
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artifacts import BadInput, need, read_json, shown

IGNORE = -100           # the target of padding: cross-entropy leaves it out
MADE_BY = "02_data/build_corpus.py"


class Shard:
    """One split of the token shards: `tokens` (memory-mapped), and its documents as arrays.

    `start` and `length` (with the end token) say where each document lies; `domain` numbers its
    domain; `bytes` is the size of its text; `mixture` is the weight of each domain or None.
    """

    def __init__(self, folder: Path | str, split: str) -> None:
        folder = Path(folder)
        index = read_json(folder / "index.json", MADE_BY)
        path = need(folder / f"{split}.bin", MADE_BY)
        try:
            if np.dtype(index["dtype"]) not in (np.uint16, np.uint32):
                raise ValueError(f"the type {index['dtype']} of its tokens")
            part = index["splits"][split]
            documents = part["documents"]
            self.tokens = np.memmap(path, dtype=np.dtype(index["dtype"]), mode="r")
            self.start = np.asarray(documents["start"], dtype=np.int64)
            self.length = np.asarray(documents["length"], dtype=np.int64)
            self.bytes = np.asarray(documents["bytes"], dtype=np.int64)
            self.domain = np.asarray(documents["domain"])
            self.eot, self.vocab_size = index["eot"], index["vocab_size"]
            self.tokenizer_sha256 = index["tokenizer_sha256"]
            self.corpus_sha256 = index["corpus_sha256"]
        except (KeyError, TypeError, ValueError) as why:
            raise BadInput(f"{shown(folder / 'index.json')} does not describe {split}.bin "
                           f"({type(why).__name__} {why}): run python {MADE_BY}") from why
        if not len(self.start):
            raise BadInput(f"{shown(path)} holds no documents: run python {MADE_BY} on more pages")
        ends = self.start + self.length
        if self.start.min() < 0 or ends.max() > len(self.tokens) \
                or part["tokens"] != len(self.tokens):
            raise BadInput(f"{shown(path)} holds {len(self.tokens)} tokens, its index says "
                           f"{part['tokens']}: run python {MADE_BY}")
        # the end token belongs to its document, whether the index counted it or not
        beyond = ends < len(self.tokens)
        after = self.tokens[np.minimum(ends, len(self.tokens) - 1)].astype(np.int64)
        after[~beyond] = -1
        self.length = self.length + ((after == self.eot) & (self.tokens[ends - 1] != self.eot))
        # domains are names or numbers of names; either way: a number, and a weight per number
        names = index.get("domains") or sorted(set(map(str, self.domain.tolist())))
        if self.domain.dtype.kind not in "iu":
            self.domain = np.array([names.index(str(d)) for d in self.domain])
        weights = index.get("mixture") or {}
        self.mixture = (np.array([weights.get(n, 0.0) for n in names]) if any(weights.values())
                        else None)

    def part(self, keep: np.ndarray) -> "Shard":
        """The same tokens with only the documents chosen by `keep`, bool (n,) or numbers."""
        part = object.__new__(Shard)
        part.__dict__ = self.__dict__ | {name: getattr(self, name)[keep] for name in
                                         ("start", "length", "bytes", "domain")}
        return part


def copies(domain: np.ndarray, tokens: np.ndarray, mixture: np.ndarray | None,
           rng: np.random.Generator) -> np.ndarray:
    """How often each document appears in one epoch, so that domains have their weights.

    domain (n,) numbers, tokens (n,) lengths, mixture (domains,) weights or None (all once) ->
    (n,) integers. Document i is expected weight(d) / share(d) times, where share(d) is domain d's
    part of all tokens; the fraction is drawn, so the expectation is exact. Weights sum to 1 after
    dividing by the sum over the domains that have documents. ValueError if none of those has a
    weight, or for a weight that is below 0 or not finite.
    """
    if mixture is None:
        return np.ones(len(domain), dtype=np.int64)
    # What nature gives: each domain's part of the tokens, not of the documents.
    share = np.bincount(domain, weights=tokens, minlength=len(mixture)) / tokens.sum()
    # What we want: a domain without documents cannot be read, and the others take its weight.
    weight = np.where(share > 0, mixture, 0.0)
    if not (weight.sum() > 0 and np.isfinite(mixture).all() and (mixture >= 0).all()):
        raise ValueError(f"the mixture's weights {np.round(mixture, 4).tolist()} must be finite, "
                         "not below 0, and above 0 for a domain that has documents")
    weight = weight / weight.sum()
    # Wanted over given is how often to read each document of that domain.
    expected = (weight / np.maximum(share, 1e-12))[domain]
    # 2.3 times is twice for everybody and a third time for three in ten.
    whole = np.floor(expected)
    return (whole + (rng.random(len(domain)) < expected - whole)).astype(np.int64)


def pack(lengths: np.ndarray, room: int) -> list[list[tuple[int, int, int]]]:
    """Place documents of these lengths in rows of `room` tokens; pieces are (document, from, to).

    A document longer than `room` gives full rows, then a rest. What fits is never cut: rests and
    short documents, longest first (equal ones in their order), each go to the row where they leave
    the least space (best fit; of such rows the first), else to a new one.
    pack([5, 3, 2], 4) is [[(0, 0, 4)], [(1, 0, 3), (0, 4, 5)], [(2, 0, 2)]].
    Source: Ding et al. 2024, Fewer truncations improve language modeling.
    """
    rows, rests = [], []
    for document, length in enumerate(lengths.tolist()):
        for begin in range(0, length, room):
            end = min(begin + room, length)
            if end - begin == room:
                rows.append([(document, begin, end)])
            else:
                rests.append((document, begin, end))
    # Longest first (stable, so that the result depends on nothing but the lengths).
    rests.sort(key=lambda piece: piece[1] - piece[2])
    # Open rows sorted by the space they have left: a bisection finds the best fit.
    space: list[tuple[int, int]] = []
    for piece in rests:
        size = piece[2] - piece[1]
        at = bisect.bisect_left(space, (size, -1))
        if at == len(space):
            left, row = room, len(rows)
            rows.append([])
        else:
            left, row = space.pop(at)
        rows[row].append(piece)
        if left > size:
            bisect.insort(space, (left - size, row))
    return rows


class PackedBatches:
    """`batches(step) -> (ids, targets)`, each (rows, T) int64; a function of the step alone.

    Every document is read as <|endoftext|> text <|endoftext|>: the first one is its context, so
    that the first token of the text is predicted too, and the last one a target. `rank` of
    `ranks` gives every ranks-th row of each batch: the union over ranks is always the same.
    """

    def __init__(self, shard: Shard, sequence_length: int, rows: int, seed: int = 0, *,
                 rank: int = 0, ranks: int = 1, shuffle: bool = True,
                 use_mixture: bool = True) -> None:
        if rows < 1 or sequence_length < 1 or rows % ranks:
            raise BadInput(f"{rows} rows of {sequence_length} tokens per batch cannot be split "
                           f"over {ranks} ranks: choose a batch that divides")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} is not one of {ranks}")
        self.shard, self.T, self.rows, self.seed = shard, sequence_length, rows, seed
        self.rank, self.ranks, self.shuffle = rank, ranks, shuffle
        self.mixture = shard.mixture if use_mixture else None
        self.first = [0]                                # the first row of each known epoch
        self.kept: dict[int, list] = {}                 # the rows of the last two epochs used
        self.rows_per_epoch = len(self.epoch(0))

    def __len__(self) -> int:
        """Batches in the first epoch, the last one perhaps not full."""
        return -(-self.rows_per_epoch // self.rows)

    def epoch(self, number: int) -> list[list[tuple[int, int, int]]]:
        """The rows of one epoch in their order, each a list of (document, from, to)."""
        if number not in self.kept:
            # the order depends on seed and epoch alone: nothing to save, nothing to restore
            rng = np.random.default_rng([self.seed, number])
            try:
                count = copies(self.shard.domain, self.shard.length, self.mixture, rng)
            except ValueError as why:
                raise BadInput(f"index.json: {why}: run python {MADE_BY}") from why
            documents = np.repeat(np.arange(len(count)), count)
            packed = pack(self.shard.length[documents], self.T)
            order = rng.permutation(len(packed)) if self.shuffle else range(len(packed))
            rows = [[(int(documents[d]), a, b) for d, a, b in packed[i]] for i in order]
            self.kept = {k: v for k, v in self.kept.items() if k == number - 1} | {number: rows}
            if number == len(self.first) - 1:
                self.first.append(self.first[-1] + len(rows))
        return self.kept[number]

    def row(self, index: int) -> list[tuple[int, int, int]]:
        """The pieces of row `index`, counted from the beginning of the run through all epochs."""
        while index >= self.first[-1]:
            self.epoch(len(self.first) - 1)
        number = bisect.bisect_right(self.first, index) - 1
        return self.epoch(number)[index - self.first[number]]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        ids = np.full((self.rows // self.ranks, self.T), self.shard.eot, dtype=np.int64)
        targets = np.full_like(ids, IGNORE)
        first = step * self.rows
        for line, index in enumerate(range(first + self.rank, first + self.rows, self.ranks)):
            if not self.shuffle and index >= self.rows_per_epoch:
                break                               # evaluation: every row once, then padding
            at = 0
            for document, begin, end in self.row(index):
                text = self.shard.tokens[self.shard.start[document] + begin:
                                         self.shard.start[document] + end]
                size = end - begin
                # The input is the target one token later; the first input of a piece is the
                # token before it, which for a whole document is <|endoftext|>.
                previous = (self.shard.tokens[self.shard.start[document] + begin - 1]
                            if begin else self.shard.eot)
                ids[line, at] = previous
                ids[line, at + 1:at + size] = text[:-1]
                targets[line, at:at + size] = text
                at += size
        return torch.from_numpy(ids), torch.from_numpy(targets)
