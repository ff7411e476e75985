"""Can the model look back and copy? Rows that teach it, and the number that shows it.

    batches = SayTwice(PackedBatches(shard, 256, 16), share=0.05)
    copying_loss(model)                     # {"copy_first": 8.4, "copy_second": 2.1} nats per token

A sequence of random tokens cannot be known, but when it comes again it can be looked up: find the
token that you just read further back, and say what stood after it. Heads that do this (induction
heads: Olsson et al. 2022) are why a model can use what is in front of it: a name in the question,
a page in the prompt. Large models learn it from their text alone. One of a few minutes does not:
its text repeats too little. So a small share of its rows says something random, and says it again.
But: copying word for word is the simplest way of looking back, not all of it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from batches import IGNORE, PackedBatches
from gpt import GPT

SHORTEST = 8            # tokens that are said again
STREAM = 5              # keeps these draws apart from those of other uses of the same seed


def said_twice(row: np.ndarray, vocab_size: int, rng: np.random.Generator
               ) -> tuple[np.ndarray, int]:
    """A row of T + 1 tokens that repeats its first L: `row` (T,) real ids -> (T + 1,) and L.

    L is drawn from SHORTEST to T / 2. The L tokens are, one time in two each: any ids below
    `vocab_size`; or the row's own, in random order, so that common tokens are copied too and no
    pair of tokens can be known from the text.
    """
    L = int(rng.integers(SHORTEST, len(row) // 2 + 1))
    uniform = rng.random() < 0.5
    piece = rng.integers(0, vocab_size, L) if uniform else rng.permutation(row)[:L]
    return np.resize(piece, len(row) + 1), L            # repeated to the end of the row


class SayTwice:
    """The batches of `batches`, with a `share` of the rows replaced by `said_twice`.

    The first time is no target: it is noise. Which rows, and what they say, follows from the seed
    and the number of the row in the run, so a stopped or divided run sees the same.
    """

    def __init__(self, batches: PackedBatches, share: float) -> None:
        self.batches, self.share = batches, share

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        ids, targets = self.batches(step)
        own = self.batches
        for line in range(len(ids)):
            number = step * own.rows + own.rank + line * own.ranks
            rng = np.random.default_rng([own.seed, STREAM, number])
            if rng.random() >= self.share:
                continue
            said, L = said_twice(ids[line].numpy(), own.shard.vocab_size, rng)
            ids[line], targets[line] = torch.from_numpy(said[:-1]), torch.from_numpy(said[1:])
            targets[line, :L] = IGNORE
        return ids, targets


@torch.no_grad()
def copying_loss(model: GPT, sequences: int = 32, length: int = 64, seed: int = 0
                 ) -> dict[str, float]:
    """Nats per token on random sequences said twice: {"copy_first": mean, "copy_second": mean}.

    `sequences` of `length` ids, each drawn evenly from the whole vocabulary, then again. The first
    half cannot be known: ln V nats at best, more for a model that is sure of the wrong thing. The
    second half is known from the first, all but its first token, which is not counted.
    """
    length = min(length, model.config.sequence_length // 2)
    generator = torch.Generator().manual_seed(seed)
    piece = torch.randint(model.config.vocab_size, (sequences, length), generator=generator)
    ids = torch.cat([piece, piece], dim=1).to(next(model.parameters()).device)
    was, _ = model.training, model.eval()
    logits = model(ids[:, :-1])[0].float()                          # (B, 2 L - 1, V)
    model.train(was)
    nats = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    nats = nats.view(sequences, -1)                                 # of tokens 1 to 2 L - 1
    return {"copy_first": round(float(nats[:, :length - 1].mean()), 4),
            "copy_second": round(float(nats[:, length:].mean()), 4)}
